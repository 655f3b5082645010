//! When a session must be woken, and what it does then: an answer that is overdue, a pause that is over.

use std::time::{Duration, Instant};

use super::keep_alive::KeepAliveAction;
use super::{ClientSession, ConnectionState};
use crate::mqtt::ConnectionLost;
use crate::mqtt::codec::Request;
use crate::mqtt::connection_lost::Obstacle;

/// How long CONNACK and SUBACK may take.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

impl ClientSession {
    /// When to call [`tick`](Self::tick), if nothing else happens before: the earliest of several times, each of which
    /// is tested by itself there.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let keep_alive = match &self.state {
            ConnectionState::Up { keep_alive, .. } => keep_alive.deadline(),
            ConnectionState::Down(_) | ConnectionState::Connecting { .. } | ConnectionState::Closing => None,
        };
        let retries = [self.subscribe_at(), self.outgoing.retry_at()];
        let timeouts = [keep_alive, self.connack_deadline(), self.suback_deadline()];
        timeouts.into_iter().chain(retries).flatten().min()
    }

    /// Until when CONNACK must come. While reading is paused, no answer can be late.
    fn connack_deadline(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Connecting { since, .. } if !self.is_paused() => Some(*since + ANSWER_TIMEOUT),
            _ => None,
        }
    }

    /// Until when SUBACK must come, as [`ClientSession::connack_deadline`].
    fn suback_deadline(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Up { .. } if !self.is_paused() => {
                Some(self.subscriptions.oldest_request()? + ANSWER_TIMEOUT)
            }
            _ => None,
        }
    }

    /// When a subscription that was refused is to be requested again.
    fn subscribe_at(&self) -> Option<Instant> {
        match &self.state {
            ConnectionState::Up { .. } => self.subscriptions.retry_at(),
            _ => None,
        }
    }

    /// Does what is due: everything of which the time in [`deadline`](Self::deadline) has passed, so that none of them
    /// is passed afterwards.
    ///
    /// # Errors
    /// [`ConnectionLost`] when an answer is overdue.
    pub fn tick(&mut self, now: Instant) -> std::result::Result<(), ConnectionLost> {
        let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|deadline| now >= deadline);
        if has_passed(self.connack_deadline()) {
            self.history.gave_up();
            return Err(ConnectionLost::at(Obstacle::Silence, "no CONNACK from the broker"));
        }
        if has_passed(self.suback_deadline()) {
            return Err(self.give_up("no SUBACK from the broker"));
        }
        if has_passed(self.subscribe_at()) {
            self.send_subscribes(now);
        }
        if has_passed(self.outgoing.retry_at()) {
            self.outgoing.resume(now);
            self.fill_write_buffer();
        }
        if let ConnectionState::Up { keep_alive, .. } = &self.state {
            match keep_alive.action(now) {
                KeepAliveAction::SendPing => self.send_ping(now),
                KeepAliveAction::NoPingResp => return Err(self.give_up("no PINGRESP from the broker")),
                KeepAliveAction::NoAck => {
                    return Err(self.give_up("the broker answers, but does not acknowledge a message"));
                }
                KeepAliveAction::Wait => {}
            }
        }
        Ok(())
    }

    /// Awaits the acknowledgement of the oldest packet: after whatever may have made another one that.
    pub(super) fn await_ack(&mut self, now: Instant) {
        if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
            let outgoing = self.outgoing.oldest_unanswered(self.wire.sent());
            let incoming = self.incoming.oldest_unanswered(self.wire.sent());
            keep_alive.ack_awaited([outgoing, incoming].into_iter().flatten().min(), now);
        }
    }

    pub(super) fn send_ping(&mut self, now: Instant) {
        if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
            let position = self.wire.send(Request::PingReq);
            keep_alive.ping_queued(position.end, now);
        }
    }
}
