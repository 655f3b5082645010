//! Why a run ends before everything is delivered.

use crate::Error;

/// Why a run ends before everything is delivered.
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
