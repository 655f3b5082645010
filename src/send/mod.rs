//! sts-send: standard input, cut into messages, sealed, and in the broker's hands before it ends.
//!
//! ```text
//! stdin -> Input -> Cut -> stream::Sender -> mqtt::Client -> broker
//! ```
//!
//! Input is read straight into the message that it becomes, and only while there is room for another one, so that a
//! broker that is slow or away slows down whoever writes to us.

mod framing;
mod reading;

use std::fmt;
use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use self::framing::{Framing, Sealing, Step};
use self::reading::Reading;
use crate::cli::{Notice, Reporter};
use crate::config::Config;
use crate::link::{Link, Tool};
use crate::mqtt::{self, Event, Qos};
use crate::pipe::{Cut, Input, Signals};
use crate::turn::{self, Trouble};
use crate::{Error, Exit, Result};

/// How long nothing is confirmed before we say that we wait.
const QUIET: Duration = Duration::from_secs(5);

/// What the command line says.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where to cut.
    pub cut: Cut,
    /// When to give up if nothing is acknowledged.
    pub timeout: Option<Duration>,
    /// Ask the receiver to confirm what it has written, and count nothing else as acknowledged.
    pub confirm: bool,
}

/// Sends standard input to its end.
///
/// # Errors
/// [`Exit::TryAgain`] without a session, or when nothing was acknowledged for [`Options::timeout`]; [`Exit::Unavailable`]
/// where the broker refuses us; [`Exit::DataLost`] where input was read that was not all acknowledged.
pub fn run(link: &Link, options: Options, report: &Reporter) -> Result<()> {
    let mut rng = rand::rng();
    let now = Instant::now();
    let framing = match link.ends()? {
        None if options.confirm => {
            return Err(Error::new(Exit::Usage, "--confirm")
                .because("the link is not encrypted (sts_mode = nosec), so nobody can confirm anything"));
        }
        None => Framing::Plain { max_message: link.config.mqtt.max_message },
        Some(ends) => Framing::Sealed(Box::new(Sealing::open(link, ends, options.confirm, now)?)),
    };
    let mut client = link.connect(Tool::Send, &mut rng)?;
    if options.confirm {
        client.subscribe(link.config.subscribe.as_str(), Qos::AtLeastOnce, now)?;
    }
    let run = Run {
        config: &link.config,
        options,
        report,
        framing,
        signals: Signals::catch()?,
        input: Input::stdin(),
        reading: None,
        client,
        ready: PollFlags::empty(),
        rng,
        trouble: Trouble::default(),
        silence: Notice::once(),
        subscribed: false,
        acknowledged: now,
    };
    if std::io::stdin().is_terminal() {
        report.info("reading from the terminal; Ctrl-D ends the input");
    }
    run.finish()
}

/// One run, from the first byte to the last acknowledgement.
struct Run<'a> {
    config: &'a Config,
    options: Options,
    report: &'a Reporter,
    framing: Framing,
    signals: Signals,
    input: Input,
    /// What was read; none before there is anything.
    reading: Option<Reading>,
    client: mqtt::Client,
    /// What poll(2) said of the broker's socket.
    ready: PollFlags,
    rng: ThreadRng,
    trouble: Trouble,
    /// The receiver does not confirm.
    silence: Notice,
    /// The receiver's confirms can reach us.
    subscribed: bool,
    /// When something was acknowledged last, or nothing waited.
    acknowledged: Instant,
}

impl Run<'_> {
    fn finish(mut self) -> Result<()> {
        let mut ended = false;
        let mut asked = 0;
        loop {
            let now = Instant::now();
            self.client.drive(now, self.ready);
            self.take_events(now)?;

            if self.signals.count() > asked {
                asked = self.signals.count();
                if asked > 1 {
                    return Err(self.unacknowledged(Exit::DataLost, "stopped by a second signal"));
                }
                self.input.stop();
                self.report.info("stopping once what was read is delivered; a second signal stops at once");
            }

            loop {
                ended = ended || self.read(now)?;
                // Each step may make room for what was read before, of which poll would not tell.
                if !self.step(now)? {
                    break;
                }
            }
            if ended && self.waiting().messages == 0 {
                self.settle()?;
                return turn::leave(&mut self.client, &mut self.signals);
            }
            self.client.drive(now, PollFlags::empty());
            // At QoS 0 the socket taking it is all that happens to a message.
            if self.client.has_event() {
                self.ready = PollFlags::empty();
                continue;
            }
            self.wait(ended, now)?;
        }
    }

    /// Reads and sends as long as there is input, and room for it; true where that was the last of it.
    fn read(&mut self, now: Instant) -> Result<bool> {
        while self.has_room() {
            if self.reading.is_none() {
                if !self.input.is_ready()? {
                    return Ok(false);
                }
                self.reading = Some(self.framing.begin(&mut self.rng)?);
            }
            let reading = self.reading.as_mut().expect("it was begun");
            let cut = self.options.cut;
            // A backlog of lines is sent line by line before more is read; otherwise more makes larger messages.
            if cut != Cut::Each || cut.next(reading.data(), reading.room(), false).is_none() {
                let (buffer, limit) = reading.space();
                self.input.read(buffer, limit)?;
            }
            let at_end = self.input.at_end();
            let len = match cut.next(reading.data(), reading.room(), at_end) {
                Some(len) => len,
                None if at_end => 0,
                None => return Ok(false),
            };
            if let Some(payload) = self.framing.follow(now, &mut self.rng)? {
                self.publish(payload, now)?;
            }
            if !self.has_room() {
                return Ok(false);
            }
            let reading = self.reading.as_mut().expect("it was begun");
            let ends = at_end && len == reading.data().len();
            let message = reading.take(len);
            if let Some(payload) = self.framing.finish(message, ends, now, &mut self.rng)? {
                self.publish(payload, now)?;
            }
            if ends {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether one more message of the longest kind may wait for its acknowledgement.
    fn has_room(&self) -> bool {
        let longest = self.config.mqtt.max_message;
        self.client.room(self.config.publish.as_str().len() + longest) && self.framing.has_room(longest)
    }

    /// What nobody has taken over: not the broker, or with `--confirm` not the receiver.
    fn waiting(&self) -> mqtt::Unacknowledged {
        let mut waiting = self.client.unacknowledged();
        if let Some((messages, bytes)) = self.framing.unconfirmed() {
            waiting.messages = waiting.messages.max(messages);
            waiting.bytes = waiting.bytes.max(bytes);
        }
        waiting
    }

    /// Sends again what the receiver has not confirmed, and goes from stream to stream; true if it did either.
    fn step(&mut self, now: Instant) -> Result<bool> {
        let clear = self.subscribed && self.client.unacknowledged().messages == 0;
        if let Some(sealing) = self.framing.confirms()
            && !clear
        {
            sealing.not_yet(now);
        }
        let mut stepped = false;
        while self.client.room(self.config.publish.as_str().len() + self.config.mqtt.max_message)
            && let Some(sealing) = self.framing.confirms()
        {
            match sealing.step(now, &mut self.rng)? {
                Step::Send(payload) => self.publish(payload, now)?,
                Step::Wait => break,
            }
            stepped = true;
        }
        let unconfirmed = self.framing.unconfirmed().is_some_and(|(messages, _)| messages > 0);
        if unconfirmed && clear && now >= self.acknowledged + QUIET && self.silence.happened(now).is_some() {
            self.report.info("nothing is confirmed; waiting for sts-recv on the other device");
        }
        Ok(stepped)
    }

    /// Tells a receiver that waits to confirm the end again that it is known here.
    fn settle(&mut self) -> Result<()> {
        let Some(sealing) = self.framing.confirms() else { return Ok(()) };
        let settled = sealing.settle(&mut self.rng)?;
        settled.map_or(Ok(()), |payload| self.publish(payload, Instant::now()))
    }

    fn hear(&mut self, payload: &[u8], now: Instant) -> Result<()> {
        let Some(sealing) = self.framing.confirms() else { return Ok(()) };
        if let Some(answer) = sealing.answer(payload, now)? {
            let topic = self.config.publish.as_str();
            // Without room it is as lost as on the way: the question comes again.
            if self.client.room(topic.len() + answer.len()) {
                self.client.publish(topic, answer.into(), Qos::AtMostOnce, false)?;
            }
            return Ok(());
        }
        match sealing.hear(payload, now) {
            Ok(true) => {
                self.acknowledged = now;
                if self.silence.has_happened() {
                    self.report.info("confirmed again");
                    self.silence.reset();
                }
            }
            Ok(false) => {}
            Err(rejected) => self.report.verbose(format_args!("dropped a message: {rejected}")),
        }
        Ok(())
    }

    fn publish(&mut self, payload: Bytes, now: Instant) -> Result<()> {
        if self.waiting().messages == 0 {
            self.acknowledged = now;
        }
        let mqtt = &self.config.mqtt;
        self.client.publish(self.config.publish.as_str(), payload, mqtt.qos, mqtt.retain)?;
        Ok(())
    }

    fn take_events(&mut self, now: Instant) -> Result<()> {
        while let Some(event) = self.client.next_event() {
            match event {
                Event::Up { .. } => {
                    self.report.verbose(format_args!("connected to {}", self.config.mqtt.endpoint));
                    self.trouble.up(self.report);
                }
                Event::Down { why, .. } => {
                    self.subscribed = false;
                    self.trouble.down(&why, self.report);
                }
                Event::Acked(_) => {
                    if !self.options.confirm {
                        self.acknowledged = now;
                    }
                }
                Event::Subscribed { .. } => self.subscribed = true,
                Event::Message(message) => {
                    self.hear(&message.payload, now)?;
                    self.client.ack(message.receipt);
                }
                Event::Oversize { receipt, .. } => self.client.ack(receipt),
                Event::Refused(error) => {
                    let left = self.waiting();
                    if left.messages > 0 {
                        self.report.info(Unacknowledged(left));
                    }
                    return Err(error);
                }
                Event::Contested { times } => Trouble::contested(times, self.report),
                Event::Closed => {}
            }
        }
        let waiting = self.waiting().messages > 0;
        if waiting && self.options.timeout.is_some_and(|timeout| now >= self.acknowledged + timeout) {
            return Err(self.unacknowledged(Exit::TryAgain, "timed out"));
        }
        Ok(())
    }

    fn wait(&mut self, ended: bool, now: Instant) -> Result<()> {
        let waiting = self.waiting().messages > 0;
        let timeout = self.options.timeout.filter(|_| waiting);
        let quiet = (waiting && self.options.confirm && !self.silence.has_happened()).then_some(QUIET);
        let input = self.input.as_fd().filter(|_| !ended && self.has_room()).map(|fd| (fd, PollFlags::IN));
        let silent = timeout.into_iter().chain(quiet).map(|wait| self.acknowledged + wait).filter(|at| *at > now);
        let deadline = silent.chain(self.framing.deadline()).min();
        self.ready = turn::wait(&self.client, &self.signals, input, deadline, now)?;
        Ok(())
    }

    /// An error that says how much of what was read is in nobody's hands.
    fn unacknowledged(&self, exit: Exit, what: &str) -> Error {
        Error::new(exit, what).because(Unacknowledged(self.waiting()))
    }
}

/// How much was read that is in nobody's hands, in words.
struct Unacknowledged(mqtt::Unacknowledged);

impl fmt::Display for Unacknowledged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mqtt::Unacknowledged { messages, bytes } = self.0;
        write!(f, "{messages} messages ({bytes} bytes) are unacknowledged")
    }
}
