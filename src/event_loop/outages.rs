//! Outages of the broker: what is told of them, each cause once, and what the run's errors say of one.

use std::time::{Duration, Instant};

use super::EventLoop;
use crate::mqtt::{OWN_CLIENT_ID, Outage};
use crate::{Error, Exit};

/// A connection that ended sooner was a short one.
const MIN_LASTING_TIME: Duration = Duration::from_secs(5);

/// The same while another client seems to use our client id: the two take the connection from each other, each after a pause.
const MIN_UNCONTESTED_TIME: Duration = Duration::from_secs(300);

/// Short connections in a row whose end is reported. A broker that accepts each connection and soon drops it would fill
/// a log.
const MAX_SHORT_REPORTED: u32 = 3;

/// Causes that are told until a connection lasts. The network can make up as many as it likes.
const MAX_CAUSES: usize = 8;

/// Whether there is a connection that the broker accepted.
pub(super) enum Reachability {
    /// No attempt to connect has ended.
    Unknown,
    /// Connected since then; `after` is the outage before, if it is not over until a subscription is accepted.
    Connected { since: Instant, after: Option<Outage> },
    /// The connection was lost, or the last attempt failed, for this reason. The user was told: once per outage and cause,
    /// however many attempts fail.
    Lost(Outage),
}

/// What was told since the last connection that lasted.
#[derive(Default)]
pub(super) struct OutageReports {
    /// Short connections since then.
    short_connections: u32,
    /// Of each cause, one.
    told: Vec<Outage>,
    /// That another client seems to use our client id.
    is_contested: bool,
}

impl OutageReports {
    /// A connection of this age ended.
    fn connection_ended(&mut self, age: Duration) {
        if age >= self.min_lasting_time() {
            *self = Self::default();
        } else {
            self.short_connections = self.short_connections.saturating_add(1);
        }
    }

    /// A connection of this age counts as one that lasts.
    fn min_lasting_time(&self) -> Duration {
        if self.is_contested { MIN_UNCONTESTED_TIME } else { MIN_LASTING_TIME }
    }

    /// Notes an outage, which begins with this or is the one that has begun; returns whether it is to be told.
    fn is_due(&mut self, outage: &Outage, begins: bool) -> bool {
        let is_known = self.told.iter().any(|told| told.has_cause_of(outage));
        let is_change = !is_known && self.told.len() < MAX_CAUSES;
        if is_change {
            self.told.push(outage.clone());
        }
        is_change || begins && !self.is_contested && self.short_connections <= MAX_SHORT_REPORTED
    }

    /// Whether no more connections are told that come and go, until one lasts.
    fn awaits_lasting(&self) -> bool {
        self.is_contested || self.short_connections >= MAX_SHORT_REPORTED
    }

    /// What the run waits for.
    fn awaited(&self) -> &'static str {
        if self.awaits_lasting() { "a connection that lasts" } else { "the broker" }
    }
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
        if was_lost && after.is_none() && !self.outages.awaits_lasting() {
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
        let begins = match &self.reachability {
            Reachability::Unknown => true,
            Reachability::Connected { after, .. } => after.as_ref() != Some(&outage),
            Reachability::Lost(_) => false,
        };
        self.report.service_status(format_args!("not connected: {outage}"));
        if let Reachability::Connected { since, .. } = self.reachability {
            self.outages.connection_ended(since.elapsed());
        }
        let is_due = self.outages.is_due(&outage, begins);
        // A refusal is told as such: of the connection by the run, of a topic filter by the client.
        let is_refusal = std::mem::take(&mut self.is_refused) || outage.is_at_subscribe();
        if is_due && !is_refusal {
            self.report.info(format_args!("{outage}; waiting for {}", self.outages.awaited()));
            if let Some(hint) = outage.hint() {
                self.report.info(format_args!("hint: {hint}"));
            }
        }
        self.reachability = Reachability::Lost(outage);
    }

    /// Something came from the broker: after short connections that were not reported any more, this one may last.
    pub(super) fn report_lasting(&mut self) {
        if self.outages.awaits_lasting()
            && let Reachability::Connected { since, .. } = self.reachability
            && since.elapsed() >= self.outages.min_lasting_time()
        {
            self.outages = OutageReports::default();
            self.report.info("connected again");
        }
    }

    /// Another client seems to use our client id, since the broker dropped the connection so many times in a row.
    pub(super) fn contested(&mut self, times: u32) {
        if !std::mem::replace(&mut self.outages.is_contested, true) {
            let what = format_args!(
                "the broker dropped the connection {times} times in a row: \
                 does another client use the same client id (clientid)?"
            );
            self.report.warning_with_hint(what, Some(OWN_CLIENT_ID));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::mqtt::{Client, ClientOptions, Endpoint};
    use crate::report::tests::Said;
    use crate::report::{Level, Reporter};
    use crate::stdio::Signals;

    /// Of a run, what is told of these outages: `""` for a connection that is accepted and lasts, `"short"` for one that does
    /// not, `"contested"` if another client seems to use the client id. `"refused topic"` is one that a subscription ends.
    fn told(outages: &[&str]) -> Vec<String> {
        let said = Said::default();
        let report = Reporter::to("sts-test", Level::Info, Box::new(said.clone()));
        let (signals, _sent) = Signals::simulated();
        let endpoint = Endpoint::tcp(Ipv4Addr::LOCALHOST.to_string(), 1);
        let client = Client::new(endpoint, ClientOptions::new("outages")).unwrap();
        let mut events = EventLoop::new(client, signals, &report);
        for outage in outages {
            match *outage {
                "" | "short" => {
                    events.connected();
                    if let Reachability::Connected { since, .. } = &mut events.reachability
                        && outage.is_empty()
                    {
                        *since = since.checked_sub(MIN_LASTING_TIME).unwrap();
                    }
                }
                "contested" => events.contested(5),
                "refused topic" => events.disconnected(Outage::at_subscribe("refused topic")),
                outage => events.disconnected(outage.into()),
            }
        }
        let said = said.take();
        let lines = said.lines().filter_map(|line| line.split_once(": ").map(|(_, line)| line.to_owned()));
        lines.filter(|line| line.contains("; waiting for") || line.contains("clientid")).collect()
    }

    #[test]
    fn each_cause_of_an_outage_is_told_once() {
        let causes = ["refused", "refused", "wrong password", "refused", "no TLS", "wrong password", "no TLS"];
        let expected = ["refused", "wrong password", "no TLS"].map(|why| format!("{why}; waiting for the broker"));
        assert_eq!(told(&causes), expected);
        let twice = [&causes[..], &[""], &causes].concat();
        assert_eq!(told(&twice), [&expected[..], &expected].concat());
    }

    #[test]
    fn causes_without_number_and_connections_that_do_not_last_fill_no_log() {
        let made_up: Vec<String> = (0..100).map(|number| format!("made up {number}")).collect();
        assert_eq!(told(&made_up.iter().map(String::as_str).collect::<Vec<_>>()).len(), MAX_CAUSES);
        let flapping = ["short", "closed", "refused"].repeat(100);
        let lines = told(&flapping);
        let waits: Vec<_> = lines.iter().map(String::as_str).collect();
        let broker = ["closed; waiting for the broker", "refused; waiting for the broker"];
        assert_eq!(waits, [&broker[..], &[broker[0], "closed; waiting for a connection that lasts"]].concat());
    }

    #[test]
    fn what_ends_a_connection_at_its_subscription_is_left_to_the_refusal() {
        for connected in ["", "short"] {
            assert_eq!(told(&[connected, "refused topic"].repeat(10)), [""; 0]);
        }
        assert_eq!(told(&["short", "refused topic", "closed"]), ["closed; waiting for the broker"]);
    }

    #[test]
    fn another_client_with_the_same_client_id_is_told_once_with_what_to_do() {
        let fight = ["", "closed", "short", "closed", "contested"].repeat(20);
        let lines = told(&fight);
        let of = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
        assert_eq!((of("does another client use"), of("hint: give each device")), (1, 1), "{lines:?}");
        assert_eq!(of("closed"), 2, "{lines:?}");
    }

    #[test]
    fn a_change_of_the_cause_is_told_also_after_connections_that_did_not_last() {
        let flapping = [&["short", "closed"].repeat(10)[..], &["refused"; 10]].concat();
        let lines = told(&flapping);
        assert_eq!(lines.iter().filter(|line| line.starts_with("closed")).count(), 3);
        assert_eq!(lines.last().unwrap(), "refused; waiting for a connection that lasts");
    }
}
