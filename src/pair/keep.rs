//! `sts-pair --keep`: a master that is always there, so that the peer has a session again soon after it lost it.
//!
//! It works in rounds. Each checks whether the peer still has the session (`sts-protocol(7)`, "Still there"), and
//! agrees on a new one if the peer does not say so, or if the session is old. Between two rounds it replies to the
//! peer's checks, as a service does. If the configuration names several peers (`peer = first, second`), the new one may be
//! with any of them, but not again soon after the last move. While no peer is trusted, it looks every second whether one is.

use std::time::{Duration, Instant};

use super::if_older;
use super::keeper::Round;
use super::run::{PairOutcome, PairRun, Phase, Purpose, tell_paired};
use super::serve::run_service;
use super::service::Duty;
use crate::link::Link;
use crate::report::Reporter;
use crate::sessions::SESSION_CHECK_INTERVAL;
use crate::units::Age;
use crate::{Error, Exit, Result};

/// Time between two rounds: a peer that was switched on again has no session for about as long.
const ROUND_INTERVAL: Duration = Duration::from_secs(10);
/// How long a round may take.
const ROUND_TIMEOUT: Duration = Duration::from_secs(30);

/// Keeps a session alive that is younger than `age`, until SIGINT or SIGTERM; at SIGHUP `open` reads the configuration again.
///
/// # Errors
/// [`Exit::Usage`] for an `age` below [`ROUND_INTERVAL`] and for a slave; otherwise as [`super::serve::run`].
pub fn run(open: impl Fn() -> Result<Link>, age: Age, report: &Reporter) -> Result<()> {
    let least = ROUND_INTERVAL.as_secs();
    if age.seconds() < least {
        return Err(Error::new(Exit::Usage, format!("--keep {age}"))
            .because(format!("the session is checked every {least} seconds, so AGE must be at least {least}s"))
            .hint("a new session once a day: --keep 24h"));
    }
    run_service(open, Duty::Keep(age), report)
}

impl PairRun<'_> {
    /// Begins a round if one is due.
    pub(super) fn poll_round(&mut self, now: Instant) -> Result<()> {
        match (&self.phase, &self.purpose) {
            (Phase::Resting(until), Purpose::Keep(keeper)) if now >= *until => {
                let begun = self.begin_round(keeper.age, now);
                self.tolerate(begun, now)
            }
            _ => Ok(()),
        }
    }

    fn begin_round(&mut self, age: Age, now: Instant) -> Result<()> {
        self.refresh_peers(now)?;
        if self.sessions.accepted().is_empty() {
            self.rest(now + SESSION_CHECK_INTERVAL);
            return Ok(());
        }
        let check = if_older::session_check(age, &self.sessions.peers, self.sessions.cache(), self.report)?;
        let answers = self.sessions.cache().lock_answers()?;
        if let Purpose::Keep(keeper) = &mut self.purpose {
            keeper.round = Some(Round { until: now + ROUND_TIMEOUT, _answers: answers });
            if let Some(check) = &check {
                keeper.moves.is_with(check.session().peer, age, now);
            }
        }
        self.limit_peers(now);
        match check {
            Some(mut check) => {
                check.start(now);
                self.phase = Phase::Checking(Box::new(check));
            }
            None => self.begin_handshake(now),
        }
        Ok(())
    }

    /// Ends the round that has an outcome, or that takes too long.
    pub(super) fn end_round(&mut self, now: Instant) {
        let Purpose::Keep(keeper) = &mut self.purpose else { return };
        let is_over = keeper.round.as_ref().is_some_and(|round| now >= round.until);
        let outcome = match &self.phase {
            Phase::Done(outcome) => outcome.clone(),
            Phase::Confirming(peer) if is_over => PairOutcome::Paired(peer.clone()),
            _ if is_over => {
                let is_news = !std::mem::replace(&mut keeper.is_peer_missing, true);
                if is_news {
                    self.report.warn(&self.timed_out());
                }
                return self.rest(now + ROUND_INTERVAL);
            }
            _ => return,
        };
        let was_missing = std::mem::take(&mut keeper.is_peer_missing);
        match outcome {
            PairOutcome::Paired(peer) => {
                keeper.moves.is_with(*peer.key.fingerprint().as_bytes(), keeper.age, now);
                self.note_paired(&peer);
                tell_paired(&peer, self.report);
            }
            PairOutcome::Kept => {
                self.note_in_use();
                if was_missing {
                    self.report.info("the peer answers again, and still has the session");
                }
            }
            PairOutcome::WrongCode { .. } | PairOutcome::Interrupted => {}
        }
        self.rest(now + ROUND_INTERVAL);
    }

    /// Pairs only with peers that this run may pair with now.
    pub(super) fn limit_peers(&mut self, now: Instant) {
        let accepted = self.sessions.accepted();
        let allowed = match &self.purpose {
            Purpose::Keep(keeper) => keeper.moves.allowed(accepted, now),
            Purpose::Once { .. } | Purpose::Enrol { .. } | Purpose::Serve(_) => accepted.clone(),
        };
        self.handshake.set_peers(allowed);
    }

    /// Waits for the next round.
    pub(super) fn rest(&mut self, until: Instant) {
        self.suspend(Phase::Resting(until));
    }

    /// After an error the next round tries again.
    pub(super) fn rest_after_error(&mut self, error: &Error, now: Instant) {
        if let Purpose::Keep(keeper) = &mut self.purpose {
            keeper.service.report_error(error, self.report, now);
        }
        self.rest(now + ROUND_INTERVAL);
    }

    /// The connection is lost: a check would not hear its reply before the subscription is renewed.
    pub(super) fn suspend_round(&mut self) {
        if matches!(self.phase, Phase::Resting(_) | Phase::Checking(_)) {
            self.suspend(Phase::Subscribing(None));
        }
    }

    fn suspend(&mut self, phase: Phase) {
        if let Purpose::Keep(keeper) = &mut self.purpose {
            keeper.round = None;
        }
        self.handshake.cease();
        self.phase = phase;
    }

    /// When the next round begins, or this one is given up.
    pub(super) fn round_deadline(&self) -> Option<Instant> {
        match (&self.phase, &self.purpose) {
            (Phase::Resting(until), _) => Some(*until),
            (_, Purpose::Keep(keeper)) => keeper.round.as_ref().map(|round| round.until),
            _ => None,
        }
    }
}
