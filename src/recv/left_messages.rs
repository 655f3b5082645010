//! Messages that are left with the broker: unacknowledged, until another run takes them.
//!
//! A broker sends only so many without an acknowledgement, for all streams together. With as many of them left, nothing
//! of what this run receives can come: then it ends, rather than wait for ever. Nothing is lost, as the broker has all
//! of it.

use std::time::{Duration, Instant};

use crate::mqtt::{MIN_BROKER_WINDOW, Qos};
use crate::text::count;
use crate::{Error, Exit};

/// With as many left, the broker may send nothing more.
const MAX_LEFT_MESSAGES: usize = MIN_BROKER_WINDOW;
/// How long nothing may come with more than that left. A sender that is slow is silent as well.
const FULL_WINDOW_TIMEOUT: Duration = Duration::from_secs(30);

/// A message that is left with the broker.
#[derive(Debug)]
pub(super) struct LeftMessage {
    pub(super) qos: Qos,
    /// Why this device's configuration keeps it out; `None` where it is for another run with the same configuration.
    pub(super) kept_out: Option<Error>,
}

/// How many are left, and since when nothing else came.
#[derive(Debug)]
pub(super) struct LeftMessages {
    /// Those of this connection. On the next one they come again, and are counted anew.
    at_least_once: usize,
    /// Those at QoS 2, which come once, however many connections there are.
    exactly_once: usize,
    /// Why the last of those that the configuration keeps out was left.
    kept_out: Option<Error>,
    /// When the last message came that the broker wants acknowledged, or nothing could come.
    last: Instant,
    is_stalled: bool,
    /// The user knows that the broker may be one that sends even fewer.
    is_told: bool,
}

impl LeftMessages {
    pub(super) fn new(now: Instant) -> Self {
        Self { at_least_once: 0, exactly_once: 0, kept_out: None, last: now, is_stalled: false, is_told: false }
    }

    /// A message came, whatever becomes of it.
    pub(super) fn received(&mut self, qos: Qos, now: Instant) {
        if qos > Qos::AtMostOnce {
            self.last = now;
        }
    }

    pub(super) fn push(&mut self, message: LeftMessage) {
        match message.qos {
            Qos::AtMostOnce => return,
            Qos::AtLeastOnce => self.at_least_once += 1,
            Qos::ExactlyOnce => self.exactly_once += 1,
        }
        if message.kept_out.is_some() {
            self.kept_out = message.kept_out;
        }
    }

    /// The connection is gone.
    pub(super) fn disconnected(&mut self) {
        self.at_least_once = 0;
    }

    /// Nothing can come from now on, or something can again: the broker waits for the acknowledgement of what was
    /// received, or there is no connection. The time between does not count.
    pub(super) fn set_stalled(&mut self, stalled: bool, now: Instant) {
        if stalled || self.is_stalled {
            self.last = now;
        }
        self.is_stalled = stalled;
    }

    fn count(&self) -> usize {
        self.at_least_once + self.exactly_once
    }

    /// Whether so many are left that the broker may send nothing more.
    pub(super) fn is_full(&self) -> bool {
        self.count() >= MAX_LEFT_MESSAGES
    }

    /// When nothing has come for so long that nothing will.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (self.is_full() && !self.is_stalled).then(|| self.last + FULL_WINDOW_TIMEOUT)
    }

    /// When to call [`LeftMessages::take_notice`], if nothing comes before.
    pub(super) fn notice_at(&self) -> Option<Instant> {
        let may_be_full = self.count() > 0 && !self.is_full() && self.kept_out.is_none();
        (may_be_full && !self.is_told && !self.is_stalled).then(|| self.last + FULL_WINDOW_TIMEOUT)
    }

    /// What the user is to know, once, where fewer are left and nothing came for as long. A broker can be set to send
    /// even fewer; but a sender that is slow is silent as well, so that this ends no run.
    pub(super) fn take_notice(&mut self, now: Instant) -> Option<String> {
        self.notice_at().filter(|at| now >= *at)?;
        self.is_told = true;
        Some(format!(
            "nothing was received for {} s, with {} of other streams left for the next run: \
             if the broker sends no more than that without an acknowledgement, raise its limit \
             (max_inflight_messages of mosquitto, mqtt.prefetch of RabbitMQ)",
            FULL_WINDOW_TIMEOUT.as_secs(),
            count(self.count() as u64, "message")
        ))
    }

    /// The error of a run that ends as nothing more came; `None` where that is not for what is left.
    pub(super) fn error(&self) -> Option<Error> {
        if !self.is_full() {
            return None;
        }
        let (what, count) = ("nothing more came from the broker", self.count());
        Some(match &self.kept_out {
            Some(why) => Error::new(Exit::Config, what)
                .because(why)
                .and_because(format!("the broker may send nothing else, with {count} messages unacknowledged"))
                .hint_if(why.hint_text().map(str::to_owned)),
            None => Error::new(Exit::TryAgain, what)
                .because(format!(
                    "{count} messages of other streams are unacknowledged, which --once leaves for the next run"
                ))
                .hint(
                    "run sts-recv without --once, which receives all streams; or raise the limit of the broker \
                     (max_inflight_messages of mosquitto, mqtt.prefetch of RabbitMQ)",
                ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(qos: Qos, kept_out: bool) -> LeftMessage {
        let kept_out = kept_out.then(|| Error::new(Exit::Config, "kept out").hint("do this"));
        LeftMessage { qos, kept_out }
    }

    fn full(qos: Qos, now: Instant) -> LeftMessages {
        let mut messages = LeftMessages::new(now);
        (0..MAX_LEFT_MESSAGES).for_each(|_| messages.push(left(qos, false)));
        messages
    }

    #[test]
    fn with_the_window_full_of_them_silence_is_bounded() {
        let now = Instant::now();
        let mut messages = LeftMessages::new(now);
        for _ in 1..MAX_LEFT_MESSAGES {
            messages.push(left(Qos::AtLeastOnce, false));
            messages.push(left(Qos::AtMostOnce, false));
        }
        assert!(!messages.is_full() && messages.deadline().is_none() && messages.error().is_none());
        messages.push(left(Qos::AtLeastOnce, false));
        assert_eq!(messages.deadline(), Some(now + FULL_WINDOW_TIMEOUT));
        assert_eq!(messages.error().unwrap().exit(), Exit::TryAgain);
        messages.received(Qos::AtMostOnce, now + FULL_WINDOW_TIMEOUT / 2);
        assert_eq!(messages.deadline(), Some(now + FULL_WINDOW_TIMEOUT), "at QoS 0 it needs no room");
        messages.received(Qos::AtLeastOnce, now + FULL_WINDOW_TIMEOUT / 2);
        assert_eq!(messages.deadline(), Some(now + FULL_WINDOW_TIMEOUT / 2 + FULL_WINDOW_TIMEOUT));
    }

    #[test]
    fn with_fewer_of_them_silence_is_explained_once() {
        let now = Instant::now();
        let mut messages = LeftMessages::new(now);
        assert_eq!(messages.notice_at(), None);
        messages.push(left(Qos::AtLeastOnce, false));
        messages.push(left(Qos::AtLeastOnce, false));
        assert_eq!(messages.notice_at(), Some(now + FULL_WINDOW_TIMEOUT));
        assert_eq!(messages.take_notice(now + FULL_WINDOW_TIMEOUT / 2), None);
        let said = messages.take_notice(now + FULL_WINDOW_TIMEOUT).unwrap();
        assert!(said.contains("2 messages of other streams"), "{said}");
        assert_eq!((messages.notice_at(), messages.take_notice(now + 9 * FULL_WINDOW_TIMEOUT)), (None, None));
        // Those that the configuration keeps out have their own word.
        let mut messages = LeftMessages::new(now);
        messages.push(left(Qos::AtLeastOnce, true));
        assert_eq!(messages.notice_at(), None);
    }

    #[test]
    fn while_nothing_can_come_silence_says_nothing() {
        let now = Instant::now();
        let mut messages = full(Qos::AtLeastOnce, now);
        messages.set_stalled(true, now);
        assert_eq!(messages.deadline(), None);
        messages.set_stalled(false, now + FULL_WINDOW_TIMEOUT);
        assert_eq!(messages.deadline(), Some(now + 2 * FULL_WINDOW_TIMEOUT));
    }

    #[test]
    fn on_the_next_connection_they_come_again_except_at_qos_2() {
        let now = Instant::now();
        for (qos, is_full) in [(Qos::AtLeastOnce, false), (Qos::ExactlyOnce, true)] {
            let mut messages = full(qos, now);
            messages.disconnected();
            assert_eq!(messages.is_full(), is_full);
        }
    }

    #[test]
    fn what_the_configuration_keeps_out_is_what_the_error_is_about() {
        let mut messages = full(Qos::AtLeastOnce, Instant::now());
        messages.push(left(Qos::AtLeastOnce, true));
        messages.push(left(Qos::AtLeastOnce, false));
        let error = messages.error().unwrap();
        assert_eq!((error.exit(), error.hint_text()), (Exit::Config, Some("do this")));
        assert!(error.to_string().contains("kept out"), "{error}");
    }
}
