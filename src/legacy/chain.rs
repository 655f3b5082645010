//! The value that CBC continues from. The old program has one for both directions: the last block of the last message, whoever
//! sent it. So a message that is lost, and one that crosses another, garbles the first block of a message after it.
//!
//! Which value the old program holds cannot be seen, but each of its messages shows which value it was made from. That tells
//! whether it had our newest message by then, and so what it expects next. So we can read all of its messages, except for one
//! that follows a lost one; and of ours, only those are garbled that follow a lost one or cross one of its own.

use zeroize::{Zeroize, Zeroizing};

use crate::crypto::legacy::Block;

/// Most values that a message may have been made from: what we sent while it was on its way, which [`super::TEXT_RATE`] bounds, and
/// what the other device sent meanwhile.
pub(super) const MAX_RECENT: usize = 1024;
/// How many of them are kept, whatever their age: a device that seldom sends never has more on their way.
pub(super) const MIN_RECENT: usize = 16;
/// Least time for which the others are kept, in seconds; the most is twice that. An sts-recv whose output blocks reads
/// old messages. They are not kept for longer, because the session file is written anew for each message, with all of
/// them.
const RECENT_INTERVAL: u64 = 600;

/// Whose message ends with a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Nobody's: the chain starts with it.
    Start,
    /// Ours.
    Sent,
    /// The other device's; no tool that writes texts has taken it.
    Followed,
    /// The other device's; it was taken to be written.
    Read,
}

/// A value that a message may have been made from: the last block of another one, whose payload is not sent again.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct ChainValue {
    pub(super) block: Block,
    pub(super) origin: Origin,
}

impl Zeroize for ChainValue {
    fn zeroize(&mut self) {
        self.block.zeroize();
    }
}

/// Our end of the chain. It starts with half of the key, so its values are erased as keys are, and it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// What our next message continues from.
    pub(super) next: Zeroizing<Block>,
    /// The other device may not have our newest message: nothing came that was made from it. Then `next` is its last block.
    pub(super) is_unanswered: bool,
    /// What messages may have been made from, newest first.
    pub(super) recent: Zeroizing<Vec<ChainValue>>,
    /// How many of these were added since then, in seconds since 1970.
    pub(super) added: usize,
    pub(super) since: u64,
}

/// Room for all values at once: a list that grew would leave copies behind.
pub(super) fn no_values() -> Zeroizing<Vec<ChainValue>> {
    Zeroizing::new(Vec::with_capacity(MAX_RECENT))
}

impl Chain {
    /// The chain of a new session, which starts from this.
    pub(super) fn new(start: Zeroizing<Block>) -> Self {
        let mut recent = no_values();
        recent.push(ChainValue { block: *start, origin: Origin::Start });
        Self { next: start, is_unanswered: false, recent, added: 1, since: 0 }
    }

    /// We send a message that ends with this block.
    pub(super) fn sent(&mut self, last: Block) {
        *self.next = last;
        self.is_unanswered = true;
        self.remember(last, Origin::Sent);
    }

    /// Whether a message was made from our newest one.
    pub(super) fn is_newest(&self, from: &Block) -> bool {
        *from == *self.next
    }

    /// The message that ends with `last`, if there was one: the next one that does is the same.
    pub(super) fn known(&mut self, last: &Block) -> Option<&mut Origin> {
        self.recent.iter_mut().find(|value| value.block == *last).map(|value| &mut value.origin)
    }

    /// A new message came that ends with `last`; `from_newest` says whether it was made from our newest one.
    pub(super) fn received(&mut self, from_newest: bool, last: Block, origin: Origin) {
        // Made from anything else, it crossed ours: the other device will have that last, and continue from it.
        if !self.is_unanswered || from_newest {
            *self.next = last;
            self.is_unanswered = false;
        }
        self.remember(last, origin);
    }

    /// A new message came that was made from no value we know, and ends with `last`: one before it is lost, or it is a stranger's.
    pub(super) fn received_garbled(&mut self, last: Block, origin: Origin) {
        *self.next = last;
        self.is_unanswered = false;
        self.remember(last, origin);
    }

    fn remember(&mut self, last: Block, origin: Origin) {
        // What two devices send at the same time may be the same.
        self.recent.retain(|value| value.block != last);
        self.recent.truncate(MAX_RECENT - 1);
        self.recent.insert(0, ChainValue { block: last, origin });
        // One that was there already may be counted twice: then more is kept.
        self.added = (self.added + 1).min(self.recent.len());
    }

    /// Forgets what is too old, as of this time in seconds since 1970.
    pub(super) fn forget_old(&mut self, now: u64) {
        // A clock that was set back begins an interval, too.
        if now.abs_diff(self.since) >= RECENT_INTERVAL {
            self.recent.truncate(self.added.max(MIN_RECENT));
            (self.added, self.since) = (0, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(Zeroizing::new([0; 16]))
    }

    fn block(number: u64) -> Block {
        u128::from(number).to_le_bytes()
    }

    #[test]
    fn what_is_sent_seldom_keeps_the_list_short() {
        let mut chain = chain();
        for minute in 1..1000 {
            chain.sent(block(minute));
            chain.forget_old(1_000_000 + 60 * minute);
            assert!(chain.recent.len() <= MIN_RECENT + 10, "{} after {minute} minutes", chain.recent.len());
        }
        assert!(chain.recent.len() >= MIN_RECENT);
        assert_eq!([chain.recent[0].block, chain.recent[1].block], [block(999), block(998)]);
    }

    #[test]
    fn what_is_younger_than_the_interval_is_kept() {
        let (mut chain, begin) = (chain(), 1_000_000);
        for second in 0..2000 {
            chain.sent(block(second));
            chain.forget_old(begin + second);
            let kept = usize::try_from(second.min(RECENT_INTERVAL)).unwrap();
            assert!(chain.recent.len() >= kept.min(MAX_RECENT), "at {second}");
            assert!(chain.known(&block(second.saturating_sub(RECENT_INTERVAL - 1))).is_some(), "at {second}");
        }
        // A clock that is set back by years.
        chain.forget_old(0);
        chain.forget_old(RECENT_INTERVAL - 1);
        assert!(chain.recent.len() > MIN_RECENT);
        chain.forget_old(RECENT_INTERVAL);
        assert_eq!(chain.recent.len(), MIN_RECENT);
    }
}
