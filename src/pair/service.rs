//! The parts of a service beside its pairings: its purpose, its signals, and the configuration, which it reloads.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::claims;
use crate::link::Link;
use crate::report::Reporter;
use crate::report_throttle::KeyedReportThrottle;
use crate::sandbox::Needs;
use crate::stdio::Signals;
use crate::units::Age;
use crate::{Error, Exit, Result};

/// The purpose of a service.
#[derive(Clone, Copy)]
pub(super) enum Duty {
    /// A slave answers every pairing.
    Serve,
    /// A master keeps its session alive.
    Keep(Age),
}

/// Requests to reload, and errors that do not end a service.
pub(super) struct Service {
    hangups: Signals,
    /// How many of them led to a reload.
    handled: usize,
    reported: KeyedReportThrottle<u64>,
    hasher: RandomState,
}

impl Service {
    pub(super) fn begin() -> Result<Self> {
        let (reported, hasher) = (claims::throttle(), RandomState::new());
        Ok(Self { hangups: Signals::hangups()?, handled: 0, reported, hasher })
    }

    /// Whether SIGHUP came since the last call.
    pub(super) fn is_told_to_reload(&mut self) -> bool {
        let handled = std::mem::replace(&mut self.handled, self.hangups.count());
        self.handled > handled
    }

    /// Becomes readable at SIGHUP.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.hangups.as_fd()
    }

    /// Reports what ended one pairing, the same error once a minute. The others go on.
    pub(super) fn report_error(&mut self, error: &Error, report: &Reporter, now: Instant) {
        if self.reported.is_due(&self.hasher.hash_one(error.to_string()), now) {
            report.warn(error);
        }
    }
}

/// Reads the configuration again. `held` is the access that the sandbox, if there is one, left to this run: a later
/// configuration cannot get more.
pub(super) fn reopen(open: &impl Fn() -> Result<Link>, held: Option<&Needs>) -> Result<Link> {
    const REMEDY: &str = "to use it, restart sts-pair";
    let Some(held) = held else { return open() };
    let link = open().map_err(|error| error.hint_if_none(REMEDY))?;
    match link.pairing_needs(true).first_beyond(held) {
        None => Ok(link),
        Some(beyond) => Err(Error::new(Exit::Config, format!("the new configuration needs {beyond}"))
            .because("this run gave up access to it")
            .hint(REMEDY)),
    }
}
