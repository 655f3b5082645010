//! MQTT: rumqttc's packets, and our own session over them.
//!
//! From the wire up: [`codec`] turns bytes into packets and back, [`session`] is the client as a machine without I/O,
//! clock or generator, and [`connection`] is the only place that opens a socket. A tool drives a
//! [`Client`] from its own poll(2) loop.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

pub mod connection;
pub mod endpoint;
pub mod event;
pub mod session;

mod backoff;
mod codec;
mod connection_lost;
mod dial;
mod history;
mod inbound;
mod inbox;
mod options;
mod outbound;
mod pulse;
mod qos;
mod refusal;
mod resolve;
mod stream;
mod subscriptions;
mod topic;
mod version;

pub use connection::Client;
pub use connection_lost::ConnectionLost;
pub use endpoint::{ClientCert, Endpoint, TlsFiles};
pub use event::{Event, Message, Receipt, Token};
pub use options::{InFlightLimit, Login, Options};
pub use qos::Qos;
pub use session::{ClientSession, Unacknowledged};
pub use version::Version;
