//! Whole lines of many streams: each stream keeps its unfinished line to itself, so that no stream waits for another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::recv::delivery::{Delivery, Joint};
use crate::session::SessionId;
use crate::stream::StreamId;

/// How long an unfinished line waits for its end.
pub(super) const UNFINISHED_LINE_TIMEOUT: Duration = Duration::from_secs(1);
/// Most messages that an unfinished line may be in. None of them is acknowledged meanwhile, and a broker sends only so many
/// without an acknowledgement ([`MIN_BROKER_WINDOW`](crate::mqtt::MIN_BROKER_WINDOW)) for all streams together.
const MAX_MESSAGES_PER_LINE: usize = 8;
/// Most of these and of others that wait for an unfinished line, such as repeated ones, which anybody can send.
const MAX_WAITING_PER_LINE: usize = 1024;

/// The unfinished line of one stream.
#[derive(Default)]
struct LineBuffer {
    deliveries: Vec<Delivery>,
    /// In how many messages it is.
    messages: usize,
    len: usize,
    since: Option<Instant>,
}

impl LineBuffer {
    fn push(&mut self, delivery: Delivery, now: Instant) {
        self.len += delivery.data.len();
        self.messages += usize::from(delivery.completion.progress.is_some() || !delivery.data.is_empty());
        self.since.get_or_insert(now);
        self.deliveries.push(delivery);
    }

    /// Whether it waits for its end no longer, as too much of it waits.
    fn is_full(&self, limit: usize) -> bool {
        let is_in_too_many = self.messages > MAX_MESSAGES_PER_LINE || self.deliveries.len() > MAX_WAITING_PER_LINE;
        is_in_too_many || self.len > limit
    }
}

/// All unfinished lines.
pub(super) struct LineBuffers {
    limit: usize,
    by_stream: BTreeMap<StreamId, LineBuffer>,
    /// Bytes in all of them.
    pending_bytes: usize,
}

impl LineBuffers {
    /// Keeps at most `limit` bytes of each stream.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, by_stream: BTreeMap::new(), pending_bytes: 0 }
    }

    /// Takes one message; `write` gets the lines that are whole with it. A line is cut where its stream ends or has a gap,
    /// and where it is too long or takes too long.
    pub(super) fn push(&mut self, mut delivery: Delivery, now: Instant, mut write: impl FnMut(Vec<Delivery>)) {
        let stream = delivery.stream;
        let mut buffer = self.remove(stream);
        let is_apart = delivery.joint == Joint::Alone || delivery.completion.follows_gap();
        if is_apart && !buffer.deliveries.is_empty() {
            write(std::mem::take(&mut buffer).deliveries);
        }
        let len = delivery.data.len();
        let ends = delivery.joint != Joint::Continues;
        let whole = match delivery.data.iter().rposition(|&byte| byte == b'\n') {
            _ if ends => len,
            Some(last) => last + 1,
            None => 0,
        };
        if whole == len && (whole > 0 || ends || buffer.deliveries.is_empty()) {
            buffer.push(delivery, now);
            write(buffer.deliveries);
            return;
        }
        if whole > 0 {
            buffer.push(delivery.split_to(whole), now);
            write(std::mem::take(&mut buffer).deliveries);
        }
        buffer.push(delivery.detached(), now);
        if buffer.is_full(self.limit) {
            write(buffer.deliveries);
        } else {
            self.pending_bytes += buffer.len;
            self.by_stream.insert(stream, buffer);
        }
    }

    /// Passes on what has waited long enough.
    pub(super) fn release(&mut self, now: Instant, mut write: impl FnMut(Vec<Delivery>)) {
        let is_late = |buffer: &LineBuffer| buffer.since.is_some_and(|since| now >= since + UNFINISHED_LINE_TIMEOUT);
        let late: Vec<_> =
            self.by_stream.iter().filter(|(_, buffer)| is_late(buffer)).map(|(stream, _)| *stream).collect();
        for stream in late {
            write(self.remove(stream).deliveries);
        }
    }

    /// Passes on everything.
    pub(super) fn flush(&mut self, mut write: impl FnMut(Vec<Delivery>)) {
        self.pending_bytes = 0;
        for buffer in std::mem::take(&mut self.by_stream).into_values() {
            write(buffer.deliveries);
        }
    }

    /// Passes on everything of some streams: no more will come of them.
    pub(super) fn flush_streams(&mut self, is_over: &dyn Fn(&StreamId) -> bool, mut write: impl FnMut(Vec<Delivery>)) {
        let over: Vec<_> = self.by_stream.keys().filter(|stream| is_over(stream)).copied().collect();
        for stream in over {
            write(self.remove(stream).deliveries);
        }
    }

    /// When [`LineBuffers::release`] has something to do, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.by_stream.values().filter_map(|buffer| buffer.since).min().map(|since| since + UNFINISHED_LINE_TIMEOUT)
    }

    /// Bytes that wait.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.by_stream.is_empty()
    }

    /// Whether anything of `stream` waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.by_stream.contains_key(&stream)
    }

    /// Whether anything of `session` waits.
    pub(super) fn holds_session(&self, session: SessionId) -> bool {
        self.by_stream.keys().any(|stream| stream.session == session)
    }

    fn remove(&mut self, stream: StreamId) -> LineBuffer {
        let buffer = self.by_stream.remove(&stream).unwrap_or_default();
        self.pending_bytes -= buffer.len;
        buffer
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::{Qos, Receipt};
    use crate::recv::delivery::for_tests::{delivery, stream};

    fn append_text(out: &mut String, deliveries: &[Delivery]) {
        for delivery in deliveries {
            out.push_str(std::str::from_utf8(&delivery.data).unwrap());
        }
    }

    #[test]
    fn nobody_waits_for_anothers_line() {
        let start = Instant::now();
        let mut lines = LineBuffers::new(100);
        let mut out = String::new();
        let mut write = |deliveries: Vec<Delivery>| append_text(&mut out, &deliveries);
        let (one, two) = (stream(1), StreamId { session: [2; 8], number: 1 });
        lines.push(delivery(1, 0, "half a ", false), start, &mut write);
        lines.push(Delivery { stream: two, ..delivery(1, 0, "whole\nbegun", false) }, start, &mut write);
        lines.push(delivery(1, 1, "line\n", false), start, &mut write);
        assert!(lines.holds(two) && !lines.holds(one));
        assert_eq!((lines.pending_bytes(), lines.deadline()), (5, Some(start + UNFINISHED_LINE_TIMEOUT)));
        lines.release(start + UNFINISHED_LINE_TIMEOUT / 2, &mut write);
        lines.release(start + UNFINISHED_LINE_TIMEOUT, &mut write);
        assert!(lines.is_empty() && lines.pending_bytes() == 0 && lines.deadline().is_none());
        assert_eq!(out, "whole\nhalf a line\nbegun");
    }

    /// As what the broker says for a sender whose line is unfinished, and who may come back.
    #[test]
    fn what_stands_alone_is_written_after_what_its_stream_left_unfinished() {
        let start = Instant::now();
        let mut lines = LineBuffers::new(100);
        let mut out = Vec::new();
        let mut write = |deliveries: Vec<Delivery>| {
            out.push(deliveries.iter().map(|delivery| delivery.data.len()).collect::<Vec<_>>());
        };
        lines.push(delivery(1, 0, "half a ", false), start, &mut write);
        let alone = Delivery { joint: Joint::Alone, ..delivery(1, 1, "gone\n", false) };
        lines.push(alone, start, &mut write);
        lines.push(delivery(1, 2, "line\n", false), start, &mut write);
        assert!(lines.is_empty());
        assert_eq!(out, [[7], [5], [5]]);
    }

    #[test]
    fn the_end_of_one_session_tears_no_line_of_another() {
        let start = Instant::now();
        let mut lines = LineBuffers::new(100);
        let mut out = String::new();
        let mut write = |deliveries: Vec<Delivery>| append_text(&mut out, &deliveries);
        let other = StreamId { session: [2; 8], number: 1 };
        lines.push(delivery(1, 0, "cut", false), start, &mut write);
        lines.push(Delivery { stream: other, ..delivery(1, 0, "half a ", false) }, start, &mut write);
        lines.flush_streams(&|of| *of == stream(1), &mut write);
        assert!(!lines.holds_session(stream(1).session) && lines.holds_session(other.session));
        lines.push(Delivery { stream: other, ..delivery(1, 1, "line\n", false) }, start, &mut write);
        assert_eq!(out, "cuthalf a line\n");
    }

    #[test]
    fn what_one_stream_holds_is_bounded() {
        let start = Instant::now();
        let mut lines = LineBuffers::new(10);
        let mut written = 0;
        for seq in 0..100 {
            let bytes = if seq % 2 == 0 { "four" } else { "" };
            lines.push(delivery(1, seq, bytes, false), start, |deliveries| written += deliveries.len());
            assert!(lines.pending_bytes() <= 10);
        }
        assert!(written > 90);
    }

    #[test]
    fn messages_that_are_repeated_tear_no_line_unless_they_are_very_many() {
        let start = Instant::now();
        let mut lines = LineBuffers::new(100);
        let mut out = String::new();
        let mut write = |deliveries: Vec<Delivery>| append_text(&mut out, &deliveries);
        let repeated = || Delivery::without_data(stream(1), Receipt::of(Qos::AtLeastOnce, 1).into());
        lines.push(delivery(1, 0, "half a ", false), start, &mut write);
        (1..MAX_WAITING_PER_LINE).for_each(|_| lines.push(repeated(), start, &mut write));
        assert!(lines.holds(stream(1)));
        lines.push(repeated(), start, &mut write);
        assert!(lines.is_empty(), "what waits is bounded");
        assert_eq!(out, "half a ");
    }

    proptest! {
        /// No byte is lost or moved within its stream, no line is torn before its end, and the last completion of each
        /// message comes with its last byte.
        #[test]
        fn every_byte_goes_out_in_whole_lines(
            pushes in prop::collection::vec((0u32..3, "[ab\n]{0,6}", prop::bool::weighted(0.1)), 0..40),
        ) {
            let start = Instant::now();
            let mut lines = LineBuffers::new(usize::MAX);
            let mut out: Vec<(u32, u32, usize, bool)> = Vec::new();
            let mut texts: BTreeMap<u32, String> = BTreeMap::new();
            let mut seqs: BTreeMap<u32, u32> = BTreeMap::new();
            let mut sent: BTreeMap<u32, String> = BTreeMap::new();
            for (number, bytes, ends) in &pushes {
                let seq = *seqs.entry(*number).and_modify(|seq| *seq += 1).or_insert(0);
                sent.entry(*number).or_default().push_str(bytes);
                let held = lines.by_stream.get(&stream(*number)).map_or(0, |buffer| buffer.deliveries.len());
                lines.push(delivery(*number, seq, bytes, *ends), start, |deliveries| {
                    let is_whole = |last: &Delivery| last.data.is_empty() || last.data.ends_with(b"\n");
                    let whole = deliveries.last().is_none_or(is_whole);
                    assert!(whole || *ends || held == MAX_MESSAGES_PER_LINE, "a line is torn");
                    for delivery in deliveries {
                        let progress = delivery.completion.progress.unwrap();
                        let seq = if progress.skip == 0 { progress.next - 1 } else { progress.next };
                        out.push((progress.stream.number, seq, delivery.data.len(), progress.skip == 0));
                        let text = texts.entry(progress.stream.number).or_default();
                        text.push_str(std::str::from_utf8(&delivery.data).unwrap());
                    }
                });
            }
            lines.flush(|deliveries| for delivery in deliveries {
                let progress = delivery.completion.progress.unwrap();
                out.push((progress.stream.number, progress.next - 1, delivery.data.len(), progress.skip == 0));
                let text = texts.entry(progress.stream.number).or_default();
                text.push_str(std::str::from_utf8(&delivery.data).unwrap());
            });
            prop_assert_eq!(texts, sent);
            for stream in 0..3 {
                let of_stream: Vec<_> = out.iter().filter(|(from, ..)| *from == stream).collect();
                let settled: Vec<u32> = of_stream.iter().filter(|(.., last)| *last).map(|(_, seq, ..)| *seq).collect();
                let all = pushes.iter().filter(|(from, ..)| *from == stream).count();
                prop_assert_eq!(settled, (0..u32::try_from(all).unwrap()).collect::<Vec<_>>());
            }
        }
    }
}
