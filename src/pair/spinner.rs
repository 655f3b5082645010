//! What a person at a terminal sees while nothing is said: that sts-pair waits, and how long it will.

use std::time::{Duration, Instant};

use crate::cli::Reporter;
use crate::units::countdown;

/// How long each picture stands.
const TURN: Duration = Duration::from_millis(250);
const PICTURES: [char; 4] = ['|', '/', '-', '\\'];

/// A line that turns for as long as the loop does.
#[derive(Debug)]
pub(super) struct Spinner {
    turns: usize,
    due: Instant,
}

impl Spinner {
    pub(super) fn new(now: Instant) -> Self {
        Self { turns: 0, due: now }
    }

    /// Shows the next picture, and whom it waits for until when, if it is due; returns when the one after is.
    pub(super) fn turn(&mut self, now: Instant, whom: &str, until: Option<Instant>, report: &Reporter) -> Instant {
        if now >= self.due {
            self.due = now + TURN;
            self.turns += 1;
            report.status(format_args!("{} {}", PICTURES[self.turns % PICTURES.len()], words(now, whom, until)));
        }
        self.due
    }
}

fn words(now: Instant, whom: &str, until: Option<Instant>) -> String {
    let left = until.map(|until| format!(", {} left", countdown(until.saturating_duration_since(now))));
    let left = left.unwrap_or_default();
    format!("waiting for the {whom}{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_said_in_minutes_and_seconds() {
        let now = Instant::now();
        for (left, text) in [(600_000, ", 10:00 left"), (61_001, ", 1:02 left"), (1, ", 0:01 left"), (0, ", 0:00 left")]
        {
            let until = Some(now + Duration::from_millis(left));
            assert_eq!(words(now, "broker", until), format!("waiting for the broker{text}"));
        }
        assert_eq!(words(now, "other device", None), "waiting for the other device");
    }
}
