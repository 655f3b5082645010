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
//! 1. `RecvRun` ([`run`](mod@run)) takes the message from the event loop and hands it to the `IncomingStreams` of the
//!    link. There are three implementors, chosen once in [`run()`]: `sealed`, `legacy` for the old program, and `plain`
//!    for `nosec`; with `--last`, a fourth: `sealed::LastMessages`.
//! 2. They decide what becomes of it, a `Disposition`: deliver, hold, drop, repeat, answer, or leave with the broker.
//!    Only the first of these goes on. [`left_messages`] bounds what is left.
//! 3. A `Delivery` is a message to write. All that is owed once it is written travels with it as its `Completion`:
//!    state to write down, a confirm, a PUBACK.
//! 4. The `Printer` keeps the lines of different streams apart and formats them.
//! 5. Once standard output has taken it, its completion comes back. `IncomingStreams::record` writes the state down,
//!    and only then `RecvRun` acknowledges the message ([`recording`]): killed in between, this device gets it again
//!    and knows that it is a repeat. Junk is acknowledged in its turn, so that it does not fill the broker's queue.
//!
//! Where something new belongs:
//!
//! - a type of frame: `SealedStreams::receive` in `sealed/incoming_streams.rs`, the `match` over all types;
//! - a kind of content: `stream/kind.rs`, whose head says how to add one, beginning with whether it is in the sequence
//!   of its stream (one that is sent by time is: a lost one must be missed) or beside it. In the sequence, that is here
//!   `SealedStreams::act`, the `match` over [`crate::stream::Content`], for which the compiler asks; whether `--once`
//!   leaves it for another run is [`crate::stream::Kind::stays_with_stream`];
//! - a sentence for the user: `sealed::reports`;
//! - an output format: a variant of [`Format`], which the compiler asks for in `printer::format`;
//! - an option: a field of [`RecvOptions`]. What ends a run is in `RecvRun::has_ended`, and its exit status in
//!   `IncomingStreams::verdict`.

mod delivery;
mod dispositions;
mod first_session;
mod idle_timeout;
mod incoming;
mod left_messages;
#[cfg(feature = "legacy")]
mod legacy;
mod plain;
mod printer;
mod recording;
mod run;
mod sealed;

use std::time::{Duration, Instant};

use self::idle_timeout::IdleTimeout;
use self::incoming::IncomingStreams;
use self::left_messages::LeftMessages;
#[cfg(feature = "legacy")]
use self::legacy::LegacyTexts;
use self::plain::PlainStreams;
pub use self::printer::Format;
use self::printer::Printer;
use self::run::RecvRun;
use self::sealed::{LastMessages, SealedStreams};
use crate::Result;
use crate::config::Config;
use crate::event_loop::{EventLoop, ProgressMeter};
use crate::link::{Link, Tool};
use crate::mqtt::Qos;
use crate::name::list;
use crate::report::Reporter;
use crate::route::Route;
use crate::stdio::Signals;

/// How long a run with `--last` waits for another retained message, if the command line does not say. MQTT has no sign
/// that there is none.
const RETAINED_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of payloads that are kept while they wait for a session, or for what is before them: more than a broker
/// usually has on the way to one client.
const MAX_HELD_BYTES: usize = 2 << 20;

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
    /// The newest message that the broker kept (`--last`). Such a run looks, and leaves no trace: it has a client id
    /// and an MQTT session of its own, acknowledges nothing and writes nothing down, so that sts-recv without `--last`
    /// may run at the same time, and misses and repeats nothing for it.
    Retained,
}

/// The options of the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct RecvOptions {
    /// What of all that comes is received.
    pub scope: Scope,
    /// End after this many lines.
    pub lines: Option<u64>,
    /// Write payloads of a link without encryption as they are; otherwise each ends with a newline. On a link to the
    /// old program: keep the blank that its shell adds to each text.
    pub binary: bool,
    /// End when nothing was received for this long.
    pub timeout: Option<Duration>,
    /// How each line is written.
    pub format: Format,
    /// Without a session, wait for the first one.
    pub wait: bool,
    /// Show on a terminal how far the run has come.
    pub progress: bool,
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
/// [`crate::Exit::TryAgain`] without a session, where another sts-recv runs on the link, or where a stream was not
/// complete, or fewer than [`RecvOptions::lines`] came, when nothing was received for [`RecvOptions::timeout`], or as
/// the broker waits for the acknowledgement of other streams; [`crate::Exit::Config`] where it does so for what the
/// configuration keeps out; [`crate::Exit::DataLost`] where data was lost in a run that ended by itself;
/// [`crate::Exit::Unavailable`] where the broker refuses the connection, or where there is none at that time;
/// [`crate::Exit::Failed`] where standard output cannot be written.
pub fn run(link: &Link, options: RecvOptions, report: &Reporter) -> Result<()> {
    let mut broker = link.connect(options.tool(), &mut rand::rng())?;
    let (filter, qos) = subscription(&link.config, &options);
    broker.subscribe(filter, qos, Instant::now())?;
    // Nothing is sent before its first turn.
    let mut events = EventLoop::new(broker, Signals::catch()?, report);
    events.measure(ProgressMeter::new(options.progress, report, Instant::now())?);
    if options.wait {
        link.make_dirs()?;
    }
    link.enter_sandbox(link.needs(), report);
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
    let mut printer = Printer::stdout(options.format, options.lines, many_peers, link.config.mqtt.max_message)?;
    if options.progress {
        printer.count_lines();
    }
    RecvRun {
        config: &link.config,
        idle_timeout: IdleTimeout::new(options.timeout(), now),
        report,
        events,
        streams,
        printer,
        left: LeftMessages::new(now),
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
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return Ok(Box::new(LegacyTexts::open(link, legacy, options, report)?));
    }
    let (once, with_metadata) = (options.scope == Scope::FirstStream, options.format.needs_metadata());
    let peers = if options.scope == Scope::Retained { link.peers() } else { link.senders() }?;
    if report.is_verbose()
        && let Some(accepted) = peers.as_ref().and_then(|peers| peers.accepted_at_start().ok())
    {
        let names = || list(accepted.iter().map(|peer| peer.name.as_str()));
        let from = if accepted.is_empty() { "all known peers".to_owned() } else { names() };
        report.verbose(format_args!("receiving from {from}"));
    }
    Ok(match peers {
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
