//! What was received on a link, as text: the lines of [`super::journal`].
//!
//! What `--status` is to show of it goes this way: an entry of a `Completion` (`recv/delivery.rs`) is a [`JournalEntry`], which is
//! added to [`Counters`] here; `cache/status.rs` reads those, and `pair/status/` prints them as table and JSON.
//!
//! How it grows: a word that begins with `+` has its values in it, as `+at=1795642707`, and a reader that does not know it
//! ignores it. So it may only say what a receiver can do without. Any other unknown word, and a later format, make the file one
//! of a later version, which is left as it is.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::str::{FromStr, SplitAsciiWhitespace};

use super::session_file::{hex, unhex};
use crate::Rejected;
use crate::crypto::schedule::digest;
use crate::session::SessionId;
use crate::stream::{Gap, LeftStream, Origin, Progress, RecentStream, Sequence, StreamId, StreamState, Streams};
use crate::text;
use crate::units::approximate;

/// Most gaps of a session that are kept one by one.
const MAX_LATEST_GAPS: usize = 16;
const FORMAT_NAME: &str = "sts-receive-state-";
const FORMAT_NUMBER: u32 = 3;
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
    /// The broker keeps messages of this stream, and of no newer one.
    Kept(StreamId),
    /// A will of an open stream was written.
    Will {
        /// Of which stream.
        stream: StreamId,
        /// The lowest number of a will of it that is accepted from now on.
        next: u32,
    },
    /// Nothing was received of streams of a session, and nothing is accepted any more.
    GivenUp {
        /// Which session.
        session: SessionId,
        /// The first number.
        first: u32,
        /// The last number.
        last: u32,
    },
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
            Self::Kept(stream) | Self::Will { stream, .. } => stream.session,
            Self::GivenUp { session, .. } | Self::Written { session, .. } => *session,
        }
    }
}

impl ReceiveState {
    /// The streams and counters of a session.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<(&Streams, &Counters)> {
        self.sessions.get(&id).map(|(streams, counters)| (streams, counters))
    }

    /// The streams of each session.
    pub(crate) fn into_streams(self) -> impl Iterator<Item = (SessionId, Streams)> {
        self.sessions.into_iter().map(|(id, (streams, _))| (id, streams))
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
                if progress.state != StreamState::Open {
                    counters.last_written.remove(&number);
                } else if let Some(at) = at {
                    counters.last_written.insert(number, at);
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
            JournalEntry::Kept(stream) => self.sessions.entry(stream.session).or_default().0.keep(stream.number),
            JournalEntry::Will { stream, next } => {
                self.sessions.entry(stream.session).or_default().0.set_next_will(stream.number, next);
            }
            JournalEntry::GivenUp { session, first, last } => {
                self.sessions.entry(session).or_default().0.insert_closed(first, last);
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
        put_line(&mut text, &format!("{FORMAT_NAME}{FORMAT_NUMBER} {of}"));
        let mut line = String::new();
        for (reason, count) in self.rejected.iter().enumerate().filter(|(_, count)| **count > 0) {
            let _ = write!(line, "x {reason} {count} ");
        }
        put_line(&mut text, &line);
        for (id, (streams, counters)) in &self.sessions {
            line.clear();
            let _ = write!(line, "n {} ", hex(id));
            put_streams(&mut line, *id, streams, counters);
            for gap in &counters.latest {
                put_entry(&mut line, &JournalEntry::Lost(*gap));
            }
            let Counters { messages, bytes, duplicates, gaps, lost, .. } = counters;
            let _ = write!(line, "t {messages} {bytes} {duplicates} {gaps} {lost} ");
            put_line(&mut text, &line);
        }
        text
    }

    /// Reads what [`ReceiveState::encode`] made, and the lines after it.
    pub(super) fn parse(link: &str, bytes: &[u8]) -> std::result::Result<Self, UnusableState> {
        // What follows the last end of line is a write that was cut short.
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split_inclusive(|&byte| byte == b'\n').zip(1..);
        let malformed = UnusableState::Malformed;
        let head = lines.next().and_then(|(head, _)| checked(head)?.strip_prefix(FORMAT_NAME)?.split_once(' '));
        let (format, of) = head.ok_or(malformed(1))?;
        match format.parse::<u32>() {
            Ok(FORMAT_NUMBER) if of == link => {}
            Ok(format) if format > FORMAT_NUMBER => return Err(UnusableState::Later),
            _ => return Err(malformed(1)),
        }
        let mut state = Self::default();
        for (bytes, number) in lines {
            let words = checked(bytes).ok_or(malformed(number))?;
            match state.apply_line(words) {
                Some(()) => {}
                None if has_unknown_word(words) => return Err(UnusableState::Later),
                None => return Err(malformed(number)),
            }
        }
        Ok(state)
    }

    fn apply_line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let (mut session, mut said) = (None, Said::default());
        while let Some(word) = words.next() {
            match word {
                word if word.starts_with('+') => {
                    if let Some(time) = word.strip_prefix(TIME) {
                        said.at = Some(time.parse().ok()?);
                    }
                }
                "q" => {
                    let stream = StreamId { session: unhex(words.next()?)?, number: number(&mut words)? };
                    let origin = Origin { stream, salt: unhex(words.next()?)? };
                    said.sequence = Some(Sequence { origin, position: number(&mut words)? });
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
                word => self.apply_word(session?, word, &mut words, &mut said)?,
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
        said: &mut Said,
    ) -> Option<()> {
        let at = said.at;
        match word {
            "m" => {
                let (stream, salt) = (number(words)?, unhex(words.next()?)?);
                let (next, skip) = (number(words)?, number(words)?);
                let (state, wants_confirms) = state_of(words.next()?)?;
                let stream = StreamId { session, number: stream };
                let sequence = said.sequence_of(Origin { stream, salt }, next);
                let progress = Progress { stream, salt, next, skip, wants_confirms, state, sequence };
                self.apply(&JournalEntry::Progress(progress), at);
            }
            "g" => {
                let (stream, (first, last)) = (number(words)?, range(words)?);
                self.apply(&JournalEntry::Lost(Gap { stream: StreamId { session, number: stream }, first, last }), at);
            }
            "w" => {
                let (messages, bytes) = (number(words)?, number(words)?);
                self.apply(&JournalEntry::Written { session, messages, bytes }, at);
            }
            "k" => self.apply(&JournalEntry::Kept(StreamId { session, number: number(words)? }), at),
            "v" => {
                let (stream, next) = (StreamId { session, number: number(words)? }, number(words)?);
                self.apply(&JournalEntry::Will { stream, next }, at);
            }
            "c" => {
                let (first, last) = range(words)?;
                self.apply(&JournalEntry::GivenUp { session, first, last }, at);
            }
            "d" => self.sessions.get_mut(&session)?.1.duplicates += number::<u64>(words)?,
            _ => self.apply_snapshot_word(session, word, words, said)?,
        }
        Some(())
    }

    /// As [`ReceiveState::apply_word`], of the words that stand in a snapshot only.
    fn apply_snapshot_word(
        &mut self,
        session: SessionId,
        word: &str,
        words: &mut SplitAsciiWhitespace<'_>,
        said: &mut Said,
    ) -> Option<()> {
        let (streams, counters) = self.sessions.get_mut(&session)?;
        match word {
            "e" => {
                let (first, last) = range(words)?;
                streams.insert_ended(first, last);
            }
            "r" => {
                let (number, salt, end) = (number(words)?, unhex(words.next()?)?, number(words)?);
                let wants_confirms = match words.next()? {
                    "y" => true,
                    "n" => false,
                    _ => return None,
                };
                let sequence = said.sequence_of(Origin { stream: StreamId { session, number }, salt }, end);
                streams.insert_recent(RecentStream { number, salt, end, wants_confirms, sequence });
            }
            "l" => {
                let (number, salt) = (number(words)?, unhex(words.next()?)?);
                streams.insert_left(LeftStream { number, salt, sequence: said.sequence.take()? });
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

/// What words of a line say of the ones after them.
#[derive(Default)]
struct Said {
    /// When what follows was written.
    at: Option<u64>,
    /// The sequence of the next stream.
    sequence: Option<Sequence>,
}

impl Said {
    /// The sequence of a stream: its own, if nothing else is said.
    fn sequence_of(&mut self, origin: Origin, next: u32) -> Sequence {
        self.sequence.take().unwrap_or(Sequence::of_origin(origin, next))
    }
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UnusableState {
    /// The number of the line that is not whole.
    Malformed(usize),
    /// It is of a later version.
    Later,
}

/// How far a stream is, with what its sender wants of that: open, ended, closed or superseded; in capitals where it wants
/// confirms.
const STATES: [(&str, StreamState, bool); 8] = [
    ("o", StreamState::Open, false),
    ("O", StreamState::Open, true),
    ("e", StreamState::Ended, false),
    ("E", StreamState::Ended, true),
    ("c", StreamState::Closed, false),
    ("C", StreamState::Closed, true),
    ("s", StreamState::Superseded, false),
    ("S", StreamState::Superseded, true),
];

fn state_of(word: &str) -> Option<(StreamState, bool)> {
    STATES.iter().find(|(name, ..)| *name == word).map(|&(_, state, wants_confirms)| (state, wants_confirms))
}

/// Whether a line that cannot be applied has a word that this version never writes.
fn has_unknown_word(line: &str) -> bool {
    const WORDS: [&str; 14] = ["n", "x", "m", "g", "w", "d", "k", "v", "c", "e", "r", "l", "q", "t"];
    let is_known = |word: &str| {
        let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
        let is_value = is_number || unhex::<8>(word).is_some() || word == "y" || state_of(word).is_some();
        WORDS.contains(&word) || word.starts_with('+') || is_value
    };
    !line.split_ascii_whitespace().all(is_known)
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
        JournalEntry::Progress(Progress { stream, salt, next, skip, wants_confirms, state, sequence }) => {
            put_sequence_of(line, *sequence, Origin { stream: *stream, salt: *salt }, *next);
            let found = STATES.iter().find(|(_, other, asks)| (other, asks) == (state, wants_confirms));
            let state = found.map_or("o", |(name, ..)| name);
            write!(line, "m {} {} {next} {skip} {state} ", stream.number, hex(salt))
        }
        JournalEntry::Lost(Gap { stream, first, last, .. }) => write!(line, "g {} {first} {last} ", stream.number),
        JournalEntry::Kept(stream) => write!(line, "k {} ", stream.number),
        JournalEntry::Will { stream, next } => write!(line, "v {} {next} ", stream.number),
        JournalEntry::GivenUp { first, last, .. } => write!(line, "c {first} {last} "),
        JournalEntry::Written { messages, bytes, .. } => write!(line, "w {messages} {bytes} "),
    };
}

/// Appends the streams of a session.
fn put_streams(line: &mut String, session: SessionId, streams: &Streams, counters: &Counters) {
    // Writing to a String does not fail.
    for (kind, ranges) in [("e", streams.ended()), ("c", streams.closed())] {
        for (first, last) in ranges.iter() {
            let _ = write!(line, "{kind} {first} {last} ");
        }
    }
    for LeftStream { number, salt, sequence } in streams.left() {
        put_sequence(line, sequence);
        let _ = write!(line, "l {number} {} ", hex(&salt));
    }
    for RecentStream { number, salt, end, wants_confirms, sequence } in streams.recently_ended() {
        put_sequence_of(line, sequence, Origin { stream: StreamId { session, number }, salt }, end);
        let confirms = if wants_confirms { "y" } else { "n" };
        let _ = write!(line, "r {number} {} {end} {confirms} ", hex(&salt));
    }
    if let Some(number) = streams.kept() {
        let _ = write!(line, "k {number} ");
    }
    for progress in streams.open(session) {
        if let Some(at) = counters.last_written.get(&progress.stream.number) {
            put_time(line, *at);
        }
        put_entry(line, &JournalEntry::Progress(progress));
    }
    for (number, next) in streams.wills() {
        put_entry(line, &JournalEntry::Will { stream: StreamId { session, number }, next });
    }
}

/// Appends the sequence of the stream that follows, where it is not the stream's own.
fn put_sequence_of(line: &mut String, sequence: Sequence, origin: Origin, next: u32) {
    if sequence != Sequence::of_origin(origin, next) {
        put_sequence(line, sequence);
    }
}

fn put_sequence(line: &mut String, Sequence { origin: Origin { stream, salt }, position }: Sequence) {
    let _ = write!(line, "q {} {} {} {position} ", hex(&stream.session), stream.number, hex(&salt));
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
