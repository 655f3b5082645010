//! Why a run ends before everything is delivered.

use crate::{Error, Exit};

/// Why a run ends before everything is delivered.
#[derive(Debug)]
pub(super) enum SendFailure {
    /// It gives up. The error says how much is not delivered.
    GivenUp(Error),
    /// It cannot continue, for this reason.
    Interrupted(Error),
}

impl From<Error> for SendFailure {
    fn from(cause: Error) -> Self {
        Self::Interrupted(cause)
    }
}

/// What the loop does, and why it ends where that fails.
pub(super) type RunResult<T> = std::result::Result<T, SendFailure>;

/// The messages in a spool are to be cut into smaller ones, and the disk has no space for that.
pub(super) fn cannot_recut() -> Error {
    Error::new(Exit::TryAgain, "cannot cut the messages in the spool into smaller messages")
        .because("the disk is full")
        .hint("make room on the disk, or set max_message to the value that it had when the spool was filled")
}
