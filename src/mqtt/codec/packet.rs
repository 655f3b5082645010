//! The packets that client and broker exchange, as they are in every version of MQTT.

use bytes::Bytes;

use super::reason::Reason;
use crate::mqtt::{Login, Qos, Will};

/// The longest packet that MQTT can express, bytes after the fixed header (MQTT 3.1.1, 2.2.3).
pub(in crate::mqtt) const MAX_REMAINING_LEN: usize = 268_435_455;

/// A packet that a broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Packet {
    /// CONNACK: the answer to CONNECT.
    ConnAck {
        /// The broker kept the MQTT session of an earlier connection.
        session_present: bool,
        /// Whether the broker accepted the connection, or why not.
        reason: Reason,
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
    /// PUBACK: the broker has our message (QoS 1), or refuses it.
    PubAck {
        /// The packet identifier of the PUBLISH.
        pkid: u16,
        /// Whether it accepted the message.
        reason: Reason,
    },
    /// PUBREC: the broker has our message (QoS 2), or refuses it, and then nothing follows.
    PubRec {
        /// The packet identifier of the PUBLISH.
        pkid: u16,
        /// Whether it accepted the message.
        reason: Reason,
    },
    /// PUBREL: the broker will not send this message again (QoS 2).
    PubRel(u16),
    /// PUBCOMP: the broker has finished with our message (QoS 2).
    PubComp(u16),
    /// SUBACK: one answer per topic filter, in the order of the SUBSCRIBE.
    SubAck {
        /// The packet identifier of the SUBSCRIBE.
        pkid: u16,
        /// The quality of service granted, or why it refuses: never a success then.
        granted: Vec<Result<Qos, Reason>>,
    },
    /// UNSUBACK.
    UnsubAck {
        /// The packet identifier of the UNSUBSCRIBE.
        pkid: u16,
        /// One answer per topic filter; before MQTT 5 there are none, and all succeeded.
        reasons: Vec<Reason>,
    },
    /// PINGRESP.
    PingResp,
    /// DISCONNECT from the broker, which no version before 5 has: the connection ends for this reason.
    Disconnect(Reason),
}

/// A packet that we send.
#[derive(Clone, Copy, Debug)]
pub(in crate::mqtt) enum Request<'a> {
    /// CONNECT.
    Connect {
        /// The client identifier, at most 65535 bytes.
        client_id: &'a str,
        /// User name and password, each at most 65535 bytes.
        login: Option<&'a Login>,
        /// Seconds; 0 for none.
        keep_alive: u16,
        /// Asks the broker to discard the MQTT session that it kept.
        clean_session: bool,
        /// What the broker is to publish when the connection ends without DISCONNECT.
        will: Option<&'a Will>,
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
