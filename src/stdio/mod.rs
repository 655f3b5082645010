//! The local ends of a tool: standard input, standard output, signals, and the one wait for all of them.
//!
//! Neither standard stream is ever set non-blocking: the flag belongs to the open file, which other programs share. They
//! are read and written only when poll(2) says so, and never by more than then goes through without blocking.

mod input;
mod output;
mod signals;
mod split;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::{Error, Exit, Result};

pub use input::Input;
pub(crate) use output::{Output, Written};
pub use signals::Signals;
pub use split::Split;

/// How many lines end in these bytes.
fn line_ends(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Whether something can be read now without waiting.
pub(crate) fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    poll(&mut fds, Some(&Timespec::default())).is_ok() && !fds[0].revents().is_empty()
}

/// Waits until one of `fds` is ready, `deadline` has passed, or a signal came; with neither ready nor deadline, for ever.
///
/// # Errors
/// [`Exit::Failed`] if the system cannot wait, which is a lack of memory.
pub fn wait(fds: &mut [PollFd<'_>], deadline: Option<Instant>, now: Instant) -> Result<()> {
    // To the nanosecond, and poll never returns early: the deadline has passed when it returns for that. A time that the
    // system cannot count is for ever.
    let timeout = deadline.and_then(|deadline| Timespec::try_from(deadline.saturating_duration_since(now)).ok());
    match poll(fds, timeout.as_ref()) {
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(errno) => Err(Error::new(Exit::Failed, "cannot wait for input").because(errno)),
    }
}
