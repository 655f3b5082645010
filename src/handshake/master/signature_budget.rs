//! How often the master signs: forged INITACKs must not keep its processor busy.

use std::time::{Duration, Instant};

/// Time between two signatures; each covers all attempts that came in meanwhile.
const SIGNATURE_INTERVAL: Duration = Duration::from_millis(250);
/// Signatures that may be made without that time between them.
const MAX_SIGNATURE_BURST: u32 = 2;

/// A token bucket: one token per signature.
#[derive(Clone, Debug)]
pub(super) struct SignatureBudget {
    tokens: u32,
    since: Instant,
}

impl SignatureBudget {
    pub(super) fn new(now: Instant) -> Self {
        Self { tokens: MAX_SIGNATURE_BURST, since: now }
    }

    /// The budget after a signature at `now`, if one may be made.
    pub(super) fn spend(&self, now: Instant) -> Option<Self> {
        let elapsed = now.saturating_duration_since(self.since);
        let earned = u32::try_from(elapsed.as_millis() / SIGNATURE_INTERVAL.as_millis()).unwrap_or(u32::MAX);
        let tokens = self.tokens.saturating_add(earned).min(MAX_SIGNATURE_BURST);
        let since = if earned > 0 { now } else { self.since };
        Some(Self { tokens: tokens.checked_sub(1)?, since })
    }

    /// When it began, or last earned a token: a time that has passed.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// When a signature may be made at the latest.
    pub(super) fn next(&self) -> Instant {
        if self.tokens > 0 { self.since } else { self.since + SIGNATURE_INTERVAL }
    }
}
