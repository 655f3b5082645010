//! The network below MQTT: from an endpoint to a [`Connection`] that carries the bytes of a client session.
//!
//! A [`Dialer`] knows the endpoint, and which nodes and addresses were of use (`node_order`). Each attempt is a [`Connector`]:
//! `resolver` looks a name up, `race` decides which address to try when, `sockets` connects, and `layers` puts on the socket
//! what is spoken there, each a `transport`: `proxy`, `tls`, `web_socket`. `failures` tells what an attempt failed on.

mod connection;
mod connector;
mod dialer;
mod failures;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod layers;
mod node_order;
mod proxy;
mod race;
mod read_buffer;
mod remote;
mod resolver;
mod sockets;
#[cfg(feature = "tls")]
mod tls;
mod transport;
#[cfg(feature = "websocket")]
mod web_socket;

pub(super) use connection::Connection;
pub(super) use connector::{ConnectOutcome, Connector};
pub(super) use dialer::Dialer;
pub(crate) use proxy::MAX_SOCKS_FIELD_LEN;

#[cfg(test)]
mod tests;
