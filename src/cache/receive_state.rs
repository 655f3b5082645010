//! What was received on a link, as text: the lines of [`super::journal`].
//!
//! How it grows: a word that begins with `+` has its values in it, as `+at=1795642707`, and a reader that does not know it
//! ignores it. So it may only say what a receiver can do without. Any other unknown word makes the whole file malformed: a
//! file with such words needs another number in its first line, and older versions refuse it until the next pairing.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::str::{FromStr, SplitAsciiWhitespace};

use super::session_file::{hex, unhex};
use crate::Rejected;
use crate::crypto::schedule::digest;
use crate::session::SessionId;
use crate::stream::{Gap, Progress, RecentStream, StreamId, StreamState, Streams};
use crate::text;
use crate::units::approximate;

/// Most gaps of a session that are kept one by one.
const MAX_LATEST_GAPS: usize = 16;
const RECEIVE_STATE_FORMAT: &str = "sts-receive-state-2";
const TIME: &str = "+at=";

/// What was received under one session, for `sts-pair --status`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    /// Messages accepted.
    pub(crate) messages: u64,
    /// Payload bytes written.
    pub(crate) bytes: u64,
    /// Messages that were received before.
    pub(crate) duplicates: u64,
    /// Gaps.
    pub(crate) gaps: u64,
    /// Messages lost in them.
    pub(crate) lost: u64,
    /// The latest gaps, at most [`MAX_LATEST_GAPS`].
    pub(crate) latest: VecDeque<Gap>,
    /// Of each open stream, when something of it was last written, in seconds since 1970.
    pub(crate) last_written: BTreeMap<u32, u64>,
}

/// A stream of which more is to come, or the end was lost.
///
/// Displayed as `stream 3: 17 messages so far, the last 3h12m ago`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenStream {
    pub(crate) stream: StreamId,
    /// How many messages there are up to the last one that was written, lost ones included.
    pub(crate) messages: u32,
    /// Seconds since then; `None` where that is in the future, or not known.
    pub(crate) age: Option<u64>,
}

impl fmt::Display for OpenStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = text::count(self.messages.into(), "message");
        write!(f, "stream {}: {messages} so far", self.stream.number)?;
        self.age.map_or(Ok(()), |age| write!(f, ", the last {} ago", approximate(age)))
    }
}

/// What was received on a link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ReceiveState {
    pub(super) sessions: BTreeMap<SessionId, (Streams, Counters)>,
    pub(super) rejected: [u64; Rejected::ALL.len()],
}

/// One thing to write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JournalEntry {
    /// A stream was written so far.
    Progress(Progress),
    /// Messages were lost.
    Lost(Gap),
    /// Messages were accepted, and payload bytes written.
    Written {
        /// Under which session.
        session: SessionId,
        /// How many messages.
        messages: u64,
        /// How many bytes.
        bytes: u64,
    },
}

impl JournalEntry {
    pub(super) fn session(&self) -> SessionId {
        match self {
            Self::Progress(progress) => progress.stream.session,
            Self::Lost(gap) => gap.stream.session,
            Self::Written { session, .. } => *session,
        }
    }
}

impl ReceiveState {
    /// The streams and counters of a session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<(&Streams, &Counters)> {
        self.sessions.get(&id).map(|(streams, counters)| (streams, counters))
    }

    /// How many messages were dropped, per reason.
    pub(crate) fn rejected(&self) -> impl Iterator<Item = (Rejected, u64)> {
        Rejected::ALL.into_iter().zip(self.rejected)
    }

    /// The open streams of a session at `now`, in seconds since 1970; the longest idle first.
    #[must_use]
    pub(crate) fn open_streams(&self, id: SessionId, now: u64) -> Vec<OpenStream> {
        let Some((streams, counters)) = self.session(id) else { return Vec::new() };
        let open = |Progress { stream, next, .. }| {
            let age = counters.last_written.get(&stream.number).and_then(|at| now.checked_sub(*at));
            OpenStream { stream, messages: next, age }
        };
        streams.open(id).into_iter().map(open).collect()
    }

    /// Applies what was written `at` this time, in seconds since 1970; `None` where that is not known.
    pub(super) fn apply(&mut self, entry: &JournalEntry, at: Option<u64>) {
        match *entry {
            JournalEntry::Progress(progress) => {
                let (streams, counters) = self.sessions.entry(progress.stream.session).or_default();
                streams.apply(&progress);
                let number = progress.stream.number;
                match (progress.state, at) {
                    (StreamState::Open, Some(at)) => drop(counters.last_written.insert(number, at)),
                    (StreamState::Open, None) => {}
                    (StreamState::Ended | StreamState::Closed, _) => drop(counters.last_written.remove(&number)),
                }
            }
            JournalEntry::Lost(gap) => {
                let counters = &mut self.sessions.entry(gap.stream.session).or_default().1;
                counters.gaps += 1;
                counters.lost += gap.messages();
                counters.latest.push_back(gap);
                if counters.latest.len() > MAX_LATEST_GAPS {
                    counters.latest.pop_front();
                }
            }
            JournalEntry::Written { session, messages, bytes } => {
                let counters = &mut self.sessions.entry(session).or_default().1;
                counters.messages += messages;
                counters.bytes += bytes;
            }
        }
    }

    /// The whole state as lines.
    pub(super) fn encode(&self, of: &str) -> String {
        let mut text = String::new();
        put_line(&mut text, &format!("{RECEIVE_STATE_FORMAT} {of}"));
        let mut line = String::new();
        for (reason, count) in self.rejected.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = write!(line, "x {reason} {count} ");
        }
        put_line(&mut text, &line);
        for (id, (streams, counters)) in &self.sessions {
            line.clear();
            let _ = write!(line, "n {} ", hex(id));
            for (kind, ranges) in [("e", streams.ended()), ("c", streams.closed())] {
                for (first, last) in ranges.iter() {
                    let _ = write!(line, "{kind} {first} {last} ");
                }
            }
            for RecentStream { number, salt, end } in streams.recently_ended() {
                let _ = write!(line, "r {number} {} {end} ", hex(&salt));
            }
            for progress in streams.open(*id) {
                if let Some(at) = counters.last_written.get(&progress.stream.number) {
                    put_time(&mut line, *at);
                }
                put_entry(&mut line, &JournalEntry::Progress(progress));
            }
            for gap in &counters.latest {
                put_entry(&mut line, &JournalEntry::Lost(*gap));
            }
            let Counters { messages, bytes, duplicates, gaps, lost, .. } = counters;
            let _ = write!(line, "t {messages} {bytes} {duplicates} {gaps} {lost} ");
            put_line(&mut text, &line);
        }
        text
    }

    /// Reads what [`ReceiveState::encode`] made, and the lines after it; on failure the number of the line that is malformed.
    pub(super) fn parse(link: &str, bytes: &[u8]) -> std::result::Result<Self, usize> {
        // What follows the last end of line is a write that was cut short.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n').zip(1..);
        let (head, _) = lines.next().ok_or(1usize)?;
        if checked(head) != Some(&format!("{RECEIVE_STATE_FORMAT} {link}")) {
            return Err(1);
        }
        let mut state = Self::default();
        for (line, number) in lines {
            checked(line).and_then(|line| state.apply_line(line)).ok_or::<usize>(number)?;
        }
        Ok(state)
    }

    fn apply_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let (mut session, mut at) = (None, None);
        while let Some(word) = words.next() {
            match word {
                word if word.starts_with('+') => {
                    if let Some(time) = word.strip_prefix(TIME) {
                        at = Some(time.parse().ok()?);
                    }
                }
                "n" => {
                    let id = unhex(words.next()?)?;
                    self.sessions.entry(id).or_default();
                    session = Some(id);
                }
                "x" => {
                    let (reason, count) = (number::<usize>(&mut words)?, number::<u64>(&mut words)?);
                    *self.rejected.get_mut(reason)? += count;
                }
                word => self.apply_word(session?, word, &mut words, at)?,
            }
        }
        Some(())
    }

    /// Applies one word and what follows it, of the entries that a run writes.
    fn apply_word(
        &mut self,
        session: SessionId,
        word: &str,
        words: &mut SplitAsciiWhitespace<'_>,
        at: Option<u64>,
    ) -> Option<()> {
        match word {
            "m" => {
                let (stream, salt) = (number(words)?, unhex(words.next()?)?);
                let (next, skip) = (number(words)?, number(words)?);
                let state = match words.next()? {
                    "o" => StreamState::Open,
                    "e" => StreamState::Ended,
                    "c" => StreamState::Closed,
                    _ => return None,
                };
                let stream = StreamId { session, number: stream };
                self.apply(&JournalEntry::Progress(Progress { stream, salt, next, skip, state }), at);
            }
            "g" => {
                let (stream, (first, last)) = (number(words)?, range(words)?);
                self.apply(&JournalEntry::Lost(Gap { stream: StreamId { session, number: stream }, first, last }), at);
            }
            "w" => {
                let (messages, bytes) = (number(words)?, number(words)?);
                self.apply(&JournalEntry::Written { session, messages, bytes }, at);
            }
            "d" => self.sessions.get_mut(&session)?.1.duplicates += number::<u64>(words)?,
            _ => self.apply_snapshot_word(session, word, words)?,
        }
        Some(())
    }

    /// As [`ReceiveState::apply_word`], of the words that stand in a snapshot only.
    fn apply_snapshot_word(
        &mut self,
        session: SessionId,
        word: &str,
        words: &mut SplitAsciiWhitespace<'_>,
    ) -> Option<()> {
        let (streams, counters) = self.sessions.get_mut(&session)?;
        match word {
            "e" => {
                let (first, last) = range(words)?;
                streams.insert_ended(first, last);
            }
            "c" => {
                let (first, last) = range(words)?;
                streams.insert_closed(first, last);
            }
            "r" => {
                let (number, salt, end) = (number(words)?, unhex(words.next()?)?, number(words)?);
                streams.insert_recent(RecentStream { number, salt, end });
            }
            "t" => {
                let (latest, last_written) =
                    (std::mem::take(&mut counters.latest), std::mem::take(&mut counters.last_written));
                let (messages, bytes, duplicates) = (number(words)?, number(words)?, number(words)?);
                let (gaps, lost) = (number(words)?, number(words)?);
                *counters = Counters { messages, bytes, duplicates, gaps, lost, latest, last_written };
            }
            _ => return None,
        }
        Some(())
    }
}

pub(super) fn index(reason: Rejected) -> usize {
    Rejected::ALL.iter().position(|other| *other == reason).expect("every reason is in the list")
}

/// Appends when what follows was written, for as long as no other time is given on the line.
pub(super) fn put_time(line: &mut String, at: u64) {
    let _ = write!(line, "{TIME}{at} ");
}

/// Appends an entry's words, each with a space after it.
pub(super) fn put_entry(line: &mut String, entry: &JournalEntry) {
    // Writing to a String does not fail.
    let _ = match entry {
        JournalEntry::Progress(Progress { stream, salt, next, skip, state, .. }) => {
            let state = match state {
                StreamState::Open => "o",
                StreamState::Ended => "e",
                StreamState::Closed => "c",
            };
            write!(line, "m {} {} {next} {skip} {state} ", stream.number, hex(salt))
        }
        JournalEntry::Lost(Gap { stream, first, last, .. }) => write!(line, "g {} {first} {last} ", stream.number),
        JournalEntry::Written { messages, bytes, .. } => write!(line, "w {messages} {bytes} "),
    };
}

pub(super) fn put_line(text: &mut String, line: &str) {
    let line = line.trim_end();
    let _ = writeln!(text, "{} {line}", sum(line));
}

/// The line without its checksum and end; `None` if they are not right.
fn checked(line: &[u8]) -> Option<&str> {
    let (checksum, line) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    (checksum == sum(line)).then_some(line)
}

fn sum(line: &str) -> String {
    hex(&digest(&[line.as_bytes()])[..4])
}

fn number<T: FromStr>(words: &mut SplitAsciiWhitespace<'_>) -> Option<T> {
    words.next()?.parse().ok()
}

fn range(words: &mut SplitAsciiWhitespace<'_>) -> Option<(u32, u32)> {
    let (first, last) = (number(words)?, number(words)?);
    (first <= last).then_some((first, last))
}
