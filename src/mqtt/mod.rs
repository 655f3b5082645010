//! MQTT 3.1, 3.1.1 and 5: packets, and a client over them.
//!
//! A tool drives a [`Client`] from its own poll(2) loop. From there down to the wire: `client_session` is the client as
//! a state machine without I/O, clock or generator, `codec` turns bytes into packets and back, and `network` is the only
//! place that opens a socket. An [`Outage`] says why there is no connection, and what to check.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod client;
mod client_options;
mod client_session;
mod codec;
mod connection_lost;
mod endpoint;
mod event;
mod failure_streak;
mod foreign_protocol;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod network;
mod outage;
mod qos;
mod reconnect_delay;
mod tls_options;
mod topic;
mod version;

pub use client::Client;
pub use client_options::{ClientLimits, ClientOptions, InFlightLimit, Login, MIN_MESSAGE, V5Options, Will};
pub(crate) use client_options::{DEFAULT_SESSION_EXPIRY, MIN_BROKER_WINDOW};
pub use client_session::{ClientSession, Unacknowledged};
pub use connection_lost::ConnectionLost;
pub use endpoint::{BrokerAddress, Endpoint, Node, Proxy, ProxyKind};
pub(crate) use endpoint::{DEFAULT_PATH, MQTT_PORT, MQTTS_PORT};
pub use event::{Event, Message, Receipt, Refusal, Refused, Token};
pub(crate) use network::MAX_SOCKS_FIELD_LEN;
pub(crate) use outage::OWN_CLIENT_ID;
pub use outage::Outage;
pub use qos::Qos;
pub use tls_options::{ClientCert, KeyPin, TicketPlace, TlsOptions};
pub use version::Version;
