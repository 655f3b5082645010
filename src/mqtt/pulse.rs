//! Keep-alive: finds the connection that is dead without a word, and wakes nobody while there is traffic.

use std::time::{Duration, Instant};

/// Clock of one connection: when to send PINGREQ, and when to stop waiting for PINGRESP.
#[derive(Debug)]
pub(super) struct Pulse {
    /// `None` for no keep-alive.
    interval: Option<Duration>,
    sent_at: Instant,
    heard_at: Instant,
    ping: Option<Ping>,
    paused: bool,
}

/// A PINGREQ without its PINGRESP.
#[derive(Debug)]
struct Ping {
    /// Where its last byte lies among those of the connection.
    end: u64,
    /// All its bytes were taken by the socket.
    taken: bool,
    /// The patience for PINGRESP counts from here.
    since: Instant,
}

/// What a tick calls for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing yet.
    Quiet,
    /// Send PINGREQ, then call [`Pulse::pinged`].
    Ping,
    /// The peer is gone.
    Dead,
}

impl Pulse {
    pub(super) fn new(keep_alive: Duration, now: Instant) -> Self {
        let interval = Some(keep_alive).filter(|interval| !interval.is_zero());
        Self { interval, sent_at: now, heard_at: now, ping: None, paused: false }
    }

    /// The socket took bytes, `sent` in all.
    pub(super) fn sent(&mut self, sent: u64, now: Instant) {
        self.sent_at = now;
        if let Some(ping) = self.ping.as_mut().filter(|ping| !ping.taken) {
            ping.since = now;
            ping.taken = ping.end <= sent;
        }
    }

    /// The peer sent something: it lives.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = now;
        if let Some(ping) = &mut self.ping {
            ping.since = now;
        }
    }

    /// PINGREQ was queued; its last byte lies at `end`.
    pub(super) fn pinged(&mut self, end: u64, now: Instant) {
        self.ping = Some(Ping { end, taken: false, since: now });
    }

    /// PINGRESP came.
    pub(super) fn answered(&mut self) {
        self.ping = None;
    }

    /// While nobody reads, no answer can be missed; the patience starts anew afterwards.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        if self.paused && !paused {
            self.heard(now);
        }
        self.paused = paused;
    }

    /// When to [`Pulse::tick`] next.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let interval = self.interval?;
        match &self.ping {
            // The broker wants to hear from us even while we do not listen; one that does not take the first
            // PINGREQ will not take a second.
            Some(ping) if self.paused => ping.taken.then(|| self.sent_at + interval),
            Some(ping) => Some(ping.since + patience(interval)),
            None if self.paused => Some(self.sent_at + interval),
            // Idle in either direction: a sender at QoS 0 hears nothing, and must find a dead peer, too.
            None => Some(self.sent_at.min(self.heard_at) + interval),
        }
    }

    pub(super) fn tick(&self, now: Instant) -> Beat {
        match self.deadline() {
            Some(deadline) if deadline <= now => {
                if self.ping.is_some() && !self.paused {
                    Beat::Dead
                } else {
                    Beat::Ping
                }
            }
            _ => Beat::Quiet,
        }
    }
}

/// How long PINGRESP may take: half the keep-alive, between 5 and 30 s.
fn patience(interval: Duration) -> Duration {
    (interval / 2).clamp(Duration::from_secs(5), Duration::from_secs(30))
}
