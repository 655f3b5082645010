//! The value that CBC continues from. The old program has one for both directions: the last block of the last message, whoever
//! sent it. So a message that is lost, and one that crosses another, garbles the first block of a message after it.
//!
//! What its end of the chain is cannot be seen, but a message of it shows which value it was made from. That tells whether it
//! had our newest message by then, and so what it expects next. With this, no message of its is garbled for us unless one before
//! it is lost, and of ours only those that cross one of its own.

use crate::crypto::legacy::Block;

/// Most values that a message may have been made from: those of so many messages in a row that no other was seen to follow.
pub(super) const MAX_RECENT: usize = 16;

/// Our end of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// What our next message continues from.
    pub(super) next: Block,
    /// The other device may not have our newest message: nothing came that was made from it. Then `next` is its last block.
    pub(super) is_unanswered: bool,
    /// What messages may have been made from, newest first.
    pub(super) recent: Vec<Block>,
}

impl Chain {
    /// The chain of a new session, which starts from this.
    pub(super) fn new(start: Block) -> Self {
        Self { next: start, is_unanswered: false, recent: vec![start] }
    }

    /// We send a message that ends with this block.
    pub(super) fn sent(&mut self, last: Block) {
        self.next = last;
        self.is_unanswered = true;
        self.remember(last);
    }

    /// A message came that was made from `from` and ends with `last`.
    pub(super) fn received(&mut self, from: &Block, last: Block) {
        // Made from anything else, it crossed ours: the other device will have that last, and continue from it.
        if !self.is_unanswered || *from == self.next {
            self.next = last;
            self.is_unanswered = false;
        }
        self.remember(last);
    }

    /// A message came that was made from no value we know, and ends with `last`: one before it is lost, or it is a stranger's.
    pub(super) fn received_garbled(&mut self, last: Block) {
        self.next = last;
        self.is_unanswered = false;
        self.remember(last);
    }

    fn remember(&mut self, last: Block) {
        self.recent.retain(|value| *value != last);
        self.recent.insert(0, last);
        self.recent.truncate(MAX_RECENT);
    }
}
