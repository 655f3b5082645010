//! How long a message becomes: where standard input is cut, decided here for both sources. [`Direct`](super::direct::Direct)
//! cuts messages, [`Intake`](super::intake::Intake) the records of a spool, of which each becomes a message.
//!
//! A limit that makes messages shorter is one more field of [`Cutter`], which [`Cutter::next_len`] keeps and
//! [`Cutter::max_messages`] knows. It must not depend on time: a record of a spool is sent at another time, by another run. What
//! delays messages is a limit of the gate (`gate.rs`).

use super::record_check::RecordCheck;
use crate::Result;
use crate::spool::Pending;
use crate::stdio::Split;

/// Where messages end, how long they may be, and which of them can be sent.
pub(super) struct Cutter {
    split: Split,
    max_len: usize,
    check: RecordCheck,
    /// How many messages were cut.
    taken: u64,
}

impl Cutter {
    /// Cuts messages of any length, until [`Cutter::limit`] is told of one.
    pub(super) fn new(split: Split, check: RecordCheck) -> Self {
        Self { split, max_len: usize::MAX, check, taken: 0 }
    }

    /// Cuts messages of at most so many bytes of data from now on, if that is less than before.
    pub(super) fn limit(&mut self, max_len: usize) {
        self.max_len = self.max_len.min(max_len);
    }

    /// Most bytes of data of a message.
    pub(super) fn max_len(&self) -> usize {
        self.max_len
    }

    /// The length of the next message, at the beginning of what was `read` and not cut; `None` to wait for more. `at_end`
    /// says that nothing follows.
    pub(super) fn next_len(&self, read: &[u8], at_end: bool) -> Option<usize> {
        self.split.next(read, self.max_len, at_end)
    }

    /// What these bytes become, if nothing follows them.
    pub(super) fn pending(&self, read: &[u8]) -> Pending {
        let (mut rest, mut messages) = (read, 0);
        while let Some(len) = self.next_len(rest, true) {
            (rest, messages) = (&rest[len..], messages + 1);
        }
        Pending { messages, bytes: read.len() as u64 }
    }

    /// Most messages that `len` bytes become, with what was read before and is the beginning of a message, if these are no
    /// longer than one message together.
    fn max_messages(&self, len: usize) -> usize {
        match self.split {
            // Each byte may be a line of its own.
            Split::Each => len.saturating_add(1),
            // All lines that are whole, and the rest.
            Split::Lines | Split::Binary => 2,
        }
    }

    /// Most bytes to read after the `begun` ones, which are not cut yet, so that there is room for all of them:
    /// `free_bytes` is the room in bytes for what becomes so many messages.
    pub(super) fn max_read(&self, begun: usize, free_bytes: impl Fn(usize) -> usize) -> usize {
        let fits = |len: usize| begun + len <= free_bytes(self.max_messages(len));
        let (mut most, mut too_many) = (0, self.max_len.saturating_sub(begun).saturating_add(1));
        // Nearly always all of it fits. Otherwise the most is searched for: what is shorter than what fits, fits, too.
        if fits(too_many - 1) {
            return too_many - 1;
        }
        while most + 1 < too_many {
            let len = most.midpoint(too_many);
            if fits(len) {
                most = len;
            } else {
                too_many = len;
            }
        }
        most
    }

    /// Whether what was read is sent before more is read. A backlog of lines is, line by line; otherwise reading on makes
    /// larger messages.
    pub(super) fn sends_before_reading(&self, read: &[u8]) -> bool {
        self.split == Split::Each && self.next_len(read, false).is_some()
    }

    /// Checks the next message; `ends` says that no input follows it.
    ///
    /// # Errors
    /// As [`RecordCheck::check`].
    pub(super) fn check(&self, message: &[u8], ends: bool) -> Result<()> {
        self.check.check(message, ends, self.taken + 1)
    }

    /// These bytes, cut into messages as far as they can be sent, and why the next one cannot; `at_end` says that nothing
    /// follows them.
    pub(super) fn cut<'a>(&self, read: &'a [u8], at_end: bool) -> (Vec<&'a [u8]>, Result<()>) {
        let (mut rest, mut messages) = (read, Vec::new());
        while let Some(len) = self.next_len(rest, at_end) {
            let (message, after) = rest.split_at(len);
            let number = self.taken + messages.len() as u64 + 1;
            if let Err(refused) = self.check.check(message, at_end && after.is_empty(), number) {
                return (messages, Err(refused));
            }
            messages.push(message);
            rest = after;
        }
        (messages, Ok(()))
    }

    /// This many more of the messages were taken.
    pub(super) fn advance(&mut self, count: usize) {
        self.taken += count as u64;
    }

    /// As [`RecordCheck::tell_undelivered`].
    pub(super) fn tell_undelivered(&self, pending: Pending) -> String {
        self.check.tell_undelivered(pending)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a message takes of the room beside its data.
    const OVERHEAD_LEN: usize = 16;

    fn cutter(split: Split, max_len: usize) -> Cutter {
        let mut cutter = Cutter::new(split, RecordCheck::AnyBytes);
        cutter.limit(max_len);
        cutter
    }

    #[test]
    fn the_least_limit_counts() {
        let mut cutter = cutter(Split::Binary, 4);
        cutter.limit(9);
        assert_eq!((cutter.max_len(), cutter.next_len(b"longer", false)), (4, Some(4)));
        cutter.limit(2);
        assert_eq!(cutter.pending(b"longer"), Pending { messages: 3, bytes: 6 });
    }

    #[test]
    fn only_a_backlog_of_lines_is_sent_before_more_is_read() {
        for (split, expected) in [(Split::Each, true), (Split::Lines, false), (Split::Binary, false)] {
            assert_eq!(cutter(split, 9).sends_before_reading(b"one\ntwo"), expected);
        }
        assert!(!cutter(Split::Each, 9).sends_before_reading(b"one"));
    }

    #[test]
    fn as_much_is_read_as_there_is_room_for() {
        let room = |free: usize| move |messages: usize| free.saturating_sub(messages * OVERHEAD_LEN);
        for split in [Split::Each, Split::Lines, Split::Binary] {
            assert_eq!(cutter(split, 100).max_read(30, room(100_000)), 70);
            assert_eq!(cutter(split, 100).max_read(0, room(OVERHEAD_LEN)), 0);
        }
        assert_eq!(cutter(Split::Each, 100).max_read(2, room(2 + 4 * OVERHEAD_LEN + 3)), 3);
        assert_eq!(cutter(Split::Lines, 100).max_read(2, room(2 + 2 * OVERHEAD_LEN + 3)), 3);
    }

    proptest! {
        #[test]
        fn no_read_becomes_more_messages_than_there_is_room_for(
            begun in prop::collection::vec(0u8..20, 0..50),
            read in prop::collection::vec(0u8..20, 0..50),
            max_len in 2usize..50,
        ) {
            for split in [Split::Each, Split::Lines, Split::Binary] {
                let cutter = cutter(split, max_len);
                let begun = &begun[..begun.len().min(max_len)];
                if cutter.next_len(begun, false).is_some() {
                    continue;
                }
                let read = &read[..read.len().min(max_len - begun.len())];
                let messages = cutter.pending(&[begun, read].concat()).messages;
                prop_assert!(messages <= cutter.max_messages(read.len()) as u64);
            }
        }
    }
}
