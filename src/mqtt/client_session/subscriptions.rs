//! The topic filters that the tool subscribed to, and how the broker answered each.

use std::time::Instant;

use super::outgoing_publishes::MAX_PUBLISH_ID;
use super::refusal;
use crate::mqtt::codec::{Reason, Request};
use crate::mqtt::{ConnectionLost, Event, Qos, topic};
use crate::{Error, Exit, Result};

/// The number of packet identifiers above those for PUBLISH.
const MAX_SUBSCRIPTIONS: usize = (u16::MAX - MAX_PUBLISH_ID) as usize;

/// All filters; the place of a filter gives its packet identifier.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    filter: String,
    qos: Qos,
    /// Since when SUBACK is awaited, on this connection.
    requested_at: Option<Instant>,
    /// The broker accepted it, and keeps it as long as the MQTT session.
    granted: bool,
}

impl Subscriptions {
    pub(super) fn add(&mut self, filter: &str, qos: Qos) -> Result<()> {
        topic::check_filter(filter)?;
        if self.0.len() == MAX_SUBSCRIPTIONS {
            return Err(Error::new(Exit::Config, format!("more than {MAX_SUBSCRIPTIONS} subscriptions")));
        }
        self.0.push(Subscription { filter: filter.to_owned(), qos, requested_at: None, granted: false });
        Ok(())
    }

    /// The broker kept no session, and so no subscription.
    pub(super) fn session_lost(&mut self) {
        self.0.iter_mut().for_each(|one| one.granted = false);
    }

    /// The connection is gone, and with it the answers.
    pub(super) fn connection_ended(&mut self) {
        self.0.iter_mut().for_each(|one| one.requested_at = None);
    }

    /// Since when the oldest answer is awaited.
    pub(super) fn oldest_request(&self) -> Option<Instant> {
        self.0.iter().filter_map(|one| one.requested_at).min()
    }

    /// The answers get their full time again.
    pub(super) fn restart_timeouts(&mut self, now: Instant) {
        self.0.iter_mut().filter_map(|one| one.requested_at.as_mut()).for_each(|requested_at| *requested_at = now);
    }

    /// Sends a SUBSCRIBE for each filter that the broker neither has nor was asked for on this connection.
    pub(super) fn request_missing(&mut self, now: Instant, mut send: impl FnMut(Request<'_>)) {
        let ids = MAX_PUBLISH_ID + 1..=u16::MAX;
        for (one, pkid) in self.0.iter_mut().zip(ids).filter(|(one, _)| !one.granted && one.requested_at.is_none()) {
            one.requested_at = Some(now);
            send(Request::Subscribe { pkid, filter: &one.filter, qos: one.qos });
        }
    }

    /// A SUBACK came in; an unexpected one is ignored.
    pub(super) fn suback(
        &mut self,
        pkid: u16,
        granted: &[std::result::Result<Qos, Reason>],
    ) -> std::result::Result<Option<Event>, ConnectionLost> {
        let place = pkid.checked_sub(MAX_PUBLISH_ID + 1).map(usize::from);
        let Some(one) = place.and_then(|place| self.0.get_mut(place)) else { return Ok(None) };
        if one.requested_at.take().is_none() {
            return Ok(None);
        }
        match granted {
            [Ok(granted)] => {
                one.granted = true;
                Ok(Some(Event::Subscribed { filter: one.filter.clone(), requested: one.qos, granted: *granted }))
            }
            [Err(reason)] => Ok(Some(Event::Refused(refusal::subscription(&one.filter, reason)))),
            _ => Err(ConnectionLost::malformed("SUBACK: not exactly one return code for one topic filter")),
        }
    }
}
