//! What a stream is sealed with: a number that is reserved, and the keys of its parts.

use super::id::StreamId;
use crate::crypto::cipher::Cipher;
use crate::crypto::key_tree::{Leaf, Salt, StreamKey};
use crate::secret::{Key, Side, Will};
use crate::session::SessionId;
use crate::suite::Suite;

/// A stream number that was taken in a session, durably, and that no other sender has or will get; with what its keys
/// are made of, which nobody else has any more.
///
/// Only taking one makes it, and a [`Sender`](super::Sender) consumes it: that is why no two senders share a key.
#[derive(Debug, PartialEq, Eq)]
pub struct ReservedStream {
    pub(super) id: StreamId,
    secret: StreamSecret,
}

#[derive(Debug, PartialEq, Eq)]
enum StreamSecret {
    Data(Leaf),
    Side(Key<Side>),
}

impl ReservedStream {
    /// For a caller that wrote down, durably, that the number is taken, and no node that leads to its leaf.
    pub(crate) fn of_data(session: SessionId, number: u32, leaf: Leaf) -> Self {
        Self { id: StreamId { session, number }, secret: StreamSecret::Data(leaf) }
    }

    /// For a caller that wrote down, durably, that the number of a side stream is taken.
    pub(crate) fn of_side(session: SessionId, number: u32, side: Key<Side>) -> Self {
        Self { id: StreamId { session, number }, secret: StreamSecret::Side(side) }
    }

    /// Which stream.
    #[cfg(test)]
    pub(crate) fn id(&self) -> StreamId {
        self.id
    }

    pub(super) fn first_key(&self, salt: Salt) -> StreamKey {
        match &self.secret {
            StreamSecret::Data(leaf) => leaf.first_key(salt),
            StreamSecret::Side(side) => StreamKey::of_side_stream(side, self.id.number, salt),
        }
    }

    pub(super) fn will_key(&self) -> Option<Key<Will>> {
        match &self.secret {
            StreamSecret::Data(leaf) => Some(leaf.will_key()),
            StreamSecret::Side(_) => None,
        }
    }
}

/// The keys of a stream: that of the part that is sealed now, and the cipher of the one before, which what is
/// unconfirmed may be of.
pub(super) struct PartKeys {
    pub(super) suite: Suite,
    pub(super) key: StreamKey,
    pub(super) cipher: Cipher,
    pub(super) previous: Option<Cipher>,
    /// A side stream has no wills.
    pub(super) will: Option<Key<Will>>,
}

impl PartKeys {
    pub(super) fn new(suite: Suite, reserved: &ReservedStream, salt: Salt) -> Self {
        let key = reserved.first_key(salt);
        Self { suite, cipher: key.cipher(suite), key, previous: None, will: reserved.will_key() }
    }

    /// Goes on to the part of a seq.
    pub(super) fn advance_to(&mut self, seq: u32) {
        let part = StreamKey::part_of(seq);
        if part != self.key.part() {
            self.key.advance_to(part);
            self.previous = Some(std::mem::replace(&mut self.cipher, self.key.cipher(self.suite)));
        }
    }

    pub(super) fn of(&self, seq: u32) -> Option<&Cipher> {
        let part = StreamKey::part_of(seq);
        if part == self.key.part() {
            Some(&self.cipher)
        } else {
            self.previous.as_ref().filter(|_| part + 1 == self.key.part())
        }
    }
}
