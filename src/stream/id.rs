//! Which stream is meant.

use crate::crypto::key_tree::Salt;
use crate::session::SessionId;

/// Stream numbers from here on are those of confirms, counted apart: a lost confirm is not lost data, so a receiver
/// looks for no missing numbers among them, and keeps nothing of them.
pub(crate) const FIRST_SIDE_STREAM: u32 = 1 << 31;

/// Names a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StreamId {
    /// The session that its messages are sealed under.
    pub(crate) session: SessionId,
    /// Its number there.
    pub(crate) number: u32,
}

impl StreamId {
    /// Whether its messages are confirms, and nothing else.
    #[must_use]
    pub(crate) fn is_side_stream(&self) -> bool {
        self.number >= FIRST_SIDE_STREAM
    }
}

/// The stream in which a sequence began. Two copies of a device take the same number, but not the same salt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Origin {
    /// Which one.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
}
