//! `--wait`: a run on a link that has no session yet, say after a restart that cleared the runtime directory.
//!
//! It subscribes at once, and keeps what the peer sends right after pairing: only [`super::run()`] can open that. Another
//! run on the link would connect with the same client id, and each would end the other's connection: so it holds the lock
//! of the link's receiver from before its first connection.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::MAX_HELD_BYTES;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
#[cfg(feature = "legacy")]
use crate::legacy::Store;
use crate::link::Link;
use crate::message::FrameType;
use crate::mqtt::{Message, Qos, Receipt};
use crate::report::Reporter;
use crate::report_throttle::ReportThrottle;
use crate::sessions::{LinkSessions, SESSION_CHECK_INTERVAL};
use crate::{Error, Exit, Result};

/// As many messages as are kept before nothing more is read.
const MAX_KEPT_MESSAGES: usize = 256;

/// What happened while there was no session, for the run to handle.
struct KeptEvents {
    /// Whether a message is for the run: of the others, those of a pairing are for sts-pair.
    is_wanted: fn(&[u8]) -> bool,
    /// What the broker granted last.
    subscribed: Option<BrokerEvent>,
    /// In order.
    messages: Vec<Message>,
    bytes: usize,
}

/// Waits until the link has a session; returns what happened meanwhile, or `None` where a signal asks the run to end.
///
/// # Errors
/// Why there is no session, after `timeout`; [`Exit::TryAgain`] where another sts-recv runs on the link;
/// [`Exit::Unavailable`] where the broker refuses the connection; otherwise as [`LinkSessions::open`].
pub(super) fn wait(
    link: &Link,
    timeout: Option<Duration>,
    event_loop: &mut EventLoop<'_>,
    report: &Reporter,
) -> Result<Option<Vec<BrokerEvent>>> {
    let give_up_at = timeout.map(|timeout| Instant::now() + timeout);
    let mut notice = ReportThrottle::once();
    let mut kept = KeptEvents::of(link);
    let mut checked: Option<Instant> = None;
    // The run that follows takes it anew.
    let mut lock = None;
    loop {
        let now = Instant::now();
        if checked.is_none_or(|checked| now >= checked + SESSION_CHECK_INTERVAL) {
            let Some(error) = missing(link, now)? else { return Ok(Some(kept.into_events())) };
            if give_up_at.is_some_and(|at| now >= at) {
                return Err(error);
            }
            if lock.is_none() {
                lock = Some(link.cache()?.lock_receiving()?);
            }
            if notice.happened(now).is_some() {
                report.info(format_args!("{error}; waiting for the first session"));
            }
            checked = Some(now);
        }
        let now = event_loop.begin_turn();
        kept.take_all(event_loop)?;
        // What is not kept must wait: passed over here, it would come after the messages that follow it, as a repeat.
        event_loop.pause_reading(kept.is_full(), now);
        if event_loop.stop_requested() > Stop::No {
            return Ok(None);
        }
        event_loop.wait(None, Some(now + SESSION_CHECK_INTERVAL), now)?;
    }
}

/// Why the link has no session; `None` where it has one.
fn missing(link: &Link, now: Instant) -> Result<Option<Error>> {
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return match link.cache().and_then(|cache| Store::new(cache, legacy).check()) {
            Err(error) if error.exit() == Exit::TryAgain => Ok(Some(error)),
            outcome => outcome.map(|()| None),
        };
    }
    let is_enrolled = link.is_enrolled()?;
    let has_usable =
        link.senders().and_then(|peers| peers.map(|peers| LinkSessions::has_usable(link, peers)).transpose());
    if let Ok(Some(true)) = has_usable {
        return Ok(None);
    }
    let peers = match link.peers() {
        Ok(Some(peers)) => peers,
        Ok(None) => return Ok(None),
        Err(error) => return if is_enrolled { Err(error) } else { Ok(Some(error)) },
    };
    // The keys that are trusted may all be for other links.
    if let Some(error) = peers.none_trusted() {
        return Ok(Some(error));
    }
    match LinkSessions::open(link, peers, now) {
        Ok(sessions) if sessions.usable().next().is_some() => Ok(None),
        Ok(sessions) => Ok(Some(sessions.none_usable())),
        Err(error) if error.exit() == Exit::TryAgain => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

impl KeptEvents {
    /// For a run on this link.
    fn of(link: &Link) -> Self {
        #[cfg(feature = "legacy")]
        if link.legacy().is_some() {
            return Self::new(crate::legacy::is_ciphertext);
        }
        let _ = link;
        Self::new(is_sealed)
    }

    fn new(is_wanted: fn(&[u8]) -> bool) -> Self {
        Self { is_wanted, subscribed: None, messages: Vec::new(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.messages.len() >= MAX_KEPT_MESSAGES || self.bytes >= MAX_HELD_BYTES
    }

    /// Takes what there is, as long as there is room.
    fn take_all(&mut self, event_loop: &mut EventLoop<'_>) -> Result<()> {
        while !self.is_full()
            && let Some(event) = event_loop.next_event()?
        {
            if let Some(junk) = self.take(event, |qos| event_loop.broker.keeps(qos)) {
                event_loop.broker.ack(junk);
            }
        }
        Ok(())
    }

    /// Takes an event; `keeps` tells whether the broker keeps a message of this quality of service until it is
    /// acknowledged. Returns what acknowledges a message that is junk, or for sts-pair: it must not stand in the way of
    /// the peer's first.
    fn take(&mut self, event: BrokerEvent, keeps: impl Fn(Qos) -> bool) -> Option<Receipt> {
        match event {
            BrokerEvent::Message(message) if (self.is_wanted)(&message.payload) => self.keep(message),
            BrokerEvent::Message(Message { receipt, .. }) | BrokerEvent::Oversize { receipt, .. } => {
                return Some(receipt);
            }
            BrokerEvent::Subscribed { .. } => self.subscribed = Some(event),
            // What the broker keeps it sends again; at QoS 2 it does so, too, but the client takes each once.
            BrokerEvent::Disconnected => {
                self.messages.retain(|message| message.qos == Qos::ExactlyOnce || !keeps(message.qos));
                self.bytes = self.messages.iter().map(|message| message.payload.len()).sum();
            }
            // Nothing is published before there is a session.
            BrokerEvent::Connected | BrokerEvent::Acknowledged(_) | BrokerEvent::TooLong(_) => {}
        }
        None
    }

    /// Keeps a message: a view of the read buffer would keep all of that.
    fn keep(&mut self, message: Message) {
        let payload = Bytes::copy_from_slice(&message.payload);
        self.bytes += payload.len();
        self.messages.push(Message { topic: String::new(), payload, ..message });
    }

    fn into_events(self) -> Vec<BrokerEvent> {
        self.subscribed.into_iter().chain(self.messages.into_iter().map(BrokerEvent::Message)).collect()
    }
}

fn is_sealed(payload: &[u8]) -> bool {
    FrameType::of(payload).is_ok_and(FrameType::is_sealed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(qos: Qos, payload: Vec<u8>) -> BrokerEvent {
        let (topic, receipt) = (String::new(), Receipt::none());
        BrokerEvent::Message(Message { topic, payload: payload.into(), qos, retain: false, dup: false, receipt })
    }

    fn sealed(qos: Qos, len: usize) -> BrokerEvent {
        message(qos, [&[0x27][..], &vec![0; len - 1]].concat())
    }

    fn subscribed() -> BrokerEvent {
        let qos = Qos::AtLeastOnce;
        BrokerEvent::Subscribed { filter: "t".into(), requested: qos, granted: qos }
    }

    fn fill(kept: &mut KeptEvents, len: usize) -> usize {
        let mut count = 0;
        while !kept.is_full() {
            assert!(kept.take(sealed(Qos::AtLeastOnce, len), |_| true).is_none());
            count += 1;
        }
        count
    }

    #[test]
    fn connections_that_come_and_go_take_no_room() {
        let mut kept = KeptEvents::new(is_sealed);
        for _ in 0..2 * MAX_KEPT_MESSAGES {
            kept.take(subscribed(), |_| true);
            kept.take(sealed(Qos::AtLeastOnce, 64 << 10), |_| true);
            kept.take(BrokerEvent::Disconnected, |_| true);
        }
        assert_eq!(fill(&mut kept, 64 << 10), MAX_HELD_BYTES / (64 << 10));
        assert_eq!(kept.into_events().len(), 1 + MAX_HELD_BYTES / (64 << 10));
    }

    #[test]
    fn what_is_kept_is_bounded_in_messages_and_junk_is_not_kept() {
        let mut kept = KeptEvents::new(is_sealed);
        assert!(kept.take(message(Qos::AtLeastOnce, b"junk".to_vec()), |_| true).is_some());
        assert_eq!(fill(&mut kept, 1), MAX_KEPT_MESSAGES);
    }

    #[test]
    fn every_sealed_message_is_kept_and_what_sts_pair_receives_is_not() {
        for frame_type in FrameType::ALL {
            let mut kept = KeptEvents::new(is_sealed);
            let junk = kept.take(message(Qos::AtLeastOnce, vec![frame_type.byte()]), |_| true);
            let name = frame_type.name();
            assert_eq!(junk.is_none(), ["ENC", "KILL", "WILL"].contains(&name), "{name}");
        }
    }

    #[test]
    fn what_does_not_come_again_is_kept_over_a_lost_connection() {
        for (qos, keeps, stays) in [
            (Qos::AtMostOnce, false, true),
            (Qos::AtLeastOnce, true, false),
            (Qos::AtLeastOnce, false, true),
            (Qos::ExactlyOnce, true, true),
        ] {
            let mut kept = KeptEvents::new(is_sealed);
            kept.take(sealed(qos, 10), |_| keeps);
            kept.take(BrokerEvent::Disconnected, |_| keeps);
            assert_eq!((kept.messages.len(), kept.bytes), if stays { (1, 10) } else { (0, 0) });
        }
    }
}
