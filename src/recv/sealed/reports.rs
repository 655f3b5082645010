//! What the user is told of sealed messages: every sentence of it, and whether it means that data was lost.

use std::time::{Duration, Instant};

use crate::Rejected;
use crate::report::Reporter;
use crate::stream::Gap;
use crate::text::numbered;
use crate::throttle::{KeyedThrottle, Throttle};

/// How often a stream number that is used twice is news: a message that shows it can be played again and again.
const STREAM_REUSED_INTERVAL: Duration = Duration::from_secs(60);

/// Reports to the user, and remembers whether data was lost.
pub(super) struct Reports<'a> {
    report: &'a Reporter,
    is_data_lost: bool,
    rejected: KeyedThrottle<Rejected>,
    stream_reused: Throttle,
}

impl<'a> Reports<'a> {
    pub(super) fn new(report: &'a Reporter) -> Self {
        Self {
            report,
            is_data_lost: false,
            rejected: KeyedThrottle::once(),
            stream_reused: Throttle::every(STREAM_REUSED_INTERVAL),
        }
    }

    /// Whether data was lost in this run.
    pub(super) fn is_data_lost(&self) -> bool {
        self.is_data_lost
    }

    fn gap(&mut self, text: std::fmt::Arguments<'_>) {
        self.is_data_lost = true;
        self.report.warning(format_args!("gap: {text}"));
    }

    /// Messages of a stream were lost.
    pub(super) fn messages_lost(&mut self, peer: &str, gap: &Gap) {
        self.gap(format_args!("{peer}, {gap}"));
    }

    /// A stream was closed before its end, to make room for another one.
    pub(super) fn stream_closed(&mut self, peer: &str, stream: u32) {
        self.gap(format_args!("{peer}, stream {stream}: closed before its end, since too many streams are open"));
    }

    /// No message came of these streams, and none will be accepted any more.
    pub(super) fn streams_given_up(&mut self, peer: &str, streams: (u32, u32)) {
        self.gap(format_args!("{peer}: no messages of {} were received", numbered("stream", &[streams])));
    }

    /// No message came of these streams of a session, though one came of a later stream.
    pub(super) fn streams_missing(&mut self, streams: &[(u32, u32)]) {
        self.gap(format_args!("no messages of {} were received", numbered("stream", streams)));
    }

    /// A peer ended its sessions, and these streams of them are not complete.
    pub(super) fn sessions_ended_early(&mut self, peer: &str, incomplete: &[(u32, u32)]) {
        self.gap(format_args!("{peer} ended the session; not complete: {}", numbered("stream", incomplete)));
    }

    /// A peer ended its sessions, and all of their streams are complete.
    pub(super) fn sessions_ended(&self, peer: &str) {
        self.report.info(format_args!("{peer} ended the session; its keys were deleted"));
    }

    /// A message that the broker kept is not the next of a stream that is open.
    pub(super) fn retained_left(&self, of: &str) {
        self.report.verbose(format_args!("skipped a retained message of {of}"));
    }

    /// The first message under a new session came.
    pub(super) fn session_in_use(&self, peer: &str) {
        self.report.verbose(format_args!("{peer}: the new session is in use"));
    }

    /// A message of a kind that this version does not know.
    pub(super) fn message_of_newer_version(&self, peer: &str) {
        self.report
            .warning(format_args!("{peer} sent a message that only a newer version understands; it is lost here"));
    }

    /// A message shows that its stream number was used before.
    pub(super) fn stream_reused(&mut self, peer: &str, stream: u32, now: Instant) {
        if self.stream_reused.happened(now).is_some() {
            self.report.warning(format_args!(
                "{peer} used stream {stream} twice: its runtime directory was copied or restored; pair again"
            ));
        }
    }

    /// A message was dropped. Junk can come at any rate, so each reason is reported once.
    pub(super) fn rejected(&mut self, reason: Rejected, now: Instant) {
        if self.rejected.is_due(&reason, now) {
            self.report.warning(format_args!("dropped a message: {reason} (further ones are counted, not reported)"));
        }
    }

    /// A sender did not say that it has heard of the end of its stream.
    pub(super) fn unsettled(&self) {
        self.report.info("the other device may not have heard that everything was written; the next run will tell it");
    }
}
