//! A spool from which another run sends: input goes into it all the same, in the order in which it arrives.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use super::failure::{RunResult, SendFailure};
use super::intake::{Intake, LOCK_RETRY_INTERVAL};
use super::waiting::{self, Blocker};
use crate::error::Lack;
use crate::event_loop::EventLoop;
use crate::spool::{Inlet, Opening, Owner, RecordStore, Spool, SpoolOptions};
use crate::text::show;
use crate::{Error, Exit, Result};

/// How often to look whether the other run has ended.
const SENDER_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Opens a spool to send from it. As long as another run does that, input is only written to it. Returns what
/// [`Opening::attempt`] does.
///
/// # Errors
/// [`Exit::TryAgain`] once all input is in the spool and another run sends it; [`Exit::DataLost`] where a signal or
/// `timeout` ends the run before; otherwise as [`Opening::attempt`].
pub(super) fn open(
    intake: &mut Intake<'_>,
    spool: &SpoolOptions,
    owner: Owner<'_>,
    timeout: Option<Duration>,
    events: &mut EventLoop<'_>,
) -> Result<(Spool, u64)> {
    let mut busy = BusySpool { intake, spool, opening: Opening::new(spool, owner), inlet: None };
    match waiting::wait(&mut busy, timeout, events) {
        Ok(opened) => Ok(opened),
        Err(SendFailure::GivenUp(error)) => Err(error),
        Err(SendFailure::Interrupted(cause)) => Err(busy.interrupted(cause)),
    }
}

/// A spool from which another run sends, or for which the disk has no room.
struct BusySpool<'a, 'i> {
    intake: &'a mut Intake<'i>,
    spool: &'a SpoolOptions,
    opening: Opening<'a>,
    /// Where input goes, once the other run has made the spool.
    inlet: Option<Inlet>,
}

impl BusySpool<'_, '_> {
    /// The error of ending for this cause, which says what is not in the spool.
    fn interrupted(mut self, cause: Error) -> Error {
        if self.intake.unwritten() == 0 {
            return cause;
        }
        // The cause counts: what cannot be kept is counted as lost.
        let _ = self.keep_input(true, Instant::now());
        if self.intake.unwritten() == 0 {
            return cause.and_because("what was read is in the spool");
        }
        let hint = cause.hint_text().map(str::to_owned);
        self.intake.not_written(&cause.to_string()).hint_if(hint)
    }
}

impl Blocker for BusySpool<'_, '_> {
    type Gained = (Spool, u64);

    fn look(&mut self, now: Instant) -> RunResult<Option<(Spool, u64)>> {
        let opened = match self.opening.attempt() {
            Err(error) if error.lack() == Some(Lack::Disk) => {
                self.intake.no_room_for_spool(&self.spool.dir, now);
                return Ok(None);
            }
            opened => opened?,
        };
        self.intake.spool_found();
        Ok(opened)
    }

    fn keep_input(&mut self, stopping: bool, now: Instant) -> Result<()> {
        if self.inlet.is_none() && !self.intake.is_blocked() {
            self.inlet = self.opening.inlet()?;
        }
        match &mut self.inlet {
            None => Ok(()),
            Some(inlet) if stopping => self.intake.stop(inlet, now),
            Some(inlet) => self.intake.read(inlet, now),
        }
    }

    fn left(&self) -> Option<Error> {
        // The run that is to send leaves nothing to another one.
        let inlet = self.inlet.as_ref().filter(|_| self.intake.is_done() && !self.opening.is_sender())?;
        // Nothing is lost, and nothing is known to be delivered.
        let error = Error::new(Exit::TryAgain, "all input is in the spool, but not delivered yet")
            .because(format!("another sts-send is sending from {}", show(inlet.path())));
        Some(error.deferred())
    }

    fn awaits_delivery(&self) -> bool {
        self.inlet.is_none() || self.intake.is_blocked() || self.opening.is_sender()
    }

    fn given_up(&self, what: &str) -> Error {
        self.intake.not_written(what)
    }

    fn input_fd(&self) -> Option<BorrowedFd<'_>> {
        self.inlet.as_ref().and_then(|inlet| self.intake.fd(inlet))
    }

    fn deadline(&self, now: Instant) -> Instant {
        let interval = if self.opening.is_sender() { LOCK_RETRY_INTERVAL } else { SENDER_CHECK_INTERVAL };
        self.intake.deadline(now).unwrap_or(now + interval)
    }
}
