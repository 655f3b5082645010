//! What the loop reports to a run.

use crate::Error;
use crate::mqtt::{Message, Qos, Receipt, Token};

/// An event at the broker on which a run must act.
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
    /// A published message is longer than the broker accepts, and holds up the others.
    TooLong(Error),
    /// A message arrived.
    Message(Message),
    /// A message arrived that is over the limit. Its payload was discarded.
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
    /// No signal was received.
    No,
    /// The first signal was received: finish what was begun.
    Gracefully,
    /// A second signal was received.
    AtOnce,
}
