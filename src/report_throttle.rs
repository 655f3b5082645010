//! How often the same news is said.
//!
//! [`ReportThrottle`] is for one piece of news that its owner knows beforehand, as that the spool is full: it counts what it
//! keeps back, and the owner says when the condition is over. [`KeyedReportThrottle`] is for news of which there are many, as
//! one per reason or per key of a peer: it remembers which were said, and may bound how many there are at a time.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Decides when one piece of news is said again.
#[derive(Clone, Debug)]
pub(crate) struct ReportThrottle {
    interval: Duration,
    last: Option<Instant>,
    held_back: u64,
}

impl ReportThrottle {
    /// Is said the first time only.
    pub(crate) fn once() -> Self {
        Self::every(Duration::MAX)
    }

    /// Is said at most once per `interval`.
    pub(crate) fn every(interval: Duration) -> Self {
        Self { interval, last: None, held_back: 0 }
    }

    /// It happened at `now`: `Some` where it is to be said, with how often it happened unsaid since the last time.
    pub(crate) fn happened(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_none_or(|last| now.saturating_duration_since(last) >= self.interval) {
            self.last = Some(now);
            Some(std::mem::take(&mut self.held_back))
        } else {
            self.held_back = self.held_back.saturating_add(1);
            None
        }
    }

    /// Whether it happened since it was over last.
    pub(crate) fn has_happened(&self) -> bool {
        self.last.is_some()
    }

    /// It is over: the next time is a first time.
    pub(crate) fn reset(&mut self) {
        self.last = None;
        self.held_back = 0;
    }
}

/// Decides for each of many pieces of news when it is said again.
#[derive(Clone, Debug)]
pub(crate) struct KeyedReportThrottle<K> {
    interval: Duration,
    max: usize,
    said: HashMap<K, Instant>,
}

impl<K: Clone + Eq + Hash> KeyedReportThrottle<K> {
    /// Each is said the first time only. All keys are remembered: they must be few, whatever a peer does.
    pub(crate) fn once() -> Self {
        Self::every(Duration::MAX, usize::MAX)
    }

    /// Each is said at most once per `interval`, and at most `max` different ones in that time: strangers who make up any
    /// number of keys must fill neither memory nor a log.
    pub(crate) fn every(interval: Duration, max: usize) -> Self {
        Self { interval, max, said: HashMap::new() }
    }

    /// Forgets the keys that cannot come again.
    pub(crate) fn retain(&mut self, may_come: impl Fn(&K) -> bool) {
        self.said.retain(|key, _| may_come(key));
    }

    /// Whether to say this at `now`; what it answers with true counts as said.
    pub(crate) fn is_due(&mut self, key: &K, now: Instant) -> bool {
        self.said.retain(|_, said| now.saturating_duration_since(*said) < self.interval);
        let due = self.said.len() < self.max && !self.said.contains_key(key);
        if due {
            self.said.insert(key.clone(), now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_throttle_counts_what_it_holds_back() {
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let mut once = ReportThrottle::once();
        assert_eq!([once.happened(at(0)), once.happened(at(9999))], [Some(0), None]);
        once.reset();
        assert_eq!(once.happened(at(9999)), Some(0));
        let mut minutely = ReportThrottle::every(Duration::from_secs(60));
        let said = [0, 1, 59, 60, 61, 180].map(|secs| minutely.happened(at(secs)));
        assert_eq!(said, [Some(0), None, None, Some(2), None, Some(1)]);
    }

    #[test]
    fn each_key_is_said_once() {
        let start = Instant::now();
        let mut once = KeyedReportThrottle::once();
        let due = [1, 2, 1, 2, 3].map(|key| once.is_due(&key, start));
        assert_eq!(due, [true, true, false, false, true]);
        assert!(!once.is_due(&1, start + Duration::from_secs(1 << 30)));
        once.retain(|key| *key > 1);
        assert!(once.is_due(&1, start) && !once.is_due(&2, start));
    }
}
