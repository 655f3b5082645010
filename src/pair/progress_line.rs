//! The line that a person at a terminal sees while sts-pair waits: what it waits for, and for how long.

use std::time::{Duration, Instant};

use crate::report::Reporter;
use crate::units::countdown;

/// How long each frame of the spinner is shown.
const FRAME_INTERVAL: Duration = Duration::from_millis(250);
const FRAMES: [char; 4] = ['|', '/', '-', '\\'];

/// A line with a spinner, and the time at which the run gives up.
#[derive(Debug)]
pub(super) struct ProgressLine {
    frame: usize,
    due: Instant,
    until: Option<Instant>,
}

impl ProgressLine {
    /// For a run that begins now and gives up after `timeout`, if there is one.
    pub(super) fn new(timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        Self { frame: 0, due: now, until: timeout.map(|timeout| now + timeout) }
    }

    /// When the run gives up.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Shows the next frame if it is due; returns when the one after is.
    pub(super) fn show(&mut self, now: Instant, waits_for: &str, report: &Reporter) -> Instant {
        if now >= self.due {
            self.due = now + FRAME_INTERVAL;
            self.frame = (self.frame + 1) % FRAMES.len();
            report.status(format_args!("{} {}", FRAMES[self.frame], text(now, waits_for, self.until)));
        }
        self.due
    }
}

fn text(now: Instant, waits_for: &str, until: Option<Instant>) -> String {
    let left = until.map(|until| format!(", {} left", countdown(until.saturating_duration_since(now))));
    let left = left.unwrap_or_default();
    format!("waiting for the {waits_for}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_minutes_and_seconds() {
        let now = Instant::now();
        for (left, expected) in
            [(600_000, ", 10:00 left"), (61_001, ", 1:02 left"), (1, ", 0:01 left"), (0, ", 0:00 left")]
        {
            let until = Some(now + Duration::from_millis(left));
            assert_eq!(text(now, "broker", until), format!("waiting for the broker{expected}"));
        }
        assert_eq!(text(now, "other device", None), "waiting for the other device");
    }
}
