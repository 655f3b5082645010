//! Where one packet ends and the next begins, which is the same in every version of MQTT (3.1.1, 2.2).
//!
//! A PUBLISH over the limit is skipped as it comes in: only its topic and packet identifier are kept, so that it can be
//! acknowledged and the broker does not send it for ever.

use bytes::{Buf, BytesMut};

use super::packet::Packet;
use crate::mqtt::{ConnectionLost, Qos};

/// The first byte's high nibble in a PUBLISH.
const PUBLISH: u8 = 3;

/// The first byte's high nibble in a PUBREL.
const PUBREL: u8 = 6;

/// Longest packet other than PUBLISH that a broker has a reason to send, bytes; anything longer is not MQTT.
const MAX_CONTROL_LEN: usize = 65_536;

/// One packet's fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FixedHeader {
    /// Packet type in the high nibble, flags in the low one.
    pub(super) first_byte: u8,
    /// Length in bytes of the remaining-length field, 1 to 4.
    pub(super) remaining_len_len: usize,
    /// What follows the fixed header, bytes.
    pub(super) remaining: usize,
}

impl FixedHeader {
    /// The longest one, bytes.
    pub(super) const MAX_LEN: usize = 5;

    /// The error of a packet of this type.
    pub(super) fn not_from_broker(packet_type: u8) -> ConnectionLost {
        ConnectionLost::malformed(format!("packet type {packet_type}, which a broker never sends"))
    }

    /// The packet type, 0 to 15.
    pub(super) fn packet_type(self) -> u8 {
        self.first_byte >> 4
    }

    /// Its own length, bytes.
    pub(super) fn len(self) -> usize {
        1 + self.remaining_len_len
    }

    /// Whether a packet other than PUBLISH can begin like this, so that another protocol is recognized by its first
    /// bytes.
    fn check_control(self) -> Result<(), ConnectionLost> {
        // PUBREL has QoS 1 there, and in MQTT 3.1 it may have DUP.
        let (mask, flags) = if self.packet_type() == PUBREL { (0b0111, 0b0010) } else { (0b1111, 0) };
        if self.first_byte & mask != flags {
            return Err(ConnectionLost::malformed(format!(
                "packet type {} with flags {:#x}",
                self.packet_type(),
                self.first_byte & 0xf
            )));
        }
        if self.remaining > MAX_CONTROL_LEN {
            return Err(ConnectionLost::malformed(format!(
                "packet type {} of {} bytes",
                self.packet_type(),
                self.remaining
            )));
        }
        Ok(())
    }

    /// Reads the header at the front of `bytes`; `None` until all of it is there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ConnectionLost> {
        let Some((&first_byte, rest)) = bytes.split_first() else { return Ok(None) };
        let mut remaining = 0;
        for (at, &byte) in rest.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first_byte, remaining_len_len: at + 1, remaining }));
            }
        }
        if rest.len() < 4 {
            Ok(None)
        } else {
            Err(ConnectionLost::malformed("remaining length of more than four bytes"))
        }
    }
}

/// What [`PacketReader::next`] found.
#[derive(Debug)]
pub(super) enum RawPacket {
    /// All bytes of one packet, fixed header included.
    Whole(FixedHeader, BytesMut),
    /// A PUBLISH over the limit, all of which was skipped.
    Oversize(Packet),
}

/// Cuts a byte stream into packets.
#[derive(Debug)]
pub(super) struct PacketReader {
    max_receive: usize,
    skipped: Option<SkippedPublish>,
}

/// A PUBLISH over the limit, part of which is still to come.
#[derive(Debug)]
struct SkippedPublish {
    /// Bytes of it that are still to come.
    remaining: usize,
    packet: Packet,
}

impl PacketReader {
    /// A reader that skips each PUBLISH whose remaining length is over `max_receive` bytes.
    pub(super) fn new(max_receive: usize) -> Self {
        Self { max_receive, skipped: None }
    }

    /// Forgets the packet in the middle of which the last connection ended.
    pub(super) fn reset(&mut self) {
        self.skipped = None;
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<RawPacket>, ConnectionLost> {
        if self.skipped.is_none() {
            let Some(header) = FixedHeader::parse(bytes)? else { return Ok(None) };
            let is_publish = header.packet_type() == PUBLISH;
            if !is_publish {
                header.check_control()?;
            }
            if !is_publish || header.remaining <= self.max_receive {
                let len = header.len() + header.remaining;
                if bytes.len() < len {
                    return Ok(None);
                }
                return Ok(Some(RawPacket::Whole(header, bytes.split_to(len))));
            }
            self.skipped = SkippedPublish::start(header, bytes)?;
        }
        let Some(skipped) = &mut self.skipped else { return Ok(None) };
        let step = skipped.remaining.min(bytes.len());
        bytes.advance(step);
        skipped.remaining -= step;
        if skipped.remaining > 0 {
            return Ok(None);
        }
        Ok(self.skipped.take().map(|skipped| RawPacket::Oversize(skipped.packet)))
    }
}

impl SkippedPublish {
    /// Begins to skip a PUBLISH, once its topic and packet identifier are there.
    fn start(header: FixedHeader, bytes: &mut BytesMut) -> Result<Option<Self>, ConnectionLost> {
        let Some(qos) = Qos::from_code((header.first_byte >> 1) & 3) else {
            return Err(ConnectionLost::malformed("PUBLISH: QoS 3"));
        };
        let id_len = if qos == Qos::AtMostOnce { 0 } else { 2 };
        let Some(Some(topic_len)) = bytes.get(header.len()..).map(<[u8]>::first_chunk::<2>) else { return Ok(None) };
        let topic_len = usize::from(u16::from_be_bytes(*topic_len));
        let variable = 2 + topic_len + id_len;
        if variable > header.remaining {
            return Err(ConnectionLost::malformed("PUBLISH: shorter than its topic"));
        }
        if bytes.len() < header.len() + variable {
            return Ok(None);
        }
        bytes.advance(header.len() + 2);
        let topic = bytes.split_to(topic_len);
        let topic = std::str::from_utf8(&topic)
            .map_err(|_| ConnectionLost::malformed("PUBLISH: topic is not UTF-8"))?
            .to_owned();
        let pkid = if qos == Qos::AtMostOnce { 0 } else { bytes.get_u16() };
        if qos != Qos::AtMostOnce && pkid == 0 {
            return Err(ConnectionLost::malformed("PUBLISH: packet identifier 0"));
        }
        let remaining = header.remaining - variable;
        Ok(Some(Self { remaining, packet: Packet::Oversize { topic, qos, pkid, len: remaining } }))
    }
}
