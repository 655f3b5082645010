//! How long a run waits for an acknowledgement: before it reports that, and before it ends.
//!
//! These timeouts run from [`Timeouts::waiting_since`]; `--timeout` runs from [`Timeouts::full_since`], that is, not
//! while the run outlasts it, as more input may come that only this run keeps. While nothing waits, only [`STOP_TIMEOUT`]
//! runs, from the signal:
//!
//! | timeout | of | then |
//! |---|---|---|
//! | `--timeout` | any run that has it | it ends |
//! | [`STOP_TIMEOUT`] | any run, not before the signal that stops it | it ends; what it leaves is lost, or in the spool |
//! | the same, whatever is delivered | a run with a spool and a rate limit | it begins no message, and ends once those before are delivered |
//! | [`SILENCE_TIMEOUT`] | a run with `--confirm` | it asks for the reason and reports the silence once; the run continues |
//! | [`END_TIMEOUT`] | a run with `--confirm` of which only the end is not confirmed | it ends, as all is written |
//!
//! A run with a spool that does not send yet, since another one does or there is no session, has timeouts of its own, in which
//! the first two lines mean the same: time counts while something waits that only this run can take further. Beside another
//! run that is what was read and is not in the spool; without a session it is whole messages in it.
//!
//! Time counts here whatever the reason is that nothing is delivered, an absent broker included, with one exception: it
//! does not count while nothing but a rate limit holds the run back (`SendRun::observe_waiting`). With `--confirm`, a lost
//! message is something else that holds it back, so that `--timeout` may pass before its repetition may leave. What is done
//! about silence also needs a clear path (`SendRun::is_path_clear`). When a message is sent again is another clock, that of
//! [`crate::stream::RetransmitQueue`], which starts anew for as long as the path is not clear.
//!
//! In each turn of the loop: [`Timeouts::progress`] for each delivery among the events, [`Timeouts::observe`],
//! [`Timeouts::expired`]; after sending, [`Timeouts::observe`] again, then [`Timeouts::deadlines`].

use std::time::{Duration, Instant};

use crate::Exit;
use crate::event_loop::{STOP_TIMEOUT, Stop};
use crate::report_throttle::ReportThrottle;

/// Why a run ends some time after a signal, with something undelivered.
pub(super) const STOPPED: &str = "stopped by a signal";

/// Why a run ends on a second signal.
pub(super) const STOPPED_AT_ONCE: &str = "stopped by a second signal";

/// How long nothing is confirmed before it is reported, and the receiver is asked why.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a run waits for the confirm of the end of a stream of which all data is confirmed. The receiver may have left
/// after the last line that it wanted, and it waits as long itself before it leaves after an end.
const END_TIMEOUT: Duration = Duration::from_secs(30);

/// What a run that waits does when.
pub(super) struct Timeouts {
    /// `--timeout`.
    timeout: Option<Duration>,
    /// A receiver is to confirm: report that it does not.
    confirmed: bool,
    /// When something was last delivered, or when the first message began to wait if that is later; none while nothing waits.
    waiting_since: Option<Instant>,
    /// The same, but none while the run outlasts `--timeout`, which counts from here.
    full_since: Option<Instant>,
    /// When a signal asked the run to stop.
    stopping_since: Option<Instant>,
    silence: ReportThrottle,
}

impl Timeouts {
    pub(super) fn new(timeout: Option<Duration>, confirmed: bool) -> Self {
        Self {
            timeout,
            confirmed,
            waiting_since: None,
            full_since: None,
            stopping_since: None,
            silence: ReportThrottle::once(),
        }
    }

    /// Whether messages wait to be delivered, and whether `--timeout` must not end the run: as of now, before each question
    /// to this, and after sending. A run that gave up while it keeps its input, whatever the broker does, would lose what
    /// the writer at the other end of the pipe has not written yet.
    pub(super) fn observe(&mut self, waiting: bool, outlasts_timeout: bool, now: Instant) {
        self.waiting_since = waiting.then(|| self.waiting_since.unwrap_or(now));
        self.full_since = (waiting && !outlasts_timeout).then(|| self.full_since.unwrap_or(now));
    }

    /// Something was delivered: for what still waits, time counts from here.
    pub(super) fn progress(&mut self, now: Instant) {
        self.waiting_since = self.waiting_since.map(|_| now);
        self.full_since = self.full_since.map(|_| now);
    }

    /// A signal asks the run to stop; true for the first one.
    pub(super) fn begin_stop(&mut self, now: Instant) -> bool {
        self.stopping_since.replace(self.stopping_since.unwrap_or(now)).is_none()
    }

    /// As [`Timeouts::expired`], with the signals that came, for a run that does not send yet.
    pub(super) fn ended(&mut self, stop: Stop, now: Instant) -> Option<(Exit, &'static str)> {
        if stop > Stop::No {
            self.begin_stop(now);
        }
        if stop == Stop::AtOnce { Some((Exit::DataLost, STOPPED_AT_ONCE)) } else { self.expired(now) }
    }

    /// Why the run must end now, if it must, and its exit status where something is lost by that.
    pub(super) fn expired(&self, now: Instant) -> Option<(Exit, &'static str)> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| now >= at);
        if passed(self.give_up_at()) {
            return Some((Exit::TryAgain, "timed out"));
        }
        passed(self.stop_at()).then_some((Exit::DataLost, STOPPED))
    }

    /// Whether [`STOP_TIMEOUT`] has passed since the signal, whatever was delivered meanwhile.
    pub(super) fn is_stop_overdue(&self, now: Instant) -> bool {
        self.stopping_since.is_some_and(|since| now >= since + STOP_TIMEOUT)
    }

    /// Whether to wait no longer for the confirm of an end that carries no data.
    pub(super) fn is_end_overdue(&self, now: Instant) -> bool {
        self.expired(now).is_some() || self.end_overdue_at().is_some_and(|at| now >= at)
    }

    /// Whether the receiver has been silent for long.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silent_at().is_some_and(|at| now >= at)
    }

    /// The receiver is silent; true where the user is to be told.
    pub(super) fn report_silence(&mut self, now: Instant) -> bool {
        self.silence.happened(now).is_some()
    }

    /// The receiver confirms something; true where the user was told that it did not.
    pub(super) fn end_silence(&mut self) -> bool {
        let reported = self.silence.has_happened();
        self.silence.reset();
        reported
    }

    /// When one of these times has come, some of which may have passed.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let silent_at = self.silent_at().filter(|_| !self.silence.has_happened());
        [self.give_up_at(), self.stop_at(), silent_at, self.end_overdue_at()].into_iter().flatten()
    }

    fn give_up_at(&self) -> Option<Instant> {
        Some(self.full_since? + self.timeout?)
    }

    /// Whether or not a message waits: with a spool and without a broker the end of a stream cannot even be sealed.
    fn stop_at(&self) -> Option<Instant> {
        let stopping_since = self.stopping_since?;
        Some(self.waiting_since.map_or(stopping_since, |since| since.max(stopping_since)) + STOP_TIMEOUT)
    }

    fn end_overdue_at(&self) -> Option<Instant> {
        Some(self.waiting_since.filter(|_| self.confirmed)? + END_TIMEOUT)
    }

    fn silent_at(&self) -> Option<Instant> {
        Some(self.waiting_since.filter(|_| self.confirmed)? + SILENCE_TIMEOUT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn time_counts_only_while_something_waits() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(Some(secs(10)), false);
        assert_eq!(timeouts.deadlines().count(), 0);
        timeouts.observe(true, false, start + secs(100));
        timeouts.observe(true, false, start + secs(105));
        assert_eq!(timeouts.expired(start + secs(109)), None);
        timeouts.progress(start + secs(109));
        timeouts.observe(true, false, start + secs(109));
        assert_eq!(timeouts.expired(start + secs(118)), None);
        assert_eq!(timeouts.deadlines().collect::<Vec<_>>(), [start + secs(119)]);
        assert_eq!(timeouts.expired(start + secs(119)), Some((Exit::TryAgain, "timed out")));
        timeouts.observe(false, false, start + secs(119));
        assert_eq!(timeouts.expired(start + secs(1000)), None);
    }

    #[test]
    fn a_run_that_keeps_its_input_gives_up_only_after_that() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(Some(secs(10)), true);
        timeouts.observe(true, true, start);
        assert!(timeouts.expired(start + secs(1000)).is_none() && timeouts.is_silent(start + secs(5)));
        timeouts.observe(true, false, start + secs(1000));
        assert_eq!(timeouts.expired(start + secs(1009)), None);
        assert_eq!(timeouts.expired(start + secs(1010)), Some((Exit::TryAgain, "timed out")));
        timeouts.observe(true, true, start + secs(1010));
        timeouts.progress(start + secs(1010));
        assert_eq!(timeouts.expired(start + secs(2000)), None);
        assert!(timeouts.begin_stop(start + secs(2000)));
        assert_eq!(timeouts.expired(start + secs(2005)), Some((Exit::DataLost, "stopped by a signal")));
    }

    #[test]
    fn a_delivery_starts_no_clock_where_nothing_waits() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(Some(secs(10)), true);
        timeouts.progress(start);
        assert_eq!((timeouts.deadlines().count(), timeouts.expired(start + secs(100))), (0, None));
    }

    #[test]
    fn a_stopped_run_goes_on_while_something_is_acknowledged() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(None, false);
        timeouts.observe(true, false, start);
        assert!(timeouts.begin_stop(start + secs(60)));
        assert!(!timeouts.begin_stop(start + secs(61)));
        assert_eq!(timeouts.expired(start + secs(64)), None);
        timeouts.progress(start + secs(64));
        assert_eq!(timeouts.expired(start + secs(68)), None);
        let overdue = [64, 65].map(|after| timeouts.is_stop_overdue(start + secs(after)));
        assert_eq!(overdue, [false, true], "whatever is acknowledged");
        assert_eq!(timeouts.expired(start + secs(69)), Some((Exit::DataLost, "stopped by a signal")));
    }

    #[test]
    fn a_stopped_run_ends_though_nothing_waits() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(None, false);
        assert!(timeouts.begin_stop(start));
        assert_eq!(timeouts.deadlines().collect::<Vec<_>>(), [start + secs(5)]);
        assert!(timeouts.expired(start + secs(4)).is_none() && timeouts.expired(start + secs(5)).is_some());
    }

    #[test]
    fn silence_is_reported_once_until_it_ends() {
        let start = Instant::now();
        let mut timeouts = Timeouts::new(None, true);
        timeouts.observe(true, false, start);
        assert!(!timeouts.is_silent(start + secs(4)) && timeouts.is_silent(start + secs(5)));
        assert_eq!(timeouts.deadlines().min(), Some(start + secs(5)));
        assert!(timeouts.report_silence(start + secs(5)) && !timeouts.report_silence(start + secs(6)));
        assert_eq!(timeouts.deadlines().min(), Some(start + END_TIMEOUT));
        assert!(timeouts.end_silence() && !timeouts.end_silence());
    }

    #[test]
    fn an_end_is_waited_for_as_long_as_a_receiver_stays_and_no_longer_than_the_run() {
        let start = Instant::now();
        for (timeout, until) in [(None, 30), (Some(secs(60)), 30), (Some(secs(10)), 10)] {
            let mut timeouts = Timeouts::new(timeout, true);
            timeouts.observe(true, false, start);
            timeouts.progress(start);
            assert!(!timeouts.is_end_overdue(start + secs(until - 1)) && timeouts.is_end_overdue(start + secs(until)));
            assert!(timeouts.deadlines().any(|deadline| deadline == start + secs(until)));
        }
        let mut timeouts = Timeouts::new(None, false);
        timeouts.observe(true, false, start);
        assert!(!timeouts.is_end_overdue(start + secs(1000)), "nobody is asked");
    }
}
