//! What is remembered of a stream that this device sent, and how it ended.

use crate::crypto::key_tree::Salt;
use crate::session::SessionId;
use crate::stream::{Continues, EndedStream, StreamId};

/// A stream of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatestStream {
    /// Its number.
    pub(crate) number: u32,
    /// Its salt.
    pub(crate) salt: Salt,
    /// How it ended, once the run that sent it is over.
    pub(crate) end: Option<StreamEnd>,
    /// How often the peer was told what is known now.
    pub(crate) told: u8,
}

impl LatestStream {
    /// What a peer is told of it.
    pub(super) fn ended(&self, session: SessionId) -> EndedStream {
        let (count, continues) = (self.end.map(|end| end.count), self.end.and_then(|end| end.continues));
        EndedStream { stream: StreamId { session, number: self.number }, salt: self.salt, count, continues }
    }
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// How many positions of its sequence it carried.
    pub(crate) count: u32,
    /// What it continued.
    pub(crate) continues: Option<Continues>,
}

/// What is known of a stream once the run that sent it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndOfStream {
    /// Which one.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
    /// `None` if its peer need not be told, as it has confirmed all of it or lost the session.
    pub(crate) end: Option<StreamEnd>,
}
