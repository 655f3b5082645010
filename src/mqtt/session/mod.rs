//! The client session: publishes, subscriptions and acknowledgements over one connection after the other.
//!
//! A machine without I/O: bytes and the time come in, bytes, [`Event`]s and a deadline come out. Whoever drives it owns
//! the stream, and tells it exactly how many bytes the stream took: at QoS 0 nothing else is ever known.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use rand::CryptoRng;

use super::codec::{Codec, MAX_REMAINING_LEN, Request};
use super::history::History;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::pulse::{Beat, Pulse};
use super::subscriptions::Subscriptions;
use super::{ConnectionLost, Event, Options, Qos, Receipt, Token, topic};
use crate::{Error, Exit, Result};

/// How long CONNACK and SUBACK may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// PUBLISH packets are encoded while fewer bytes than this wait for the socket.
const HIGH_WATER: usize = 256 * 1024;

/// Bytes of answers to the broker that may wait for the socket: four times what all 65535 packet identifiers call for.
const ANSWERS: usize = 4 * 65_535 * 4;

/// What is published and not acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unacknowledged {
    /// Messages.
    pub messages: usize,
    /// Bytes of their topics and payloads.
    pub bytes: usize,
}

/// The client's side of an MQTT session, over any number of connections.
#[derive(Debug)]
pub struct ClientSession {
    options: Options,
    keep_alive: u16,
    codec: Codec,
    state: State,
    outgoing: BytesMut,
    /// Bytes of this connection that the stream took.
    sent: u64,
    outbound: Outbound,
    inbound: Inbound,
    subscriptions: Subscriptions,
    events: VecDeque<Event>,
    /// The last topic published on, valid.
    topic: Option<Arc<str>>,
    paused: bool,
    finishing: bool,
    /// A CONNECT went out and no CONNACK came: that one may have said that the session is gone, and the next one, that
    /// a session is present, be about a new session.
    unanswered: bool,
    history: History,
}

#[derive(Debug)]
enum State {
    Down,
    /// CONNECT is queued; CONNACK is awaited since then.
    Connecting(Instant),
    Up {
        since: Instant,
        pulse: Pulse,
    },
    /// DISCONNECT is queued.
    Closing,
}

impl ClientSession {
    /// A session that has never been connected.
    ///
    /// # Errors
    /// [`Exit::Config`] when something in `options` does not fit into MQTT, or not into this version.
    pub fn new(options: Options) -> Result<Self> {
        Ok(Self {
            keep_alive: options.check()?,
            codec: Codec::new(options.version, options.max_receive)?,
            state: State::Down,
            outgoing: BytesMut::new(),
            sent: 0,
            outbound: Outbound::new(options.window),
            inbound: Inbound::default(),
            subscriptions: Subscriptions::default(),
            events: VecDeque::new(),
            topic: None,
            paused: false,
            finishing: false,
            unanswered: false,
            history: History::default(),
            options,
        })
    }

    /// Queues a message; it goes out at once if there is a connection, else on the next one.
    ///
    /// # Errors
    /// [`Exit::Config`] for a topic that MQTT does not allow or a payload over `max_send`; [`Exit::Failed`] when the
    /// window has no [`room`](Self::room) or the session is finishing. Nothing is queued then.
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<Token> {
        let topic = match &self.topic {
            Some(last) if **last == *topic => Arc::clone(last),
            _ => {
                topic::check_name(topic)?;
                Arc::clone(self.topic.insert(Arc::from(topic)))
            }
        };
        let limit = self.options.max_send.min(MAX_REMAINING_LEN - 4 - topic.len());
        if payload.len() > limit {
            return Err(Error::new(Exit::Config, format!("a message of {} bytes", payload.len()))
                .because(format!("over `max_message`, {limit} bytes")));
        }
        if self.finishing || !self.outbound.room(topic.len() + payload.len()) {
            let why = if self.finishing { "the session is finishing" } else { "the window is full" };
            return Err(Error::new(Exit::Failed, "cannot publish").because(why));
        }
        let token = self.outbound.push(topic, payload, qos, retain);
        self.pump();
        Ok(token)
    }

    /// Whether a message of `size` bytes, topic and payload, can be published now.
    #[must_use]
    pub fn room(&self, size: usize) -> bool {
        !self.finishing && self.outbound.room(size)
    }

    /// What is published and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        self.outbound.unacknowledged()
    }

    /// Subscribes to `filter`, now and on each later connection to a broker that forgot the session.
    ///
    /// # Errors
    /// [`Exit::Config`] for a filter that MQTT does not allow, or the 256th one.
    pub fn subscribe(&mut self, filter: &str, qos: Qos, now: Instant) -> Result<()> {
        self.subscriptions.add(filter, qos)?;
        if matches!(self.state, State::Up { .. }) {
            self.ask_for_subscriptions(now);
        }
        Ok(())
    }

    /// Acknowledges a message to the broker.
    ///
    /// A receipt for a message that the broker is going to send again anyway does nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a receipt is good for one acknowledgement")]
    pub fn ack(&mut self, receipt: Receipt) {
        if let Some(request) = self.inbound.ack(&receipt)
            && matches!(self.state, State::Up { .. })
        {
            self.codec.encode(request, &mut self.outgoing);
        }
    }

    /// Sends DISCONNECT after what is queued; nothing can be published any more.
    ///
    /// It does not wait for acknowledgements: that is for the caller, by [`unacknowledged`](Self::unacknowledged).
    pub fn finish(&mut self) {
        self.finishing = true;
        self.pump();
    }

    /// Whether DISCONNECT went out, or never will because there is no connection.
    #[must_use]
    pub fn finished(&self) -> bool {
        match self.state {
            State::Closing => self.outgoing.is_empty(),
            State::Down | State::Connecting(_) => self.finishing,
            State::Up { .. } => false,
        }
    }

    /// Says that nobody reads the stream now, or again: while nobody does, no answer can be late.
    pub fn pause_reading(&mut self, paused: bool, now: Instant) {
        if self.paused && !paused {
            if let State::Connecting(since) = &mut self.state {
                *since = now;
            }
            self.subscriptions.restart(now);
        }
        if let State::Up { pulse, .. } = &mut self.state {
            pulse.pause(paused, now);
        }
        self.paused = paused;
    }

    /// What happened since, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether something happened that [`next_event`](Self::next_event) has not told.
    #[must_use]
    pub fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The bytes that the stream is to take, packet after packet.
    #[must_use]
    pub fn outgoing(&self) -> &[u8] {
        &self.outgoing
    }

    /// The stream took the first `count` bytes of [`outgoing`](Self::outgoing): they are on their way.
    pub fn sent(&mut self, count: usize, now: Instant) {
        let count = count.min(self.outgoing.len());
        self.outgoing.advance(count);
        self.sent += count as u64;
        if let State::Up { pulse, .. } = &mut self.state {
            pulse.sent(self.sent, now);
        }
        while let Some(token) = self.outbound.taken(self.sent) {
            self.history.taken(token);
            self.events.push_back(Event::Acked(token));
        }
        self.pump();
    }

    /// Whether the broker keeps a message of this quality of service until it is acknowledged, beyond this process.
    #[must_use]
    pub fn keeps(&self, qos: Qos) -> bool {
        qos > Qos::AtMostOnce && !self.options.clean_session
    }

    /// When to call [`tick`](Self::tick), if nothing else happens before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        match &self.state {
            State::Down | State::Closing => None,
            State::Connecting(since) => (!self.paused).then(|| *since + PATIENCE),
            State::Up { pulse, .. } => {
                let asked = self.subscriptions.asked_since().filter(|_| !self.paused);
                let suback = asked.map(|asked| asked + PATIENCE);
                pulse.deadline().into_iter().chain(suback).min()
            }
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// [`ConnectionLost`] when an answer is overdue.
    pub fn tick(&mut self, now: Instant) -> std::result::Result<(), ConnectionLost> {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return Ok(());
        }
        let State::Up { pulse, .. } = &mut self.state else { return Err(self.give_up("no CONNACK from the broker")) };
        match pulse.tick(now) {
            Beat::Ping => {
                self.codec.encode(Request::PingReq, &mut self.outgoing);
                pulse.pinged(self.sent + self.outgoing.len() as u64, now);
                Ok(())
            }
            Beat::Dead => Err(self.give_up("no PINGRESP: the broker or the way to it is gone")),
            Beat::Quiet => Err(self.give_up("no SUBACK from the broker")),
        }
    }

    /// A byte stream to the broker is there: CONNECT goes first.
    pub fn connected(&mut self, now: Instant) {
        self.codec.reset();
        self.outgoing.clear();
        self.sent = 0;
        self.inbound.connected();
        self.history.connected();
        self.codec.encode(
            Request::Connect {
                client_id: &self.options.client_id,
                login: self.options.login.as_ref(),
                keep_alive: self.keep_alive,
                clean_session: self.options.clean_session,
            },
            &mut self.outgoing,
        );
        self.state = State::Connecting(now);
    }

    /// The byte stream is gone, or did not come about; `why` is for [`Event::Down`]. Returns when to try again.
    pub fn disconnected(&mut self, why: &str, now: Instant, rng: &mut impl CryptoRng) -> Instant {
        match std::mem::replace(&mut self.state, State::Down) {
            State::Up { since, .. } => {
                let lived = now.saturating_duration_since(since);
                self.events.extend(self.history.ended(
                    lived,
                    self.options.exclusive,
                    self.outbound.oldest_tried(self.sent),
                ));
            }
            State::Connecting(_) => {
                self.unanswered |= self.sent > 0;
                self.history.failed();
            }
            State::Down | State::Closing => self.history.failed(),
        }
        self.outbound.disconnected(self.sent);
        self.outgoing.clear();
        self.subscriptions.disconnected();
        let retry = self.history.delay(rng);
        self.events.push_back(Event::Down { why: why.to_owned(), retry });
        now + retry
    }

    /// The stream is closed after [`finish`](Self::finish), and no other is to come.
    pub fn closed(&mut self) {
        self.state = State::Down;
        self.finishing = true;
        self.outbound.disconnected(self.sent);
        self.outgoing.clear();
        self.events.push_back(Event::Closed);
    }

    fn ask_for_subscriptions(&mut self, now: Instant) {
        self.subscriptions.ask(now, |request| self.codec.encode(request, &mut self.outgoing));
    }

    /// Encodes what the connection is to carry next, within bounds.
    fn pump(&mut self) {
        if !matches!(self.state, State::Up { .. }) {
            return;
        }
        let alone = self.history.suspects();
        while self.outgoing.len() < HIGH_WATER {
            let start = self.sent + self.outgoing.len() as u64;
            let Some(request) = self.outbound.next_packet(alone) else { break };
            self.codec.encode(request, &mut self.outgoing);
            self.outbound.carried(start..self.sent + self.outgoing.len() as u64);
        }
        if self.finishing && self.outbound.all_sent() {
            self.codec.encode(Request::Disconnect, &mut self.outgoing);
            self.state = State::Closing;
        }
    }

    fn give_up(&mut self, why: &str) -> ConnectionLost {
        self.history.gave_up();
        ConnectionLost::new(why)
    }
}

mod incoming;

#[cfg(test)]
mod tests;
