//! What we published and the broker has not acknowledged, from the oldest such message on.

mod answers;
mod withdrawal;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::broker_limits::BrokerLimits;
use super::last_sent::SentMessage;
use super::outgoing_publish::{AttemptedPublish, Excess, OutgoingPublish, PublishState, UNSENT};
use super::publish_topics::PublishTopics;
use super::refused_publishes::RefusedPublishes;
use crate::Result;
use crate::mqtt::codec::{Publish, Request};
use crate::mqtt::{InFlightLimit, Qos, Token};

/// Packet identifiers up to this one are for PUBLISH, those above for SUBSCRIBE, so that the two never meet.
pub(super) const MAX_PUBLISH_ID: u16 = 0xff00;

/// What is published and not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unacknowledged {
    /// Messages.
    pub messages: usize,
    /// Bytes of their topics and payloads.
    pub bytes: usize,
}

/// All that are published and not acknowledged. A message's serial number gives its packet identifier and its place, so
/// nothing is ever searched for.
#[derive(Debug)]
pub(super) struct OutgoingPublishes {
    /// How much may be in flight; `None` once nothing more will be published.
    limit: Option<InFlightLimit>,
    publishes: VecDeque<OutgoingPublish>,
    /// Serial number of the oldest one in `publishes`.
    first_serial: u64,
    /// Serial number of the first one that this connection has not carried yet.
    next_serial: u64,
    unacknowledged: Unacknowledged,
    /// What the broker bears on this connection.
    broker_limits: BrokerLimits,
    refused: RefusedPublishes,
    /// Serial numbers at QoS 0 that the socket has not taken yet.
    unsent: VecDeque<u64>,
    topics: PublishTopics,
}

impl OutgoingPublishes {
    pub(super) fn new(limit: InFlightLimit) -> Self {
        let limit =
            InFlightLimit { messages: limit.messages.clamp(1, usize::from(MAX_PUBLISH_ID)), bytes: limit.bytes };
        Self {
            limit: Some(limit),
            publishes: VecDeque::new(),
            first_serial: 0,
            next_serial: 0,
            unacknowledged: Unacknowledged::default(),
            broker_limits: BrokerLimits::default(),
            refused: RefusedPublishes::default(),
            unsent: VecDeque::new(),
            topics: PublishTopics::default(),
        }
    }

    /// Whether a message of `size` bytes, topic and payload, fits; where there is no other, any does.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.limit.is_some_and(|limit| {
            self.publishes.is_empty()
                || (self.publishes.len() < limit.messages
                    && self.unacknowledged.bytes.saturating_add(size) <= limit.bytes)
        })
    }

    /// Nothing more will be published.
    pub(super) fn close(&mut self) {
        self.limit = None;
    }

    /// Whether nothing more will be published.
    pub(super) fn is_closed(&self) -> bool {
        self.limit.is_none()
    }

    /// As [`PublishTopics::share`].
    pub(super) fn share_topic(&mut self, topic: &str) -> Result<Arc<str>> {
        self.topics.share(topic)
    }

    /// The length of the last topic, bytes.
    pub(super) fn last_topic_len(&self) -> usize {
        self.topics.last_len()
    }

    pub(super) fn unacknowledged(&self) -> Unacknowledged {
        self.unacknowledged
    }

    pub(super) fn push(&mut self, topic: Arc<str>, payload: Bytes, qos: Qos, retain: bool) -> Token {
        let publish = OutgoingPublish {
            topic,
            payload,
            qos,
            retain,
            state: PublishState::Publishing,
            dup: false,
            is_told: false,
            position: UNSENT,
        };
        self.unacknowledged.messages += 1;
        self.unacknowledged.bytes += publish.size();
        self.publishes.push_back(publish);
        Token(self.first_serial + self.publishes.len() as u64 - 1)
    }

    /// A connection begins, with these limits.
    pub(super) fn connection_accepted(&mut self, limits: BrokerLimits) {
        self.broker_limits = limits;
    }

    /// What the broker bears, as far as that is known.
    pub(super) fn broker_limits(&mut self) -> &mut BrokerLimits {
        &mut self.broker_limits
    }

    /// Whether a connection was accepted in this run.
    pub(super) fn knows_broker_limits(&self) -> bool {
        self.broker_limits.are_said
    }

    /// Whether the broker keeps no session after the connection that there is, whatever was asked for.
    pub(super) fn ends_session(&self) -> bool {
        self.broker_limits.ends_session
    }

    /// The longest payload on this topic that the broker takes, bytes.
    pub(super) fn max_payload(&self, topic: &str) -> usize {
        self.broker_limits.max_payload(topic)
    }

    /// Whether this connection carried all there is.
    pub(super) fn all_sent(&self) -> bool {
        self.next_serial == self.first_serial + self.publishes.len() as u64 && self.refused.is_empty()
    }

    /// What the broker bears less of than the next message asks for, once for each message.
    pub(super) fn next_excess(&mut self) -> Option<Excess<'_>> {
        let (serial, limits) = (self.next_to_send()?, self.broker_limits);
        let publish = self.at_mut(serial)?;
        if publish.state != PublishState::Publishing {
            return None;
        }
        let max_payload = limits.max_payload(&publish.topic);
        if publish.payload.len() > max_payload {
            let is_new = !std::mem::replace(&mut publish.is_told, true);
            return is_new.then(|| Excess::Length(publish.attempted(Token(serial), false), max_payload));
        }
        if publish.qos > limits.max_qos {
            let asked = std::mem::replace(&mut publish.qos, limits.max_qos);
            return Some(Excess::Qos { asked, max: limits.max_qos });
        }
        let is_excess = publish.retain && !limits.retains;
        publish.retain &= limits.retains;
        is_excess.then_some(Excess::Retain)
    }

    /// The serial number of the message that goes next: one that the broker refused, after a pause, or the first that
    /// this connection has not carried yet.
    fn next_to_send(&mut self) -> Option<u64> {
        if self.refused.retry_at().is_some() {
            return None;
        }
        while self.at(self.next_serial).is_some_and(|publish| publish.state == PublishState::Acknowledged) {
            self.next_serial += 1;
        }
        self.refused.next().or_else(|| self.at(self.next_serial).map(|_| self.next_serial))
    }

    /// Until when nothing is published, since the broker refused a message.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.refused.retry_at()
    }

    /// Ends that pause, if it is over.
    pub(super) fn resume(&mut self, now: Instant) {
        self.refused.resume(now);
    }

    /// The oldest message, if this connection's socket has taken some of its PUBLISH, to which there is no answer;
    /// `sent_bytes` counts all that it took.
    pub(super) fn oldest_attempted(&self, sent_bytes: u64) -> Option<AttemptedPublish<'_>> {
        let oldest = self.publishes.front()?;
        let attempted = oldest.state == PublishState::Publishing && oldest.position.start < sent_bytes;
        let longer_was_accepted = self.topics.was_longer_accepted(&oldest.topic, oldest.payload.len());
        attempted.then(|| oldest.attempted(Token(self.first_serial), longer_was_accepted))
    }

    /// Where the latest packet of the oldest message ends among the bytes of this connection, if its socket has taken
    /// it and an answer is due; `sent_bytes` counts all that it took.
    pub(super) fn oldest_unanswered(&self, sent_bytes: u64) -> Option<u64> {
        let oldest = self.publishes.front().filter(|oldest| oldest.qos > Qos::AtMostOnce)?;
        (oldest.position.end <= sent_bytes).then_some(oldest.position.end)
    }

    /// The next packet to send, or nothing. With `alone`, and after a refusal until the broker accepts a message, nothing while
    /// an older message is not acknowledged.
    ///
    /// The caller encodes it and then calls [`OutgoingPublishes::encoded`].
    pub(super) fn next_packet(&mut self, alone: bool) -> Option<Request<'_>> {
        let serial = self.next_to_send()?;
        if (alone || self.refused.is_probing()) && serial > self.first_serial {
            return None;
        }
        let pkid = pkid(serial);
        let publish = self.at(serial)?;
        // PUBREL carries no payload, however long the message was.
        let is_too_long = publish.state == PublishState::Publishing
            && publish.payload.len() > self.broker_limits.max_payload(&publish.topic);
        if is_too_long || !self.broker_limits.admit(publish.qos) {
            return None;
        }
        Some(match publish.state {
            PublishState::Releasing => Request::PubRel(pkid),
            PublishState::Publishing | PublishState::Acknowledged => Request::Publish(Publish {
                topic: &publish.topic,
                payload: &publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup && publish.qos != Qos::AtMostOnce,
                pkid: if publish.qos == Qos::AtMostOnce { 0 } else { pkid },
            }),
        })
    }

    /// The packet of [`OutgoingPublishes::next_packet`] lies at `position` among the bytes of this connection.
    pub(super) fn encoded(&mut self, position: Range<u64>) {
        let serial = self.refused.next().unwrap_or(self.next_serial);
        if self.refused.is_empty() {
            self.next_serial += 1;
        } else {
            self.refused.sent();
        }
        let Some(publish) = self.at_mut(serial) else { return };
        publish.position = position;
        let qos = publish.qos;
        self.broker_limits.sent(qos);
        if qos == Qos::AtMostOnce {
            self.unsent.push_back(serial);
        }
    }

    /// The next message at QoS 0 that the socket has taken, now that it took `sent_bytes`.
    pub(super) fn next_sent(&mut self, sent_bytes: u64) -> Option<(Token, Option<SentMessage>)> {
        let serial = *self.unsent.front()?;
        let publish = self.at(serial);
        if publish.is_some_and(|publish| publish.position.end > sent_bytes) {
            return None;
        }
        let message =
            publish.map(|publish| SentMessage { topic: Arc::clone(&publish.topic), len: publish.payload.len() });
        self.unsent.pop_front();
        Some((self.acknowledge(serial), message))
    }

    /// The connection is gone, after its socket took `sent_bytes`: everything unacknowledged is to be sent again.
    pub(super) fn connection_ended(&mut self, sent_bytes: u64) {
        self.note_attempted(sent_bytes);
        for publish in &mut self.publishes {
            publish.dup |= publish.state == PublishState::Publishing && publish.position.end <= sent_bytes;
            publish.position = UNSENT;
        }
        self.next_serial = self.first_serial;
        self.broker_limits.connection_ended();
        self.refused.connection_ended();
        self.unsent.clear();
    }

    /// The broker kept no session, or (not `certain`) may not have: every message is sent again from PUBLISH on.
    ///
    /// That holds for a message with PUBREC but without PUBCOMP, too: a broker may wait for PUBREL before it passes a
    /// message on (MQTT 3.1.1, figure 4.3, method A; mosquitto does), so to drop it here would be to lose it.
    pub(super) fn session_lost(&mut self, certain: bool) {
        for publish in &mut self.publishes {
            if publish.state == PublishState::Releasing {
                publish.state = PublishState::Publishing;
                publish.dup = true;
            }
            publish.dup &= !certain;
        }
    }

    /// The serial number that has this packet identifier now, whether or not there is such a message.
    fn serial(&self, pkid: u16) -> Option<u64> {
        let ids = u64::from(MAX_PUBLISH_ID);
        let place = u64::from(pkid).checked_sub(1).filter(|place| *place < ids)?;
        Some(self.first_serial + (place + ids - self.first_serial % ids) % ids)
    }

    fn acknowledge(&mut self, serial: u64) -> Token {
        if let Some(publish) = self.at_mut(serial) {
            let (size, qos) = (publish.size(), publish.qos);
            publish.state = PublishState::Acknowledged;
            let payload = std::mem::take(&mut publish.payload);
            if qos > Qos::AtMostOnce {
                let topic = Arc::clone(&publish.topic);
                self.topics.accepted(topic, payload.len());
                self.refused.order.taken(serial);
            }
            self.refused.order.forget(serial);
            self.broker_limits.answered(qos);
            self.refused.accepted();
            self.unacknowledged.messages -= 1;
            self.unacknowledged.bytes -= size;
        }
        self.forget_acknowledged();
        Token(serial)
    }

    /// Forgets what nothing older is before.
    fn forget_acknowledged(&mut self) {
        while self.publishes.front().is_some_and(|publish| publish.state == PublishState::Acknowledged) {
            self.publishes.pop_front();
            self.first_serial += 1;
        }
        self.next_serial = self.next_serial.max(self.first_serial);
    }

    fn at(&self, serial: u64) -> Option<&OutgoingPublish> {
        self.publishes.get(usize::try_from(serial.checked_sub(self.first_serial)?).ok()?)
    }

    fn at_mut(&mut self, serial: u64) -> Option<&mut OutgoingPublish> {
        self.publishes.get_mut(usize::try_from(serial.checked_sub(self.first_serial)?).ok()?)
    }
}

/// The packet identifier of a serial number, 1 to [`MAX_PUBLISH_ID`].
fn pkid(serial: u64) -> u16 {
    let place = serial % u64::from(MAX_PUBLISH_ID);
    u16::try_from(place).expect("a remainder of a u16 fits") + 1
}
