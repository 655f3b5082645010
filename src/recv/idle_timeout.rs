//! How long a run waits for something to be received before it ends.

use std::time::{Duration, Instant};

/// `--timeout`: how long a run waits for something to be received.
pub(super) struct IdleTimeout {
    timeout: Option<Duration>,
    since: Instant,
}

impl IdleTimeout {
    pub(super) fn new(timeout: Option<Duration>, now: Instant) -> Self {
        Self { timeout, since: now }
    }

    /// Something was received.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
    }

    /// When the run ends, if nothing is received before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.since + timeout)
    }
}
