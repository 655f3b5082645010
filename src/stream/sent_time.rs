//! When the sender read what a message carries (`sts-protocol(7)`, "Preamble", item 6).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since 1970 by the clock of the device that read the data, which nothing proves to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SentTime(u64);

impl SentTime {
    /// Its length in a message, and in a spool.
    pub(crate) const LEN: usize = 8;

    /// How many bytes of data less a message carries that says it.
    pub(crate) const ITEM_LEN: usize = 3 + Self::LEN;

    /// This time, as far as microseconds have it.
    pub(crate) fn of(time: SystemTime) -> Self {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
    }

    /// The time since 1970.
    pub(crate) fn since_1970(self) -> Duration {
        Duration::from_micros(self.0)
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_be_bytes()
    }

    pub(crate) fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(u64::from_be_bytes(bytes))
    }
}
