//! Several streams into one output, without tearing their lines into each other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How long a line may wait for another stream's unfinished line.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most messages of one stream that wait, however short they are.
const MOST: usize = 1024;

/// Decides which stream's bytes go out next.
///
/// One stream at a time may leave a line unfinished; until it finishes that line, the others' bytes wait here: for a second
/// at most, and up to `limit` bytes and 1,024 messages a stream. Past either, lines are torn rather than lost or delayed for
/// ever.
#[derive(Debug)]
pub struct Weave<K, T> {
    limit: usize,
    /// Who has written part of a line.
    unfinished: Option<K>,
    held: VecDeque<Held<K, T>>,
    since: Option<Instant>,
}

/// One message: its bytes, and a note for when they were written.
#[derive(Debug)]
struct Held<K, T> {
    stream: K,
    bytes: Vec<u8>,
    ends: bool,
    note: T,
}

impl<K: Copy + Eq, T> Weave<K, T> {
    /// Holds at most `limit` bytes of each stream.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { limit, unfinished: None, held: VecDeque::new(), since: None }
    }

    /// When [`Weave::release`] has something to do, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + PATIENCE)
    }

    /// Bytes that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.held.iter().map(|held| held.bytes.len()).sum()
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether anything of `stream` waits.
    #[must_use]
    pub fn holds(&self, stream: K) -> bool {
        self.held.iter().any(|held| held.stream == stream)
    }

    /// Takes one message of `stream`; `write` gets what may go out now, in order. `ends` says that the stream is over.
    pub fn push(
        &mut self,
        stream: K,
        bytes: &[u8],
        ends: bool,
        note: T,
        now: Instant,
        mut write: impl FnMut(&[u8], T),
    ) {
        let others_line = self.unfinished.is_some_and(|owner| owner != stream);
        // What a stream has waiting goes before its next message.
        let behind = self.holds(stream);
        if !others_line && !behind {
            self.pass(stream, bytes, ends, note, &mut write);
            self.drain(&mut write);
        } else {
            self.held.push_back(Held { stream, bytes: bytes.to_vec(), ends, note });
            self.since.get_or_insert(now);
            let of_stream = self.held.iter().filter(|held| held.stream == stream);
            let (count, bytes) = of_stream.fold((0, 0), |(count, bytes), held| (count + 1, bytes + held.bytes.len()));
            if count > MOST || bytes > self.limit {
                self.tear(&mut write);
            }
        }
    }

    /// Lets go what has waited long enough.
    pub fn release(&mut self, now: Instant, mut write: impl FnMut(&[u8], T)) {
        if self.deadline().is_some_and(|deadline| now >= deadline) {
            self.tear(&mut write);
        }
    }

    /// Lets everything go: no more will come.
    pub fn flush(&mut self, mut write: impl FnMut(&[u8], T)) {
        while !self.held.is_empty() {
            self.tear(&mut write);
        }
    }

    fn tear(&mut self, write: &mut impl FnMut(&[u8], T)) {
        self.unfinished = None;
        self.since = None;
        self.drain(write);
    }

    fn pass(&mut self, stream: K, bytes: &[u8], ends: bool, note: T, write: &mut impl FnMut(&[u8], T)) {
        write(bytes, note);
        let mid_line = match bytes.last() {
            Some(last) => *last != b'\n',
            None => self.unfinished == Some(stream),
        };
        self.unfinished = (mid_line && !ends).then_some(stream);
    }

    /// Passes on what waits, oldest first, as far as the unfinished line allows.
    fn drain(&mut self, write: &mut impl FnMut(&[u8], T)) {
        loop {
            let next = match self.unfinished {
                None => (!self.held.is_empty()).then_some(0),
                Some(owner) => self.held.iter().position(|held| held.stream == owner),
            };
            let Some(held) = next.and_then(|index| self.held.remove(index)) else { break };
            self.pass(held.stream, &held.bytes, held.ends, held.note, write);
        }
        if self.held.is_empty() {
            self.since = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    struct Push {
        stream: u8,
        bytes: String,
        ends: bool,
    }

    fn pushes() -> impl Strategy<Value = Vec<Push>> {
        let push = (0u8..3, "[ab\n]{0,6}", prop::bool::weighted(0.1)).prop_map(|(stream, bytes, ends)| Push {
            stream,
            bytes,
            ends,
        });
        prop::collection::vec(push, 0..40)
    }

    proptest! {
        /// No byte is lost, repeated or reordered within its stream, and no line is torn while patience lasts.
        #[test]
        fn streams_are_woven_by_lines(pushes in pushes()) {
            let start = Instant::now();
            let mut weave = Weave::new(usize::MAX);
            let mut out: Vec<(u8, String)> = Vec::new();
            for (index, push) in pushes.iter().enumerate() {
                weave.push(push.stream, push.bytes.as_bytes(), push.ends, index, start, |bytes, index| {
                    out.push((pushes[index].stream, String::from_utf8(bytes.to_vec()).unwrap()));
                });
            }
            let mut unfinished = None;
            for (index, (stream, bytes)) in out.iter().enumerate() {
                prop_assert!(unfinished.is_none_or(|owner| owner == *stream), "message {index} tears a line");
                let ended = pushes.iter().any(|push| push.stream == *stream && push.ends);
                if let Some(last) = bytes.chars().last() {
                    unfinished = (last != '\n' && !ended).then_some(*stream);
                }
                if ended {
                    unfinished = None;
                }
            }
            weave.flush(|bytes, index| out.push((pushes[index].stream, String::from_utf8(bytes.to_vec()).unwrap())));
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
        let mut weave = Weave::new(100);
        let mut out = Vec::new();
        weave.push(1, b"part", false, (), start, |bytes, ()| out.extend_from_slice(bytes));
        weave.push(2, b"other\n", false, (), start, |bytes, ()| out.extend_from_slice(bytes));
        assert_eq!(out, b"part");
        weave.release(start + PATIENCE / 2, |bytes, ()| out.extend_from_slice(bytes));
        assert_eq!(out, b"part");
        weave.release(weave.deadline().unwrap(), |bytes, ()| out.extend_from_slice(bytes));
        assert_eq!(out, b"partother\n");
        assert_eq!(weave.deadline(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let start = Instant::now();
        let mut weave = Weave::new(10);
        let mut written = 0;
        weave.push(1, b"part", false, (), start, |bytes, ()| written += bytes.len());
        for _ in 0..100 {
            weave.push(2, b"four", false, (), start, |bytes, ()| written += bytes.len());
        }
        assert!(weave.waiting() <= 10);
        assert_eq!(written + weave.waiting(), 404);

        weave.push(1, b"part", false, (), start, |_, ()| {});
        let mut left = 0;
        for _ in 0..10 * MOST {
            weave.push(2, b"", false, (), start, |_, ()| left += 1);
        }
        assert!(left >= 9 * MOST, "messages without bytes are bounded, too");
    }
}
