//! The loop of sts-send: reads, seals, publishes and waits, whatever the source and the stream are.
//!
//! What limits sending is decided here and nowhere else. A limit by time, say of bytes per second, belongs in three places,
//! which every frame passes in every mode:
//!
//! - [`SendRun::may_publish`] says whether there is room for one more frame, a retransmission included. Without room nothing is
//!   sealed, and standard input is not read further than into the spool.
//! - [`SendRun::publish`] is the one way out, where what leaves can be counted.
//! - [`SendRun::deadline`] is the one time that wakes the run if nothing else happens: when room comes with time.
//!
//! Below that, the client sends what was in flight when a connection broke again on the next one, by itself.

use std::time::Instant;

use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use super::outgoing::{OutgoingStream, Publication};
use super::reply_topics::ReplyTopics;
use super::source::{MessageSource, Turn, larger};
use super::timeouts::Timeouts;
use crate::config::Mqtt;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::mqtt::Qos;
use crate::report::Reporter;
use crate::spool::Pending;
use crate::{Error, Exit, Result};

/// One run, from the first byte to the last acknowledgement.
pub(super) struct SendRun<'a> {
    pub(super) events: EventLoop<'a>,
    pub(super) mqtt: &'a Mqtt,
    pub(super) report: &'a Reporter,
    pub(super) source: Box<dyn MessageSource + 'a>,
    pub(super) stream: Box<dyn OutgoingStream>,
    pub(super) reply_topics: ReplyTopics,
    pub(super) timeouts: Timeouts,
    pub(super) rng: ThreadRng,
}

impl SendRun<'_> {
    /// Sends all of the source, and ends the connection.
    pub(super) fn finish(mut self) -> Result<()> {
        let delivered = self.deliver().and_then(|()| self.events.close().map(drop));
        let closed = self.source.close();
        delivered.and(closed)
    }

    fn deliver(&mut self) -> Result<()> {
        let now = Instant::now();
        self.reply_topics.follow(&*self.stream, &mut self.events.broker, now)?;
        self.events.broker.connect(now);
        loop {
            let now = self.events.begin_turn();
            self.handle_events(now)?;
            if self.timeouts.is_end_overdue(now) && self.is_written()? {
                self.report.info("everything was written, but the receiver did not confirm the end of the stream");
                return Ok(());
            }
            self.check_timeouts(now)?;
            if let Err(stopped) = self.handle_signals(now) {
                return if self.is_written()? { Ok(()) } else { Err(stopped) };
            }
            self.transfer(now)?;
            if self.source.is_done(&*self.stream) && self.pending().messages == 0 {
                return self.settle();
            }
            let deadline = self.deadline(now);
            let input = self.source.input_fd(self.may_seal()).map(|fd| (fd, PollFlags::IN));
            self.events.wait(input, deadline, now)?;
        }
    }

    /// Reads, seals and publishes until no more of that is possible without waiting.
    fn transfer(&mut self, now: Instant) -> Result<()> {
        let connected = self.events.is_connected();
        loop {
            let room = self.may_seal();
            let mut turn = Turn { now, connected, rng: &mut self.rng };
            self.source.fill(room, &mut *self.stream, &mut turn)?;
            let mut progressed = false;
            while self.may_seal() {
                let mut turn = Turn { now, connected, rng: &mut self.rng };
                let Some(publication) = self.source.next(&mut *self.stream, &mut turn)? else { break };
                self.publish(publication)?;
                progressed = true;
            }
            progressed |= self.publish_control(now)?;
            progressed |= self.leave_stream(now)?;
            // Each of these may have made room for what was read before, of which poll(2) would not tell.
            if !progressed {
                break;
            }
        }
        self.timeouts.observe(self.source.awaits_delivery(self.in_flight()), now);
        self.source.sync()
    }

    /// Whether there is room for one more frame of the longest kind. The one place where sending is limited.
    fn may_publish(&self) -> bool {
        self.events.broker.has_room(self.stream.topic().len() + self.mqtt.max_message)
    }

    /// Whether there is room for one more message, too: at the broker, and among those that wait for a confirm.
    fn may_seal(&self) -> bool {
        self.may_publish() && self.stream.has_room(self.mqtt.max_message)
    }

    /// The one way out.
    pub(super) fn publish(&mut self, publication: Publication) -> Result<()> {
        let (qos, retain) = (self.mqtt.qos, self.mqtt.retain);
        match publication {
            Publication::Message(payload) => {
                self.events.broker.publish(self.stream.topic(), payload, qos, retain).map(drop)
            }
            Publication::Record(payload) => {
                let token = self.events.broker.publish(self.stream.topic(), payload, qos, retain)?;
                self.source.published(token);
                Ok(())
            }
            Publication::BestEffort { topic, frame } => self.events.publish_or_drop(&topic, frame, Qos::AtMostOnce),
        }
    }

    /// When to wake if nothing happens before. Never in the past: what was due by now is done, or waits for something else
    /// than time.
    fn deadline(&self, now: Instant) -> Option<Instant> {
        let others = [self.stream.deadline(), self.source.deadline(now)].into_iter().flatten();
        self.timeouts.deadlines().chain(others).filter(|at| *at > now).min()
    }

    /// Sends again what the receiver has not confirmed, and what is said between two streams; true if it did either, or
    /// entered the next stream.
    fn publish_control(&mut self, now: Instant) -> Result<bool> {
        let can_receive = self.reply_topics.are_subscribed() && self.events.broker.unacknowledged().messages == 0;
        if !can_receive {
            self.stream.ignore_silence(now);
        }
        let had_room = self.stream.has_room(0);
        let mut progressed = false;
        while self.may_publish()
            && let Some(payload) = self.stream.next_control(now, &mut self.rng)?
        {
            self.publish(Publication::Message(payload))?;
            progressed = true;
        }
        progressed |= self.stream.has_room(0) != had_room;
        self.reply_topics.follow(&*self.stream, &mut self.events.broker, now)?;
        if can_receive && self.stream.unconfirmed().messages > 0 && self.timeouts.is_silent(now) {
            self.handle_silence(now)?;
        }
        Ok(progressed)
    }

    /// Leaves a stream that is closed and delivered to its end, for the next one; true if it did.
    fn leave_stream(&mut self, now: Instant) -> Result<bool> {
        if self.in_flight().messages > 0 || !self.source.is_stream_closed(&*self.stream) {
            return Ok(false);
        }
        self.settle()?;
        self.source.leave_stream(&mut *self.stream, now)?;
        Ok(true)
    }

    /// Publishes the last message of a stream, on the topic that it has until it is left.
    fn settle(&mut self) -> Result<()> {
        match self.stream.settle(&mut self.rng)? {
            Some(payload) => self.publish(Publication::Message(payload)),
            None => Ok(()),
        }
    }

    fn handle_events(&mut self, now: Instant) -> Result<()> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => self.handle_event(event, now)?,
                Ok(None) => return Ok(()),
                Err(refusal) => {
                    if self.pending().messages > 0 {
                        self.report.info(self.undelivered(Exit::Failed, "refused by the broker"));
                    }
                    return Err(refusal);
                }
            }
        }
    }

    fn handle_event(&mut self, event: BrokerEvent, now: Instant) -> Result<()> {
        match event {
            BrokerEvent::Connected => {}
            BrokerEvent::Disconnected => self.reply_topics.disconnected(),
            BrokerEvent::Subscribed { filter, .. } => self.reply_topics.subscription_accepted(&filter),
            // That the broker has a message says nothing of the receiver.
            BrokerEvent::Acknowledged(_) if self.stream.is_confirmed() => {}
            BrokerEvent::Acknowledged(token) => {
                self.timeouts.progress(now);
                self.source.acknowledged(token)?;
            }
            BrokerEvent::Message(message) => {
                self.handle_reply(&message.payload, now)?;
                self.events.broker.ack(message.receipt);
            }
            BrokerEvent::Oversize { receipt, .. } => self.events.broker.ack(receipt),
        }
        Ok(())
    }

    fn check_timeouts(&mut self, now: Instant) -> Result<()> {
        self.timeouts.observe(self.source.awaits_delivery(self.in_flight()), now);
        let Some(why) = self.timeouts.expired(now) else { return Ok(()) };
        Err(match self.events.unreachable(why) {
            Some(cause) => self.undelivered(cause.exit(), &cause.to_string()),
            None => self.undelivered(Exit::TryAgain, why),
        })
    }

    fn handle_signals(&mut self, now: Instant) -> Result<()> {
        match self.events.stop_requested() {
            Stop::No => Ok(()),
            Stop::Gracefully => {
                if self.timeouts.begin_stop(now) {
                    self.source.stop_reading();
                    self.report.info("delivering what was read, then stopping; signal again to stop immediately");
                }
                Ok(())
            }
            Stop::AtOnce => Err(self.undelivered(Exit::DataLost, "stopped by a second signal")),
        }
    }

    /// Whether the receiver has written all of the input, so that only the confirm of the end is missing. The broker has that
    /// end, and so has a spool.
    fn is_written(&self) -> Result<bool> {
        let has_rest = self.source.pending(Pending::default()).messages > 0;
        Ok(!has_rest && self.events.broker.unacknowledged().messages == 0 && self.stream.is_written()?)
    }

    /// What was published and is not delivered: to the broker, or with `--confirm` to the receiver.
    fn in_flight(&self) -> Pending {
        let broker = self.events.broker.unacknowledged();
        let broker = Pending { messages: broker.messages as u64, bytes: broker.bytes as u64 };
        larger(broker, self.stream.unconfirmed())
    }

    fn pending(&self) -> Pending {
        self.source.pending(self.in_flight())
    }

    /// The error of ending now for this reason.
    pub(super) fn undelivered(&self, exit: Exit, what: &str) -> Error {
        self.source.undelivered(exit, what, self.in_flight())
    }
}
