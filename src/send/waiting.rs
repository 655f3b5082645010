//! A run that cannot send yet: it keeps its input, and waits for what it lacks.
//!
//! Only a run with a spool waits so, since only that keeps input. It may lack two things, one after the other, and each is an
//! [`Blocker`]: the spool, while another run sends from it (`busy_spool`), and a session (`first_session`). The client stays
//! idle meanwhile.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::failure::{RunResult, SendFailure};
use super::timeouts::Timeouts;
use crate::event_loop::{EventLoop, Stop};
use crate::{Error, Result};

/// What keeps a run from sending, and where its input goes meanwhile.
pub(super) trait Blocker {
    /// What the run has once the blocker is gone.
    type Gained;

    /// Looks whether the blocker is gone.
    ///
    /// # Errors
    /// [`SendFailure::Interrupted`] where waiting is of no use.
    fn look(&mut self, now: Instant) -> RunResult<Option<Self::Gained>>;

    /// Another process has something for this one.
    fn woken(&mut self) -> Result<()> {
        Ok(())
    }

    /// Reads what there is to read, and puts it where it is kept; `stopping` makes that the end of the input.
    fn keep_input(&mut self, stopping: bool, now: Instant) -> Result<()>;

    /// The error of a run that has nothing more to wait for, as all of its input is kept; `None` where it must wait on.
    fn left(&self) -> Option<Error>;

    /// Whether something waits that only this run can take further: timeouts count for that only.
    fn awaits_delivery(&self) -> bool;

    /// The error of ending now for this reason, which says what is kept.
    fn given_up(&self, what: &str) -> Error;

    /// The run is about to wait, for the first time or once more.
    fn waits(&mut self, _now: Instant) {}

    /// What to poll for input, if more of it can be kept.
    fn input_fd(&self) -> Option<BorrowedFd<'_>>;

    /// When to look again, if nothing happens before.
    fn deadline(&self, now: Instant) -> Instant;
}

/// Waits until the blocker is gone; returns what the run then has.
///
/// # Errors
/// [`SendFailure::GivenUp`] once all input is kept, or where a signal or `timeout` ends the run before the blocker is gone;
/// otherwise as [`Blocker::look`] and [`Blocker::keep_input`].
pub(super) fn wait<O: Blocker>(
    blocker: &mut O,
    timeout: Option<Duration>,
    events: &mut EventLoop<'_>,
) -> RunResult<O::Gained> {
    let mut timeouts = Timeouts::new(timeout, false);
    loop {
        let now = events.begin_turn();
        if let Some(gained) = blocker.look(now)? {
            return Ok(gained);
        }
        if events.was_woken() {
            blocker.woken()?;
        }
        let stop = events.stop_requested();
        blocker.keep_input(stop > Stop::No, now)?;
        if blocker.left().is_some() {
            // The blocker may have gone while this was read. If it has not now, the run that sends has seen all of it.
            if let Some(gained) = blocker.look(now)? {
                return Ok(gained);
            }
            if let Some(left) = blocker.left() {
                return Err(SendFailure::GivenUp(left));
            }
        }
        timeouts.observe(blocker.awaits_delivery(), blocker.input_fd().is_some(), now);
        if let Some((_, what)) = timeouts.ended(stop, now) {
            blocker.keep_input(true, now)?;
            return Err(SendFailure::GivenUp(blocker.given_up(what)));
        }
        blocker.waits(now);
        let input = blocker.input_fd().map(|fd| (fd, PollFlags::IN));
        events.wait(input, Some(blocker.deadline(now)), now)?;
    }
}
