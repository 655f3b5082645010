//! `sts-pair --end` on a link to the old program: tells it that the session is over, and deletes that.

use std::time::{Duration, Instant};

use crate::config::Legacy;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::legacy::{Decrypted, RecordedKill, Store, is_foreign, refused};
use crate::link::{Link, Tool};
use crate::mqtt::Qos;
use crate::pair::end::EndOptions;
use crate::report::Reporter;
use crate::stdio::Signals;
use crate::{Error, Exit, Result};

/// How long the old program takes to leave after a KILL that it understood, so that it does not see the second one.
const SECOND_KILL_DELAY: Duration = Duration::from_millis(2500);

/// What failed then.
const NOT_TOLD: &str = "the peer was not told";
/// The hint where KILL could not be sent.
const OTHER_NOT_TOLD: &str = "the other device may not know: run `stop` there, too";

/// Sends KILL and deletes the session, even if KILL could not be sent. Where the other device may not recognize it, a second one
/// follows.
///
/// # Errors
/// [`Exit::Usage`] with `--to`; otherwise as [`crate::pair::end::run`].
pub(in crate::pair) fn end(link: &Link, legacy: Legacy, options: EndOptions<'_>, report: &Reporter) -> Result<()> {
    // A new option has to be looked at here: used, or refused.
    let EndOptions { to, timeout } = options;
    if to.is_some() {
        return Err(refused("--to", "the device at its other end has no name"));
    }
    let store = Store::new(link.cache()?, legacy);
    let kill = store.kill();
    let had_session = matches!(kill, Ok(Some(_)));
    let told = match kill {
        Ok(Some(kill)) => publish(link, &store, kill, timeout, report).map_err(|error| error.and_hint(OTHER_NOT_TOLD)),
        Ok(None) => Ok(()),
        // How to mend the session is of no use: it is deleted.
        Err(error) => Err(error.hint(OTHER_NOT_TOLD)),
    };
    // Whatever kept KILL from being made or sent: this key must go. It is gone if a KILL of the other device came meanwhile.
    if !store.delete()? && !had_session {
        return Err(store.no_session().hint(OTHER_NOT_TOLD));
    }
    report.info("deleted the session");
    told
}

fn publish(link: &Link, store: &Store, kill: RecordedKill, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    link.enter_sandbox(link.pairing_needs(false), report);
    let mut broker = link.connect(Tool::Pair, &mut rand::rng())?;
    // What the other device sends meanwhile is what it expects the next KILL to continue from.
    broker.subscribe(link.config.subscribe.as_str(), Qos::AtMostOnce, Instant::now())?;
    let mut events = EventLoop::new(broker, Signals::catch()?, report);
    let topic = link.config.publish.as_str();
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let mut next = Some(kill);
    let mut second_at = None;
    loop {
        let now = events.begin_turn();
        let mut is_ended = false;
        while let Some(event) = events.next_event()? {
            is_ended |= follow(event, store, &mut events)?;
        }
        if is_ended {
            return events.close().map(drop);
        }
        if second_at.is_some_and(|at| now >= at) {
            (next, second_at) = (store.kill()?.map(|kill| RecordedKill { may_be_missed: false, ..kill }), None);
        }
        if events.is_connected()
            && let Some(kill) = next.take()
        {
            events.broker.publish(topic, kill.payload.into(), Qos::AtMostOnce, false)?;
            second_at = kill.may_be_missed.then(|| now + SECOND_KILL_DELAY);
        }
        events.flush(now);
        if next.is_none() && second_at.is_none() && events.broker.unacknowledged().messages == 0 {
            return events.close().map(drop);
        }
        if events.stop_requested() > Stop::No || until.is_some_and(|until| now >= until) {
            return Err(events.unreachable(NOT_TOLD).unwrap_or_else(|| not_told(link, second_at.is_some())));
        }
        events.wait(None, [until, second_at].into_iter().flatten().min(), now)?;
    }
}

/// KILL could not be sent, or not as often as it has to be.
fn not_told(link: &Link, is_sent_once: bool) -> Error {
    let endpoint = &link.config.mqtt.endpoint;
    let why = if is_sent_once {
        "the run ended before KILL was sent again, which the old program needs if it missed the first".to_owned()
    } else {
        format!("the broker at {endpoint} did not acknowledge the message")
    };
    Error::new(Exit::TryAgain, NOT_TOLD).because(why)
}

/// Follows what came from the other device; true if it ends the session, too.
fn follow(event: BrokerEvent, store: &Store, events: &mut EventLoop<'_>) -> Result<bool> {
    match event {
        BrokerEvent::Message(message) => {
            let opened = if is_foreign(&message) { None } else { store.follow(&message.payload)? };
            events.broker.ack(message.receipt);
            return Ok(opened == Some(Decrypted::Kill));
        }
        BrokerEvent::Oversize { receipt, .. } => events.broker.ack(receipt),
        BrokerEvent::TooLong(error) => return Err(error),
        BrokerEvent::Connected
        | BrokerEvent::Subscribed { .. }
        | BrokerEvent::Disconnected
        | BrokerEvent::Acknowledged(_) => {}
    }
    Ok(false)
}
