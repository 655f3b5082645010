//! How fast messages are sent to the old program.
//!
//! Nothing says when it has one of ours, so what it sends may be made from any that was on its way. [`MAX_RECENT`] of them are
//! remembered; without a bound to what is sent meanwhile, a long input would have its messages unreadable. The old program has
//! no flow control either, and the broker drops what a slow subscriber does not take in time.

use std::num::NonZeroU16;
use std::time::Duration;

use super::chain::MAX_RECENT;

/// Most messages that are sent in an [`INTERVAL`].
const MAX_PER_INTERVAL: NonZeroU16 = NonZeroU16::new(64).unwrap();
const INTERVAL: Duration = Duration::from_millis(250);
/// How old the message may be that one of the other device was made from, when that arrives here.
const MAX_DELAY: Duration = Duration::from_secs(3);

// A span touches one interval more than it has; the rest of the list is for what the other device sends.
const _: () = assert!(
    (MAX_DELAY.as_millis() / INTERVAL.as_millis() + 1) as usize * (MAX_PER_INTERVAL.get() as usize) < MAX_RECENT
);

/// The most messages that a sender sends in an interval, and that interval.
pub(crate) const TEXT_RATE: (NonZeroU16, Duration) = (MAX_PER_INTERVAL, INTERVAL);

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::pace::Pace;

    #[test]
    fn in_the_longest_delay_no_more_is_sent_than_is_remembered() {
        let begun = Instant::now();
        let (max, interval) = TEXT_RATE;
        let (mut pace, mut sent, mut now) = (Pace::new(max, interval), Vec::new(), begun);
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
