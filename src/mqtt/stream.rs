//! The byte stream below MQTT.

#![expect(clippy::disallowed_types, reason = "it is the socket")]

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsFd;

/// A non-blocking byte stream: what a scheme other than TCP must bring.
///
/// `write` may keep what it accepted in a buffer of its own, as a layer of encryption does; `flush` answers `Ok` only
/// when the socket took all of it, because at QoS 0 that is what counts as sent.
pub(super) trait Stream: Read + Write + AsFd + fmt::Debug {
    /// Says that nothing more will be written; reading goes on.
    fn shutdown(&mut self) -> io::Result<()>;
}

impl Stream for TcpStream {
    fn shutdown(&mut self) -> io::Result<()> {
        TcpStream::shutdown(self, Shutdown::Write)
    }
}
