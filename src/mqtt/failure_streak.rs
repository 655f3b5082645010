//! When failures that may pass are taken for the last word.
//!
//! Anybody who can close connections can have some attempts in a row fail without a word, and so does a cluster that fails over.
//! So it takes some time as well: that of a refused subscription (`client_session/subscriptions.rs`).

use std::time::{Duration, Instant};

use super::connection_lost::Finality;

/// Failures in a row, and the least time from the first to the last of them.
const MIN_FAILURES: u32 = 3;
const MIN_FAILING_TIME: Duration = Duration::from_secs(10);

/// Failures in a row that are [`Finality::FinalIfRepeated`]: how many, and when the first was.
#[derive(Debug, Default)]
pub(super) struct FailureStreak(Option<(u32, Instant)>);

impl FailureStreak {
    /// One more attempt failed, or a connection ended. Returns whether there is no use in another attempt.
    pub(super) fn is_last_word(&mut self, finality: Finality, now: Instant) -> bool {
        if finality != Finality::FinalIfRepeated {
            self.0 = None;
            return finality == Finality::Final;
        }
        let (count, since) = self.0.get_or_insert((0, now));
        *count = count.saturating_add(1);
        *count >= MIN_FAILURES && now.saturating_duration_since(*since) >= MIN_FAILING_TIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_some_failures_and_some_time() {
        use Finality::{Final, FinalIfRepeated, Passing};
        let (mut streak, start) = (FailureStreak::default(), Instant::now());
        let mut fails = |finality, secs| streak.is_last_word(finality, start + Duration::from_secs(secs));
        for _ in 0..10 * MIN_FAILURES {
            assert!(!fails(FinalIfRepeated, 0), "many, in no time");
        }
        assert!(!fails(FinalIfRepeated, 9));
        assert!(fails(FinalIfRepeated, 10));
        assert!(!fails(Passing, 11));
        assert!(!fails(FinalIfRepeated, 12) && !fails(FinalIfRepeated, 30), "few, in a long time");
        assert!(fails(FinalIfRepeated, 30));
        assert!(fails(Final, 31));
        assert!(!fails(FinalIfRepeated, 31), "not in a row");
    }
}
