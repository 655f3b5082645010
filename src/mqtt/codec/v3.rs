//! MQTT 3.1 and 3.1.1 on the wire, which differ in CONNECT and CONNACK.

use bytes::{BufMut, Bytes, BytesMut};

use super::connect::{self, Protocol};
use super::fields::{Fields, Malformed, put_binary, put_varint};
use super::packet::{Capabilities, ConnAck, Packet, Request};
use super::packet_reader::FixedHeader;
use super::publish;
use super::reason::{Reason, ReasonCode};
use crate::mqtt::{ConnectionLost, Qos};

/// First bytes of packets: packet type, and the flags that the standard wants.
const PUBACK: u8 = 0x40;
const PUBREC: u8 = 0x50;
const PUBREL: u8 = 0x62;
const PUBCOMP: u8 = 0x70;
const SUBSCRIBE: u8 = 0x82;
const PINGREQ: u8 = 0xc0;
const DISCONNECT: u8 = 0xe0;

/// The first of the codes that say that something was not accepted, in SUBACK and in the packets of MQTT 5.
const FIRST_FAILURE: u8 = 0x80;

/// MQTT 3.1 or 3.1.1 as one client sends and receives it.
#[derive(Debug)]
pub(super) struct Mqtt3 {
    protocol: Protocol<'static>,
    /// CONNACK says whether the broker kept the session; in MQTT 3.1 its first byte means nothing.
    tells_session: bool,
}

impl Mqtt3 {
    /// MQTT 3.1.
    pub(super) fn v31() -> Self {
        Self { protocol: Protocol { name: "MQIsdp", level: 3, properties: None }, tells_session: false }
    }

    /// MQTT 3.1.1.
    pub(super) fn v311() -> Self {
        Self { protocol: Protocol { name: "MQTT", level: 4, properties: None }, tells_session: true }
    }

    /// Reads one whole packet.
    pub(super) fn decode(&self, header: FixedHeader, bytes: &Bytes) -> Result<Packet, ConnectionLost> {
        let mut fields = Fields::new(&bytes[header.len()..]);
        let (name, packet) = match header.packet_type() {
            2 => ("CONNACK", self.connack(fields)),
            3 => ("PUBLISH", publish::decode(header, bytes, |_| Ok(()))),
            4 => ("PUBACK", fields.u16().map(|pkid| Packet::PubAck { pkid, reason: Reason::success() })),
            5 => ("PUBREC", fields.u16().map(|pkid| Packet::PubRec { pkid, reason: Reason::success() })),
            6 => ("PUBREL", fields.u16().map(Packet::PubRel)),
            7 => ("PUBCOMP", fields.u16().map(Packet::PubComp)),
            9 => ("SUBACK", suback(fields)),
            11 => ("UNSUBACK", fields.u16().map(|pkid| Packet::UnsubAck { pkid, reasons: Vec::new() })),
            13 => ("PINGRESP", fields.end().map(|()| Packet::PingResp)),
            // A broker that has MQTT 5, too, may say goodbye in its way.
            14 => ("DISCONNECT", Ok(Packet::Disconnect(fields.u8().map_or_else(|_| Reason::success(), reason)))),
            other => return Err(FixedHeader::not_from_broker(other)),
        };
        packet.map_err(|malformed| malformed.in_packet(name))
    }

    /// Appends one packet to `out`.
    pub(super) fn encode(&self, request: Request<'_>, out: &mut BytesMut) {
        match request {
            Request::Connect(connect) => connect::encode(&connect, &self.protocol, out),
            Request::Publish(publish) => publish::encode(&publish, None, out),
            Request::Subscribe { pkid, filter, qos, .. } => {
                out.put_u8(SUBSCRIBE);
                put_varint(2 + 2 + filter.len() + 1, out);
                out.put_u16(pkid);
                put_binary(filter.as_bytes(), out);
                out.put_u8(qos.code());
            }
            Request::PubAck(pkid) => put_ack(PUBACK, pkid, out),
            Request::PubRec(pkid) => put_ack(PUBREC, pkid, out),
            Request::PubRel(pkid) => put_ack(PUBREL, pkid, out),
            Request::PubComp(pkid) => put_ack(PUBCOMP, pkid, out),
            Request::PingReq => out.put_slice(&[PINGREQ, 0]),
            Request::Disconnect => out.put_slice(&[DISCONNECT, 0]),
        }
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
        FIRST_FAILURE.. => ReasonCode::new(number),
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
        None if reason.sent_as < FIRST_FAILURE => Err(Malformed("a code that it cannot have")),
        None => Ok(Err(reason)),
    }
}

fn reason(number: u8) -> Reason {
    Reason::new(ReasonCode::new(number))
}

fn put_ack(first_byte: u8, pkid: u16, out: &mut BytesMut) {
    out.put_slice(&[first_byte, 2]);
    out.put_u16(pkid);
}
