//! Limits on how much a run sends per time, of whatever is counted: each kind is a variant of [`RateLimit`], and nothing
//! outside of this file knows which there are. What holds for all of them, and which messages wait and count, is at the head of
//! `gate.rs`.
//!
//! A limit decides when the next message leaves, not how long it is: that is decided before, in `cutter.rs`, and a record of a
//! spool keeps its length. So a message is let through whole, also one that is more than all of an interval, and what it has too
//! much delays the next one. A limit on bytes or lines that is to hold in each interval needs shorter messages as well.

use std::time::Instant;

use crate::pace::Pace;

/// One limit of a run.
pub(super) enum RateLimit {
    /// Of messages. Without `--each` and without a spool, the lines that wait share one message; with a spool, each piece that
    /// was read is one. With `--each`, a line that is longer than a message is several.
    Messages(Pace),
}

impl RateLimit {
    /// Sets the time.
    pub(super) fn advance(&mut self, now: Instant) {
        match self {
            Self::Messages(pace) => pace.advance(now),
        }
    }

    /// A message leaves, whether or not it had to wait. A kind that counts bytes or lines needs more than the time:
    /// [`Gate::pass`](super::gate::Gate::pass), the only caller, has the message.
    pub(super) fn count(&mut self, now: Instant) {
        match self {
            Self::Messages(pace) => pace.sent(now),
        }
    }

    /// When the next message may leave, as of the last [`RateLimit::advance`]; `None` if it may now.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        match self {
            Self::Messages(pace) => pace.resumes_at(),
        }
    }
}
