//! A spool from which another run sends: input goes into it all the same, in the order in which it arrives.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::intake::{Intake, LOCK_RETRY_INTERVAL};
use super::run::{Failure, Outcome};
use super::timeouts::Timeouts;
use crate::event_loop::{EventLoop, Stop};
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
    let mut inlet = None;
    let failure = match wait(intake, &mut inlet, spool, owner, timeout, events) {
        Ok(opened) => return Ok(opened),
        Err(failure) => failure,
    };
    let cause = match failure {
        Failure::GivenUp(error) => return Err(error),
        Failure::Interrupted(cause) if intake.unwritten() == 0 => return Err(cause),
        Failure::Interrupted(cause) => cause,
    };
    // The cause counts: what cannot be kept is counted as lost.
    if let Some(inlet) = &mut inlet {
        let _ = intake.stop(inlet, Instant::now());
    }
    if intake.unwritten() == 0 {
        return Err(cause.and_because("what was read is in the spool"));
    }
    let hint = cause.hint_text().map(str::to_owned);
    Err(intake.not_written(&cause.to_string()).hint_if(hint))
}

fn wait(
    intake: &mut Intake<'_>,
    inlet: &mut Option<Inlet>,
    spool: &SpoolOptions,
    owner: Owner<'_>,
    timeout: Option<Duration>,
    events: &mut EventLoop<'_>,
) -> Outcome<(Spool, u64)> {
    let mut opening = Opening::new(spool, owner);
    let mut timeouts = Timeouts::new(timeout, false);
    loop {
        let now = events.begin_turn();
        if let Some(opened) = attempt(&mut opening, intake, &spool.dir, now)? {
            return Ok(opened);
        }
        if inlet.is_none() && !intake.is_blocked() {
            *inlet = opening.inlet()?;
        }
        let stop = events.stop_requested();
        if let Some(inlet) = inlet {
            match stop {
                Stop::No => intake.read(inlet, now)?,
                Stop::Gracefully | Stop::AtOnce => intake.stop(inlet, now)?,
            }
            if intake.is_done() {
                // The run that sends looks for what was appended before it lets another one send: it has this in view.
                match attempt(&mut opening, intake, &spool.dir, now)? {
                    Some(opened) => return Ok(opened),
                    None if opening.is_sender() => {}
                    None => return Err(Failure::GivenUp(left_to_another(inlet))),
                }
            }
        }
        timeouts.observe(inlet.is_none() || intake.is_blocked() || opening.is_sender(), now);
        if let Some((_, what)) = timeouts.ended(stop, now) {
            if let Some(inlet) = inlet {
                intake.stop(inlet, now)?;
            }
            return Err(Failure::GivenUp(intake.not_written(what)));
        }
        let interval = if opening.is_sender() { LOCK_RETRY_INTERVAL } else { SENDER_CHECK_INTERVAL };
        wait_for_input(intake, inlet.as_ref(), interval, events, now)?;
    }
}

/// Waits for input that can be read, for `interval` or until it is to be written again.
fn wait_for_input(
    intake: &Intake<'_>,
    inlet: Option<&Inlet>,
    interval: Duration,
    events: &mut EventLoop<'_>,
    now: Instant,
) -> Result<()> {
    let input = inlet.and_then(|inlet| intake.fd(inlet)).map(|fd| (fd, PollFlags::IN));
    let deadline = intake.deadline(now).unwrap_or(now + interval);
    events.wait(input, Some(deadline), now)
}

/// As [`Opening::attempt`]; `None` also where the disk has no room for the spool.
fn attempt(
    opening: &mut Opening<'_>,
    intake: &mut Intake<'_>,
    dir: &Path,
    now: Instant,
) -> Result<Option<(Spool, u64)>> {
    let opened = match opening.attempt() {
        Err(error) if error.is_of_full_disk() => {
            intake.no_room_for_spool(dir, now);
            return Ok(None);
        }
        opened => opened?,
    };
    intake.spool_found();
    Ok(opened)
}

/// Nothing is lost, and nothing is known to be delivered.
fn left_to_another(inlet: &Inlet) -> Error {
    Error::new(Exit::TryAgain, "all input is in the spool, but not delivered yet")
        .because(format!("another sts-send is sending from {}", show(inlet.path())))
        .deferred()
}
