//! The byte stream below MQTT.
//!
//! To add TLS, WebSocket or Unix sockets, whose [`Endpoint`](crate::mqtt::Endpoint) the configuration parses already:
//! implement [`Transport`] in a file beside this one for a type that wraps the socket. In `connector.rs`, name the
//! address of the endpoint, make the transport of the connected socket, and add a state for the handshake if there is
//! one, as it takes more than one turn of the loop. The configuration then accepts the endpoint. Then tell the users:
//! sts.conf(5) at `url`, the hints in `outage.rs`, and the README.

#![expect(clippy::disallowed_types, reason = "it is the socket")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// A non-blocking byte stream.
///
/// `write` may keep what it accepted in a buffer of its own, as a layer of encryption does. `flush` returns `Ok` only
/// when the socket took all of it, because at QoS 0 that counts as sent. The descriptor is that of the socket, for
/// poll(2).
pub(in crate::mqtt) trait Transport: Read + Write + AsFd + fmt::Debug {
    /// Tells the peer that nothing more will be written; reading remains possible.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Acknowledges at the level of TCP, without delay, what the peer sent.
    ///
    /// A broker whose sockets use Nagle's algorithm (RFC 896), as mosquitto's do by default, holds its next packet back
    /// until then, and a delayed acknowledgement (RFC 1122, 4.2.3.2) takes 40 ms.
    fn quick_ack(&self);
}

impl Transport for TcpStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        TcpStream::shutdown(self, Shutdown::Write)
    }

    fn quick_ack(&self) {
        // Only for speed, so a failure does no harm.
        let _ = sockopt::set_tcp_quickack(self, true);
    }
}
