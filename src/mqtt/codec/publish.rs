//! PUBLISH of MQTT 5.

use bytes::{BufMut, Bytes, BytesMut};

use super::fields::{Fields, Malformed, put_binary, put_varint};
use super::packet::{Packet, Publish};
use super::packet_reader::FixedHeader;
use crate::mqtt::Qos;

/// The packet type in the first byte.
const PUBLISH: u8 = 0x30;

/// The flags in the first byte (MQTT 3.1.1, 3.3.1).
const RETAIN: u8 = 0x01;
const QOS_SHIFT: u8 = 1;
const DUP: u8 = 0x08;

/// Appends a PUBLISH, with its payload copied once. `properties` are less than 128 bytes.
pub(super) fn encode(publish: &Publish<'_>, properties: &[u8], out: &mut BytesMut) {
    let Publish { topic, payload, qos, retain, dup, pkid } = *publish;
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    out.put_u8(PUBLISH | flag(dup, DUP) | qos.code() << QOS_SHIFT | flag(retain, RETAIN));
    let id_len = if qos == Qos::AtMostOnce { 0 } else { 2 };
    put_varint(2 + topic.len() + id_len + 1 + properties.len() + payload.len(), out);
    put_binary(topic.as_bytes(), out);
    if qos > Qos::AtMostOnce {
        out.put_u16(pkid);
    }
    put_varint(properties.len(), out);
    out.put_slice(properties);
    out.put_slice(payload);
}

/// Reads a PUBLISH, whose payload stays where it is in `bytes`, which hold all of the packet.
pub(super) fn decode(
    header: FixedHeader,
    bytes: &Bytes,
    read_properties: impl FnOnce(&mut Fields<'_>) -> Result<(), Malformed>,
) -> Result<Packet, Malformed> {
    let mut fields = Fields::new(&bytes[header.len()..]);
    let flags = header.first_byte;
    let qos = Qos::from_code(flags >> QOS_SHIFT & 3).ok_or(Malformed("QoS 3"))?;
    let topic = fields.string()?.to_owned();
    let pkid = if qos == Qos::AtMostOnce { 0 } else { fields.u16()? };
    if qos > Qos::AtMostOnce && pkid == 0 {
        return Err(Malformed("packet identifier 0"));
    }
    read_properties(&mut fields)?;
    let payload = bytes.slice(bytes.len() - fields.len()..);
    Ok(Packet::Publish { topic, payload, qos, retain: flags & RETAIN != 0, dup: flags & DUP != 0, pkid })
}
