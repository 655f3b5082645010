//! When a confirm is due: for how many messages it waits, and how soon it says that something is missing.

use std::time::{Duration, Instant};

use crate::stream::MAX_CONFIRM_DELAY;

/// Most messages that a confirm waits for.
pub(super) const MAX_BATCH: u32 = 64;
/// Bytes after which it does not wait: half of what a sender has on the way at first.
pub(super) const MAX_UNCONFIRMED_BYTES: usize = 32 << 10;
/// Time between two confirms that say what is missing.
pub(super) const GAP_INTERVAL: Duration = Duration::from_millis(2);
/// How many batches must be full in time before the size of a batch grows.
pub(super) const BATCHES_PER_GROWTH: u32 = 16;

/// What is written and not confirmed, and how much of it a confirm waits for.
///
/// A sender may have few messages on the way, and wait for our confirm before it sends more; the receiver cannot see
/// that it waits. So if [`MAX_CONFIRM_DELAY`] passes before a batch is full, the next one is as small as this one was,
/// and grows again slowly.
pub(super) struct Batch {
    pub(super) since: Option<Instant>,
    pub(super) messages: u32,
    pub(super) bytes: usize,
    /// How many messages make a batch full.
    pub(super) size: u32,
    /// How many batches of this size were full in time.
    pub(super) full: u32,
}

impl Default for Batch {
    fn default() -> Self {
        Self { since: None, messages: 0, bytes: 0, size: 1, full: 0 }
    }
}

impl Batch {
    pub(super) fn is_full(&self) -> bool {
        self.messages >= self.size || self.bytes >= MAX_UNCONFIRMED_BYTES
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + MAX_CONFIRM_DELAY)
    }

    /// The batch is confirmed, because it is full, or `is_late`.
    pub(super) fn next(&mut self, is_late: bool) {
        if self.is_full() {
            self.full += 1;
            if self.full >= BATCHES_PER_GROWTH {
                (self.size, self.full) = ((self.size + 1).min(MAX_BATCH), 0);
            }
        } else if is_late && self.messages > 0 {
            (self.size, self.full) = (self.messages, 0);
        }
        (self.since, self.messages, self.bytes) = (None, 0, 0);
    }
}

/// When senders are told that something is missing. The first time at once: the sooner they resend, the less they have on
/// the way that may be lost, too. Then no more often than each [`GAP_INTERVAL`]: the messages that arrive meanwhile show
/// the same gap, which is being filled already.
#[derive(Default)]
pub(super) struct GapReports {
    pub(super) due: Option<Instant>,
    /// When the last one was due.
    pub(super) last: Option<Instant>,
}

impl GapReports {
    pub(super) fn note(&mut self, now: Instant) {
        if self.due.is_none() {
            self.last = Some(self.last.map_or(now, |last| now.max(last + GAP_INTERVAL)));
            self.due = self.last;
        }
    }

    pub(super) fn are_due(&self, now: Instant) -> bool {
        self.due.is_some_and(|due| now >= due)
    }
}
