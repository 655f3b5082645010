//! From an endpoint to a transport, without ever blocking: look the name up, try one address after the other, then do the
//! handshakes of the layers.

#![expect(clippy::disallowed_types, reason = "it opens the socket")]

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{SocketAddrAny, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};

use super::dialer::Dialer;
use super::resolver::Resolver;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::{BrokerAddress, Endpoint, Node};

/// How long the lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);

/// How long each address may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the layers may take for their handshakes, all together.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(15);

/// One attempt to connect to an endpoint.
#[derive(Debug)]
pub(in crate::mqtt) struct Connector {
    state: ConnectorState,
    /// `None` for a Unix socket.
    node: Option<Node>,
    /// Addresses not tried yet.
    addresses: VecDeque<SocketAddrAny>,
    /// Why the last address failed.
    lost: ConnectionLost,
}

#[derive(Debug)]
enum ConnectorState {
    /// Until the lookup times out.
    Resolving(Resolver, Instant),
    /// Until this address times out.
    Connecting(OwnedFd, Instant),
    /// The socket is connected; until the layers time out.
    Handshaking(Box<dyn Transport>, Instant),
    /// The next address is to be tried.
    NextAddress,
}

/// How an attempt stands: still under way, or over with a transport or with the reason why there is none.
pub(in crate::mqtt) type ConnectOutcome = Poll<Result<Box<dyn Transport>, ConnectionLost>>;

impl Connector {
    /// Begins an attempt; [`Connector::drive`] does the work.
    pub(super) fn start(endpoint: &Endpoint, now: Instant) -> io::Result<Self> {
        let (node, address) = match &endpoint.address {
            // An address needs no lookup, nor the thread that it takes.
            BrokerAddress::Tcp(nodes) => {
                let node = nodes.first().ok_or(io::ErrorKind::Unsupported)?;
                let address =
                    node.host.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, node.port).into());
                (Some(node.clone()), address)
            }
            BrokerAddress::Unix(path) => (None, Some(SocketAddrUnix::new(path)?.into())),
        };
        let state = match (&node, &address) {
            (Some(node), None) => {
                ConnectorState::Resolving(Resolver::start(&node.host, node.port)?, now + LOOKUP_TIMEOUT)
            }
            _ => ConnectorState::NextAddress,
        };
        let lost = ConnectionLost::at(Obstacle::Lookup, "the host name has no address");
        Ok(Self { state, node, addresses: address.into_iter().collect(), lost })
    }

    /// What to poll for.
    pub(in crate::mqtt) fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.state {
            ConnectorState::Resolving(resolver, _) => Some((resolver.as_fd(), PollFlags::IN)),
            ConnectorState::Connecting(socket, _) => Some((socket.as_fd(), PollFlags::OUT)),
            ConnectorState::Handshaking(transport, _) => Some((transport.as_fd(), transport.needs())),
            ConnectorState::NextAddress => None,
        }
    }

    /// When to stop waiting.
    pub(in crate::mqtt) fn deadline(&self) -> Option<Instant> {
        match self.state {
            ConnectorState::Resolving(_, due)
            | ConnectorState::Connecting(_, due)
            | ConnectorState::Handshaking(_, due) => Some(due),
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
            ConnectorState::Handshaking(..) => ConnectionLost::at(Obstacle::Silence, "connected, but no answer yet"),
        }
    }

    /// Goes as far as it can; `ready` says whether poll found something at the descriptor.
    pub(in crate::mqtt) fn drive(&mut self, dialer: &Dialer, now: Instant, ready: bool) -> ConnectOutcome {
        let mut ready = ready;
        loop {
            let step = match std::mem::replace(&mut self.state, ConnectorState::NextAddress) {
                ConnectorState::Resolving(resolver, due) => self.resolve(resolver, due, now),
                ConnectorState::Connecting(socket, due) => self.finish_address(dialer, socket, due, now, ready),
                ConnectorState::Handshaking(transport, due) => self.shake_hands(transport, due, now),
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
            Some(Ok(addresses)) => self.addresses = addresses.into_iter().map(Into::into).collect(),
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
        match begin(&address) {
            Ok(socket) => self.state = ConnectorState::Connecting(socket, now + CONNECT_TIMEOUT),
            Err(error) => self.lost = io::Error::from(error).into(),
        }
        ControlFlow::Continue(())
    }

    fn finish_address(
        &mut self,
        dialer: &Dialer,
        socket: OwnedFd,
        due: Instant,
        now: Instant,
        ready: bool,
    ) -> ControlFlow<ConnectOutcome> {
        if ready {
            let transport = sockopt::socket_error(&socket)
                .and_then(|result| result)
                .map_err(io::Error::from)
                .and_then(|()| open(socket, self.node.is_some()))
                .map_err(ConnectionLost::from)
                .and_then(|socket| dialer.layers().open(socket, self.node.as_ref()));
            match transport {
                Ok(transport) => self.state = ConnectorState::Handshaking(transport, now + HANDSHAKE_TIMEOUT),
                Err(lost) => self.lost = lost,
            }
        } else if now >= due {
            self.lost = ConnectionLost::at(Obstacle::Unreachable, "the connection attempt timed out");
        } else {
            self.state = ConnectorState::Connecting(socket, due);
            return ControlFlow::Break(Poll::Pending);
        }
        ControlFlow::Continue(())
    }

    fn shake_hands(
        &mut self,
        mut transport: Box<dyn Transport>,
        due: Instant,
        now: Instant,
    ) -> ControlFlow<ConnectOutcome> {
        match transport.handshake() {
            Poll::Ready(Ok(())) => return ControlFlow::Break(Poll::Ready(Ok(transport))),
            Poll::Ready(Err(lost)) => self.lost = lost,
            Poll::Pending if now >= due => {
                self.lost = ConnectionLost::at(Obstacle::Silence, "connected, but no answer");
            }
            Poll::Pending => {
                self.state = ConnectorState::Handshaking(transport, due);
                return ControlFlow::Break(Poll::Pending);
            }
        }
        ControlFlow::Continue(())
    }
}

fn fail(lost: ConnectionLost) -> ControlFlow<ConnectOutcome> {
    ControlFlow::Break(Poll::Ready(Err(lost)))
}

/// Makes a transport of a connected socket.
fn open(socket: OwnedFd, is_tcp: bool) -> io::Result<Box<dyn Transport>> {
    if !is_tcp {
        return Ok(Box::new(UnixStream::from(socket)));
    }
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(Box::new(stream))
}

/// Starts to connect; the socket becomes writable when that is decided, at once or later.
fn begin(address: &SocketAddrAny) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(address.address_family(), SocketType::STREAM, flags, None)?;
    match connect(&socket, address) {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(error) => Err(error),
    }
}
