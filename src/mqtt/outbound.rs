//! What we published and the broker has not acknowledged: a window that starts at the oldest such message.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::Request;
use super::{InFlightLimit, Qos, Token, Unacknowledged};

/// Packet identifiers 1 to this are for PUBLISH, those above for SUBSCRIBE: the two can never meet.
pub(super) const PUBLISH_IDS: u16 = 0xff00;

/// Messages at QoS 2 between PUBLISH and PUBCOMP. Before MQTT 5 a broker cannot say how many it takes, and mosquitto
/// answers PUBREC and PUBCOMP to more than its `max_inflight_messages` (20 unless it is set), but drops them.
const MAX_EXACTLY_ONCE: usize = 20;

/// Bytes that no connection carried: no acknowledgement can be for them.
const UNSENT: Range<u64> = u64::MAX..u64::MAX;

/// One message on its way.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) topic: Arc<str>,
    pub(super) payload: Bytes,
    qos: Qos,
    retain: bool,
    stage: Stage,
    /// A socket took all of it once, so the broker may have it.
    dup: bool,
    /// Where its latest packet lies among the bytes of this connection.
    bytes: Range<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// PUBLISH is to be sent, or answered.
    Publish,
    /// PUBREC came: PUBREL is to be sent, or answered.
    Release,
    /// Acknowledged; waits for older ones to leave the window with it.
    Done,
}

impl Flight {
    fn size(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// The window. A message's serial number gives its packet identifier, and so its place: nothing is ever searched for.
#[derive(Debug)]
pub(super) struct Outbound {
    window: InFlightLimit,
    flights: VecDeque<Flight>,
    /// Serial number of the oldest one in `flights`.
    first: u64,
    /// Serial number of the first one that this connection has not carried yet.
    next: u64,
    unacknowledged: Unacknowledged,
    /// Messages at QoS 2 that this connection carried and that are not acknowledged.
    exactly_once: usize,
    /// Serial numbers at QoS 0 that wait for the socket to take them.
    unanswered: VecDeque<u64>,
}

impl Outbound {
    pub(super) fn new(window: InFlightLimit) -> Self {
        let window =
            InFlightLimit { messages: window.messages.clamp(1, usize::from(PUBLISH_IDS)), bytes: window.bytes };
        Self {
            window,
            flights: VecDeque::new(),
            first: 0,
            next: 0,
            unacknowledged: Unacknowledged::default(),
            exactly_once: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// Whether a message of `size` bytes, topic included, fits; an empty window takes any.
    pub(super) fn room(&self, size: usize) -> bool {
        self.flights.is_empty()
            || (self.flights.len() < self.window.messages
                && self.unacknowledged.bytes.saturating_add(size) <= self.window.bytes)
    }

    pub(super) fn unacknowledged(&self) -> Unacknowledged {
        self.unacknowledged
    }

    pub(super) fn push(&mut self, topic: Arc<str>, payload: Bytes, qos: Qos, retain: bool) -> Token {
        let flight = Flight { topic, payload, qos, retain, stage: Stage::Publish, dup: false, bytes: UNSENT };
        self.unacknowledged.messages += 1;
        self.unacknowledged.bytes += flight.size();
        self.flights.push_back(flight);
        Token(self.first + self.flights.len() as u64 - 1)
    }

    /// Whether this connection carried all there is.
    pub(super) fn all_sent(&self) -> bool {
        self.next == self.first + self.flights.len() as u64
    }

    /// The oldest message, if this connection's socket has taken some of it: `sent` counts the bytes it took.
    pub(super) fn oldest_tried(&self, sent: u64) -> Option<(Token, &Flight)> {
        let oldest = self.flights.front()?;
        (oldest.bytes.start < sent).then_some((Token(self.first), oldest))
    }

    /// The next packet to send, or nothing. With `alone`, nothing while an older message is unanswered.
    ///
    /// The caller encodes it and then calls [`Outbound::carried`].
    pub(super) fn next_packet(&mut self, alone: bool) -> Option<Request<'_>> {
        while self.at(self.next).is_some_and(|flight| flight.stage == Stage::Done) {
            self.next += 1;
        }
        if alone && self.next > self.first {
            return None;
        }
        let pkid = pkid(self.next);
        let flight = self.at(self.next)?;
        if flight.qos == Qos::ExactlyOnce && self.exactly_once >= MAX_EXACTLY_ONCE {
            return None;
        }
        Some(match flight.stage {
            Stage::Release => Request::PubRel(pkid),
            Stage::Publish | Stage::Done => Request::Publish {
                topic: &flight.topic,
                payload: &flight.payload,
                qos: flight.qos,
                retain: flight.retain,
                dup: flight.dup && flight.qos != Qos::AtMostOnce,
                pkid: if flight.qos == Qos::AtMostOnce { 0 } else { pkid },
            },
        })
    }

    /// The packet of [`Outbound::next_packet`] lies at `bytes` of this connection.
    pub(super) fn carried(&mut self, bytes: Range<u64>) {
        let serial = self.next;
        self.next += 1;
        let Some(flight) = self.at_mut(serial) else { return };
        flight.bytes = bytes;
        match flight.qos {
            Qos::AtMostOnce => self.unanswered.push_back(serial),
            Qos::AtLeastOnce => {}
            Qos::ExactlyOnce => self.exactly_once += 1,
        }
    }

    /// The next message at QoS 0 that the socket has taken, now that it took `sent` bytes.
    pub(super) fn taken(&mut self, sent: u64) -> Option<Token> {
        let serial = *self.unanswered.front()?;
        if self.at(serial).is_some_and(|flight| flight.bytes.end > sent) {
            return None;
        }
        self.unanswered.pop_front();
        Some(self.done(serial))
    }

    /// PUBACK: the message it is for, if there is one in flight.
    pub(super) fn puback(&mut self, pkid: u16, sent: u64) -> Option<Token> {
        let serial = self.answered(pkid, Qos::AtLeastOnce, Stage::Publish, sent)?;
        Some(self.done(serial))
    }

    /// PUBREC: whether to answer with PUBREL, which would lie at `release` of this connection.
    pub(super) fn pubrec(&mut self, pkid: u16, sent: u64, release: Range<u64>) -> bool {
        let flight = self.serial(pkid).and_then(|serial| self.at_mut(serial));
        // The broker may have an identifier from a former process; PUBREL lets it forget (MQTT 3.1.1, 4.3.3).
        let Some(flight) = flight else { return true };
        match flight.stage {
            Stage::Publish if flight.qos == Qos::ExactlyOnce && flight.bytes.end <= sent => {
                flight.stage = Stage::Release;
                flight.bytes = release;
                true
            }
            // Once let go, the PUBLISH that is still to be repeated would be a second message.
            Stage::Publish => !flight.dup && flight.bytes == UNSENT,
            Stage::Release | Stage::Done => true,
        }
    }

    /// PUBCOMP: the message it is for, if there is one in flight.
    pub(super) fn pubcomp(&mut self, pkid: u16, sent: u64) -> Option<Token> {
        let serial = self.answered(pkid, Qos::ExactlyOnce, Stage::Release, sent)?;
        Some(self.done(serial))
    }

    /// The connection is gone, after its socket took `sent` bytes: everything unacknowledged is to be sent again.
    pub(super) fn disconnected(&mut self, sent: u64) {
        for flight in &mut self.flights {
            flight.dup |= flight.stage == Stage::Publish && flight.bytes.end <= sent;
            flight.bytes = UNSENT;
        }
        self.next = self.first;
        self.exactly_once = 0;
        self.unanswered.clear();
    }

    /// The broker kept no session, or (not `certain`) may not have: every message is sent again from PUBLISH on.
    ///
    /// That holds for a message with PUBREC but without PUBCOMP, too: a broker may wait for PUBREL before it passes a
    /// message on (MQTT 3.1.1, figure 4.3, method A; mosquitto does), so to drop it here would be to lose it.
    pub(super) fn forgotten(&mut self, certain: bool) {
        for flight in &mut self.flights {
            if flight.stage == Stage::Release {
                flight.stage = Stage::Publish;
                flight.dup = true;
            }
            flight.dup &= !certain;
        }
    }

    /// The serial number that an answer is for: right kind, right stage, and sent whole on this connection.
    fn answered(&self, pkid: u16, qos: Qos, stage: Stage, sent: u64) -> Option<u64> {
        let serial = self.serial(pkid)?;
        let flight = self.at(serial)?;
        (flight.qos == qos && flight.stage == stage && flight.bytes.end <= sent).then_some(serial)
    }

    /// The serial number that has this packet identifier now, whether or not there is such a message.
    fn serial(&self, pkid: u16) -> Option<u64> {
        let ids = u64::from(PUBLISH_IDS);
        let place = u64::from(pkid).checked_sub(1).filter(|place| *place < ids)?;
        Some(self.first + (place + ids - self.first % ids) % ids)
    }

    fn done(&mut self, serial: u64) -> Token {
        if let Some(flight) = self.at_mut(serial) {
            let (size, qos) = (flight.size(), flight.qos);
            flight.stage = Stage::Done;
            flight.payload = Bytes::new();
            self.exactly_once -= usize::from(qos == Qos::ExactlyOnce);
            self.unacknowledged.messages -= 1;
            self.unacknowledged.bytes -= size;
        }
        while self.flights.front().is_some_and(|flight| flight.stage == Stage::Done) {
            self.flights.pop_front();
            self.first += 1;
        }
        self.next = self.next.max(self.first);
        Token(serial)
    }

    fn at(&self, serial: u64) -> Option<&Flight> {
        self.flights.get(usize::try_from(serial.checked_sub(self.first)?).ok()?)
    }

    fn at_mut(&mut self, serial: u64) -> Option<&mut Flight> {
        self.flights.get_mut(usize::try_from(serial.checked_sub(self.first)?).ok()?)
    }
}

/// The packet identifier of a serial number, 1 to [`PUBLISH_IDS`].
fn pkid(serial: u64) -> u16 {
    let place = serial % u64::from(PUBLISH_IDS);
    u16::try_from(place).expect("a remainder of a u16 fits") + 1
}
