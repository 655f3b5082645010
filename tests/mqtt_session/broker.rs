//! A model of a broker: correct, but with every freedom that MQTT leaves to it, and faults and habits of brokers in use if it is
//! told so: it swallows packets, takes QoS 2 for QoS 1, and for a while closes connections, refuses them or subscriptions, or says
//! nothing. In MQTT 5 it takes few messages at a time, refuses some of them for now, and may take shorter ones after a while.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::BytesMut;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rumqttc::mqttbytes::QoS;
use rumqttc::mqttbytes::v4::{
    ConnAck, ConnectReturnCode, Packet, PubAck, PubComp, PubRec, PubRel, Publish, SubAck, Subscribe,
    SubscribeReasonCode,
};

use super::dialect::Dialect;

/// Messages that it sends before one of them is acknowledged.
const WINDOW: usize = 5;

/// What a cluster does while it fails over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Closes each connection at CONNECT.
    ClosesAtConnect,
    /// Closes each connection at SUBSCRIBE.
    ClosesAtSubscribe,
    /// Closes each connection at PUBLISH.
    ClosesAtPublish,
    /// The same at QoS 2 only.
    ClosesAtQos2,
    /// Accepts connections, and does not answer CONNECT.
    MuteAtConnect,
    /// Answers CONNECT with this reason code, which is that of CONNACK in this version.
    RefusesConnect(u8),
    /// Answers SUBSCRIBE with this reason code.
    RefusesSubscriptions(u8),
    /// Answers what follows CONNECT with DISCONNECT and this reason code (MQTT 5).
    Disconnects(u8),
    /// The same at SUBSCRIBE only.
    DisconnectsAtSubscribe(u8),
}

#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "a simulation is a heap of independent facts")]
pub(crate) struct Broker {
    rng: StdRng,
    level: u8,
    dialect: Dialect,
    /// The connection it listens to; bytes of any other are from the past.
    connection: u64,
    greeted: bool,
    input: BytesMut,
    /// Passes a message on at PUBREL (method A of figure 4.3), not at PUBLISH (method B).
    holds_until_pubrel: bool,

    /// From the client at QoS 2, by identifier: the message, between PUBLISH and PUBREL.
    held: HashMap<u16, u32>,
    /// PUBACK and PUBREC that it owes, sent in any order; those that refuse a message, too.
    owed: Vec<(Packet, bool)>,
    /// Identifiers of this connection that it has not freed by an answer.
    unanswered: BTreeSet<u16>,
    /// How many messages it may still refuse for now.
    pub(crate) may_refuse: u32,
    /// How many it refused.
    pub(crate) refused: u32,
    /// Each complete PUBLISH, as it came: first arrivals only.
    pub(crate) arrived: Vec<u32>,
    seen: BTreeSet<u32>,
    /// How often each message was passed on, by epoch.
    pub(crate) passed_on: BTreeMap<(u32, u32), u32>,
    /// Sessions so far, as the client knows them.
    pub(crate) epoch: u32,
    pub(crate) forgotten: u32,

    /// To the client: messages not sent yet, and those between PUBLISH and the last acknowledgement.
    queue: VecDeque<(u32, QoS)>,
    flights: BTreeMap<u16, (u32, QoS, bool)>,
    next_id: u16,
    /// How many packets of the client, or answers to them, it may still swallow.
    pub(crate) may_swallow: u32,
    /// How many it swallowed.
    pub(crate) swallowed: u32,
    /// Messages to the client that the broker's own forgetting lost.
    pub(crate) lost: BTreeSet<u32>,
    /// What the client acknowledged, for the tool to confirm.
    pub(crate) acknowledged: Vec<u32>,

    /// It takes QoS 2 for QoS 1, as RabbitMQ does.
    pub(crate) lowers_qos: bool,
    /// What it does now instead of its work.
    pub(crate) failure: Option<Failure>,
    /// How often it did.
    pub(crate) failed: u32,
    /// It closes this connection: the world takes it from here.
    pub(crate) closes: bool,
}

impl Broker {
    /// For this protocol level.
    pub(crate) fn new(seed: u64, level: u8) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x5eed);
        let (holds_until_pubrel, mut dialect) = (rng.random(), Dialect::new(level));
        if level == 5 {
            dialect.capabilities.receive_max = Some(rng.random_range(1..30));
        }
        Self {
            holds_until_pubrel,
            level,
            dialect,
            unanswered: BTreeSet::new(),
            may_refuse: 0,
            refused: 0,
            rng,
            connection: 0,
            greeted: false,
            input: BytesMut::new(),
            held: HashMap::new(),
            owed: Vec::new(),
            arrived: Vec::new(),
            seen: BTreeSet::new(),
            passed_on: BTreeMap::new(),
            epoch: 0,
            forgotten: 0,
            queue: VecDeque::new(),
            flights: BTreeMap::new(),
            next_id: 0,
            may_swallow: 0,
            swallowed: 0,
            lost: BTreeSet::new(),
            acknowledged: Vec::new(),
            lowers_qos: false,
            failure: None,
            failed: 0,
            closes: false,
        }
    }

    /// Has a message for the client.
    pub(crate) fn queue(&mut self, number: u32, qos: QoS) {
        self.queue.push_back((number, qos));
    }

    /// From the next connection on it takes no longer packets than this (MQTT 5).
    pub(crate) fn limit_packets(&mut self, len: u32) {
        self.dialect.capabilities.max_packet_size = Some(len);
    }

    /// Loses the session, as a restart without persistence does.
    pub(crate) fn forget(&mut self) {
        self.forgotten += 1;
        self.held.clear();
        self.owed.clear();
        self.lost.extend(self.flights.values().map(|flight| flight.0));
        self.flights.clear();
    }

    /// Whether nothing is under way in either direction.
    pub(crate) fn idle(&self) -> bool {
        self.owed.is_empty() && self.queue.is_empty() && self.flights.is_empty()
    }

    /// Bytes came over a connection; returns the answers. `session_present` is for a CONNECT among them.
    pub(crate) fn receive(&mut self, connection: u64, bytes: &[u8], session_present: bool) -> BytesMut {
        let mut out = BytesMut::new();
        if connection < self.connection {
            return out;
        }
        if connection > self.connection {
            self.connection = connection;
            (self.greeted, self.closes) = (false, false);
            self.input.clear();
            self.owed.clear();
            self.unanswered.clear();
        }
        self.input.extend_from_slice(bytes);
        while !self.closes {
            match self.dialect.read(&mut self.input) {
                Ok(Some(packet)) => {
                    if !self.fails_at(&packet, &mut out) {
                        self.packet(packet, session_present, &mut out);
                    }
                }
                Ok(None) => return out,
                Err(error) => panic!("the client sent no MQTT: {error}"),
            }
        }
        out
    }

    /// Whether it fails at this packet, in place of its work.
    fn fails_at(&mut self, packet: &Packet, out: &mut BytesMut) -> bool {
        let is_for = |failure| match failure {
            Failure::ClosesAtConnect | Failure::MuteAtConnect | Failure::RefusesConnect(_) => {
                matches!(packet, Packet::Connect(_))
            }
            Failure::Disconnects(_) => !matches!(packet, Packet::Connect(_)),
            Failure::ClosesAtSubscribe | Failure::RefusesSubscriptions(_) | Failure::DisconnectsAtSubscribe(_) => {
                matches!(packet, Packet::Subscribe(_))
            }
            Failure::ClosesAtPublish => matches!(packet, Packet::Publish(_)),
            Failure::ClosesAtQos2 => matches!(packet, Packet::Publish(Publish { qos: QoS::ExactlyOnce, .. })),
        };
        let Some(failure) = self.failure.filter(|failure| is_for(*failure)) else { return false };
        self.failed += 1;
        match (failure, packet) {
            (Failure::RefusesConnect(code), _) if self.level == 5 => out.extend_from_slice(&[0x20, 3, 0, code, 0]),
            (Failure::RefusesConnect(code), _) => out.extend_from_slice(&[0x20, 2, 0, code]),
            (Failure::RefusesSubscriptions(code), Packet::Subscribe(Subscribe { pkid, .. })) => {
                let [high, low] = pkid.to_be_bytes();
                let properties = &[0][..usize::from(self.level == 5)];
                let len = 3 + u8::from(self.level == 5);
                out.extend_from_slice(&[&[0x90, len, high, low][..], properties, &[code]].concat());
                return true;
            }
            (Failure::Disconnects(code) | Failure::DisconnectsAtSubscribe(code), _) => {
                assert_eq!(self.level, 5);
                out.extend_from_slice(&[0xe0, 1, code]);
            }
            _ => {}
        }
        self.closes = failure != Failure::MuteAtConnect;
        self.greeted = false;
        true
    }

    fn subscribe(&mut self, subscribe: &Subscribe, out: &mut BytesMut) {
        let code = SubscribeReasonCode::Success(subscribe.filters[0].qos);
        self.dialect.write(&Packet::SubAck(SubAck::new(subscribe.pkid, vec![code])), out);
    }

    fn packet(&mut self, packet: Packet, session_present: bool, out: &mut BytesMut) {
        if let Packet::Connect(_) = packet {
            assert!(!self.greeted, "CONNECT twice on a connection");
            self.greeted = true;
            if !session_present {
                self.forget();
            }
            // What it owed on the last connection it may say on this one, too.
            for pkid in self.held.keys() {
                if self.rng.random() {
                    self.owed.push((Packet::PubRec(PubRec::new(*pkid)), false));
                }
            }
            let answer = ConnAck::new(ConnectReturnCode::Success, session_present);
            self.dialect.write(&Packet::ConnAck(answer), out);
            for (pkid, (number, qos, released)) in &self.flights {
                if *released {
                    PubRel::new(*pkid).write(out).unwrap();
                } else {
                    self.dialect.write(&Packet::Publish(publish(*number, *qos, *pkid, true)), out);
                }
            }
            return;
        }
        assert!(self.greeted, "{packet:?} before CONNECT");
        if matches!(
            packet,
            Packet::Publish(Publish { qos: QoS::AtLeastOnce | QoS::ExactlyOnce, .. }) | Packet::PubRel(_)
        ) && self.swallows()
        {
            return;
        }
        match packet {
            Packet::Publish(one) => self.publish(&one),
            Packet::PubRel(rel) => {
                if let Some(number) = self.held.remove(&rel.pkid)
                    && self.holds_until_pubrel
                {
                    self.pass_on(number);
                }
                self.unanswered.remove(&rel.pkid);
                PubComp::new(rel.pkid).write(out).unwrap();
            }
            Packet::PubAck(ack) => {
                let (number, qos, _) = self.flights.remove(&ack.pkid).expect("PUBACK for nothing");
                assert_eq!(qos, QoS::AtLeastOnce);
                self.acknowledged.push(number);
            }
            Packet::PubRec(ack) => {
                let flight = self.flights.get_mut(&ack.pkid).expect("PUBREC for nothing");
                assert_eq!(flight.1, QoS::ExactlyOnce);
                if !flight.2 {
                    self.acknowledged.push(flight.0);
                }
                flight.2 = true;
                PubRel::new(ack.pkid).write(out).unwrap();
            }
            Packet::PubComp(ack) => {
                let known = self.flights.remove(&ack.pkid);
                assert!(known.is_none_or(|flight| flight.2), "PUBCOMP without PUBREL");
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, out),
            Packet::PingReq => Packet::PingResp.write(out, usize::MAX).map(drop).unwrap(),
            other => panic!("not expected: {other:?}"),
        }
    }

    fn swallows(&mut self) -> bool {
        let swallows = self.may_swallow > 0 && self.rng.random_bool(0.1);
        self.may_swallow -= u32::from(swallows);
        self.swallowed += u32::from(swallows);
        swallows
    }

    /// Answers a message with a refusal for now, which frees its identifier.
    fn refuses(&mut self, one: &Publish) -> bool {
        let refuses = self.may_refuse > 0 && !self.held.contains_key(&one.pkid) && self.rng.random_bool(0.2);
        if refuses {
            self.may_refuse -= 1;
            self.refused += 1;
            let answer = match one.qos {
                QoS::ExactlyOnce => Packet::PubRec(PubRec::new(one.pkid)),
                _ => Packet::PubAck(PubAck::new(one.pkid)),
            };
            self.owed.push((answer, true));
        }
        refuses
    }

    fn publish(&mut self, one: &Publish) {
        let number: u32 = std::str::from_utf8(&one.payload).unwrap().trim_end().parse().unwrap();
        let max = self.dialect.capabilities.max_packet_size.unwrap_or(u32::MAX);
        assert!(one.payload.len() < max.try_into().unwrap(), "a packet of more than {max} bytes");
        if one.qos != QoS::AtMostOnce {
            self.check_id(one.pkid, number);
            self.unanswered.insert(one.pkid);
            let max = self.dialect.capabilities.receive_max.map_or(usize::MAX, usize::from);
            assert!(self.unanswered.len() <= max, "more than {max} at a time");
            if self.refuses(one) {
                return;
            }
        }
        if self.seen.insert(number) {
            self.arrived.push(number);
        }
        match one.qos {
            QoS::ExactlyOnce if self.lowers_qos => {
                self.pass_on(number);
                self.owed.push((Packet::PubAck(PubAck::new(one.pkid)), false));
            }
            QoS::AtMostOnce => self.pass_on(number),
            QoS::AtLeastOnce => {
                self.pass_on(number);
                self.owed.push((Packet::PubAck(PubAck::new(one.pkid)), false));
            }
            QoS::ExactlyOnce => {
                if self.held.insert(one.pkid, number).is_none() && !self.holds_until_pubrel {
                    self.pass_on(number);
                }
                self.owed.push((Packet::PubRec(PubRec::new(one.pkid)), false));
            }
        }
    }

    /// An identifier cannot be free before its last acknowledgement was sent.
    fn check_id(&self, pkid: u16, number: u32) {
        let owed = self.owed.iter().any(|(answer, refuses)| {
            *answer == Packet::PubAck(PubAck::new(pkid)) || (*refuses && *answer == Packet::PubRec(PubRec::new(pkid)))
        });
        let held = self.held.get(&pkid).is_some_and(|held| *held != number);
        assert!(!owed && !held, "identifier {pkid} of message {number} is in use");
    }

    fn pass_on(&mut self, number: u32) {
        *self.passed_on.entry((number, self.epoch)).or_default() += 1;
    }

    /// Whether it was ever passed on.
    pub(crate) fn has(&self, number: u32) -> bool {
        self.passed_on.range((number, 0)..=(number, u32::MAX)).next().is_some()
    }

    /// Sends something of what it has to send, if it has a connection: which, is chance.
    pub(crate) fn work(&mut self) -> (u64, BytesMut) {
        let mut out = BytesMut::new();
        if self.greeted {
            for _ in 0..self.rng.random_range(0..=self.owed.len()) {
                let which = self.rng.random_range(0..self.owed.len());
                let (ack, refuses) = self.owed.swap_remove(which);
                if self.swallows() {
                    continue;
                }
                if let Packet::PubAck(PubAck { pkid }) | Packet::PubRec(PubRec { pkid }) = ack
                    && (refuses || matches!(ack, Packet::PubAck(_)))
                {
                    self.unanswered.remove(&pkid);
                }
                if refuses {
                    self.dialect.write_refusal(&ack, &mut out);
                    continue;
                }
                ack.write(&mut out, usize::MAX).unwrap();
                // Nothing forbids to say it twice.
                if let Packet::PubAck(_) = ack
                    && self.rng.random_bool(0.1)
                {
                    ack.write(&mut out, usize::MAX).unwrap();
                }
            }
            while self.flights.len() < WINDOW
                && let Some((number, qos)) = self.queue.pop_front()
            {
                self.next_id = self.next_id % 7 + 1;
                while self.flights.contains_key(&self.next_id) {
                    self.next_id = self.next_id % 7 + 1;
                }
                self.flights.insert(self.next_id, (number, qos, false));
                self.dialect.write(&Packet::Publish(publish(number, qos, self.next_id, false)), &mut out);
            }
        }
        (self.connection, out)
    }
}

fn publish(number: u32, qos: QoS, pkid: u16, dup: bool) -> Publish {
    let mut publish = Publish::new("in", qos, number.to_string());
    (publish.pkid, publish.dup) = (pkid, dup);
    publish
}
