//! The topic filters that the tool subscribed to, and how the broker answered each.
//!
//! A refusal need not be the last word: a cluster that fails over refuses what it granted a moment ago, and what it will grant
//! again. So it is asked again, with growing pauses. The run ends only if the broker never granted anything in this run, and
//! refused often enough and for long enough.

use std::time::{Duration, Instant};

use super::outgoing_publishes::MAX_PUBLISH_ID;
use super::refusal;
use crate::backoff::Backoff;
use crate::mqtt::codec::{Reason, ReasonClass, Request};
use crate::mqtt::{ConnectionLost, Event, Qos, Refused, topic};
use crate::{Error, Exit, Result};

/// The number of packet identifiers above those for PUBLISH.
const MAX_SUBSCRIPTIONS: usize = (u16::MAX - MAX_PUBLISH_ID) as usize;

/// Refusals in a row, and the least time from the first to the last of them, before they are taken for the last word.
const MIN_REFUSALS: u32 = 3;
const MIN_REFUSED_TIME: Duration = Duration::from_secs(10);

/// How long after a refusal the broker is asked again: at first, so that the third refusal comes after [`MIN_REFUSED_TIME`],
/// and at most. A cluster that lost a node can refuse one request in three or more for minutes (NATS does, where the node that
/// it chose to answer is the lost one), so long delays would leave too few requests to a run with a `--timeout`.
const MIN_RETRY_DELAY: Duration = Duration::from_millis(3400);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);

/// All filters; the place of a filter gives its packet identifier.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(Vec<Subscription>);

#[derive(Debug)]
struct Subscription {
    filter: String,
    qos: Qos,
    state: SubscriptionState,
    /// The broker granted it in this run.
    was_granted: bool,
    /// Refusals since it was granted last.
    refused: Option<Refusals>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SubscriptionState {
    /// To be requested, after a refusal not before a certain time.
    Missing(Option<Pause>),
    /// SUBACK is awaited since then, on this connection.
    Requested(Instant),
    /// The broker accepted it, and keeps it as long as the MQTT session.
    Granted,
}

/// After a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pause {
    until: Instant,
    refused_by: RefusedBy,
}

/// How the broker refused a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RefusedBy {
    /// SUBACK: that is for this connection.
    SubAck,
    /// DISCONNECT: the next connection would end in the same way, so it has to wait as well.
    Disconnect,
}

/// A SUBSCRIBE that the broker has not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct PendingSubscription<'a> {
    pub(super) filter: &'a str,
    /// The broker granted it before, in this run.
    pub(super) was_granted: bool,
}

#[derive(Debug)]
struct Refusals {
    count: u32,
    since: Instant,
    delay: Backoff,
}

impl Subscription {
    fn requested_at(&self) -> Option<Instant> {
        match self.state {
            SubscriptionState::Requested(at) => Some(at),
            SubscriptionState::Missing(_) | SubscriptionState::Granted => None,
        }
    }

    fn grant(&mut self, granted: Qos) -> Event {
        (self.state, self.was_granted, self.refused) = (SubscriptionState::Granted, true, None);
        Event::Subscribed { filter: self.filter.clone(), requested: self.qos, granted }
    }

    /// The broker refused it: what the user is told, at the first of several refusals and at the last.
    fn refuse(&mut self, refused_by: RefusedBy, reason: &Reason, may_pass: bool, now: Instant) -> Option<Event> {
        let delay = Backoff::new(MIN_RETRY_DELAY, MAX_RETRY_DELAY);
        let refused = self.refused.get_or_insert(Refusals { count: 0, since: now, delay });
        refused.count += 1;
        self.state = SubscriptionState::Missing(Some(Pause { until: now + refused.delay.next(), refused_by }));
        let is_final =
            refused.count >= MIN_REFUSALS && now.saturating_duration_since(refused.since) >= MIN_REFUSED_TIME;
        if is_final && !may_pass {
            return Some(Refused::Subscription.because(refusal::subscription(&self.filter, refused_by, reason)));
        }
        (refused.count == 1).then(|| Event::Warning(refusal::subscription_for_now(&self.filter, refused_by, reason)))
    }

    /// What was asked for on a connection that is gone is to be asked for again.
    fn reset(&mut self) {
        let keeps_pause =
            matches!(self.state, SubscriptionState::Missing(Some(Pause { refused_by: RefusedBy::Disconnect, .. })));
        if !keeps_pause {
            self.state = SubscriptionState::Missing(None);
        }
    }
}

impl Subscriptions {
    pub(super) fn add(&mut self, filter: &str, qos: Qos) -> Result<()> {
        topic::check_filter(filter)?;
        if self.0.len() == MAX_SUBSCRIPTIONS {
            return Err(Error::new(Exit::Config, format!("more than {MAX_SUBSCRIPTIONS} subscriptions")));
        }
        let (filter, state) = (filter.to_owned(), SubscriptionState::Missing(None));
        self.0.push(Subscription { filter, qos, state, was_granted: false, refused: None });
        Ok(())
    }

    /// The broker kept no session, and so no subscription.
    pub(super) fn session_lost(&mut self) {
        self.0.iter_mut().for_each(Subscription::reset);
    }

    /// The connection is gone, and with it the answers. Another one may lead to a node that grants what the last one refused.
    pub(super) fn connection_ended(&mut self) {
        self.0.iter_mut().filter(|one| one.state != SubscriptionState::Granted).for_each(Subscription::reset);
    }

    /// Since when the oldest answer is awaited.
    pub(super) fn oldest_request(&self) -> Option<Instant> {
        self.0.iter().filter_map(Subscription::requested_at).min()
    }

    /// The request that the broker has to answer next.
    pub(super) fn pending(&self) -> Option<PendingSubscription<'_>> {
        let oldest = &self.0[self.oldest_pending()?];
        Some(PendingSubscription { filter: &oldest.filter, was_granted: oldest.was_granted })
    }

    /// The place of the request that the broker has to answer next.
    fn oldest_pending(&self) -> Option<usize> {
        let pending = self.0.iter().enumerate().filter_map(|(place, one)| Some((one.requested_at()?, place)));
        pending.min().map(|(_, place)| place)
    }

    /// The answers get their full time again.
    pub(super) fn restart_timeouts(&mut self, now: Instant) {
        let requested = self.0.iter_mut().filter(|one| one.requested_at().is_some());
        requested.for_each(|one| one.state = SubscriptionState::Requested(now));
    }

    /// When to call [`Subscriptions::request_missing`], for those that were refused.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        let retry_at = |one: &Subscription| match one.state {
            SubscriptionState::Missing(Some(Pause { until, .. })) => Some(until),
            _ => None,
        };
        self.0.iter().filter_map(retry_at).min()
    }

    /// Sends a SUBSCRIBE for each filter that the broker neither has nor was asked for on this connection, unless it refused
    /// that a moment ago. `retained` says whether it also wants what the broker kept.
    pub(super) fn request_missing(&mut self, retained: bool, now: Instant, mut send: impl FnMut(Request<'_>)) {
        let ids = MAX_PUBLISH_ID + 1..=u16::MAX;
        let is_due = |one: &Subscription| match one.state {
            SubscriptionState::Missing(pause) => pause.is_none_or(|pause| now >= pause.until),
            SubscriptionState::Requested(_) | SubscriptionState::Granted => false,
        };
        for (one, pkid) in self.0.iter_mut().zip(ids).filter(|(one, _)| is_due(one)) {
            one.state = SubscriptionState::Requested(now);
            send(Request::Subscribe { pkid, filter: &one.filter, qos: one.qos, retained });
        }
    }

    /// A SUBACK came in; an unexpected one is ignored.
    pub(super) fn suback(
        &mut self,
        pkid: u16,
        granted: &[std::result::Result<Qos, Reason>],
        now: Instant,
    ) -> std::result::Result<Option<Event>, ConnectionLost> {
        let was_any_granted = self.was_any_granted();
        let place = pkid.checked_sub(MAX_PUBLISH_ID + 1).map(usize::from);
        let Some(one) = place.and_then(|place| self.0.get_mut(place)) else { return Ok(None) };
        if one.requested_at().is_none() {
            return Ok(None);
        }
        match granted {
            [Ok(granted)] => Ok(Some(one.grant(*granted))),
            [Err(reason)] => {
                let may_pass = was_any_granted || reason.class() == ReasonClass::Temporary;
                Ok(one.refuse(RefusedBy::SubAck, reason, may_pass, now))
            }
            _ => Err(ConnectionLost::malformed("SUBACK: not exactly one return code for one topic filter")),
        }
    }

    /// DISCONNECT came in place of SUBACK, if one is awaited and it can be for a SUBSCRIBE: returns why the connection is lost
    /// then, and what the user is to know.
    pub(super) fn disconnected(&mut self, reason: &Reason, now: Instant) -> Option<(ConnectionLost, Option<Event>)> {
        let place = self.oldest_pending().filter(|_| reason.is_for_subscription())?;
        // A DISCONNECT without a clear cause may be for something else than the SUBSCRIBE.
        let is_vague = reason.is_unexplained() || reason.class() == ReasonClass::Temporary;
        let may_pass = is_vague || self.was_any_granted();
        let one = &mut self.0[place];
        let lost = refusal::disconnected_at_subscribe(&one.filter, reason);
        Some((lost, one.refuse(RefusedBy::Disconnect, reason, may_pass, now)))
    }

    fn was_any_granted(&self) -> bool {
        self.0.iter().any(|one| one.was_granted)
    }
}
