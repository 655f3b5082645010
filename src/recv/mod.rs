//! sts-recv: what was sealed on the other side, opened, written to standard output, and only then acknowledged.
//!
//! ```text
//! broker -> mqtt::Client -> Opening (stream::Receiver) -> Order -> Output -> stdout
//! broker <- mqtt::Client <- Opening (cache::Journal)  <-  what stdout took
//! ```
//!
//! A message is acknowledged when standard output has taken its bytes and the journal says so. Junk is acknowledged in its
//! turn, so that it never fills the broker's window.

mod confirming;
mod format;
mod held;
mod leaving;
mod lines;
mod opening;
mod order;
mod sink;

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

pub use self::format::Format;
use self::leaving::End;
use self::lines::{Label, Lines};
use self::opening::{Opening, What};
use self::order::{Arrived, Order};
use self::sink::{Note, Sink};
use crate::cli::Reporter;
use crate::config::Config;
use crate::event_loop::{Event, EventLoop, Stop};
use crate::link::{Link, Tool};
use crate::mqtt::{self, Qos};
use crate::route::Route;
use crate::stdio::{Output, Signals, Weave, Written};
use crate::stream::StreamId;
use crate::{Error, Rejected, Result};

/// Bytes on their way to standard output above which nothing more is read from the broker.
const ENOUGH: usize = 1 << 20;
/// Messages on their way, above which nothing more is read either: junk has no bytes for standard output.
const ENOUGH_NOTES: usize = 1 << 13;

/// Where nothing is sealed, all messages are of one stream.
const PLAIN_STREAM: StreamId = StreamId { session: [0; 8], number: 0 };

/// What the command line says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Follow the first stream that comes, to its end.
    pub once: bool,
    /// End after so many lines.
    pub lines: Option<u64>,
    /// End when nothing came for so long.
    pub timeout: Option<Duration>,
    /// What is written of each line.
    pub format: Format,
}

/// Receives until it is told to end, or an option says so.
///
/// # Errors
/// [`crate::Exit::TryAgain`] without a session, where another sts-recv runs on the link, or where a stream was still open when
/// nothing came for [`Options::timeout`]; [`crate::Exit::DataLost`] where something was lost in a run that ended by itself;
/// [`crate::Exit::Unavailable`] where the broker refuses us; [`crate::Exit::Failed`] where standard output cannot be written.
pub fn run(link: &Link, options: Options, report: &Reporter) -> Result<()> {
    let now = Instant::now();
    let source = match link.peers()? {
        None => Source::Plain { received: false },
        Some(ends) => Source::Sealed(Box::new(Opening::new(link, ends, options.once, report, now)?)),
    };
    let output = Output::stdout()?;
    let signals = Signals::catch()?;
    let mut client = link.connect(Tool::Receive, &mut rand::rng())?;
    client.subscribe(link.config.subscribe.as_str(), link.config.mqtt.qos, now)?;
    let max_message = link.config.mqtt.max_message;
    let many = link.config.route().as_ref().is_some_and(Route::is_wildcard);
    let order = if many || options.format != Format::Plain {
        Order::Lines(Lines::new(max_message))
    } else {
        Order::Weave(Weave::new(max_message))
    };
    let run = Run {
        config: &link.config,
        options,
        report,
        source,
        order,
        sink: Sink { output, lines: options.lines, format: options.format },
        events: EventLoop::new(client, signals, report),
        rng: rand::rng(),
        last: now,
    };
    run.finish()
}

/// Where the bytes of a message come from.
enum Source<'a> {
    /// `nosec`: the payload is the bytes.
    Plain {
        /// Something came.
        received: bool,
    },
    /// A sealed stream.
    Sealed(Box<Opening<'a>>),
}

/// One run, from SUBSCRIBE to the last PUBACK.
struct Run<'a> {
    config: &'a Config,
    options: Options,
    report: &'a Reporter,
    source: Source<'a>,
    order: Order,
    sink: Sink,
    events: EventLoop<'a>,
    rng: ThreadRng,
    /// When something came last.
    last: Instant,
}

impl Run<'_> {
    fn finish(mut self) -> Result<()> {
        let mut data = BytesMut::new();
        let end = loop {
            let now = self.events.begin_turn();
            if let Some(refusal) = self.take_events(&mut data, now)? {
                self.drain(&mut data)?;
                break End::Refused(refusal);
            }
            // Before anything is given up for taking too long: while nothing is read, nothing can come.
            self.pause(self.has_enough(), now);
            self.take_held(false, &mut data, now)?;
            self.order.release(now, &mut self.sink);
            if self.write(now)? == Written::Closed {
                break End::Told;
            }
            self.confirm(false, now)?;
            if self.events.stop_requested() > Stop::No {
                self.drain(&mut data)?;
                break End::Told;
            }
            if let Some(end) = self.has_ended(&mut data, now)? {
                break end;
            }
            // Again, as there may be room now: then the wait returns at once for the messages that are queued already, and
            // nothing more is read before they are taken.
            self.pause(self.has_enough(), now);
            self.wait(now)?;
        };
        self.confirm(true, Instant::now())?;
        let Self { events, options, source, sink, last, .. } = self;
        // What is not handed over comes again, and is known then.
        events.close()?;
        match (end, source) {
            (End::Refused(error), _) => Err(error),
            // Whoever ends a run that would go on for ever wants to know what it lost, too.
            (End::Told, Source::Sealed(mut opening)) if !options.once => {
                opening.report_missing();
                Ok(())
            }
            (End::Itself, Source::Sealed(opening)) => leaving::verdict(*opening, options, sink.is_satisfied(), last),
            _ => Ok(()),
        }
    }

    fn take_events(&mut self, data: &mut BytesMut, now: Instant) -> Result<Option<Error>> {
        while !self.has_enough() {
            match self.events.next_event() {
                Err(refusal) => return Ok(Some(refusal)),
                Ok(None) => break,
                Ok(Some(event)) => self.handle(event, data, now)?,
            }
        }
        Ok(None)
    }

    fn handle(&mut self, event: Event, data: &mut BytesMut, now: Instant) -> Result<()> {
        match event {
            Event::Message(message) => self.take(message, false, data, now)?,
            Event::Oversize { len, receipt } => {
                if let Source::Sealed(opening) = &mut self.source {
                    opening.rejected(Rejected::Foreign, now);
                } else {
                    self.report.warning(format_args!("dropped a message of {len} bytes: too large"));
                }
                self.sink.output.note(Note { receipt: Some(receipt), ..Note::default() });
            }
            Event::Subscribed { requested, granted, .. } => {
                self.report.verbose(format_args!("listening on {}", self.config.subscribe));
                if granted < requested {
                    self.report.warning(format_args!(
                        "the broker grants QoS {granted} on {}, not {requested}: what it drops is not sent again",
                        self.config.subscribe
                    ));
                }
            }
            Event::Disconnected => {
                if let Source::Sealed(opening) = &mut self.source {
                    opening.held.disconnected();
                }
            }
            Event::Connected | Event::Acknowledged(_) => {}
        }
        Ok(())
    }

    /// Stops reading from the broker, or goes on: what standard output does not take must wait there.
    fn pause(&mut self, paused: bool, now: Instant) {
        self.events.pause_reading(paused, now);
        if let Source::Sealed(opening) = &mut self.source {
            opening.held.pause(paused || !self.events.is_connected(), now);
        }
    }

    fn has_enough(&self) -> bool {
        self.sink.is_satisfied()
            || self.sink.output.waiting() + self.order.waiting() > ENOUGH
            || self.sink.output.notes() > ENOUGH_NOTES
    }

    /// Takes what was held and need not wait any more, or `all` of it, as nothing more will come of what it waits for.
    fn take_held(&mut self, all: bool, data: &mut BytesMut, now: Instant) -> Result<()> {
        loop {
            let Source::Sealed(opening) = &mut self.source else { return Ok(()) };
            let messages = opening.release(all, now);
            if messages.is_empty() {
                return Ok(());
            }
            messages.into_iter().try_for_each(|message| self.take(message, true, data, now))?;
        }
    }

    fn take(&mut self, message: mqtt::Message, was_held: bool, data: &mut BytesMut, now: Instant) -> Result<()> {
        let labelled = self.options.format != Format::Plain;
        let note = |receipt| Note { receipt: Some(receipt), ..Note::default() };
        match &mut self.source {
            Source::Plain { received } => {
                let note = note(message.receipt);
                if self.options.once && std::mem::replace(received, true) {
                    return Ok(());
                }
                self.last = now;
                if labelled {
                    let label = Label::Topic { topic: message.topic, received: SystemTime::now() };
                    // Nobody says what belongs together: each message is all there is.
                    let arrived =
                        Arrived { stream: PLAIN_STREAM, bytes: &message.payload, ends: true, note, label: Some(label) };
                    self.order.push(arrived, now, &mut self.sink);
                } else {
                    self.sink.write(&message.payload, note);
                }
            }
            Source::Sealed(opening) => match opening.take(&message.payload, was_held, data, now)? {
                What::Next { peer, origin, stream, seq, ends, asks, accepted } => {
                    // What was held came before.
                    if !was_held {
                        self.last = now;
                    }
                    let label = labelled.then(|| {
                        let (name, received) = (opening.name(&peer), SystemTime::now());
                        Label::Peer { name, stream, seq, received }
                    });
                    let bytes = &data[accepted.skip.min(data.len())..];
                    let note = Note { accepted: Some(accepted), asks, ..note(message.receipt) };
                    self.order.push(Arrived { stream: origin, bytes, ends, note, label }, now, &mut self.sink);
                }
                What::Early { stream, ours } => {
                    // Another's may never be accepted, and so be played again and again.
                    if ours {
                        self.last = now;
                    }
                    // A view of the read buffer would keep all of that; and a topic, which nobody asks for, up to 64 KiB.
                    let (topic, payload) = (String::new(), Bytes::copy_from_slice(&message.payload));
                    let is_owed = message.qos > Qos::AtMostOnce;
                    opening.held.push(stream, payload.len(), is_owed, mqtt::Message { topic, payload, ..message });
                }
                // Acknowledged before the bytes that wait are written, it would be lost with this process.
                What::Repeated(origin) if self.order.holds(origin) => {
                    let note = note(message.receipt);
                    let arrived = Arrived { stream: origin, bytes: &[], ends: false, note, label: None };
                    self.order.push(arrived, now, &mut self.sink);
                }
                What::Asked { topic, answer } => {
                    self.events.publish_or_drop(&topic, answer, Qos::AtMostOnce)?;
                    self.sink.output.note(note(message.receipt));
                }
                What::Dropped | What::Repeated(_) => self.sink.output.note(note(message.receipt)),
                What::Left => {}
            },
        }
        Ok(())
    }

    /// Writes what standard output takes now.
    ///
    /// Each write is noted before the next: killed in between, at most that one, and the message that it ended in, come
    /// again.
    fn write(&mut self, now: Instant) -> Result<Written> {
        loop {
            let written = self.sink.output.write_ready();
            self.note_written(now)?;
            match written? {
                Written::Some => {}
                other => return Ok(other),
            }
        }
    }

    /// Writes down and acknowledges what standard output took.
    fn note_written(&mut self, now: Instant) -> Result<()> {
        let mut entries = Vec::new();
        let mut receipts = Vec::new();
        let mut asked = Vec::new();
        while let Some(note) = self.sink.output.next_note() {
            entries.extend(note.entries());
            // A message that was written in part is not confirmed: the rest of it is wanted.
            asked.extend(
                note.accepted.filter(|accepted| note.asks && accepted.mark.skip == 0).map(|it| (it, note.bytes)),
            );
            receipts.extend(note.receipt);
        }
        if let Source::Sealed(opening) = &mut self.source {
            opening.record(&entries)?;
            for (accepted, bytes) in asked {
                opening.written(&accepted, bytes, now);
            }
        }
        for receipt in receipts {
            self.events.broker.ack(receipt);
        }
        Ok(())
    }

    /// Tells senders that ask how far standard output took their streams.
    fn confirm(&mut self, all: bool, now: Instant) -> Result<()> {
        let Source::Sealed(opening) = &mut self.source else { return Ok(()) };
        // Until there is room the confirms wait, and say more then.
        if !self.events.broker.has_room(2 * self.config.mqtt.max_message) {
            return Ok(());
        }
        for (topic, confirm, must_arrive) in opening.confirm(all, now, &mut self.rng)? {
            let qos = if must_arrive { Qos::AtLeastOnce } else { Qos::AtMostOnce };
            self.events.publish_or_drop(&topic, confirm, qos)?;
        }
        Ok(())
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        let mut deadlines: Vec<Instant> = self.order.deadline().into_iter().chain(self.lingers(now)).collect();
        if let Source::Sealed(opening) = &self.source {
            // Past one, what it is for waits for standard output or for room, too.
            deadlines.extend(opening.deadlines().filter(|deadline| *deadline > now));
        }
        // Past it the run waits for standard output only.
        deadlines.extend(self.options.timeout.map(|timeout| self.last + timeout).filter(|deadline| *deadline > now));
        // Asked for nothing, poll still tells when the reader of a pipe has gone.
        let wanted = if self.sink.output.waiting() > 0 { PollFlags::OUT } else { PollFlags::empty() };
        let stdout = Some((self.sink.output.as_fd(), wanted));
        self.events.wait(stdout, deadlines.into_iter().min(), now)
    }
}
