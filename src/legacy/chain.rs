//! The value that CBC continues from. The old program has one for both directions: the last block of the last message, whoever
//! sent it. So a message that is lost, and one that crosses another, garbles the first block of a message after it.
//!
//! What its end of the chain is cannot be seen, but a message of it shows which value it was made from. That tells whether it
//! had our newest message by then, and so what it expects next. With this, no message of its is garbled for us unless one before
//! it is lost, and of ours only those that cross one of its own.

use zeroize::Zeroizing;

use crate::crypto::legacy::Block;

/// Most values that a message may have been made from: what we sent while it was on its way, which [`super::pace`] bounds, and
/// what the other device sent meanwhile.
pub(super) const MAX_RECENT: usize = 1024;

/// Our end of the chain. It starts with half of the key, so its values are erased as keys are, and it has no `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// What our next message continues from.
    pub(super) next: Zeroizing<Block>,
    /// The other device may not have our newest message: nothing came that was made from it. Then `next` is its last block.
    pub(super) is_unanswered: bool,
    /// What messages may have been made from, newest first.
    pub(super) recent: Zeroizing<Vec<Block>>,
}

/// Room for all values at once: a list that grew would leave copies behind.
pub(super) fn no_values() -> Zeroizing<Vec<Block>> {
    Zeroizing::new(Vec::with_capacity(MAX_RECENT))
}

impl Chain {
    /// The chain of a new session, which starts from this.
    pub(super) fn new(start: Zeroizing<Block>) -> Self {
        let mut recent = no_values();
        recent.push(*start);
        Self { next: start, is_unanswered: false, recent }
    }

    /// We send a message that ends with this block.
    pub(super) fn sent(&mut self, last: Block) {
        *self.next = last;
        self.is_unanswered = true;
        self.remember(last);
    }

    /// Whether a message was made from our newest one.
    pub(super) fn is_newest(&self, from: &Block) -> bool {
        *from == *self.next
    }

    /// A message came that ends with `last`; `from_newest` says whether it was made from our newest one.
    pub(super) fn received(&mut self, from_newest: bool, last: Block) {
        // sts-send and sts-recv both see it. The second look must not take the chain back to it.
        if self.recent.contains(&last) {
            return self.remember(last);
        }
        // Made from anything else, it crossed ours: the other device will have that last, and continue from it.
        if !self.is_unanswered || from_newest {
            *self.next = last;
            self.is_unanswered = false;
        }
        self.remember(last);
    }

    /// A message came that was made from no value we know, and ends with `last`: one before it is lost, or it is a stranger's.
    pub(super) fn received_garbled(&mut self, last: Block) {
        if self.recent.contains(&last) {
            return self.remember(last);
        }
        *self.next = last;
        self.is_unanswered = false;
        self.remember(last);
    }

    fn remember(&mut self, last: Block) {
        self.recent.retain(|value| *value != last);
        self.recent.truncate(MAX_RECENT - 1);
        self.recent.insert(0, last);
    }
}
