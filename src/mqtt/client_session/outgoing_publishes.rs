//! What we published and the broker has not acknowledged, from the oldest such message on.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::mqtt::codec::Request;
use crate::mqtt::{InFlightLimit, Qos, Token};

/// Packet identifiers up to this one are for PUBLISH, those above for SUBSCRIBE, so that the two never meet.
pub(super) const MAX_PUBLISH_ID: u16 = 0xff00;

/// Messages at QoS 2 between PUBLISH and PUBCOMP. Before MQTT 5 a broker cannot say how many it takes, and mosquitto
/// drops those over its `max_inflight_messages` (20 by default), though it answers with PUBREC and PUBCOMP.
const MAX_EXACTLY_ONCE: usize = 20;

/// The position of a packet that this connection has not carried: after each byte sent, so no answer can be for it.
const UNSENT: Range<u64> = u64::MAX..u64::MAX;

/// What is published and not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unacknowledged {
    /// Messages.
    pub messages: usize,
    /// Bytes of their topics and payloads.
    pub bytes: usize,
}

/// One published message.
#[derive(Debug)]
struct OutgoingPublish {
    topic: Arc<str>,
    payload: Bytes,
    qos: Qos,
    retain: bool,
    state: PublishState,
    /// A socket took all of it on some connection, so the broker may have it.
    dup: bool,
    /// Where its latest packet lies among the bytes of this connection.
    position: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PublishState {
    /// PUBLISH is to be sent, or answered.
    Publishing,
    /// PUBREC came: PUBREL is to be sent, or answered.
    Releasing,
    /// Done, and kept until all older ones are.
    Acknowledged,
}

impl OutgoingPublish {
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// A message that went out and was not answered: did the broker refuse it?
#[derive(Debug)]
pub(super) struct AttemptedPublish<'a> {
    pub(super) token: Token,
    pub(super) topic: &'a str,
    pub(super) len: usize,
    pub(super) qos: Qos,
    /// The broker accepted one at least as long on this topic in this run, so it has no reason to.
    pub(super) longer_was_accepted: bool,
}

/// A message that PUBACK was for.
#[derive(Debug)]
pub(super) struct PubAcked {
    pub(super) token: Token,
    /// It was sent at QoS 2, and is the first one that the broker took at QoS 1 instead.
    pub(super) is_first_at_lower_qos: bool,
}

/// All of them. A message's serial number gives its packet identifier and its place, so nothing is ever searched for.
#[derive(Debug)]
pub(super) struct OutgoingPublishes {
    limit: InFlightLimit,
    publishes: VecDeque<OutgoingPublish>,
    /// Serial number of the oldest one in `publishes`.
    first_serial: u64,
    /// Serial number of the first one that this connection has not carried yet.
    next_serial: u64,
    unacknowledged: Unacknowledged,
    /// Messages at QoS 2 that this connection carried and that are not acknowledged.
    exactly_once_in_flight: usize,
    /// Serial numbers at QoS 0 that the socket has not taken yet.
    unsent: VecDeque<u64>,
    /// The longest message that the broker acknowledged on the latest topic: it has no reason to refuse a shorter one.
    longest_accepted: Option<(Arc<str>, usize)>,
    /// The broker took a message at QoS 2 for one at QoS 1.
    is_qos_lowered: bool,
}

impl OutgoingPublishes {
    pub(super) fn new(limit: InFlightLimit) -> Self {
        let limit =
            InFlightLimit { messages: limit.messages.clamp(1, usize::from(MAX_PUBLISH_ID)), bytes: limit.bytes };
        Self {
            limit,
            publishes: VecDeque::new(),
            first_serial: 0,
            next_serial: 0,
            unacknowledged: Unacknowledged::default(),
            exactly_once_in_flight: 0,
            unsent: VecDeque::new(),
            longest_accepted: None,
            is_qos_lowered: false,
        }
    }

    /// Whether a message of `size` bytes, topic and payload, fits; where there is no other, any does.
    pub(super) fn has_room(&self, size: usize) -> bool {
        self.publishes.is_empty()
            || (self.publishes.len() < self.limit.messages
                && self.unacknowledged.bytes.saturating_add(size) <= self.limit.bytes)
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
            position: UNSENT,
        };
        self.unacknowledged.messages += 1;
        self.unacknowledged.bytes += publish.size();
        self.publishes.push_back(publish);
        Token(self.first_serial + self.publishes.len() as u64 - 1)
    }

    /// Whether this connection carried all there is.
    pub(super) fn all_sent(&self) -> bool {
        self.next_serial == self.first_serial + self.publishes.len() as u64
    }

    /// The oldest message, if this connection's socket has taken some of its PUBLISH, to which there is no answer;
    /// `sent_bytes` counts all that it took.
    pub(super) fn oldest_attempted(&self, sent_bytes: u64) -> Option<AttemptedPublish<'_>> {
        let oldest = self.publishes.front()?;
        let attempted = oldest.state == PublishState::Publishing && oldest.position.start < sent_bytes;
        attempted.then(|| AttemptedPublish {
            token: Token(self.first_serial),
            topic: &oldest.topic,
            len: oldest.payload.len(),
            qos: oldest.qos,
            longer_was_accepted: self
                .longest_accepted
                .as_ref()
                .is_some_and(|(topic, longest)| *topic == oldest.topic && *longest >= oldest.payload.len()),
        })
    }

    /// Where the latest packet of the oldest message ends among the bytes of this connection, if its socket has taken it and
    /// an answer is due; `sent_bytes` counts all that it took.
    pub(super) fn oldest_unanswered(&self, sent_bytes: u64) -> Option<u64> {
        let oldest = self.publishes.front().filter(|oldest| oldest.qos > Qos::AtMostOnce)?;
        (oldest.position.end <= sent_bytes).then_some(oldest.position.end)
    }

    /// The next packet to send, or nothing. With `alone`, nothing while an older message is not acknowledged.
    ///
    /// The caller encodes it and then calls [`OutgoingPublishes::encoded`].
    pub(super) fn next_packet(&mut self, alone: bool) -> Option<Request<'_>> {
        while self.at(self.next_serial).is_some_and(|publish| publish.state == PublishState::Acknowledged) {
            self.next_serial += 1;
        }
        if alone && self.next_serial > self.first_serial {
            return None;
        }
        let pkid = pkid(self.next_serial);
        let publish = self.at(self.next_serial)?;
        if publish.qos == Qos::ExactlyOnce && self.exactly_once_in_flight >= MAX_EXACTLY_ONCE {
            return None;
        }
        Some(match publish.state {
            PublishState::Releasing => Request::PubRel(pkid),
            PublishState::Publishing | PublishState::Acknowledged => Request::Publish {
                topic: &publish.topic,
                payload: &publish.payload,
                qos: publish.qos,
                retain: publish.retain,
                dup: publish.dup && publish.qos != Qos::AtMostOnce,
                pkid: if publish.qos == Qos::AtMostOnce { 0 } else { pkid },
            },
        })
    }

    /// The packet of [`OutgoingPublishes::next_packet`] lies at `position` among the bytes of this connection.
    pub(super) fn encoded(&mut self, position: Range<u64>) {
        let serial = self.next_serial;
        self.next_serial += 1;
        let Some(publish) = self.at_mut(serial) else { return };
        publish.position = position;
        match publish.qos {
            Qos::AtMostOnce => self.unsent.push_back(serial),
            Qos::AtLeastOnce => {}
            Qos::ExactlyOnce => self.exactly_once_in_flight += 1,
        }
    }

    /// The next message at QoS 0 that the socket has taken, now that it took `sent_bytes`.
    pub(super) fn next_sent(&mut self, sent_bytes: u64) -> Option<Token> {
        let serial = *self.unsent.front()?;
        if self.at(serial).is_some_and(|publish| publish.position.end > sent_bytes) {
            return None;
        }
        self.unsent.pop_front();
        Some(self.acknowledge(serial))
    }

    /// PUBACK: the message it is for, if there is one in flight.
    ///
    /// RabbitMQ answers so at QoS 2, too, as it has no more than QoS 1. There is nothing to wait for then.
    pub(super) fn puback(&mut self, pkid: u16, sent_bytes: u64) -> Option<PubAcked> {
        let answered = |qos| self.answered(pkid, qos, PublishState::Publishing, sent_bytes);
        if let Some(serial) = answered(Qos::AtLeastOnce) {
            return Some(PubAcked { token: self.acknowledge(serial), is_first_at_lower_qos: false });
        }
        let serial = answered(Qos::ExactlyOnce)?;
        let is_first_at_lower_qos = !std::mem::replace(&mut self.is_qos_lowered, true);
        Some(PubAcked { token: self.acknowledge(serial), is_first_at_lower_qos })
    }

    /// PUBREC: whether to answer with PUBREL, which would lie at `release` of this connection.
    pub(super) fn pubrec(&mut self, pkid: u16, sent_bytes: u64, release: Range<u64>) -> bool {
        let publish = self.serial(pkid).and_then(|serial| self.at_mut(serial));
        // The broker may have an identifier from a former process; PUBREL lets it forget (MQTT 3.1.1, 4.3.3).
        let Some(publish) = publish else { return true };
        match publish.state {
            PublishState::Publishing if publish.qos == Qos::ExactlyOnce && publish.position.end <= sent_bytes => {
                publish.state = PublishState::Releasing;
                publish.position = release;
                true
            }
            // After a PUBREL, the PUBLISH that is still to be repeated would be a second message.
            PublishState::Publishing => !publish.dup && publish.position == UNSENT,
            PublishState::Releasing | PublishState::Acknowledged => true,
        }
    }

    /// PUBCOMP: the message it is for, if there is one in flight.
    pub(super) fn pubcomp(&mut self, pkid: u16, sent_bytes: u64) -> Option<Token> {
        let serial = self.answered(pkid, Qos::ExactlyOnce, PublishState::Releasing, sent_bytes)?;
        Some(self.acknowledge(serial))
    }

    /// The connection is gone, after its socket took `sent_bytes`: everything unacknowledged is to be sent again.
    pub(super) fn connection_ended(&mut self, sent_bytes: u64) {
        for publish in &mut self.publishes {
            publish.dup |= publish.state == PublishState::Publishing && publish.position.end <= sent_bytes;
            publish.position = UNSENT;
        }
        self.next_serial = self.first_serial;
        self.exactly_once_in_flight = 0;
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

    /// The serial number that an answer is for: of this QoS, in this state, and sent whole on this connection.
    fn answered(&self, pkid: u16, qos: Qos, state: PublishState, sent_bytes: u64) -> Option<u64> {
        let serial = self.serial(pkid)?;
        let publish = self.at(serial)?;
        (publish.qos == qos && publish.state == state && publish.position.end <= sent_bytes).then_some(serial)
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
                self.accepted(topic, payload.len());
            }
            self.exactly_once_in_flight -= usize::from(qos == Qos::ExactlyOnce);
            self.unacknowledged.messages -= 1;
            self.unacknowledged.bytes -= size;
        }
        while self.publishes.front().is_some_and(|publish| publish.state == PublishState::Acknowledged) {
            self.publishes.pop_front();
            self.first_serial += 1;
        }
        self.next_serial = self.next_serial.max(self.first_serial);
        Token(serial)
    }

    /// The broker acknowledged a message of this length.
    fn accepted(&mut self, topic: Arc<str>, len: usize) {
        match &mut self.longest_accepted {
            Some((latest, longest)) if *latest == topic => *longest = len.max(*longest),
            latest => *latest = Some((topic, len)),
        }
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
