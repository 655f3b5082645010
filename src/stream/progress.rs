//! How far a stream was received, and what of it was lost.

use std::fmt;

use super::id::{Origin, StreamId};
use crate::crypto::key_tree::Salt;
use crate::text::{is_or_are, numbered};

/// Messages of one stream that were lost: every seq from `first` to `last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Gap {
    /// In which stream.
    pub(crate) stream: StreamId,
    /// The first seq that is missing.
    pub(crate) first: u32,
    /// The last one.
    pub(crate) last: u32,
}

impl Gap {
    /// How many messages.
    #[must_use]
    pub(crate) fn messages(&self) -> u64 {
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

/// Where a stream is in its sequence: what streams that continue each other carry, as if they were one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Sequence {
    /// The stream that began it.
    pub(crate) origin: Origin,
    /// The position that is wanted next.
    pub(crate) position: u64,
}

/// Where a stream begins that the last message of the one before it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announced {
    /// At this position of a sequence.
    Placed(Sequence),
    /// After a stream that is over, and of which it is not known where in its sequence it was.
    Unplaced,
}

impl Sequence {
    /// That of a stream that continues none, where `next` is the next seq that is wanted.
    #[must_use]
    pub(crate) fn of_origin(origin: Origin, next: u32) -> Self {
        Self { origin, position: next.into() }
    }
}

/// Whether more of a stream is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum StreamState {
    /// More is to come.
    Open,
    /// Its end was received: nothing more comes.
    Ended,
    /// Given up before its end: nothing more is accepted.
    Closed,
    /// Given up before its end, and what is missing is carried by another stream, or was reported: nothing more of it is accepted,
    /// or missed.
    Superseded,
}

/// How far a stream was received: what to write down once stdout took the bytes, and before PUBACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Progress {
    /// Which stream.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
    /// The next seq that is wanted.
    pub(crate) next: u32,
    /// How many bytes of data of that next message were written already.
    pub(crate) skip: u32,
    /// Its sender wants to know what was written.
    pub(crate) wants_confirms: bool,
    /// Open, ended or closed.
    pub(crate) state: StreamState,
    /// Where its sequence is.
    pub(crate) sequence: Sequence,
}

impl Progress {
    /// The progress where only the first `skip` bytes of data of the message were written: it is wanted once more.
    #[must_use]
    pub(crate) fn partly(self, skip: u32) -> Self {
        let Sequence { origin, position } = self.sequence;
        let sequence = Sequence { origin, position: position.saturating_sub(1) };
        Self { next: self.next.saturating_sub(1), skip, state: StreamState::Open, sequence, ..self }
    }
}
