//! How long to wait before the next connection.

use std::time::Duration;

use rand::CryptoRng;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);
/// As many failures count in haste: 0.1 s doubled so many times is 1.6 s.
const BRISK: u32 = 4;

/// Doubling delays with jitter, so that a thousand devices do not come back to a restarted broker in one instant.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The last connection was a good one: the next delay is the shortest.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The last connection got somewhere: the next delay is at most 1.6 s.
    pub(super) fn hurry(&mut self) {
        self.failures = self.failures.min(BRISK);
    }

    /// The next delay: between half and all of 0.1 s, doubled each time, up to 30 s.
    pub(super) fn next(&mut self, rng: &mut impl CryptoRng) -> Duration {
        // 0.1 s doubled nine times is over 30 s.
        let whole = LONGEST.min(FIRST * 2_u32.pow(self.failures.min(9)));
        self.failures = self.failures.saturating_add(1);
        let part = f64::from(rng.next_u32()) / f64::from(u32::MAX);
        whole.mul_f64(0.5 + part / 2.0)
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
        let mut backoff = Backoff::default();
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
