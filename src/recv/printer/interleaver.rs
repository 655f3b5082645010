//! Several streams into one output, without one tearing the lines of another.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::line_buffers::UNFINISHED_LINE_TIMEOUT;
use crate::recv::delivery::{Delivery, Joint};
use crate::session::SessionId;
use crate::stream::StreamId;

/// Most messages of one stream that wait, however short they are.
const MAX_WAITING_MESSAGES: usize = 1024;

/// Decides which stream's bytes are written next.
///
/// One stream at a time may leave a line unfinished. Until it finishes that line, the bytes of the others wait here: for a
/// second at most, and up to `limit` bytes and 1,024 messages per stream. Beyond that, lines are torn rather than lost or
/// delayed for ever. A message without bytes waits only for those of its own stream.
#[derive(Debug)]
pub(super) struct Interleaver {
    limit: usize,
    /// The stream that has written part of a line.
    unfinished: Option<StreamId>,
    waiting: BTreeMap<StreamId, StreamBacklog>,
    /// Bytes in all of them.
    pending_bytes: usize,
    /// How many messages have waited so far.
    count: u64,
}

/// What of one stream waits: one message, or more.
#[derive(Debug, Default)]
struct StreamBacklog {
    messages: VecDeque<WaitingMessage>,
    bytes: usize,
}

#[derive(Debug)]
struct WaitingMessage {
    /// Orders the messages of all streams by when they came.
    order: u64,
    since: Instant,
    delivery: Delivery,
}

impl Interleaver {
    /// Keeps at most `limit` bytes of each stream.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, unfinished: None, waiting: BTreeMap::new(), pending_bytes: 0, count: 0 }
    }

    /// When [`Interleaver::release`] has something to do, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.oldest().map(|(_, message)| message.since + UNFINISHED_LINE_TIMEOUT)
    }

    /// Bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether anything of `stream` waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.waiting.contains_key(&stream)
    }

    /// Whether anything of `session` waits.
    pub(super) fn holds_session(&self, session: SessionId) -> bool {
        self.waiting.keys().any(|stream| stream.session == session)
    }

    /// Takes one message; `write` gets what may be written now, in order.
    pub(super) fn push(&mut self, delivery: Delivery, now: Instant, mut write: impl FnMut(Delivery)) {
        let stream = delivery.stream;
        let is_line_of_another = self.unfinished.is_some_and(|owner| owner != stream);
        // What a stream has waiting goes before its next message.
        let must_follow = self.holds(stream);
        if !is_line_of_another && !must_follow {
            self.pass(delivery, &mut write);
            self.pass_waiting(&mut write);
        } else if delivery.data.is_empty() && !must_follow {
            // It has no bytes to put into the other's line, which stays unfinished. If it waited, that would tear the line.
            write(delivery);
        } else if self.keep(delivery, now) {
            self.tear(&mut write);
        }
    }

    /// Passes on what has waited long enough.
    pub(super) fn release(&mut self, now: Instant, mut write: impl FnMut(Delivery)) {
        // What was passed on may have left a line unfinished in its turn.
        while self.deadline().is_some_and(|deadline| now >= deadline) {
            self.tear(&mut write);
        }
    }

    /// Passes on everything: no more will come.
    pub(super) fn flush(&mut self, mut write: impl FnMut(Delivery)) {
        while !self.waiting.is_empty() {
            self.tear(&mut write);
        }
    }

    /// Passes on everything of some streams, and waits for no line of theirs: no more will come of them.
    pub(super) fn flush_streams(&mut self, is_over: &dyn Fn(&StreamId) -> bool, mut write: impl FnMut(Delivery)) {
        while self.waiting.keys().any(is_over) || self.unfinished.as_ref().is_some_and(is_over) {
            self.tear(&mut write);
        }
    }

    /// Has a message wait; true if that is too much of its stream.
    fn keep(&mut self, delivery: Delivery, now: Instant) -> bool {
        let delivery = delivery.detached();
        let of_stream = self.waiting.entry(delivery.stream).or_default();
        of_stream.bytes += delivery.data.len();
        self.pending_bytes += delivery.data.len();
        self.count += 1;
        of_stream.messages.push_back(WaitingMessage { order: self.count, since: now, delivery });
        of_stream.messages.len() > MAX_WAITING_MESSAGES || of_stream.bytes > self.limit
    }

    /// The message that has waited longest, and its stream.
    fn oldest(&self) -> Option<(StreamId, &WaitingMessage)> {
        let first = self.waiting.iter().filter_map(|(stream, waiting)| Some((*stream, waiting.messages.front()?)));
        first.min_by_key(|(_, message)| message.order)
    }

    /// The next message of a stream, if one waits.
    fn take(&mut self, stream: StreamId) -> Option<Delivery> {
        let waiting = self.waiting.get_mut(&stream)?;
        let WaitingMessage { delivery, .. } = waiting.messages.pop_front()?;
        waiting.bytes -= delivery.data.len();
        self.pending_bytes -= delivery.data.len();
        if waiting.messages.is_empty() {
            self.waiting.remove(&stream);
        }
        Some(delivery)
    }

    /// Waits no longer for the unfinished line.
    fn tear(&mut self, write: &mut impl FnMut(Delivery)) {
        self.unfinished = None;
        self.pass_waiting(write);
    }

    fn pass(&mut self, delivery: Delivery, write: &mut impl FnMut(Delivery)) {
        let stream = delivery.stream;
        let is_mid_line = match delivery.data.last() {
            Some(last) => *last != b'\n',
            None => self.unfinished == Some(stream),
        };
        self.unfinished = (is_mid_line && delivery.joint == Joint::Continues).then_some(stream);
        write(delivery);
    }

    /// Passes on what waits, oldest first, as far as the unfinished line allows.
    fn pass_waiting(&mut self, write: &mut impl FnMut(Delivery)) {
        while let Some(delivery) =
            self.unfinished.or_else(|| self.oldest().map(|(stream, _)| stream)).and_then(|stream| self.take(stream))
        {
            self.pass(delivery, write);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recv::delivery::for_tests::{delivery, seq_of};

    #[derive(Clone, Debug)]
    struct Push {
        stream: u32,
        bytes: String,
        ends: bool,
    }

    fn pushes() -> impl Strategy<Value = Vec<Push>> {
        let push = (0u32..3, "[ab\n]{0,6}", prop::bool::weighted(0.1)).prop_map(|(stream, bytes, ends)| Push {
            stream,
            bytes,
            ends,
        });
        prop::collection::vec(push, 0..40)
    }

    /// The stream that a message was pushed for, and its text.
    fn text_of(pushes: &[Push], written: &Delivery) -> (u32, String) {
        let index = usize::try_from(seq_of(written)).unwrap();
        (pushes[index].stream, String::from_utf8(written.data.to_vec()).unwrap())
    }

    proptest! {
        /// No byte is lost, repeated or reordered within its stream, and no line is torn while patience lasts.
        #[test]
        fn streams_are_woven_by_lines(pushes in pushes()) {
            let start = Instant::now();
            let mut streams = Interleaver::new(usize::MAX);
            let mut out: Vec<(u32, String)> = Vec::new();
            for (index, push) in pushes.iter().enumerate() {
                let message = delivery(push.stream, u32::try_from(index).unwrap(), &push.bytes, push.ends);
                streams.push(message, start, |written| out.push(text_of(&pushes, &written)));
            }
            let mut unfinished = None;
            for (index, (stream, bytes)) in out.iter().enumerate() {
                let is_in_place = unfinished.is_none_or(|owner| owner == *stream);
                prop_assert!(is_in_place || bytes.is_empty(), "message {index} tears a line");
                let ended = pushes.iter().any(|push| push.stream == *stream && push.ends);
                if let Some(last) = bytes.chars().last() {
                    unfinished = (last != '\n' && !ended).then_some(*stream);
                }
                if ended && unfinished == Some(*stream) {
                    unfinished = None;
                }
            }
            streams.flush(|written| out.push(text_of(&pushes, &written)));
            for stream in 0..3 {
                let sent: String = pushes.iter().filter(|push| push.stream == stream).map(|push| &push.bytes[..]).collect();
                let got: String = out.iter().filter(|(from, _)| *from == stream).map(|(_, bytes)| &bytes[..]).collect();
                prop_assert_eq!(sent, got);
            }
            prop_assert_eq!(out.len(), pushes.len());
        }
    }

    #[test]
    fn a_line_waits_for_the_unfinished_one_but_not_for_ever() {
        let start = Instant::now();
        let mut streams = Interleaver::new(100);
        let mut out = Vec::new();
        streams.push(delivery(1, 0, "part", false), start, |written| out.extend_from_slice(&written.data));
        streams.push(delivery(2, 0, "other\n", false), start, |written| out.extend_from_slice(&written.data));
        assert_eq!(out, b"part");
        streams.release(start + UNFINISHED_LINE_TIMEOUT / 2, |written| out.extend_from_slice(&written.data));
        assert_eq!(out, b"part");
        streams.release(streams.deadline().unwrap(), |written| out.extend_from_slice(&written.data));
        assert_eq!(out, b"partother\n");
        assert_eq!(streams.deadline(), None);
    }

    #[test]
    fn a_line_behind_two_unfinished_ones_does_not_wait_for_ever_either() {
        let start = Instant::now();
        let mut streams = Interleaver::new(100);
        let mut out = Vec::new();
        let mut write = |written: Delivery| out.extend_from_slice(&written.data);
        streams.push(delivery(1, 0, "one", false), start, &mut write);
        streams.push(delivery(2, 0, "two", false), start, &mut write);
        streams.push(delivery(3, 0, "whole\n", false), start + UNFINISHED_LINE_TIMEOUT / 2, &mut write);
        streams.release(start + UNFINISHED_LINE_TIMEOUT, &mut write);
        assert_eq!(streams.deadline(), Some(start + UNFINISHED_LINE_TIMEOUT / 2 + UNFINISHED_LINE_TIMEOUT));
        streams.release(streams.deadline().unwrap(), &mut write);
        assert!(streams.is_empty() && streams.deadline().is_none() && streams.pending_bytes() == 0);
        assert_eq!(String::from_utf8(out).unwrap(), "onetwowhole\n");
    }

    #[test]
    fn nothing_waits_for_a_line_of_a_session_that_ended() {
        let start = Instant::now();
        let mut streams = Interleaver::new(100);
        let mut out = Vec::new();
        let mut write = |written: Delivery| out.extend_from_slice(&written.data);
        let ended = StreamId { session: [2; 8], number: 1 };
        streams.push(Delivery { stream: ended, ..delivery(1, 0, "cut", false) }, start, &mut write);
        streams.push(delivery(1, 0, "whole\n", false), start, &mut write);
        streams.flush_streams(&|stream| *stream == ended, &mut write);
        assert!(streams.is_empty());
        streams.push(delivery(1, 1, "half", false), start, &mut write);
        streams.push(delivery(2, 0, "other\n", false), start, &mut write);
        streams.flush_streams(&|stream| *stream == ended, &mut write);
        assert!(streams.holds_session(delivery(2, 0, "", false).stream.session));
        assert_eq!(String::from_utf8(out).unwrap(), "cutwhole\nhalf");
    }

    #[test]
    fn a_message_without_bytes_tears_no_line_of_another_stream() {
        let start = Instant::now();
        for ends in [false, true] {
            let mut streams = Interleaver::new(100);
            let (mut out, mut count) = (Vec::new(), 0);
            let mut write = |written: Delivery| {
                out.extend_from_slice(&written.data);
                count += 1;
            };
            streams.push(delivery(1, 0, "part", false), start, &mut write);
            // Owed at once what is owed for it, as nothing of it waits.
            streams.push(delivery(2, 0, "", ends), start, &mut write);
            assert!(streams.is_empty() && streams.deadline().is_none());
            streams.release(start + UNFINISHED_LINE_TIMEOUT, &mut write);
            streams.push(delivery(3, 0, "other\n", false), start + UNFINISHED_LINE_TIMEOUT, &mut write);
            streams.push(delivery(1, 1, " whole\n", false), start + UNFINISHED_LINE_TIMEOUT, &mut write);
            assert_eq!(count, 4);
            assert_eq!(String::from_utf8(out).unwrap(), "part whole\nother\n");
        }
    }

    #[test]
    fn a_message_without_bytes_waits_for_its_own_streams_bytes() {
        let start = Instant::now();
        let mut streams = Interleaver::new(100);
        let mut out = Vec::new();
        let mut write = |written: Delivery| out.push((written.stream.number, seq_of(&written)));
        streams.push(delivery(1, 0, "part", false), start, &mut write);
        streams.push(delivery(2, 0, "other\n", false), start, &mut write);
        streams.push(delivery(2, 1, "", false), start, &mut write);
        streams.push(delivery(1, 1, "\n", false), start, &mut write);
        assert_eq!(out, [(1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let start = Instant::now();
        let mut streams = Interleaver::new(10);
        let mut written = 0;
        streams.push(delivery(1, 0, "part", false), start, |message| written += message.data.len());
        for seq in 0..100 {
            streams.push(delivery(2, seq, "four", false), start, |message| written += message.data.len());
        }
        assert!(streams.pending_bytes() <= 10);
        assert_eq!(written + streams.pending_bytes(), 404);

        streams.push(delivery(1, 1, "part", false), start, |_| {});
        let mut left = 0;
        for _ in 0..10 * MAX_WAITING_MESSAGES {
            streams.push(delivery(2, 100, "", false), start, |_| left += 1);
        }
        assert!(left >= 9 * MAX_WAITING_MESSAGES, "messages without bytes are bounded, too");
    }
}
