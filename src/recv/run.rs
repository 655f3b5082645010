//! The loop of sts-recv: from SUBSCRIBE to the last PUBACK, whatever the link and the output are.

use std::time::{Duration, Instant};

use super::idle_timeout::IdleTimeout;
use super::incoming::{GivenUp, IncomingStreams, Supply};
use super::left_messages::LeftMessages;
use super::printer::Printer;
use super::{RecvOptions, SESSION_ENDED, Scope};
use crate::config::{Config, MIN_MESSAGE};
use crate::event_loop::{BrokerEvent, EventLoop, STOP_TIMEOUT, Stop, next_deadline};
use crate::mqtt::Qos;
use crate::report::Reporter;
use crate::stdio::Written;
use crate::text::count;
use crate::{Error, Exit, Result};

/// How long the broker may take to acknowledge the last confirms, before a run leaves that has all its lines.
const ENDS_TIMEOUT: Duration = Duration::from_secs(3);

/// The hint where standard output failed, and the broker waits for acknowledgements.
const RESENT: &str =
    "data that was not written was not acknowledged: with a `clientid`, the broker resends it (sts.conf(5))";

/// The error of a run that wanted more lines than it got. With `--once`, a complete stream is all that there is.
fn short_of_lines(printer: &Printer, options: &RecvOptions, timed_out: bool, has_all: bool) -> Option<Error> {
    let (written, wanted) = printer.short_count()?;
    let what = if timed_out { "timed out" } else { SESSION_ENDED };
    let why = format!("{written} of {} were received", count(wanted, "line"));
    let is_short = timed_out || (has_all && options.scope != Scope::FirstStream);
    is_short.then(|| Error::new(Exit::TryAgain, what).because(why))
}

/// Why a run ends.
enum End {
    /// By itself, as an option asks, or as the peer ended its last session: its exit status tells what was lost.
    BySelf {
        /// For lack of messages, before all came that was wanted.
        timed_out: bool,
    },
    /// By a signal, or because standard output was closed.
    Stopped,
    /// The broker refuses the connection.
    Refused(Error),
    /// The broker sends nothing more, for what is left with it.
    Starved(Error),
}

/// One run, from SUBSCRIBE to the last PUBACK.
pub(super) struct RecvRun<'a> {
    pub(super) config: &'a Config,
    pub(super) idle_timeout: IdleTimeout,
    pub(super) report: &'a Reporter,
    pub(super) events: EventLoop<'a>,
    pub(super) streams: Box<dyn IncomingStreams + 'a>,
    pub(super) printer: Printer,
    pub(super) left: LeftMessages,
    /// The broker has accepted the subscription.
    pub(super) is_subscribed: bool,
}

impl RecvRun<'_> {
    /// Receives, then tells the senders and the broker what was written. Returns what the user is to know of it.
    pub(super) fn finish(mut self, kept: Vec<BrokerEvent>, options: &RecvOptions) -> Result<()> {
        let received = self.receive(kept);
        self.report.status("");
        // Even if it failed.
        let told = self.tell_written().and(self.streams.close(Instant::now()));
        let nothing_came = received.as_ref().ok().and_then(|end| self.nothing_came(end));
        let Self { events, mut streams, printer, report, .. } = self;
        // What the broker does not know to be acknowledged comes again, and is dropped as a repeat then.
        events.close()?;
        let end = received?;
        told?;
        match end {
            // A confirm that the broker does not accept is no data that is lost.
            End::Refused(error) if error.exit() == Exit::DataLost => Err(error.exit_as(Exit::Unavailable)),
            End::Refused(error) => Err(error),
            End::Starved(error) => {
                streams.report_unfinished();
                Err(error)
            }
            End::Stopped => {
                streams.report_unfinished();
                Ok(())
            }
            End::BySelf { timed_out } => {
                // In any case, as it reports what is missing.
                let verdict = streams.verdict(timed_out);
                let cause = nothing_came.or_else(|| short_of_lines(&printer, options, timed_out, verdict.is_ok()));
                let Some(cause) = cause else { return verdict };
                Err(match verdict {
                    // With `-q`, nothing else says so.
                    Err(lost) if lost.exit() == Exit::DataLost => cause.and_error(Some(&lost)),
                    Err(error) => {
                        report.warn(&error);
                        cause
                    }
                    Ok(()) => cause,
                })
            }
        }
    }

    /// The turns of the loop, after what was `kept` while there was no session; returns when all that was received is
    /// written, or standard output is closed.
    fn receive(&mut self, kept: Vec<BrokerEvent>) -> Result<End> {
        let now = Instant::now();
        kept.into_iter().try_for_each(|event| self.handle(event, now))?;
        loop {
            let now = self.events.begin_turn();
            if let Some(refusal) = self.take_events(now)? {
                self.drain()?;
                return Ok(End::Refused(refusal));
            }
            self.streams.follow_changes(now)?;
            if self.events.is_progress_due(now) {
                self.events.tell_progress(&self.printer.progress(), now);
            }
            // Before anything is given up for taking too long: while nothing is read, nothing can come.
            self.pause_reading(self.is_full(), now);
            self.take_released(GivenUp::Nothing, now)?;
            self.printer.release(now);
            self.give_up(now)?;
            if self.write(now)? == Written::Closed {
                return Ok(End::Stopped);
            }
            self.send_confirms(false, now)?;
            if self.events.stop_requested() > Stop::No {
                self.drain()?;
                return Ok(End::Stopped);
            }
            if let Some(end) = self.has_ended(now)? {
                return Ok(end);
            }
            // Again, as there may be room now: then the wait returns at once for the messages that are queued already,
            // and nothing more is read before they are taken.
            self.pause_reading(self.is_full(), now);
            self.wait(now)?;
        }
    }

    /// Takes what the broker did, as far as there is room for it; returns its refusal.
    fn take_events(&mut self, now: Instant) -> Result<Option<Error>> {
        while !self.is_full() {
            match self.events.next_event() {
                Err(refusal) => return Ok(Some(refusal.error)),
                Ok(None) => break,
                Ok(Some(BrokerEvent::TooLong(refusal))) if !self.limit_messages() => return Ok(Some(refusal)),
                Ok(Some(event)) => self.handle(event, now)?,
            }
        }
        Ok(None)
    }

    /// Whether so much waits, for standard output or for space on the disk, that nothing more is to be received.
    fn is_full(&self) -> bool {
        self.printer.is_full() || self.streams.waits_for_space()
    }

    fn handle(&mut self, event: BrokerEvent, now: Instant) -> Result<()> {
        match event {
            BrokerEvent::Message(message) => {
                self.left.received(message.qos, now);
                let disposition = self.streams.receive(message, now)?;
                if disposition.restarts_timeout() {
                    self.idle_timeout.restart(now);
                }
                self.dispose(disposition, now)?;
            }
            BrokerEvent::Oversize { len, receipt } => {
                self.streams.reject_oversize(len, now);
                self.printer.acknowledge(receipt);
            }
            BrokerEvent::Subscribed { requested, granted, .. } => {
                let topic = &self.config.subscribe;
                self.is_subscribed = true;
                self.streams.subscribed(now);
                self.report.verbose(format_args!("listening on {topic}"));
                if granted < requested {
                    self.report.warning(format_args!(
                        "the broker granted QoS {granted} on {topic} instead of {requested}: \
                         it does not resend lost messages"
                    ));
                }
            }
            BrokerEvent::Disconnected => {
                self.left.disconnected();
                self.streams.disconnected();
            }
            BrokerEvent::Connected => drop(self.limit_messages()),
            // Confirms and answers: a peer that lacks one asks again.
            BrokerEvent::TooLong(_) => drop(self.events.broker.withdraw()),
            BrokerEvent::Acknowledged(_) => {}
        }
        Ok(())
    }

    /// Keeps what is published to the length that the broker bears; false where that is too little for anything.
    fn limit_messages(&mut self) -> bool {
        let max_message = self.events.broker.max_payload(self.config.publish.as_str());
        max_message >= MIN_MESSAGE && self.streams.limit_messages(max_message)
    }

    /// Writes what waits for something that is given up: anything at the timeout, otherwise what a peer sent last
    /// before it ended its sessions.
    fn give_up(&mut self, now: Instant) -> Result<()> {
        if self.is_idle(now) {
            self.take_released(GivenUp::All, now)?;
            self.printer.flush();
            return Ok(());
        }
        let late = self.streams.late_sessions(now);
        if !late.is_empty() {
            self.take_released(GivenUp::Sessions(&late), now)?;
            self.printer.flush_sessions(&late);
        }
        Ok(())
    }

    /// Stops reading from the broker, or goes on: what standard output does not take must wait there.
    pub(super) fn pause_reading(&mut self, paused: bool, now: Instant) {
        self.events.pause_reading(paused, now);
        let is_stalled = paused || !self.events.is_connected();
        // What is not written is not acknowledged either.
        self.left.set_stalled(is_stalled || !self.printer.is_idle(), now);
        self.streams.set_supply(if is_stalled { Supply::Stalled } else { self.left.supply() }, now);
    }

    /// Writes what standard output takes now.
    ///
    /// What is owed for each write is settled before the next: killed in between, at most that one, and the message
    /// that it ended in, come again.
    fn write(&mut self, now: Instant) -> Result<Written> {
        loop {
            let written = self.printer.write_ready();
            self.complete_written(now)?;
            match written {
                Ok(Written::Some) if self.printer.unwritten() > 0 => {}
                // The wait finds out whether there still is a reader.
                Ok(Written::Some) => return Ok(Written::Nothing),
                Ok(other) => return Ok(other),
                Err(error) => {
                    self.record_interrupted(now)?;
                    // With QoS 0 the broker keeps nothing.
                    let is_resent = self.config.mqtt.qos > Qos::AtMostOnce;
                    return Err(error.hint_if(is_resent.then(|| RESENT.to_owned())));
                }
            }
        }
    }

    /// Tells senders that ask how far standard output took their streams.
    fn send_confirms(&mut self, all: bool, now: Instant) -> Result<()> {
        // Until there is room the confirms wait, and say more then.
        if !self.events.broker.has_room(2 * self.config.mqtt.max_message) {
            return Ok(());
        }
        for confirm in self.streams.due_confirms(all, now)? {
            self.events.publish_or_drop(&confirm.topic, confirm.frame, confirm.qos)?;
        }
        Ok(())
    }

    /// Tells senders that ask what was written, when a run ends.
    fn tell_written(&mut self) -> Result<()> {
        self.send_confirms(true, Instant::now())?;
        if self.printer.has_all_lines() { self.take_ends() } else { Ok(()) }
    }

    /// After the last line that was wanted, takes what carries no data of the streams that were written, until the broker
    /// has the last confirm: the end of a stream is usually right after the data, and its sender waits for nothing else.
    fn take_ends(&mut self) -> Result<()> {
        let until = Instant::now() + ENDS_TIMEOUT;
        loop {
            let now = self.events.begin_turn();
            self.pause_reading(false, now);
            // A refusal takes nothing away from the lines that were written.
            while let Ok(Some(event)) = self.events.next_event() {
                if let BrokerEvent::Message(message) = event
                    && let Some(completion) = self.streams.receive_without_data(message, now)?
                {
                    self.printer.complete(completion);
                }
            }
            self.complete_written(now)?;
            self.send_confirms(true, now)?;
            let is_over = self.events.broker.unacknowledged().messages == 0 || !self.events.is_connected();
            if is_over || now >= until || self.events.stop_requested() > Stop::No {
                return Ok(());
            }
            self.events.wait(None, Some(until), now)?;
        }
    }

    /// Whether an option ends the run now.
    fn has_ended(&mut self, now: Instant) -> Result<Option<End>> {
        if self.printer.is_flushed() {
            for receipt in self.streams.delete_ended_sessions(&|session| self.printer.holds_session(session), now)? {
                self.events.broker.ack(receipt);
            }
        }
        let is_idle = self.is_idle(now);
        let (is_complete, has_all_lines) = (self.streams.is_complete(), self.printer.has_all_lines());
        if is_complete {
            self.printer.flush();
        }
        let ends = (is_complete && self.streams.linger_until(now).is_none()) || is_idle || has_all_lines;
        let timed_out = is_idle && !is_complete && !has_all_lines;
        if ends || is_complete {
            return Ok((ends && self.printer.is_flushed()).then_some(End::BySelf { timed_out }));
        }
        if let Some(notice) = self.left.take_notice(now) {
            self.report.warning(notice);
        }
        let is_starved = self.left.deadline().is_some_and(|deadline| now >= deadline);
        Ok(self.left.error().filter(|_| is_starved).map(End::Starved))
    }

    /// Whether nothing was received for as long as the run waits.
    fn is_idle(&self, now: Instant) -> bool {
        self.idle_timeout.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// The error of a run that timed out although nothing could come, or where the broker may have withheld what was
    /// wanted.
    fn nothing_came(&self, end: &End) -> Option<Error> {
        let End::BySelf { timed_out: true } = end else { return None };
        self.unreachable().or_else(|| self.left.error())
    }

    /// The error of a run that timed out although nothing could come.
    fn unreachable(&self) -> Option<Error> {
        let what = "timed out";
        self.events.unreachable(what).or_else(|| {
            let (endpoint, topic) = (self.events.broker.endpoint(), &self.config.subscribe);
            let why = format!("the broker at {endpoint} did not grant the subscription to {topic}");
            (!self.is_subscribed).then(|| Error::new(Exit::Unavailable, what).because(why))
        })
    }

    /// Waits until standard output took what was received. A second signal ends that at once, and so does a first one
    /// if standard output takes nothing for a while.
    fn drain(&mut self) -> Result<()> {
        let now = Instant::now();
        // What the broker keeps comes again, perhaps with the rest of what it waits for.
        if self.streams.holds_unkept(&|qos| self.events.broker.keeps(qos)) {
            self.take_released(GivenUp::All, now)?;
        }
        self.printer.flush();
        self.pause_reading(true, now);
        let (mut unwritten, mut until) = (self.printer.unwritten(), now + STOP_TIMEOUT);
        loop {
            let now = self.events.begin_turn();
            if self.write(now)? == Written::Closed || self.printer.is_flushed() {
                return Ok(());
            }
            let left = self.printer.unwritten();
            if std::mem::replace(&mut unwritten, left) != left {
                until = now + STOP_TIMEOUT;
            }
            let what = match self.events.stop_requested() {
                Stop::AtOnce => "stopped by a second signal",
                Stop::Gracefully if now >= until => "stopped by a signal",
                Stop::No | Stop::Gracefully => {
                    self.events.wait(Some(self.printer.interest()), Some(until).filter(|until| *until > now), now)?;
                    continue;
                }
            };
            self.record_interrupted(now)?;
            return Err(Error::new(Exit::Failed, what)
                .because(format!("{left} received bytes were not written, and are not acknowledged")));
        }
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        // Past one of these, the run waits for standard output only.
        let own = next_deadline(now, [self.idle_timeout.deadline(), self.left.deadline(), self.left.notice_at()]);
        let streams = [self.streams.deadline(now), self.streams.next_look(now)];
        let deadline = [self.printer.deadline(), own].into_iter().chain(streams).flatten().min();
        self.events.wait_beside(self.streams.changes_fd(now), Some(self.printer.interest()), deadline, now)
    }
}
