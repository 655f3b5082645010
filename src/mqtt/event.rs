//! What a session tells the tool that drives it.

use std::time::Duration;

use bytes::Bytes;

use super::Qos;
use crate::Error;

/// Something happened; the tool takes these with `next_event` until there are none.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection.
    Up {
        /// It kept the session, for certain: what it had not delivered will come, and subscriptions stand.
        session_present: bool,
    },
    /// There is no connection, or no longer one; another is tried by itself.
    Down {
        /// One phrase, without text from the network that was not escaped.
        why: String,
        /// How long until the next attempt.
        retry: Duration,
    },
    /// The broker accepted a topic filter.
    Subscribed {
        /// The topic filter.
        filter: String,
        /// The quality of service asked for.
        asked: Qos,
        /// The one granted; may be lower.
        granted: Qos,
    },
    /// The broker has this message; at QoS 0, the socket has it.
    Acked(Token),
    /// A message came in.
    Message(Message),
    /// A message came in that is larger than `Options::max_receive`, and was read past.
    Oversize {
        /// The topic that it was published on.
        topic: String,
        /// Length of the payload, bytes.
        len: usize,
        /// Acknowledges it, so that the broker does not send it again.
        receipt: Receipt,
    },
    /// The broker said no. The session would go on trying: the tool decides whether this ends the run.
    Refused(Error),
    /// The broker accepts each connection and soon drops it; most likely another client uses this client identifier.
    Contested {
        /// How many connections in a row.
        times: u32,
    },
    /// All that was queued went out, and the connection is closed; nothing follows.
    Closed,
}

/// A message from the broker.
#[derive(Debug)]
pub struct Message {
    /// The topic that it was published on.
    pub topic: String,
    /// The payload: a view of the read buffer, to be dropped soon.
    pub payload: Bytes,
    /// The quality of service it came with.
    pub qos: Qos,
    /// It was retained: published before we subscribed.
    pub retain: bool,
    /// The broker may have sent it before.
    pub dup: bool,
    /// Acknowledges it; without that the broker sends it again on a later connection.
    pub receipt: Receipt,
}

/// Names a published message until it is acknowledged; later messages compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(super) u64);

/// The right to acknowledge one received message, once.
#[derive(Debug)]
pub struct Receipt(pub(super) Owed);

/// The acknowledgement that a message needs.
#[derive(Debug)]
pub(super) enum Owed {
    /// None (QoS 0).
    Nothing,
    /// PUBACK, on the connection that it came over: on another the same identifier is another message.
    PubAck { pkid: u16, connection: u64 },
    /// PUBREC; the delivery outlives the connection, as the broker's session does.
    PubRec { pkid: u16, delivery: u64 },
}
