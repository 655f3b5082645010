//! The client: a session and what connects it to the broker, driven from the tool's own poll(2) loop.
//!
//! Nothing here blocks, and no failure of the network ends the run: it becomes an [`Event::Down`] and another attempt.

#![expect(clippy::disallowed_methods, reason = "the jitter of the next attempt is drawn here")]

use std::os::fd::BorrowedFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::PollFlags;

use super::connection_lost::{ConnectionLost, Obstacle};
use super::network::{ConnectOutcome, Connection, Connector, Dialer};
use super::{ClientOptions, ClientSession, Endpoint, Event, Outage, Qos, Receipt, Token, Unacknowledged};
use crate::Result;

/// How long the broker may take to close its side after DISCONNECT.
const BROKER_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

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
}

#[derive(Debug)]
enum ConnectionPhase {
    /// Before [`Client::connect`].
    Idle,
    /// The next attempt begins then.
    Waiting(Instant),
    Connecting(Connector),
    Open(Connection),
    /// DISCONNECT went out. Until then the broker may close its side: closing ours earlier could cost bytes on their
    /// way.
    Closing(Connection, Instant),
    Closed,
}

impl Client {
    /// A client that does nothing until [`connect`](Self::connect).
    ///
    /// # Errors
    /// Those of [`ClientSession::new`]; [`crate::Exit::Config`] for an endpoint that this build has no layer for, or whose files
    /// cannot be used.
    pub fn new(endpoint: Endpoint, options: ClientOptions) -> Result<Self> {
        let dialer = Dialer::new(endpoint)?;
        Ok(Self { dialer, session: ClientSession::new(options)?, phase: ConnectionPhase::Idle, was_accepted: false })
    }

    /// Where the broker is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        self.dialer.endpoint()
    }

    /// Has the next [`drive`](Self::drive) begin to connect; does nothing if it was called before.
    pub fn connect(&mut self, now: Instant) {
        if matches!(self.phase, ConnectionPhase::Idle) {
            self.phase = ConnectionPhase::Waiting(now);
        }
    }

    /// The descriptor to poll, and what for; it changes from one turn of the loop to the next.
    #[must_use]
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.phase {
            ConnectionPhase::Idle | ConnectionPhase::Waiting(_) | ConnectionPhase::Closed => None,
            ConnectionPhase::Connecting(connector) => connector.interest(),
            ConnectionPhase::Open(connection) => connection.interest(&self.session),
            ConnectionPhase::Closing(connection, _) => Some(connection.closing_interest()),
        }
    }

    /// When to drive, if poll finds nothing before. [`drive`](Self::drive) handles every deadline that has passed, so that a
    /// caller need not ask which one it was. (A call that finds the broker gone while reading is paused does nothing else,
    /// and leaves them to the next call.)
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            ConnectionPhase::Idle | ConnectionPhase::Closed => None,
            ConnectionPhase::Waiting(until) | ConnectionPhase::Closing(_, until) => Some(*until),
            ConnectionPhase::Connecting(connector) => connector.deadline(),
            ConnectionPhase::Open(_) => self.session.deadline(),
        }
    }

    /// Connects, writes, reads and keeps time, as far as that goes without waiting.
    ///
    /// `ready` is what poll returned for [`interest`](Self::interest), empty if nothing.
    pub fn drive(&mut self, now: Instant, ready: PollFlags) {
        match &mut self.phase {
            ConnectionPhase::Waiting(until) if now >= *until => self.start_attempt(now),
            ConnectionPhase::Connecting(connector) => {
                let outcome = connector.drive(&self.dialer, now, !ready.is_empty());
                self.attempted(outcome, now);
            }
            ConnectionPhase::Open(_) => self.exchange(now, ready),
            ConnectionPhase::Closing(connection, until) => {
                if now >= *until || (!ready.is_empty() && connection.is_at_end()) {
                    self.close();
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
        matches!(&self.phase, ConnectionPhase::Open(connection) if connection.has_unread(&self.session))
    }

    /// As [`ClientSession::publish`]; the bytes leave at the next [`drive`](Self::drive).
    ///
    /// # Errors
    /// Those of [`ClientSession::publish`].
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<Token> {
        self.session.publish(topic, payload, qos, retain)
    }

    /// As [`ClientSession::has_room`].
    #[must_use]
    pub fn has_room(&self, size: usize) -> bool {
        self.session.has_room(size)
    }

    /// As [`ClientSession::unacknowledged`].
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        self.session.unacknowledged()
    }

    /// Subscribes to `filter`, now and on each later connection for which the broker has no session.
    ///
    /// # Errors
    /// [`Exit::Config`] for a filter that MQTT does not allow, or the 256th one.
    pub fn subscribe(&mut self, filter: &str, qos: Qos, now: Instant) -> Result<()> {
        self.session.subscribe(filter, qos, now)
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
        if let ConnectionPhase::Open(connection) = &mut self.phase
            && !paused
        {
            connection.resume_reading();
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

    /// Whether the connection was closed after [`disconnect`](Self::disconnect): nothing will happen any more.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.phase, ConnectionPhase::Closed)
    }

    /// What the attempt that is under way waits for, as the reason of a run that waits no longer.
    pub(crate) fn pending_attempt(&self) -> Outage {
        let lost = match &self.phase {
            ConnectionPhase::Connecting(connector) => connector.pending(),
            ConnectionPhase::Open(_) if !self.session.is_accepted() => {
                ConnectionLost::at(Obstacle::Silence, "connected, but no answer yet to CONNECT")
            }
            _ => ConnectionLost::new("no answer yet"),
        };
        Outage::before_connack(self.dialer.endpoint(), &lost)
    }

    fn start_attempt(&mut self, now: Instant) {
        match self.dialer.start(now) {
            Ok(mut connector) => {
                let outcome = connector.drive(&self.dialer, now, false);
                self.phase = ConnectionPhase::Connecting(connector);
                self.attempted(outcome, now);
            }
            Err(error) => self.lost(&error.into(), now),
        }
    }

    fn attempted(&mut self, outcome: ConnectOutcome, now: Instant) {
        match outcome {
            Poll::Pending => {}
            Poll::Ready(Err(lost)) => self.lost(&lost, now),
            Poll::Ready(Ok(transport)) => {
                self.phase = ConnectionPhase::Open(Connection::new(transport));
                self.session.transport_opened(now);
                self.exchange(now, PollFlags::empty());
            }
        }
    }

    /// One turn of an open connection.
    fn exchange(&mut self, now: Instant, ready: PollFlags) {
        let ConnectionPhase::Open(connection) = &mut self.phase else { return };
        if connection.polled(ready, self.session.is_paused()) {
            return;
        }
        if let Err(lost) = connection.drive(&mut self.session, ready, now) {
            self.lost(&lost, now);
        } else if self.session.is_disconnect_sent() {
            self.start_closing(now);
        }
    }

    fn start_closing(&mut self, now: Instant) {
        if let ConnectionPhase::Open(mut connection) = std::mem::replace(&mut self.phase, ConnectionPhase::Closed)
            && connection.shutdown_write().is_ok()
        {
            self.phase = ConnectionPhase::Closing(connection, now + BROKER_CLOSE_TIMEOUT);
        } else {
            self.close();
        }
    }

    /// The connection was lost, or the attempt failed.
    fn lost(&mut self, lost: &ConnectionLost, now: Instant) {
        self.was_accepted |= self.session.is_accepted();
        if !self.session.is_disconnect_sent() {
            let outage = if self.session.is_accepted() {
                Outage::after_connack(self.dialer.endpoint(), lost)
            } else {
                Outage::before_connack(self.dialer.endpoint(), lost)
            };
            if lost.is_final() && !self.was_accepted {
                self.session.transport_refused(outage.clone().into_error());
            }
            self.phase = ConnectionPhase::Waiting(self.session.transport_lost(outage, now, &mut rand::rng()));
        }
        // After `disconnect` there is no next attempt.
        if self.session.is_disconnect_sent() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.phase = ConnectionPhase::Closed;
        self.session.transport_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn idle() -> Client {
        Client::new(Endpoint::tcp("127.0.0.1", 1), ClientOptions::new("idle")).unwrap()
    }

    #[test]
    fn a_client_does_nothing_until_it_is_told_to_connect() {
        let mut client = idle();
        let now = Instant::now();
        client.subscribe("t", Qos::AtLeastOnce, now).unwrap();
        client.publish("t", Bytes::new(), Qos::AtLeastOnce, false).unwrap();
        client.drive(now + Duration::from_secs(60), PollFlags::empty());
        assert!(client.interest().is_none() && client.deadline().is_none());
        assert!(client.next_event().is_none() && !client.is_closed());
        client.connect(now);
        assert_eq!(client.deadline(), Some(now));
        client.drive(now, PollFlags::empty());
        // Refused at once, or still on its way: it is under way in any case.
        assert!(client.interest().is_some() || matches!(client.next_event(), Some(Event::Down { .. })));
    }

    #[test]
    fn an_idle_client_disconnects_at_once() {
        let mut client = idle();
        client.disconnect();
        assert!(matches!(client.next_event(), Some(Event::Closed)) && client.is_closed());
        client.connect(Instant::now());
        assert!(client.is_closed());
    }
}
