//! How often the same news is told: anybody on the topic can make up any number of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// How often the same news is told, and the time in which [`MOST`] are.
const EVERY: Duration = Duration::from_secs(60);
/// Most news that is told in that time: strangers with many keys must fill neither memory nor a log.
const MOST: usize = 8;

/// What was told lately.
#[derive(Debug)]
pub(super) struct Hints<K>(HashMap<K, Instant>);

impl<K: Clone + Eq + Hash> Hints<K> {
    pub(super) fn new() -> Self {
        Self(HashMap::new())
    }

    /// Whether to tell this at `now`; what it answers with true counts as told.
    pub(super) fn is_due(&mut self, hint: &K, now: Instant) -> bool {
        self.0.retain(|_, told| now.saturating_duration_since(*told) < EVERY);
        let due = self.0.len() < MOST && !self.0.contains_key(hint);
        if due {
            self.0.insert(hint.clone(), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Hint;
    use crate::identity::Fingerprint;

    #[test]
    fn strangers_with_many_keys_are_told_of_a_few_times_a_minute() {
        let start = Instant::now();
        let mut hints = Hints::new();
        let mut told = 0;
        for i in 0..6000_u32 {
            let hint = Hint::UnknownKey(Fingerprint::of(&(i % 600).to_be_bytes()));
            told += usize::from(hints.is_due(&hint, start + Duration::from_millis(u64::from(i) * 20)));
        }
        assert_eq!(told, 2 * MOST, "in two minutes");
        assert!(hints.is_due(&Hint::OtherMaster, start + Duration::from_secs(180)));
        assert!(!hints.is_due(&Hint::OtherMaster, start + Duration::from_secs(239)));
        assert!(hints.is_due(&Hint::OtherMaster, start + Duration::from_secs(240)));
    }
}
