//! Time in which nothing can arrive. It counts for no timeout of what is waited for: an outage of our own is not the
//! silence of a sender.

use std::time::{Duration, Instant};

/// Whether messages can arrive: not while nothing is read from the broker, nor without a connection. Its owner keeps times;
/// it moves them by what [`Stall::set`] returns, and asks here whether one has passed.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
}

impl Stall {
    /// Nothing can come from the broker from now on, or something can again. Where a stall ends, returns how long it was:
    /// what waits has waited that much less.
    #[must_use]
    pub(super) fn set(&mut self, stalled: bool, now: Instant) -> Option<Duration> {
        if stalled {
            self.since.get_or_insert(now);
            return None;
        }
        self.since.take().map(|since| now.saturating_duration_since(since))
    }

    /// Whether what waits since then has waited long enough.
    pub(super) fn has_passed(&self, since: Instant, timeout: Duration, now: Instant) -> bool {
        self.since.is_none() && now >= since + timeout
    }

    /// When what waits since then has waited long enough; none as long as nothing can arrive.
    pub(super) fn deadline(&self, since: Option<Instant>, timeout: Duration) -> Option<Instant> {
        since.filter(|_| self.since.is_none()).map(|since| since + timeout)
    }
}
