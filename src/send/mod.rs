//! sts-send: standard input, cut into messages, sealed, and in the broker's hands before it ends.
//!
//! ```text
//! stdin -> Input -> Cut -> stream::Sender -> mqtt::Client -> broker
//! ```
//!
//! Input is read straight into the message that it becomes, and only while there is room for another one, so that a
//! broker that is slow or away slows down whoever writes to us. With `--spool` it goes to the disk first, and the broker
//! may be away for as long as there is room there:
//!
//! ```text
//! stdin -> Input -> Cut -> spool::Spool -> stream::Sender -> mqtt::Client -> broker
//! ```

mod dialogue;
mod framing;
mod reading;
mod spooled;
mod unpaired;
mod waiting;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use self::framing::Framing;
use self::reading::Reading;
use self::spooled::Spooled;
use crate::cli::Reporter;
use crate::config::Config;
use crate::event_loop::{self, Trouble};
use crate::link::{Link, Tool};
use crate::mqtt::{self, Event, Qos};
use crate::name::PeerName;
use crate::spool;
use crate::stdio::{Input, Signals, Split};
use crate::throttle::Throttle;
use crate::{Exit, Result};

/// How long nothing is confirmed before we say that we wait.
const QUIET: Duration = Duration::from_secs(5);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where to cut.
    pub cut: Split,
    /// When to give up if nothing is acknowledged.
    pub timeout: Option<Duration>,
    /// Ask the receiver to confirm what it has written, and count nothing else as acknowledged.
    pub confirm: bool,
    /// Keep input on the disk until it is acknowledged.
    pub spool: Option<spool::SpoolOptions>,
    /// To which peer, on a link with several.
    pub to: Option<PeerName>,
}

/// Sends standard input to its end.
///
/// # Errors
/// [`Exit::Usage`] where the link has several peers and [`Options::to`] names none of them; [`Exit::TryAgain`] without a
/// session, or when nothing was acknowledged for [`Options::timeout`]; [`Exit::Unavailable`] where the broker refuses us;
/// [`Exit::DataLost`] where input was read that was not all acknowledged, and is not in a spool either. With a spool as
/// [`spool::Spool::open`], too.
pub fn run(link: &Link, options: Options, report: &Reporter) -> Result<()> {
    let mut rng = rand::rng();
    let (mut input, mut signals) = (Input::stdin()?, Signals::catch()?);
    let (framing, source) = match &options.spool {
        None => (unpaired::framing(link, &options, Instant::now())?, Source::Direct(None)),
        Some(spool) => {
            let (framing, spooled) = unpaired::open(link, &options, spool, &mut input, &mut signals, report)?;
            (framing, Source::Spooled(Box::new(spooled)))
        }
    };
    let now = Instant::now();
    let mut client = link.connect(Tool::Send, &mut rng)?;
    let listening = framing.listen().filter(|_| options.confirm).map(str::to_owned);
    if let Some(topic) = &listening {
        client.subscribe(topic, Qos::AtLeastOnce, now)?;
    }
    let run = Run {
        config: &link.config,
        options,
        report,
        framing,
        signals,
        input,
        source,
        client,
        ready: PollFlags::empty(),
        rng,
        trouble: Trouble::default(),
        silence: Throttle::once(),
        connected: false,
        listening,
        answers: None,
        subscribed: false,
        acknowledged: now,
        stopping: None,
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
    source: Source,
    client: mqtt::Client,
    /// What poll(2) said of the broker's socket.
    ready: PollFlags,
    rng: ThreadRng,
    trouble: Trouble,
    /// The receiver does not confirm.
    silence: Throttle,
    connected: bool,
    /// Where the receiver's confirms come.
    listening: Option<String>,
    /// Where its answers come, if that is elsewhere.
    answers: Option<String>,
    /// The receiver's confirms can reach us.
    subscribed: bool,
    /// When something was acknowledged last, or nothing waited.
    acknowledged: Instant,
    /// When a signal asked for an end.
    stopping: Option<Instant>,
}

/// What standard input goes through on its way into messages.
enum Source {
    /// What was read; none before there is anything.
    Direct(Option<Reading>),
    /// The disk.
    Spooled(Box<Spooled>),
}

impl Run<'_> {
    fn finish(mut self) -> Result<()> {
        let delivered = self.deliver();
        let left = match &mut self.source {
            Source::Direct(_) => Ok(()),
            Source::Spooled(spooled) => spooled.end(),
        };
        delivered.and(left)
    }

    fn deliver(&mut self) -> Result<()> {
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
                self.stopping = Some(now);
                self.report.info("stopping once what was read is delivered; a second signal stops at once");
            }

            if let Source::Spooled(_) = self.source {
                ended = self.pass_through_spool(now)?;
            } else {
                loop {
                    ended = ended || self.read(now)?;
                    // Each step may make room for what was read before, of which poll would not tell.
                    if !self.step(now)? {
                        break;
                    }
                }
            }
            if ended && self.waiting().messages == 0 {
                self.settle()?;
                return event_loop::leave(&mut self.client, &mut self.signals);
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

    /// Reads into the spool, and sends what is in it while there is a connection; true once nothing is left of either.
    fn pass_through_spool(&mut self, now: Instant) -> Result<bool> {
        loop {
            let nothing_waited = self.waiting().messages == 0;
            let Source::Spooled(spooled) = &mut self.source else { return Ok(true) };
            if spooled.fill(&mut self.input, self.report, now)? && nothing_waited {
                self.acknowledged = now;
            }
            if let Some(seq) = self.framing.confirmed() {
                spooled.confirmed(seq)?;
            }
            // Without a connection nothing is given a place in a stream: by the time there is one, the session may be new.
            let mut stepped = false;
            while self.connected && self.has_room() && self.publish_from_spool(now)? {
                stepped = true;
            }
            stepped |= self.step(now)?;
            if self.in_flight().messages == 0 && self.leave_stream(now)? {
                stepped = true;
            }
            let Source::Spooled(spooled) = &mut self.source else { return Ok(true) };
            if !stepped {
                // While nothing is sent, nothing else makes sure that the disk has what was read.
                spooled.sync()?;
                return Ok(spooled.has_all(&self.input) && spooled.is_done(&self.framing));
            }
        }
    }

    /// Leaves a stream of the spool that is closed and acknowledged to its end; false where there is none.
    fn leave_stream(&mut self, now: Instant) -> Result<bool> {
        match &self.source {
            Source::Spooled(spooled) if spooled.is_closed() => self.settle()?,
            _ => return Ok(false),
        }
        let Source::Spooled(spooled) = &mut self.source else { return Ok(false) };
        spooled.leave(&mut self.framing, now)?;
        Ok(true)
    }

    fn publish_from_spool(&mut self, now: Instant) -> Result<bool> {
        let Source::Spooled(spooled) = &mut self.source else { return Ok(false) };
        let ended = spooled.has_all(&self.input);
        let Some(message) = spooled.next(&mut self.framing, ended, now, &mut self.rng)? else { return Ok(false) };
        let token = self.publish(message.payload, now)?;
        if let Source::Spooled(spooled) = &mut self.source
            && !self.options.confirm
        {
            spooled.published(token, message.record);
        }
        Ok(true)
    }

    /// Reads and sends as long as there is input, and room for it; true where that was the last of it.
    fn read(&mut self, now: Instant) -> Result<bool> {
        while self.has_room() {
            let Source::Direct(source) = &mut self.source else { return Ok(false) };
            if source.is_none() {
                if !self.input.is_ready()? {
                    return Ok(false);
                }
                *source = Some(self.framing.begin(now, &mut self.rng)?);
            }
            let reading = source.as_mut().expect("it was begun");
            let cut = self.options.cut;
            // A backlog of lines is sent line by line before more is read; otherwise more makes larger messages.
            if cut != Split::Each || cut.next(reading.data(), reading.room(), false).is_none() {
                let (buffer, limit) = reading.space();
                self.input.read(buffer, limit)?;
            }
            let at_end = self.input.at_end();
            let len = match cut.next(reading.data(), reading.room(), at_end) {
                Some(len) => len,
                None if at_end => 0,
                None => return Ok(false),
            };
            self.framing.follow(now)?;
            if !self.has_room() {
                return Ok(false);
            }
            let Source::Direct(Some(reading)) = &mut self.source else { return Ok(false) };
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
        self.client.has_room(self.framing.topic(self.config).len() + longest) && self.framing.has_room(longest)
    }

    fn publish(&mut self, payload: Bytes, now: Instant) -> Result<mqtt::Token> {
        // Where nothing waited for its acknowledgement, its time begins now.
        if self.waiting().messages == 0 {
            self.acknowledged = now;
        }
        let mqtt = &self.config.mqtt;
        self.client.publish(self.framing.topic(self.config), payload, mqtt.qos, mqtt.retain)
    }

    fn take_events(&mut self, now: Instant) -> Result<()> {
        while let Some(event) = self.client.next_event() {
            match event {
                Event::Up { .. } => {
                    self.report.verbose(format_args!("connected to {}", self.config.mqtt.endpoint));
                    self.connected = true;
                    self.trouble.up(self.report);
                }
                Event::Down { why, .. } => {
                    self.connected = false;
                    self.subscribed = false;
                    self.trouble.down(&why, self.report);
                }
                Event::Acknowledged(_) if self.options.confirm => {}
                Event::Acknowledged(token) => {
                    self.acknowledged = now;
                    if let Source::Spooled(spooled) = &mut self.source {
                        spooled.acknowledged(token)?;
                    }
                }
                Event::Subscribed { filter, .. } => self.subscribed |= self.listening.as_ref() == Some(&filter),
                Event::Message(message) => {
                    self.hear(&message.payload, now)?;
                    self.client.ack(message.receipt);
                }
                Event::Oversize { receipt, .. } => self.client.ack(receipt),
                Event::Refused(error) => {
                    if self.waiting().messages > 0 {
                        self.report.info(self.unacknowledged(Exit::Failed, "the broker refuses us"));
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
        if waiting && self.lingering().is_some_and(|until| now >= until) {
            return Err(self.unacknowledged(Exit::TryAgain, "stopped by a signal"));
        }
        Ok(())
    }
}
