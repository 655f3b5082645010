//! The steps of a check that need the broker: connection, login, subscription, publishing, and whether the peer answers.

use std::time::{Duration, Instant};

use super::CheckedSession;
use super::findings::Findings;
use crate::config::Protection;
use crate::event_loop::{BrokerEvent, EventLoop, Stop};
use crate::handshake::session_check::{CheckEvent, SessionCheck};
use crate::link::{Link, Tool};
use crate::mqtt::{Outage, Qos, Token};
use crate::report::{Level, Reporter};
use crate::stdio::Signals;
use crate::{Error, Exit, Result};

/// Which step is under way.
enum CheckStep {
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

/// Goes as far as it can; what is wrong is a finding. `timeout` is for all of it.
///
/// # Errors
/// As [`Link::connect`]; [`Exit::TryAgain`] when stopped by a signal.
pub(super) fn check_broker(
    link: &Link,
    session: Option<&CheckedSession>,
    timeout: Option<Duration>,
    findings: &mut Findings,
) -> Result<()> {
    let begun = Instant::now();
    let mut broker = link.connect(Tool::Pair, &mut rand::rng())?;
    // Without a $share prefix: it must not take messages from a receiver that shares them.
    broker.subscribe(link.config.subscribe.plain(), link.config.mqtt.qos, begun)?;
    // The steps are reported on standard output, not by the loop.
    let silent = Reporter::to("sts-pair", Level::Error, Box::new(std::io::sink()));
    let events = EventLoop::new(broker, Signals::catch()?, &silent);
    let mut check = BrokerCheck { link, session, findings, events, step: CheckStep::Connecting, begun };
    check.run(timeout.map(|timeout| begun + timeout))?;
    check.events.close().map(drop)
}

struct BrokerCheck<'a> {
    link: &'a Link,
    session: Option<&'a CheckedSession>,
    findings: &'a mut Findings,
    events: EventLoop<'a>,
    step: CheckStep,
    begun: Instant,
}

impl BrokerCheck<'_> {
    fn run(&mut self, until: Option<Instant>) -> Result<()> {
        loop {
            let now = self.events.begin_turn();
            if self.take_events()? || self.is_answered(now)? {
                return Ok(());
            }
            if self.events.stop_requested() > Stop::No {
                return Err(Error::new(Exit::TryAgain, "stopped by a signal"));
            }
            if until.is_some_and(|until| now >= until) {
                let error = self.timed_out();
                return self.findings.bad(self.step.name(), error);
            }
            let asked = match &self.step {
                CheckStep::Asking(asked) => asked.peer.as_ref().and_then(SessionCheck::deadline),
                CheckStep::Connecting | CheckStep::Subscribing => None,
            };
            self.events.wait(None, until.into_iter().chain(asked).min(), now)?;
        }
    }

    /// Takes what the broker did; true if nothing more can come of it.
    fn take_events(&mut self) -> Result<bool> {
        loop {
            match self.events.next_event() {
                Ok(Some(event)) => {
                    if self.handle(event)? {
                        return Ok(true);
                    }
                }
                Ok(None) => return Ok(false),
                Err(refusal) => return self.findings.bad(self.step.name(), refusal.error).map(|()| true),
            }
        }
    }

    fn handle(&mut self, event: BrokerEvent) -> Result<bool> {
        match event {
            BrokerEvent::Connected => self.connected()?,
            BrokerEvent::Disconnected => {
                let error = self.events.outage().map(Outage::into_error);
                let error = error.unwrap_or_else(|| Error::new(Exit::Unavailable, "the connection was lost"));
                self.findings.bad(self.step.name(), error)?;
                return Ok(true);
            }
            BrokerEvent::Subscribed { filter, requested, granted } if matches!(self.step, CheckStep::Subscribing) => {
                self.subscribed(filter, requested, granted)?;
            }
            BrokerEvent::Acknowledged(token) => {
                if let CheckStep::Asking(asked) = &mut self.step
                    && asked.publishing.take_if(|awaited| *awaited == token).is_some()
                {
                    self.findings.good("publishing", self.topic().unwrap_or_default())?;
                }
            }
            BrokerEvent::Message(message) => {
                self.take_reply(&message.payload)?;
                self.events.broker.ack(message.receipt);
            }
            BrokerEvent::Oversize { receipt, .. } => self.events.broker.ack(receipt),
            BrokerEvent::TooLong(refusal) => {
                self.findings.bad("publishing", refusal)?;
                return Ok(true);
            }
            BrokerEvent::Subscribed { .. } => {}
        }
        Ok(false)
    }

    fn connected(&mut self) -> Result<()> {
        let (broker, took) = (&self.events.broker, self.begun.elapsed().as_millis());
        let place = format!("{}://{}, {took} ms", broker.endpoint().scheme(), broker.remote());
        self.findings.good("connection", place)?;
        let login = self.link.config.mqtt.login.as_ref();
        self.step = CheckStep::Subscribing;
        self.findings.good("login", login.map_or("not required".to_owned(), |login| format!("as {}", login.username)))
    }

    fn subscribed(&mut self, filter: String, requested: Qos, granted: Qos) -> Result<()> {
        if granted < requested {
            let why = format!("the broker granted QoS {granted} instead of {requested}");
            self.findings.bad("subscription", Error::new(Exit::Unavailable, filter).because(why))?;
        } else {
            self.findings.good("subscription", format!("{filter}, QoS {granted}"))?;
        }
        self.step = CheckStep::Asking(Box::new(self.ask()?));
        Ok(())
    }

    /// Asks the peer whether it has the session, which shows whether this device may publish, too, if the broker says so.
    fn ask(&mut self) -> Result<Asked> {
        let Some(session) = self.session else {
            let [publishing, answer] = match self.link.config.protection {
                Protection::Legacy(_) => {
                    ["the old program would display whatever is published", "the old program answers no question"]
                }
                Protection::None | Protection::Sealed(_) => [
                    "without a session, the peer would report whatever is published",
                    "only one peer with a session can be asked",
                ],
            };
            self.findings.skipped("publishing", publishing)?;
            self.findings.skipped("answer", answer)?;
            return Ok(Asked { publishing: None, peer: None });
        };
        let says_so = self.link.config.mqtt.version.has_properties();
        if !says_so {
            let why = "only an MQTT 5 broker says what is not allowed (mqtt_version = 5)";
            self.findings.skipped("publishing", why)?;
        }
        let mut check = SessionCheck::new(session.session.clone(), [], Vec::new(), &mut rand::rng());
        let now = Instant::now();
        check.start(now);
        let mut publish =
            |query: Vec<u8>| self.events.broker.publish(&session.topic, query.into(), Qos::AtLeastOnce, false);
        let token = check.poll(now).map(&mut publish).transpose()?;
        Ok(Asked { publishing: token.filter(|_| says_so), peer: Some(check) })
    }

    fn take_reply(&mut self, payload: &[u8]) -> Result<()> {
        let CheckStep::Asking(asked) = &mut self.step else { return Ok(()) };
        let reply = asked.peer.as_mut().map(|check| check.accept(payload, Instant::now()));
        let (Some(Ok(CheckEvent::Present)), Some(session)) = (reply, self.session) else { return Ok(()) };
        asked.peer = None;
        self.findings.good("answer", format!("{} has the session", session.peer.name))
    }

    /// Whether all that was asked is answered, or will not be.
    fn is_answered(&mut self, now: Instant) -> Result<bool> {
        let topic = self.topic();
        let CheckStep::Asking(asked) = &mut self.step else { return Ok(false) };
        if let Some(check) = &mut asked.peer {
            if check.is_timed_out(now) {
                asked.peer = None;
                let why = "none: the peer has lost the session, or none of its tools is running";
                self.findings.skipped("answer", why)?;
            } else if let (Some(query), Some(topic)) = (check.poll(now), topic) {
                self.events.publish_or_drop(topic, query, Qos::AtMostOnce)?;
            }
        }
        Ok(asked.peer.is_none() && asked.publishing.is_none())
    }

    fn timed_out(&self) -> Error {
        let endpoint = &self.link.config.mqtt.endpoint;
        self.events.unreachable("timed out").unwrap_or_else(|| {
            Error::new(Exit::Unavailable, "timed out")
                .because(format!("the broker at {endpoint} did not answer ({})", self.step.name()))
        })
    }
}

impl<'a> BrokerCheck<'a> {
    /// Where the peer listens.
    fn topic(&self) -> Option<&'a str> {
        self.session.map(|session| session.topic.as_str())
    }
}

impl CheckStep {
    fn name(&self) -> &'static str {
        match self {
            Self::Connecting => "connection",
            Self::Subscribing => "subscription",
            Self::Asking(_) => "publishing",
        }
    }
}
