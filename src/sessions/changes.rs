//! What a run does of its sessions while it has nothing else to do.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use crate::Result;

/// The streams of a run, whose sessions may come and go while nothing is sent and nothing comes: the keys of one that was deleted
/// do not stay in memory until then. Without sessions there is nothing to do.
pub(crate) trait SessionChanges {
    /// Follows what became of the sessions, where the kernel says that one may have come or gone.
    ///
    /// # Errors
    /// As [`super::LinkSessions::refresh`].
    fn follow_changes(&mut self, _now: Instant) -> Result<()> {
        Ok(())
    }

    /// What is readable when [`SessionChanges::follow_changes`] is to be called; `None` before [`SessionChanges::next_look`].
    fn changes_fd(&self, _now: Instant) -> Option<BorrowedFd<'_>> {
        None
    }

    /// When [`SessionChanges::follow_changes`] is to be called next, if it is not time for that.
    fn next_look(&self, _now: Instant) -> Option<Instant> {
        None
    }
}
