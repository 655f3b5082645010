//! A proxy as a layer: it is asked to connect to the broker, and then carries the bytes as they are.
//!
//! To add a kind of proxy: its scheme in `src/config/proxy.rs`, a variant of [`ProxyKind`], and its [`Dialogue`] in a file here.

#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod http_connect;
mod socks5;

#[cfg(test)]
mod tests;

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::task::Poll;

use rustix::event::PollFlags;
use zeroize::Zeroizing;

use self::http_connect::HttpConnect;
pub(crate) use self::socks5::MAX_FIELD_LEN as MAX_SOCKS_FIELD_LEN;
use self::socks5::Socks5;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::{Node, Proxy, ProxyKind};

/// How much of an answer is read at once, bytes.
const CHUNK_LEN: usize = 512;

/// What is said to a proxy, a request and an answer at a time.
trait Dialogue {
    /// The first request.
    fn begin(&mut self) -> Vec<u8>;

    /// What to do with an answer, of which these bytes have come.
    fn answer(&mut self, bytes: &[u8]) -> Result<ProxyReply, ConnectionLost>;
}

/// What to do with an answer.
enum ProxyReply {
    /// Wait for more of it.
    Incomplete,
    /// Send the next request.
    Say(Vec<u8>),
    /// The connection is made; the length of the answer in bytes.
    Done(usize),
}

/// A connection through a proxy.
#[derive(Debug)]
pub(super) struct ProxyConnection {
    lower: Box<dyn Transport>,
    /// Until the proxy has connected.
    dialogue: Option<Exchange>,
}

/// A dialogue, and its bytes on their way. Not printed, since a request may hold a password.
struct Exchange {
    dialogue: Box<dyn Dialogue>,
    out: Zeroizing<Vec<u8>>,
    answer: Vec<u8>,
}

impl ProxyConnection {
    /// Asks the proxy, to which `lower` is connected, for a connection to `node`.
    pub(super) fn new(lower: Box<dyn Transport>, proxy: &Proxy, node: &Node) -> Self {
        let (node, login) = (node.clone(), proxy.login.clone());
        let mut dialogue: Box<dyn Dialogue> = match proxy.kind {
            ProxyKind::Socks5 => Box::new(Socks5::new(node, login)),
            ProxyKind::Http => Box::new(HttpConnect::new(node, login)),
        };
        let out = dialogue.begin().into();
        Self { lower, dialogue: Some(Exchange { dialogue, out, answer: Vec::new() }) }
    }
}

impl Exchange {
    /// Goes on, as far as that goes without waiting; returns whether the proxy has connected.
    fn go_on(&mut self, lower: &mut dyn Transport) -> Result<bool, ConnectionLost> {
        loop {
            match self.step(lower) {
                Ok(0) => return Err(ConnectionLost::at(Obstacle::Proxy, "the proxy closed the connection")),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(ConnectionLost::at(Obstacle::Proxy, format!("the proxy: {error}"))),
            }
            if !self.answer.is_empty() {
                match self.dialogue.answer(&self.answer)? {
                    ProxyReply::Incomplete => {}
                    ProxyReply::Say(request) => (self.out, self.answer) = (request.into(), Vec::new()),
                    ProxyReply::Done(len) if len == self.answer.len() => return Ok(true),
                    // A broker says nothing before its client does.
                    ProxyReply::Done(_) => {
                        return Err(ConnectionLost::at(Obstacle::Proxy, "the proxy sent more than its answer"));
                    }
                }
            }
        }
    }

    /// Writes what is to be said, or else reads; returns how many bytes.
    fn step(&mut self, lower: &mut dyn Transport) -> io::Result<usize> {
        if !self.out.is_empty() {
            let count = lower.write(&self.out)?;
            self.out.drain(..count);
            return Ok(count);
        }
        lower.flush()?;
        let mut chunk = [0; CHUNK_LEN];
        let count = lower.read(&mut chunk)?;
        self.answer.extend_from_slice(&chunk[..count]);
        Ok(count)
    }
}

impl Transport for ProxyConnection {
    fn handshake(&mut self) -> Poll<Result<(), ConnectionLost>> {
        if let Some(exchange) = &mut self.dialogue {
            match exchange.go_on(&mut *self.lower) {
                Ok(true) => self.dialogue = None,
                Ok(false) => return Poll::Pending,
                Err(lost) => return Poll::Ready(Err(lost)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn needs(&self) -> PollFlags {
        match &self.dialogue {
            Some(exchange) if !exchange.out.is_empty() => PollFlags::OUT,
            Some(_) => PollFlags::IN,
            None => self.lower.needs(),
        }
    }

    fn has_unread(&self) -> bool {
        self.lower.has_unread()
    }

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.lower.shutdown_write()
    }

    fn quick_ack(&self) {
        self.lower.quick_ack();
    }
}

impl Read for ProxyConnection {
    fn read(&mut self, space: &mut [u8]) -> io::Result<usize> {
        self.lower.read(space)
    }
}

impl Write for ProxyConnection {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lower.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.lower.flush()
    }
}

impl AsFd for ProxyConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.lower.as_fd()
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exchange(..)")
    }
}
