//! MQTT: rumqttc's packets, and our own session over them.
//!
//! From the wire up: [`packet`] turns bytes into packets and back, [`session`] is the client as a machine without I/O,
//! clock or generator, and [`connection`] is the only place that opens a socket. A tool drives a
//! [`Client`] from its own poll(2) loop.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod connection;
pub mod endpoint;
pub mod event;
pub mod packet;
pub mod session;

mod backoff;
mod dial;
mod frame;
mod history;
mod inbound;
mod inbox;
mod lost;
mod options;
mod outbound;
mod pulse;
mod refusal;
mod resolve;
mod stream;
mod subscriptions;
mod topic;
mod v311;

pub use connection::Client;
pub use endpoint::{ClientCert, Endpoint, TlsFiles};
pub use event::{Event, Message, Receipt, Token};
pub use lost::ConnectionLost;
pub use options::{InFlightLimit, Login, Options};
pub use session::{ClientSession, Unacknowledged};

use std::fmt;

/// The protocol's version, by the number that the configuration key `mqtt_version` has for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Version {
    /// MQTT 3.1 (protocol level 3).
    V31 = 3,
    /// MQTT 3.1.1 (protocol level 4, OASIS standard).
    #[default]
    V311 = 4,
    /// MQTT 5 (protocol level 5, OASIS standard).
    V5 = 5,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V31 => "3.1",
            Self::V311 => "3.1.1",
            Self::V5 => "5",
        })
    }
}

/// Quality of service: how often a message may arrive (MQTT 3.1.1, 4.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Qos {
    /// 0: at most once; never acknowledged.
    AtMostOnce = 0,
    /// 1: at least once; acknowledged by PUBACK.
    #[default]
    AtLeastOnce = 1,
    /// 2: exactly once, while both ends keep the session; PUBREC, PUBREL, PUBCOMP.
    ExactlyOnce = 2,
}

impl Qos {
    /// The quality of service of this number.
    #[must_use]
    pub fn from_code(code: u8) -> Option<Self> {
        [Self::AtMostOnce, Self::AtLeastOnce, Self::ExactlyOnce].into_iter().find(|qos| qos.code() == code)
    }

    /// The number: 0, 1 or 2.
    #[must_use]
    pub fn code(self) -> u8 {
        // The discriminants are the numbers.
        self as u8
    }
}

impl fmt::Display for Qos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code())
    }
}
