//! What a receiver remembers of one session's streams: enough to tell the next message from a repeated one.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use super::StreamId;
use crate::Rejected;
use crate::session::SessionId;
use crate::text::{is_or_are, numbered, ranges};

/// Most streams of a session that are open at once; past that, the longest idle is closed.
pub const MAX_OPEN: usize = 1024;
/// Most ranges that ended stream numbers are kept as; past that, the lowest numbers missing between them are given up.
pub const MAX_RANGES: usize = 1024;
/// How many of the streams that ended last are remembered with their salts, to notice a number used twice.
pub const MAX_RECENT: usize = 16;

/// Numbers as disjoint inclusive ranges, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds all numbers from `first` to `last`.
    pub fn insert(&mut self, first: u32, last: u32) {
        let from = self.0.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|&(start, _)| start <= last.saturating_add(1));
        let (mut start, mut end) = (first, last);
        if from < to {
            start = start.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(start, end)]);
    }

    /// True if `number` is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < number);
        self.0.get(at).is_some_and(|&(start, _)| start <= number)
    }

    /// The ranges, each as its first and last number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// How many numbers there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// True if there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number.
    #[must_use]
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|&(_, last)| last)
    }

    /// The numbers below `end` that are not among these.
    #[must_use]
    pub fn missing_below(&self, end: u32) -> Self {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.iter().take_while(|&(first, _)| first < end) {
            if first > next {
                missing.push((next, first - 1));
            }
            next = last.saturating_add(1);
        }
        if next < end {
            missing.push((next, end - 1));
        }
        Self(missing)
    }

    fn first_hole(&self) -> Option<(u32, u32)> {
        let [(_, before), (after, _), ..] = self.0[..] else { return None };
        Some((before + 1, after - 1))
    }
}

/// As `3, 7-9`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(&self.0))
    }
}

/// Messages of one stream that were lost: every seq from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Gap {
    /// In which stream.
    pub stream: StreamId,
    /// The first seq that is missing.
    pub first: u32,
    /// The last one.
    pub last: u32,
}

impl Gap {
    /// How many messages.
    #[must_use]
    pub fn messages(&self) -> u64 {
        u64::from(self.last - self.first) + 1
    }
}

/// As `stream 3: messages 5-9 are lost`.
impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = numbered("message", &[(self.first, self.last)]);
        write!(f, "stream {}: {messages} {} lost", self.stream.number, is_or_are(self.messages()))
    }
}

/// Where a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StreamState {
    /// More is to come.
    Open,
    /// Its end was received: nothing more comes.
    Ended,
    /// Given up before its end, to make room: nothing more is accepted.
    Closed,
}

/// How far a stream was received: what to write down once stdout took the bytes, and before PUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Which stream.
    pub stream: StreamId,
    /// Its salt.
    pub salt: [u8; 4],
    /// The next seq that is wanted.
    pub next: u32,
    /// How many payload bytes of that next message were written already.
    pub skip: u32,
    /// Open, ended or closed.
    pub place: StreamState,
}

impl Progress {
    /// The mark where only the first `skip` payload bytes of the message were written: it is wanted once more.
    #[must_use]
    pub fn partly(self, skip: u32) -> Self {
        Self { next: self.next.saturating_sub(1), skip, place: StreamState::Open, ..self }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Open {
    salt: [u8; 4],
    next: u32,
    skip: u32,
    /// Orders streams by when something last came; a counter, not a time.
    touched: u64,
}

/// Why an authentic message is not written; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a stream used twice must be reported, a duplicate may have to be confirmed"]
pub enum AcceptError {
    /// It was received before; what its stream wants next.
    Duplicate {
        /// The seq to confirm, if its sender asks.
        next: u32,
    },
    /// Its stream has no gaps, and something before it has not come yet.
    Ahead {
        /// The seq to confirm.
        next: u32,
    },
    /// Its stream has no gaps, and this message cannot be written: the peer is newer.
    Newer {
        /// The seq to confirm.
        next: u32,
    },
    /// It is no message of its stream, but says that its sender has heard the last confirm.
    Settled,
    /// Its stream number was used before with another salt: a copied or restored runtime directory.
    StreamReused,
    /// Its stream was closed before its end, to make room.
    Closed,
    /// Its session was removed after the message was opened.
    Gone,
}

impl AcceptError {
    /// What to count it as.
    #[must_use]
    pub fn rejected(self) -> Rejected {
        match self {
            Self::Duplicate { .. } => Rejected::Duplicate,
            Self::Ahead { .. } | Self::Newer { .. } | Self::Settled => Rejected::Unexpected,
            Self::StreamReused => Rejected::StreamReused,
            Self::Closed => Rejected::StreamClosed,
            Self::Gone => Rejected::UnknownSession,
        }
    }

    /// The seq to confirm to a sender that asks.
    #[must_use]
    pub fn confirm(self) -> Option<u32> {
        match self {
            Self::Duplicate { next } | Self::Ahead { next } | Self::Newer { next } => Some(next),
            Self::Settled | Self::StreamReused | Self::Closed | Self::Gone => None,
        }
    }
}

/// The streams of one session, as far as they were received.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    open: BTreeMap<u32, Open>,
    /// The open ones, longest idle first: by when each was touched.
    idle: BTreeMap<u64, u32>,
    /// The streams that ended last: number, salt, and the seq after the last.
    recent: VecDeque<(u32, [u8; 4], u32)>,
    ended: Ranges,
    closed: Ranges,
    touches: u64,
}

/// Equal if they take every message alike: of how often each was touched, only the order counts.
impl PartialEq for Streams {
    fn eq(&self, other: &Self) -> bool {
        let known = |streams: &Self| (streams.open([0; 8]), streams.recent.clone());
        known(self) == known(other) && self.ended == other.ended && self.closed == other.closed
    }
}

impl Eq for Streams {}

/// A message that is the next of its stream, or later where gaps are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    /// What was wanted: lower than the message's seq if there is a gap.
    pub(super) wanted: u32,
    /// How many of its payload bytes were written before.
    pub(super) skip: u32,
}

impl Streams {
    /// Whether a message is new, and what is missing before it. A stream without gaps refuses one that is too early.
    pub(super) fn check(&self, stream: u32, salt: [u8; 4], seq: u32, gaps: bool) -> Result<Next, AcceptError> {
        let (wanted, skip) = match self.open.get(&stream) {
            Some(open) if open.salt != salt => return Err(AcceptError::StreamReused),
            Some(open) => (open.next, open.skip),
            None => {
                if let Some(&(_, other, end)) = self.recent.iter().find(|(number, ..)| *number == stream) {
                    // A sender seals no more behind the end: whoever did has taken the number a second time.
                    let reused = other != salt || seq >= end;
                    return Err(if reused { AcceptError::StreamReused } else { AcceptError::Duplicate { next: end } });
                }
                if self.closed.contains(stream) {
                    return Err(AcceptError::Closed);
                }
                if self.ended.contains(stream) {
                    return Err(AcceptError::Duplicate { next: seq.saturating_add(1) });
                }
                (0, 0)
            }
        };
        if seq < wanted {
            Err(AcceptError::Duplicate { next: wanted })
        } else if seq > wanted && !gaps {
            Err(AcceptError::Ahead { next: wanted })
        } else {
            Ok(Next { wanted, skip: if seq == wanted { skip } else { 0 } })
        }
    }

    /// What to make of a `settled`: the message right behind the end of a stream that was received whole.
    pub(super) fn settled(&self, stream: u32, salt: [u8; 4], seq: u32) -> AcceptError {
        match self.recent.iter().find(|(number, ..)| *number == stream) {
            Some(&(_, ours, end)) if (ours, end) != (salt, seq) => AcceptError::StreamReused,
            None if self.closed.contains(stream) => AcceptError::Closed,
            None if !self.ended.contains(stream) => AcceptError::Ahead { next: self.wanted(stream).unwrap_or(0) },
            _ => AcceptError::Settled,
        }
    }

    /// Takes over a mark of this session, whatever was known of the stream before; returns the numbers of streams of which
    /// nothing came, if some are given up for it.
    pub fn apply(&mut self, mark: &Progress) -> Option<(u32, u32)> {
        let Progress { stream: StreamId { number: stream, .. }, salt, next, skip, place } = *mark;
        match place {
            StreamState::Open => {
                self.touches += 1;
                self.forget(stream);
                self.open.insert(stream, Open { salt, next, skip, touched: self.touches });
                self.idle.insert(self.touches, stream);
                None
            }
            StreamState::Ended => {
                self.forget(stream);
                self.remember_ended(stream, salt, next);
                self.end(stream, stream)
            }
            StreamState::Closed => {
                self.forget(stream);
                self.close(stream, stream);
                None
            }
        }
    }

    fn forget(&mut self, stream: u32) {
        if let Some(open) = self.open.remove(&stream) {
            self.idle.remove(&open.touched);
        }
    }

    /// The mark that closes the longest idle stream, where there is no room for another than `stream`.
    pub(super) fn close_for(&self, session: SessionId, stream: u32) -> Option<Progress> {
        if self.open.len() < MAX_OPEN || self.open.contains_key(&stream) {
            return None;
        }
        self.idle.values().next().map(|&idle| self.close_at(session, idle))
    }

    /// The mark that closes a stream where it is, whether or not anything of it came.
    pub(super) fn close_at(&self, session: SessionId, stream: u32) -> Progress {
        let known = self.open.get(&stream).map(|open| (open.salt, open.next, open.skip));
        let (salt, next, skip) = known.unwrap_or_default();
        Progress { stream: StreamId { session, number: stream }, salt, next, skip, place: StreamState::Closed }
    }

    /// Whether nothing more is accepted of a stream: it ended, or was given up.
    #[must_use]
    pub fn is_over(&self, stream: u32) -> bool {
        self.ended.contains(stream) || self.closed.contains(stream)
    }

    /// The streams of which more is to come, longest idle first, as marks of `session`.
    #[must_use]
    pub fn open(&self, session: SessionId) -> Vec<Progress> {
        let mark = |&stream| Progress { place: StreamState::Open, ..self.close_at(session, stream) };
        self.idle.values().map(mark).collect()
    }

    /// The numbers of streams that ended.
    #[must_use]
    pub fn ended(&self) -> &Ranges {
        &self.ended
    }

    /// The numbers of streams that were closed to make room, or given up.
    #[must_use]
    pub fn closed(&self) -> &Ranges {
        &self.closed
    }

    /// What to confirm of a stream: the next seq that is wanted, if that much is known of it.
    #[must_use]
    pub fn wanted(&self, stream: u32) -> Option<u32> {
        let ended = || self.recent.iter().find(|(number, ..)| *number == stream).map(|&(.., end)| end);
        self.open.get(&stream).map(|open| open.next).or_else(ended)
    }

    /// The number after the highest of which anything came or is known; 0 if nothing ever came.
    #[must_use]
    pub fn known_end(&self) -> u32 {
        let highest = self.ended.last().max(self.closed.last()).max(self.open.keys().copied().max());
        highest.map_or(0, |highest| highest.saturating_add(1))
    }

    /// Numbers below the highest of which nothing came.
    #[must_use]
    pub fn missing(&self) -> Ranges {
        let mut seen = self.ended.clone();
        for (first, last) in self.closed.iter().chain(self.open.keys().map(|&stream| (stream, stream))) {
            seen.insert(first, last);
        }
        seen.missing_below(seen.last().unwrap_or(0))
    }

    /// Numbers below `end` whose streams are not complete: open, closed, or of which nothing came.
    #[must_use]
    pub fn outstanding(&self, end: u32) -> Ranges {
        let mut outstanding = self.ended.missing_below(end);
        for (first, last) in self.closed.iter().filter(|&(first, _)| first < end) {
            outstanding.insert(first, last.min(end - 1));
        }
        outstanding
    }

    /// True if nothing ever came.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.closed.is_empty()
    }

    /// True if every stream that is known of is over: none is open and none is missing.
    #[must_use]
    pub fn are_over(&self) -> bool {
        self.open.is_empty() && self.missing().is_empty()
    }

    /// The streams that ended last, oldest first: number, salt, and the seq after the last.
    pub fn recent(&self) -> impl Iterator<Item = (u32, [u8; 4], u32)> {
        self.recent.iter().copied()
    }

    /// Restores one of [`Streams::recent`].
    pub fn remember_ended(&mut self, stream: u32, salt: [u8; 4], end: u32) {
        self.recent.retain(|(number, ..)| *number != stream);
        self.recent.push_back((stream, salt, end));
        if self.recent.len() > MAX_RECENT {
            self.recent.pop_front();
        }
    }

    /// Restores ended numbers; returns as [`Streams::apply`].
    pub fn end(&mut self, first: u32, last: u32) -> Option<(u32, u32)> {
        self.ended.insert(first, last);
        let mut given_up = None;
        // An authentic peer that skips every second number must not fill our memory.
        while self.ended.0.len() > MAX_RANGES
            && let Some((first, last)) = self.ended.first_hole()
        {
            self.ended.insert(first, last);
            self.close(first, last);
            if self.open.range(first..=last).count() as u64 <= u64::from(last - first) {
                given_up = Some((first, last));
            }
        }
        given_up
    }

    /// Restores closed numbers.
    pub fn close(&mut self, first: u32, last: u32) {
        self.closed.insert(first, last);
        while self.closed.0.len() > MAX_RANGES
            && let Some((first, last)) = self.closed.first_hole()
        {
            self.closed.insert(first, last);
        }
    }
}
