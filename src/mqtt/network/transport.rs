//! The byte stream below MQTT.
//!
//! A socket is a [`Transport`], and so is each layer on it: a layer owns a `Box<dyn Transport>`, and `wss://` is WebSocket over
//! TLS over TCP. To add a layer, implement the trait in a file beside this one, and put it into `layers.rs`, which decides
//! what is spoken on a connected socket. Then tell the users: sts.conf(5) at `url`, the hints in `outage.rs`, and the README.

#![expect(clippy::disallowed_types, reason = "it is the socket")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::task::Poll;

use rustix::event::PollFlags;
use rustix::net::sockopt;

use crate::mqtt::connection_lost::ConnectionLost;

/// A non-blocking byte stream.
///
/// [`handshake`](Self::handshake) comes first, until it is ready; then `read` and `write`. `write` may keep what it accepted in
/// a buffer of its own, which is bounded, as a layer of encryption does. `flush` returns `Ok` only when the socket took all of
/// it, because at QoS 0 that counts as sent. The descriptor is that of the socket, for poll(2).
pub(in crate::mqtt) trait Transport: Read + Write + AsFd {
    /// Goes on with what must be said before the first byte of MQTT, as far as that goes without waiting: first that of the
    /// layer below. It is called again when poll(2) finds what [`needs`](Self::needs) says.
    fn handshake(&mut self) -> Poll<Result<(), ConnectionLost>> {
        Poll::Ready(Ok(()))
    }

    /// What to poll for on its own account, besides what its user waits for, its layer below included. In the handshake it is
    /// what that waits for; later `OUT` while something of its own, such as an answer to a ping, waits for the socket. The user
    /// then calls `flush` when the socket is writable.
    fn needs(&self) -> PollFlags {
        PollFlags::empty()
    }

    /// Whether `read` would return something that poll(2) does not see, because it has left the socket.
    fn has_unread(&self) -> bool {
        false
    }

    /// Tells the peer that nothing more will be written; reading remains possible.
    fn shutdown_write(&mut self) -> io::Result<()>;

    /// Acknowledges at the level of TCP, without delay, what the peer sent.
    ///
    /// A broker whose sockets use Nagle's algorithm (RFC 896), as mosquitto's do by default, holds its next packet back
    /// until then, and a delayed acknowledgement (RFC 1122, 4.2.3.2) takes 40 ms.
    fn quick_ack(&self);
}

/// Of all of them alike: what a socket shows of itself is code that nobody calls.
impl fmt::Debug for dyn Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
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

impl Transport for UnixStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        UnixStream::shutdown(self, Shutdown::Write)
    }

    /// Nothing is delayed here.
    fn quick_ack(&self) {}
}
