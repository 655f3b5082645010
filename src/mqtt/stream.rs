//! The byte stream below MQTT.

#![expect(clippy::disallowed_types, reason = "it is the socket")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

use rustix::net::sockopt;

/// A non-blocking byte stream: what a scheme other than TCP must bring.
///
/// `write` may keep what it accepted in a buffer of its own, as a layer of encryption does; `flush` answers `Ok` only
/// when the socket took all of it, because at QoS 0 that is what counts as sent.
pub(super) trait Stream: Read + Write + AsFd + fmt::Debug {
    /// Says that nothing more will be written; reading goes on.
    fn shutdown(&mut self) -> io::Result<()>;

    /// Has the peer told at once that what it sent came in.
    ///
    /// A broker whose sockets have Nagle's algorithm (RFC 896), as mosquitto's do by default, holds its next packet back
    /// until then, and an answer that waits for something to travel with (RFC 1122, 4.2.3.2) comes 40 ms late.
    fn acknowledge(&self);
}

impl Stream for TcpStream {
    fn shutdown(&mut self) -> io::Result<()> {
        TcpStream::shutdown(self, Shutdown::Write)
    }

    fn acknowledge(&self) {
        // Without it everything is as right, and only later.
        let _ = sockopt::set_tcp_quickack(self, true);
    }
}
