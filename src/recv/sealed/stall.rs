//! Time in which nothing can arrive. It counts for no timeout of what is waited for: an outage of our own is not the
//! silence of a sender.

use std::time::{Duration, Instant};

/// Whether messages can arrive: not while nothing is read from the broker, nor without a connection. Its owner keeps times;
/// [`Stall::set`] moves them, and they ask here whether one has passed.
#[derive(Debug, Default)]
pub(super) struct Stall {
    since: Option<Instant>,
}

impl Stall {
    /// Nothing can come from the broker from now on, or something can again. Where a stall ends, what is `waiting` since these
    /// times has waited that much less.
    pub(super) fn set<'a>(&mut self, stalled: bool, now: Instant, waiting: impl Iterator<Item = &'a mut Instant>) {
        if stalled {
            self.since.get_or_insert(now);
        } else if let Some(stalled_since) = self.since.take() {
            for since in waiting {
                // What came with the end of the stall missed only the rest of it.
                *since += now.saturating_duration_since(stalled_since.max(*since));
            }
        }
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
