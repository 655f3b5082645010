//! What a run hears from its loop.

use crate::Error;
use crate::mqtt::{Message, Qos, Receipt, Token};

/// What the broker did, as far as a run must act on it.
#[derive(Debug)]
pub(crate) enum BrokerEvent {
    /// The broker accepted the connection.
    Connected,
    /// The connection was lost, or an attempt failed. Another one follows by itself.
    Disconnected,
    /// The broker accepted a subscription.
    Subscribed {
        /// The topic filter.
        filter: String,
        /// The quality of service requested.
        requested: Qos,
        /// The one granted, which may be lower.
        granted: Qos,
    },
    /// The broker has this message; at QoS 0, the socket has it.
    Acknowledged(Token),
    /// The broker takes no message as long as one that was published, which holds up the others.
    TooLong(Error),
    /// A message came in.
    Message(Message),
    /// A message came in that is over the limit. Its payload was discarded.
    Oversize {
        /// Length of the payload in bytes.
        len: usize,
        /// Acknowledges it, so that the broker does not send it again.
        receipt: Receipt,
    },
}

/// Whether signals ask the run to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// They do not.
    No,
    /// The first one came: finish what was begun.
    Gracefully,
    /// A second one came.
    AtOnce,
}
