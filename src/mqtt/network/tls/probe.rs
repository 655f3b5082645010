//! Whether a broker speaks TLS on a port where it closes plain connections without a word.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;

use rustix::event::PollFlags;

use super::TlsLayer;
use super::transport::TlsTransport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::Node;
use crate::mqtt::network::transport::Transport;
use crate::mqtt::tls_options::{KeyPin, TlsOptions};

/// A connection that is only there to see what is spoken: its handshake always fails, and says so.
#[derive(Debug)]
pub(in crate::mqtt::network) struct TlsProbe(TlsTransport);

impl TlsProbe {
    pub(in crate::mqtt::network) fn new(lower: Box<dyn Transport>, node: &Node) -> Result<Self, ConnectionLost> {
        // No key has this pin, so that nothing is ever said to the other end.
        let options = TlsOptions { pin: Some(KeyPin::of(&[])), ..TlsOptions::default() };
        let layer = TlsLayer::new(options).map_err(|error| ConnectionLost::new(error.to_string()))?;
        layer.connect(lower, node).map(Self)
    }
}

impl Transport for TlsProbe {
    fn handshake(&mut self) -> Poll<Result<(), ConnectionLost>> {
        if self.0.handshake().is_pending() {
            return Poll::Pending;
        }
        Poll::Ready(Err(if self.0.was_answered_in_tls() {
            ConnectionLost::at(Obstacle::Tls, "the broker speaks TLS on this port").final_one()
        } else {
            ConnectionLost::at(Obstacle::Closed, "the broker closed the connection")
        }))
    }

    fn needs(&self) -> PollFlags {
        self.0.needs()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.0.shutdown_write()
    }

    fn quick_ack(&self) {}
}

impl Read for TlsProbe {
    fn read(&mut self, _out: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

impl Write for TlsProbe {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for TlsProbe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
