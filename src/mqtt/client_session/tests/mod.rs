//! Each rule of the session by itself, against a hand-held broker.

#[path = "../../../../tests/mqtt_session/dialect.rs"]
mod dialect;

mod blame;
mod health;
mod incoming;
mod outgoing;
mod v31;
mod v5;
mod v5_limits;
mod v5_order;
mod v5_subscriptions;
mod versions;

use std::time::Duration;

use bytes::BytesMut;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{self, ConnectReturnCode, Packet, SubscribeReasonCode};

use self::dialect::Dialect;
use super::deadlines::ANSWER_TIMEOUT;
use super::outgoing_publishes::MAX_PUBLISH_ID;
use super::*;
use crate::mqtt::connection_lost::Obstacle;
use crate::mqtt::{InFlightLimit, Login, Message, Version, Will};

const SECOND: Duration = Duration::from_secs(1);

/// A session, the time, and the broker's end of the stream.
struct Rig {
    session: ClientSession,
    broker: Dialect,
    now: Instant,
    rng: StdRng,
}

impl Rig {
    fn new(change: impl FnOnce(&mut ClientOptions)) -> Self {
        let mut options = ClientOptions::new("me");
        options.clean_session = false;
        options.version = versions::version();
        change(&mut options);
        let broker = Dialect::new(options.version.config_value().parse().unwrap());
        let session = ClientSession::new(options).unwrap();
        Self { session, broker, now: Instant::now(), rng: StdRng::seed_from_u64(0) }
    }

    fn up() -> Self {
        let mut rig = Self::new(|_| {});
        rig.connect(false);
        rig
    }

    /// CONNECT, CONNACK; returns what the client sent before CONNACK.
    fn connect(&mut self, session_present: bool) -> Vec<Packet> {
        self.session.transport_opened(self.now);
        let sent = self.sent();
        self.connack(session_present, ConnectReturnCode::Success).unwrap();
        sent
    }

    fn connack(&mut self, session_present: bool, code: ConnectReturnCode) -> std::result::Result<(), ConnectionLost> {
        self.receive(&Packet::ConnAck(v4::ConnAck::new(code, session_present)))
    }

    /// The peer drops the connection.
    fn drop_connection(&mut self) -> Duration {
        self.session.transport_lost("gone", self.now, &mut self.rng) - self.now
    }

    fn receive(&mut self, packet: &Packet) -> std::result::Result<(), ConnectionLost> {
        let mut bytes = BytesMut::new();
        self.broker.write(packet, &mut bytes);
        self.session.bytes_received(&mut bytes, self.now)
    }

    fn deliver(&mut self, qos: QoS, pkid: u16, payload: &str, dup: bool) {
        let mut publish = v4::Publish::new("in", qos, payload);
        (publish.pkid, publish.dup) = (pkid, dup);
        self.receive(&Packet::Publish(publish)).unwrap();
    }

    /// The socket takes everything, and the broker reads it.
    fn sent(&mut self) -> Vec<Packet> {
        let mut all = BytesMut::new();
        while !self.session.bytes_to_send().is_empty() {
            all.extend_from_slice(self.session.bytes_to_send());
            self.session.bytes_sent(self.session.bytes_to_send().len(), self.now);
        }
        self.parse(all)
    }

    fn parse(&mut self, mut bytes: BytesMut) -> Vec<Packet> {
        let mut packets = Vec::new();
        while !bytes.is_empty() {
            packets.push(self.broker.read(&mut bytes).unwrap().unwrap());
        }
        packets
    }

    fn publish(&mut self, payload: &'static str, qos: Qos) -> Token {
        self.session.publish("out", Bytes::from_static(payload.as_bytes()), qos, false).unwrap()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.next_event()).collect()
    }

    fn acknowledged(&mut self) -> Vec<Token> {
        let acknowledged = |event| if let Event::Acknowledged(token) = event { Some(token) } else { None };
        self.events().into_iter().filter_map(acknowledged).collect()
    }

    fn messages(&mut self) -> Vec<Message> {
        let message = |event| if let Event::Message(message) = event { Some(message) } else { None };
        self.events().into_iter().filter_map(message).collect()
    }

    fn refused(&mut self) -> Option<Error> {
        self.events()
            .into_iter()
            .find_map(|event| if let Event::Refused(refusal) = event { Some(refusal.error) } else { None })
    }
}

fn puback(pkid: u16) -> Packet {
    Packet::PubAck(v4::PubAck::new(pkid))
}

fn pubrec(pkid: u16) -> Packet {
    Packet::PubRec(v4::PubRec::new(pkid))
}

fn pubrel(pkid: u16) -> Packet {
    Packet::PubRel(v4::PubRel::new(pkid))
}

fn pubcomp(pkid: u16) -> Packet {
    Packet::PubComp(v4::PubComp::new(pkid))
}

fn suback(pkid: u16, code: SubscribeReasonCode) -> Packet {
    Packet::SubAck(v4::SubAck::new(pkid, vec![code]))
}

/// Payload, identifier and DUP of each PUBLISH.
fn published(packets: &[Packet]) -> Vec<(String, u16, bool)> {
    packets
        .iter()
        .map(|packet| match packet {
            Packet::Publish(one) => (String::from_utf8(one.payload.to_vec()).unwrap(), one.pkid, one.dup),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn row(payload: &str, pkid: u16, dup: bool) -> (String, u16, bool) {
    (payload.to_owned(), pkid, dup)
}
