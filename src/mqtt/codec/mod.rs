//! Bytes to packets and packets to bytes: the only place that knows how a version of MQTT looks on the wire.
//!
//! [`packet`] has the packets and [`reason`] the reason codes, as they are in every version, [`packet_reader`] finds where one ends and the next
//! begins, and a dialect encodes and decodes the packets of one version, as [`v311`] does those of MQTT 3.1.1.
//!
//! To add MQTT 3.1 or 5, which [`Version`] lists already: write its dialect beside [`v311`], give it a variant of
//! [`Dialect`] and return that from [`Dialect::of`]. The compiler then reports each match without an arm for it, and the
//! configuration accepts the version. Fields and packets that only this version has go into [`packet`]; from there the
//! compiler leads to the other dialects and to the client session. Then tell the users: sts.conf(5) at `mqtt_version`,
//! and the README.

mod packet;
mod packet_reader;
mod reason;
mod v311;

#[cfg(test)]
mod tests;

use bytes::BytesMut;

pub(super) use packet::{MAX_REMAINING_LEN, Packet, Request};
pub(super) use reason::{Reason, ReasonClass, ReasonCode};

use packet_reader::{PacketReader, RawPacket};

use super::{ConnectionLost, Version};
use crate::{Error, Exit, Result};

/// The codec of one connection at a time.
#[derive(Debug)]
pub(super) struct Codec {
    reader: PacketReader,
    dialect: Dialect,
}

/// One variant per version that this program has.
#[derive(Debug)]
enum Dialect {
    V311(v311::Mqtt311),
}

impl Dialect {
    /// The dialect of a version, if this program has it.
    fn of(version: Version) -> Option<Self> {
        match version {
            Version::V311 => Some(Self::V311(v311::Mqtt311::default())),
            Version::V31 | Version::V5 => None,
        }
    }
}

impl Codec {
    /// A codec of this version that skips each PUBLISH longer than `max_receive` bytes after the fixed header.
    ///
    /// # Errors
    /// [`Exit::Config`] for a version that this program does not have.
    pub(super) fn new(version: Version, max_receive: usize) -> Result<Self> {
        let dialect = Dialect::of(version).ok_or_else(|| {
            let default = Version::default();
            Error::new(Exit::Config, format!("`mqtt_version = {}`", version.config_value()))
                .because(format!("MQTT {version} is not in this version"))
                .hint(format!("use `mqtt_version = {}` (MQTT {default})", default.config_value()))
        })?;
        Ok(Self { reader: PacketReader::new(max_receive), dialect })
    }

    /// Starts anew, as for a new connection.
    pub(super) fn reset(&mut self) {
        self.reader.reset();
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the bytes are not MQTT, or not what a broker sends: nothing after them can be read.
    pub(super) fn decode(&mut self, bytes: &mut BytesMut) -> std::result::Result<Option<Packet>, ConnectionLost> {
        match self.reader.next(bytes)? {
            None => Ok(None),
            Some(RawPacket::Oversize(packet)) => Ok(Some(packet)),
            Some(RawPacket::Whole(header, bytes)) => match &self.dialect {
                Dialect::V311(_) => v311::Mqtt311::decode(header, bytes.freeze()).map(Some),
            },
        }
    }

    /// Appends one packet to `out`; the caller keeps the lengths that [`Request`] names.
    pub(super) fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        match &mut self.dialect {
            Dialect::V311(dialect) => dialect.encode(request, out),
        }
    }
}

impl Version {
    /// Whether this program has a dialect for it.
    pub(crate) fn is_supported(self) -> bool {
        Dialect::of(self).is_some()
    }
}
