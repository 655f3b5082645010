//! The topic filters that this session wants, and what the broker said to each.

use std::time::Instant;

use super::codec::Request;
use super::connection_lost::ConnectionLost;
use super::outbound::PUBLISH_IDS;
use super::{Event, Qos, refusal, topic};
use crate::{Error, Exit, Result};

/// As many as there are packet identifiers above those for PUBLISH.
const MAX: usize = (u16::MAX - PUBLISH_IDS) as usize;

/// All filters; a filter's place is its packet identifier.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    filter: String,
    qos: Qos,
    /// SUBACK is awaited since then, on this connection.
    asked: Option<Instant>,
    /// The broker accepted it, and keeps it as long as the session.
    granted: bool,
}

impl Subscriptions {
    pub(super) fn add(&mut self, filter: &str, qos: Qos) -> Result<()> {
        topic::check_filter(filter)?;
        if self.0.len() == MAX {
            return Err(Error::new(Exit::Config, format!("more than {MAX} subscriptions")));
        }
        self.0.push(Subscription { filter: filter.to_owned(), qos, asked: None, granted: false });
        Ok(())
    }

    /// The broker kept no session, and no subscription.
    pub(super) fn forgotten(&mut self) {
        self.0.iter_mut().for_each(|one| one.granted = false);
    }

    /// No answer will come over a connection that is gone.
    pub(super) fn disconnected(&mut self) {
        self.0.iter_mut().for_each(|one| one.asked = None);
    }

    /// Since when the oldest answer is awaited.
    pub(super) fn asked_since(&self) -> Option<Instant> {
        self.0.iter().filter_map(|one| one.asked).min()
    }

    /// The patience for answers starts anew.
    pub(super) fn restart(&mut self, now: Instant) {
        self.0.iter_mut().filter_map(|one| one.asked.as_mut()).for_each(|asked| *asked = now);
    }

    /// A SUBSCRIBE for each filter that the broker does not have and was not asked for.
    pub(super) fn ask(&mut self, now: Instant, mut send: impl FnMut(Request<'_>)) {
        let ids = PUBLISH_IDS + 1..=u16::MAX;
        for (one, pkid) in self.0.iter_mut().zip(ids).filter(|(one, _)| !one.granted && one.asked.is_none()) {
            one.asked = Some(now);
            send(Request::Subscribe { pkid, filter: &one.filter, qos: one.qos });
        }
    }

    /// A SUBACK came in; one that nobody waits for says nothing.
    pub(super) fn answered(
        &mut self,
        pkid: u16,
        granted: &[Option<Qos>],
    ) -> std::result::Result<Option<Event>, ConnectionLost> {
        let place = pkid.checked_sub(PUBLISH_IDS + 1).map(usize::from);
        let Some(one) = place.and_then(|place| self.0.get_mut(place)) else { return Ok(None) };
        if one.asked.take().is_none() {
            return Ok(None);
        }
        match granted {
            [Some(granted)] => {
                one.granted = true;
                Ok(Some(Event::Subscribed { filter: one.filter.clone(), asked: one.qos, granted: *granted }))
            }
            [None] => Ok(Some(Event::Refused(refusal::subscription(&one.filter)))),
            _ => Err(ConnectionLost::malformed("SUBACK: not one answer for one topic filter")),
        }
    }
}
