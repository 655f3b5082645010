//! A spool from which another run sends: input goes into it all the same, in the order in which it arrives.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::intake::{Intake, LOCK_RETRY_INTERVAL};
use crate::event_loop::{EventLoop, STOP_TIMEOUT, Stop};
use crate::spool::{Inlet, Opening, Owner, RecordStore, Spool, SpoolOptions};
use crate::text::{count, show};
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
    let mut opening = Opening::new(spool, owner);
    let mut inlet: Option<Inlet> = None;
    let mut limits = Limits { timeout, blocked_since: None, stopping_since: None };
    loop {
        let now = events.begin_turn();
        if let Some(opened) = opening.attempt()? {
            return Ok(opened);
        }
        if inlet.is_none() {
            inlet = Inlet::open(spool, owner)?;
        }
        let stop = events.stop_requested();
        if let Some(inlet) = &mut inlet {
            match stop {
                Stop::No => intake.read(inlet, now)?,
                Stop::Gracefully | Stop::AtOnce => intake.stop(inlet, now)?,
            }
            if intake.is_done() {
                // The run that sends looks for what was appended before it lets another one send: it has this in view.
                match opening.attempt()? {
                    Some(opened) => return Ok(opened),
                    None if opening.is_sender() => {}
                    None => return Err(left_to_another(inlet)),
                }
            }
        }
        let blocked = inlet.is_none() || intake.is_blocked() || opening.is_sender();
        if let Some(what) = limits.expired(blocked, stop, now) {
            return Err(not_written(intake, what));
        }
        let input = inlet.as_ref().and_then(|inlet| intake.fd(inlet)).map(|fd| (fd, PollFlags::IN));
        let interval = if opening.is_sender() { LOCK_RETRY_INTERVAL } else { SENDER_CHECK_INTERVAL };
        let deadline = intake.deadline(now).unwrap_or(now + interval);
        events.wait(input, Some(deadline), now)?;
    }
}

/// How long a run waits until it can write.
struct Limits {
    /// `--timeout`.
    timeout: Option<Duration>,
    blocked_since: Option<Instant>,
    stopping_since: Option<Instant>,
}

impl Limits {
    /// Why the run must end now, if it must.
    fn expired(&mut self, blocked: bool, stop: Stop, now: Instant) -> Option<&'static str> {
        self.blocked_since = blocked.then(|| self.blocked_since.unwrap_or(now));
        if stop > Stop::No {
            self.stopping_since.get_or_insert(now);
        }
        let passed = |since: Option<Instant>, timeout: Duration| since.is_some_and(|since| now >= since + timeout);
        if stop == Stop::AtOnce || passed(self.stopping_since, STOP_TIMEOUT) {
            return Some("stopped by a signal");
        }
        self.timeout.filter(|timeout| passed(self.blocked_since, *timeout)).map(|_| "timed out")
    }
}

/// Nothing is lost, and nothing is known to be delivered.
fn left_to_another(inlet: &Inlet) -> Error {
    Error::new(Exit::TryAgain, "all input is in the spool, and not delivered yet")
        .because(format!("another sts-send sends from {}", show(inlet.path())))
        .deferred()
}

/// The error of ending before all input is in the spool.
pub(super) fn not_written(intake: &Intake<'_>, what: &str) -> Error {
    if intake.unwritten() == 0 {
        return Error::new(Exit::TryAgain, what).because(format!("{}; nothing was lost", intake.obstacle()));
    }
    let lost = count(intake.unwritten(), "byte");
    let obstacle = intake.obstacle();
    Error::new(Exit::DataLost, what).because(format!("not written to the spool because {obstacle}: {lost}"))
}
