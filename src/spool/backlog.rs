//! Since when a spool holds what is not delivered: `waiting`, which is there only while something waits between two
//! runs.
//!
//! It decides when a person hears of an outage, and nothing else. So it need not survive a power cut, one that cannot
//! be read counts as absent, and that it cannot be written on a full disk is no error.

use std::time::Duration;

use crate::Result;
use crate::files::{self, Dir, Lock};

const FILE_NAME: &str = "waiting";
/// What waits so long is worth a warning, and another one after as long again.
const WARNING_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// Since when something waits, in seconds since 1970 by this device's clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// When something was last delivered, or began to wait.
    since: Option<u64>,
    /// When a person was last told.
    warned: Option<u64>,
}

impl Backlog {
    /// What the last run left.
    pub(super) fn load(dir: &Dir) -> Result<Self> {
        let text = files::read_private(dir, FILE_NAME)?;
        let text = String::from_utf8_lossy(text.as_deref().map_or(&[], Vec::as_slice)).into_owned();
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.parse().ok());
        Ok(Self { since: value("since = "), warned: value("warned = ") })
    }

    /// Something was delivered: what still waits begins to wait now.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }

    /// Something waits at `now`; true where a person is to be told, as it waits for long or the spool `fills`.
    pub(super) fn is_due(&mut self, fills: bool, now: u64) -> bool {
        let passed = |since: u64| now.saturating_sub(since) >= WARNING_INTERVAL.as_secs();
        let since = *self.since.get_or_insert(now);
        let due = (fills || passed(since)) && self.warned.is_none_or(passed);
        if due {
            self.warned = Some(now);
        }
        due
    }

    /// Keeps it for the next run, where it is other than what is there.
    pub(super) fn store(self, dir: &Dir, lock: &Lock) -> Result<()> {
        if Self::load(dir)? == self {
            return Ok(());
        }
        if self == Self::default() {
            return files::remove(dir, FILE_NAME).map(drop);
        }
        let line = |key: &str, value: Option<u64>| value.map(|value| format!("{key} = {value}\n")).unwrap_or_default();
        let text = line("since", self.since) + &line("warned", self.warned);
        // On a full disk the next run tells of it once more.
        let _ = files::replace(dir, lock, FILE_NAME, text.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    #[test]
    fn a_person_is_told_once_a_day_of_what_waits_for_a_day_or_fills_the_spool() {
        let mut backlog = Backlog::default();
        let due = [0, DAY - 1, DAY, DAY + 60, 2 * DAY].map(|after| backlog.is_due(false, 1000 + after));
        assert_eq!(due, [false, false, true, false, true]);
        backlog.restart();
        assert!(!backlog.is_due(false, 9 * DAY) && backlog.is_due(true, 9 * DAY) && !backlog.is_due(true, 9 * DAY + 1));
        // By a clock that was set back it is not old yet.
        assert!(!backlog.is_due(true, 5) && !backlog.is_due(false, 5 + DAY));
    }

    /// Else each run that a timer starts would tell it anew, or none, as none lives for a day.
    #[test]
    fn the_next_run_goes_by_what_the_last_one_knew() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("spool"), files::Guard::Private).unwrap();
        let lock = files::lock(&dir, "lock").unwrap();
        let mut backlog = Backlog::load(&dir).unwrap();
        assert_eq!(backlog, Backlog::default());
        for (now, due) in [(0, false), (DAY, true), (DAY + 60, false), (2 * DAY, true)] {
            assert_eq!(backlog.is_due(false, 1000 + now), due);
            backlog.store(&dir, &lock).unwrap();
            let next = Backlog::load(&dir).unwrap();
            assert_eq!(next, backlog);
            backlog = next;
        }
        backlog.restart();
        backlog.store(&dir, &lock).unwrap();
        assert_eq!(dir.names().unwrap(), ["lock"], "nothing waits, and nothing is left of it");
    }
}
