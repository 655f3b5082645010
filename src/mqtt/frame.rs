//! Framing: where one packet ends and the next begins, the same in every version of MQTT (3.1.1, 2.2).
//!
//! A PUBLISH over the limit is read past as it comes in: only its topic and packet identifier are kept, so that it can
//! be acknowledged and the broker does not send it for ever.

use bytes::{Buf, BytesMut};

use super::Qos;
use super::lost::ConnectionLost;
use super::packet::Packet;

/// The first byte's high nibble in a PUBLISH.
const PUBLISH: u8 = 3;

/// The first byte's high nibble in a PUBREL.
const PUBREL: u8 = 6;

/// Longest control packet that a broker has a reason to send, bytes; anything longer is not MQTT.
const MAX_CONTROL: usize = 65_536;

/// One packet's fixed header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Packet type in the high nibble, flags in the low one.
    pub(super) first: u8,
    /// Length in bytes of the remaining-length field, 1 to 4.
    pub(super) len_len: usize,
    /// What follows the fixed header, bytes.
    pub(super) remaining: usize,
}

impl Header {
    /// The packet type, 0 to 15.
    pub(super) fn kind(self) -> u8 {
        self.first >> 4
    }

    fn len(self) -> usize {
        1 + self.len_len
    }

    /// Whether a packet other than PUBLISH can begin like this: it tells another protocol at once.
    fn check_control(self) -> Result<(), ConnectionLost> {
        // PUBREL has QoS 1 there, and in MQTT 3.1 it may have DUP.
        let (mask, flags) = if self.kind() == PUBREL { (0b0111, 0b0010) } else { (0b1111, 0) };
        if self.first & mask != flags {
            return Err(ConnectionLost::malformed(format!(
                "packet type {} with flags {:#x}",
                self.kind(),
                self.first & 0xf
            )));
        }
        if self.remaining > MAX_CONTROL {
            return Err(ConnectionLost::malformed(format!("packet type {} of {} bytes", self.kind(), self.remaining)));
        }
        Ok(())
    }

    /// Reads the header at the front of `bytes`; `None` until all of it is there.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, ConnectionLost> {
        let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
        let mut remaining = 0;
        for (at, &byte) in rest.iter().take(4).enumerate() {
            remaining |= usize::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(Some(Self { first, len_len: at + 1, remaining }));
            }
        }
        if rest.len() < 4 { Ok(None) } else { Err(ConnectionLost::malformed("remaining length over four bytes")) }
    }
}

/// What [`Framer::next`] found.
#[derive(Debug)]
pub(super) enum Frame {
    /// All bytes of one packet, fixed header included.
    Whole(Header, BytesMut),
    /// A PUBLISH over the limit, just read past.
    Oversize(Packet),
}

/// Cuts a byte stream into packets.
#[derive(Debug)]
pub(super) struct Framer {
    limit: usize,
    skip: Option<Skip>,
}

#[derive(Debug)]
struct Skip {
    left: usize,
    packet: Packet,
}

impl Framer {
    /// A framer that reads past each PUBLISH whose remaining length is over `limit` bytes.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, skip: None }
    }

    /// Forgets the packet in the middle of which the last connection ended.
    pub(super) fn reset(&mut self) {
        self.skip = None;
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    pub(super) fn next(&mut self, bytes: &mut BytesMut) -> Result<Option<Frame>, ConnectionLost> {
        if self.skip.is_none() {
            let Some(header) = Header::parse(bytes)? else { return Ok(None) };
            let is_publish = header.kind() == PUBLISH;
            if !is_publish {
                header.check_control()?;
            }
            if !is_publish || header.remaining <= self.limit {
                let len = header.len() + header.remaining;
                if bytes.len() < len {
                    return Ok(None);
                }
                return Ok(Some(Frame::Whole(header, bytes.split_to(len))));
            }
            self.skip = Skip::start(header, bytes)?;
        }
        let Some(skip) = &mut self.skip else { return Ok(None) };
        let step = skip.left.min(bytes.len());
        bytes.advance(step);
        skip.left -= step;
        if skip.left > 0 {
            return Ok(None);
        }
        Ok(self.skip.take().map(|skip| Frame::Oversize(skip.packet)))
    }
}

impl Skip {
    /// Begins to read past a PUBLISH, once its topic and packet identifier are there.
    fn start(header: Header, bytes: &mut BytesMut) -> Result<Option<Self>, ConnectionLost> {
        let Some(qos) = Qos::from_code((header.first >> 1) & 3) else {
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
        let left = header.remaining - variable;
        Ok(Some(Self { left, packet: Packet::Oversize { topic, qos, pkid, len: left } }))
    }
}
