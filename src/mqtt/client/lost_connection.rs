//! What the client does when a connection is lost or an attempt failed: where and when it tries again, or that it does not.

use std::time::Instant;

use super::{Acceptance, Client, ConnectionPhase};
use crate::mqtt::Outage;
use crate::mqtt::client_session::MIN_STABLE_LIFETIME;
use crate::mqtt::connection_lost::{ConnectionLost, Finality, Obstacle};

impl Client {
    /// The connection was lost, or the attempt failed.
    pub(super) fn lost(&mut self, lost: ConnectionLost, now: Instant) {
        self.was_accepted |= self.session.is_accepted();
        if lost.obstacle().is_closed() && !self.was_accepted {
            self.dialer.closed_without_answer();
        }
        if lost.obstacle() == Obstacle::Tls {
            self.session.gave_up();
        }
        let (lost, hurry) = self.learn_from(lost, now);
        self.judge_refusal(hurry);
        if !self.session.is_disconnect_sent() {
            let outage = if self.session.is_accepted() {
                Outage::after_connack(self.dialer.endpoint(), &lost)
            } else {
                Outage::before_connack(self.dialer.endpoint(), &lost)
            };
            // If another node or address can be tried at once, this failure does not end the run.
            if self.is_last_word(&lost, now) && !self.was_accepted && !hurry {
                self.session.transport_refused(outage.clone().into_error());
            }
            let retry = self.session.transport_lost(outage, now, &mut rand::rng());
            self.phase = ConnectionPhase::Waiting(if hurry { now } else { retry });
        }
        // After `disconnect` there is no next attempt.
        if self.session.is_disconnect_sent() {
            self.close();
        }
    }

    /// One node that refuses the connection has the last word only if nothing else accepts one in this round: else it would
    /// depend on where a run begins how that ends. `hurry`: the round is not over.
    fn judge_refusal(&mut self, hurry: bool) {
        if self.session.is_accepted() {
            self.refused = None;
        }
        self.refused = self.session.take_connection_refused().or_else(|| self.refused.take());
        if !hurry && let Some(error) = self.refused.take() {
            self.session.transport_refused(error);
        }
    }

    /// Whether another attempt is useless after this failure.
    fn is_last_word(&mut self, lost: &ConnectionLost, now: Instant) -> bool {
        match &mut self.failures {
            Some(failures) => failures.is_last_word(lost.finality(), now),
            None => lost.finality() == Finality::Final,
        }
    }

    /// Notes where to begin the next attempt. Returns the loss with its place, and whether there is no reason to wait.
    fn learn_from(&mut self, lost: ConnectionLost, now: Instant) -> (ConnectionLost, bool) {
        let ConnectionPhase::Open(connection, acceptance) = &self.phase else { return (lost, false) };
        let remote = connection.remote();
        let hurry = match acceptance {
            Acceptance::Awaited(_) => self.dialer.failed(remote),
            Acceptance::Since(since) => {
                // A node that soon drops what it accepts may be leaving its cluster. A good one is tried again first.
                if now.saturating_duration_since(*since) < MIN_STABLE_LIFETIME {
                    self.dialer.failed(remote);
                }
                false
            }
        };
        (lost.at_place(remote, remote.index), hurry)
    }
}
