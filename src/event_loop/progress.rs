//! How far a run has come, in words: on a terminal with `--progress`, and once for each SIGUSR1.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use crate::Result;
use crate::report::Reporter;
use crate::stdio::Signals;
use crate::text::count;
use crate::units::{approximate, short_size};

/// Time between two lines on a terminal.
const SHOW_INTERVAL: Duration = Duration::from_millis(500);
/// The rate is that of the last lines, this many.
const MAX_SAMPLES: usize = 20;

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RunProgress {
    /// Bytes of the input or output that are done.
    pub(crate) bytes: u64,
    /// All that there will be, if that is known.
    pub(crate) total: Option<u64>,
    /// Lines, if they are counted.
    pub(crate) lines: Option<u64>,
    /// What is under way, in words; empty if nothing is.
    pub(crate) under_way: String,
}

/// Decides when that is told, and knows how fast it goes.
#[derive(Debug)]
pub(crate) struct ProgressMeter {
    requests: Signals,
    /// How many of them were answered.
    answered: usize,
    is_requested: bool,
    /// When the next line is due on a terminal; `None` without `--progress` or a terminal.
    due: Option<Instant>,
    /// When how many bytes were done, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl ProgressMeter {
    /// From here on SIGUSR1 is a request instead of the end of the process. With `is_wanted`, the progress is shown on a
    /// terminal.
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub(crate) fn new(is_wanted: bool, report: &Reporter, now: Instant) -> Result<Self> {
        let due = (is_wanted && report.has_status()).then_some(now);
        let (requests, samples) = (Signals::progress_requests()?, VecDeque::from([(now, 0)]));
        Ok(Self { requests, answered: 0, is_requested: false, due, samples })
    }

    /// Becomes readable at a request.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.requests.as_fd()
    }

    /// Takes notice of requests.
    pub(crate) fn take_requests(&mut self) {
        let answered = std::mem::replace(&mut self.answered, self.requests.count());
        self.is_requested |= self.answered > answered;
    }

    /// When the next line is due.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Whether a line is due.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.is_requested || self.due.is_some_and(|due| now >= due)
    }

    /// Tells how far the run has come.
    pub(crate) fn tell(&mut self, progress: &RunProgress, report: &Reporter, now: Instant) {
        let text = self.describe(progress, now);
        if std::mem::take(&mut self.is_requested) {
            report.answer(&text);
        }
        if let Some(due) = &mut self.due {
            report.status(&text);
            *due = now + SHOW_INTERVAL;
        }
    }

    fn describe(&mut self, progress: &RunProgress, now: Instant) -> String {
        let rate = self.rate(progress.bytes, now);
        let mut text = short_size(progress.bytes);
        if let Some(total) = progress.total {
            let percent = progress.bytes.saturating_mul(100).checked_div(total).unwrap_or(100).min(100);
            let _ = write!(text, " of {} ({percent}%)", short_size(total));
        }
        if let Some(lines) = progress.lines {
            let _ = write!(text, ", {}", count(lines, "line"));
        }
        let _ = write!(text, ", {}/s", short_size(rate));
        if !progress.under_way.is_empty() {
            let _ = write!(text, ", {}", progress.under_way);
        }
        let left = progress.total.map(|total| total.saturating_sub(progress.bytes));
        if let Some(seconds) = left.filter(|_| rate > 0).map(|left| left.div_ceil(rate)) {
            let _ = write!(text, ", {} left", approximate(seconds));
        }
        text
    }

    /// Bytes per second, since the oldest sample.
    fn rate(&mut self, bytes: u64, now: Instant) -> u64 {
        self.samples.push_back((now, bytes));
        if self.samples.len() > MAX_SAMPLES {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else { return 0 };
        let millis = u64::try_from(now.saturating_duration_since(*since).as_millis()).unwrap_or(u64::MAX);
        bytes.saturating_sub(*before).saturating_mul(1000).checked_div(millis).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(now: Instant) -> ProgressMeter {
        let (requests, _) = Signals::simulated();
        ProgressMeter { requests, answered: 0, is_requested: false, due: None, samples: VecDeque::from([(now, 0)]) }
    }

    #[test]
    fn a_line_says_how_much_how_fast_and_how_long_it_will_take() {
        let begun = Instant::now();
        let mut meter = meter(begun);
        let mut progress = RunProgress { total: Some(10 << 20), lines: Some(1), ..RunProgress::default() };
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert_eq!(meter.describe(&progress, begun), "0B of 10.0M (0%), 1 line, 0B/s");
        progress.bytes = 2 << 20;
        progress.under_way = "3 messages (12k) unacknowledged".to_owned();
        let expected = "2.0M of 10.0M (20%), 1 line, 1.0M/s, 3 messages (12k) unacknowledged, 8s left";
        assert_eq!(meter.describe(&progress, after(2)), expected);
        // The rate is that of the last lines: one that has stalled is not in time because it was fast once.
        for second in 3..=2 + MAX_SAMPLES as u64 {
            meter.describe(&progress, after(second));
        }
        assert!(meter.describe(&progress, after(100)).contains(", 0B/s, "));
        progress.total = None;
        assert!(!meter.describe(&progress, after(101)).contains("left"));
        assert_eq!(
            meter.describe(&RunProgress { total: Some(0), ..RunProgress::default() }, after(102)),
            "0B of 0B (100%), 0B/s"
        );
    }
}
