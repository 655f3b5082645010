//! What would end a run with a spool, while that still takes input.
//!
//! Such a run must not end: what the program at the other end of the pipe has not written yet would be lost with it. So the
//! failure is reported once, and what failed is tried again, with growing pauses, which are the client's. The run ends for it
//! once all input is in the spool, unless it has succeeded by then. A run without a spool ends at once, since it keeps nothing.
//!
//! This is for what the network or another program can mend while the run waits ([`FailureCause`]). What is wrong with the
//! configuration, the spool itself or standard input ends any run at once.

use std::time::{Duration, Instant};

use crate::Error;
use crate::mqtt::Refused;
use crate::report::Reporter;
use crate::report_throttle::KeyedReportThrottle;
use crate::sessions::SESSION_CHECK_INTERVAL;

/// How often the same failure is reported where the input does not end.
const REPORT_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum FailureCause {
    /// The broker refuses this.
    Refused(Refused),
    /// The receiver does not understand a message.
    NotUnderstood,
    /// The stream cannot continue for now: its session is gone, or the disk has no space to cut the spool anew.
    Stream,
}

impl FailureCause {
    /// Whether one success says that it is over: of many messages some may be accepted, and others not.
    fn ends_at_once(self) -> bool {
        match self {
            Self::Refused(Refused::Connection | Refused::Subscription) | Self::Stream => true,
            Self::Refused(Refused::Message) | Self::NotUnderstood => false,
        }
    }
}

/// The last failure of a run that continues.
pub(super) struct RetriedFailure {
    last: Option<LastFailure>,
    /// The broker accepted the connection that there is, or that was lost last.
    was_accepted: bool,
    reports: KeyedReportThrottle<FailureCause>,
}

struct LastFailure {
    cause: FailureCause,
    error: Error,
    /// The turn of the loop in which it failed.
    at: Instant,
}

impl RetriedFailure {
    pub(super) fn none() -> Self {
        Self { last: None, was_accepted: false, reports: KeyedReportThrottle::every(REPORT_INTERVAL, usize::MAX) }
    }

    /// This fails, and the run continues: reports it, unless that was done before.
    pub(super) fn failed(&mut self, cause: FailureCause, error: Error, report: &Reporter, now: Instant) {
        report.service_status(format_args!("trying again: {error}"));
        if self.reports.is_due(&cause, now) {
            report.warn(&error.clone().and_because("trying again; meanwhile, input waits in the spool"));
        }
        self.note(cause, error, now);
    }

    /// This fails, and the run may end for it without an error.
    pub(super) fn note(&mut self, cause: FailureCause, error: Error, now: Instant) {
        self.last = Some(LastFailure { cause, error, at: now });
    }

    /// The connection is lost, or an attempt failed: forgets an earlier refusal, as the next broker may not repeat it.
    /// A refusal in this turn stays: it is what ended the connection. So does a refused message until an attempt fails:
    /// a broker may refuse it by closing one connection after another, and is not away then.
    pub(super) fn disconnected(&mut self, now: Instant) {
        let is_attempt = !std::mem::take(&mut self.was_accepted);
        self.last.take_if(|LastFailure { cause, at, .. }| {
            let is_over = match cause {
                FailureCause::Refused(Refused::Connection | Refused::Subscription) => true,
                FailureCause::Refused(Refused::Message) | FailureCause::NotUnderstood => is_attempt,
                FailureCause::Stream => false,
            };
            is_over && *at != now
        });
    }

    /// What failed has succeeded, if it was this; true if it was.
    pub(super) fn succeeded(&mut self, cause: FailureCause) -> bool {
        self.was_accepted |= cause == FailureCause::Refused(Refused::Connection);
        if cause.ends_at_once() {
            self.reports.retain(|reported| *reported != cause);
        }
        self.last.take_if(|failed| failed.cause == cause).is_some()
    }

    /// The refusal for which the run ends once it takes no more input, if there is one. The stream itself says why it
    /// cannot continue, when it is asked for the next message.
    pub(super) fn refusal(&self) -> Option<&Error> {
        self.last.as_ref().filter(|failed| failed.cause != FailureCause::Stream).map(|failed| &failed.error)
    }

    /// When to try again what nothing else wakes the run for. The client has its own pauses, and so have retransmissions.
    pub(super) fn retry_at(&self, now: Instant) -> Option<Instant> {
        let failed = self.last.as_ref()?;
        (failed.cause == FailureCause::Stream).then(|| now + SESSION_CHECK_INTERVAL)
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::Exit;
    use crate::report::Level;
    use crate::report::tests::Said;

    const LOGIN: FailureCause = FailureCause::Refused(Refused::Connection);
    const TOPIC: FailureCause = FailureCause::Refused(Refused::Subscription);
    const MESSAGE: FailureCause = FailureCause::Refused(Refused::Message);

    /// These fail, or are over, a second after each other; returns how often each was reported.
    fn reported<const N: usize>(events: &[(FailureCause, bool)], of: [FailureCause; N]) -> [usize; N] {
        let (said, start) = (Said::default(), Instant::now());
        let report = Reporter::to("sts-send", Level::Warning, Box::new(said.clone()));
        let mut failure = RetriedFailure::none();
        for ((cause, fails), second) in events.iter().zip(0..) {
            if *fails {
                let now = start + Duration::from_secs(second);
                failure.failed(*cause, Error::new(Exit::Unavailable, format!("<{cause:?}>")), &report, now);
                assert!(failure.refusal().unwrap().to_string().contains(&format!("{cause:?}")));
            } else {
                failure.succeeded(*cause);
            }
        }
        let said = said.take();
        of.map(|cause| said.matches(&format!("<{cause:?}>")).count())
    }

    #[test]
    fn each_failure_is_reported_once_until_it_is_over() {
        let events = [(LOGIN, true), (LOGIN, true), (TOPIC, true), (LOGIN, true), (LOGIN, false), (LOGIN, true)];
        assert_eq!(reported(&events, [LOGIN, TOPIC]), [2, 1]);
    }

    #[test]
    fn one_message_that_is_accepted_does_not_have_the_next_refusal_reported() {
        assert_eq!(reported(&[(MESSAGE, true), (MESSAGE, false), (MESSAGE, true)], [MESSAGE]), [1]);
    }

    #[test]
    fn a_failure_is_reported_again_after_a_day() {
        let (said, start) = (Said::default(), Instant::now());
        let report = Reporter::to("sts-send", Level::Warning, Box::new(said.clone()));
        let mut failure = RetriedFailure::none();
        for hour in 0..=24 {
            let now = start + Duration::from_secs(hour * 60 * 60);
            failure.failed(LOGIN, Error::new(Exit::Unavailable, "refused"), &report, now);
        }
        assert_eq!(said.take().matches("refused").count(), 2);
    }

    #[test]
    fn a_refusal_is_over_once_the_same_thing_is_accepted() {
        let report = Reporter::to("sts-send", Level::Error, Box::new(io::sink()));
        let mut failure = RetriedFailure::none();
        failure.failed(TOPIC, Error::new(Exit::Unavailable, "refused"), &report, Instant::now());
        for other in [LOGIN, MESSAGE, FailureCause::NotUnderstood] {
            failure.succeeded(other);
            assert!(failure.refusal().is_some(), "{other:?}");
        }
        failure.succeeded(TOPIC);
        assert!(failure.refusal().is_none());
    }

    #[test]
    fn a_refusal_is_over_once_the_broker_is_away_for_another_reason() {
        let report = Reporter::to("sts-send", Level::Error, Box::new(io::sink()));
        let start = Instant::now();
        // Whether the broker had accepted the connection on which it refused, and how many more are lost until that is over.
        for (cause, accepted, losses) in [
            (LOGIN, false, 1),
            (TOPIC, true, 1),
            (MESSAGE, true, 2),
            (FailureCause::NotUnderstood, true, 2),
            (FailureCause::Stream, true, 0),
        ] {
            let mut failure = RetriedFailure::none();
            if accepted {
                failure.succeeded(LOGIN);
            }
            failure.failed(cause, Error::new(Exit::Unavailable, "refused"), &report, start);
            if cause == LOGIN {
                failure.disconnected(start);
            }
            for loss in 1..=2 {
                assert!(failure.last.is_some(), "{cause:?} is not over before {loss}");
                failure.disconnected(start + Duration::from_secs(loss));
                if loss == losses {
                    break;
                }
            }
            assert_eq!(failure.last.is_none(), losses > 0, "{cause:?}");
        }
    }

    #[test]
    fn a_stream_that_cannot_continue_wakes_the_run_and_does_not_end_it() {
        let report = Reporter::to("sts-send", Level::Error, Box::new(io::sink()));
        let (mut failure, now) = (RetriedFailure::none(), Instant::now());
        failure.failed(LOGIN, Error::new(Exit::Unavailable, "refused"), &report, now);
        assert!(failure.retry_at(now).is_none() && failure.refusal().is_some());
        failure.failed(FailureCause::Stream, Error::new(Exit::TryAgain, "no session"), &report, now);
        assert!(failure.retry_at(now).is_some_and(|at| at > now) && failure.refusal().is_none());
        failure.succeeded(FailureCause::Stream);
        assert!(failure.retry_at(now).is_none());
    }
}
