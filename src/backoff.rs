//! Waits that double.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::time::Duration;

/// A wait that doubles each time, up to the longest one; jitter is up to the caller, who has the generator.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    wait: Duration,
}

impl Backoff {
    /// Begins with `first`, which is not longer than `longest`.
    pub(crate) const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, wait: first }
    }

    /// The wait that is due now; the one after it is twice as long.
    pub(crate) fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 2).min(self.longest);
        wait
    }

    /// Makes the next wait no longer than `limit`, and goes on doubling from there.
    pub(crate) fn shorten(&mut self, limit: Duration) {
        self.wait = self.wait.min(limit);
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.wait = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_start_over() {
        let secs = Duration::from_secs;
        let mut backoff = Backoff::new(secs(1), secs(30));
        let mut waits = |count| -> Vec<_> { (0..count).map(|_| backoff.next().as_secs()).collect() };
        assert_eq!(waits(7), [1, 2, 4, 8, 16, 30, 30]);
        backoff.shorten(secs(4));
        assert_eq!(backoff.next(), secs(4));
        backoff.shorten(secs(20));
        assert_eq!((backoff.next(), backoff.next()), (secs(8), secs(16)));
        backoff.reset();
        assert_eq!(backoff.next(), secs(1));
    }
}
