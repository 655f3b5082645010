//! Outages of the broker: what is told of them, each once, and what the run's errors say of one.

use std::time::{Duration, Instant};

use super::EventLoop;
use crate::mqtt::Outage;
use crate::{Error, Exit};

/// A connection that ended sooner was a short one.
const MIN_LASTING_TIME: Duration = Duration::from_secs(5);

/// Short connections in a row whose end is reported. A broker that accepts each connection and soon drops it would fill
/// a log.
const MAX_SHORT_REPORTED: u32 = 3;

pub(super) fn contested(times: u32) -> String {
    format!(
        "the broker dropped the connection {times} times in a row: \
         does another client use the same client id (clientid)?"
    )
}

/// Whether there is a connection that the broker accepted.
pub(super) enum Reachability {
    /// No attempt to connect has ended.
    Unknown,
    /// Connected since then; `after` is the outage before, if it is not over until a subscription is accepted.
    Connected { since: Instant, after: Option<Outage> },
    /// The connection was lost, or the last attempt failed, for this reason. The user was told: once per outage,
    /// however many attempts fail.
    Lost(Outage),
}

impl EventLoop<'_> {
    pub(super) fn connected(&mut self) {
        let before = match std::mem::replace(&mut self.reachability, Reachability::Unknown) {
            Reachability::Lost(outage) => Some(outage),
            Reachability::Unknown | Reachability::Connected { .. } => None,
        };
        let was_lost = before.is_some();
        let after = before.filter(Outage::is_at_subscribe);
        self.report.verbose(format_args!("connected to {}", self.broker.remote()));
        self.show_connected();
        if was_lost && after.is_none() && self.short_connections < MAX_SHORT_REPORTED {
            self.report.info("connected again");
        }
        self.reachability = Reachability::Connected { since: Instant::now(), after };
    }

    /// Has the service manager show the connection.
    pub(crate) fn show_connected(&self) {
        self.report.service_status(format_args!("connected to {}", self.broker.remote()));
    }

    /// The broker accepted a subscription.
    pub(super) fn subscribed(&mut self) {
        self.report.ready();
        if let Reachability::Connected { after, .. } = &mut self.reachability
            && after.take().is_some()
        {
            self.report.info("connected again");
        }
    }

    pub(super) fn disconnected(&mut self, outage: Outage) {
        let is_known = match &self.reachability {
            Reachability::Unknown => false,
            Reachability::Connected { after, .. } => after.as_ref() == Some(&outage),
            Reachability::Lost(_) => true,
        };
        let is_new = !std::mem::take(&mut self.is_refused) && !is_known;
        self.report.service_status(format_args!("not connected: {outage}"));
        if let Reachability::Connected { since, .. } = self.reachability {
            let is_short = since.elapsed() < MIN_LASTING_TIME;
            self.short_connections = if is_short { self.short_connections.saturating_add(1) } else { 0 };
        }
        if is_new && self.short_connections <= MAX_SHORT_REPORTED {
            let is_last = self.short_connections == MAX_SHORT_REPORTED;
            let what = if is_last { "a connection that lasts" } else { "the broker" };
            self.report.info(format_args!("{outage}; waiting for {what}"));
            if let Some(hint) = outage.hint() {
                self.report.info(format_args!("hint: {hint}"));
            }
        }
        self.reachability = Reachability::Lost(outage);
    }

    /// Something came from the broker: after short connections that were not reported any more, this one may last.
    pub(super) fn report_lasting(&mut self) {
        if self.short_connections >= MAX_SHORT_REPORTED
            && let Reachability::Connected { since, .. } = self.reachability
            && since.elapsed() >= MIN_LASTING_TIME
        {
            self.short_connections = 0;
            self.report.info("connected again");
        }
    }

    /// Whether the broker accepted the connection that there is.
    #[must_use]
    pub(crate) fn is_connected(&self) -> bool {
        matches!(self.reachability, Reachability::Connected { .. })
    }

    /// Why there is no connection: what ended the last one, or the last attempt; else what the first attempt still
    /// waits for. `None` where there is a connection.
    #[must_use]
    pub(crate) fn outage(&self) -> Option<Outage> {
        match &self.reachability {
            Reachability::Connected { .. } => None,
            Reachability::Lost(outage) => Some(outage.clone()),
            Reachability::Unknown => Some(self.broker.pending_attempt()),
        }
    }

    /// The error of ending now, `what` being the reason, for lack of a connection: it names what the last attempt
    /// failed on. `None` where there is a connection.
    #[must_use]
    pub(crate) fn unreachable(&self, what: &str) -> Option<Error> {
        self.outage().map(|outage| outage.explain(Error::new(Exit::Unavailable, what)))
    }

    /// Adds to the error of a run that ends why there is no connection, if there is none.
    #[must_use]
    pub(crate) fn explain(&self, error: Error) -> Error {
        match self.outage() {
            Some(outage) => outage.explain(error),
            None => error,
        }
    }
}
