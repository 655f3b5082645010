//! The gate of a run: the one way from it to the client, and what limits that.
//!
//! [`Gate::is_open`] is asked before each message that may wait. Three things shut it: the client has no room for the
//! longest message, a rate limit of the run (`send::rate_limits`) allows no more at the moment, or messages that are too long
//! for the broker wait for space on the disk to be cut ([`Gate::shut_until_cut`]).
//!
//! | message | waits | counts |
//! |---|---|---|
//! | new messages, with data or without, and the end of a stream, which must not overtake them | yes | yes |
//! | what was made and not published, a retransmission ([`OutgoingMessage::Repeated`]), what is said between two streams | yes | yes |
//! | the last one of a run or a stream (`publish_settled`, `seal_early_end`): a run that ends waits no more | no | yes |
//! | a query or an answer ([`OutgoingMessage::BestEffort`]), dropped if the client has no room for it | no | no |
//! | what does not pass here: a will, what the client repeats, MQTT's packets without a message | no | no |
//!
//! A shut gate delays messages, and changes nothing about them: a retransmission that becomes due waits, and counts as none
//! until it leaves. The loop does not wake for a message that is due but has to wait, since it ignores times that have
//! passed.
//!
//! # What a limit is
//!
//! There are two places for one (`CONTRIBUTING.md`, "A limit on what is sent"):
//!
//! - **Of what this run gives to the client**, each message once: here. One per time, whatever it counts, is a
//!   [`RateLimit`] in `send::rate_limits` (`rate_limit.rs`). Its exactness is for the messages that ask: none of them leaves
//!   if that is too many. A limit that no time opens is a condition in [`Gate::is_open`], and what opens it must wake the
//!   run.
//! - **Of what goes to the broker**, including what the client repeats after a reconnect, of which the run hears nothing:
//!   in the client session. `OutgoingPublishes::retry_at` (`mqtt/client_session/outgoing_publishes/mod.rs`), the pause after
//!   a refusal, is the precedent: it gives no packet, wakes the client and ends. The client then fills up, and this gate
//!   shuts.
//!
//! For each limit here:
//!
//! - It applies to one run, and begins anew with each run: it is not stored. With a spool, only the run that sends has
//!   a gate; the others append. Two runs without a spool have a limit each.
//! - `sts-pair --status` shows what the files of a session say, so it shows nothing of a limit. `--progress` counts what
//!   waits for the gate as unacknowledged.
//! - It is shut without a connection. Otherwise, what the gate let pass meanwhile would leave in one burst on the next
//!   connection. What the client had when a connection ended does leave in a burst on the next one: all that this gate let
//!   pass on a connection that was silent, up to what the client has room for. Where that matters, a limit also counts what
//!   the broker has not acknowledged ([`Client::unacknowledged`]).
//! - Reading does not wait for it (`SendRun::may_read`): `--timeout` counts from when a message was read, and a program
//!   that waits in write(2) has no timeout.
//! - What is read meanwhile is bounded. Without a spool it is one message of the largest size, which with `--each` may be
//!   many lines (`Direct::fill`). With one, it is appended to the spool record by record, up to `--spool-max`, and records
//!   do not join later.
//! - No timeout counts the time in which nothing but a rate limit holds the run back: `SendRun::observe_waiting` asks
//!   [`Gate::opens_at`]. So its interval may be longer than `--timeout`. Time does count while the broker or the receiver has
//!   yet to answer for a message. With `--confirm`, the repetition of a lost one waits for the gate while that time counts, so
//!   `--timeout` may end the run before the gate opens.
//! - The first signal does not open it. Without a spool, the run still delivers what it has read, in the time that the
//!   limit makes that take (a service manager may kill it earlier), and the message that closes the stream waits like the
//!   others. With a spool, a run that has a
//!   rate limit begins no message later than 5 seconds after the signal, and ends once those before are delivered
//!   (`SendRun::takes_no_more`): nobody waits for hours for what is safe on a disk. The second signal ends the run at
//!   once.

use std::time::Instant;

use super::data_in_flight::DataInFlight;
use super::outgoing::OutgoingMessage;
use super::rate_limit::RateLimit;
use crate::config::Mqtt;
use crate::event_loop::EventLoop;
use crate::mqtt::{Client, Qos, Token};
use crate::{Error, Result};

/// What limits the messages of a run, and how much of the input is on its way.
pub(super) struct Gate<'a> {
    mqtt: &'a Mqtt,
    rate_limits: Vec<RateLimit>,
    data_in_flight: DataInFlight,
    /// Why the broker does not accept messages that are too long, while they wait for space on the disk to be cut.
    uncut: Option<Error>,
}

impl<'a> Gate<'a> {
    /// A gate that lets messages pass no faster than each of these limits allows.
    pub(super) fn new(mqtt: &'a Mqtt, rate_limits: Vec<RateLimit>) -> Self {
        Self { mqtt, rate_limits, data_in_flight: DataInFlight::default(), uncut: None }
    }

    /// The longest message, in bytes.
    pub(super) fn max_message(&self) -> usize {
        self.mqtt.max_message
    }

    /// Whether time limits what leaves, so that a backlog takes as long on any machine.
    pub(super) fn has_rate_limit(&self) -> bool {
        !self.rate_limits.is_empty()
    }

    /// Sets the time; called once per iteration of the loop, before [`Gate::is_open`].
    pub(super) fn advance(&mut self, now: Instant) {
        for limit in &mut self.rate_limits {
            limit.advance(now);
        }
    }

    /// Whether the client has room for the longest message on this topic.
    pub(super) fn client_has_room(&self, client: &Client, topic: &str) -> bool {
        client.has_room(topic.len() + self.mqtt.max_message)
    }

    /// Whether one more message may be published on this topic.
    pub(super) fn is_open(&self, events: &EventLoop<'_>, topic: &str) -> bool {
        // What was sealed without a connection could also be out of step with the other device by the next one.
        let is_in_time = !self.has_rate_limit() || events.is_connected() && self.opens_at().is_none();
        is_in_time && self.uncut.is_none() && self.client_has_room(&events.broker, topic)
    }

    /// Messages are to be cut before any other is published, and there is no space on the disk for that.
    pub(super) fn shut_until_cut(&mut self, refusal: Error) {
        self.uncut = Some(refusal);
    }

    /// What [`Gate::shut_until_cut`] was told, which is to be tried again.
    pub(super) fn take_uncut(&mut self) -> Option<Error> {
        self.uncut.take()
    }

    /// When the last of the rate limits allows another message, if one does not now.
    pub(super) fn opens_at(&self) -> Option<Instant> {
        self.rate_limits.iter().filter_map(RateLimit::opens_at).max()
    }

    /// Gives a message to the client, which has room for it. The client publishes it, and repeats it on each later
    /// connection until it is acknowledged; the run does not hear of that. Returns the token of a record of a spool.
    pub(super) fn pass(
        &mut self,
        message: OutgoingMessage,
        topic: &str,
        events: &mut EventLoop<'_>,
        now: Instant,
    ) -> Result<Option<Token>> {
        let (data_len, retain) = (message.new_data_len(), self.mqtt.retain && message.is_value());
        let is_record = matches!(message, OutgoingMessage::Record { .. });
        let is_ordered = !matches!(message, OutgoingMessage::Unordered(_));
        let payload = match message {
            OutgoingMessage::BestEffort { topic, frame } => {
                return events.publish_or_drop(&topic, frame, Qos::AtMostOnce).map(|_| None);
            }
            OutgoingMessage::Message { payload, .. }
            | OutgoingMessage::Record { payload, .. }
            | OutgoingMessage::WithoutData(payload)
            | OutgoingMessage::Repeated { payload, .. }
            | OutgoingMessage::Unordered(payload) => payload,
        };
        let token = events.broker.publish(topic, payload, self.mqtt.qos, retain)?;
        if !is_ordered {
            events.broker.exempt_from_order(token);
        }
        self.data_in_flight.published(token, data_len);
        for limit in &mut self.rate_limits {
            limit.count(now);
        }
        Ok(is_record.then_some(token))
    }

    /// The broker has a message, or it was taken back.
    pub(super) fn acknowledged(&mut self, token: Token) {
        self.data_in_flight.acknowledged(token);
    }

    /// How many bytes of the input the broker has not acknowledged.
    pub(super) fn bytes_in_flight(&self) -> u64 {
        self.data_in_flight.bytes()
    }
}
