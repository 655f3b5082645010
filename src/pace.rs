//! How fast messages may leave: at most N in any span of time that is as long as the interval, wherever it begins.
//!
//! After a pause, N messages may leave at once. For an even rate, use 1 as N and a shorter interval. That is also the way
//! to a larger N than the type has: exactness takes 16 bytes for each of the N, so their number bounds the memory, at
//! 1 MiB.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

/// Remembers when one sender sent its latest messages, at most N.
#[derive(Debug)]
pub(crate) struct Pace {
    max_messages: NonZeroU16,
    interval: Duration,
    /// When each message that still counts was sent, oldest first.
    sent: VecDeque<Instant>,
}

impl Pace {
    /// At most `max_messages` in each `interval`.
    pub(crate) fn new(max_messages: NonZeroU16, interval: Duration) -> Self {
        Self { max_messages, interval, sent: VecDeque::new() }
    }

    /// A message is sent. It counts even if none may be sent now.
    pub(crate) fn sent(&mut self, now: Instant) {
        if self.is_full() {
            self.sent.pop_front();
        }
        self.sent.push_back(now);
    }

    /// Forgets the messages that were sent an interval ago.
    pub(crate) fn advance(&mut self, now: Instant) {
        while self.sent.front().is_some_and(|sent| now >= *sent + self.interval) {
            self.sent.pop_front();
        }
    }

    /// When another message may be sent, as of the last [`Pace::advance`]; `None` if one may.
    pub(crate) fn resumes_at(&self) -> Option<Instant> {
        let oldest = self.sent.front().filter(|_| self.is_full())?;
        Some(*oldest + self.interval)
    }

    fn is_full(&self) -> bool {
        self.sent.len() == usize::from(self.max_messages.get())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const INTERVAL: Duration = Duration::from_millis(100);

    fn pace(max_messages: u16) -> Pace {
        Pace::new(NonZeroU16::new(max_messages).unwrap(), INTERVAL)
    }

    fn after(begun: Instant, millis: u64) -> Instant {
        begun + Duration::from_millis(millis)
    }

    #[test]
    fn what_was_sent_late_in_one_interval_counts_in_the_next() {
        let begun = Instant::now();
        let mut pace = pace(2);
        for (millis, resumes_at) in [(0, None), (90, Some(100)), (100, Some(190)), (190, Some(200))] {
            pace.advance(after(begun, millis));
            assert_eq!(pace.resumes_at(), None, "at {millis} ms");
            pace.sent(after(begun, millis));
            assert_eq!(pace.resumes_at(), resumes_at.map(|millis| after(begun, millis)), "at {millis} ms");
        }
    }

    #[test]
    fn messages_that_could_not_wait_hold_the_others_back() {
        let begun = Instant::now();
        let mut pace = pace(1);
        pace.sent(begun);
        pace.sent(after(begun, 50));
        pace.advance(after(begun, 149));
        assert_eq!(pace.resumes_at(), Some(after(begun, 150)));
        pace.advance(after(begun, 150));
        assert_eq!(pace.resumes_at(), None);
    }

    proptest! {
        #[test]
        fn no_span_has_more_and_none_waits_longer_than_it_must(
            max in 1u16..6,
            arrivals in prop::collection::vec(0u64..60, 1..80),
        ) {
            let (mut pace, max, mut now) = (pace(max), usize::from(max), Instant::now());
            let mut sent = Vec::new();
            for pause in arrivals {
                now += Duration::from_millis(pause);
                pace.advance(now);
                if let Some(at) = pace.resumes_at() {
                    prop_assert_eq!(at, sent[sent.len() - max] + INTERVAL);
                    prop_assert!(at > now);
                    now = at;
                    pace.advance(now);
                    prop_assert_eq!(pace.resumes_at(), None);
                }
                pace.sent(now);
                sent.push(now);
            }
            prop_assert!(sent.windows(max + 1).all(|span| span[max] - span[0] >= INTERVAL));
        }
    }
}
