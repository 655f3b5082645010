//! Bytes to packets and packets to bytes: the only place that knows how a version of MQTT looks on the wire.
//!
//! [`packet`] has the packets and [`reason`] the reason codes, as they are in every version; [`packet_reader`] finds where
//! one ends and the next begins. A dialect encodes and decodes the packets of one version: [`v3`] those of MQTT 3.1 and
//! 3.1.1, by rumqttc as far as that is right, [`v5`] those of MQTT 5, with [`publish`]. [`connect`] has what the dialects share,
//! [`fields`] what packets are made of.
//!
//! To add a version, which [`Version`] lists: write its dialect beside [`v5`], give it a variant of [`Dialect`] and return
//! that from [`Dialect::new`]. The compiler then reports each match without an arm for it. Fields and packets that only
//! this version has go into [`packet`]; from there the compiler leads to the other dialects and to the client session. Then
//! tell the users: sts.conf(5) at `mqtt_version`, and the README.

mod connect;
mod fields;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod packet;
mod packet_reader;
mod properties;
mod publish;
mod reason;
mod topic_aliases;
mod v3;
mod v5;

#[cfg(test)]
mod tests;

use bytes::BytesMut;

pub(super) use packet::{
    Capabilities, ConnAck, Connect, MAX_PUBLISH_OVERHEAD, MAX_REMAINING_LEN, Packet, Publish, Request,
};
pub(super) use reason::{Reason, ReasonClass, ReasonCode};

/// The longest fixed header, bytes.
pub(super) const MAX_FIXED_HEADER_LEN: usize = packet_reader::FixedHeader::MAX_LEN;

use packet_reader::{PacketReader, RawPacket};

use super::{ClientOptions, ConnectionLost, Version};

/// The codec of one connection at a time.
#[derive(Debug)]
pub(super) struct Codec {
    reader: PacketReader,
    dialect: Dialect,
}

/// One variant per way to look on the wire.
#[derive(Debug)]
enum Dialect {
    V3(v3::Mqtt3),
    V5(Box<v5::Mqtt5>),
}

impl Dialect {
    /// The dialect of the version that is asked for.
    fn new(options: &ClientOptions) -> Self {
        match options.version {
            Version::V31 => Self::V3(v3::Mqtt3::v31()),
            Version::V311 => Self::V3(v3::Mqtt3::v311()),
            Version::V5 => Self::V5(Box::new(v5::Mqtt5::new(options))),
        }
    }
}

impl Codec {
    /// A codec of the version that is asked for. It skips each PUBLISH longer than
    /// [`ClientLimits::max_receive`](super::ClientLimits::max_receive).
    pub(super) fn new(options: &ClientOptions) -> Self {
        Self { reader: PacketReader::new(options.limits.max_receive), dialect: Dialect::new(options) }
    }

    /// Starts anew, as for a new connection.
    pub(super) fn reset(&mut self) {
        self.reader.reset();
        match &mut self.dialect {
            Dialect::V3(_) => {}
            Dialect::V5(dialect) => dialect.reset(),
        }
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the bytes are not MQTT, or not what a broker sends: nothing after them can be read.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<Packet>, ConnectionLost> {
        let (header, bytes) = match self.reader.next(bytes)? {
            None => return Ok(None),
            Some(RawPacket::Oversize(packet)) => return Ok(Some(packet)),
            Some(RawPacket::Whole(header, bytes)) => (header, bytes.freeze()),
        };
        match &mut self.dialect {
            Dialect::V3(dialect) => dialect.decode(header, bytes).map(Some),
            Dialect::V5(dialect) => dialect.decode(header, &bytes).map(Some),
        }
    }

    /// Appends one packet to `out`; the caller keeps the lengths that [`Request`] names.
    pub(super) fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        match &mut self.dialect {
            Dialect::V3(dialect) => dialect.encode(request, out),
            Dialect::V5(dialect) => dialect.encode(request, out),
        }
    }
}
