//! The targets of the layers that have bytes to read before MQTT begins.

pub(crate) use super::proxy::fuzz::proxy;
#[cfg(feature = "tls")]
pub(crate) use super::tls::fuzz::tickets;
#[cfg(feature = "websocket")]
pub(crate) use super::web_socket::fuzz::web_socket;

/// A build without WebSocket reads nothing of it.
#[cfg(not(feature = "websocket"))]
pub(crate) fn web_socket(_data: &[u8]) {}

/// A build without TLS keeps no tickets.
#[cfg(not(feature = "tls"))]
pub(crate) fn tickets(_data: &[u8]) {}
