//! How often the master signs: forged INITACKs must not keep its processor busy.

use std::time::{Duration, Instant};

/// Time between two signatures; each covers all attempts that came in meanwhile.
const SIGNATURE_INTERVAL: Duration = Duration::from_millis(250);
/// Signatures that may be made without that time between them.
const MAX_SIGNATURE_BURST: u32 = 2;

/// A token bucket: one token per signature.
#[derive(Clone, Debug)]
pub(super) struct SignatureBudget {
    tokens: u32,
    since: Instant,
}

impl SignatureBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: MAX_SIGNATURE_BURST, since: now }
    }

    /// The budget after a signature at `now`, if one may be made.
    pub(super) fn spend(&self, now: Instant) -> Option<Self> {
        let elapsed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(elapsed.as_millis() / SIGNATURE_INTERVAL.as_millis()).unwrap_or(u32::MAX);
        let tokens = self.tokens.saturating_add(earned).min(MAX_SIGNATURE_BURST);
        let since = if earned > 0 { now } else { self.since };
        Some(Self { tokens: tokens.checked_sub(1)?, since })
    }

    /// When it began, or last earned a token: a time that has passed.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When a signature may be made at the latest.
    pub(super) fn next(&self) -> Instant {
        if self.tokens > 0 { self.since } else { self.since + SIGNATURE_INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_signatures_a_second_and_one_more_at_once() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut budget = SignatureBudget::new(start);
        // When one is asked for, whether it may be made, and when the next one may be at the latest.
        for (asked, may_be_made, next) in [
            (0, true, 0),
            (200, true, 250),
            (249, false, 250),
            (250, true, 500),
            (499, false, 500),
            // What is earned while nobody asks is no more than those two.
            (10_000, true, 10_000),
            (10_000, true, 10_250),
            (10_000, false, 10_250),
            (10_250, true, 10_500),
        ] {
            let left = budget.spend(at(asked));
            assert_eq!(left.is_some(), may_be_made, "{asked}");
            budget = left.unwrap_or(budget);
            assert_eq!(budget.next(), at(next), "{asked}");
            assert!(budget.since() <= at(asked));
        }
        assert_eq!(budget.since(), at(10_250));
    }
}
