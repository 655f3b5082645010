//! MQTT 3.1.1 on the wire: by rumqttc's codec, except for CONNACK and SUBACK, of which that refuses codes that brokers send.

use bytes::{Buf, Bytes, BytesMut};
use rumqttc::mqttbytes::v4::{
    Connect, Disconnect, LastWill, PingReq, PubAck, PubComp, PubRec, PubRel, Publish, Subscribe, UnsubAck,
};
use rumqttc::mqttbytes::{self, Error, QoS};
use zeroize::Zeroize;

use super::packet::{Packet, Request};
use super::packet_reader::FixedHeader;
use super::reason::{Reason, ReasonCode};
use crate::mqtt::{ConnectionLost, Login, Qos, Will};
use crate::secret::Password;

/// MQTT 3.1.1 as one client sends and receives it.
#[derive(Debug)]
pub(super) struct Mqtt311 {
    /// rumqttc's PUBLISH owns its topic; keeping one saves an allocation per message.
    publish: Publish,
}

impl Default for Mqtt311 {
    fn default() -> Self {
        Self { publish: Publish::from_bytes("", QoS::AtMostOnce, Bytes::new()) }
    }
}

impl Mqtt311 {
    /// Reads one whole packet.
    pub(super) fn decode(header: FixedHeader, bytes: Bytes) -> Result<Packet, ConnectionLost> {
        let fixed = mqttbytes::FixedHeader::new(header.first_byte, header.remaining_len_len, header.remaining);
        let (name, packet) = match header.packet_type() {
            2 => ("CONNACK", connack(&bytes[header.len()..])),
            3 => ("PUBLISH", Publish::read(fixed, bytes).map(publish)),
            4 => (
                "PUBACK",
                PubAck::read(fixed, bytes).map(|ack| Packet::PubAck { pkid: ack.pkid, reason: Reason::success() }),
            ),
            5 => (
                "PUBREC",
                PubRec::read(fixed, bytes).map(|ack| Packet::PubRec { pkid: ack.pkid, reason: Reason::success() }),
            ),
            6 => ("PUBREL", PubRel::read(fixed, bytes).map(|ack| Packet::PubRel(ack.pkid))),
            7 => ("PUBCOMP", PubComp::read(fixed, bytes).map(|ack| Packet::PubComp(ack.pkid))),
            9 => ("SUBACK", suback(bytes.slice(header.len()..))),
            11 => ("UNSUBACK", UnsubAck::read(fixed, bytes).map(|ack| unsuback(&ack))),
            13 => ("PINGRESP", empty(header, Packet::PingResp)),
            14 => ("DISCONNECT", empty(header, Packet::Disconnect(Reason::success()))),
            packet_type => {
                return Err(ConnectionLost::malformed(format!(
                    "packet type {packet_type}, which a broker never sends"
                )));
            }
        };
        packet.map_err(|error| ConnectionLost::malformed(format!("{name}: {error}")))
    }

    /// Appends one packet to `out`.
    pub(super) fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        let written = match request {
            Request::Connect { client_id, login, keep_alive, clean_session, will } => {
                let mut connect = Connect::new(client_id);
                connect.keep_alive = keep_alive;
                connect.clean_session = clean_session;
                connect.last_will = will.map(last_will);
                encode_connect(connect, login, out)
            }
            Request::Publish { topic, payload, qos, retain, dup, pkid } => {
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
            Request::PubAck(pkid) => PubAck::new(pkid).write(out),
            Request::PubRec(pkid) => PubRec::new(pkid).write(out),
            Request::PubRel(pkid) => PubRel::new(pkid).write(out),
            Request::PubComp(pkid) => PubComp::new(pkid).write(out),
            Request::Subscribe { pkid, filter, qos } => {
                let mut subscribe = Subscribe::new(filter, to_rumqttc(qos));
                subscribe.pkid = pkid;
                subscribe.write(out)
            }
            Request::PingReq => PingReq.write(out),
            Request::Disconnect => Disconnect.write(out),
        };
        written.expect("the session keeps lengths and packet identifiers within what MQTT allows");
    }
}

/// Appends a CONNECT with this login, and keeps no copy of the password.
fn encode_connect(mut connect: Connect, login: Option<&Login>, out: &mut BytesMut) -> Result<usize, Error> {
    if let Some(login) = login {
        let password = login.password.as_ref().map_or("", Password::expose);
        connect.set_login(login.username.as_str(), password);
    }
    // rumqttc writes its flags to a fixed place in the buffer, so the buffer must begin with it.
    let mut packet = BytesMut::new();
    let written = connect.write(&mut packet);
    out.extend_from_slice(&packet);
    packet.as_mut().zeroize();
    if let Some(login) = &mut connect.login {
        login.password.zeroize();
    }
    written
}

fn last_will(will: &Will) -> LastWill {
    let Will { topic, payload, qos, retain } = will;
    LastWill { topic: topic.clone(), message: payload.clone(), qos: to_rumqttc(*qos), retain: *retain }
}

/// Reads what follows the fixed header of a CONNACK (MQTT 3.1.1, 3.2.2).
fn connack(bytes: &[u8]) -> Result<Packet, Error> {
    let [flags, number, ..] = *bytes else { return Err(Error::MalformedPacket) };
    let code = match number {
        0 => ReasonCode::SUCCESS,
        1 => ReasonCode::UNSUPPORTED_VERSION,
        2 => ReasonCode::INVALID_CLIENT_ID,
        3 => ReasonCode::SERVER_UNAVAILABLE,
        4 => ReasonCode::BAD_LOGIN,
        5 => ReasonCode::NOT_AUTHORIZED,
        // A broker for MQTT 5 alone answers in the form of MQTT 5 (MQTT 5, 3.1.2.2).
        0x80.. => ReasonCode::new(number),
        _ => return Err(Error::InvalidConnectReturnCode(number)),
    };
    let reason = Reason { sent_as: number, ..Reason::new(code) };
    Ok(Packet::ConnAck { session_present: flags & 1 == 1, reason })
}

fn publish(packet: Publish) -> Packet {
    let Publish { dup, qos, retain, topic, pkid, payload } = packet;
    Packet::Publish { topic, payload, qos: from_rumqttc(qos), retain, dup, pkid }
}

/// Reads what follows the fixed header of a SUBACK (MQTT 3.1.1, 3.9): each code of 0x80 and above is a refusal, though the
/// standard has only 0x80, since brokers send the reason codes of MQTT 5, too.
fn suback(mut bytes: Bytes) -> Result<Packet, Error> {
    if bytes.len() < 3 {
        return Err(Error::MalformedPacket);
    }
    let pkid = bytes.get_u16();
    let granted = bytes.iter().map(|&code| match Qos::from_code(code) {
        Some(qos) => Ok(Ok(qos)),
        None if code < 0x80 => Err(Error::InvalidSubscribeReasonCode(code)),
        None => Ok(Err(Reason::new(ReasonCode::new(code)))),
    });
    Ok(Packet::SubAck { pkid, granted: granted.collect::<Result<_, _>>()? })
}

fn unsuback(packet: &UnsubAck) -> Packet {
    Packet::UnsubAck { pkid: packet.pkid, reasons: Vec::new() }
}

fn empty(header: FixedHeader, packet: Packet) -> Result<Packet, Error> {
    if header.remaining == 0 { Ok(packet) } else { Err(Error::PayloadSizeIncorrect) }
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
