//! From an endpoint to a transport, without ever blocking: look the name up, then try one address after the other.

#![expect(clippy::disallowed_types, reason = "it opens the socket")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::resolver::Resolver;
use super::transport::Transport;
use crate::mqtt::Endpoint;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};

/// How long the lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// How long each address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// One attempt to connect to an endpoint.
#[derive(Debug)]
pub(in crate::mqtt) struct Connector {
    state: ConnectorState,
    /// Addresses not tried yet.
    addresses: VecDeque<SocketAddr>,
    /// Why the last address failed.
    lost: ConnectionLost,
}

#[derive(Debug)]
enum ConnectorState {
    /// Until the lookup times out.
    Resolving(Resolver, Instant),
    /// Until this address times out.
    Connecting(OwnedFd, Instant),
    /// The next address is to be tried.
    NextAddress,
}

/// How an attempt stands: still under way, or over with a transport or with the reason why there is none.
pub(in crate::mqtt) type ConnectOutcome = Poll<Result<Box<dyn Transport>, ConnectionLost>>;

impl Connector {
    /// Begins an attempt; [`Connector::drive`] does the work.
    pub(in crate::mqtt) fn start(endpoint: &Endpoint, now: Instant) -> io::Result<Self> {
        let (host, port) = tcp_target(endpoint).ok_or(io::ErrorKind::Unsupported)?;
        // An address needs no lookup, nor the thread that it takes.
        let address = host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, port));
        let state = match address {
            Some(_) => ConnectorState::NextAddress,
            None => ConnectorState::Resolving(Resolver::start(host, port)?, now + LOOKUP_TIMEOUT),
        };
        let lost = ConnectionLost::at(Obstacle::Lookup, "the host name has no address");
        Ok(Self { state, addresses: address.into_iter().collect(), lost })
    }

    /// What to poll for.
    pub(in crate::mqtt) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            ConnectorState::Resolving(resolver, _) => Some((resolver.as_fd(), PollFlags::IN)),
            ConnectorState::Connecting(socket, _) => Some((socket.as_fd(), PollFlags::OUT)),
            ConnectorState::NextAddress => None,
        }
    }

    /// When to stop waiting.
    pub(in crate::mqtt) fn deadline(&self) -> Option<Instant> {
        match self.state {
            ConnectorState::Resolving(_, due) | ConnectorState::Connecting(_, due) => Some(due),
            ConnectorState::NextAddress => None,
        }
    }

    /// What has not happened yet, as the reason of a caller that waits no longer.
    pub(in crate::mqtt) fn pending(&self) -> ConnectionLost {
        match self.state {
            ConnectorState::Resolving(..) => {
                ConnectionLost::at(Obstacle::Lookup, "no answer yet to the lookup of the host name")
            }
            ConnectorState::Connecting(..) | ConnectorState::NextAddress => {
                ConnectionLost::at(Obstacle::Unreachable, "no answer yet to the connection attempt")
            }
        }
    }

    /// Goes as far as it can; `ready` says whether poll found something at the descriptor.
    pub(in crate::mqtt) fn drive(&mut self, now: Instant, ready: bool) -> ConnectOutcome {
        let mut ready = ready;
        loop {
            let step = match std::mem::replace(&mut self.state, ConnectorState::NextAddress) {
                ConnectorState::Resolving(resolver, due) => self.resolve(resolver, due, now),
                ConnectorState::Connecting(socket, due) => self.finish_address(socket, due, now, ready),
                ConnectorState::NextAddress => self.begin_address(now),
            };
            if let ControlFlow::Break(outcome) = step {
                return outcome;
            }
            // What poll found belongs to the descriptor that was polled, not to one made here.
            ready = false;
        }
    }

    fn resolve(&mut self, resolver: Resolver, due: Instant, now: Instant) -> ControlFlow<ConnectOutcome> {
        match resolver.answer() {
            Some(Ok(addresses)) => self.addresses = addresses.into(),
            Some(Err(error)) => return fail(ConnectionLost::at(Obstacle::Lookup, error.to_string())),
            None if now >= due => {
                return fail(ConnectionLost::at(Obstacle::Lookup, "the lookup of the host name timed out"));
            }
            None => {
                self.state = ConnectorState::Resolving(resolver, due);
                return ControlFlow::Break(Poll::Pending);
            }
        }
        ControlFlow::Continue(())
    }

    fn begin_address(&mut self, now: Instant) -> ControlFlow<ConnectOutcome> {
        let Some(address) = self.addresses.pop_front() else { return fail(self.lost.clone()) };
        match begin(address) {
            Ok(socket) => self.state = ConnectorState::Connecting(socket, now + CONNECT_TIMEOUT),
            Err(error) => self.lost = io::Error::from(error).into(),
        }
        ControlFlow::Continue(())
    }

    fn finish_address(
        &mut self,
        socket: OwnedFd,
        due: Instant,
        now: Instant,
        ready: bool,
    ) -> ControlFlow<ConnectOutcome> {
        if ready {
            match sockopt::socket_error(&socket)
                .and_then(|result| result)
                .map_err(io::Error::from)
                .and_then(|()| open(socket))
            {
                Ok(transport) => return ControlFlow::Break(Poll::Ready(Ok(transport))),
                Err(error) => self.lost = error.into(),
            }
        } else if now >= due {
            self.lost = ConnectionLost::at(Obstacle::Unreachable, "the connection attempt timed out");
        } else {
            self.state = ConnectorState::Connecting(socket, due);
            return ControlFlow::Break(Poll::Pending);
        }
        ControlFlow::Continue(())
    }
}

impl Endpoint {
    /// Whether this program has a transport for it.
    pub(crate) fn is_supported(&self) -> bool {
        tcp_target(self).is_some()
    }
}

/// The host and port that a supported endpoint is reached at.
fn tcp_target(endpoint: &Endpoint) -> Option<(&str, u16)> {
    match endpoint {
        Endpoint::Tcp { host, port } => Some((host, *port)),
        Endpoint::Tls { .. } | Endpoint::WebSocket { .. } | Endpoint::Unix { .. } => None,
    }
}

fn fail(lost: ConnectionLost) -> ControlFlow<ConnectOutcome> {
    ControlFlow::Break(Poll::Ready(Err(lost)))
}

/// Makes a transport of a connected socket.
fn open(socket: OwnedFd) -> io::Result<Box<dyn Transport>> {
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
