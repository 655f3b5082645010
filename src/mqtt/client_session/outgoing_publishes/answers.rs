//! What the broker answers to a publish, at each quality of service.

use std::ops::Range;
use std::time::Instant;

use super::super::outgoing_publish::{AttemptedPublish, PublishState, UNSENT};
use super::OutgoingPublishes;
use crate::mqtt::{Qos, Token};

impl OutgoingPublishes {
    /// PUBACK: the message it is for, if there is one in flight, and the QoS that it was sent with.
    ///
    /// RabbitMQ answers so at QoS 2, too, as it has no more than QoS 1. There is nothing to wait for then.
    pub(in crate::mqtt::client_session) fn puback(&mut self, pkid: u16, sent_bytes: u64) -> Option<(Token, Qos)> {
        let answered = |qos| Some((self.answered(pkid, qos, PublishState::Publishing, sent_bytes)?, qos));
        let (serial, qos) = answered(Qos::AtLeastOnce).or_else(|| answered(Qos::ExactlyOnce))?;
        Some((self.acknowledge(serial), qos))
    }

    /// PUBACK or PUBREC with a reason code that says no: the message it is for, if there is one in flight. It will be
    /// sent again, as a new one. Also returns how many pauses there were in a row, if one begins with it.
    pub(in crate::mqtt::client_session) fn refuse(
        &mut self,
        pkid: u16,
        sent_bytes: u64,
        now: Instant,
    ) -> Option<(AttemptedPublish<'_>, Option<u32>)> {
        let serial = self.serial(pkid)?;
        let publish = self.at_mut(serial)?;
        let is_answer = publish.qos > Qos::AtMostOnce
            && publish.state == PublishState::Publishing
            && publish.position.end <= sent_bytes;
        if !is_answer {
            return None;
        }
        (publish.position, publish.dup) = (UNSENT, false);
        let qos = publish.qos;
        self.broker_limits.answered(qos);
        let pauses = self.refused.push(serial, now);
        self.at(serial).map(|publish| (publish.attempted(Token(serial), false), pauses))
    }

    /// PUBREC: whether to answer with PUBREL, which the caller sends and tells [`OutgoingPublishes::released`].
    pub(in crate::mqtt::client_session) fn pubrec(&mut self, pkid: u16, sent_bytes: u64) -> bool {
        // The broker may have an identifier from a former process; PUBREL lets it forget (MQTT 3.1.1, 4.3.3).
        let Some(serial) = self.serial(pkid) else { return true };
        let Some(publish) = self.at_mut(serial) else { return true };
        match publish.state {
            PublishState::Publishing if publish.qos == Qos::ExactlyOnce && publish.position.end <= sent_bytes => {
                (publish.state, publish.position) = (PublishState::Releasing, UNSENT);
                self.refused.order.taken(serial);
                true
            }
            // After a PUBREL, the PUBLISH that is still to be repeated would be a second message.
            PublishState::Publishing => !publish.dup && publish.position == UNSENT,
            PublishState::Releasing | PublishState::Acknowledged => true,
        }
    }

    /// The PUBREL that answers PUBREC lies at `position` of this connection; the first one counts.
    pub(in crate::mqtt::client_session) fn released(&mut self, pkid: u16, position: Range<u64>) {
        let publish = self.serial(pkid).and_then(|serial| self.at_mut(serial));
        if let Some(publish) = publish.filter(|one| one.state == PublishState::Releasing && one.position == UNSENT) {
            publish.position = position;
        }
    }

    /// PUBCOMP: the message it is for, if there is one in flight.
    pub(in crate::mqtt::client_session) fn pubcomp(&mut self, pkid: u16, sent_bytes: u64) -> Option<Token> {
        let serial = self.answered(pkid, Qos::ExactlyOnce, PublishState::Releasing, sent_bytes)?;
        Some(self.acknowledge(serial))
    }

    /// The serial number that an answer is for: of this QoS, in this state, and sent whole on this connection.
    fn answered(&self, pkid: u16, qos: Qos, state: PublishState, sent_bytes: u64) -> Option<u64> {
        let serial = self.serial(pkid)?;
        let publish = self.at(serial)?;
        (publish.qos == qos && publish.state == state && publish.position.end <= sent_bytes).then_some(serial)
    }
}
