//! What is remembered of a stream that this device sent, and how it ended.

use std::fmt::Write as _;

use super::field_text::{hex, unhex};
use crate::crypto::key_tree::Salt;
use crate::session::SessionId;
use crate::stream::{Continues, EndedStream, Origin, StreamId};

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

/// Appends what a stream continues, each part after a colon: session, number and salt of the origin, and the position. Nothing
/// if it continues none.
pub(super) fn put_continues(text: &mut String, continues: Option<Continues>) {
    if let Some(Continues { origin: Origin { stream, salt }, position }) = continues {
        // Writing to a String does not fail.
        let _ = write!(text, ":{}:{}:{}:{position}", hex(&stream.session), stream.number, hex(&salt));
    }
}

/// Reads what [`put_continues`] appended, from the parts between the colons; `None` if it is malformed.
#[expect(clippy::option_option, reason = "the outer one is for what is malformed")]
pub(super) fn parse_continues<'a>(parts: &mut impl Iterator<Item = &'a str>) -> Option<Option<Continues>> {
    let Some(session) = parts.next() else { return Some(None) };
    let stream = StreamId { session: unhex(session)?, number: parts.next()?.parse().ok()? };
    let origin = Origin { stream, salt: unhex(parts.next()?)? };
    Some(Some(Continues { origin, position: parts.next()?.parse().ok()? }))
}
