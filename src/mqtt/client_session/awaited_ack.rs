//! The acknowledgement that is due next: finds a packet that got lost on a connection that works.

use std::time::{Duration, Instant};

/// How long a packet may be unacknowledged before the broker is asked with PINGREQ whether it has read it, and again as
/// long after it has: the keep-alive interval, if that lies between these.
const MIN_ACK_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_ACK_TIMEOUT: Duration = Duration::from_secs(60);

/// The oldest packet that is not acknowledged: a PUBLISH, PUBREL or PUBREC that the socket has taken.
///
/// Only the oldest one counts. A slow broker that acknowledges one packet after the other gets the full time for each, and
/// later packets that it acknowledges do not hide one that it lost.
#[derive(Clone, Copy, Debug)]
pub(super) struct AwaitedAck {
    /// Where its last byte lies among those of the connection.
    end: u64,
    /// The broker answered a PINGREQ that was sent after it, so it has read it.
    was_read: bool,
    /// The timeout counts from here.
    since: Instant,
}

impl AwaitedAck {
    pub(super) fn new(end: u64, now: Instant) -> Self {
        Self { end, was_read: false, since: now }
    }

    /// Whether it is this packet.
    pub(super) fn is_for(&self, end: u64) -> bool {
        self.end == end
    }

    /// The broker answered a PINGREQ, the last byte of which lies at `ping_end`.
    pub(super) fn ping_answered(&mut self, ping_end: u64, now: Instant) {
        if ping_end > self.end && !self.was_read {
            (self.was_read, self.since) = (true, now);
        }
    }

    /// The timeout starts anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.since = now;
    }

    /// Whether the broker has read it, so that at [`AwaitedAck::deadline`] it is lost.
    pub(super) fn was_read(&self) -> bool {
        self.was_read
    }

    /// When something must be done about it. `None` for the interval is no keep-alive.
    pub(super) fn deadline(&self, keep_alive: Option<Duration>) -> Instant {
        self.since + keep_alive.map_or(MAX_ACK_TIMEOUT, |interval| interval.clamp(MIN_ACK_TIMEOUT, MAX_ACK_TIMEOUT))
    }
}
