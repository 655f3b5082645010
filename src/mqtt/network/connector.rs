//! One attempt to connect, without ever blocking: the nodes in turn; for each, look its name up, connect to one of its
//! addresses (`race.rs`), and do the handshakes of the layers.
//!
//! It ends with the first transport that is ready for MQTT, or with what failed at each node.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::ops::ControlFlow;
use std::os::fd::{AsFd, OwnedFd};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::dialer::Dialer;
use super::failures::Failures;
use super::race::{Attempt, Race};
use super::remote::Remote;
use super::resolver::Resolver;
use super::sockets;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::BrokerAddress;
use crate::sandbox;

/// How long each step may take.
#[derive(Debug)]
struct StepTimeouts {
    /// The lookup of the host name.
    lookup: Duration,
    /// The connection to each address.
    connect: Duration,
    /// The handshakes of the layers, all together.
    handshake: Duration,
}

/// Where nothing else is left to try.
const LAST_TIMEOUTS: StepTimeouts = StepTimeouts {
    lookup: Duration::from_secs(15),
    connect: Duration::from_secs(15),
    handshake: Duration::from_secs(15),
};

/// Where something is. A resolver asks its second server after 5 seconds.
const SHORT_TIMEOUTS: StepTimeouts = StepTimeouts {
    lookup: Duration::from_secs(10),
    connect: Duration::from_secs(5),
    handshake: Duration::from_secs(10),
};

/// One attempt to connect to an endpoint.
#[derive(Debug)]
pub(in crate::mqtt) struct Connector {
    state: ConnectorState,
    /// The node that is tried, as messages name it.
    node: Remote,
    /// Those to try after it, by their index.
    nodes: VecDeque<usize>,
    failures: Failures,
}

#[derive(Debug)]
enum ConnectorState {
    /// The next node is to be tried.
    NextNode,
    /// Until the lookup times out.
    Resolving(Resolver, Instant),
    Racing(Race<OwnedFd>),
    Handshaking(Candidate),
}

/// A connected socket with its layers.
#[derive(Debug)]
struct Candidate {
    transport: Box<dyn Transport>,
    /// `None` for a Unix socket.
    address: Option<SocketAddr>,
    /// What is left if it fails.
    rest: Race<OwnedFd>,
    /// Until the layers time out.
    due: Instant,
}

/// How an attempt stands: still under way, or over with a transport or with the reason why there is none.
pub(in crate::mqtt) type ConnectOutcome = Poll<Result<(Box<dyn Transport>, Remote), ConnectionLost>>;

/// Whether a state leads to another at once.
type Transition = ControlFlow<ConnectOutcome>;

impl Connector {
    /// An attempt at the nodes of a dialer, in its order; [`Connector::drive`] does the work.
    pub(in crate::mqtt) fn new(dialer: &Dialer) -> Self {
        Self {
            state: ConnectorState::NextNode,
            node: Remote::default(),
            nodes: dialer.nodes().iter().copied().collect(),
            failures: Failures::default(),
        }
    }

    /// Adds what to poll for.
    pub(in crate::mqtt) fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        match &self.state {
            ConnectorState::NextNode => {}
            ConnectorState::Resolving(resolver, _) => fds.push(PollFd::new(resolver, PollFlags::IN)),
            ConnectorState::Racing(race) => {
                fds.extend(race.running().iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)));
            }
            ConnectorState::Handshaking(candidate) => {
                fds.push(PollFd::from_borrowed_fd(candidate.transport.as_fd(), candidate.transport.needs()));
            }
        }
    }

    /// When to stop waiting.
    pub(in crate::mqtt) fn deadline(&self) -> Option<Instant> {
        match &self.state {
            ConnectorState::NextNode => None,
            ConnectorState::Resolving(_, due) => Some(*due),
            ConnectorState::Racing(race) => race.deadline(),
            ConnectorState::Handshaking(candidate) => Some(candidate.due),
        }
    }

    /// What has not happened yet, as the reason of a caller that waits no longer.
    pub(in crate::mqtt) fn pending(&self) -> ConnectionLost {
        let lost = match self.state {
            ConnectorState::Resolving(..) => {
                ConnectionLost::at(Obstacle::Lookup, "no answer yet to the lookup of the host name")
            }
            ConnectorState::Racing(_) | ConnectorState::NextNode => {
                ConnectionLost::at(Obstacle::Unreachable, "no answer yet to the connection attempt")
            }
            ConnectorState::Handshaking(_) => ConnectionLost::at(Obstacle::Silence, "connected, but no answer yet"),
        };
        lost.at_place(&self.node, self.node.index)
    }

    /// Goes as far as it can without waiting.
    pub(in crate::mqtt) fn drive(&mut self, dialer: &Dialer, now: Instant) -> ConnectOutcome {
        loop {
            let step = match std::mem::replace(&mut self.state, ConnectorState::NextNode) {
                ConnectorState::NextNode => self.begin_node(dialer, now),
                ConnectorState::Resolving(resolver, due) => self.resolve(dialer, resolver, due, now),
                ConnectorState::Racing(race) => self.race(dialer, race, now),
                ConnectorState::Handshaking(candidate) => self.shake_hands(dialer, candidate, now),
            };
            if let ControlFlow::Break(outcome) = step {
                return outcome;
            }
        }
    }

    fn begin_node(&mut self, dialer: &Dialer, now: Instant) -> Transition {
        let Some(index) = self.nodes.pop_front() else {
            let none = || ConnectionLost::at(Obstacle::Lookup, "the configuration names no broker");
            return ControlFlow::Break(Poll::Ready(Err(self.failures.summary().unwrap_or_else(none))));
        };
        self.node = Remote { shown: dialer.shown(index), index, has_several: false, destination: None };
        if let BrokerAddress::Unix(path) = &dialer.endpoint().address {
            let rest = Race::new(Vec::new(), &[], self.node_timeouts().connect);
            return self.connected(dialer, sockets::unix(path), None, rest, now);
        }
        let (host, port) = dialer.target(index);
        // An address needs no lookup, nor the thread that it takes.
        if let Ok(address) = host.parse::<IpAddr>() {
            self.begin_race(dialer, vec![SocketAddr::new(address, port)]);
            return ControlFlow::Continue(());
        }
        match Resolver::start(dialer.lookup(), host, port) {
            Ok(resolver) => self.state = ConnectorState::Resolving(resolver, now + self.node_timeouts().lookup),
            Err(error) => self.failed(None, dialer.unreachable(error.into())),
        }
        ControlFlow::Continue(())
    }

    fn resolve(&mut self, dialer: &Dialer, resolver: Resolver, due: Instant, now: Instant) -> Transition {
        let why = match resolver.answer() {
            Some(Ok(addresses)) if addresses.is_empty() => "the host name has no address".to_owned(),
            Some(Ok(addresses)) => {
                self.begin_race(dialer, addresses);
                return ControlFlow::Continue(());
            }
            Some(Err(error)) => error.to_string(),
            None if now >= due => "the lookup of the host name timed out".to_owned(),
            None => {
                self.state = ConnectorState::Resolving(resolver, due);
                return ControlFlow::Break(Poll::Pending);
            }
        };
        let lost = ConnectionLost::at(Obstacle::Lookup, why).hint_if(sandbox::hint_of_hidden_file());
        self.failed(None, dialer.unreachable(lost));
        ControlFlow::Continue(())
    }

    fn begin_race(&mut self, dialer: &Dialer, addresses: Vec<SocketAddr>) {
        self.node.has_several = addresses.len() > 1;
        let race = Race::new(addresses, dialer.failed_addresses(), self.node_timeouts().connect);
        self.state = ConnectorState::Racing(race);
    }

    /// How long the steps with this node as a whole may take.
    fn node_timeouts(&self) -> &'static StepTimeouts {
        if self.nodes.is_empty() { &LAST_TIMEOUTS } else { &SHORT_TIMEOUTS }
    }

    fn race(&mut self, dialer: &Dialer, mut race: Race<OwnedFd>, now: Instant) -> Transition {
        while let Some(address) = race.next_address(now) {
            match sockets::begin_tcp(address, dialer.endpoint().bind_address) {
                Ok(socket) => race.started(address, socket, now),
                Err(lost) => self.failed(Some(address), dialer.unreachable(lost)),
            }
        }
        while let Some(index) = sockets::first_decided(race.running().iter().map(|attempt| &attempt.socket)) {
            if let Err(error) = sockets::outcome(&race.running()[index].socket) {
                let address = race.remove(index).address;
                self.failed(Some(address), dialer.unreachable(error.into()));
                continue;
            }
            let Attempt { socket, address, .. } = race.win(index);
            let socket = sockets::tcp(socket).map_err(ConnectionLost::from);
            return self.connected(dialer, socket, Some(address), race, now);
        }
        while let Some(attempt) = race.remove_overdue(now) {
            let lost = ConnectionLost::at(Obstacle::Unreachable, "the connection attempt timed out");
            self.failed(Some(attempt.address), dialer.unreachable(lost));
        }
        self.go_on(race, now)
    }

    /// Goes on with what is left of a race.
    fn go_on(&mut self, race: Race<OwnedFd>, now: Instant) -> Transition {
        if race.is_over() {
            return ControlFlow::Continue(());
        }
        let is_due = race.is_due(now);
        self.state = ConnectorState::Racing(race);
        if is_due { ControlFlow::Continue(()) } else { ControlFlow::Break(Poll::Pending) }
    }

    /// A socket is connected: puts the layers on it.
    fn connected(
        &mut self,
        dialer: &Dialer,
        socket: Result<Box<dyn Transport>, ConnectionLost>,
        address: Option<SocketAddr>,
        rest: Race<OwnedFd>,
        now: Instant,
    ) -> Transition {
        match socket.and_then(|socket| dialer.layers().open(socket, dialer.node(self.node.index))) {
            Ok(transport) => {
                let timeouts = if rest.is_over() { self.node_timeouts() } else { &SHORT_TIMEOUTS };
                let candidate = Candidate { transport, address, rest, due: now + timeouts.handshake };
                self.state = ConnectorState::Handshaking(candidate);
                ControlFlow::Continue(())
            }
            Err(lost) => {
                self.failed(address, lost);
                self.go_on(rest, now)
            }
        }
    }

    fn shake_hands(&mut self, dialer: &Dialer, mut candidate: Candidate, now: Instant) -> Transition {
        let lost = match candidate.transport.handshake() {
            Poll::Ready(Ok(())) => {
                let has_others = candidate.rest.waiting().any(|address| !dialer.failed_addresses().contains(address));
                let remote = self.node.at(candidate.address, has_others);
                return ControlFlow::Break(Poll::Ready(Ok((candidate.transport, remote))));
            }
            Poll::Ready(Err(lost)) => lost,
            Poll::Pending if now >= candidate.due => ConnectionLost::at(Obstacle::Silence, "connected, but no answer"),
            Poll::Pending => {
                self.state = ConnectorState::Handshaking(candidate);
                return ControlFlow::Break(Poll::Pending);
            }
        };
        self.failed(candidate.address, lost);
        self.go_on(candidate.rest, now)
    }

    fn failed(&mut self, address: Option<SocketAddr>, lost: ConnectionLost) {
        self.failures.push((&self.node.shown, self.node.index), address.filter(|_| self.node.has_several), lost);
    }
}
