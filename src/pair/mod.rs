//! sts-pair: the handshake over the broker, from SUBSCRIBE to a session that both ends have stored.

mod acting;
mod age;
mod asked;
pub mod code;
pub mod end;
mod hints;
mod keeping;
pub mod keys;
mod prompt;
pub mod serve;
mod spinner;
pub mod status;
mod taking;

use std::time::{Duration, Instant};

use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use self::asked::Asked;
use self::serve::Service;
use self::spinner::Spinner;
use crate::cache::Cache;
use crate::cli::Reporter;
use crate::config::Config;
use crate::crypto::schedule::Topics;
use crate::event_loop::{self, Trouble};
use crate::handshake::session_check::SessionCheck;
use crate::handshake::{Claim, Enrolment, Established, Handshake, Party, Trust};
use crate::link::{Link, Tool};
use crate::mqtt::{self, Qos};
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::stdio::Signals;
use crate::throttle::KeyedThrottle;
use crate::units::Age;
use crate::{Error, Exit, Result};

/// The name that a device shows where it has none; it counts for nothing while keys are pinned by hand.
const NAME: &str = "sts";

/// Room that answers to INITREQs leave for frames of attempts, in bytes.
const RESERVED: usize = 1 << 19;

/// Agrees a session with the link's peer and stores it; gives up after `timeout`, if there is one. One that is younger
/// than `if_older`, and that the peer still has, is kept instead (`sts-protocol(7)`, "Still there").
///
/// # Errors
/// [`Exit::TryAgain`] when time is up, or another sts-pair runs on the link; [`Exit::Protocol`] where the peer, proven to
/// be the peer, asks for another suite; [`Exit::NotTrusted`] where nobody is pinned; [`Exit::Unavailable`] where the broker
/// refuses us; [`Exit::Usage`] on a link without encryption.
pub fn run(link: &Link, timeout: Option<Duration>, if_older: Option<Age>, report: &Reporter) -> Result<()> {
    pair(link, nameless(), |_| None, timeout, if_older, report).map(drop)
}

/// How a pairing ended that did not fail otherwise.
enum Outcome {
    Paired,
    /// Who answered this master says that the code is another one; so many attempts are left here.
    WrongCode {
        left: usize,
    },
}

/// As [`run`], under a name of this device's and, where there is one, with a code.
fn pair(
    link: &Link,
    name: PeerName,
    enrolment: impl FnOnce(&LinkPeers) -> Option<Enrolment>,
    timeout: Option<Duration>,
    if_older: Option<Age>,
    report: &Reporter,
) -> Result<Outcome> {
    let ends = encrypted(link)?;
    let cache = link.create_cache()?;
    let _lock = cache.lock_pairing()?;
    let _answers = cache.lock_answers()?;
    let asking = match if_older {
        Some(age) => keeping::question(age, &ends, &cache, report, &mut rand::rng())?,
        None => None,
    };
    let enrolment = enrolment(&ends);
    let party = party(&ends, name, enrolment)?;
    let mut run = Run::begin(link, report, ends, cache, Signals::catch()?, Machine::Waiting(Some(party)))?;
    run.until = timeout.map(|timeout| Instant::now() + timeout);
    (run.if_older, run.asking) = (if_older, asking);
    run.finish()
}

/// The name of a device that is not asked for one.
fn nameless() -> PeerName {
    NAME.parse().expect("the name is a name")
}

/// This end of the link, which signs.
fn party(ends: &LinkPeers, name: PeerName, enrolment: Option<Enrolment>) -> Result<Party> {
    Ok(Party {
        identity: ends.identity()?.into(),
        name,
        suite: ends.suite,
        // While enrolling it is the code that lets in, not the key.
        trust: match enrolment {
            Some(enrolment) => Trust::Code(enrolment),
            None => Trust::Pinned(ends.accepted()?.to_vec()),
        },
    })
}

/// The ends of the link, which must have some.
///
/// # Errors
/// [`Exit::Usage`] on a link without encryption; otherwise as [`Link::make_identity`] and [`Link::ends`].
pub fn encrypted(link: &Link) -> Result<LinkPeers> {
    link.make_identity()?;
    link.peers()?.ok_or_else(|| {
        Error::new(Exit::Usage, "nothing to pair")
            .because("the link is not encrypted (sts_mode = nosec)")
            .hint("set sts_mode to master on one device and to slave on the other")
    })
}

/// The handshake's state: it begins once the broker passes the peer's messages on.
enum Machine {
    Waiting(Option<Party>),
    Running(Handshake),
}

struct Run<'a> {
    config: &'a Config,
    report: &'a Reporter,
    /// Whether a code lets in whom nobody knows yet.
    enrolling: bool,
    ends: LinkPeers,
    cache: Cache,
    signals: Signals,
    client: mqtt::Client,
    /// What poll(2) said of the broker's socket.
    ready: PollFlags,
    rng: ThreadRng,
    trouble: Trouble,
    hints: KeyedThrottle<Claim>,
    asked: Asked,
    until: Option<Instant>,
    spinner: Spinner,
    /// `--serve`, and what goes with it.
    service: Option<Service>,
    machine: Machine,
    /// With whom a session is stored that both ends may use.
    paired: Option<Established>,
    /// On a master whose code is not the slave's: how many attempts are left.
    wrong_code: Option<usize>,
    if_older: Option<Age>,
    /// While it is not clear yet whether the peer still has a session that is young enough.
    asking: Option<SessionCheck>,
    /// The peer has it.
    kept: bool,
}

impl<'a> Run<'a> {
    /// Connects, without a time at which it is up.
    fn begin(
        link: &'a Link,
        report: &'a Reporter,
        ends: LinkPeers,
        cache: Cache,
        signals: Signals,
        machine: Machine,
    ) -> Result<Self> {
        let (mut rng, start) = (rand::rng(), Instant::now());
        let mut client = link.connect(Tool::Pair, &mut rng)?;
        // Not as one of a group that shares a subscription: each frame of a handshake is for whoever pairs.
        client.subscribe(ends.route.filter(), Qos::AtLeastOnce, start)?;
        Ok(Self {
            config: &link.config,
            report,
            enrolling: matches!(&machine, Machine::Waiting(Some(Party { trust: Trust::Code(_), .. }))),
            ends,
            cache,
            signals,
            client,
            ready: PollFlags::empty(),
            rng,
            trouble: Trouble::default(),
            hints: hints::throttle(),
            asked: Asked::default(),
            until: None,
            spinner: Spinner::new(start),
            service: None,
            machine,
            paired: None,
            wrong_code: None,
            if_older: None,
            asking: None,
            kept: false,
        })
    }
}

impl Run<'_> {
    fn finish(mut self) -> Result<Outcome> {
        let outcome = self.pair();
        self.report.status("");
        // Whatever came of it, the last frame is for the peer: let the broker have it.
        event_loop::leave(&mut self.client, &mut self.signals)?;
        outcome?;
        if let Some(established) = &self.paired {
            self.tell_paired(established);
        }
        Ok(self.wrong_code.map_or(Outcome::Paired, |left| Outcome::WrongCode { left }))
    }

    fn pair(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            self.take_events(now)?;
            self.answer_asked()?;
            self.send_due(now)?;
            if self.is_finished() || self.wrong_code.is_some() {
                return Ok(());
            }
            if self.service.as_mut().is_some_and(Service::is_told_to_reload) {
                return Ok(());
            }
            if self.signals.count() > 0 {
                if self.service.is_some() || self.paired.is_some() {
                    return Ok(());
                }
                return Err(Error::new(Exit::TryAgain, "stopped by a signal").because("no session was agreed"));
            }
            if self.until.is_some_and(|until| now >= until) {
                return if self.paired.is_some() || self.will_do()? { Ok(()) } else { Err(self.timed_out()) };
            }
            self.client.drive(now, PollFlags::empty());
            if self.client.has_event() {
                self.ready = PollFlags::empty();
                continue;
            }
            self.wait(now)?;
        }
    }

    fn is_finished(&self) -> bool {
        match &self.machine {
            _ if self.kept => true,
            Machine::Waiting(_) => false,
            Machine::Running(handshake) if handshake.is_finished() => self.client.unacknowledged().messages == 0,
            Machine::Running(_) => {
                self.ends.role == crate::role::Role::Slave && self.service.is_none() && self.paired.is_some()
            }
        }
    }

    fn send_due(&mut self, now: Instant) -> Result<()> {
        self.ask(now)?;
        loop {
            let due = match &mut self.machine {
                Machine::Waiting(_) => None,
                Machine::Running(handshake) => handshake.poll(now, &mut self.rng),
            };
            let Some((topics, frame)) = due else { break };
            self.publish(&topics, frame, Qos::AtMostOnce)?;
        }
        match &self.machine {
            Machine::Running(handshake) if handshake.is_code_used_up() => Err(code::unanswered()),
            _ => Ok(()),
        }
    }

    fn publish(&mut self, topics: &Topics, frame: Vec<u8>, qos: Qos) -> Result<()> {
        let topic = self.ends.route.publish(topics);
        // A frame that finds no room is lost like one that the network loses: it is repeated.
        if self.client.has_room(topic.len() + frame.len()) {
            self.client.publish(topic, frame.into(), qos, false)?;
        }
        Ok(())
    }

    /// Tells what nobody vouches for, each thing once a minute.
    fn tell(&mut self, hint: &Claim, now: Instant) {
        if !self.hints.is_due(hint, now) {
            return;
        }
        self.report.warn(&hints::words(hint, &self.ends.public.fingerprint()));
    }

    fn timed_out(&self) -> Error {
        let error = Error::new(Exit::TryAgain, "timed out");
        match &self.machine {
            Machine::Waiting(_) => {
                error.because(format!("the broker at {} did not let us in", self.config.mqtt.endpoint))
            }
            Machine::Running(handshake) if handshake.pending().next().is_some() => error
                .because("the peer's last word is missing; the new session is kept for it")
                .hint("nothing to do if the peer says that it is paired: its first message makes the session current"),
            Machine::Running(_) if self.enrolling => error
                .because(format!("nobody with the code answered on {}", self.config.subscribe))
                .hint("run sts-pair --code on both devices at the same time; one's pubtop is the other's subtop"),
            Machine::Running(_) => error
                .because(format!("no authentic answer on {}", self.config.subscribe))
                .hint("run sts-pair on both devices at the same time; one's pubtop is the other's subtop"),
        }
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        let machine = match &self.machine {
            Machine::Waiting(_) => None,
            Machine::Running(handshake) => handshake.deadline(),
        };
        let whom = if self.trouble.stands() || machine.is_none() { "broker" } else { "other device" };
        let has_spinner = self.service.is_none() && self.report.has_status();
        let turns = has_spinner.then(|| self.spinner.turn(now, whom, self.until, self.report));
        let asked = (!self.asked.is_empty() && self.client.has_room(RESERVED)).then_some(now);
        let asking = self.asking.as_ref().and_then(SessionCheck::deadline);
        let deadline = machine.into_iter().chain(self.until).chain(turns).chain(asked).chain(asking).min();
        let hangup = self.service.as_ref().map(|service| (service.as_fd(), PollFlags::IN));
        self.ready = event_loop::wait(&self.client, &self.signals, hangup, deadline, now)?;
        Ok(())
    }
}
