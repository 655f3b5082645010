//! Whole lines of many streams: each stream keeps its unfinished line to itself, so that no stream waits for another.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::sink::Note;
use crate::stream::StreamId;

/// How long an unfinished line waits for its end.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most messages that an unfinished line may be in: none of them is acknowledged meanwhile, and a broker has only so many
/// on the way (20, with mosquitto) for all streams together.
const MOST: usize = 8;

/// Bytes of one message, what is owed once they are written, and where they are from.
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) note: Note,
    /// For what is written in front of each line.
    pub(super) label: Option<Label>,
}

/// Where a line is from.
#[derive(Clone, Debug)]
pub(super) enum Label {
    /// A sealed stream.
    Peer {
        /// The peer's name here.
        name: String,
        stream: u32,
        seq: u32,
        received: SystemTime,
    },
    /// `nosec`: whoever published there.
    Topic { topic: String, received: SystemTime },
}

impl Part {
    /// Takes the first `at` bytes off; what is left then is the end of the message, and settles it.
    fn split_to(&mut self, at: usize) -> Self {
        let rest = self.bytes.split_off(at);
        let bytes = std::mem::replace(&mut self.bytes, rest);
        Self { bytes, note: self.note.split_to(at), label: self.label.clone() }
    }
}

/// The unfinished line of one stream.
#[derive(Default)]
struct Tail {
    parts: Vec<Part>,
    len: usize,
    since: Option<Instant>,
}

impl Tail {
    fn push(&mut self, part: Part, now: Instant) {
        self.len += part.bytes.len();
        self.since.get_or_insert(now);
        self.parts.push(part);
    }
}

/// All unfinished lines.
pub(super) struct Lines {
    limit: usize,
    tails: BTreeMap<StreamId, Tail>,
    waiting: usize,
}

impl Lines {
    /// Holds at most `limit` bytes of each stream.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, tails: BTreeMap::new(), waiting: 0 }
    }

    /// Takes one message; `write` gets what is whole lines with it. A line is cut where its stream ends or has a gap, and
    /// where it is too long or too slow.
    pub(super) fn push(
        &mut self,
        stream: StreamId,
        mut part: Part,
        ends: bool,
        now: Instant,
        mut write: impl FnMut(Vec<Part>),
    ) {
        let mut tail = self.take(stream);
        if part.note.follows_gap() && !tail.parts.is_empty() {
            write(std::mem::take(&mut tail).parts);
        }
        let whole = match part.bytes.iter().rposition(|&byte| byte == b'\n') {
            _ if ends => part.bytes.len(),
            Some(last) => last + 1,
            None => 0,
        };
        if whole == part.bytes.len() && (whole > 0 || ends || tail.parts.is_empty()) {
            tail.push(part, now);
            write(tail.parts);
            return;
        }
        if whole > 0 {
            tail.push(part.split_to(whole), now);
            write(std::mem::take(&mut tail).parts);
        }
        tail.push(part, now);
        if tail.len > self.limit || tail.parts.len() > MOST {
            write(tail.parts);
        } else {
            self.waiting += tail.len;
            self.tails.insert(stream, tail);
        }
    }

    /// Lets go what has waited long enough.
    pub(super) fn release(&mut self, now: Instant, mut write: impl FnMut(Vec<Part>)) {
        let late = |(stream, tail): (&StreamId, &Tail)| {
            tail.since.is_some_and(|since| now >= since + PATIENCE).then_some(*stream)
        };
        let late: Vec<_> = self.tails.iter().filter_map(late).collect();
        for stream in late {
            write(self.take(stream).parts);
        }
    }

    /// Lets everything go.
    pub(super) fn flush(&mut self, mut write: impl FnMut(Vec<Part>)) {
        self.waiting = 0;
        for tail in std::mem::take(&mut self.tails).into_values() {
            write(tail.parts);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.tails.values().filter_map(|tail| tail.since).min().map(|since| since + PATIENCE)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tails.is_empty()
    }

    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.tails.contains_key(&stream)
    }

    fn take(&mut self, stream: StreamId) -> Tail {
        let tail = self.tails.remove(&stream).unwrap_or_default();
        self.waiting -= tail.len;
        tail
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stream::{Accepted, Progress, StreamState};

    const fn id(session: u8, number: u32) -> StreamId {
        StreamId { session: [session; 8], number }
    }

    fn part(stream: u32, seq: u32, bytes: &str) -> Part {
        let progress = Progress {
            stream: StreamId { session: [0; 8], number: stream },
            salt: [0; 4],
            next: seq + 1,
            skip: 0,
            state: StreamState::Open,
        };
        let accepted =
            Accepted { progress, gap: None, skip: 0, closed: None, predecessor: None, given_up: None, promoted: false };
        let note = Note { accepted: Some(accepted), ..Note::default() };
        Part { bytes: bytes.into(), note, label: None }
    }

    #[test]
    fn nobody_waits_for_anothers_line() {
        let start = Instant::now();
        let mut lines = Lines::new(100);
        let mut out = String::new();
        let mut write = |parts: Vec<Part>| {
            for part in parts {
                out.push_str(std::str::from_utf8(&part.bytes).unwrap());
            }
        };
        lines.push(id(1, 1), part(1, 0, "half a "), false, start, &mut write);
        lines.push(id(2, 1), part(1, 0, "whole\nbegun"), false, start, &mut write);
        lines.push(id(1, 1), part(1, 1, "line\n"), false, start, &mut write);
        assert!(lines.holds(id(2, 1)) && !lines.holds(id(1, 1)));
        assert_eq!((lines.waiting(), lines.deadline()), (5, Some(start + PATIENCE)));
        lines.release(start + PATIENCE / 2, &mut write);
        lines.release(start + PATIENCE, &mut write);
        assert!(lines.is_empty() && lines.waiting() == 0 && lines.deadline().is_none());
        assert_eq!(out, "whole\nhalf a line\nbegun");
    }

    #[test]
    fn what_one_stream_holds_is_bounded() {
        let start = Instant::now();
        let mut lines = Lines::new(10);
        let mut written = 0;
        for seq in 0..100 {
            let bytes = if seq % 2 == 0 { "four" } else { "" };
            lines.push(id(1, 1), part(1, seq, bytes), false, start, |parts| written += parts.len());
            assert!(lines.waiting() <= 10);
        }
        assert!(written > 90);
    }

    proptest! {
        /// No byte is lost or moved within its stream, no line is torn before its end, and the last note of each message
        /// comes with its last byte.
        #[test]
        fn every_byte_goes_out_in_whole_lines(
            pushes in prop::collection::vec((0u32..3, "[ab\n]{0,6}", prop::bool::weighted(0.1)), 0..40),
        ) {
            let start = Instant::now();
            let mut lines = Lines::new(usize::MAX);
            let mut out: Vec<(u32, u32, usize, bool)> = Vec::new();
            let mut texts: BTreeMap<u32, String> = BTreeMap::new();
            let mut seqs: BTreeMap<u32, u32> = BTreeMap::new();
            let mut sent: BTreeMap<u32, String> = BTreeMap::new();
            for (stream, bytes, ends) in &pushes {
                let seq = *seqs.entry(*stream).and_modify(|seq| *seq += 1).or_insert(0);
                sent.entry(*stream).or_default().push_str(bytes);
                let held = lines.tails.get(&id(0, *stream)).map_or(0, |tail| tail.parts.len());
                lines.push(id(0, *stream), part(*stream, seq, bytes), *ends, start, |parts| {
                    let whole = parts.last().is_none_or(|last| last.bytes.is_empty() || last.bytes.ends_with(b"\n"));
                    assert!(whole || *ends || held == MOST, "a line is torn");
                    for part in parts {
                        let progress = part.note.accepted.unwrap().progress;
                        let seq = if progress.skip == 0 { progress.next - 1 } else { progress.next };
                        out.push((progress.stream.number, seq, part.bytes.len(), progress.skip == 0));
                        texts.entry(progress.stream.number).or_default().push_str(std::str::from_utf8(&part.bytes).unwrap());
                    }
                });
            }
            lines.flush(|parts| for part in parts {
                let progress = part.note.accepted.unwrap().progress;
                out.push((progress.stream.number, progress.next - 1, part.bytes.len(), progress.skip == 0));
                texts.entry(progress.stream.number).or_default().push_str(std::str::from_utf8(&part.bytes).unwrap());
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
