//! sts-recv: opens what the peer sealed, writes it to standard output, and acknowledges it only then.
//!
//! A message goes this way, and never turns back:
//!
//! ```text
//! broker -> EventLoop -- Message --> IncomingStreams::receive -- Delivery --> Printer -> standard output
//!                                      (Opened)                                               |
//! broker <- EventLoop <- Receipt --- IncomingStreams::record <-- Completion ------------------+
//! ```
//!
//! 1. `RecvRun` takes the message from the event loop and hands it to the `IncomingStreams` of the link. There are two
//!    implementors, chosen once in [`run`]: `sealed`, and `plain` for `nosec`; with `--last`, a third: `sealed::LastMessages`.
//! 2. They decide what becomes of it, a `Disposition`: deliver, hold, drop, repeat, answer, or leave with the broker. Only the
//!    first of these goes on.
//! 3. A `Delivery` is a message to write. All that is owed once it is written travels with it as its `Completion`: state to
//!    write down, a confirm, a PUBACK.
//! 4. The `Printer` keeps the lines of different streams apart and formats them.
//! 5. Once standard output has taken it, its completion comes back. `IncomingStreams::record` writes the state down, and only
//!    then `RecvRun` acknowledges the message: killed in between, this device gets it again and knows that it is a repeat. Junk
//!    is acknowledged in its turn, so that it does not fill the broker's queue.
//!
//! Where something new belongs:
//!
//! - a type of frame: `SealedStreams::receive`, the `match` over all types;
//! - a kind of content, such as a heartbeat: `stream/kind.rs`, whose head says how to add one. Here that is
//!   `SealedStreams::accept`, the `match` over [`crate::stream::Content`], for which the compiler asks; whether `--once`
//!   leaves it for another run is [`crate::stream::Kind::stays_with_stream`];
//! - a sentence for the user: `sealed::reports`;
//! - an output format: a variant of [`Format`], which the compiler asks for in `printer::format`;
//! - an option: a field of [`RecvOptions`]. What ends a run is in `RecvRun::has_ended`, and its exit status in
//!   `IncomingStreams::verdict`.

mod delivery;
mod first_session;
mod incoming;
mod plain;
mod printer;
mod retained;
mod sealed;

use std::time::{Duration, Instant};

use self::incoming::{Disposition, IncomingStreams};
use self::plain::PlainStreams;
pub use self::printer::Format;
use self::printer::Printer;
use self::retained::RETAINED_TIMEOUT;
use self::sealed::{LastMessages, SealedStreams};
use crate::config::Config;
use crate::event_loop::{BrokerEvent, EventLoop, STOP_TIMEOUT, Stop};
use crate::link::{Link, Tool};
use crate::mqtt::Qos;
use crate::report::Reporter;
use crate::route::Route;
use crate::stdio::{Signals, Written};
use crate::text::count;
use crate::{Error, Exit, Result};

/// How long the broker may take to acknowledge the last confirms, before a run leaves that has all its lines.
const ENDS_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a run ends that no option ends: the peer deleted its last session.
const SESSION_ENDED: &str = "the peer ended the session";

/// What of all that comes a run receives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    #[default]
    All,
    /// The first stream, up to its end.
    FirstStream,
    /// The newest message that the broker kept.
    Retained,
}

/// The options of the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecvOptions {
    /// What of all that comes is received.
    pub scope: Scope,
    /// End after this many lines.
    pub lines: Option<u64>,
    /// Write payloads of a link without encryption as they are; otherwise each ends with a newline.
    pub binary: bool,
    /// End when nothing was received for this long.
    pub timeout: Option<Duration>,
    /// How each line is written.
    pub format: Format,
    /// Without a session, wait for the first one.
    pub wait: bool,
}

impl RecvOptions {
    /// As whom to connect.
    fn tool(&self) -> Tool {
        if self.scope == Scope::Retained { Tool::ReceiveLast } else { Tool::Receive }
    }

    /// When to end if nothing was received.
    fn timeout(&self) -> Option<Duration> {
        self.timeout.or((self.scope == Scope::Retained).then_some(RETAINED_TIMEOUT))
    }
}

/// Receives until a signal or an option ends it.
///
/// # Errors
/// [`Exit::TryAgain`] without a session, where another sts-recv runs on the link, or where a stream was not complete, or
/// fewer than [`RecvOptions::lines`] came, when nothing was received for [`RecvOptions::timeout`]; [`Exit::DataLost`] where
/// data was lost in a run that ended by itself; [`Exit::Unavailable`] where the broker refuses the connection, or where there
/// is none at that time; [`Exit::Failed`] where standard output cannot be written.
pub fn run(link: &Link, options: RecvOptions, report: &Reporter) -> Result<()> {
    let mut broker = link.connect(options.tool(), &mut rand::rng())?;
    let (filter, qos) = subscription(&link.config, &options);
    broker.subscribe(filter, qos, Instant::now())?;
    // Nothing is sent before its first turn.
    let mut events = EventLoop::new(broker, Signals::catch()?, report);
    let mut kept = Vec::new();
    if options.wait {
        match first_session::wait(link, options.timeout, &mut events, report)? {
            Some(events) => kept = events,
            None => return events.close().map(drop),
        }
    }
    let now = Instant::now();
    let streams = open_streams(link, &options, report, now)?;
    let many_peers = link.config.route().as_ref().is_some_and(Route::is_wildcard);
    let printer = Printer::stdout(options.format, options.lines, many_peers, link.config.mqtt.max_message)?;
    RecvRun {
        config: &link.config,
        timeout: options.timeout(),
        report,
        events,
        streams,
        printer,
        last_received: now,
        is_subscribed: false,
    }
    .finish(kept, &options)
}

/// The incoming streams of a link as it is configured.
///
/// # Errors
/// As [`Link::peers`], [`SealedStreams::open`] and [`LastMessages::open`].
fn open_streams<'a>(
    link: &'a Link,
    options: &RecvOptions,
    report: &'a Reporter,
    now: Instant,
) -> Result<Box<dyn IncomingStreams + 'a>> {
    let (once, with_metadata) = (options.scope == Scope::FirstStream, options.format.needs_metadata());
    Ok(match link.peers()? {
        None => Box::new(PlainStreams::new(options, &link.config.subscribe, report)),
        Some(peers) if options.scope == Scope::Retained => {
            Box::new(LastMessages::open(link, peers, with_metadata, report, now)?)
        }
        Some(peers) => Box::new(SealedStreams::open(link, peers, once, with_metadata, report, now)?),
    })
}

/// What to subscribe to.
fn subscription<'a>(config: &'a Config, options: &RecvOptions) -> (&'a str, Qos) {
    let Config { subscribe, mqtt, .. } = config;
    // Nothing that the broker kept comes of a shared subscription; and at QoS 0 nothing is to be acknowledged.
    match options.scope {
        Scope::Retained => (subscribe.plain(), Qos::AtMostOnce),
        Scope::All | Scope::FirstStream => (subscribe.as_str(), mqtt.qos),
    }
}

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
}

/// One run, from SUBSCRIBE to the last PUBACK.
struct RecvRun<'a> {
    config: &'a Config,
    timeout: Option<Duration>,
    report: &'a Reporter,
    events: EventLoop<'a>,
    streams: Box<dyn IncomingStreams + 'a>,
    printer: Printer,
    /// When something was received that restarts the timeout.
    last_received: Instant,
    /// The broker has accepted the subscription.
    is_subscribed: bool,
}

impl RecvRun<'_> {
    /// Receives, then tells the senders and the broker what was written. Returns what the user is to know of it.
    fn finish(mut self, kept: Vec<BrokerEvent>, options: &RecvOptions) -> Result<()> {
        let received = self.receive(kept);
        // Even if it failed.
        let told = self.tell_written().and(self.streams.close());
        let unreachable = received.as_ref().ok().and_then(|end| self.unreachable(end));
        let Self { events, mut streams, printer, report, .. } = self;
        // What the broker does not know to be acknowledged comes again, and is dropped as a repeat then.
        events.close()?;
        let end = received?;
        told?;
        match end {
            End::Refused(error) => Err(error),
            End::Stopped => {
                streams.report_unfinished();
                Ok(())
            }
            End::BySelf { timed_out } => {
                // In any case, as it reports what is missing.
                let verdict = streams.verdict(timed_out);
                let cause = unreachable.or_else(|| short_of_lines(&printer, options, timed_out, verdict.is_ok()));
                let Some(cause) = cause else { return verdict };
                verdict.unwrap_or_else(|error| report.warn(&error));
                Err(cause)
            }
        }
    }

    /// The turns of the loop, after what was `kept` while there was no session; returns when all that was received is written,
    /// or standard output is closed.
    fn receive(&mut self, kept: Vec<BrokerEvent>) -> Result<End> {
        let now = Instant::now();
        kept.into_iter().try_for_each(|event| self.handle(event, now))?;
        loop {
            let now = self.events.begin_turn();
            if let Some(refusal) = self.take_events(now)? {
                self.drain()?;
                return Ok(End::Refused(refusal));
            }
            // Before anything is given up for taking too long: while nothing is read, nothing can come.
            self.pause_reading(self.printer.is_full(), now);
            self.take_released(false, now)?;
            self.printer.release(now);
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
            // Again, as there may be room now: then the wait returns at once for the messages that are queued already, and
            // nothing more is read before they are taken.
            self.pause_reading(self.printer.is_full(), now);
            self.wait(now)?;
        }
    }

    /// Takes what the broker did, as far as there is room for it; returns its refusal.
    fn take_events(&mut self, now: Instant) -> Result<Option<Error>> {
        while !self.printer.is_full() {
            match self.events.next_event() {
                Err(refusal) => return Ok(Some(refusal)),
                Ok(None) => break,
                Ok(Some(event)) => self.handle(event, now)?,
            }
        }
        Ok(None)
    }

    fn handle(&mut self, event: BrokerEvent, now: Instant) -> Result<()> {
        match event {
            BrokerEvent::Message(message) => {
                let disposition = self.streams.receive(message, now)?;
                if disposition.restarts_timeout() {
                    self.last_received = now;
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
                self.report.verbose(format_args!("listening on {topic}"));
                if granted < requested {
                    self.report.warning(format_args!(
                        "the broker granted QoS {granted} on {topic} instead of {requested}: \
                         it does not send a message again that was lost"
                    ));
                }
            }
            BrokerEvent::Disconnected => self.streams.disconnected(),
            BrokerEvent::Connected | BrokerEvent::Acknowledged(_) => {}
        }
        Ok(())
    }

    fn dispose(&mut self, disposition: Disposition, now: Instant) -> Result<()> {
        match disposition {
            Disposition::Deliver(delivery) => self.printer.print(delivery, now),
            Disposition::Drop(receipt) => self.printer.acknowledge(receipt),
            Disposition::Repeat { stream, receipt } => self.printer.acknowledge_repeat(stream, receipt, now),
            Disposition::Answer { answer, receipt } => {
                self.events.publish_or_drop(&answer.topic, answer.frame, Qos::AtMostOnce)?;
                self.printer.acknowledge(receipt);
            }
            Disposition::Hold { .. } | Disposition::Leave => {}
        }
        Ok(())
    }

    /// Takes what was held and need not wait any more, or `all` of it, as nothing more will come of what it waits for.
    fn take_released(&mut self, all: bool, now: Instant) -> Result<()> {
        // They came before: the timeout does not begin again.
        while let Some(disposition) = self.streams.next_released(all, now)? {
            self.dispose(disposition, now)?;
        }
        Ok(())
    }

    /// Stops reading from the broker, or goes on: what standard output does not take must wait there.
    fn pause_reading(&mut self, paused: bool, now: Instant) {
        self.events.pause_reading(paused, now);
        self.streams.set_stalled(paused || !self.events.is_connected(), now);
    }

    /// Writes what standard output takes now.
    ///
    /// What is owed for each write is settled before the next: killed in between, at most that one, and the message that it
    /// ended in, come again.
    fn write(&mut self, now: Instant) -> Result<Written> {
        loop {
            let written = self.printer.write_ready();
            self.settle(now)?;
            match written {
                Ok(Written::Some) => {}
                Ok(other) => return Ok(other),
                Err(error) => {
                    self.record_interrupted(now)?;
                    return Err(error);
                }
            }
        }
    }

    /// Settles what is owed for what standard output took: it is written down first, then acknowledged.
    fn settle(&mut self, now: Instant) -> Result<()> {
        let completions: Vec<_> = std::iter::from_fn(|| self.printer.next_completion()).collect();
        self.streams.record(&completions, now)?;
        for receipt in completions.into_iter().filter_map(|completion| completion.receipt) {
            self.events.broker.ack(receipt);
        }
        Ok(())
    }

    /// Writes down how much was written of the message that writing ended in, so that the next run continues at that byte.
    fn record_interrupted(&mut self, now: Instant) -> Result<()> {
        match self.printer.interrupted() {
            Some(completion) => self.streams.record(&[completion], now),
            None => Ok(()),
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

    /// After the last line that was wanted, takes the ends of the streams that were written, until the broker has the last
    /// confirm: each is usually right behind the data, and its sender waits for nothing else.
    fn take_ends(&mut self) -> Result<()> {
        let until = Instant::now() + ENDS_TIMEOUT;
        loop {
            let now = self.events.begin_turn();
            self.pause_reading(false, now);
            // A refusal takes nothing away from the lines that were written.
            while let Ok(Some(event)) = self.events.next_event() {
                if let BrokerEvent::Message(message) = event
                    && let Some(completion) = self.streams.receive_end(message, now)?
                {
                    self.printer.settle(completion);
                }
            }
            self.settle(now)?;
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
        let is_idle = self.timeout_at().is_some_and(|deadline| now >= deadline);
        if is_idle || self.streams.gives_up(now) {
            self.take_released(true, now)?;
            self.printer.flush();
        }
        if self.printer.is_idle() {
            self.streams.delete_ended_sessions(now)?;
        }
        let (is_complete, has_all_lines) = (self.streams.is_complete(), self.printer.has_all_lines());
        if is_complete {
            self.printer.flush();
        }
        let ends = (is_complete && self.streams.linger_until(now).is_none()) || is_idle || has_all_lines;
        let timed_out = is_idle && !is_complete && !has_all_lines;
        Ok((ends && self.printer.is_flushed()).then_some(End::BySelf { timed_out }))
    }

    /// When the run ends, if nothing is received before.
    fn timeout_at(&self) -> Option<Instant> {
        self.timeout.map(|timeout| self.last_received + timeout)
    }

    /// The error of a run that timed out although nothing could come.
    fn unreachable(&self, end: &End) -> Option<Error> {
        let End::BySelf { timed_out: true } = end else { return None };
        let what = "timed out";
        self.events.unreachable(what).or_else(|| {
            let (endpoint, topic) = (self.events.broker.endpoint(), &self.config.subscribe);
            let why = format!("the broker at {endpoint} did not answer the subscription to {topic}");
            (!self.is_subscribed).then(|| Error::new(Exit::Unavailable, what).because(why))
        })
    }

    /// Waits until standard output took what was received. A second signal ends that at once, and so does a first one if
    /// standard output takes nothing for a while.
    fn drain(&mut self) -> Result<()> {
        let now = Instant::now();
        // What the broker keeps comes again, perhaps with the rest of what it waits for.
        if self.streams.holds_unkept(&|qos| self.events.broker.keeps(qos)) {
            self.take_released(true, now)?;
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
        // Past the timeout the run waits for standard output only.
        let timeout = self.timeout_at().filter(|deadline| *deadline > now);
        let deadlines = [self.printer.deadline(), self.streams.deadline(now), timeout];
        self.events.wait(Some(self.printer.interest()), deadlines.into_iter().flatten().min(), now)
    }
}
