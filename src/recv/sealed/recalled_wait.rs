//! How long a run waits for a stream of which an earlier run was told the end.
//!
//! The broker may keep what that run did not acknowledge, and no message says that it keeps nothing. There are two signs that it
//! does not: it could send, and nothing of the stream came; and something came that its sender sent later, which a broker that
//! keeps the order sends later. Runs may be short, so both count on in the next run. What comes of the stream begins the
//! wait anew. What is left of it with the broker ends the wait in this run: only the next one knows more.

use std::time::Duration;

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
    /// How long it was when it began, or began anew.
    before: Duration,
    state: WaitState,
    /// How much is written down; [`Duration::MAX`] if that is too much.
    recorded: Duration,
    /// Something came in this run that was sent later.
    is_credited: bool,
}

/// Whether a wait goes on in this run.
#[derive(Clone, Copy, Debug)]
enum WaitState {
    /// It began, or began anew, at this time of the [`ArrivalClock`](super::arrival_clock::ArrivalClock).
    Since(Duration),
    /// Something of the stream is left with the broker for another run: whatever comes, this one knows no more of it.
    Left,
}

impl RecalledWait {
    /// Earlier runs waited for so long. All times are those of the [`ArrivalClock`](super::arrival_clock::ArrivalClock).
    pub(super) fn new(waited: Duration, now: Duration) -> Self {
        Self { before: waited, state: WaitState::Since(now), recorded: waited, is_credited: false }
    }

    /// Something of the stream came: the rest may follow.
    pub(super) fn restart(&mut self, now: Duration) {
        self.begin_anew();
        if let WaitState::Since(since) = &mut self.state {
            *since = now;
        }
    }

    /// Something of the stream is left with the broker, which sends it again to the next run.
    pub(super) fn left(&mut self) {
        self.begin_anew();
        self.state = WaitState::Left;
    }

    fn begin_anew(&mut self) {
        self.before = Duration::ZERO;
        if !self.recorded.is_zero() {
            self.recorded = Duration::MAX;
        }
    }

    /// Something came that was sent later.
    pub(super) fn overtaken(&mut self) {
        if matches!(self.state, WaitState::Since(_)) && !std::mem::replace(&mut self.is_credited, true) {
            self.before += LATER_CREDIT;
        }
    }

    /// When it is over, if nothing comes before.
    pub(super) fn until(&self) -> Option<Duration> {
        self.at(RECALLED_TIMEOUT)
    }

    /// When it is over, or so much of it is not written down that it is to be.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.at(self.recorded.saturating_add(RECORD_INTERVAL).min(RECALLED_TIMEOUT))
    }

    /// When it has lasted this long.
    fn at(&self, waited: Duration) -> Option<Duration> {
        match self.state {
            WaitState::Since(since) => Some(since + waited.saturating_sub(self.before)),
            WaitState::Left => None,
        }
    }

    /// How long the wait was, if that is to be written down: where it began anew, or much was added, or `any` was. It counts as
    /// written down from now on.
    pub(super) fn take_unrecorded(&mut self, any: bool, now: Duration) -> Option<Duration> {
        let added = match self.state {
            WaitState::Since(since) => now.saturating_sub(since),
            WaitState::Left => Duration::ZERO,
        };
        let waited = (self.before + added).min(RECALLED_TIMEOUT);
        let least = if any { Duration::from_millis(1) } else { RECORD_INTERVAL };
        let is_due = waited < self.recorded || waited >= self.recorded.saturating_add(least);
        is_due.then(|| {
            self.recorded = waited;
            waited
        })
    }
}
