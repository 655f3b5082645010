//! The client's side of an MQTT session: publishes, subscriptions and acknowledgements, over one connection after
//! another.
//!
//! A state machine without I/O: bytes and the time come in; bytes, [`Event`]s and a deadline come out. The driver owns
//! the socket, and reports exactly how many bytes it took: at QoS 0 nothing else is ever known of a message.
//!
//! `connection_lifecycle` is how a connection begins and ends, `connection_history` what the last ones have in common,
//! and `packet_handler` what each packet means, with `publish_answers` for those that answer a PUBLISH.
//! `outgoing_publishes`, `incoming_publishes` and `subscriptions` are what outlives a connection; `wire` is what of it
//! goes out on the one that there is, and `broker_limits` what that bears. `deadlines`, `keep_alive` and `awaited_ack`
//! keep time, `refusal` puts reasons into words, and `notices` says each once.

mod awaited_ack;
mod broker_limits;
mod connection_history;
mod connection_lifecycle;
mod deadlines;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) mod fuzz;
mod incoming_publishes;
mod keep_alive;
mod last_sent;
mod notices;
mod outgoing_publish;
mod outgoing_publishes;
mod packet_handler;
mod publish_answers;
mod publish_order;
mod publish_topics;
mod refusal;
mod refused_publishes;
mod subscriptions;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

pub use outgoing_publishes::Unacknowledged;

use connection_history::ConnectionHistory;
pub(super) use connection_history::MIN_STABLE_LIFETIME;
use incoming_publishes::IncomingPublishes;
use keep_alive::KeepAlive;
use notices::Notices;
use outgoing_publishes::OutgoingPublishes;
use subscriptions::Subscriptions;
use wire::Wire;

use super::codec::{MAX_PUBLISH_OVERHEAD, MAX_REMAINING_LEN, Request};
use super::{ClientOptions, ConnectionLost, Event, Qos, Receipt, Token};
use crate::{Error, Exit, Result};

/// PUBLISH packets are encoded while fewer bytes than this wait for the socket; one packet may exceed it.
const MAX_WRITE_BUFFER: usize = 256 * 1024;

/// Bytes of answers that may wait for the socket: four answers of four bytes to each of the 65535 packet identifiers.
const MAX_ANSWERS: usize = 4 * 65_535 * 4;

/// The client's side of an MQTT session.
#[derive(Debug)]
pub struct ClientSession {
    options: ClientOptions,
    wire: Wire,
    state: ConnectionState,
    outgoing: OutgoingPublishes,
    incoming: IncomingPublishes,
    subscriptions: Subscriptions,
    events: VecDeque<Event>,
    notices: Notices,
    history: ConnectionHistory,
}

#[derive(Debug)]
enum ConnectionState {
    Down(SessionDoubt),
    /// CONNECT is queued.
    Connecting {
        /// CONNACK is awaited since then.
        since: Instant,
        doubt: SessionDoubt,
    },
    Up {
        since: Instant,
        keep_alive: KeepAlive,
        /// DISCONNECT follows what is queued, and then another connection.
        renewing: bool,
    },
    /// DISCONNECT is queued; for good, if the outgoing publishes are closed.
    Closing,
}

/// Whether a CONNECT went out to which no CONNACK came. The broker may have made a new session then; if the next
/// CONNACK says that a session is present, it may mean that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionDoubt {
    None,
    ConnAckMissing,
}

impl ClientSession {
    /// A session that has never been connected.
    ///
    /// # Errors
    /// [`Exit::Config`] when something in `options` does not fit into MQTT, or is not supported.
    pub fn new(options: ClientOptions) -> Result<Self> {
        options.check()?;
        Ok(Self {
            wire: Wire::new(&options),
            state: ConnectionState::Down(SessionDoubt::None),
            outgoing: OutgoingPublishes::new(options.limits.in_flight),
            incoming: IncomingPublishes::default(),
            subscriptions: Subscriptions::default(),
            events: VecDeque::new(),
            notices: Notices::default(),
            history: ConnectionHistory::default(),
            options,
        })
    }

    /// Queues a message, which goes out on this connection if there is one, else on the next.
    ///
    /// # Errors
    /// [`Exit::Config`] for a topic that MQTT does not allow or a payload over `max_send`; [`Exit::Failed`] when
    /// too much is in flight, as [`has_room`](Self::has_room) tells, or once it is disconnecting. Nothing is queued
    /// then.
    pub fn publish(&mut self, topic: &str, payload: Bytes, qos: Qos, retain: bool) -> Result<Token> {
        let topic = self.outgoing.share_topic(topic)?;
        let limit = self.options.limits.max_send.min(MAX_REMAINING_LEN - MAX_PUBLISH_OVERHEAD - topic.len());
        if payload.len() > limit {
            return Err(Error::new(Exit::Config, format!("a message of {} bytes", payload.len()))
                .because(format!("larger than `max_message` ({limit} bytes)"))
                .hint("set a larger `max_message`, or leave it out"));
        }
        if !self.outgoing.has_room(topic.len() + payload.len()) {
            let is_closed = self.outgoing.is_closed();
            let why = if is_closed { "the client is disconnecting" } else { "too much is unacknowledged" };
            return Err(Error::new(Exit::Failed, "cannot publish").because(why));
        }
        let token = self.outgoing.push(topic, payload, qos, retain);
        self.fill_write_buffer();
        Ok(token)
    }

    /// The payloads that [`withdraw`](Self::withdraw) would take back now.
    pub(super) fn uncarried(&self) -> Vec<Bytes> {
        self.outgoing.uncarried()
    }

    /// Takes back what was published and this connection has not carried, oldest first: [`Event::TooLong`] says why
    /// that may be of use. Nothing more is heard of it. What is published next goes in its place.
    pub fn withdraw(&mut self) -> Vec<(Token, Bytes)> {
        self.outgoing.withdraw()
    }

    /// Newer messages may overtake this one, which was just published: nobody expects it in an order.
    pub(super) fn exempt_from_order(&mut self, token: Token) {
        self.outgoing.exempt_from_order(token);
    }

    /// The caller will handle no more answers: from now on, [`overtaken`](Self::overtaken) counts what the broker may have
    /// accepted without an answer, too.
    pub(super) fn give_up_answers(&mut self) {
        self.outgoing.note_attempted(self.wire.sent());
    }

    /// The oldest message that the broker refused while it accepted, or may have accepted, a newer one: whoever receives that
    /// has them in another order, or drops the older one. Without [`withdraw_overtaken`](Self::withdraw_overtaken), it is sent
    /// again nevertheless.
    #[must_use]
    pub(super) fn overtaken(&self) -> Option<Token> {
        self.outgoing.overtaken()
    }

    /// Takes back all that is published but not under way, including what the broker refused. Nothing more is heard of
    /// it. To be called until [`overtaken`](Self::overtaken) is `None`; the next few messages on this connection are then
    /// sent one at a time.
    pub(super) fn withdraw_overtaken(&mut self) -> Vec<Token> {
        self.outgoing.withdraw_overtaken()
    }

    /// Whether a message of `size` bytes, topic and payload, can be published now.
    #[must_use]
    pub fn has_room(&self, size: usize) -> bool {
        self.outgoing.has_room(size)
    }

    /// The longest payload that can be published on this topic, bytes: `max_send`, or less if the broker bears less.
    #[must_use]
    pub(super) fn max_payload(&self, topic: &str) -> usize {
        self.options.limits.max_send.min(self.outgoing.max_payload(topic))
    }

    /// Whether the broker has said what it bears, or cannot: an answer to CONNECT came in this run, or the version has
    /// no way to say.
    #[must_use]
    pub(super) fn knows_broker_limits(&self) -> bool {
        !self.options.version.has_properties() || self.outgoing.knows_broker_limits()
    }

    /// What is published and not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> Unacknowledged {
        self.outgoing.unacknowledged()
    }

    /// As [`Client::subscribe`](super::Client::subscribe).
    ///
    /// # Errors
    /// Those of [`Client::subscribe`](super::Client::subscribe).
    pub fn subscribe(&mut self, filter: &str, qos: Qos, now: Instant) -> Result<()> {
        self.subscriptions.add(filter, qos)?;
        if matches!(self.state, ConnectionState::Up { .. }) {
            self.send_subscribes(now);
        }
        Ok(())
    }

    /// Acknowledges a message to the broker.
    ///
    /// If the broker is going to send the message again anyway, this does nothing.
    #[expect(clippy::needless_pass_by_value, reason = "a receipt is good for one acknowledgement")]
    pub fn ack(&mut self, receipt: Receipt) {
        if let Some(request) = self.incoming.ack(&receipt)
            && matches!(self.state, ConnectionState::Up { .. })
        {
            self.send_answer(request);
        }
    }

    /// Sends an answer to a message of the broker.
    fn send_answer(&mut self, answer: Request<'_>) {
        let position = self.wire.send(answer);
        self.incoming.encoded(answer, position.end);
    }

    /// Sends what is queued, then DISCONNECT; nothing can be published any more.
    ///
    /// It does not wait for acknowledgements: that is for the caller, by [`unacknowledged`](Self::unacknowledged).
    pub(super) fn disconnect(&mut self) {
        self.outgoing.close();
        self.fill_write_buffer();
    }

    /// Sends what is queued, then DISCONNECT, if there is a connection: the next one leaves another will. What is
    /// published meanwhile goes out on that one.
    pub(super) fn renew(&mut self) {
        if let ConnectionState::Up { renewing, .. } = &mut self.state {
            *renewing = true;
            self.fill_write_buffer();
        }
    }

    fn is_renewing(&self) -> bool {
        matches!(self.state, ConnectionState::Up { renewing: true, .. })
    }

    /// Tells the session that reading is paused or resumed: while it is paused, no answer can be late.
    pub(super) fn pause_reading(&mut self, paused: bool, now: Instant) {
        if self.is_paused() && !paused {
            if let ConnectionState::Connecting { since, .. } = &mut self.state {
                *since = now;
            }
            self.subscriptions.restart_timeouts(now);
        }
        if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
            keep_alive.pause(paused, now);
        }
        self.incoming.pause(paused);
    }

    /// Whether reading is paused.
    pub(super) fn is_paused(&self) -> bool {
        self.incoming.is_paused()
    }

    /// What happened since, oldest first.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether the broker accepted this connection.
    pub(super) fn is_accepted(&self) -> bool {
        matches!(self.state, ConnectionState::Up { .. } | ConnectionState::Closing)
    }

    /// Whether [`next_event`](Self::next_event) has something.
    pub(super) fn has_event(&self) -> bool {
        !self.events.is_empty()
    }

    /// The bytes that the socket is to take, packet after packet.
    #[must_use]
    pub fn bytes_to_send(&self) -> &[u8] {
        self.wire.unsent()
    }

    /// The socket took the first `count` of [`bytes_to_send`](Self::bytes_to_send).
    pub fn bytes_sent(&mut self, count: usize, now: Instant) {
        self.wire.taken(count);
        if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
            keep_alive.bytes_sent(self.wire.sent(), now);
        }
        self.await_ack(now);
        while let Some((token, message)) = self.outgoing.next_sent(self.wire.sent()) {
            self.history.message_sent(token, message);
            self.events.push_back(Event::Acknowledged(token));
        }
        self.fill_write_buffer();
    }

    /// Whether the broker keeps a message of this quality of service until it is acknowledged, even when this process
    /// ends.
    pub(super) fn keeps(&self, qos: Qos) -> bool {
        let asks_for_none = self.options.version.has_properties() && self.options.v5.session_expiry == 0;
        let expires = asks_for_none || self.outgoing.ends_session();
        qos > Qos::AtMostOnce && !self.options.clean_session && !expires
    }

    fn send_subscribes(&mut self, now: Instant) {
        let retained = self.options.v5.wants_retained;
        self.subscriptions.request_missing(retained, now, |request| {
            self.wire.send(request);
        });
    }

    /// Encodes what the connection is to carry next, until the write buffer is full.
    ///
    /// Every PUBLISH leaves here and nowhere else: a new one, one that waited for room, and one that is repeated on a
    /// new connection. A message that is suspected to be what the broker closes connections for goes alone, once the
    /// broker has answered a PINGREQ, so that nothing else can be the reason.
    fn fill_write_buffer(&mut self) {
        let ConnectionState::Up { keep_alive, .. } = &self.state else { return };
        let alone = self.history.suspects_oldest();
        if alone && !keep_alive.was_ping_answered() {
            return;
        }
        while self.wire.unsent().len() < MAX_WRITE_BUFFER {
            while let Some(excess) = self.outgoing.next_excess() {
                self.events.extend(self.notices.excess(&excess));
            }
            let Some(request) = self.outgoing.next_packet(alone) else { break };
            let position = self.wire.send(request);
            self.outgoing.encoded(position);
        }
        if (self.outgoing.is_closed() || self.is_renewing()) && self.outgoing.all_sent() {
            self.wire.send(Request::Disconnect);
            self.state = ConnectionState::Closing;
        }
    }

    fn give_up(&mut self, why: &str) -> ConnectionLost {
        self.history.gave_up();
        ConnectionLost::new(why)
    }
}
