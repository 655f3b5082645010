//! How fast messages are sent to the old program.
//!
//! Nothing says when it has one of ours, so what it sends may be made from any that was on its way. [`MAX_RECENT`] of them are
//! remembered; without a bound to what is sent meanwhile, a long input would have its messages unreadable. The old program has
//! no flow control either, and the broker drops what a slow subscriber does not take in time.

use std::time::{Duration, Instant};

use super::chain::MAX_RECENT;

/// Most messages that are sent in an [`INTERVAL`].
const MAX_PER_INTERVAL: usize = 64;
const INTERVAL: Duration = Duration::from_millis(250);
/// How old the message may be that one of the other device was made from, when that arrives here.
const MAX_DELAY: Duration = Duration::from_secs(3);

// A span touches one interval more than it has; the rest of the list is for what the other device sends.
const _: () = assert!((MAX_DELAY.as_millis() / INTERVAL.as_millis() + 1) as usize * MAX_PER_INTERVAL < MAX_RECENT);

/// Counts the messages of one sender.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// When the interval ends that the newest message is in.
    ends: Option<Instant>,
    sent: usize,
}

impl Pace {
    /// A message is sent.
    pub(crate) fn sent(&mut self, now: Instant) {
        if self.ends.is_none_or(|ends| now >= ends) {
            (self.ends, self.sent) = (Some(now + INTERVAL), 0);
        }
        self.sent += 1;
    }

    /// Begins another interval if the one before is over.
    pub(crate) fn advance(&mut self, now: Instant) {
        if self.ends.is_some_and(|ends| now >= ends) {
            (self.ends, self.sent) = (None, 0);
        }
    }

    /// When another message may be sent, as of the last [`Pace::advance`]; `None` if one may.
    pub(crate) fn resumes_at(&self) -> Option<Instant> {
        self.ends.filter(|_| self.sent >= MAX_PER_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_longest_delay_no_more_is_sent_than_is_remembered() {
        let begun = Instant::now();
        let (mut pace, mut sent, mut now) = (Pace::default(), Vec::new(), begun);
        while now < begun + 4 * MAX_DELAY {
            pace.advance(now);
            if let Some(at) = pace.resumes_at() {
                assert!(at > now, "it would never resume");
                now = at;
                continue;
            }
            pace.sent(now);
            sent.push(now);
            now += Duration::from_micros(100);
        }
        assert!(sent.len() > 2 * MAX_RECENT);
        assert!(sent.windows(MAX_RECENT).all(|window| window[MAX_RECENT - 1] - window[0] > MAX_DELAY));
    }
}
