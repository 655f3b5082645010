//! The packets that client and broker exchange, as they are in every version of MQTT.

use bytes::Bytes;

use crate::mqtt::{Login, Qos};

/// The longest packet that MQTT can express, bytes after the fixed header (MQTT 3.1.1, 2.2.3).
pub(in crate::mqtt) const MAX_REMAINING_LEN: usize = 268_435_455;

/// A packet that a broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Packet {
    /// CONNACK: the answer to CONNECT.
    ConnAck {
        /// The broker kept the MQTT session of an earlier connection.
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
        /// It was retained: it may be older than the subscription.
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
    /// SUBACK: one answer per topic filter, in the order of the SUBSCRIBE.
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
    /// DISCONNECT from the broker, which no version before 5 has.
    Disconnect,
}

/// Why a broker refused a connection (MQTT 3.1.1, table 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum ConnectRefusal {
    /// 1: it does not support this version.
    Version,
    /// 2: it does not allow this client identifier.
    ClientId,
    /// 3: the MQTT service is unavailable, perhaps only now.
    Unavailable,
    /// 4: bad user name or password.
    Login,
    /// 5: not authorised to connect.
    NotAuthorized,
}

/// A packet that we send.
#[derive(Clone, Copy, Debug)]
pub(in crate::mqtt) enum Request<'a> {
    /// CONNECT, without a will.
    Connect {
        /// The client identifier, at most 65535 bytes.
        client_id: &'a str,
        /// User name and password, each at most 65535 bytes.
        login: Option<&'a Login>,
        /// Seconds; 0 for none.
        keep_alive: u16,
        /// Asks the broker to discard the MQTT session that it kept.
        clean_session: bool,
    },
    /// PUBLISH.
    Publish {
        /// A valid topic.
        topic: &'a str,
        /// The payload; with the topic at most [`MAX_REMAINING_LEN`] bytes less four.
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
