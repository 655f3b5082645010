//! sts-send: reads standard input, splits it into messages, seals them, and ends once they were all delivered: to the broker,
//! or with `--confirm` to the receiver.
//!
//! [`run()`] makes two choices:
//!
//! - where messages come from, a `MessageSource`: `direct` splits standard input as it is read; `spooled` writes it to disk
//!   first, so that the broker may be away for as long as there is room there;
//! - what makes payloads of them, an `OutgoingStream`: `sealed` on an encrypted link, `legacy` on one to the old
//!   program, `plain` on any other.
//!
//! ```text
//! stdin -> Input -> Cutter -+-> direct ------------------+-> sealed -+-> Gate::pass -> mqtt::Client -> broker
//!                           +-> spooled -> spool::Spool -+-> plain --+
//!                                                        +-> legacy -+
//! ```
//!
//! `cutter` says how long a message is. Before it is sealed or goes into the spool, `record_check` says whether it can be sent
//! at all. When it was read,
//! with `--stamp`, is in `read_times`.
//!
//! A run with a spool may have to wait before it can send, for another run that sends from the spool (`busy_spool`) or for a
//! session (`first_session`). It keeps its input meanwhile: `waiting` is the loop of both.
//!
//! After that, nothing asks which of them were chosen. Two properties of them are asked for. `is_confirmed`: whether a message
//! is delivered when the receiver confirms it, or when the broker acknowledges it; it decides whose word counts in `run`,
//! when a record can go in `spooled`, and which timeouts there are. `keeps_undelivered`: whether what is not delivered
//! can wait for another session or run, or the run ends when its session is deleted (`replies`), and sends all of it after a
//! signal, however slowly (`run_end`).
//!
//! A line passes the files in the order of this picture. `run` is the loop that moves it on. `due` is the one place for
//! the run's own time, with all that is sent because of that: its head is the recipe for another message that is sent
//! by time. `gate` is the one way to the client, with all that limits it: its head is the recipe for another limit.
//! `unpublished` has the messages that a stream has made and not published. `run_end` has how the run ends, and the
//! count of the data that is not delivered then. `replies` has the receiver's replies, with `--confirm`; `timeouts`
//! says when a run that waits gives up, and `missing` whom it names then. `overtaken` has what a run does if the broker
//! accepts messages out of order, and `shorter` if it accepts only shorter ones than before. `retried_failure` has what
//! would end a run with a spool, while its input is open.

mod busy_spool;
mod cutter;
mod data_in_flight;
mod direct;
mod due;
mod failure;
mod first_session;
mod gate;
mod intake;
mod last_will;
#[cfg(feature = "legacy")]
mod legacy;
mod missing;
mod outgoing;
mod overtaken;
mod plain;
mod rate_limit;
mod read_times;
mod record_check;
mod replies;
mod reply_topics;
mod retried_failure;
mod run;
mod run_end;
mod sealed;
mod shorter;
mod source;
mod spooled;
mod timeouts;
mod unpublished;
mod waiting;

use std::io::IsTerminal;
use std::num::NonZeroU16;
use std::time::{Duration, Instant};

use self::cutter::Cutter;
use self::direct::Direct;
use self::failure::RunResult;
use self::gate::Gate;
use self::intake::Intake;
use self::last_will::LastWill;
#[cfg(feature = "legacy")]
use self::legacy::LegacyStream;
use self::outgoing::OutgoingStream;
use self::plain::PlainStream;
use self::rate_limit::RateLimit;
use self::read_times::ReadTimes;
use self::record_check::{RecordCheck, max_line_record_len};
use self::reply_topics::ReplyTopics;
use self::retried_failure::RetriedFailure;
use self::run::{Registration, SendRun};
use self::sealed::SealedStream;
use self::source::MessageSource;
use self::spooled::Spooled;
use self::timeouts::Timeouts;
use crate::config::Protection;
use crate::crypto::schedule::Digest;
use crate::event_loop::{EventLoop, ProgressMeter};
use crate::link::{Link, Tool};
use crate::name::PeerName;
use crate::pace::Pace;
use crate::report::Reporter;
use crate::spool::{Owner, SpoolOptions, SpoolReceiver};
use crate::stdio::{Input, Signals, Split};
use crate::stream::{SentTime, max_record_len};
use crate::{Error, Exit, Result};

/// What the command line says.
#[derive(Clone, Debug)]
pub struct SendOptions {
    /// Where to split standard input into messages.
    pub split: Split,
    /// When to give up if nothing is acknowledged.
    pub timeout: Option<Duration>,
    /// Ask the receiver to confirm what it has written, and count nothing else as acknowledged.
    pub confirm: bool,
    /// Keep input on disk until it is acknowledged.
    pub spool: Option<SpoolOptions>,
    /// Say when what a message carries was read.
    pub stamp: bool,
    /// What the broker is to say for this device if the run dies.
    pub will: Option<String>,
    /// Show on a terminal how far the run has come.
    pub progress: bool,
    /// To which peer, on a link with several.
    pub to: Option<PeerName>,
}

impl SendOptions {
    /// How many bytes of data less a message carries for its time.
    fn time_room(&self) -> usize {
        if self.stamp { SentTime::ITEM_LEN } else { 0 }
    }
}

/// Sends standard input to its end.
///
/// # Errors
/// [`Exit::Usage`] where the link has several peers and [`SendOptions::to`] names none of them;
/// [`Exit::TryAgain`] without a session, or when nothing was acknowledged for [`SendOptions::timeout`];
/// [`Exit::Unavailable`] where the broker refuses the connection, or where there is none then and nothing keeps the input;
/// [`Exit::DataLost`] where input was read that was not all acknowledged, and is not in a spool
/// either. With a spool as [`crate::spool::Spool::open`], too.
pub fn run(link: &Link, options: &SendOptions, report: &Reporter) -> Result<()> {
    let mut rng = rand::rng();
    let (mut input, signals) = (Input::stdin()?, Signals::catch()?);
    let meter = ProgressMeter::new(options.progress, report, Instant::now())?;
    if options.progress {
        input.count_lines();
    }
    let found = open_stream(link, options, Instant::now());
    let mut events = EventLoop::new(link.client(Tool::Send, &mut rng)?, signals, report);
    events.measure(meter);
    let (source, stream): (Box<dyn MessageSource + '_>, Box<dyn OutgoingStream>) = match &options.spool {
        None => {
            let stream = found?;
            link.enter_sandbox(link.needs(), report);
            let times = ReadTimes::new(options.stamp, report);
            (Box::new(Direct::new(input, cutter(link, options), times)), stream)
        }
        Some(spool) => {
            let (spooled, stream) = open_spool(spool, found, input, link, options, &mut events, report)?;
            (Box::new(spooled), stream)
        }
    };
    if link.config.sealed().is_some() {
        report.verbose(format_args!("sending to {}", stream.receiver()));
    }
    if std::io::stdin().is_terminal() {
        report.info("reading from the terminal; press Ctrl-D to end the input");
    }
    let timeouts = Timeouts::new(options.timeout, stream.is_confirmed());
    let gate = Gate::new(&link.config.mqtt, rate_limits(link));
    let will = LastWill::new(options.will.clone(), link.config.mqtt.qos);
    let registration = Registration { reply_topics: ReplyTopics::default(), will };
    let retried = RetriedFailure::none();
    SendRun { events, report, source, stream, registration, gate, timeouts, retried, rng }.finish()
}

/// Gives up what a run with a spool does not need. The spool, and the directories of the session that the run may wait for, are
/// made first: of what does not exist, no right can be kept.
fn enter_sandbox(link: &Link, spool: &SpoolOptions, report: &Reporter) -> Result<()> {
    drop(spool.create_dir()?);
    link.make_dirs()?;
    let mut needs = link.needs();
    needs.write_dir(&spool.dir);
    link.enter_sandbox(needs, report);
    Ok(())
}

/// The spool, once no other run sends from it, and the stream in which to send what is there.
fn open_spool<'a>(
    spool: &SpoolOptions,
    found: Result<Box<dyn OutgoingStream>>,
    input: Input,
    link: &Link,
    options: &SendOptions,
    events: &mut EventLoop<'_>,
    report: &'a Reporter,
) -> Result<(Spooled<'a>, Box<dyn OutgoingStream>)> {
    events.broker.outlast_failures();
    let receivers = first_session::receivers_of(&found, link, options)?;
    enter_sandbox(link, spool, report)?;
    let max_record = max_record(spool, link)? - options.time_room();
    let mut cutter = cutter(link, options);
    cutter.limit(max_record);
    let mut intake = Intake::new(input, cutter, ReadTimes::new(options.stamp, report), report);
    let owner = Owner { link: &link.config.link, receiver: spool_receiver(link, &receivers) };
    let (opened, cut_off) = busy_spool::open(&mut intake, spool, owner, options.timeout, events)?;
    let mut spooled = Spooled::new(intake, opened, cut_off, options.time_room(), report);
    match first_stream(found, link, options, &receivers, &mut spooled, events, report) {
        Ok(stream) => Ok((spooled, stream)),
        Err(failure) => Err(spooled.fail(failure)),
    }
}

/// The stream in which to send what is in a spool, once there is a session.
fn first_stream(
    found: Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
    receivers: &[Digest],
    spooled: &mut Spooled<'_>,
    events: &mut EventLoop<'_>,
    report: &Reporter,
) -> RunResult<Box<dyn OutgoingStream>> {
    let stream = first_session::wait(found, link, options, receivers, spooled, events, report)?;
    spooled.check(&*stream)?;
    Ok(stream)
}

/// Most bytes of a record in this spool.
///
/// # Errors
/// [`Exit::Usage`] where the spool is too small.
fn max_record(spool: &SpoolOptions, link: &Link) -> Result<usize> {
    let max_message = link.config.mqtt.max_message;
    if spool.max.bytes() < 2 * max_message as u64 {
        return Err(Error::new(Exit::Usage, "--spool-max")
            .because(format!("smaller than two messages of max_message ({max_message} bytes each)")));
    }
    Ok(match link.config.protection {
        Protection::None => max_message,
        Protection::Sealed(_) => max_record_len(max_message, link.pad()),
        Protection::Legacy(_) => max_line_record_len(max_message),
    })
}

/// The receiver of a spool of this link.
fn spool_receiver<'a>(link: &Link, receivers: &'a [Digest]) -> SpoolReceiver<'a> {
    match (&link.config.protection, receivers) {
        (Protection::Legacy(_), _) => SpoolReceiver::OldProgram,
        (_, []) => SpoolReceiver::Anyone,
        (_, peers) => SpoolReceiver::Peers(peers),
    }
}

/// Where to cut standard input: the old program takes lines, and nothing else.
fn cutter(link: &Link, options: &SendOptions) -> Cutter {
    let split = match link.config.protection {
        Protection::Legacy(_) => Split::Each,
        Protection::None | Protection::Sealed(_) => options.split,
    };
    Cutter::new(split, RecordCheck::of(link))
}

/// What limits how fast messages of a run leave; all of it is kept, so that the strictest limit holds. The old program has no
/// means to slow the sender down.
fn rate_limits(link: &Link) -> Vec<RateLimit> {
    let of_link: Option<(NonZeroU16, Duration)> = match link.config.protection {
        #[cfg(feature = "legacy")]
        Protection::Legacy(_) => Some(crate::legacy::TEXT_RATE),
        #[cfg(not(feature = "legacy"))]
        Protection::Legacy(_) => None,
        Protection::None | Protection::Sealed(_) => None,
    };
    let limit = |(max_messages, interval)| RateLimit::Messages(Pace::new(max_messages, interval));
    of_link.map(limit).into_iter().collect()
}

/// The outgoing stream of a link as it is configured. No stream number is taken before there is something to send.
///
/// # Errors
/// [`Exit::TryAgain`] without a session; [`Exit::Usage`] for an option that needs an encrypted link; otherwise as
/// [`crate::sessions::LinkSessions::open_to_send`].
fn open_stream(link: &Link, options: &SendOptions, now: Instant) -> Result<Box<dyn OutgoingStream>> {
    let unencrypted = |option: &str, so: &str| {
        Err(Error::new(Exit::Usage, option).because(format!("the link is not encrypted (sts_mode = nosec), so {so}")))
    };
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return Ok(Box::new(LegacyStream::open(link, legacy, options)?));
    }
    Ok(match link.peer_to_reach(options.to.as_ref())? {
        Some(peers) => Box::new(SealedStream::open(link, peers, options, now)?),
        None if options.confirm => return unencrypted("--confirm", "nothing can be confirmed"),
        None if options.to.is_some() => return unencrypted("--to", "its peers have no names"),
        None if options.stamp => return unencrypted("--stamp", "a message is its data and nothing else"),
        None => Box::new(PlainStream::new(&link.config, options.split)),
    })
}
