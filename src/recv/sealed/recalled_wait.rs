//! How long a run waits for a stream of which an earlier run was told the end.
//!
//! The broker may keep what that run did not acknowledge, and no message says that it keeps nothing. There are two signs that it
//! does not: it could send, and nothing of the stream came; and something came that its sender sent later, which a broker that
//! keeps the order sends later. Runs may be short, so both count on in the next run. What comes of the stream begins the
//! wait anew.

use std::time::{Duration, Instant};

use super::reorder_buffer::REORDER_TIMEOUT;

/// How long the broker could send what it keeps of a stream, in all runs together, before that is lost.
pub(super) const RECALLED_TIMEOUT: Duration = REORDER_TIMEOUT;
/// How much of that a run is worth in which something came that was sent later: not all of it, as some brokers do not keep the
/// order of what they send again.
const LATER_CREDIT: Duration = Duration::from_millis(2500);
/// How often the wait is written down: a run that is killed did not wait in vain.
const RECORD_INTERVAL: Duration = Duration::from_secs(1);

/// The wait for one stream.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecalledWait {
    /// How long it was until `since`.
    before: Duration,
    /// Since when the broker can send, if it can.
    since: Option<Instant>,
    /// How much is written down; [`Duration::MAX`] if that is too much.
    recorded: Duration,
    /// Something came in this run that was sent later.
    is_credited: bool,
}

impl RecalledWait {
    /// Earlier runs waited for so long.
    pub(super) fn new(waited: Duration) -> Self {
        Self { before: waited, since: None, recorded: waited, is_credited: false }
    }

    /// The broker sends what it keeps from now on.
    pub(super) fn subscribed(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    /// Something of the stream came: the rest may follow.
    pub(super) fn restart(&mut self, now: Instant) {
        self.begin_anew();
        self.since = self.since.map(|_| now);
    }

    /// Something of the stream is left with the broker, which sends it again on the next connection.
    pub(super) fn left(&mut self) {
        self.begin_anew();
        self.since = None;
    }

    fn begin_anew(&mut self) {
        self.before = Duration::ZERO;
        if !self.recorded.is_zero() {
            self.recorded = Duration::MAX;
        }
    }

    /// Something came that was sent later.
    pub(super) fn overtaken(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.is_credited, true) {
            self.before += LATER_CREDIT;
            // What comes before SUBACK is sent by a broker that has the subscription.
            self.subscribed(now);
        }
    }

    pub(super) fn since_mut(&mut self) -> Option<&mut Instant> {
        self.since.as_mut()
    }

    /// When it is over, if nothing comes before.
    pub(super) fn until(&self) -> Option<Instant> {
        self.since.map(|since| since + RECALLED_TIMEOUT.saturating_sub(self.before))
    }

    /// When so much of it is not written down that it is to be.
    pub(super) fn record_at(&self) -> Option<Instant> {
        let next = self.recorded.saturating_add(RECORD_INTERVAL).min(RECALLED_TIMEOUT);
        self.since.map(|since| since + next.saturating_sub(self.before))
    }

    /// How long the wait was, if that is to be written down: where it began anew, or much was added, or `any` was. It counts as
    /// written down from now on.
    pub(super) fn take_unrecorded(&mut self, any: bool, now: Instant) -> Option<Duration> {
        let waited = self.before + self.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let waited = waited.min(RECALLED_TIMEOUT);
        let least = if any { Duration::from_millis(1) } else { RECORD_INTERVAL };
        let is_due = waited < self.recorded || waited >= self.recorded.saturating_add(least);
        is_due.then(|| {
            self.recorded = waited;
            waited
        })
    }
}
