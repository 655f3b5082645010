//! What the user is told of sealed messages: every sentence of it, and whether it means that data was lost.

use std::time::{Duration, Instant};

use crate::cache::OpenStream;
use crate::config::Config;
use crate::recv::incoming::oversize;
use crate::report::Reporter;
use crate::report_throttle::{KeyedReportThrottle, ReportThrottle};
use crate::session::SessionId;
use crate::space_wait::SpaceWait;
use crate::stream::{Closing, Gap, StreamId};
use crate::text::{count, is_or_are, numbered};
use crate::{Error, Exit, Rejected};

/// How often a stream number that is used twice is news: a message that shows it can be played again and again.
const STREAM_REUSED_INTERVAL: Duration = Duration::from_secs(60);

/// Most open streams that are reported one by one.
pub(super) const MAX_OPEN_REPORTED: usize = 16;
/// Most of them that an error tells of how far they came.
const MAX_OPEN_IN_ERROR: usize = 4;

/// Reports to the user, and remembers whether data was lost.
pub(super) struct Reports<'a> {
    report: &'a Reporter,
    /// The first gap, and how many there are.
    gaps: Option<(String, u64)>,
    cause: LikelyCause,
    rejected: KeyedReportThrottle<Rejected>,
    copies: CopyThrottle,
    has_skipped: bool,
    left: KeyedReportThrottle<SessionId>,
    oversize: ReportThrottle,
}

/// What, in the configuration, may be why messages are missing.
enum LikelyCause {
    /// The broker divides them among the clients that have this subscription.
    SharedSubscription(String),
    /// It keeps none for this client while it is not running.
    NoClientId,
    None,
}

impl LikelyCause {
    fn of(config: &Config) -> Self {
        if config.subscribe.is_shared() {
            Self::SharedSubscription(config.subscribe.as_str().to_owned())
        } else if config.mqtt.session.client_id.is_none() {
            Self::NoClientId
        } else {
            Self::None
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::SharedSubscription(filter) => Some(format!(
                "`subtop` is shared ({filter}): another client of the group may have received it; use a group of this device alone"
            )),
            Self::NoClientId => Some(
                "if sts-recv was not running when it was sent, set a `clientid`: the broker then keeps it for the next run"
                    .to_owned(),
            ),
            Self::None => None,
        }
    }

    /// The same where it is likely before the run has ended.
    fn early_hint(&self) -> Option<String> {
        self.hint().filter(|_| matches!(self, Self::SharedSubscription(_)))
    }
}

/// What shows that a runtime directory was copied, or seems to.
struct CopyThrottle {
    proven: ReportThrottle,
    unverified: ReportThrottle,
    lost: KeyedReportThrottle<StreamId>,
}

impl<'a> Reports<'a> {
    /// For a link of this configuration.
    pub(super) fn new(report: &'a Reporter, config: &Config) -> Self {
        Self {
            report,
            gaps: None,
            cause: LikelyCause::of(config),
            rejected: KeyedReportThrottle::once(),
            copies: CopyThrottle {
                proven: ReportThrottle::every(STREAM_REUSED_INTERVAL),
                unverified: ReportThrottle::every(STREAM_REUSED_INTERVAL),
                lost: KeyedReportThrottle::once(),
            },
            has_skipped: false,
            left: KeyedReportThrottle::once(),
            oversize: ReportThrottle::once(),
        }
    }

    /// The error of a run in which data was lost, if any was. It says what, as with `-q` nothing else does.
    pub(super) fn data_lost(&self) -> Option<Error> {
        let (first, gaps) = self.gaps.as_ref()?;
        let more = if *gaps > 1 { format!(", and {} more", count(gaps - 1, "gap")) } else { String::new() };
        let error = Error::new(Exit::DataLost, "data was lost").because(format!("{first}{more}"));
        Some(error.hint_if(self.cause.hint()))
    }

    fn gap(&mut self, text: std::fmt::Arguments<'_>) {
        let hint = self.cause.early_hint().filter(|_| self.gaps.is_none());
        self.report.warning_with_hint(format_args!("gap: {text}"), hint.as_deref());
        self.gaps.get_or_insert_with(|| (text.to_string(), 0)).1 += 1;
    }

    /// Messages of a stream were lost.
    pub(super) fn messages_lost(&mut self, peer: &str, gap: &Gap) {
        self.gap(format_args!("{peer}, {gap}"));
    }

    /// A stream was closed before its end.
    pub(super) fn stream_closed(&mut self, peer: &str, stream: u32, why: Closing) {
        let why = match why {
            Closing::NoRoom => "too many streams are open",
            Closing::OrderUnknown => "the first message of a later stream, which may continue it, is lost",
        };
        self.gap(format_args!("{peer}, stream {stream}: closed before its end, because {why}"));
    }

    /// A stream continues a sequence of which nothing is known.
    pub(super) fn sequence_unknown(&self, peer: &str, stream: u32, position: u64) {
        self.report.warning(format_args!(
            "{peer}, stream {stream}: continues after {}, and this device does not know whether it received them",
            count(position, "message")
        ));
    }

    /// No message came of these streams, and none will be accepted any more.
    pub(super) fn streams_given_up(&mut self, peer: &str, streams: (u32, u32)) {
        self.gap(format_args!("{peer}: no messages of {} were received", numbered("stream", &[streams])));
    }

    /// No message came of these streams of a session, though one came of a later stream.
    pub(super) fn streams_missing(&mut self, streams: &[(u32, u32)]) {
        self.gap(format_args!("no messages of {} were received", numbered("stream", streams)));
    }

    /// Streams are open, each of the peer of that name, and `more`, and the run ends.
    pub(super) fn streams_open(&self, streams: &[(String, &OpenStream)], more: usize) {
        for (peer, open) in streams {
            self.report.info(format_args!("open: {peer}, {open}"));
        }
        if more > 0 {
            self.report.info(format_args!("open: {} more", count(more as u64, "stream")));
        }
    }

    /// A peer ended its sessions, and these streams of them are not complete.
    pub(super) fn sessions_ended_early(&mut self, peer: &str, incomplete: &[(u32, u32)]) {
        self.gap(format_args!("{peer} ended the session; incomplete: {}", numbered("stream", incomplete)));
    }

    /// A peer ended its sessions, and all of their streams are complete.
    pub(super) fn sessions_ended(&self, peer: &str) {
        self.report.info(format_args!("{peer} ended the session; its keys were deleted"));
    }

    /// Tells that `what` waits for space on the disk, or waits no longer, once each.
    pub(super) fn wait_for_space(&self, what: &str, space: &SpaceWait) {
        space.tell(what, self.report);
    }

    /// A message that the broker kept is not the next of a stream that is open.
    pub(super) fn retained_left(&self, of: &str) {
        self.report.verbose(format_args!("skipped a retained message of {of}"));
    }

    /// The first message under a new session came.
    pub(super) fn session_in_use(&self, peer: &str) {
        self.report.verbose(format_args!("{peer}: the new session is in use"));
    }

    /// A message that does not open has the number of a known stream and another salt. Nothing proves that.
    pub(super) fn may_be_copied(&mut self, peer: &str, stream: u32, now: Instant) {
        if self.copies.unverified.happened(now).is_some() {
            self.report.warning(format_args!(
                "unverified: {peer} may have taken stream {stream} twice, as it does if its runtime directory was copied; \
                 the second one is dropped"
            ));
        }
    }

    /// A message may be of a stream that took a number again, which was over long ago.
    pub(super) fn number_over(&mut self, peer: &str, stream: u32, now: Instant) {
        if self.copies.unverified.happened(now).is_some() {
            self.report.warning(format_args!(
                "unverified: {peer}, stream {stream}: dropped a message, because the stream was over long ago: either the \
                 message is repeated, or {peer} sends with an old runtime directory, restored from a backup, and must \
                 pair again"
            ));
        }
    }

    /// A message was accepted of which nothing is written: it is `skipped`, or it cannot be read, and is lost.
    pub(super) fn message_without_content(&mut self, peer: &str, skipped: bool) {
        if skipped { self.skipped(peer) } else { self.message_of_newer_version(peer) }
    }

    /// A message of a kind that this version skips.
    fn skipped(&mut self, peer: &str) {
        if !std::mem::replace(&mut self.has_skipped, true) {
            self.report.warning(format_args!(
                "{peer} is of a later version: messages of kinds that are not known are skipped"
            ));
        }
    }

    /// A message that this version does not understand, in a stream without gaps.
    pub(super) fn refused(&self, peer: &str) {
        self.report.warning(format_args!("{peer} sent a message that only a newer version understands; it is refused"));
    }

    /// A message that this version does not understand.
    fn message_of_newer_version(&self, peer: &str) {
        self.report
            .warning(format_args!("{peer} sent a message that only a newer version understands; it was not written"));
    }

    /// A message shows that its stream number was used before.
    pub(super) fn stream_reused(&mut self, peer: &str, stream: u32, now: Instant) {
        if self.copies.proven.happened(now).is_some() {
            self.report.warning(format_args!(
                "{peer} used stream {stream} twice: its runtime directory was copied or restored; pair again"
            ));
        }
    }

    /// Two devices use one session: both sent this stream, and what was received of it is of one of them.
    pub(super) fn two_devices(&mut self, peer: &str, stream: StreamId, now: Instant) {
        if self.copies.lost.is_due(&stream, now) {
            let number = stream.number;
            self.gap(format_args!(
                "{peer}: two devices use this session, and both sent stream {number}, which was received from one of them: \
                 the runtime directory was copied or restored; pair again"
            ));
        }
    }

    /// A message was dropped. Junk can come at any rate, so each reason is reported once.
    pub(super) fn rejected(&mut self, reason: Rejected, now: Instant) {
        if self.rejected.is_due(&reason, now) {
            let hint = self.cause.early_hint().filter(|_| reason == Rejected::UnknownSession);
            let text = format_args!("dropped a message: {reason} (further ones are counted, not reported)");
            self.report.warning_with_hint(text, hint.as_deref());
        }
    }

    /// A message was dropped that is over the limit of this device. Nothing tells whether it was junk.
    pub(super) fn oversize(&mut self, len: usize, now: Instant) {
        if self.oversize.happened(now).is_some() {
            self.report.warn(&oversize(len));
        }
    }

    /// The configuration keeps messages of this session out, for the reason that it gives.
    pub(super) fn left_with_broker(&mut self, session: SessionId, why: &Error, now: Instant) {
        if self.left.is_due(&session, now) {
            self.report.warn(why);
        }
    }

    /// Forgets what was said of sessions that are deleted.
    pub(super) fn retain_sessions(&mut self, is_stored: impl Fn(SessionId) -> bool) {
        self.left.retain(|session| is_stored(*session));
        self.copies.lost.retain(|stream| is_stored(stream.session));
    }

    /// A sender did not say that it has heard of the end of its stream.
    pub(super) fn unsettled(&self) {
        self.report.info("the other device may not have heard that everything was written; the next run will tell it");
    }
}

/// Why a run times out of which streams are not complete; of a few that are `open`, how far they came.
pub(super) fn not_complete(incomplete: &[StreamId], open: &[OpenStream]) -> String {
    let numbers: Vec<_> = incomplete.iter().map(|stream| (stream.number, stream.number)).collect();
    let text = format!("{} {} incomplete", numbered("stream", &numbers), is_or_are(numbers.len() as u64));
    let known = open.iter().filter(|open| incomplete.contains(&open.stream));
    let shown: Vec<_> = known.take(MAX_OPEN_IN_ERROR).map(ToString::to_string).collect();
    if shown.is_empty() { text } else { format!("{text} ({})", shown.join("; ")) }
}
