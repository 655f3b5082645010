//! Keep-alive: finds a connection that died without notice or that lost a packet, and costs no wake-up while there is
//! traffic and each packet is acknowledged.

use std::time::{Duration, Instant};

use super::awaited_ack::AwaitedAck;

/// How long PINGRESP may take, at least and at most: half the keep-alive interval, if that lies between.
const MIN_PING_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_PING_TIMEOUT: Duration = Duration::from_secs(30);

/// Clock of one connection: when to send PINGREQ, and when to stop waiting for PINGRESP.
#[derive(Debug)]
pub(super) struct KeepAlive {
    /// `None` for no keep-alive.
    interval: Option<Duration>,
    sent_at: Instant,
    received_at: Instant,
    ping: Option<PendingPing>,
    ack: Option<AwaitedAck>,
    ping_answered: bool,
    paused: bool,
}

/// A PINGREQ without its PINGRESP.
#[derive(Debug)]
struct PendingPing {
    /// Where its last byte lies among those of the connection.
    end: u64,
    /// The socket took all its bytes.
    sent: bool,
    /// The timeout of PINGRESP counts from here.
    since: Instant,
}

/// What is due on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum KeepAliveAction {
    /// Nothing yet.
    Wait,
    /// Send PINGREQ, then call [`KeepAlive::ping_queued`].
    SendPing,
    /// Drop the connection: PINGRESP is overdue.
    NoPingResp,
    /// Drop the connection: the broker has read a packet and does not acknowledge it.
    NoAck,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        let interval = Some(interval).filter(|interval| !interval.is_zero());
        Self { interval, sent_at: now, received_at: now, ping: None, ack: None, ping_answered: false, paused: false }
    }

    /// The socket took bytes, `sent_bytes` in all.
    pub(super) fn bytes_sent(&mut self, sent_bytes: u64, now: Instant) {
        self.sent_at = now;
        // A slow socket is not a dead one: until it has taken PINGREQ, each byte that it takes restarts the timeout.
        if let Some(ping) = self.ping.as_mut().filter(|ping| !ping.sent) {
            ping.since = now;
            ping.sent = ping.end <= sent_bytes;
        }
    }

    /// The broker sent something, so the connection works.
    pub(super) fn bytes_received(&mut self, now: Instant) {
        self.received_at = now;
        if let Some(ping) = &mut self.ping {
            ping.since = now;
        }
    }

    /// PINGREQ was queued; its last byte lies at `end`.
    pub(super) fn ping_queued(&mut self, end: u64, now: Instant) {
        self.ping = Some(PendingPing { end, sent: false, since: now });
    }

    /// PINGRESP came.
    pub(super) fn ping_answered(&mut self, now: Instant) {
        if let (Some(ping), Some(ack)) = (self.ping.take(), &mut self.ack) {
            ack.ping_answered(ping.end, now);
        }
        self.ping_answered = true;
    }

    /// The oldest packet that the socket has taken and the broker has not acknowledged ends there among the bytes of the
    /// connection: whenever that may have changed.
    pub(super) fn ack_awaited(&mut self, end: Option<u64>, now: Instant) {
        match (end, &self.ack) {
            (Some(end), Some(ack)) if ack.is_for(end) => {}
            (end, _) => self.ack = end.map(|end| AwaitedAck::new(end, now)),
        }
    }

    /// Whether PINGRESP ever came: the connection worked in both directions.
    pub(super) fn was_ping_answered(&self) -> bool {
        self.ping_answered
    }

    /// While reading is paused, no answer can be late; afterwards the timeout starts anew.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        if self.paused && !paused {
            self.bytes_received(now);
            if let Some(ack) = &mut self.ack {
                ack.restart(now);
            }
        }
        self.paused = paused;
    }

    /// When to ask for the next [`KeepAlive::action`].
    pub(super) fn deadline(&self) -> Option<Instant> {
        [self.ping_deadline(), self.ack_deadline()].into_iter().flatten().min()
    }

    fn ping_deadline(&self) -> Option<Instant> {
        match (&self.ping, self.interval) {
            // The broker expects packets even while we do not read. If the socket does not take the first PINGREQ, it
            // will not take a second one either.
            (Some(ping), interval) if self.paused => {
                interval.filter(|_| ping.sent).map(|interval| self.sent_at + interval)
            }
            // Without keep-alive, too: it was sent because something waits for the answer.
            (Some(ping), interval) => Some(ping.since + ping_timeout(interval)),
            (None, interval) if self.paused => Some(self.sent_at + interval?),
            // Idle in either direction: a sender at QoS 0 receives nothing, and must find a dead broker, too.
            (None, interval) => Some(self.sent_at.min(self.received_at) + interval?),
        }
    }

    /// While PINGRESP is awaited, that is what is due.
    fn ack_deadline(&self) -> Option<Instant> {
        let ack = self.ack.filter(|ack| !self.paused && (ack.was_read() || self.ping.is_none()))?;
        Some(ack.deadline(self.interval))
    }

    pub(super) fn action(&self, now: Instant) -> KeepAliveAction {
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if self.ack.is_some_and(|ack| ack.was_read()) && has_passed(self.ack_deadline()) {
            KeepAliveAction::NoAck
        } else if !has_passed(self.deadline()) {
            KeepAliveAction::Wait
        } else if self.ping.is_some() && !self.paused {
            KeepAliveAction::NoPingResp
        } else {
            KeepAliveAction::SendPing
        }
    }
}

/// `None` for no keep-alive.
fn ping_timeout(interval: Option<Duration>) -> Duration {
    interval.map_or(MAX_PING_TIMEOUT, |interval| (interval / 2).clamp(MIN_PING_TIMEOUT, MAX_PING_TIMEOUT))
}
