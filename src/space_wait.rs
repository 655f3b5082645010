//! Waiting for space on a disk: what has to be written down is tried again every second, and the user is told once.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::error::Lack;
use crate::report::Reporter;
use crate::{Error, Result};

/// How often to try again while the disk is full.
pub(crate) const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// What the user is told once there is space.
pub(crate) const SPACE_AGAIN: &str = "there is space on the disk again";

/// The error, if the disk is full.
pub(crate) fn disk_full<T>(outcome: &Result<T>) -> Option<&Error> {
    outcome.as_ref().err().filter(|error| error.lack() == Some(Lack::Disk))
}

/// What the user is told while the disk has no space to record `what`, which failed with this error.
pub(crate) fn waiting_for_space(what: &str, error: &Error) -> String {
    format!("the disk is full; waiting for space to record {what}: {error}")
}

/// Whether something waits for space on the disk, and what the user is to be told of it.
#[derive(Default)]
pub(crate) struct SpaceWait {
    /// When to try again, while it is full.
    retry_at: Option<Instant>,
    news: Cell<Option<News>>,
}

/// What the user has not been told yet.
enum News {
    Full(Error),
    SpaceAgain,
}

impl SpaceWait {
    /// Whether something may be written now: if the disk is not full, or it is time to try again.
    pub(crate) fn may_write(&self, now: Instant) -> bool {
        self.retry_at.is_none_or(|at| now >= at)
    }

    /// What came of writing; `None` where the disk is full, so that the same is to be written again.
    ///
    /// # Errors
    /// Where it failed for another reason.
    pub(crate) fn unless_full<T>(&mut self, outcome: Result<T>, now: Instant) -> Result<Option<T>> {
        if let Some(error) = disk_full(&outcome) {
            if self.retry_at.replace(now + RETRY_INTERVAL).is_none() {
                self.news.set(Some(News::Full(error.clone())));
            }
            return Ok(None);
        }
        if self.retry_at.take().is_some() {
            self.news.set(Some(News::SpaceAgain));
        }
        outcome.map(Some)
    }

    /// When to try again; `None` where nothing waits.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Tells the user that `what` waits, or waits no longer, once each.
    pub(crate) fn tell(&self, what: &str, report: &Reporter) {
        match self.news.take() {
            Some(News::Full(error)) => report.info(waiting_for_space(what, &error)),
            Some(News::SpaceAgain) => report.info(SPACE_AGAIN),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Exit;

    fn full() -> Result<()> {
        Err(Error::new(Exit::Failed, "full").for_lack_of(Some(Lack::Disk)))
    }

    #[test]
    fn what_finds_no_space_is_tried_again_a_second_later() {
        let (mut space, start) = (SpaceWait::default(), Instant::now());
        assert!(space.may_write(start));
        assert!(matches!(space.unless_full(full(), start), Ok(None)));
        assert!(!space.may_write(start) && space.retry_at() == Some(start + RETRY_INTERVAL));
        let later = start + RETRY_INTERVAL;
        assert!(space.may_write(later) && matches!(space.unless_full(full(), later), Ok(None)));
        assert_eq!(space.retry_at(), Some(later + RETRY_INTERVAL));
        assert!(matches!(space.unless_full(Ok(1), later + RETRY_INTERVAL), Ok(Some(1))));
        assert!(space.may_write(later) && space.retry_at().is_none());
    }

    #[test]
    fn another_failure_is_no_reason_to_wait() {
        let mut space = SpaceWait::default();
        let failed: Result<()> = Err(Error::new(Exit::Failed, "broken").for_lack_of(Some(Lack::System)));
        assert!(space.unless_full(failed, Instant::now()).is_err());
        assert!(space.retry_at().is_none());
    }
}
