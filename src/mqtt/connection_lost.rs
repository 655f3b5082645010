//! Why a connection must be dropped.

use std::{fmt, io};

/// The connection must be dropped; the client then makes another one. Displays as one phrase that says why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionLost(String);

impl ConnectionLost {
    /// Text from the network in `why` must be escaped.
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }

    /// What came in is not MQTT, or not what a broker may send.
    pub(super) fn malformed(what: impl fmt::Display) -> Self {
        Self(format!("the broker sent invalid MQTT: {what}"))
    }
}

impl From<io::Error> for ConnectionLost {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

impl fmt::Display for ConnectionLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConnectionLost {}
