//! How long something could come from the broker in this run, since its first subscription.

use std::time::{Duration, Instant};

use crate::recv::incoming::Supply;

/// Counts only time in which something could come. It is never moved back, so that what waits notes when it began by this clock.
#[derive(Debug, Default)]
pub(super) struct ArrivalClock {
    supply: Supply,
    /// What was counted, and from when on more counts; `None` before the first subscription.
    counted: Option<(Duration, Instant)>,
}

impl ArrivalClock {
    /// The broker sends what it keeps from now on.
    pub(super) fn start(&mut self, now: Instant) {
        self.counted.get_or_insert((Duration::ZERO, now));
    }

    /// Whether messages can come from now on.
    pub(super) fn set_supply(&mut self, supply: Supply, now: Instant) {
        if self.supply != supply {
            self.counted = self.elapsed(now).map(|elapsed| (elapsed, now));
            self.supply = supply;
        }
    }

    /// A message came for which the broker wants an acknowledgement: nothing withheld it, or anything before it.
    pub(super) fn arrived(&mut self, now: Instant) {
        if self.supply == Supply::Doubtful
            && let Some((elapsed, since)) = &mut self.counted
        {
            *elapsed += now.saturating_duration_since(*since);
            *since = now;
        }
    }

    /// The time that counts until now; `None` before the first subscription.
    pub(super) fn elapsed(&self, now: Instant) -> Option<Duration> {
        let (elapsed, since) = self.counted?;
        let uncounted = now.saturating_duration_since(since);
        Some(if self.supply == Supply::Flowing { elapsed + uncounted } else { elapsed })
    }

    /// Whether so much time has passed, and all that came in it was received.
    pub(super) fn has_passed(&self, time: Duration, now: Instant) -> bool {
        self.supply != Supply::Stalled && self.elapsed(now).is_some_and(|elapsed| elapsed >= time)
    }

    /// When so much time will have passed, if nothing comes before.
    pub(super) fn deadline(&self, time: Duration) -> Option<Instant> {
        let (elapsed, since) = self.counted.filter(|_| self.supply == Supply::Flowing)?;
        Some(since + time.saturating_sub(elapsed))
    }
}
