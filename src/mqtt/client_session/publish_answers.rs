//! What becomes of a message that we published: the broker takes it, refuses it, or ends the connection for it.

use std::time::Instant;

use super::{ClientSession, ConnectionState, refusal};
use crate::mqtt::codec::{Reason, ReasonClass, ReasonCode, Request};
use crate::mqtt::{ConnectionLost, Event, Qos, Refused, Token};

/// Pauses in a row after which a refusal without a cause is final: half a minute.
const MIN_PAUSES: u32 = 5;

impl ClientSession {
    /// PUBACK came.
    pub(super) fn puback(&mut self, pkid: u16, reason: &Reason, now: Instant) {
        if self.is_refused(pkid, reason, now) {
            return;
        }
        if let Some((token, qos)) = self.outgoing.puback(pkid, self.wire.sent()) {
            if qos == Qos::ExactlyOnce {
                self.events.extend(self.notices.lower_qos());
            }
            self.acknowledged(Some(token));
        }
    }

    /// PUBREC came.
    pub(super) fn pubrec(&mut self, pkid: u16, reason: &Reason, now: Instant) {
        if self.is_refused(pkid, reason, now) {
            return;
        }
        if self.outgoing.pubrec(pkid, self.wire.sent()) {
            let position = self.wire.send(Request::PubRel(pkid));
            self.outgoing.released(pkid, position);
        }
    }

    /// PUBCOMP came.
    pub(super) fn pubcomp(&mut self, pkid: u16) {
        let token = self.outgoing.pubcomp(pkid, self.wire.sent());
        self.acknowledged(token);
    }

    fn acknowledged(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.events.push_back(Event::Acknowledged(token));
            self.history.message_acknowledged(token);
            // The next message may have waited for this one: because it is under suspicion, or because of the limit on what is
            // in flight.
            self.fill_write_buffer();
        }
    }

    /// Whether the broker refuses the message; then it is sent again after a pause, unless the tool ends the run for it.
    fn is_refused(&mut self, pkid: u16, reason: &Reason, now: Instant) -> bool {
        if reason.class() == ReasonClass::Success {
            if reason.code == ReasonCode::NO_MATCHING_SUBSCRIBERS {
                self.events.extend(self.notices.no_subscribers());
            }
            return false;
        }
        let Some((publish, pauses)) = self.outgoing.refuse(pkid, self.wire.sent(), now) else { return true };
        self.history.message_refused(publish.token);
        if let Some(pauses) = pauses {
            let is_final = match reason.class() {
                // No cause: a queue that is full, say, or a node that is gone.
                _ if reason.is_unexplained() => pauses >= MIN_PAUSES,
                ReasonClass::Refusal => true,
                ReasonClass::Temporary | ReasonClass::Success => false,
            };
            if is_final {
                self.events.push_back(Refused::Message.because(refusal::publish(&publish, reason)));
            } else if pauses == 1 {
                self.events.extend(self.notices.refused_for_now(&publish, reason));
            }
        }
        true
    }

    /// The broker ends the connection, and says why; that may be for a message.
    pub(super) fn disconnected_at_publish(&mut self, reason: &Reason, now: Instant) -> ConnectionLost {
        let lost = refusal::disconnected(reason);
        let ConnectionState::Up { keep_alive, .. } = &self.state else { return lost };
        let attempted = self.outgoing.oldest_attempted(self.wire.sent()).filter(|_| reason.is_for_message());
        let Some(publish) = attempted else { return lost };
        if self.history.suspects_oldest() && keep_alive.was_ping_answered() {
            // It went alone, so it is the one.
            self.events.push_back(Refused::Message.because(refusal::publish_ended(&publish, reason)));
        }
        self.history.suspect(publish.token, now);
        lost
    }
}
