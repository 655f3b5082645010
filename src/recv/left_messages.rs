//! Messages that are left with the broker: unacknowledged, until another run takes them.
//!
//! A broker sends only so many without an acknowledgement, for all streams together. With as many of them left, nothing
//! of what this run receives can come: then it ends, rather than wait for ever. Nothing is lost, as the broker has all
//! of it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sha2::Digest as _;

use super::incoming::Supply;
use crate::crypto::schedule::Digest;
use crate::mqtt::{MIN_BROKER_WINDOW, Message, Qos, Receipt};
use crate::text::count;
use crate::{Error, Exit};

/// With as many left, the broker may send nothing more.
const MAX_LEFT_MESSAGES: usize = MIN_BROKER_WINDOW;
/// How long nothing may come with more than that left. A sender that is slow is silent as well.
const FULL_WINDOW_TIMEOUT: Duration = Duration::from_secs(30);

/// Most of them of which a copy is recognized; brokers send far fewer without an acknowledgement.
const MAX_RECOGNIZED: usize = 1000;

/// A message that is left with the broker.
#[derive(Debug)]
pub(super) struct LeftMessage {
    qos: Qos,
    receipt: Receipt,
    /// Of its payload, if that is authentic: two that are equal are one message, which anybody can record and publish again.
    digest: Option<Digest>,
    /// Why this device's configuration keeps it out; `None` where it is for another run with the same configuration.
    kept_out: Option<Error>,
}

impl LeftMessage {
    /// A message for another run; two of the same text may both be wanted.
    pub(super) fn text(message: Message) -> Self {
        Self { qos: message.qos, receipt: message.receipt, digest: None, kept_out: None }
    }

    /// A message whose payload is authentic under a session.
    pub(super) fn sealed(message: Message, kept_out: Option<Error>) -> Self {
        let digest = sha2::Sha256::digest(&message.payload).into();
        Self { qos: message.qos, receipt: message.receipt, digest: Some(digest), kept_out }
    }
}

/// How many are left, and since when nothing else came.
#[derive(Debug)]
pub(super) struct LeftMessages {
    /// Those of this connection. On the next one they come again, and are counted anew.
    at_least_once: usize,
    /// Those at QoS 2, which come once, however many connections there are.
    exactly_once: usize,
    /// Those of this connection whose copies are recognized.
    recognized: HashMap<Digest, Receipt>,
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
        Self {
            at_least_once: 0,
            exactly_once: 0,
            recognized: HashMap::new(),
            kept_out: None,
            last: now,
            is_stalled: false,
            is_told: false,
        }
    }

    /// A message came, whatever becomes of it.
    pub(super) fn received(&mut self, qos: Qos, now: Instant) {
        if qos > Qos::AtMostOnce {
            self.last = now;
        }
    }

    /// Leaves a message with the broker. Returns what acknowledges it, where it is a copy of one that is left on this connection:
    /// that one stays, and copies of it cannot fill the broker's window.
    pub(super) fn push(&mut self, message: LeftMessage) -> Option<Receipt> {
        if message.qos > Qos::AtMostOnce
            && let Some(digest) = message.digest
        {
            match self.recognized.get(&digest) {
                // The broker sent it again: acknowledged, it would be gone.
                Some(first) if *first == message.receipt => return None,
                Some(_) => return Some(message.receipt),
                None if self.recognized.len() < MAX_RECOGNIZED => drop(self.recognized.insert(digest, message.receipt)),
                None => {}
            }
        }
        match message.qos {
            Qos::AtMostOnce => return None,
            Qos::AtLeastOnce => self.at_least_once += 1,
            Qos::ExactlyOnce => self.exactly_once += 1,
        }
        if message.kept_out.is_some() {
            self.kept_out = message.kept_out;
        }
        None
    }

    /// The connection is gone, and what was left may come again, or be lost with the broker's session.
    pub(super) fn disconnected(&mut self) {
        self.at_least_once = 0;
        self.recognized.clear();
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

    /// Whether messages can come, as far as that depends on what is unacknowledged. The broker may have what is waited for,
    /// and not send it: it may be set to send fewer than this run knows.
    pub(super) fn supply(&self) -> Supply {
        match self.count() {
            MAX_LEFT_MESSAGES.. => Supply::Stalled,
            0 if !self.is_stalled => Supply::Flowing,
            _ => Supply::Doubtful,
        }
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
        LeftMessage { qos, receipt: Receipt::none(), digest: None, kept_out }
    }

    /// A message that the broker has under this identifier.
    fn sealed(qos: Qos, pkid: u16, payload: &'static [u8]) -> LeftMessage {
        let (topic, payload, receipt) = (String::new(), payload.into(), Receipt::of(qos, pkid));
        LeftMessage::sealed(Message { topic, payload, qos, retain: false, dup: false, receipt }, None)
    }

    fn full(qos: Qos, now: Instant) -> LeftMessages {
        let mut messages = LeftMessages::new(now);
        for _ in 0..MAX_LEFT_MESSAGES {
            let _ = messages.push(left(qos, false));
        }
        messages
    }

    #[test]
    fn with_the_window_full_of_them_silence_is_bounded() {
        let now = Instant::now();
        let mut messages = LeftMessages::new(now);
        for _ in 1..MAX_LEFT_MESSAGES {
            let _ = messages.push(left(Qos::AtLeastOnce, false));
            let _ = messages.push(left(Qos::AtMostOnce, false));
        }
        assert!(!messages.is_full() && messages.deadline().is_none() && messages.error().is_none());
        let _ = messages.push(left(Qos::AtLeastOnce, false));
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
        let _ = messages.push(left(Qos::AtLeastOnce, false));
        let _ = messages.push(left(Qos::AtLeastOnce, false));
        assert_eq!(messages.notice_at(), Some(now + FULL_WINDOW_TIMEOUT));
        assert_eq!(messages.take_notice(now + FULL_WINDOW_TIMEOUT / 2), None);
        let said = messages.take_notice(now + FULL_WINDOW_TIMEOUT).unwrap();
        assert!(said.contains("2 messages of other streams"), "{said}");
        assert_eq!((messages.notice_at(), messages.take_notice(now + 9 * FULL_WINDOW_TIMEOUT)), (None, None));
        // Those that the configuration keeps out have their own word.
        let mut messages = LeftMessages::new(now);
        let _ = messages.push(left(Qos::AtLeastOnce, true));
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
    fn whether_more_comes_is_doubtful_while_one_is_left_or_waits_for_standard_output() {
        let now = Instant::now();
        let mut messages = LeftMessages::new(now);
        assert_eq!(messages.supply(), Supply::Flowing);
        messages.set_stalled(true, now);
        assert_eq!(messages.supply(), Supply::Doubtful);
        messages.set_stalled(false, now);
        let _ = messages.push(left(Qos::AtMostOnce, false));
        assert_eq!(messages.supply(), Supply::Flowing, "it needs no room");
        for number in 1..=MAX_LEFT_MESSAGES {
            let _ = messages.push(left(Qos::AtLeastOnce, false));
            let is_full = number == MAX_LEFT_MESSAGES;
            assert_eq!(messages.supply(), if is_full { Supply::Stalled } else { Supply::Doubtful });
        }
        messages.disconnected();
        assert_eq!(messages.supply(), Supply::Flowing);
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
    fn copies_of_one_message_do_not_fill_the_window_and_it_stays_itself() {
        let mut messages = LeftMessages::new(Instant::now());
        for qos in [Qos::AtLeastOnce, Qos::ExactlyOnce] {
            for _ in 0..2 {
                assert_eq!(messages.push(sealed(qos, 1, b"recorded")), None, "the broker sent it again");
                assert_eq!(messages.count(), 1);
            }
            for pkid in 2..100 {
                assert_eq!(messages.push(sealed(qos, pkid, b"recorded")), Some(Receipt::of(qos, pkid)));
            }
            assert_eq!(messages.push(sealed(Qos::AtMostOnce, 0, b"recorded")), None);
            assert_eq!(messages.count(), 1);
            // The next connection has it again, perhaps under another identifier.
            messages.disconnected();
            assert_eq!(messages.push(sealed(qos, 7, b"recorded")), None);
            messages = LeftMessages::new(Instant::now());
        }
        // Two texts that are equal may both be wanted.
        (0..MAX_LEFT_MESSAGES).for_each(|_| assert_eq!(messages.push(left(Qos::AtLeastOnce, false)), None));
        assert!(messages.is_full());
    }

    #[test]
    fn what_is_recognized_is_bounded() {
        let mut messages = LeftMessages::new(Instant::now());
        for pkid in 1..=2000 {
            let digest = Some(sha2::Sha256::digest(pkid.to_string()).into());
            let message =
                LeftMessage { receipt: Receipt::of(Qos::AtLeastOnce, pkid), digest, ..left(Qos::AtLeastOnce, true) };
            assert_eq!(messages.push(message), None);
        }
        assert_eq!((messages.count(), messages.recognized.len()), (2000, MAX_RECOGNIZED));
    }

    #[test]
    fn what_the_configuration_keeps_out_is_what_the_error_is_about() {
        let mut messages = full(Qos::AtLeastOnce, Instant::now());
        let _ = messages.push(left(Qos::AtLeastOnce, true));
        let _ = messages.push(left(Qos::AtLeastOnce, false));
        let error = messages.error().unwrap();
        assert_eq!((error.exit(), error.hint_text()), (Exit::Config, Some("do this")));
        assert!(error.to_string().contains("kept out"), "{error}");
    }
}
