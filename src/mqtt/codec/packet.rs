//! The packets that client and broker exchange, as they are in every version of MQTT.

use bytes::Bytes;

use super::reason::Reason;
use crate::mqtt::{Login, Qos, Will};

/// The longest packet that MQTT can express, bytes after the fixed header (MQTT 3.1.1, 2.2.3).
pub(in crate::mqtt) const MAX_REMAINING_LEN: usize = 268_435_455;

/// What a PUBLISH has beside topic and payload after the fixed header, at most, bytes: the length of the topic, the packet
/// identifier, and in MQTT 5 the length of the properties, a message expiry and a topic alias.
pub(in crate::mqtt) const MAX_PUBLISH_OVERHEAD: usize = 2 + 2 + 1 + 5 + 3;

/// A packet that a broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) enum Packet {
    /// CONNACK: the answer to CONNECT.
    ConnAck(Box<ConnAck>),
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
        /// Length of the payload, bytes; in MQTT 5 with the properties of the message.
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
    /// AUTH: the broker wants an exchange that this client does not have. No version before 5 has it.
    Auth,
    /// DISCONNECT from the broker, which no version before 5 has: the connection ends for this reason.
    Disconnect(Reason),
}

/// The answer to CONNECT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct ConnAck {
    /// Whether the broker kept the MQTT session of an earlier connection; `None` where the version cannot say.
    pub(in crate::mqtt) session_present: Option<bool>,
    /// Whether the broker accepted the connection, or why not.
    pub(in crate::mqtt) reason: Reason,
    /// What it bears on this connection.
    pub(in crate::mqtt) capabilities: Capabilities,
}

/// What a broker bears on a connection, and what it changes of what CONNECT asked for. Before MQTT 5 it cannot say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::mqtt) struct Capabilities {
    /// PUBLISH packets at QoS 1 and 2 that it takes without having acknowledged them; `None` where the version cannot say.
    pub(in crate::mqtt) receive_maximum: Option<u16>,
    /// The highest quality of service that may be published.
    pub(in crate::mqtt) max_qos: Qos,
    /// It keeps messages for later subscribers.
    pub(in crate::mqtt) retains: bool,
    /// The longest packet that it takes, bytes.
    pub(in crate::mqtt) max_packet: usize,
    /// How long it keeps the MQTT session after the connection, seconds, where that is not what CONNECT asked for.
    pub(in crate::mqtt) session_expiry: Option<u32>,
    /// The keep-alive interval to use, seconds, where that is not what CONNECT asked for.
    pub(in crate::mqtt) keep_alive: Option<u16>,
    /// The client id that it chose, where CONNECT had none.
    pub(in crate::mqtt) client_id: Option<String>,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            receive_maximum: None,
            max_qos: Qos::ExactlyOnce,
            retains: true,
            max_packet: MAX_REMAINING_LEN + 5,
            session_expiry: None,
            keep_alive: None,
            client_id: None,
        }
    }
}

/// A packet that we send.
#[derive(Clone, Copy, Debug)]
pub(in crate::mqtt) enum Request<'a> {
    /// CONNECT.
    Connect(Connect<'a>),
    /// PUBLISH.
    Publish(Publish<'a>),
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
        /// Whether the broker is to send what it kept for later subscribers; before MQTT 5 it does in any case.
        retained: bool,
    },
    /// PINGREQ.
    PingReq,
    /// DISCONNECT.
    Disconnect,
}

/// What a connection begins with.
#[derive(Clone, Copy, Debug)]
pub(in crate::mqtt) struct Connect<'a> {
    /// The client id, at most 65535 bytes.
    pub(in crate::mqtt) client_id: &'a str,
    /// User name and password, each at most 65535 bytes.
    pub(in crate::mqtt) login: Option<&'a Login>,
    /// Seconds; 0 for none.
    pub(in crate::mqtt) keep_alive: u16,
    /// Asks the broker to discard the MQTT session that it kept, and to keep none after this connection.
    pub(in crate::mqtt) clean_session: bool,
    /// How long the broker is to keep a session that is not clean, seconds. Before MQTT 5 that is for the broker alone.
    pub(in crate::mqtt) session_expiry: u32,
    /// What the broker is to publish when the connection ends without DISCONNECT.
    pub(in crate::mqtt) will: Option<&'a Will>,
}

impl Connect<'_> {
    /// The length of the texts in it, and of what its will says, in bytes.
    pub(in crate::mqtt) fn texts_len(&self) -> usize {
        let password = |login: &Login| login.password.as_ref().map_or(0, |password| password.expose().len());
        let login = self.login.map_or(0, |login| login.username.len() + password(login));
        self.client_id.len() + login + self.will.map_or(0, |will| will.topic.len() + will.payload.len())
    }
}

/// A message for the broker.
#[derive(Clone, Copy, Debug)]
pub(in crate::mqtt) struct Publish<'a> {
    /// A valid topic.
    pub(in crate::mqtt) topic: &'a str,
    /// The payload; with the topic and [`MAX_PUBLISH_OVERHEAD`] at most [`MAX_REMAINING_LEN`] bytes.
    pub(in crate::mqtt) payload: &'a Bytes,
    /// The quality of service.
    pub(in crate::mqtt) qos: Qos,
    /// The broker keeps it for later subscribers.
    pub(in crate::mqtt) retain: bool,
    /// It was sent before.
    pub(in crate::mqtt) dup: bool,
    /// The packet identifier; not 0, except at QoS 0.
    pub(in crate::mqtt) pkid: u16,
}
