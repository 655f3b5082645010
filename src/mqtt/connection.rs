//! The client: a session and the stream under it, driven from the tool's own poll(2) loop.
//!
//! The only place that opens a socket. Nothing here blocks, and no failure of the network ends the run: it becomes an
//! [`Event::Down`] and another attempt.

#![expect(clippy::disallowed_methods, reason = "the jitter of the next attempt is drawn here")]

use std::io::ErrorKind::{Interrupted, WouldBlock, WriteZero};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::event::PollFlags;

use super::dial::{Dialer, Progress};
use super::inbox::Inbox;
use super::stream::Stream;
use super::{ClientSession, Endpoint, Event, Options, Qos, Receipt, Token, Unacknowledged};
use crate::{Error, Exit, Result};

/// How long the broker may take to close its side after DISCONNECT.
const FAREWELL: Duration = Duration::from_secs(2);

/// From so many bytes in one read on, more comes by itself: the system acknowledges often enough.
const BULK: usize = 16 << 10;

/// Reads of what the broker sent before the connection broke: acknowledgements that count.
const LAST_READS: usize = 64;

/// A session, and whatever connects it to the broker at the moment.
///
/// The loop of a tool: poll [`interest`](Self::interest) until [`deadline`](Self::deadline), [`drive`](Self::drive),
/// take each [`next_event`](Self::next_event), publish and acknowledge, drive again.
#[derive(Debug)]
pub struct Client {
    endpoint: Endpoint,
    session: ClientSession,
    phase: Phase,
    inbox: Inbox,
    /// Bytes of the session's outgoing ones that the stream accepted, but that the socket has not all taken.
    accepted: usize,
    /// The socket takes nothing until poll says so.
    blocked: bool,
    paused: bool,
    /// The peer hung up while nobody read: poll would say so for ever.
    hung_up: bool,
}

#[derive(Debug)]
enum Phase {
    /// It was not asked to connect yet.
    Idle,
    /// The next attempt begins then.
    Waiting(Instant),
    Dialing(Dialer),
    Open(Box<dyn Stream>),
    /// We said that we are done, until then waiting for the broker to say so, too: closing earlier could cost bytes on
    /// their way.
    Closing(Box<dyn Stream>, Instant),
    Closed,
}

impl Client {
    /// A client that does nothing before [`Client::connect`].
    ///
    /// # Errors
    /// Those of [`ClientSession::new`]; [`Exit::Config`] for an endpoint that is not TCP, which this version cannot reach.
    pub fn new(endpoint: Endpoint, options: Options) -> Result<Self> {
        if !matches!(endpoint, Endpoint::Tcp { .. }) {
            return Err(Error::new(Exit::Config, format!("{}://", endpoint.scheme())).because("not in this version"));
        }
        Ok(Self {
            endpoint,
            session: ClientSession::new(options)?,
            phase: Phase::Idle,
            inbox: Inbox::default(),
            accepted: 0,
            blocked: false,
            paused: false,
            hung_up: false,
        })
    }

    /// Where the broker is.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Begins to connect; until then nothing is done, and only the first call counts.
    pub fn connect(&mut self, now: Instant) {
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Waiting(now);
        }
    }

    /// The descriptor to poll, and what for; it changes from one turn of the loop to the next.
    #[must_use]
    pub fn interest(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        match &self.phase {
            Phase::Idle | Phase::Waiting(_) | Phase::Closed => None,
            Phase::Dialing(dialer) => dialer.interest(),
            Phase::Open(stream) => {
                let mut flags = if self.paused { PollFlags::empty() } else { PollFlags::IN };
                flags.set(PollFlags::OUT, self.blocked || self.session.outgoing().len() > self.accepted);
                (!self.hung_up).then(|| (stream.as_fd(), flags))
            }
            Phase::Closing(stream, _) => Some((stream.as_fd(), PollFlags::IN)),
        }
    }

    /// When to drive, if poll finds nothing before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Waiting(until) | Phase::Closing(_, until) => Some(*until),
            Phase::Dialing(dialer) => dialer.deadline(),
            Phase::Open(_) => self.session.deadline(),
            Phase::Idle | Phase::Closed => None,
        }
    }

    /// Connects, writes, reads and keeps time, as far as that goes without waiting.
    ///
    /// `ready` is what poll returned for [`interest`](Self::interest), empty if nothing.
    pub fn drive(&mut self, now: Instant, ready: PollFlags) {
        match &mut self.phase {
            Phase::Waiting(until) if now >= *until => self.dial(now),
            Phase::Dialing(dialer) => {
                let progress = dialer.drive(now, !ready.is_empty());
                self.dialed(progress, now);
            }
            Phase::Open(_) => self.exchange(now, ready),
            Phase::Closing(stream, due) => {
                if now >= *due || (!ready.is_empty() && is_at_end(stream.as_mut(), self.inbox.space())) {
                    self.close();
                }
            }
            Phase::Idle | Phase::Waiting(_) | Phase::Closed => {}
        }
    }

    /// What happened since, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.session.next_event()
    }

    /// Whether [`next_event`](Self::next_event) has something: to be asked before poll(2), which would not tell of it.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.session.has_event()
    }

    /// As [`ClientSession::publish`]; the bytes leave at the next [`drive`](Self::drive).
    ///
    /// # Errors
    /// Those of [`ClientSession::publish`].
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<Token> {
        self.session.publish(topic, payload, qos, retain)
    }

    /// As [`ClientSession::room`].
    #[must_use]
    pub fn room(&self, size: usize) -> bool {
        self.session.room(size)
    }

    /// As [`ClientSession::unacknowledged`].
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        self.session.unacknowledged()
    }

    /// As [`ClientSession::subscribe`].
    ///
    /// # Errors
    /// Those of [`ClientSession::subscribe`].
    pub fn subscribe(&mut self, filter: &str, qos: Qos, now: Instant) -> Result<()> {
        self.session.subscribe(filter, qos, now)
    }

    /// As [`ClientSession::ack`]; the bytes leave at the next [`drive`](Self::drive).
    pub fn ack(&mut self, receipt: Receipt) {
        self.session.ack(receipt);
    }

    /// As [`ClientSession::keeps`].
    #[must_use]
    pub fn keeps(&self, qos: Qos) -> bool {
        self.session.keeps(qos)
    }

    /// Stops reading from the broker, or goes on: how a full stdout reaches the broker.
    pub fn pause_reading(&mut self, paused: bool, now: Instant) {
        self.session.pause_reading(paused, now);
        self.paused = paused;
        self.hung_up &= paused;
    }

    /// Sends what is queued and DISCONNECT, then closes; [`Event::Closed`] follows, at once where there is no
    /// connection.
    ///
    /// It does not wait for acknowledgements: that is for the caller, by [`unacknowledged`](Self::unacknowledged).
    pub fn finish(&mut self) {
        self.session.finish();
        if matches!(self.phase, Phase::Idle | Phase::Waiting(_) | Phase::Dialing(_)) {
            self.close();
        }
    }

    /// Whether it has finished: nothing will happen any more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn dial(&mut self, now: Instant) {
        let progress = match Dialer::start(&self.endpoint, now) {
            Ok(mut dialer) => {
                let progress = dialer.drive(now, false);
                self.phase = Phase::Dialing(dialer);
                progress
            }
            Err(error) => Progress::Failed(error.to_string()),
        };
        self.dialed(progress, now);
    }

    fn dialed(&mut self, progress: Progress, now: Instant) {
        match progress {
            Progress::Pending => {}
            Progress::Failed(why) => self.lost(&why, now),
            Progress::Connected(stream) => {
                self.phase = Phase::Open(stream);
                self.session.connected(now);
                self.exchange(now, PollFlags::empty());
            }
        }
    }

    /// One turn of an open connection.
    fn exchange(&mut self, now: Instant, ready: PollFlags) {
        let broken = PollFlags::HUP | PollFlags::ERR;
        if ready.intersects(PollFlags::OUT | broken) {
            self.blocked = false;
        }
        if ready.intersects(broken) && self.paused {
            self.hung_up = true;
            return;
        }
        if let Err(why) = self.turn(now, ready.intersects(PollFlags::IN | broken)) {
            self.lost(&why, now);
        } else if self.session.finished()
            && let Phase::Open(mut stream) = std::mem::replace(&mut self.phase, Phase::Closed)
        {
            match stream.shutdown() {
                Ok(()) => self.phase = Phase::Closing(stream, now + FAREWELL),
                Err(_) => self.close(),
            }
        }
    }

    fn turn(&mut self, now: Instant, readable: bool) -> std::result::Result<(), String> {
        if let Err(why) = self.write(now) {
            // What the broker said before it hung up is there to be read, and counts.
            for _ in 0..LAST_READS {
                if self.paused || !self.read(now)? {
                    break;
                }
            }
            return Err(why);
        }
        if readable && !self.paused {
            self.read(now)?;
        }
        self.session.tick(now).map_err(|lost| lost.to_string())?;
        self.write(now)
    }

    /// Writes until the session has nothing more, or the socket takes no more.
    fn write(&mut self, now: Instant) -> std::result::Result<(), String> {
        let Phase::Open(stream) = &mut self.phase else { return Ok(()) };
        while !self.blocked && !self.session.outgoing().is_empty() {
            let rest = &self.session.outgoing()[self.accepted..];
            let result = match rest {
                [] => Ok(0),
                rest => stream.write(rest).and_then(|count| if count == 0 { Err(WriteZero.into()) } else { Ok(count) }),
            };
            match result.and_then(|count| {
                self.accepted += count;
                stream.flush()
            }) {
                Ok(()) => {
                    self.session.sent(self.accepted, now);
                    self.accepted = 0;
                }
                Err(error) if error.kind() == WouldBlock => self.blocked = true,
                Err(error) if error.kind() == Interrupted => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(())
    }

    /// Reads once; whether there was something.
    fn read(&mut self, now: Instant) -> std::result::Result<bool, String> {
        let Phase::Open(stream) = &mut self.phase else { return Ok(false) };
        match stream.read(self.inbox.space()) {
            Ok(0) => Err("the broker closed the connection".to_owned()),
            Ok(count) => {
                if count < BULK {
                    stream.acknowledge();
                }
                self.inbox.filled(count);
                self.session.received(self.inbox.data(), now).map_err(|lost| lost.to_string())?;
                Ok(true)
            }
            Err(error) if matches!(error.kind(), WouldBlock | Interrupted) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The connection, or the attempt at one, is over.
    fn lost(&mut self, why: &str, now: Instant) {
        if self.session.finished() {
            return self.close();
        }
        let why = format!("{}: {why}", self.endpoint);
        self.phase = Phase::Waiting(self.session.disconnected(&why, now, &mut rand::rng()));
        self.inbox.clear();
        (self.accepted, self.blocked, self.hung_up) = (0, false, false);
        if self.session.finished() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.session.closed();
    }
}

/// Reads past what the broker still sends; whether it closed its side.
fn is_at_end(stream: &mut dyn Stream, scratch: &mut [u8]) -> bool {
    loop {
        match stream.read(scratch) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if error.kind() == Interrupted => {}
            Err(error) => return error.kind() != WouldBlock,
        }
    }
}
