//! The client: a session and what connects it to the broker, driven from the tool's own poll(2) loop.
//!
//! Nothing here blocks, and no failure of the network ends the run: it becomes an [`Event::Down`] and another attempt.

#![expect(clippy::disallowed_methods, reason = "the jitter of the next attempt is drawn here")]

mod lost_connection;

use std::hint::black_box;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::{PollFd, PollFlags};

use super::connection_lost::{ConnectionLost, Obstacle};
use super::failure_streak::FailureStreak;
use super::network::{ConnectOutcome, Connection, Connector, Dialer};
use super::{ClientOptions, ClientSession, Endpoint, Event, Outage, Qos, Receipt, Token, Unacknowledged, Will};
use crate::{Error, Result};

/// How long the broker may take to close its side after DISCONNECT.
const BROKER_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a broker may take to answer CONNECT where another node or address can be tried.
const CONNACK_TIMEOUT: Duration = Duration::from_secs(10);

/// Freed memory up to twice this many bytes is used again instead of given back to the system: more than what may be in flight.
const KEPT_MEMORY: usize = 2 << 20;

/// Has the allocator keep the memory of messages that were sent or written. glibc gives back what is free at the end of the
/// heap from 128 KiB on, and each page of it comes back by a fault and full of zeros: a tenth of the time of a long input. That
/// limit follows the largest block that was ever freed (mallopt(3), `M_MMAP_THRESHOLD`). The block here is never touched, so
/// it takes no memory.
fn keep_freed_memory() {
    drop(black_box(Vec::<u8>::with_capacity(KEPT_MEMORY)));
}

/// A client session, and whatever connects it to the broker at the moment.
///
/// The loop of a tool: [`connect`](Self::connect) once, then poll [`interest`](Self::interest) until
/// [`deadline`](Self::deadline), [`drive`](Self::drive), take each [`next_event`](Self::next_event), publish and
/// acknowledge, drive again.
#[derive(Debug)]
pub struct Client {
    dialer: Dialer,
    session: ClientSession,
    phase: ConnectionPhase,
    /// The broker accepted a connection of this run: what fails now may be mended while we try again.
    was_accepted: bool,
    /// `None` where no failure that may pass ends the run.
    failures: Option<FailureStreak>,
    /// Why a node refused the connection, while others are tried.
    refused: Option<Error>,
}

#[derive(Debug)]
enum ConnectionPhase {
    /// Before [`Client::connect`].
    Idle,
    /// The next attempt begins then.
    Waiting(Instant),
    Connecting(Connector),
    Open(Connection, Acceptance),
    /// DISCONNECT went out. Until then the broker may close its side: closing ours earlier could cost bytes on their
    /// way.
    Closing(Connection, Instant),
    Closed,
}

/// Whether the broker has accepted the connection.
#[derive(Clone, Copy, Debug)]
enum Acceptance {
    /// It has until then, where there is something else to try; otherwise as long as the session waits.
    Awaited(Option<Instant>),
    Since(Instant),
}

impl Client {
    /// A client that does nothing until [`connect`](Self::connect).
    ///
    /// # Errors
    /// Those of [`ClientSession::new`]; [`crate::Exit::Config`] for an endpoint that this build has no layer for, or
    /// whose files cannot be used.
    pub fn new(endpoint: Endpoint, options: ClientOptions) -> Result<Self> {
        keep_freed_memory();
        let dialer = Dialer::new(endpoint, rand::random::<u16>().into())?;
        Ok(Self {
            dialer,
            session: ClientSession::new(options)?,
            phase: ConnectionPhase::Idle,
            was_accepted: false,
            failures: Some(FailureStreak::default()),
            refused: None,
        })
    }

    /// From here on no failure that may pass ends the run, however often it comes: what the run has is kept on disk.
    pub(crate) fn outlast_failures(&mut self) {
        self.failures = None;
    }

    /// Where the broker is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.dialer.endpoint()
    }

    /// What it is connected to, as messages name it: a node, and its address where it has several.
    pub(crate) fn remote(&self) -> String {
        match &self.phase {
            ConnectionPhase::Open(connection, _) => connection.remote().to_string(),
            _ => self.endpoint().to_string(),
        }
    }

    /// Has the next [`drive`](Self::drive) begin to connect; does nothing if it was called before.
    pub fn connect(&mut self, now: Instant) {
        if matches!(self.phase, ConnectionPhase::Idle) {
            self.phase = ConnectionPhase::Waiting(now);
        }
    }

    /// Adds the descriptors to poll, and what for; they change from one turn of the loop to the next.
    pub fn interest<'a>(&'a self, fds: &mut Vec<PollFd<'a>>) {
        match &self.phase {
            ConnectionPhase::Idle | ConnectionPhase::Waiting(_) | ConnectionPhase::Closed => {}
            ConnectionPhase::Connecting(connector) => connector.interest(fds),
            ConnectionPhase::Open(connection, _) => connection.interest(&self.session, fds),
            ConnectionPhase::Closing(connection, _) => connection.closing_interest(fds),
        }
    }

    /// When to drive, if poll finds nothing before. [`drive`](Self::drive) handles every deadline that has passed, so
    /// that a caller need not ask which one it was. (A call that finds the broker gone while reading is paused does
    /// nothing else, and leaves them to the next call.)
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            ConnectionPhase::Idle | ConnectionPhase::Closed => None,
            ConnectionPhase::Waiting(until) | ConnectionPhase::Closing(_, until) => Some(*until),
            ConnectionPhase::Connecting(connector) => connector.deadline(),
            ConnectionPhase::Open(_, Acceptance::Awaited(until)) => {
                let until = until.filter(|_| !self.session.is_paused());
                until.into_iter().chain(self.session.deadline()).min()
            }
            ConnectionPhase::Open(_, Acceptance::Since(_)) => self.session.deadline(),
        }
    }

    /// Connects, writes, reads and keeps time, as far as that goes without waiting.
    ///
    /// `ready` is what poll returned for what [`interest`](Self::interest) added, all of it together; empty if nothing.
    pub fn drive(&mut self, now: Instant, ready: PollFlags) {
        match &mut self.phase {
            ConnectionPhase::Waiting(until) if now >= *until => self.start_attempt(now),
            ConnectionPhase::Connecting(connector) => {
                let outcome = connector.drive(&self.dialer, now);
                self.attempted(outcome, now);
            }
            ConnectionPhase::Open(..) => self.exchange(now, ready),
            ConnectionPhase::Closing(connection, until) => {
                if now >= *until || ((!ready.is_empty() || connection.has_rest()) && connection.is_at_end()) {
                    self.closed(now);
                }
            }
            ConnectionPhase::Idle | ConnectionPhase::Waiting(_) | ConnectionPhase::Closed => {}
        }
    }

    /// What happened since, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.session.next_event()
    }

    /// Whether [`next_event`](Self::next_event) has something: to be asked before poll(2), which does not report it.
    pub(crate) fn has_event(&self) -> bool {
        self.session.has_event()
    }

    /// Whether [`drive`](Self::drive) has something to read that poll(2) does not see: to be asked before that, too.
    #[must_use]
    pub fn has_unread(&self) -> bool {
        match &self.phase {
            ConnectionPhase::Open(connection, _) => connection.has_unread(&self.session),
            ConnectionPhase::Closing(connection, _) => connection.has_rest(),
            _ => false,
        }
    }

    /// As [`ClientSession::publish`]; the bytes leave at the next [`drive`](Self::drive).
    ///
    /// # Errors
    /// Those of [`ClientSession::publish`].
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<Token> {
        self.session.publish(topic, payload, qos, retain)
    }

    /// As [`ClientSession::uncarried`].
    pub(crate) fn uncarried(&self) -> Vec<Bytes> {
        self.session.uncarried()
    }

    /// As [`ClientSession::withdraw`].
    pub fn withdraw(&mut self) -> Vec<(Token, Bytes)> {
        self.session.withdraw()
    }

    /// As [`ClientSession::exempt_from_order`].
    pub(crate) fn exempt_from_order(&mut self, token: Token) {
        self.session.exempt_from_order(token);
    }

    /// As [`ClientSession::give_up_answers`].
    pub(crate) fn give_up_answers(&mut self) {
        self.session.give_up_answers();
    }

    /// As [`ClientSession::overtaken`].
    pub(crate) fn overtaken(&self) -> Option<Token> {
        self.session.overtaken()
    }

    /// As [`ClientSession::withdraw_overtaken`].
    pub(crate) fn withdraw_overtaken(&mut self) -> Vec<Token> {
        self.session.withdraw_overtaken()
    }

    /// As [`ClientSession::has_room`].
    #[must_use]
    pub fn has_room(&self, size: usize) -> bool {
        self.session.has_room(size)
    }

    /// As [`ClientSession::max_payload`].
    pub(crate) fn max_payload(&self, topic: &str) -> usize {
        self.session.max_payload(topic)
    }

    /// As [`ClientSession::knows_broker_limits`].
    pub(crate) fn knows_broker_limits(&self) -> bool {
        self.session.knows_broker_limits()
    }

    /// As [`ClientSession::unacknowledged`].
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        self.session.unacknowledged()
    }

    /// Subscribes to `filter`, now and on each later connection for which the broker has no session.
    ///
    /// # Errors
    /// [`Exit::Config`](crate::Exit::Config) for a filter that MQTT does not allow, or the 256th one.
    pub fn subscribe(&mut self, filter: &str, qos: Qos, now: Instant) -> Result<()> {
        self.session.subscribe(filter, qos, now)
    }

    /// As [`ClientSession::set_will`].
    ///
    /// # Errors
    /// Those of [`ClientSession::set_will`].
    pub fn set_will(&mut self, will: Option<Will>) -> Result<()> {
        self.session.set_will(will)
    }

    /// As [`ClientSession::ack`]; the bytes leave at the next [`drive`](Self::drive).
    pub fn ack(&mut self, receipt: Receipt) {
        self.session.ack(receipt);
    }

    /// As [`ClientSession::keeps`].
    pub(crate) fn keeps(&self, qos: Qos) -> bool {
        self.session.keeps(qos)
    }

    /// Pauses reading from the broker, or resumes it, so that a full stdout slows the broker down.
    pub fn pause_reading(&mut self, paused: bool, now: Instant) {
        self.session.pause_reading(paused, now);
        if let ConnectionPhase::Open(connection, acceptance) = &mut self.phase
            && !paused
        {
            connection.resume_reading();
            // While reading is paused, no answer can be late.
            if let Acceptance::Awaited(Some(until)) = acceptance {
                *until = now + CONNACK_TIMEOUT;
            }
        }
    }

    /// Sends what is queued and DISCONNECT, then closes; [`Event::Closed`] follows, at once if there is no connection.
    ///
    /// It does not wait for acknowledgements: that is for the caller, by [`unacknowledged`](Self::unacknowledged).
    pub fn disconnect(&mut self) {
        self.session.disconnect();
        if matches!(self.phase, ConnectionPhase::Idle | ConnectionPhase::Waiting(_) | ConnectionPhase::Connecting(_)) {
            self.close();
        }
    }

    /// Sends what is queued and DISCONNECT, then connects anew, with the will that is set now; [`Event::Renewed`] says
    /// when the old connection has ended. Does nothing without a connection: the next one has that will in any case.
    pub fn renew(&mut self) {
        self.session.renew();
    }

    /// Whether the connection was closed after [`disconnect`](Self::disconnect): nothing will happen any more.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, ConnectionPhase::Closed)
    }

    /// What the attempt that is under way waits for, as the reason of a run that waits no longer.
    pub(crate) fn pending_attempt(&self) -> Outage {
        let lost = match &self.phase {
            ConnectionPhase::Connecting(connector) => connector.pending(),
            ConnectionPhase::Open(connection, _) if !self.session.is_accepted() => {
                let lost = ConnectionLost::at(Obstacle::Silence, "connected, but no answer yet to CONNECT");
                lost.at_place(connection.remote(), connection.remote().index)
            }
            _ => ConnectionLost::new("no answer yet"),
        };
        Outage::before_connack(self.dialer.endpoint(), &lost)
    }

    fn start_attempt(&mut self, now: Instant) {
        let mut connector = Connector::new(&self.dialer);
        let outcome = connector.drive(&self.dialer, now);
        self.phase = ConnectionPhase::Connecting(connector);
        self.attempted(outcome, now);
    }

    fn attempted(&mut self, outcome: ConnectOutcome, now: Instant) {
        match outcome {
            Poll::Pending => {}
            Poll::Ready(Err(lost)) => self.lost(lost, now),
            Poll::Ready(Ok((transport, remote))) => {
                let until = self.dialer.has_alternative(&remote).then(|| now + CONNACK_TIMEOUT);
                let connection = Connection::new(transport, remote);
                self.phase = ConnectionPhase::Open(connection, Acceptance::Awaited(until));
                self.session.transport_opened(now);
                self.exchange(now, PollFlags::empty());
            }
        }
    }

    /// One turn of an open connection.
    fn exchange(&mut self, now: Instant, ready: PollFlags) {
        let ConnectionPhase::Open(connection, acceptance) = &mut self.phase else { return };
        if connection.polled(ready, self.session.is_paused()) {
            return;
        }
        let driven = connection.drive(&mut self.session, ready, now);
        if let Acceptance::Awaited(until) = *acceptance {
            if self.session.is_accepted() {
                *acceptance = Acceptance::Since(now);
                self.dialer.accepted(connection.remote());
            } else if driven.is_ok() && until.is_some_and(|until| now >= until) && !self.session.is_paused() {
                return self.lost(ConnectionLost::at(Obstacle::Silence, "no CONNACK from the broker"), now);
            }
        }
        if let Err(lost) = driven {
            self.lost(lost, now);
        } else if self.session.is_disconnect_sent() {
            self.start_closing(now);
        }
    }

    fn start_closing(&mut self, now: Instant) {
        if let ConnectionPhase::Open(mut connection, _) = std::mem::replace(&mut self.phase, ConnectionPhase::Closed)
            && connection.shutdown_write().is_ok()
        {
            self.phase = ConnectionPhase::Closing(connection, now + BROKER_CLOSE_TIMEOUT);
        } else {
            self.closed(now);
        }
    }

    /// The connection is closed after DISCONNECT.
    fn closed(&mut self, now: Instant) {
        if self.session.transport_renewed() {
            self.phase = ConnectionPhase::Waiting(now);
        } else {
            self.close();
        }
    }

    fn close(&mut self) {
        self.phase = ConnectionPhase::Closed;
        self.session.transport_closed();
    }
}

#[cfg(test)]
mod tests;
