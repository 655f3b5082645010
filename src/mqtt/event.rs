//! What the client reports to the tool that drives it.

use std::time::Duration;

use bytes::Bytes;

use super::{Outage, Qos};
use crate::Error;

/// Something happened; the tool takes events with `next_event` until there are none.
#[derive(Debug)]
pub enum Event {
    /// The broker accepted the connection.
    Up {
        /// It certainly kept the MQTT session: undelivered messages will come, and subscriptions stand.
        session_present: bool,
    },
    /// The connection was lost, or an attempt failed; the client tries again by itself.
    Down {
        /// Why.
        outage: Outage,
        /// How long until the next attempt.
        retry: Duration,
    },
    /// The connection was ended to begin another one, as [`Client::renew`](super::Client::renew) asked.
    Renewed,
    /// The broker accepted a topic filter.
    Subscribed {
        /// The topic filter.
        filter: String,
        /// The quality of service asked for.
        requested: Qos,
        /// The one granted, which may be lower.
        granted: Qos,
    },
    /// The broker has this message; at QoS 0, the socket took it.
    Acknowledged(Token),
    /// A message came in.
    Message(Message),
    /// A message came in that is larger than `ClientLimits::max_receive`, and was skipped.
    Oversize {
        /// The topic that it was published on.
        topic: String,
        /// Length of the payload, bytes; in MQTT 5 with the properties of the message.
        len: usize,
        /// Acknowledges it, so that the broker does not send it again.
        receipt: Receipt,
    },
    /// The broker refused something. The client keeps trying: the tool decides whether this ends the run.
    Refused(Refusal),
    /// The broker takes no message as long as one that was published. It is not sent, and neither is what was published
    /// after it, until the broker takes longer ones, or [`Client::withdraw`](super::Client::withdraw).
    TooLong(Error),
    /// Something does not work, perhaps only for now, and the user can help: the client keeps trying.
    Warning(Error),
    /// Something that is good to know when one looks for it.
    Note(String),
    /// The broker accepts each connection and soon drops it: another client probably uses this client id.
    Contested {
        /// How many connections in a row.
        times: u32,
    },
    /// All queued packets went out, and the connection is closed; no event follows.
    Closed,
}

/// What the broker refused, and why.
#[derive(Debug)]
pub struct Refusal {
    /// What was asked for.
    pub of: Refused,
    /// The error of a run that ends for this.
    pub error: Error,
}

/// What a broker can refuse. [`Event::Up`], [`Event::Subscribed`] and [`Event::Acknowledged`] say that it accepts it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refused {
    /// The connection.
    Connection,
    /// A topic filter.
    Subscription,
    /// A message.
    Message,
}

impl Refused {
    /// This is refused, for this reason.
    pub(super) fn because(self, error: Error) -> Event {
        Event::Refused(Refusal { of: self, error })
    }
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        refusal.error
    }
}

/// A message from the broker.
#[derive(Debug)]
pub struct Message {
    /// The topic that it was published on.
    pub topic: String,
    /// The payload: a view of the read buffer, whose memory it keeps until it is dropped.
    pub payload: Bytes,
    /// The quality of service it came with.
    pub qos: Qos,
    /// It was retained: it may have been published before we subscribed.
    pub retain: bool,
    /// The broker may have sent it before.
    pub dup: bool,
    /// Acknowledges it; without that the broker sends it again on a later connection.
    pub receipt: Receipt,
}

/// Names a published message until it is acknowledged; later messages compare greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub(super) u64);

/// The right to acknowledge one received message, once. One that the broker sends again on the same connection has an equal one.
#[derive(Debug, PartialEq, Eq)]
pub struct Receipt(pub(super) RequiredAck);

impl Receipt {
    /// Of a message that requires no acknowledgement, or not any more.
    pub(crate) fn none() -> Self {
        Self(RequiredAck::None)
    }

    /// Of a message that came with this identifier.
    #[cfg(test)]
    pub(crate) fn of(qos: Qos, pkid: u16) -> Self {
        Self(match qos {
            Qos::AtMostOnce => RequiredAck::None,
            Qos::AtLeastOnce => RequiredAck::PubAck { pkid, connection: 1 },
            Qos::ExactlyOnce => RequiredAck::PubRec { pkid, delivery: pkid.into() },
        })
    }
}

/// The acknowledgement that a message requires.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RequiredAck {
    /// None (QoS 0).
    None,
    /// PUBACK, on the connection that it came over: on another one the identifier may be of another message.
    PubAck { pkid: u16, connection: u64 },
    /// PUBREC, on any connection: the delivery lives as long as the broker's session.
    PubRec { pkid: u16, delivery: u64 },
}
