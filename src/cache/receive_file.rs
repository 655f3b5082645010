//! What was received on a link, as text: the lines of [`super::journal`].
//!
//! How it grows: a word that begins with `+` has its values in it, as `+at=1795642707`, and a reader that does not know it
//! ignores it. So it may only say what a receiver can do without. Any other unknown word, and a later format, make the file one
//! of a later version, which is left as it is.

use std::fmt::Write as _;
use std::str::{FromStr, SplitAsciiWhitespace};

use super::checked_line::{checked, put_line};
use super::field_text::{hex, unhex};
use super::receive_state::{Counters, JournalEntry, ReceiveState};
use super::{told_text, totals};
use crate::crypto::schedule::Digest;
use crate::session::SessionId;
use crate::stream::{
    Gap, KeptStream, LeftStream, Origin, Progress, RecentStream, Sequence, StreamId, StreamState, Streams,
};

const FORMAT_NAME: &str = "sts-receive-state-";
const FORMAT_NUMBER: u32 = 3;
const TIME: &str = "+at=";
/// Of a session: when the last message was written, and whose it is.
const LAST_MESSAGE: &str = "+last=";
const PEER: &str = "+peer=";
/// Of a stream that was closed before its end: the next seq that was wanted.
const NEXT: &str = "+next=";
/// Of the stream of which the broker keeps messages: the seq after the last one with data. A version that ignores this
/// takes the last message that was received for that one.
const VALUE_END: &str = "+value=";
/// Of a session that two devices of the peer use. A version that ignores this finds it out again.
const COPIED: &str = "+copied";
/// What was received under sessions that are gone ([`super::totals`]).
const PAST: &str = "+past=";
/// The words that begin an entry.
const ENTRIES: [&str; 6] = ["m", "g", "w", "k", "v", "c"];

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum UnusableState {
    /// The number of the line that is not whole.
    Malformed(usize),
    /// It is of a later version.
    Later,
}

/// The whole state as lines.
pub(super) fn encode(state: &ReceiveState, of: &str) -> String {
    let mut text = String::new();
    put_line(&mut text, &format!("{FORMAT_NAME}{FORMAT_NUMBER} {of}"));
    let mut line = String::new();
    for (reason, count) in state.rejected.iter().enumerate().filter(|(_, count)| **count > 0) {
        let _ = write!(line, "x {reason} {count} ");
    }
    for (peer, of_peer) in &state.past {
        line.push_str(PAST);
        totals::put(&mut line, peer, of_peer);
    }
    put_line(&mut text, &line);
    for (id, (streams, counters)) in &state.sessions {
        line.clear();
        let _ = write!(line, "n {} ", hex(id));
        if let Some(peer) = &counters.peer {
            put_peer(&mut line, peer);
        }
        if let Some(at) = counters.last_message {
            let _ = write!(line, "{LAST_MESSAGE}{at} ");
        }
        put_streams(&mut line, *id, streams);
        put_open_streams(&mut text, &mut line, &streams.open(*id), counters);
        for (number, next) in streams.wills() {
            put_entry(&mut line, &JournalEntry::Will { stream: StreamId { session: *id, number }, next });
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

/// Reads what [`encode`] made for this link, and the lines after it.
pub(super) fn parse(link: &str, bytes: &[u8]) -> Result<ReceiveState, UnusableState> {
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
    let mut state = ReceiveState::default();
    for (bytes, number) in lines {
        let words = checked(bytes).ok_or(malformed(number))?;
        match StateLine::new(words).apply(&mut state) {
            Some(()) => {}
            None if has_unknown_word(words) => return Err(UnusableState::Later),
            None => return Err(malformed(number)),
        }
    }
    Ok(state)
}

/// A line that is read: its words, and what they say of the ones after them.
struct StateLine<'a> {
    words: SplitAsciiWhitespace<'a>,
    /// When what follows was written.
    at: Option<u64>,
    /// The sequence of the next stream.
    sequence: Option<Sequence>,
    /// The next seq of the next stream.
    next: Option<u32>,
    /// The seq after the value of the next stream.
    value_end: Option<u32>,
}

impl<'a> StateLine<'a> {
    fn new(line: &'a str) -> Self {
        Self { words: line.split_ascii_whitespace(), at: None, sequence: None, next: None, value_end: None }
    }

    fn apply(mut self, state: &mut ReceiveState) -> Option<()> {
        let mut session = None;
        while let Some(word) = self.words.next() {
            match word {
                word if word.starts_with('+') => self.note(word, session, state)?,
                "q" => {
                    let stream = StreamId { session: self.bytes()?, number: self.number()? };
                    let origin = Origin { stream, salt: self.bytes()? };
                    self.sequence = Some(Sequence { origin, position: self.number()? });
                }
                "n" => {
                    let id = self.bytes()?;
                    state.sessions.entry(id).or_default();
                    session = Some(id);
                }
                "x" => {
                    let (reason, count) = (self.number::<usize>()?, self.number::<u64>()?);
                    let total = state.rejected.get_mut(reason)?;
                    *total = total.saturating_add(count);
                }
                word if ENTRIES.contains(&word) => state.apply(&self.entry(session?, word)?, self.at),
                word => self.apply_count(state.sessions.get_mut(&session?)?, session?, word)?,
            }
        }
        Some(())
    }

    /// Takes a word that a reader may ignore. One that this version writes and forgets to read would pass in silence:
    /// `tests/entries.rs` reads each.
    fn note(&mut self, word: &str, session: Option<SessionId>, state: &mut ReceiveState) -> Option<()> {
        if let Some(time) = word.strip_prefix(TIME) {
            self.at = Some(time.parse().ok()?);
        } else if let Some(next) = word.strip_prefix(NEXT) {
            self.next = Some(next.parse().ok()?);
        } else if let Some(end) = word.strip_prefix(VALUE_END) {
            self.value_end = Some(end.parse().ok()?);
        } else if told_text::is_told(word) {
            state.apply(&told_text::parse(session?, word)?, self.at);
        } else if word == COPIED {
            state.apply(&JournalEntry::Copied { session: session? }, self.at);
        } else if let Some(of_peer) = word.strip_prefix(PAST) {
            totals::parse(of_peer, &mut state.past)?;
        } else if let Some(peer) = word.strip_prefix(PEER) {
            state.sessions.get_mut(&session?)?.1.peer = Some(unhex(peer)?);
        } else if let Some(at) = word.strip_prefix(LAST_MESSAGE) {
            state.sessions.get_mut(&session?)?.1.last_message = Some(at.parse().ok()?);
        }
        Some(())
    }

    /// The entry that a word begins, as [`put_entry`] made it.
    fn entry(&mut self, session: SessionId, word: &str) -> Option<JournalEntry> {
        Some(match word {
            "m" => {
                let (number, salt) = (self.number()?, self.bytes()?);
                let (next, skip) = (self.number()?, self.number()?);
                let (state, wants_confirms) = state_of(self.words.next()?)?;
                let stream = StreamId { session, number };
                let sequence = self.sequence_of(Origin { stream, salt }, next);
                JournalEntry::Progress(Progress { stream, salt, next, skip, wants_confirms, state, sequence })
            }
            "g" => {
                let (stream, (first, last)) = (StreamId { session, number: self.number()? }, self.range()?);
                JournalEntry::Lost(Gap { stream, first, last })
            }
            "w" => JournalEntry::Written { session, messages: self.number()?, bytes: self.number()? },
            "k" => {
                let stream = KeptStream { number: self.number()?, value_end: self.value_end.take() };
                JournalEntry::Kept { session, stream }
            }
            "v" => {
                let (stream, next) = (StreamId { session, number: self.number()? }, self.number()?);
                JournalEntry::Will { stream, next }
            }
            "c" => {
                let (first, last) = self.range()?;
                JournalEntry::GivenUp { session, first, last }
            }
            _ => return None,
        })
    }

    /// Applies a word, and what follows it, that is no entry: most of them stand in a complete state only.
    fn apply_count(
        &mut self,
        (streams, counters): &mut (Streams, Counters),
        session: SessionId,
        word: &str,
    ) -> Option<()> {
        match word {
            "d" => counters.duplicates = counters.duplicates.saturating_add(self.number()?),
            "e" => {
                let (first, last) = self.range()?;
                streams.insert_ended(first, last);
            }
            "r" => {
                let (number, salt, end) = (self.number()?, self.bytes()?, self.number()?);
                let wants_confirms = match self.words.next()? {
                    "y" => true,
                    "n" => false,
                    _ => return None,
                };
                let sequence = self.sequence_of(Origin { stream: StreamId { session, number }, salt }, end);
                streams.insert_recent(RecentStream { number, salt, end, wants_confirms, sequence });
            }
            "l" => {
                let (number, salt) = (self.number()?, self.bytes()?);
                let next = self.next.take().unwrap_or(u32::MAX);
                streams.insert_left(LeftStream { number, salt, sequence: self.sequence.take()?, next });
            }
            "t" => {
                counters.messages = self.number()?;
                counters.bytes = self.number()?;
                counters.duplicates = self.number()?;
                counters.gaps = self.number()?;
                counters.lost = self.number()?;
            }
            _ => return None,
        }
        Some(())
    }

    /// The sequence of a stream: its own, if nothing else is said.
    fn sequence_of(&mut self, origin: Origin, next: u32) -> Sequence {
        self.sequence.take().unwrap_or(Sequence::of_origin(origin, next))
    }

    fn number<T: FromStr>(&mut self) -> Option<T> {
        self.words.next()?.parse().ok()
    }

    fn range(&mut self) -> Option<(u32, u32)> {
        let (first, last) = (self.number()?, self.number()?);
        (first <= last).then_some((first, last))
    }

    fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        unhex(self.words.next()?)
    }
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

/// Appends when what follows was written, for as long as no other time is given on the line.
pub(super) fn put_time(line: &mut String, at: u64) {
    let _ = write!(line, "{TIME}{at} ");
}

/// Appends whose the session is of which the line speaks.
pub(super) fn put_peer(line: &mut String, peer: &Digest) {
    let _ = write!(line, "{PEER}{} ", hex(peer));
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
        JournalEntry::Kept { stream, .. } => {
            put_kept(line, *stream);
            Ok(())
        }
        JournalEntry::Told(ended) => {
            told_text::put(line, ended);
            Ok(())
        }
        JournalEntry::Waited { stream, time } => told_text::put_waited(line, *stream, *time),
        JournalEntry::Copied { .. } => write!(line, "{COPIED} "),
        JournalEntry::Will { stream, next } => write!(line, "v {} {next} ", stream.number),
        JournalEntry::GivenUp { first, last, .. } => write!(line, "c {first} {last} "),
        JournalEntry::Written { messages, bytes, .. } => write!(line, "w {messages} {bytes} "),
    };
}

/// Appends the streams of a session.
fn put_streams(line: &mut String, session: SessionId, streams: &Streams) {
    // Writing to a String does not fail.
    for (kind, ranges) in [("e", streams.ended()), ("c", streams.closed())] {
        for (first, last) in ranges.iter() {
            let _ = write!(line, "{kind} {first} {last} ");
        }
    }
    for LeftStream { number, salt, sequence, next } in streams.left() {
        put_sequence(line, sequence);
        if next < u32::MAX {
            let _ = write!(line, "{NEXT}{next} ");
        }
        let _ = write!(line, "l {number} {} ", hex(&salt));
    }
    for RecentStream { number, salt, end, wants_confirms, sequence } in streams.recently_ended() {
        put_sequence_of(line, sequence, Origin { stream: StreamId { session, number }, salt }, end);
        let confirms = if wants_confirms { "y" } else { "n" };
        let _ = write!(line, "r {number} {} {end} {confirms} ", hex(&salt));
    }
    if let Some(stream) = streams.kept() {
        put_kept(line, stream);
    }
    if streams.is_copied() {
        put_entry(line, &JournalEntry::Copied { session });
    }
    streams.told().for_each(|told| told_text::put_end(line, told));
}

/// Appends of which stream the broker keeps messages.
fn put_kept(line: &mut String, KeptStream { number, value_end }: KeptStream) {
    if let Some(end) = value_end {
        let _ = write!(line, "{VALUE_END}{end} ");
    }
    let _ = write!(line, "k {number} ");
}

/// Appends open streams in their order, each with the time when something of it was last written. A time counts to the end of its
/// line, so one of which that is not known begins another line.
fn put_open_streams(text: &mut String, line: &mut String, open: &[Progress], counters: &Counters) {
    let mut has_time = false;
    for progress in open {
        let StreamId { session, number } = progress.stream;
        let at = counters.last_written.get(&number);
        if at.is_none() && has_time {
            put_line(text, line);
            line.clear();
            let _ = write!(line, "n {} ", hex(&session));
        }
        has_time = at.is_some();
        if let Some(at) = at {
            put_time(line, *at);
        }
        put_entry(line, &JournalEntry::Progress(*progress));
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
