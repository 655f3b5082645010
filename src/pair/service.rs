//! What `sts-pair --serve` has beside its pairings.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::claims;
use crate::report::Reporter;
use crate::report_throttle::KeyedReportThrottle;
use crate::stdio::Signals;
use crate::{Error, Result};

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
