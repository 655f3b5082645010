//! MQTT 3.1 and 3.1.1 on the wire, which differ in CONNECT and CONNACK: by rumqttc's codec, except for CONNECT, which that writes
//! with a copy of the password and knows in one version only, and for CONNACK, SUBACK and DISCONNECT, of which it refuses what
//! brokers send.

use bytes::{Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{self, PingReq, PubAck, PubComp, PubRec, PubRel, Subscribe, UnsubAck};
use rumqttc::mqttbytes::{self, Error, QoS};

use super::connect::{self, VersionFields};
use super::fields::{Fields, Malformed};
use super::packet::{Capabilities, ConnAck, Packet, Publish, Request};
use super::packet_reader::FixedHeader;
use super::reason::{Reason, ReasonCode};
use crate::mqtt::{ConnectionLost, Qos};

/// MQTT 3.1 or 3.1.1 as one client sends and receives it.
#[derive(Debug)]
pub(super) struct Mqtt3 {
    fields: VersionFields<'static>,
    /// rumqttc's PUBLISH owns its topic; keeping one saves an allocation per message.
    publish: v4::Publish,
    /// CONNACK says whether the broker kept the session; in MQTT 3.1 its first byte means nothing.
    tells_session: bool,
}

impl Mqtt3 {
    /// MQTT 3.1.
    pub(super) fn v31() -> Self {
        Self::new(VersionFields { name: "MQIsdp", level: 3, properties: None }, false)
    }

    /// MQTT 3.1.1.
    pub(super) fn v311() -> Self {
        Self::new(VersionFields { name: "MQTT", level: 4, properties: None }, true)
    }

    fn new(fields: VersionFields<'static>, tells_session: bool) -> Self {
        let publish = v4::Publish::from_bytes("", QoS::AtMostOnce, Bytes::new());
        Self { fields, publish, tells_session }
    }

    /// Reads one whole packet.
    pub(super) fn decode(&self, header: FixedHeader, bytes: Bytes) -> Result<Packet, ConnectionLost> {
        let (packet_type, len) = (header.packet_type(), header.len());
        let fixed = mqttbytes::FixedHeader::new(header.first_byte, header.remaining_len_len, header.remaining);
        let ours = |read: Result<Packet, Malformed>| read.map_err(|Malformed(why)| why.to_owned());
        let (name, packet) = match packet_type {
            2 => ("CONNACK", ours(self.connack(Fields::new(&bytes[len..])))),
            3 => ("PUBLISH", theirs(v4::Publish::read(fixed, bytes), publish)),
            4 => (
                "PUBACK",
                theirs(PubAck::read(fixed, bytes), |ack| Packet::PubAck { pkid: ack.pkid, reason: Reason::success() }),
            ),
            5 => (
                "PUBREC",
                theirs(PubRec::read(fixed, bytes), |ack| Packet::PubRec { pkid: ack.pkid, reason: Reason::success() }),
            ),
            6 => ("PUBREL", theirs(PubRel::read(fixed, bytes), |ack| Packet::PubRel(ack.pkid))),
            7 => ("PUBCOMP", theirs(PubComp::read(fixed, bytes), |ack| Packet::PubComp(ack.pkid))),
            9 => ("SUBACK", ours(suback(Fields::new(&bytes[len..])))),
            11 => (
                "UNSUBACK",
                theirs(UnsubAck::read(fixed, bytes), |ack| Packet::UnsubAck { pkid: ack.pkid, reasons: Vec::new() }),
            ),
            13 => ("PINGRESP", ours(Fields::new(&bytes[len..]).end().map(|()| Packet::PingResp))),
            // A broker that has MQTT 5, too, may say goodbye in its way.
            14 => {
                let code = Fields::new(&bytes[len..]).u8();
                ("DISCONNECT", Ok(Packet::Disconnect(code.map_or_else(|_| Reason::success(), reason))))
            }
            other => return Err(FixedHeader::not_from_broker(other)),
        };
        packet.map_err(|why| ConnectionLost::malformed(format!("{name}: {why}")))
    }

    /// Appends one packet to `out`.
    pub(super) fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        let written = match request {
            Request::Connect(connect) => {
                connect::encode(&connect, &self.fields, out);
                return;
            }
            Request::Publish(publish) => self.encode_publish(&publish, out),
            Request::Subscribe { pkid, filter, qos, .. } => {
                let mut subscribe = Subscribe::new(filter, to_rumqttc(qos));
                subscribe.pkid = pkid;
                subscribe.write(out)
            }
            Request::PubAck(pkid) => PubAck::new(pkid).write(out),
            Request::PubRec(pkid) => PubRec::new(pkid).write(out),
            Request::PubRel(pkid) => PubRel::new(pkid).write(out),
            Request::PubComp(pkid) => PubComp::new(pkid).write(out),
            Request::PingReq => PingReq.write(out),
            Request::Disconnect => v4::Disconnect.write(out),
        };
        written.expect("the session keeps lengths and packet identifiers within what MQTT allows");
    }

    fn encode_publish(&mut self, publish: &Publish<'_>, out: &mut BytesMut) -> Result<usize, Error> {
        let Publish { topic, payload, qos, retain, dup, pkid } = *publish;
        if self.publish.topic != topic {
            topic.clone_into(&mut self.publish.topic);
        }
        self.publish.payload = payload.clone();
        self.publish.qos = to_rumqttc(qos);
        self.publish.retain = retain;
        self.publish.dup = dup;
        self.publish.pkid = pkid;
        let written = self.publish.write(out);
        // The session counts the memory of payloads, so none may be kept here.
        self.publish.payload = Bytes::new();
        written
    }

    fn connack(&self, mut fields: Fields<'_>) -> Result<Packet, Malformed> {
        let (flags, number) = (fields.u8()?, fields.u8()?);
        let session_present = self.tells_session.then_some(flags & 1 == 1);
        let reason = connack_reason(number)?;
        let capabilities = Capabilities::default();
        Ok(Packet::ConnAck(Box::new(ConnAck { session_present, reason, capabilities })))
    }
}

/// What the return code of a CONNACK means (MQTT 3.1.1, table 3.1).
pub(super) fn connack_reason(number: u8) -> Result<Reason, Malformed> {
    let code = match number {
        0 => ReasonCode::SUCCESS,
        1 => ReasonCode::UNSUPPORTED_VERSION,
        2 => ReasonCode::INVALID_CLIENT_ID,
        3 => ReasonCode::SERVER_UNAVAILABLE,
        4 => ReasonCode::BAD_LOGIN,
        5 => ReasonCode::NOT_AUTHORIZED,
        // A broker for MQTT 5 alone answers in the form of that (MQTT 5, 4.13.2).
        ReasonCode::FIRST_FAILURE.. => ReasonCode::new(number),
        _ => return Err(Malformed("a return code that it cannot have")),
    };
    Ok(Reason { sent_as: number, ..Reason::new(code) })
}

/// Reads a SUBACK (MQTT 3.1.1, 3.9). Each code of 0x80 and above is a refusal, though the standard has only 0x80, since
/// brokers send the reason codes of MQTT 5, too.
fn suback(mut fields: Fields<'_>) -> Result<Packet, Malformed> {
    let pkid = fields.u16()?;
    if fields.is_empty() {
        return Err(Malformed("no return code"));
    }
    let granted = fields.rest().iter().map(|&code| granted(reason(code)));
    Ok(Packet::SubAck { pkid, granted: granted.collect::<Result<_, _>>()? })
}

/// The quality of service that a code of a SUBACK grants, or the refusal that it is.
pub(super) fn granted(reason: Reason) -> Result<Result<Qos, Reason>, Malformed> {
    match Qos::from_code(reason.sent_as) {
        Some(qos) => Ok(Ok(qos)),
        None if reason.sent_as < ReasonCode::FIRST_FAILURE => Err(Malformed("a code that it cannot have")),
        None => Ok(Err(reason)),
    }
}

fn reason(number: u8) -> Reason {
    Reason::new(ReasonCode::new(number))
}

/// What rumqttc read, or what was wrong with it.
fn theirs<T>(read: Result<T, Error>, packet: impl FnOnce(T) -> Packet) -> Result<Packet, String> {
    read.map(packet).map_err(|error| error.to_string())
}

fn publish(packet: v4::Publish) -> Packet {
    let v4::Publish { dup, qos, retain, topic, pkid, payload } = packet;
    Packet::Publish { topic, payload, qos: from_rumqttc(qos), retain, dup, pkid }
}

fn to_rumqttc(qos: Qos) -> QoS {
    match qos {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        Qos::ExactlyOnce => QoS::ExactlyOnce,
    }
}

fn from_rumqttc(qos: QoS) -> Qos {
    match qos {
        QoS::AtMostOnce => Qos::AtMostOnce,
        QoS::AtLeastOnce => Qos::AtLeastOnce,
        QoS::ExactlyOnce => Qos::ExactlyOnce,
    }
}
