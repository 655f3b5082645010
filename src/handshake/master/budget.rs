//! How often the master signs: forged INITACKs must not keep its processor busy.

use std::time::{Duration, Instant};

/// Time between two signatures; each signs all that came meanwhile.
const SIGNATURE_EVERY: Duration = Duration::from_millis(250);
/// Signatures that may come without that time between them.
const SIGNATURE_BURST: u32 = 2;

/// A bucket of tokens: one a signature.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    tokens: u32,
    since: Instant,
}

impl Budget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: SIGNATURE_BURST, since: now }
    }

    /// The budget after spending one at `now`, if there is one to spend.
    pub(super) fn spend(&self, now: Instant) -> Option<Self> {
        let earned = u32::try_from(now.saturating_duration_since(self.since).as_millis() / SIGNATURE_EVERY.as_millis())
            .unwrap_or(u32::MAX);
        let tokens = self.tokens.saturating_add(earned).min(SIGNATURE_BURST);
        let since = if earned > 0 { now } else { self.since };
        Some(Self { tokens: tokens.checked_sub(1)?, since })
    }

    /// A time that is past: when it began, or earned something last.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When there is one to spend at the latest.
    pub(super) fn next(&self) -> Instant {
        if self.tokens > 0 { self.since } else { self.since + SIGNATURE_EVERY }
    }
}
