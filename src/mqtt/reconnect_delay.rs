//! How long to wait before the next connection.

use std::time::Duration;

use rand::CryptoRng;

use crate::backoff::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// The longest delay after a connection that was of use.
const BRISK: Duration = Duration::from_millis(1600);

/// Doubling delays with jitter, so that a thousand devices do not come back to a restarted broker in one instant.
#[derive(Debug)]
pub(super) struct ReconnectDelay(Backoff);

impl Default for ReconnectDelay {
    fn default() -> Self {
        Self(Backoff::new(FIRST, LONGEST))
    }
}

impl ReconnectDelay {
    /// The last connection was a good one: the next delay is the shortest.
    pub(super) fn reset(&mut self) {
        self.0.reset();
    }

    /// The last connection got somewhere: the next delay is at most 1.6 s.
    pub(super) fn hurry(&mut self) {
        self.0.shorten(BRISK);
    }

    /// The next delay: between half and all of 0.1 s, doubled each time, up to 30 s.
    pub(super) fn next(&mut self, rng: &mut impl CryptoRng) -> Duration {
        let part = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        self.0.next().mul_f64(0.5 + part / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn delays_double_to_thirty_seconds_and_start_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let mut backoff = ReconnectDelay::default();
        for failures in 0..40 {
            let delay = backoff.next(&mut rng);
            let whole = LONGEST.min(FIRST * 2_u32.pow(failures.min(9)));
            assert!(delay >= whole / 2 && delay <= whole, "{failures}: {delay:?}");
        }
        backoff.hurry();
        assert!((FIRST * 8..=FIRST * 16).contains(&backoff.next(&mut rng)));
        backoff.reset();
        assert!(backoff.next(&mut rng) <= FIRST);
        backoff.hurry();
        assert!(backoff.next(&mut rng) <= FIRST * 2, "it makes no delay longer");
    }
}
