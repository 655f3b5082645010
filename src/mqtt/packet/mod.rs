//! Packets without a version: what a broker says to us, what we say to it, and the codec between them and bytes.

use bytes::{Bytes, BytesMut};

use super::frame::{Frame, Framer};
use super::{ConnectionLost, Login, Qos, Version, v311};
use crate::{Error, Exit, Result};

/// The longest packet that MQTT can express, bytes after the fixed header (MQTT 3.1.1, 2.2.3).
pub const MAX_REMAINING: usize = 268_435_455;

/// A packet that a broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet {
    /// CONNACK: the answer to CONNECT.
    ConnAck {
        /// The broker kept this client's session from before.
        session_present: bool,
        /// Why the broker refused the connection, if it did.
        refused: Option<ConnectRefusal>,
    },
    /// PUBLISH: a message for us.
    Publish {
        /// The topic that it was published on.
        topic: String,
        /// The payload, a view of the buffer it was read into.
        payload: Bytes,
        /// The quality of service it was sent with.
        qos: Qos,
        /// It was retained: older than the subscription.
        retain: bool,
        /// The broker may have sent it before.
        dup: bool,
        /// The packet identifier; 0 at QoS 0.
        pkid: u16,
    },
    /// A PUBLISH over the limit that the codec was made with; its payload was read past.
    Oversize {
        /// The topic that it was published on.
        topic: String,
        /// The quality of service it was sent with.
        qos: Qos,
        /// The packet identifier; 0 at QoS 0.
        pkid: u16,
        /// Length of the payload, bytes.
        len: usize,
    },
    /// PUBACK: the broker has our message (QoS 1).
    PubAck(u16),
    /// PUBREC: the broker has our message (QoS 2).
    PubRec(u16),
    /// PUBREL: the broker will not send this message again (QoS 2).
    PubRel(u16),
    /// PUBCOMP: the broker has finished with our message (QoS 2).
    PubComp(u16),
    /// SUBACK: one answer a topic filter, in the order of the SUBSCRIBE.
    SubAck {
        /// The packet identifier of the SUBSCRIBE.
        pkid: u16,
        /// The quality of service granted, or `None` for a refusal (0x80).
        granted: Vec<Option<Qos>>,
    },
    /// UNSUBACK.
    UnsubAck(u16),
    /// PINGRESP.
    PingResp,
    /// DISCONNECT from the broker; no version before 5 has it.
    Disconnect,
}

/// Why a broker refused a connection (MQTT 3.1.1, table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectRefusal {
    /// 1: it does not speak this version.
    Version,
    /// 2: it does not allow this client identifier.
    ClientId,
    /// 3: the MQTT service is unavailable; later may do.
    Unavailable,
    /// 4: bad user name or password.
    Login,
    /// 5: not authorised to connect.
    NotAuthorized,
}

/// A packet that we send.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// CONNECT, without a will.
    Connect {
        /// The client identifier, at most 65535 bytes.
        client_id: &'a str,
        /// User name and password, each at most 65535 bytes.
        login: Option<&'a Login>,
        /// Seconds; 0 for none.
        keep_alive: u16,
        /// Asks the broker to forget what it kept.
        clean_session: bool,
    },
    /// PUBLISH.
    Publish {
        /// A valid topic.
        topic: &'a str,
        /// The payload; with the topic at most [`MAX_REMAINING`] bytes less four.
        payload: &'a Bytes,
        /// The quality of service.
        qos: Qos,
        /// The broker keeps it for later subscribers.
        retain: bool,
        /// It was sent before.
        dup: bool,
        /// The packet identifier; not 0, except at QoS 0.
        pkid: u16,
    },
    /// PUBACK.
    PubAck(u16),
    /// PUBREC.
    PubRec(u16),
    /// PUBREL.
    PubRel(u16),
    /// PUBCOMP.
    PubComp(u16),
    /// SUBSCRIBE, with one topic filter.
    Subscribe {
        /// The packet identifier, not 0.
        pkid: u16,
        /// A valid topic filter.
        filter: &'a str,
        /// The highest quality of service wanted.
        qos: Qos,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect,
}

/// Bytes to packets and packets to bytes, for one connection at a time.
#[derive(Debug)]
pub struct Codec {
    framer: Framer,
    dialect: Dialect,
}

/// One variant a version on the wire; a new version is a new variant, and the compiler names what it must answer.
#[derive(Debug)]
enum Dialect {
    V311(v311::Dialect),
}

impl Codec {
    /// A codec of this version that reads past each PUBLISH longer than `limit` bytes after the fixed header.
    ///
    /// # Errors
    /// [`Exit::Config`] for a version that is not in this version of the program.
    pub fn new(version: Version, limit: usize) -> Result<Self> {
        let dialect = match version {
            Version::V311 => Dialect::V311(v311::Dialect::default()),
            Version::V31 | Version::V5 => {
                return Err(Error::new(Exit::Config, format!("`mqtt_version = {}`", version as u8))
                    .because(format!("MQTT {version} is not in this version"))
                    .hint("use `mqtt_version = 4` (MQTT 3.1.1)"));
            }
        };
        Ok(Self { framer: Framer::new(limit), dialect })
    }

    /// Starts anew, as for a new connection.
    pub fn reset(&mut self) {
        self.framer.reset();
    }

    /// Takes the next packet off the front of `bytes`; `None` when more bytes must come first.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the bytes are not MQTT, or not what a broker sends: there is no way to go on from there.
    pub fn decode(&mut self, bytes: &mut BytesMut) -> std::result::Result<Option<Packet>, ConnectionLost> {
        match self.framer.next(bytes)? {
            None => Ok(None),
            Some(Frame::Oversize(packet)) => Ok(Some(packet)),
            Some(Frame::Whole(header, frame)) => match &self.dialect {
                Dialect::V311(_) => v311::Dialect::decode(header, frame.freeze()).map(Some),
            },
        }
    }

    /// Appends one packet to `out`.
    ///
    /// The lengths that [`Request`] names are the caller's to keep.
    pub fn encode(&mut self, request: Request<'_>, out: &mut BytesMut) {
        match &mut self.dialect {
            Dialect::V311(dialect) => dialect.encode(request, out),
        }
    }
}

#[cfg(test)]
mod tests;
