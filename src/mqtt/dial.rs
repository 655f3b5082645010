//! From an endpoint to a byte stream, without ever blocking: look the name up, then try one address after the other.

#![expect(clippy::disallowed_types, reason = "it opens the socket")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::endpoint::Endpoint;
use super::resolve::Resolver;
use super::stream::Stream;

/// How long a look-up, and each address, may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// One attempt at an endpoint.
#[derive(Debug)]
pub(super) struct Dialer {
    stage: Stage,
    /// Addresses not tried yet.
    rest: VecDeque<SocketAddr>,
    /// Why the last address did not do.
    why: String,
}

#[derive(Debug)]
enum Stage {
    Resolving(Resolver, Instant),
    Connecting(OwnedFd, Instant),
    /// The next address is to be tried.
    Next,
}

/// How an attempt stands.
#[derive(Debug)]
pub(super) enum Progress {
    /// Wait for the descriptor or the deadline.
    Pending,
    /// The stream is there.
    Connected(Box<dyn Stream>),
    /// No address did; says why.
    Failed(String),
}

impl Dialer {
    /// Begins an attempt; [`Dialer::drive`] does the work.
    pub(super) fn start(endpoint: &Endpoint, now: Instant) -> io::Result<Self> {
        let Endpoint::Tcp { host, port } = endpoint else { return Err(io::ErrorKind::Unsupported.into()) };
        // An address need not be looked up.
        let address = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, *port));
        let rest: VecDeque<_> = address.into_iter().collect();
        let stage =
            if rest.is_empty() { Stage::Resolving(Resolver::start(host, *port)?, now + PATIENCE) } else { Stage::Next };
        Ok(Self { stage, rest, why: "the name has no address".to_owned() })
    }

    /// What to poll for.
    pub(super) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.stage {
            Stage::Resolving(resolver, _) => Some((resolver.as_fd(), PollFlags::IN)),
            Stage::Connecting(socket, _) => Some((socket.as_fd(), PollFlags::OUT)),
            Stage::Next => None,
        }
    }

    /// When to give up waiting.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.stage {
            Stage::Resolving(_, due) | Stage::Connecting(_, due) => Some(due),
            Stage::Next => None,
        }
    }

    /// Goes as far as it can; `ready` says whether poll found something at the descriptor.
    pub(super) fn drive(&mut self, now: Instant, ready: bool) -> Progress {
        // What poll found belongs to the descriptor that was polled, not to one made here.
        let mut ready = ready;
        loop {
            match std::mem::replace(&mut self.stage, Stage::Next) {
                Stage::Resolving(resolver, due) => match resolver.answer() {
                    Some(Ok(addresses)) => self.rest = addresses.into(),
                    Some(Err(error)) => return Progress::Failed(error.to_string()),
                    None if now >= due => return Progress::Failed("the look-up of its name timed out".to_owned()),
                    None => {
                        self.stage = Stage::Resolving(resolver, due);
                        return Progress::Pending;
                    }
                },
                Stage::Connecting(socket, _) if ready => match sockopt::socket_error(&socket) {
                    Ok(Ok(())) => match open(socket) {
                        Ok(stream) => return Progress::Connected(stream),
                        Err(error) => self.why = error.to_string(),
                    },
                    Ok(Err(error)) | Err(error) => self.why = error.to_string(),
                },
                Stage::Connecting(_, due) if now >= due => "connecting timed out".clone_into(&mut self.why),
                Stage::Connecting(socket, due) => {
                    self.stage = Stage::Connecting(socket, due);
                    return Progress::Pending;
                }
                Stage::Next => {
                    let Some(address) = self.rest.pop_front() else {
                        return Progress::Failed(std::mem::take(&mut self.why));
                    };
                    match begin(address) {
                        Ok(socket) => self.stage = Stage::Connecting(socket, now + PATIENCE),
                        Err(error) => self.why = error.to_string(),
                    }
                }
            }
            ready = false;
        }
    }
}

/// Makes a stream of a connected socket.
fn open(socket: OwnedFd) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Starts to connect; the socket becomes writable when that is decided, at once or later.
fn begin(address: SocketAddr) -> Result<OwnedFd, Errno> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    match connect(&socket, &address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}
