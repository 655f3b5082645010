//! Why a connection must be dropped.

use std::fmt;

/// The connection must be dropped; another one is made. Displays as one phrase that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLost(String);

impl ConnectionLost {
    /// Without text from the network that was not escaped.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// What came in is not MQTT, or not what a broker may send.
    pub(super) fn malformed(what: impl fmt::Display) -> Self {
        Self(format!("the peer does not speak MQTT: {what}"))
    }
}

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectionLost {}
