//! Which stream is meant.

use crate::session::SessionId;

/// Stream numbers from here on are those of confirms, counted apart: a lost confirm is not lost data, so a receiver
/// looks for no missing numbers among them, and keeps nothing of them.
pub(crate) const FIRST_CONFIRM_STREAM: u32 = 1 << 31;

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
    pub(crate) fn is_of_confirms(&self) -> bool {
        self.number >= FIRST_CONFIRM_STREAM
    }
}
