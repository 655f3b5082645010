//! The loop of sts-send: reads, seals, publishes and waits, whatever the source and the stream are.
//!
//! Two questions limit what a turn does:
//!
//! - [`SendRun::may_read`]: whether standard input is read further. It is, as long as there is room for one more
//!   message.
//! - [`SendRun::may_publish`]: whether one more frame may leave. It is the one gate: new messages, retransmissions and
//!   what is said between two streams pass it. The last words of a run or a stream ([`SendRun::settle`]) do not, nor do
//!   queries and answers ([`OutgoingMessage::BestEffort`]), which are dropped if the client has no room for them.
//!
//! Today each of the two asks for room, at the broker and among the unconfirmed messages, and nothing else. To limit
//! what leaves in another way, by time for instance, add a condition to `may_publish`, count in `transfer` and
//! `publish_control` what passed it, and add the time at which the gate opens to [`SendRun::deadline`]. Any of the
//! loops may then be interrupted by the gate at any point. And:
//!
//! - Leave `may_read` as it is: what was read counts for `--timeout`, and what is never read would wait for ever.
//!   Without a spool that is one message of the largest size, which with `--each` may be many lines.
//! - Shut the gate while there is no connection, and while the client holds messages back (at QoS 2 it has at most 20
//!   under way): what it has, it sends in one burst as soon as it can.
//! - `--timeout` must not count the time for which the gate alone holds messages back: while nothing is in flight, let
//!   `Timeouts::waiting_since` begin when the gate opens. (Without any waiting message, a run that was told to stop
//!   ends early.)

use std::time::Instant;

use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use super::data_in_flight::DataInFlight;
use super::last_will::LastWill;
use super::outgoing::{OutgoingMessage, OutgoingStream};
use super::reply_topics::ReplyTopics;
use super::source::{MessageSource, Turn, larger};
use super::timeouts::{STOPPED_AT_ONCE, Timeouts};
use crate::config::{MIN_MESSAGE, Mqtt};
use crate::event_loop::{BrokerEvent, CLOSE_TIMEOUT, EventLoop, RunProgress, Stop, next_deadline};
use crate::mqtt::{Client, Qos};
use crate::report::Reporter;
use crate::spool::Pending;
use crate::text::count;
use crate::units::short_size;
use crate::{Error, Exit, Result};

/// Why a run ends before everything is delivered.
pub(super) enum SendFailure {
    /// It gives up. The error says how much is not delivered.
    GivenUp(Error),
    /// It cannot continue, for this reason.
    Interrupted(Error),
}

impl From<Error> for SendFailure {
    fn from(cause: Error) -> Self {
        Self::Interrupted(cause)
    }
}

/// What the loop does, and why it ends where that fails.
pub(super) type Outcome<T> = std::result::Result<T, SendFailure>;

/// What the broker has of a run on each connection: where replies arrive, and what it says if the run dies.
pub(super) struct Registration {
    pub(super) reply_topics: ReplyTopics,
    pub(super) will: LastWill,
}

impl Registration {
    /// With a new session or stream, it may be another.
    fn follow(
        &mut self,
        stream: &mut dyn OutgoingStream,
        broker: &mut Client,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<()> {
        self.will.follow(stream, broker, now, rng)?;
        self.reply_topics.follow(stream, broker, now)
    }
}

/// One run, from the first byte to the last acknowledgement.
pub(super) struct SendRun<'a> {
    pub(super) events: EventLoop<'a>,
    pub(super) mqtt: &'a Mqtt,
    pub(super) report: &'a Reporter,
    pub(super) source: Box<dyn MessageSource + 'a>,
    pub(super) stream: Box<dyn OutgoingStream>,
    pub(super) registration: Registration,
    pub(super) data_in_flight: DataInFlight,
    pub(super) timeouts: Timeouts,
    pub(super) rng: ThreadRng,
}

impl SendRun<'_> {
    /// Sends all of the source, and ends the connection.
    pub(super) fn finish(mut self) -> Result<()> {
        let delivered = match self.deliver() {
            Ok(()) => self.events.close().map(drop),
            Err(SendFailure::GivenUp(error)) => Err(error),
            Err(SendFailure::Interrupted(cause)) => Err(self.interrupted(cause)),
        };
        self.report.status("");
        // How the streams ended is known to the peer no worse than after a crash if it cannot be written down.
        if let Err(error) = self.stream.finish(self.source.delivered()) {
            self.report.verbose(format_args!("how the stream ended is not written down: {error}"));
        }
        let closed = self.source.close();
        delivered.and(closed)
    }

    /// The error of ending for this cause, which says what is not delivered, too: nobody else would.
    fn interrupted(&mut self, cause: Error) -> Error {
        // The cause counts: what cannot be kept is counted as lost.
        let _ = self.source.stop_reading(Instant::now());
        self.drain();
        self.source.interrupted(cause, self.in_flight())
    }

    /// Waits for the acknowledgement of what was published, as [`EventLoop::close`] does, and takes notice of it.
    fn drain(&mut self) {
        let (until, stop) = (Instant::now() + CLOSE_TIMEOUT, self.events.stop_requested());
        while self.events.is_connected() {
            let now = self.events.begin_turn();
            if self.handle_events(now).is_err() || now >= until || self.events.stop_requested() > stop {
                return;
            }
            if self.events.broker.unacknowledged().messages == 0 {
                self.events.broker.disconnect();
                return self.events.flush(now);
            }
            if self.events.wait(None, Some(until), now).is_err() {
                return;
            }
        }
    }

    fn deliver(&mut self) -> Outcome<()> {
        let now = Instant::now();
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        self.events.broker.connect(now);
        loop {
            let now = self.events.begin_turn();
            self.handle_events(now)?;
            if self.events.is_progress_due(now) {
                self.events.tell_progress(&self.progress(), now);
            }
            if self.is_stopped(now)? {
                return Ok(());
            }
            self.transfer(now)?;
            if self.source.is_done(&*self.stream) && self.pending().messages == 0 {
                if self.source.leave()? {
                    return Ok(self.settle()?);
                }
                // Else it cannot leave yet, and waits for that.
                if !self.source.is_done(&*self.stream) {
                    continue;
                }
            }
            let deadline = self.deadline(now);
            let input = self.source.input_fd(self.may_read()).map(|fd| (fd, PollFlags::IN));
            self.events.wait(input, deadline, now)?;
        }
    }

    /// Reads, seals and publishes until no more of that is possible without waiting.
    ///
    /// Retransmissions and what is said between two streams come before new messages. The receiver accepts the messages
    /// of a stream that wants confirms in order only: it would drop each new one that overtakes one that it lacks. If
    /// new ones took the room first, nothing that was sent could be of use.
    fn transfer(&mut self, now: Instant) -> Outcome<()> {
        let connected = self.events.is_connected();
        if self.events.was_woken() {
            self.source.woken()?;
        }
        loop {
            let was_switching = self.stream.is_switching();
            let mut progressed = self.publish_control(now)?;
            let may_read = self.may_read();
            let mut turn = Turn { now, connected, rng: &mut self.rng };
            self.source.fill(may_read, &mut *self.stream, &mut turn)?;
            while self.may_seal() {
                let mut turn = Turn { now, connected, rng: &mut self.rng };
                let Some(message) = self.source.next(&mut *self.stream, &mut turn)? else { break };
                self.publish(message)?;
                progressed = true;
            }
            progressed |= self.leave_stream()?;
            // The next message may have found that another stream is due, which is said first, or the next stream was
            // entered.
            progressed |= self.stream.is_switching() != was_switching;
            // Each of these may have made room for what was read before, of which poll(2) would not tell.
            if !progressed {
                break;
            }
        }
        self.timeouts.observe(self.source.awaits_delivery(self.in_flight()), now);
        Ok(self.source.sync()?)
    }

    /// Whether standard input is read further: if the client and the stream have room for one more message of any
    /// length, which the broker may limit.
    fn may_read(&self) -> bool {
        self.events.broker.knows_broker_limits()
            && self.client_has_room()
            && self.stream.has_room(self.mqtt.max_message)
    }

    /// Whether one more frame may leave: the gate, of which the head of this file tells.
    fn may_publish(&self) -> bool {
        self.client_has_room()
    }

    /// Whether one more message may be sealed, which then leaves: if the gate is open, and the stream has room. Until
    /// the broker had a chance to say how long messages may be, none is cut.
    fn may_seal(&self) -> bool {
        let is_in_time = self.events.is_connected() || !self.stream.seals_when_connected();
        is_in_time
            && self.events.broker.knows_broker_limits()
            && self.may_publish()
            && self.stream.has_room(self.mqtt.max_message)
    }

    /// Whether the client has room for the longest frame.
    fn client_has_room(&self) -> bool {
        self.events.broker.has_room(self.stream.topic().len() + self.mqtt.max_message)
    }

    /// The one way out of the run, for a frame that there is room for. The client publishes it, again on each
    /// connection until it is acknowledged.
    pub(super) fn publish(&mut self, message: OutgoingMessage) -> Result<()> {
        let (qos, retain) = (self.mqtt.qos, self.mqtt.retain);
        match message {
            OutgoingMessage::Message { payload, data_len } => {
                let token = self.events.broker.publish(self.stream.topic(), payload, qos, retain)?;
                self.data_in_flight.published(token, data_len);
                Ok(())
            }
            OutgoingMessage::Record { payload, data_len } => {
                let token = self.events.broker.publish(self.stream.topic(), payload, qos, retain)?;
                self.data_in_flight.published(token, data_len);
                self.source.published(token);
                Ok(())
            }
            OutgoingMessage::Control(payload) => {
                self.events.broker.publish(self.stream.topic(), payload, qos, false).map(drop)
            }
            OutgoingMessage::BestEffort { topic, frame } => {
                self.events.publish_or_drop(&topic, frame, Qos::AtMostOnce).map(drop)
            }
        }
    }

    /// When to wake if nothing happens before, in the run's own time; the event loop adds the client's. While the path
    /// is not clear nothing is sent again, and what clears it wakes the run.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let resend = self.stream.deadline().filter(|_| self.is_path_clear());
        let others = [resend, self.source.deadline(now), self.registration.will.deadline()];
        next_deadline(now, self.timeouts.deadlines().map(Some).chain(others))
    }

    /// Sends again what the receiver has not confirmed, and what is said between two streams; true if it did either.
    fn publish_control(&mut self, now: Instant) -> Outcome<bool> {
        let is_path_clear = self.is_path_clear();
        if !is_path_clear {
            self.stream.ignore_silence(now);
        }
        let mut progressed = false;
        while self.may_publish()
            && let Some(message) = self.stream.next_control(now, &mut self.rng)?
        {
            self.publish(message)?;
            progressed = true;
        }
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        if is_path_clear && self.stream.unconfirmed().messages > 0 && self.timeouts.is_silent(now) {
            self.handle_silence(now)?;
        }
        Ok(progressed)
    }

    /// Whether the receiver can have all that was published, and its confirms can reach us: the broker has acknowledged
    /// every frame, and on this connection the subscription for confirms. Only then does it mean something that nothing
    /// is confirmed. Until then the silence is the broker's: nothing is sent again for it, and it is neither reported
    /// nor queried.
    fn is_path_clear(&self) -> bool {
        self.registration.reply_topics.are_subscribed() && self.events.broker.unacknowledged().messages == 0
    }

    /// Leaves a stream that is closed and delivered to its end, for the next one; true if it did.
    fn leave_stream(&mut self) -> Result<bool> {
        if self.in_flight().messages > 0 || !self.source.is_stream_closed(&*self.stream) {
            return Ok(false);
        }
        self.settle()?;
        self.source.leave_stream(&mut *self.stream)?;
        Ok(true)
    }

    /// Publishes the last message of a stream, on the topic that it has until it is left.
    fn settle(&mut self) -> Result<()> {
        match self.stream.settle(&mut self.rng)? {
            Some(payload) => self.publish(OutgoingMessage::Control(payload)),
            None => Ok(()),
        }
    }

    fn handle_events(&mut self, now: Instant) -> Outcome<()> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => self.handle_event(event, now)?,
                Ok(None) => return Ok(self.source.acknowledged_all()?),
                Err(refusal) => return Err(self.refused(refusal)),
            }
        }
    }

    fn handle_event(&mut self, event: BrokerEvent, now: Instant) -> Outcome<()> {
        match event {
            BrokerEvent::Connected => {
                self.registration.will.connected(&mut self.events.broker);
                self.limit_messages();
            }
            BrokerEvent::Disconnected => {
                self.registration.reply_topics.disconnected();
                self.registration.will.disconnected();
            }
            BrokerEvent::TooLong(refusal) => self.cut_again(refusal, now)?,
            BrokerEvent::Subscribed { filter, .. } => self.registration.reply_topics.subscription_accepted(&filter),
            BrokerEvent::Acknowledged(token) => {
                self.data_in_flight.acknowledged(token);
                // That the broker has a message says nothing of the receiver.
                if !self.stream.is_confirmed() {
                    self.timeouts.progress(now);
                    self.source.acknowledged(token)?;
                }
            }
            BrokerEvent::Message(message) => {
                self.handle_reply(&message.payload, now)?;
                self.events.broker.ack(message.receipt);
            }
            BrokerEvent::Oversize { receipt, .. } => self.events.broker.ack(receipt),
        }
        Ok(())
    }

    /// How the run ends where the broker refuses something.
    fn refused(&self, refusal: Error) -> SendFailure {
        if self.pending().messages > 0 {
            self.report.info(self.unfinished(Exit::Failed, "refused by the broker"));
        }
        SendFailure::GivenUp(self.source.refused(refusal))
    }

    /// The broker bears less than on an earlier connection: what is in messages that are too long now goes in shorter
    /// ones.
    fn cut_again(&mut self, refusal: Error, now: Instant) -> Outcome<()> {
        if self.stream.max_message() > self.events.broker.max_payload(self.stream.topic()) {
            return Err(self.refused(refusal));
        }
        let unfinished = self.unfinished(Exit::Failed, "refused by the broker");
        let mut withdrawn = Vec::new();
        for (token, payload) in self.events.broker.withdraw() {
            self.data_in_flight.acknowledged(token);
            withdrawn.push(payload);
        }
        let mut turn = Turn { now, connected: self.events.is_connected(), rng: &mut self.rng };
        let Some(duplicates) = self.source.cut_again(withdrawn, &mut *self.stream, &mut turn)? else {
            self.report.info(unfinished);
            return Err(SendFailure::GivenUp(self.source.refused(refusal)));
        };
        if duplicates > 0 {
            self.report.warning(format_args!(
                "the broker now accepts only shorter messages; resent as shorter ones, possibly duplicated: {}",
                count(duplicates, "message")
            ));
        }
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        Ok(())
    }

    /// Keeps messages to the length that the broker bears, unless that is too little for any: then each is refused.
    fn limit_messages(&mut self) {
        let max_message = self.events.broker.max_payload(self.stream.topic());
        if max_message >= MIN_MESSAGE {
            let max_record = self.stream.limit_messages(max_message);
            self.source.limit_records(max_record);
        }
    }

    /// Whether a timeout or a signal ends the run now.
    ///
    /// # Errors
    /// As [`MessageSource::undelivered`], where that leaves anything undelivered.
    fn is_stopped(&mut self, now: Instant) -> Outcome<bool> {
        let stop = self.events.stop_requested();
        if stop > Stop::No && self.timeouts.begin_stop(now) {
            self.source.stop_reading(now)?;
            self.report.info("delivering what was read, then stopping; signal again to stop immediately");
        }
        self.timeouts.observe(self.source.awaits_delivery(self.in_flight()), now);
        let why = match stop {
            Stop::AtOnce => Some((Exit::DataLost, STOPPED_AT_ONCE)),
            Stop::No | Stop::Gracefully => self.timeouts.expired(now),
        };
        if (why.is_some() || self.timeouts.is_end_overdue(now)) && self.is_written()? {
            self.report.info("everything was written, but the receiver did not confirm the end of the stream");
            if let Some(payload) = self.stream.end_early(now, &mut self.rng)? {
                self.publish(OutgoingMessage::Control(payload))?;
            }
            return Ok(true);
        }
        match why {
            Some((exit, what)) if !self.source.is_delivered() => {
                self.source.stop_reading(now)?;
                Err(SendFailure::GivenUp(self.undelivered(exit, what)))
            }
            stopped => Ok(stopped.is_some() || self.source.is_others_turn()),
        }
    }

    /// Whether the receiver has written all of the input, so that only the confirm of the end is missing. The broker
    /// has that end, and so has a spool.
    fn is_written(&self) -> Result<bool> {
        let has_rest = !self.source.has_all_input() || self.source.pending(Pending::default()).messages > 0;
        Ok(!has_rest && self.events.broker.unacknowledged().messages == 0 && self.stream.is_written()?)
    }

    /// What was published and is not delivered: to the broker, or with `--confirm` to the receiver.
    pub(super) fn in_flight(&self) -> Pending {
        let messages = self.events.broker.unacknowledged().messages as u64;
        let broker = Pending { messages, bytes: self.data_in_flight.bytes() };
        larger(broker, self.stream.unconfirmed())
    }

    /// How far the run has come: what was read and is delivered.
    fn progress(&self) -> RunProgress {
        let (input, pending) = (self.source.input(), self.pending());
        let (messages, bytes) = (count(pending.messages, "message"), short_size(pending.bytes));
        RunProgress {
            bytes: input.bytes_read().saturating_sub(pending.bytes),
            total: input.total(),
            lines: input.lines_read(),
            under_way: format!("{messages} ({bytes}) unacknowledged"),
        }
    }

    fn pending(&self) -> Pending {
        self.source.pending(self.in_flight())
    }

    /// The error of ending now for a reason that says it all.
    pub(super) fn unfinished(&self, exit: Exit, what: &str) -> Error {
        self.source.undelivered(exit, what, self.in_flight())
    }
}
