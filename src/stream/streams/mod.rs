//! What a receiver remembers of one session's streams: enough to tell the next message from a repeated one.

mod kept;
mod left;
mod numbers;
mod open;
mod refusal;
mod told;

use std::collections::VecDeque;

pub(crate) use self::kept::KeptStream;
pub(crate) use self::left::LeftStream;
#[cfg(test)]
pub(super) use self::numbers::MAX_RANGES;
use self::open::{OpenStreams, StreamProgress};
pub(crate) use self::refusal::{AcceptError, HeaderClaim};
pub(crate) use self::told::ToldEnd;
use self::told::ToldEnds;
use super::id::{Origin, StreamId};
use super::progress::{Progress, Sequence, StreamState};
use super::ranges::Ranges;
use crate::crypto::key_tree::Salt;
use crate::session::SessionId;

/// Most streams of a session that are open at once; past that, the longest idle is closed.
pub(super) const MAX_OPEN_STREAMS: usize = 1024;
/// How many of the streams that ended last are remembered with their salts, to notice a number used twice, and to
/// confirm again; so many of those that ask for confirms, and so many of the others.
const MAX_RECENT_STREAMS: usize = 16;

/// A stream that ended, with what tells its messages from those of another that took its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecentStream {
    /// Its number.
    pub(crate) number: u32,
    /// Its salt.
    pub(crate) salt: Salt,
    /// The seq after its last.
    pub(crate) end: u32,
    /// Its sender wants to know what was written.
    pub(crate) wants_confirms: bool,
    /// Where its sequence goes on.
    pub(crate) sequence: Sequence,
}

/// The streams of one session, as far as they were received.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    open: OpenStreams,
    /// The streams that ended last, oldest first.
    recent: VecDeque<RecentStream>,
    ended: Ranges,
    closed: Ranges,
    /// The streams that were closed last, before their end; oldest first.
    left: VecDeque<LeftStream>,
    /// The newest stream of which the broker keeps messages.
    kept: Option<KeptStream>,
    told: ToldEnds,
    /// Two devices of the peer use the session.
    is_copied: bool,
}

/// Equal if they take every message alike: of how often each was touched, only the order counts, and what was told of ends
/// is for the next run.
impl PartialEq for Streams {
    fn eq(&self, other: &Self) -> bool {
        let known = |streams: &Self| (streams.open([0; 8]), streams.recent.clone());
        let over = |streams: &Self| (streams.ended.clone(), streams.closed.clone(), streams.left.clone(), streams.kept);
        let wills = |streams: &Self| streams.wills().collect::<Vec<_>>();
        self.is_copied == other.is_copied
            && wills(self) == wills(other)
            && known(self) == known(other)
            && over(self) == over(other)
    }
}

impl Eq for Streams {}

/// What was wanted of a stream when a message came that is the next one, or later where gaps are allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The seq: lower than the message's if there is a gap.
    pub(super) seq: u32,
    /// How many of the message's bytes of data were written before.
    pub(super) skip: u32,
}

impl Streams {
    /// Whether a message is new, and what is missing before it. A stream without gaps refuses one that is too early.
    pub(super) fn check(&self, stream: u32, salt: Salt, seq: u32, gaps: bool) -> Result<Wanted, AcceptError> {
        let wanted = self.wanted(stream, salt, seq)?;
        if seq < wanted.seq {
            Err(AcceptError::Duplicate { next: wanted.seq })
        } else if seq > wanted.seq && !gaps {
            Err(AcceptError::Ahead { next: wanted.seq })
        } else {
            Ok(wanted)
        }
    }

    /// What is wanted of a stream, if a message may be of it.
    pub(super) fn wanted(&self, stream: u32, salt: Salt, seq: u32) -> Result<Wanted, AcceptError> {
        let (wanted, skip) = match self.open.get(stream) {
            Some(open) if open.salt != salt => return Err(AcceptError::StreamReused),
            Some(open) => (open.next, open.skip),
            None => self.check_begins(stream, salt, seq).map(|()| (0, 0))?,
        };
        Ok(Wanted { seq: wanted, skip: if seq == wanted { skip } else { 0 } })
    }

    /// Whether a stream that is not open may begin with a message.
    fn check_begins(&self, stream: u32, salt: Salt, seq: u32) -> Result<(), AcceptError> {
        if let Some(recent) = self.recent(stream) {
            // A sender seals no more after the end: one that did has used the number a second time.
            let reused = recent.salt != salt || seq >= recent.end;
            return Err(if reused { AcceptError::StreamReused } else { AcceptError::Duplicate { next: recent.end } });
        }
        if self.closed.contains(stream) {
            return Err(AcceptError::Closed);
        }
        if self.ended.contains(stream) {
            return Err(AcceptError::Duplicate { next: seq.saturating_add(1) });
        }
        Ok(())
    }

    /// What to make of a message that does not count in its stream: right after the end of one that was received whole,
    /// its sender has heard of that.
    pub(super) fn check_settled(&self, stream: u32, salt: Salt, seq: u32) -> AcceptError {
        match self.recent(stream) {
            Some(recent) if (recent.salt, recent.end) != (salt, seq) => AcceptError::StreamReused,
            None if self.closed.contains(stream) => AcceptError::Closed,
            None if !self.ended.contains(stream) => AcceptError::Ahead { next: self.next_seq(stream).unwrap_or(0) },
            _ => AcceptError::Settled,
        }
    }

    fn recent(&self, stream: u32) -> Option<&RecentStream> {
        self.recent.iter().find(|recent| recent.number == stream)
    }

    /// Takes over a progress of this session, whatever was known of the stream before; returns the numbers of streams
    /// of which nothing came, if some are given up for it.
    pub(crate) fn apply(&mut self, progress: &Progress) -> Option<(u32, u32)> {
        let Progress { stream: StreamId { number, .. }, salt, next, skip, wants_confirms, state, sequence } = *progress;
        let next_will = self.open.remove(number).map_or(0, |open| open.next_will);
        match state {
            StreamState::Open => {
                self.open.insert(number, StreamProgress { salt, next, skip, wants_confirms, sequence, next_will });
                self.told.received(number, next);
                None
            }
            StreamState::Ended => {
                self.insert_recent(RecentStream { number, salt, end: next, wants_confirms, sequence });
                self.insert_ended(number, number)
            }
            StreamState::Superseded => {
                self.closed.remove(number);
                let given_up = self.insert_ended(number, number);
                self.insert_left(LeftStream { number, salt, sequence, next });
                given_up
            }
            StreamState::Closed => {
                self.insert_closed(number, number);
                self.insert_left(LeftStream { number, salt, sequence, next });
                None
            }
        }
    }

    /// Whether a message of a stream was received, which need not be written: one may be open because of a will.
    pub(super) fn has_begun(&self, stream: u32) -> bool {
        // A message says what its stream continues, or that it continues none; a will does not.
        let is_placed = self.open.get(stream).is_some_and(|open| open.sequence.origin.salt != Salt::default());
        is_placed || self.has_progress(stream)
    }

    /// Whether more is known of an open stream than where it begins.
    pub(super) fn has_progress(&self, stream: u32) -> bool {
        self.open.get(stream).is_some_and(|open| open.next > 0 || open.skip > 0)
    }

    /// Where the sequence of each stream is, as far as that is known, and whether more is to come of the stream.
    pub(super) fn sequences(&self) -> impl Iterator<Item = (u32, Sequence, bool)> {
        let open = self.open.iter().map(|(number, open)| (number, open.sequence, true));
        let over = self.recent.iter().map(|recent| (recent.number, recent.sequence, false));
        open.chain(over).chain(self.left.iter().map(|left| (left.number, left.sequence, false)))
    }

    /// The lowest number of a will of a stream that is accepted.
    #[must_use]
    pub(crate) fn next_will(&self, stream: u32) -> u32 {
        self.open.get(stream).map_or(0, |open| open.next_will)
    }

    /// Notes that a will of an open stream was received; `next` is the lowest number that is accepted from now on.
    pub(crate) fn set_next_will(&mut self, stream: u32, next: u32) {
        if let Some(open) = self.open.get_mut(stream) {
            open.next_will = next;
        }
    }

    /// The open streams of which wills were received, each with its [`Streams::next_will`].
    pub(crate) fn wills(&self) -> impl Iterator<Item = (u32, u32)> {
        self.open.iter().filter(|(_, open)| open.next_will > 0).map(|(number, open)| (number, open.next_will))
    }

    /// The salt of a stream, where it is known.
    pub(super) fn salt(&self, stream: u32) -> Option<Salt> {
        let open = self.open.get(stream).map(|open| open.salt);
        open.or_else(|| self.recent(stream).map(|recent| recent.salt)).or_else(|| self.left_salt(stream))
    }

    /// The progress of a stream that is known, open or not.
    pub(super) fn known(&self, stream: StreamId, salt: Salt) -> Option<Progress> {
        let StreamId { number, .. } = stream;
        let known = if self.has_begun(number) {
            Progress { state: StreamState::Open, ..self.close_at(stream) }
        } else if let Some(RecentStream { salt, end: next, wants_confirms, sequence, .. }) =
            self.recent(number).copied()
        {
            Progress { stream, salt, next, skip: 0, wants_confirms, state: StreamState::Ended, sequence }
        } else {
            let LeftStream { salt, sequence, next, .. } = *self.left.iter().find(|left| left.number == number)?;
            let state = if self.closed.contains(number) { StreamState::Closed } else { StreamState::Superseded };
            Progress { stream, salt, next, skip: 0, wants_confirms: false, state, sequence }
        };
        (known.salt == salt).then_some(known)
    }

    /// The progress that closes the longest idle stream, where there is no room for another than `stream`.
    pub(super) fn close_for(&self, session: SessionId, stream: u32) -> Option<Progress> {
        if self.open.len() < MAX_OPEN_STREAMS || self.open.contains(stream) {
            return None;
        }
        self.open.longest_idle().next().map(|number| self.close_at(StreamId { session, number }))
    }

    /// The progress that closes a stream where it is, or where it was closed, whether or not anything of it came.
    pub(crate) fn close_at(&self, stream: StreamId) -> Progress {
        let state = StreamState::Closed;
        if let Some(open) = self.open.get(stream.number) {
            let StreamProgress { salt, next, skip, wants_confirms, sequence, .. } = *open;
            return Progress { stream, salt, next, skip, wants_confirms, state, sequence };
        }
        let unheard = || LeftStream {
            number: stream.number,
            salt: Salt::default(),
            sequence: Sequence::of_origin(Origin { stream, salt: Salt::default() }, 0),
            next: 0,
        };
        let LeftStream { salt, sequence, next, .. } = self.cut(stream.number).copied().unwrap_or_else(unheard);
        Progress { stream, salt, next, skip: 0, wants_confirms: false, state, sequence }
    }

    /// Whether something of a stream came, and more is to come.
    #[must_use]
    pub(super) fn is_open(&self, stream: u32) -> bool {
        self.open.contains(stream)
    }

    /// Whether nothing more is accepted of a stream: it ended, or was given up.
    #[must_use]
    pub(crate) fn is_over(&self, stream: u32) -> bool {
        self.ended.contains(stream) || self.closed.contains(stream)
    }

    /// The streams of which more is to come, longest idle first, as progress of `session`.
    #[must_use]
    pub(crate) fn open(&self, session: SessionId) -> Vec<Progress> {
        let progress = |number| Progress { state: StreamState::Open, ..self.close_at(StreamId { session, number }) };
        self.open.longest_idle().map(progress).collect()
    }

    /// The number of each stream of which more is to come, its salt, and the seq that is wanted next.
    pub(super) fn open_streams(&self) -> impl Iterator<Item = (u32, Salt, u32)> {
        self.open.iter().map(|(number, open)| (number, open.salt, open.next))
    }

    /// What an unproven message of a stream that is not open, or has another salt, says it is; `None` if nothing is
    /// known of the stream.
    pub(super) fn claim(&self, stream: u32, salt: Salt, seq: u32) -> Option<HeaderClaim> {
        let open = self.open.get(stream).map(|open| open.salt);
        let recent = self.recent(stream);
        match (open, recent) {
            (Some(other), _) if other != salt => Some(HeaderClaim::Copied),
            (Some(_), _) => None,
            (None, Some(recent)) if recent.salt != salt => Some(HeaderClaim::Copied),
            (None, Some(recent)) if seq < recent.end => {
                Some(HeaderClaim::Ended { confirm: recent.wants_confirms.then_some((salt, recent.end)) })
            }
            (None, Some(recent)) if seq > recent.end => None,
            (None, Some(_)) => Some(HeaderClaim::Settled),
            (None, None) => match self.left_salt(stream) {
                Some(left) if left != salt => Some(HeaderClaim::Copied),
                _ if self.closed.contains(stream) => Some(HeaderClaim::Closed),
                Some(_) => Some(HeaderClaim::Ended { confirm: None }),
                // Whoever takes the number again begins with seq 0; a word after the end, and what its sender repeats,
                // may come late.
                None if seq > 0 => self.ended.contains(stream).then_some(HeaderClaim::Ended { confirm: None }),
                None => self.ended.contains(stream).then_some(HeaderClaim::EndedBefore),
            },
        }
    }

    /// Notes that two devices of the peer use the session: what one of them tells need not be true of what the other sent.
    pub(crate) fn mark_copied(&mut self) {
        self.is_copied = true;
    }

    /// Whether two devices of the peer were seen to use the session, by this run or an earlier one.
    #[must_use]
    pub(crate) fn is_copied(&self) -> bool {
        self.is_copied
    }

    /// Whether a stream is one of those that ended last.
    pub(super) fn is_recent(&self, stream: u32) -> bool {
        self.recent(stream).is_some()
    }

    /// What to confirm of a stream: the next seq that is wanted, if that much is known of it.
    #[must_use]
    pub(crate) fn next_seq(&self, stream: u32) -> Option<u32> {
        self.open.get(stream).map(|open| open.next).or_else(|| self.recent(stream).map(|recent| recent.end))
    }

    /// The salt of a stream, and the seq after the last of which anything was written, where that is known.
    pub(super) fn end_of(&self, stream: u32) -> Option<(Salt, u32)> {
        let open = self.open.get(stream).map(|open| (open.salt, open.next.saturating_add(u32::from(open.skip > 0))));
        open.or_else(|| self.recent(stream).map(|recent| (recent.salt, recent.end)))
    }

    /// The streams that ended last, oldest first.
    pub(crate) fn recently_ended(&self) -> impl Iterator<Item = RecentStream> {
        self.recent.iter().copied()
    }

    /// Restores one of [`Streams::recently_ended`].
    pub(crate) fn insert_recent(&mut self, stream: RecentStream) {
        self.recent.retain(|recent| recent.number != stream.number);
        self.recent.push_back(stream);
        // Those that nobody waits for must not push out those whose sender may still ask.
        let is_alike = |recent: &RecentStream| recent.wants_confirms == stream.wants_confirms;
        if self.recent.iter().filter(|recent| is_alike(recent)).count() > MAX_RECENT_STREAMS
            && let Some(oldest) = self.recent.iter().position(is_alike)
        {
            self.recent.remove(oldest);
        }
    }
}
