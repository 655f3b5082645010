//! The loop of sts-send: reads, seals, publishes and waits, whatever the source and the stream are.
//!
//! Three questions limit what a turn does:
//!
//! - [`SendRun::may_read`]: whether standard input is read further. It is, as long as there is room for one more
//!   message.
//! - [`Gate::is_open`]: whether one more message may be given to the client. The head of `gate.rs` says which messages
//!   ask, and how to add a limit.
//! - [`SendRun::may_seal`]: whether a new message may be made, which then leaves. Some time after a signal,
//!   [`SendRun::takes_no_more`] has none made.

use std::time::Instant;

use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use super::failure::RunResult;
use super::gate::Gate;
use super::last_will::LastWill;
use super::outgoing::{OutgoingMessage, OutgoingStream};
use super::reply_topics::ReplyTopics;
use super::retried_failure::{FailureCause, RetriedFailure};
use super::source::{MessageSource, NextMessage, Turn};
use super::timeouts::Timeouts;
use crate::Result;
use crate::event_loop::{BrokerEvent, EventLoop};
use crate::mqtt::{Client, Refused};
use crate::report::Reporter;

/// What the broker has of a run on each connection: where replies arrive, and what it says if the run dies.
pub(super) struct Registration {
    pub(super) reply_topics: ReplyTopics,
    pub(super) will: LastWill,
}

impl Registration {
    /// With a new session or stream, it may be another.
    pub(super) fn follow(
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
    pub(super) report: &'a Reporter,
    pub(super) source: Box<dyn MessageSource + 'a>,
    pub(super) stream: Box<dyn OutgoingStream>,
    pub(super) registration: Registration,
    pub(super) gate: Gate<'a>,
    pub(super) timeouts: Timeouts,
    pub(super) retried: RetriedFailure,
    pub(super) rng: ThreadRng,
}

impl SendRun<'_> {
    /// Sends all of the source; returns once that is delivered, or the run is stopped.
    pub(super) fn deliver(&mut self) -> RunResult<()> {
        let now = Instant::now();
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        self.events.broker.connect(now);
        loop {
            let now = self.events.begin_turn();
            self.source.input().polled(self.events.take_own_ready());
            self.handle_events(now)?;
            self.stream.follow_changes(now)?;
            if self.events.is_progress_due(now) {
                self.events.tell_progress(&self.progress(), now);
            }
            if self.is_stopped(now)? {
                return Ok(());
            }
            self.transfer(now)?;
            if self.source.is_done(&*self.stream) && self.pending().messages == 0 {
                if self.source.leave()? {
                    return Ok(self.publish_settled(now)?);
                }
                // Else it cannot leave yet, and waits for that.
                if !self.source.is_done(&*self.stream) {
                    continue;
                }
            }
            if self.ends_refused()? {
                return Ok(());
            }
            let deadline = self.deadline(now);
            let input = self.source.input_fd(self.may_read(now)).map(|fd| (fd, PollFlags::IN));
            self.events.wait_beside(self.stream.changes_fd(now), input, deadline, now)?;
        }
    }

    /// Reads, seals and publishes until no more of that is possible without waiting.
    ///
    /// What is due ([`SendRun::publish_due`]) comes before new messages. The receiver accepts the messages
    /// of a stream that wants confirms in order only: it would drop each new one that overtakes one that it lacks. If
    /// new ones took the room first, nothing that was sent could be of use.
    fn transfer(&mut self, now: Instant) -> RunResult<()> {
        let connected = self.events.is_connected();
        self.gate.advance(now);
        if self.events.was_woken() {
            self.source.woken()?;
        }
        loop {
            let was_switching = self.stream.is_switching();
            let mut progressed = self.publish_due(now)?;
            let may_read = self.may_read(now);
            let mut turn = Turn { now, connected, rng: &mut self.rng };
            self.source.fill(may_read, &mut *self.stream, &mut turn)?;
            while let NextMessage::Message(message) = self.next_message(now)? {
                self.publish(message, now)?;
                progressed = true;
            }
            progressed |= self.leave_stream(now)?;
            // The next message may have found that another stream is due, which is said first, or the next stream was
            // entered.
            progressed |= self.stream.is_switching() != was_switching;
            // Each of these may have made room for what was read before, of which poll(2) would not tell.
            if !progressed {
                break;
            }
        }
        if let Some(space) = self.stream.space() {
            space.tell("what is sent", self.report);
        }
        self.observe_waiting(now);
        Ok(self.source.sync()?)
    }

    /// Whether standard input is read further: if the client and the stream have room for one more message of any
    /// length, which the broker may limit, and no full disk holds up the stream.
    fn may_read(&self, now: Instant) -> bool {
        let (broker, topic) = (&self.events.broker, self.stream.topic());
        let has_space = self.stream.space().is_none_or(|space| space.may_write(now));
        has_space && broker.knows_broker_limits() && self.gate.client_has_room(broker, topic) && self.stream_has_room()
    }

    /// The next new message, where one may be made.
    fn next_message(&mut self, now: Instant) -> RunResult<NextMessage> {
        if !self.may_seal() || self.takes_no_more(now) {
            return Ok(NextMessage::Blocked);
        }
        let mut turn = Turn { now, connected: self.events.is_connected(), rng: &mut self.rng };
        let next = self.source.next(&mut *self.stream, &mut turn);
        Ok(self.unless_retried(next, now)?.unwrap_or(NextMessage::Blocked))
    }

    pub(super) fn is_gate_open(&self) -> bool {
        self.overtaken().is_none() && self.gate.is_open(&self.events, self.stream.topic())
    }

    /// Whether one more message may be sealed, which then leaves: if the gate is open, and the stream has room. Until
    /// the broker had a chance to say how long messages may be, none is cut.
    fn may_seal(&self) -> bool {
        self.events.broker.knows_broker_limits() && self.is_gate_open() && self.stream_has_room()
    }

    /// Whether the stream has room for one more message, which must not overtake those that are made and not published.
    fn stream_has_room(&self) -> bool {
        self.stream.unpublished().messages == 0 && self.stream.has_room(self.gate.max_message())
    }

    /// The one way from the run to the client: as [`Gate::pass`].
    pub(super) fn publish(&mut self, message: OutgoingMessage, now: Instant) -> Result<()> {
        // What is sent again is of an earlier session.
        if message.new_data_len() > 0 {
            self.succeeded(FailureCause::Stream);
        }
        if let Some(token) = self.gate.pass(message, self.stream.topic(), &mut self.events, now)? {
            self.source.published(token);
        }
        Ok(())
    }

    /// Leaves a stream that is closed and delivered to its end, for the next one; true if it did.
    fn leave_stream(&mut self, now: Instant) -> Result<bool> {
        if self.in_flight().messages > 0 || !self.source.is_stream_closed(&*self.stream) {
            return Ok(false);
        }
        self.publish_settled(now)?;
        self.source.leave_stream(&mut *self.stream)?;
        Ok(true)
    }

    /// Publishes the last message of a stream, on the topic that it has until it is left.
    fn publish_settled(&mut self, now: Instant) -> Result<()> {
        match self.stream.seal_settled(&mut self.rng)? {
            Some(payload) => self.publish(OutgoingMessage::Unordered(payload), now),
            None => Ok(()),
        }
    }

    pub(super) fn handle_events(&mut self, now: Instant) -> RunResult<()> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => self.handle_event(event, now)?,
                Ok(None) => {
                    self.source.acknowledged_all()?;
                    if let Some(refusal) = self.gate.take_uncut() {
                        self.cut_again(refusal, now)?;
                    }
                    return self.restore_order(now);
                }
                Err(refusal) => self.fail(FailureCause::Refused(refusal.of), refusal.error, now)?,
            }
        }
    }

    fn handle_event(&mut self, event: BrokerEvent, now: Instant) -> RunResult<()> {
        match event {
            BrokerEvent::Connected => {
                self.report.ready();
                self.succeeded(FailureCause::Refused(Refused::Connection));
                self.registration.will.connected(&mut self.events.broker);
                self.limit_messages();
            }
            BrokerEvent::Disconnected => {
                self.retried.disconnected(now);
                self.registration.reply_topics.disconnected();
                self.registration.will.disconnected();
            }
            BrokerEvent::TooLong(refusal) => self.cut_again(refusal, now)?,
            BrokerEvent::Subscribed { filter, .. } => {
                self.succeeded(FailureCause::Refused(Refused::Subscription));
                self.registration.reply_topics.subscription_accepted(&filter);
            }
            BrokerEvent::Acknowledged(token) => {
                self.succeeded(FailureCause::Refused(Refused::Message));
                self.gate.acknowledged(token);
                // That the broker has a message says nothing of the receiver: it drops one that was overtaken.
                if !self.stream.is_confirmed() && self.overtaken().is_none_or(|oldest| token < oldest) {
                    self.timeouts.progress(now);
                    self.source.acknowledged(token)?;
                }
            }
            BrokerEvent::Message(message) => {
                self.handle_reply(&message, now)?;
                self.events.broker.ack(message.receipt);
            }
            BrokerEvent::Oversize { receipt, .. } => self.events.broker.ack(receipt),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    //! A run in virtual time, with a broker that acknowledges nothing.

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::num::NonZeroU16;
    use std::os::unix::net::UnixStream;
    use std::path::Path;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::config::{Config, ConfigSource};
    use crate::event_loop::STOP_TIMEOUT;
    use crate::event_loop::tests::connected;
    use crate::name::LinkName;
    use crate::pace::Pace;
    use crate::report::Level;
    use crate::send::cutter::Cutter;
    use crate::send::intake::Intake;
    use crate::send::plain::PlainStream;
    use crate::send::rate_limit::RateLimit;
    use crate::send::read_times::ReadTimes;
    use crate::send::record_check::RecordCheck;
    use crate::send::spooled::Spooled;
    use crate::spool::{Opening, Owner, Record, RecordStore, SpoolOptions, SpoolReceiver};
    use crate::stdio::{Input, Signals, Split};
    use crate::units::Size;

    const INTERVAL: Duration = Duration::from_millis(100);

    /// Accepts the next connection, and does nothing more with it.
    fn accept(listener: &TcpListener) -> TcpStream {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(&[0x20, 2, 0, 0]).unwrap();
        stream
    }

    /// A source with these records in its spool, and no input.
    fn spooled<'a>(dir: &Path, records: &[&[u8]], report: &'a Reporter) -> Spooled<'a> {
        let options = SpoolOptions { dir: dir.join("spool"), max: Size::new(1 << 20), keeps_times: false };
        let link: LinkName = "plant".parse().unwrap();
        let owner = Owner { link: &link, receiver: SpoolReceiver::Anyone };
        let (mut spool, cut_off) = Opening::new(&options, owner).attempt().unwrap().expect("no other run sends");
        let records: Vec<_> = records.iter().map(|bytes| Record { bytes, sent: None }).collect();
        spool.append(&records).unwrap();
        let mut cutter = Cutter::new(Split::Each, RecordCheck::AnyBytes);
        cutter.limit(1024);
        let intake = Intake::new(Input::stdin().unwrap(), cutter, ReadTimes::new(false, report), report);
        Spooled::new(intake, spool, cut_off, 0, report)
    }

    /// With a spool of five lines, at one message per [`INTERVAL`] and QoS 1. Also the broker's side, and where signals are sent.
    fn run<'a>(dir: &Path, config: &'a Config, report: &'a Reporter) -> (SendRun<'a>, TcpStream, UnixStream) {
        let (signals, sent) = Signals::simulated();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = thread::spawn(move || accept(&listener));
        let (events, _) = connected(port, signals, report);
        let rate_limits = vec![RateLimit::Messages(Pace::new(NonZeroU16::MIN, INTERVAL))];
        let run = SendRun {
            events,
            report,
            source: Box::new(spooled(dir, &[b"1\n", b"2\n", b"3\n", b"4\n", b"5\n"], report)),
            stream: Box::new(PlainStream::new(config, Split::Each)),
            registration: Registration {
                reply_topics: ReplyTopics::default(),
                will: LastWill::new(None, config.mqtt.qos),
            },
            gate: Gate::new(&config.mqtt, rate_limits),
            timeouts: Timeouts::new(None, false),
            retried: RetriedFailure::none(),
            rng: rand::rng(),
        };
        (run, broker.join().unwrap(), sent)
    }

    fn config() -> Config {
        let text = "sts_mode = nosec\nsubtop = a\npubtop = b\nip = 127.0.0.1\nclientid = sender\n";
        let source = ConfigSource { link: "plant".parse().unwrap(), path: "plant.conf".into() };
        Config::parse(&source, text, &[], &mut |_| panic!("no file is read")).unwrap().config
    }

    #[test]
    fn a_stopped_run_with_a_rate_limit_leaves_its_spool_though_it_is_never_without_a_message_in_flight() {
        let (dir, config) = (tempfile::tempdir().unwrap(), config());
        let report = Reporter::to("sts-test", Level::Error, Box::new(std::io::sink()));
        let (mut run, _broker, mut sent) = run(dir.path(), &config, &report);
        let start = Instant::now();
        run.transfer(start).unwrap();
        sent.write_all(b"X").unwrap();
        assert!(!run.is_stopped(start).unwrap());
        run.transfer(start + INTERVAL).unwrap();
        let in_flight = |run: &SendRun<'_>| run.events.broker.unacknowledged().messages;
        assert_eq!(in_flight(&run), 2, "a signal opens no gate and shuts none");
        // The broker has answered for earlier ones meanwhile.
        let overdue = start + STOP_TIMEOUT;
        run.timeouts.progress(start + STOP_TIMEOUT / 2);
        assert!(!run.is_stopped(overdue).unwrap(), "the next run would send it again");
        run.transfer(overdue).unwrap();
        assert_eq!(in_flight(&run), 2, "it begins no other one");
    }
}
