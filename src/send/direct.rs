//! Messages straight from standard input: cut as it is read, and in memory until they are acknowledged.
//!
//! Input is read only while there is room for another message, so that a slow or absent broker slows down the program
//! that writes to us.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use bytes::{Bytes, BytesMut};

use super::cutter::Cutter;
use super::outgoing::{Cut, OutgoingStream};
use super::read_times::ReadTimes;
use super::source::{MessageSource, NextMessage, Turn};
use crate::spool::Pending;
use crate::stdio::Input;
use crate::stream::Content;
use crate::suite::Suite;
use crate::{Error, Exit, Result};

/// Standard input on its way into messages.
pub(super) struct Direct<'a> {
    input: Input,
    times: ReadTimes<'a>,
    cutter: Cutter,
    progress: ReadProgress,
    /// There was something to read.
    has_read: bool,
    /// The turn in which nothing more was found to read: poll(2) tells of what comes after that.
    empty_at: Option<Instant>,
}

/// How far standard input was read.
enum ReadProgress {
    /// No stream has begun: there was nothing to read yet, or there was no room for a message.
    NotBegun { has_input: bool },
    /// Some of it may wait to become a message.
    Reading(MessageBuffer),
    /// All of it was made into messages.
    Ended,
}

impl ReadProgress {
    fn is_begun(&self) -> bool {
        !matches!(self, Self::NotBegun { .. })
    }

    /// Begins the stream, unless it has begun or a full disk holds that up: the one place that does, whatever there is to
    /// send first. So it says nothing of whether there is input.
    fn begin(&mut self, cutter: &mut Cutter, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<()> {
        if !self.is_begun()
            && let Some(max_data) = stream.begin(turn.now)?
        {
            cutter.limit(max_data);
            *self = Self::Reading(MessageBuffer::new(stream.buffer(), cutter.max_len()));
        }
        Ok(())
    }
}

impl<'a> Direct<'a> {
    pub(super) fn new(input: Input, cutter: Cutter, times: ReadTimes<'a>) -> Self {
        let progress = ReadProgress::NotBegun { has_input: false };
        Self { input, times, cutter, progress, has_read: false, empty_at: None }
    }

    /// Whether [`MessageSource::next`] has a message without reading further. The end of the input is one, too.
    fn has_whole_message(&self) -> bool {
        let ReadProgress::Reading(buffer) = &self.progress else { return false };
        let at_end = self.input.at_end();
        at_end || self.cutter.next_len(buffer.data(), at_end).is_some()
    }

    /// The error of ending for this cause; with `exit` where data is not delivered.
    fn ended_by(&self, cause: Error, exit: Exit, in_flight: Pending) -> Error {
        if !self.pending(in_flight).has_data() {
            return cause;
        }
        let hint = cause.hint_text().map(str::to_owned);
        self.undelivered(exit, &cause.to_string(), in_flight).hint_if(hint)
    }

    /// What was read and is not in a message yet.
    fn buffered(&self) -> Pending {
        let ReadProgress::Reading(buffer) = &self.progress else { return Pending::default() };
        self.cutter.pending(buffer.data())
    }
}

impl MessageSource for Direct<'_> {
    /// Reads no further than one message, of the largest size: what is read meanwhile stays in the pipe, and the program at its
    /// other end waits. [`ReadTimes`] relies on that, too.
    fn fill(&mut self, may_read: bool, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<()> {
        // What can be read waits from now on, for as long as there is no room for it, in memory or on the disk.
        if let ReadProgress::NotBegun { has_input: has_input @ false } = &mut self.progress {
            *has_input = self.input.is_ready()?;
        }
        if !may_read {
            return Ok(());
        }
        if matches!(self.progress, ReadProgress::NotBegun { has_input: true }) {
            self.progress.begin(&mut self.cutter, stream, turn)?;
        }
        let ReadProgress::Reading(buffer) = &mut self.progress else { return Ok(()) };
        if self.empty_at == Some(turn.now) {
            return Ok(());
        }
        if self.cutter.sends_before_reading(buffer.data()) {
            return Ok(());
        }
        let (bytes, limit) = buffer.space(self.cutter.max_len());
        let before = bytes.len();
        // As far as that goes: up to the limit, or until there is nothing more.
        self.input.read(bytes, limit)?;
        self.times.read(bytes.len() - before);
        self.has_read |= !buffer.data().is_empty();
        self.empty_at = (buffer.bytes.len() < limit).then_some(turn.now);
        Ok(())
    }

    fn next(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<NextMessage> {
        let buffer = match &mut self.progress {
            ReadProgress::NotBegun { .. } => return Ok(NextMessage::NoInput),
            ReadProgress::Reading(buffer) => buffer,
            ReadProgress::Ended => return Ok(NextMessage::Ended),
        };
        let at_end = self.input.at_end();
        let len = match self.cutter.next_len(buffer.data(), at_end) {
            Some(len) => len,
            // An end is a message, too.
            None if at_end => 0,
            None => return Ok(NextMessage::NoInput),
        };
        if stream.switch_if_due(turn.now)? {
            return Ok(NextMessage::Blocked);
        }
        let ends = at_end && len == buffer.data().len() && (len == 0 || !stream.ends_apart());
        self.cutter.check(&buffer.data()[..len], ends)?;
        self.cutter.advance(1);
        let message = buffer.take(len, self.cutter.max_len());
        let sent = self.times.of(0).filter(|_| len > 0);
        self.times.take(len);
        if ends {
            self.progress = ReadProgress::Ended;
        }
        let content = if ends { Content::End } else { Content::Data };
        let payload = stream.seal(&content, sent, message, turn.now, turn.rng)?;
        Ok(NextMessage::sealed(payload, len, false, stream))
    }

    fn input_fd(&self, may_read: bool) -> Option<BorrowedFd<'_>> {
        let looks_for_input = matches!(self.progress, ReadProgress::NotBegun { has_input: false });
        // A whole message goes before more is read.
        self.input.as_fd().filter(|_| looks_for_input || (may_read && !self.has_whole_message()))
    }

    fn input(&self) -> &Input {
        &self.input
    }

    fn stop_reading(&mut self, _now: Instant) -> Result<()> {
        self.input.stop();
        Ok(())
    }

    fn limit_records(&mut self, max_record: usize) {
        // A stream that has not begun says itself how much a message of it carries.
        if self.progress.is_begun() {
            self.cutter.limit(max_record);
        }
    }

    fn cut_again(&mut self, waiting: Vec<Bytes>, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Cut> {
        stream.cut_again(waiting, turn.now, turn.rng)
    }

    fn reseal(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Option<u64>> {
        stream.reseal(turn.now, turn.rng)
    }

    fn has_all_input(&self) -> bool {
        match &self.progress {
            ReadProgress::NotBegun { .. } => false,
            ReadProgress::Reading(buffer) => self.input.at_end() && buffer.data().is_empty(),
            ReadProgress::Ended => true,
        }
    }

    fn is_done(&self, _stream: &dyn OutgoingStream) -> bool {
        matches!(self.progress, ReadProgress::Ended)
    }

    fn pending(&self, in_flight: Pending) -> Pending {
        in_flight.plus(self.buffered())
    }

    fn awaits_delivery(&self, in_flight: Pending) -> bool {
        let has_unread = matches!(self.progress, ReadProgress::NotBegun { has_input: true });
        in_flight.messages > 0 || self.has_whole_message() || has_unread
    }

    fn undelivered(&self, exit: Exit, what: &str, in_flight: Pending) -> Error {
        let pending = self.pending(in_flight);
        if pending.has_data() {
            return Error::new(exit, what).because(self.cutter.tell_undelivered(pending));
        }
        let why = match self.progress {
            // What waits in the pipe was not taken, so it is not lost here.
            ReadProgress::NotBegun { has_input: true } => "nothing was read",
            _ if self.has_read => "all that was read was delivered, but not the end of the stream",
            _ => "nothing was read, but the end of the stream was not delivered",
        };
        // No data is lost by that.
        let exit = if exit == Exit::DataLost { Exit::TryAgain } else { exit };
        Error::new(exit, what).because(why)
    }

    fn interrupted(&self, cause: Error, in_flight: Pending) -> Error {
        self.ended_by(cause, Exit::DataLost, in_flight)
    }

    fn refused(&self, refusal: Error, in_flight: Pending) -> Error {
        let exit = refusal.exit();
        self.ended_by(refusal, exit, in_flight)
    }
}

/// The message that is being read: the bytes that sealing fills in, then what standard input gave. A long message is
/// handed on without a copy.
struct MessageBuffer {
    bytes: BytesMut,
    head_len: usize,
    /// Where the data begins that no message has taken yet.
    start: usize,
}

impl MessageBuffer {
    /// An empty one, of messages that begin with the bytes of `head` and carry at most `max_data` bytes of data.
    fn new(head: BytesMut, max_data: usize) -> Self {
        let (head_len, mut bytes) = (head.len(), head);
        bytes.reserve(max_data + Suite::MAX_TRAILER_LEN);
        Self { bytes, head_len, start: head_len }
    }

    /// What was read and no message has taken.
    fn data(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Where to append what is read, and the length up to which: no more than one message.
    fn space(&mut self, max_data: usize) -> (&mut BytesMut, usize) {
        if self.start > self.head_len {
            self.bytes.copy_within(self.start.., self.head_len);
            self.bytes.truncate(self.bytes.len() - (self.start - self.head_len));
            self.start = self.head_len;
        }
        (&mut self.bytes, self.head_len + max_data)
    }

    /// A message of the first `len` bytes of data.
    ///
    /// A short one is copied: in the buffer that it was read into, it would keep all of that in memory until it is
    /// acknowledged.
    fn take(&mut self, len: usize, max_data: usize) -> BytesMut {
        let end = self.start + len;
        if self.start == self.head_len && 2 * len > max_data {
            let rest = self.bytes.split_off(end);
            let mut next = BytesMut::with_capacity(self.head_len + max_data + Suite::MAX_TRAILER_LEN);
            next.resize(self.head_len, 0);
            next.extend_from_slice(&rest);
            return std::mem::replace(&mut self.bytes, next);
        }
        let mut message = BytesMut::with_capacity(self.head_len + len + Suite::MAX_TRAILER_LEN);
        message.extend_from_slice(&self.bytes[..self.head_len]);
        message.extend_from_slice(&self.bytes[self.start..end]);
        self.start = end;
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
            let mut buffer = MessageBuffer::new(BytesMut::from(&[7; 5][..]), 32);
            let input: Vec<u8> = pieces.concat();
            let (mut unread, mut cuts) = (&input[..], cuts.into_iter());
            let mut taken = Vec::new();
            while !unread.is_empty() || !buffer.data().is_empty() {
                let (space, limit) = buffer.space(32);
                let piece = unread.len().min(limit - space.len());
                space.extend_from_slice(&unread[..piece]);
                unread = &unread[piece..];
                let len = cuts.next().unwrap_or(40).clamp(1, 32).min(buffer.data().len());
                let message = buffer.take(len, 32);
                prop_assert_eq!(message.len(), 5 + len);
                // A short message keeps little memory; it waits with thousands of others.
                prop_assert!(message.capacity() <= 5 + Suite::MAX_TRAILER_LEN + 2 * len.max(1) + 32);
                taken.extend_from_slice(&message[5..]);
            }
            prop_assert_eq!(taken, input);
        }
    }
}
