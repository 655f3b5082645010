//! Standard input on its way into messages: read in large pieces, cut, and handed on without a copy where that pays.

use bytes::BytesMut;

use crate::suite::Suite;

/// The message that is being read: `head` bytes that sealing fills in, then what standard input gave.
pub(super) struct Reading {
    buffer: BytesMut,
    head: usize,
    /// Most bytes of data that one message carries.
    room: usize,
    /// Where the data begins that no message has taken yet.
    from: usize,
}

impl Reading {
    /// An empty one, of messages that begin with the bytes of `head`.
    pub(super) fn new(head: BytesMut, room: usize) -> Self {
        let (len, mut buffer) = (head.len(), head);
        buffer.reserve(room + Suite::MAX_TRAILER_LEN);
        Self { buffer, head: len, room, from: len }
    }

    /// What was read and no message has taken.
    pub(super) fn data(&self) -> &[u8] {
        &self.buffer[self.from..]
    }

    /// Most bytes of data that one message carries.
    pub(super) fn room(&self) -> usize {
        self.room
    }

    /// Where to append what is read, and the length up to which.
    pub(super) fn space(&mut self) -> (&mut BytesMut, usize) {
        if self.from > self.head {
            self.buffer.copy_within(self.from.., self.head);
            self.buffer.truncate(self.buffer.len() - (self.from - self.head));
            self.from = self.head;
        }
        (&mut self.buffer, self.head + self.room)
    }

    /// A message of the first `len` bytes of data.
    ///
    /// A short one is copied: in the buffer that it was read into, it would keep all of that in memory until it is
    /// acknowledged.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        let end = self.from + len;
        if self.from == self.head && 2 * len > self.room {
            let rest = self.buffer.split_off(end);
            let mut next = BytesMut::with_capacity(self.head + self.room + Suite::MAX_TRAILER_LEN);
            next.resize(self.head, 0);
            next.extend_from_slice(&rest);
            return std::mem::replace(&mut self.buffer, next);
        }
        let mut message = BytesMut::with_capacity(self.head + len + Suite::MAX_TRAILER_LEN);
        message.extend_from_slice(&self.buffer[..self.head]);
        message.extend_from_slice(&self.buffer[self.from..end]);
        self.from = end;
        message
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn messages_hold_what_was_read_in_order(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
            cuts in prop::collection::vec(0usize..40, 0..60),
        ) {
            let mut reading = Reading::new(BytesMut::from(&[7; 5][..]), 32);
            let input: Vec<u8> = pieces.concat();
            let (mut unread, mut cuts) = (&input[..], cuts.into_iter());
            let mut taken = Vec::new();
            while !unread.is_empty() || !reading.data().is_empty() {
                let (buffer, limit) = reading.space();
                let piece = unread.len().min(limit - buffer.len());
                buffer.extend_from_slice(&unread[..piece]);
                unread = &unread[piece..];
                let len = cuts.next().unwrap_or(40).clamp(1, 32).min(reading.data().len());
                let message = reading.take(len);
                prop_assert_eq!(message.len(), 5 + len);
                // A short message keeps little memory; it waits with thousands of others.
                prop_assert!(message.capacity() <= 5 + Suite::MAX_TRAILER_LEN + 2 * len.max(1) + 32);
                taken.extend_from_slice(&message[5..]);
            }
            prop_assert_eq!(taken, input);
        }
    }
}
