//! `--wait`: a run on a link that has no session yet, say after a restart that cleared the runtime directory.
//!
//! It subscribes at once, and keeps what the peer sends right after pairing: only [`super::run`] can open that.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::link::Link;
use crate::message::FrameType;
use crate::mqtt::Message;
use crate::report::Reporter;
use crate::report_throttle::ReportThrottle;
use crate::sessions::{LinkSessions, SESSION_CHECK_INTERVAL};
use crate::{Error, Exit, Result};

/// Most events that are kept: what comes beyond that stays with the broker.
const MAX_KEPT_EVENTS: usize = 256;
/// Most bytes of messages that are kept.
const MAX_KEPT_BYTES: usize = 2 << 20;

/// What happened while there was no session, in order, for the run to handle.
#[derive(Default)]
struct KeptEvents {
    events: Vec<BrokerEvent>,
    bytes: usize,
}

/// Waits until the link has a session; returns what happened meanwhile, or `None` where a signal asks the run to end.
///
/// # Errors
/// Why there is no session, after `timeout`; [`Exit::Unavailable`] where the broker refuses the connection; otherwise as
/// [`LinkSessions::open`].
pub(super) fn wait(
    link: &Link,
    timeout: Option<Duration>,
    event_loop: &mut EventLoop<'_>,
    report: &Reporter,
) -> Result<Option<Vec<BrokerEvent>>> {
    let give_up_at = timeout.map(|timeout| Instant::now() + timeout);
    let mut notice = ReportThrottle::once();
    let mut kept = KeptEvents::default();
    let mut checked: Option<Instant> = None;
    loop {
        let now = Instant::now();
        if checked.is_none_or(|checked| now >= checked + SESSION_CHECK_INTERVAL) {
            let Some(error) = missing(link, now)? else { return Ok(Some(kept.events)) };
            if give_up_at.is_some_and(|at| now >= at) {
                return Err(error);
            }
            if notice.happened(now).is_some() {
                report.info(format_args!("{error}; waiting for the first session"));
            }
            checked = Some(now);
        }
        let now = event_loop.begin_turn();
        while let Some(event) = event_loop.next_event()? {
            kept.take(event, event_loop);
        }
        if event_loop.stop_requested() > Stop::No {
            return Ok(None);
        }
        event_loop.wait(None, Some(now + SESSION_CHECK_INTERVAL), now)?;
    }
}

/// Why the link has no session; `None` where it has one.
fn missing(link: &Link, now: Instant) -> Result<Option<Error>> {
    let is_enrolled = link.is_enrolled()?;
    let opened = link.peers().and_then(|peers| match peers {
        Some(peers) => LinkSessions::open(link, peers, now).map(Some),
        None => Ok(None),
    });
    match opened {
        Ok(None) => Ok(None),
        Ok(Some(sessions)) if sessions.usable().next().is_some() => Ok(None),
        Ok(Some(sessions)) => Ok(Some(sessions.none_usable())),
        Err(error) if error.exit() == Exit::TryAgain || !is_enrolled => Ok(Some(error)),
        Err(error) => Err(error),
    }
}

impl KeptEvents {
    fn take(&mut self, event: BrokerEvent, event_loop: &mut EventLoop<'_>) {
        match event {
            BrokerEvent::Message(message) if is_sealed(&message) => self.keep(message),
            // Junk, or for sts-pair: it must not stand in the way of the peer's first message.
            BrokerEvent::Message(Message { receipt, .. }) | BrokerEvent::Oversize { receipt, .. } => {
                event_loop.broker.ack(receipt);
            }
            BrokerEvent::Subscribed { .. } => self.events.push(event),
            // What the broker keeps it sends again.
            BrokerEvent::Disconnected => self.events.retain(
                |event| !matches!(event, BrokerEvent::Message(message) if event_loop.broker.keeps(message.qos)),
            ),
            BrokerEvent::Connected | BrokerEvent::Acknowledged(_) => {}
        }
    }

    /// Keeps a message: a view of the read buffer would keep all of that.
    fn keep(&mut self, message: Message) {
        let payload = Bytes::copy_from_slice(&message.payload);
        if self.events.len() < MAX_KEPT_EVENTS && self.bytes + payload.len() <= MAX_KEPT_BYTES {
            self.bytes += payload.len();
            self.events.push(BrokerEvent::Message(Message { topic: String::new(), payload, ..message }));
        }
    }
}

fn is_sealed(message: &Message) -> bool {
    matches!(FrameType::of(&message.payload), Ok(FrameType::Enc | FrameType::Kill))
}
