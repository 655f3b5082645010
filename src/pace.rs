//! How fast messages may leave: at most N in an interval. An interval begins with the first message after the end of
//! the previous interval.
//!
//! Any other span of that length may touch two intervals: at most 2N - 1 messages leave in it.

use std::time::{Duration, Instant};

/// Counts the messages of one sender.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Most messages that are sent in an interval.
    max_messages: usize,
    interval: Duration,
    /// When the interval of the newest message ends.
    ends: Option<Instant>,
    sent: usize,
}

impl Pace {
    /// At most `max_messages` in each `interval`.
    #[cfg(feature = "legacy")]
    pub(crate) fn new(max_messages: usize, interval: Duration) -> Self {
        Self { max_messages, interval, ends: None, sent: 0 }
    }

    /// A message is sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        if self.ends.is_none_or(|ends| now >= ends) {
            (self.ends, self.sent) = (Some(now + self.interval), 0);
        }
        self.sent += 1;
    }

    /// Begins a new interval if the previous one is over.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| now >= ends) {
            (self.ends, self.sent) = (None, 0);
        }
    }

    /// When another message may be sent, as of the last [`Pace::advance`]; `None` if one may.
    pub(crate) fn resumes_at(&self) -> Option<Instant> {
        self.ends.filter(|_| self.sent >= self.max_messages)
    }
}
