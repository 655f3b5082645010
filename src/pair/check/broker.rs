//! The steps of a check that need the broker: connection, login, subscription, publishing, and whether the peer answers.

use std::time::{Duration, Instant};

use super::CheckedSession;
use super::findings::Findings;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::handshake::session_check::{CheckEvent, SessionCheck};
use crate::link::{Link, Tool};
use crate::mqtt::{Qos, Token};
use crate::report::{Level, Reporter};
use crate::stdio::Signals;
use crate::{Error, Exit, Result};

/// Which step is under way.
enum Step {
    /// The broker has not accepted the connection yet.
    Connecting,
    Subscribing,
    /// What is left is the broker's word on what was published, and the peer's.
    Asking(Box<Asked>),
}

/// What was asked, and is not answered.
struct Asked {
    publishing: Option<Token>,
    peer: Option<SessionCheck>,
}

pub(super) struct BrokerCheck<'a> {
    link: &'a Link,
    session: Option<&'a CheckedSession>,
    timeout: Option<Duration>,
    /// The steps are reported on standard output, not by the loop.
    silent: Reporter,
}

impl<'a> BrokerCheck<'a> {
    pub(super) fn new(link: &'a Link, session: Option<&'a CheckedSession>, timeout: Option<Duration>) -> Self {
        let silent = Reporter::to("sts-pair", Level::Error, Box::new(std::io::sink()));
        Self { link, session, timeout, silent }
    }

    /// Goes as far as it can.
    ///
    /// # Errors
    /// As [`Link::connect`]; [`Exit::TryAgain`] when stopped by a signal. What is wrong is a finding.
    pub(super) fn run(&self, findings: &mut Findings) -> Result<()> {
        let begun = Instant::now();
        let until = self.timeout.map(|timeout| begun + timeout);
        let mut broker = self.link.connect(Tool::Pair, &mut rand::rng())?;
        // Without a $share prefix: it must not take messages from a receiver that shares them.
        broker.subscribe(self.link.config.subscribe.plain(), self.link.config.mqtt.qos, begun)?;
        let mut events = EventLoop::new(broker, Signals::catch()?, &self.silent);
        let mut step = Step::Connecting;
        loop {
            let now = events.begin_turn();
            loop {
                match events.next_event() {
                    Ok(Some(event)) => {
                        if !self.handle(event, &mut step, &mut events, findings, begun)? {
                            return events.close().map(drop);
                        }
                    }
                    Ok(None) => break,
                    Err(refusal) => {
                        findings.bad(step.name(), refusal)?;
                        return events.close().map(drop);
                    }
                }
            }
            if let Step::Asking(asked) = &mut step
                && self.is_answered(asked, &mut events, findings, now)?
            {
                return events.close().map(drop);
            }
            if events.stop_requested() > Stop::No {
                return Err(Error::new(Exit::TryAgain, "stopped by a signal"));
            }
            if until.is_some_and(|until| now >= until) {
                findings.bad(step.name(), self.timed_out(&step, &events))?;
                return events.close().map(drop);
            }
            let asked = match &step {
                Step::Asking(asked) => asked.peer.as_ref().and_then(SessionCheck::deadline),
                Step::Connecting | Step::Subscribing => None,
            };
            events.wait(None, until.into_iter().chain(asked).min(), now)?;
        }
    }

    /// Takes what the broker did; false if nothing more can come of it.
    fn handle(
        &self,
        event: BrokerEvent,
        step: &mut Step,
        events: &mut EventLoop<'_>,
        findings: &mut Findings,
        begun: Instant,
    ) -> Result<bool> {
        match event {
            BrokerEvent::Connected => {
                let (endpoint, took) = (events.broker.endpoint(), begun.elapsed().as_millis());
                let over = if endpoint.tls.is_some() { " over TLS" } else { "" };
                findings.good(
                    "connection",
                    format!("{}://{}{over}, {took} ms", endpoint.scheme(), events.broker.remote()),
                )?;
                let login = self.link.config.mqtt.login.as_ref();
                findings.good("login", login.map_or("not required".to_owned(), |it| format!("as {}", it.username)))?;
                *step = Step::Subscribing;
            }
            BrokerEvent::Disconnected => {
                let error = events.unreachable("no connection to the broker");
                let error = error.unwrap_or_else(|| Error::new(Exit::Unavailable, "the connection was lost"));
                findings.bad(step.name(), error)?;
                return Ok(false);
            }
            BrokerEvent::Subscribed { filter, requested, granted } if matches!(step, Step::Subscribing) => {
                if granted < requested {
                    let why = format!("the broker granted QoS {granted} instead of {requested}");
                    findings.bad("subscription", Error::new(Exit::Unavailable, filter).because(why))?;
                } else {
                    findings.good("subscription", format!("{filter}, QoS {granted}"))?;
                }
                *step = Step::Asking(Box::new(self.ask(events, findings)?));
            }
            BrokerEvent::Acknowledged(token) => {
                if let Step::Asking(asked) = step
                    && asked.publishing.take_if(|awaited| *awaited == token).is_some()
                {
                    findings.good("publishing", self.topic().unwrap_or_default())?;
                }
            }
            BrokerEvent::Message(message) => {
                if let Step::Asking(asked) = step
                    && let Some(check) = &mut asked.peer
                    && let Ok(CheckEvent::Present) = check.accept(&message.payload, Instant::now())
                {
                    asked.peer = None;
                    let name = self.session.map(|session| session.peer.name.to_string()).unwrap_or_default();
                    findings.good("answer", format!("{name} has the session"))?;
                }
                events.broker.ack(message.receipt);
            }
            BrokerEvent::Oversize { receipt, .. } => events.broker.ack(receipt),
            BrokerEvent::TooLong(refusal) => {
                findings.bad("publishing", refusal)?;
                return Ok(false);
            }
            BrokerEvent::Subscribed { .. } => {}
        }
        Ok(true)
    }

    /// Asks the peer whether it has the session, which shows whether this device may publish, too, if the broker says so.
    fn ask(&self, events: &mut EventLoop<'_>, findings: &mut Findings) -> Result<Asked> {
        let says_so = self.link.config.mqtt.version.has_properties();
        let Some(session) = self.session else {
            findings
                .skipped("publishing", "nothing can be published without a session that the peer would not report")?;
            return Ok(Asked { publishing: None, peer: None });
        };
        if !says_so {
            findings.skipped("publishing", "only a broker with MQTT 5 says what is not allowed (mqtt_version = 5)")?;
        }
        let mut check = SessionCheck::new(session.session.clone(), [], Vec::new(), &mut rand::rng());
        let now = Instant::now();
        check.start(now);
        let token = match check.poll(now) {
            Some(query) => Some(events.broker.publish(&session.topic, query.into(), Qos::AtLeastOnce, false)?),
            None => None,
        };
        Ok(Asked { publishing: token.filter(|_| says_so), peer: Some(check) })
    }

    /// Whether all that was asked is answered, or will not be.
    fn is_answered(
        &self,
        asked: &mut Asked,
        events: &mut EventLoop<'_>,
        findings: &mut Findings,
        now: Instant,
    ) -> Result<bool> {
        if let Some(check) = &mut asked.peer {
            if check.is_timed_out(now) {
                asked.peer = None;
                findings.skipped("answer", "none: the peer has lost the session, or none of its tools is running")?;
            } else if let (Some(query), Some(topic)) = (check.poll(now), self.topic()) {
                events.publish_or_drop(topic, query, Qos::AtMostOnce)?;
            }
        }
        Ok(asked.peer.is_none() && asked.publishing.is_none())
    }

    /// Where the peer listens.
    fn topic(&self) -> Option<&'a str> {
        self.session.map(|session| session.topic.as_str())
    }

    fn timed_out(&self, step: &Step, events: &EventLoop<'_>) -> Error {
        let endpoint = &self.link.config.mqtt.endpoint;
        events.unreachable("timed out").unwrap_or_else(|| {
            Error::new(Exit::Unavailable, "timed out")
                .because(format!("the broker at {endpoint} did not answer ({})", step.name()))
        })
    }
}

impl Step {
    fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connection",
            Self::Subscribing => "subscription",
            Self::Asking(_) => "publishing",
        }
    }
}
