//! sts-pair: the handshake over the broker, from SUBSCRIBE to a session that both ends have stored.

mod asked;
pub mod end;
mod hints;
pub mod keys;
pub mod serve;
pub mod status;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

use self::asked::Asked;
use self::hints::Hints;
use self::serve::Service;
use crate::cache::{Cache, Stored};
use crate::cli::Reporter;
use crate::config::Config;
use crate::crypto::schedule::Topics;
use crate::handshake::{Established, Hint, Master, Move, Party, Refusal, Slave};
use crate::link::{Ends, Link, Tool, unix_time};
use crate::message::{Header, Type};
use crate::mqtt::{self, Event, Qos};
use crate::name::PeerName;
use crate::pipe::Signals;
use crate::role::Role;
use crate::session::{self, Session, Standing};
use crate::suite::Suite;
use crate::text::escape;
use crate::turn::{self, Trouble};
use crate::{Error, Exit, Rejected, Result};

/// The name that a device shows where it has none; it counts for nothing while keys are pinned by hand.
const NAME: &str = "sts";

/// How long INITREQs are answered before anything else is looked at again.
const ANSWERING: Duration = Duration::from_millis(20);
/// Room that answers to them leave, in bytes, for frames of attempts.
const RESERVED: usize = 1 << 19;

/// Agrees a session with the link's peer and stores it; gives up after `timeout`, if there is one.
///
/// # Errors
/// [`Exit::TryAgain`] when time is up, or another sts-pair runs on the link; [`Exit::Protocol`] where the peer, proven to
/// be the peer, asks for another suite; [`Exit::NotTrusted`] where nobody is pinned; [`Exit::Unavailable`] where the broker
/// refuses us; [`Exit::Usage`] on a link without encryption.
pub fn run(link: &Link, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let ends = encrypted(link)?;
    let cache = link.create_sessions()?;
    let _lock = cache.lock_pairing()?;
    let party = party(&ends)?;
    let mut run = Run::begin(link, report, ends, cache, Signals::catch()?, Machine::Waiting(Some(party)))?;
    run.until = timeout.map(|timeout| Instant::now() + timeout);
    run.finish()
}

/// This end of the link.
fn party(ends: &Ends) -> Result<Party> {
    Ok(Party {
        identity: ends.identity.clone(),
        name: NAME.parse().expect("the name is a name"),
        suite: ends.suite,
        peers: ends.peers()?.to_vec(),
    })
}

/// The ends of the link, which must have some.
///
/// # Errors
/// [`Exit::Usage`] on a link without encryption; otherwise as [`Link::ends`].
pub fn encrypted(link: &Link) -> Result<Ends> {
    link.ends()?.ok_or_else(|| {
        Error::new(Exit::Usage, "nothing to pair")
            .because("the link is not encrypted (sts_mode = nosec)")
            .hint("set sts_mode to master on one device and to slave on the other")
    })
}

/// The handshake's state: it begins once the broker passes the peer's messages on.
enum Machine {
    Waiting(Option<Party>),
    Master(Box<Master>),
    Slave(Box<Slave>),
}

struct Run<'a> {
    config: &'a Config,
    report: &'a Reporter,
    ends: Ends,
    cache: Cache,
    signals: Signals,
    client: mqtt::Client,
    /// What poll(2) said of the broker's socket.
    ready: PollFlags,
    rng: ThreadRng,
    trouble: Trouble,
    hints: Hints<Hint>,
    asked: Asked,
    until: Option<Instant>,
    /// `--serve`, and what goes with it.
    service: Option<Service>,
    machine: Machine,
    /// With whom a session is stored that both ends may use.
    paired: Option<Established>,
}

impl<'a> Run<'a> {
    /// Connects, without a time at which it is up.
    fn begin(
        link: &'a Link,
        report: &'a Reporter,
        ends: Ends,
        cache: Cache,
        signals: Signals,
        machine: Machine,
    ) -> Result<Self> {
        let mut rng = rand::rng();
        let mut client = link.connect(Tool::Pair, &mut rng)?;
        // Not as one of a group that shares a subscription: each frame of a handshake is for whoever pairs.
        client.subscribe(ends.route.filter(), Qos::AtLeastOnce, Instant::now())?;
        Ok(Self {
            config: &link.config,
            report,
            ends,
            cache,
            signals,
            client,
            ready: PollFlags::empty(),
            rng,
            trouble: Trouble::default(),
            hints: Hints::new(),
            asked: Asked::default(),
            until: None,
            service: None,
            machine,
            paired: None,
        })
    }
}

impl Run<'_> {
    fn finish(mut self) -> Result<()> {
        let outcome = self.pair();
        // Whatever came of it, the last frame is for the peer: let the broker have it.
        turn::leave(&mut self.client, &mut self.signals)?;
        outcome?;
        if let Some(established) = &self.paired {
            self.tell_paired(established);
        }
        Ok(())
    }

    fn pair(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            self.take_events(now)?;
            self.answer_asked()?;
            self.send_due(now)?;
            if self.is_finished() {
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
                return if self.paired.is_some() { Ok(()) } else { Err(self.timed_out()) };
            }
            self.client.drive(now, PollFlags::empty());
            if self.client.has_event() {
                self.ready = PollFlags::empty();
                continue;
            }
            self.wait(now)?;
        }
    }

    /// Takes what came. While INITREQs wait for their answer it goes on reading for as long as it then answers: what waits in
    /// the socket, or in the broker until that drops it, may be a frame of an attempt.
    fn take_events(&mut self, begun: Instant) -> Result<()> {
        let mut now = begun;
        loop {
            self.client.drive(now, self.ready);
            while let Some(event) = self.client.next_event() {
                now = Instant::now();
                self.take_event(event, now)?;
                // Each answer goes out before the next signature is made: hundreds may wait.
                self.client.drive(now, PollFlags::empty());
            }
            self.ready = PollFlags::empty();
            if self.asked.is_empty() || now >= begun + ANSWERING {
                return Ok(());
            }
            self.ready = turn::wait(&self.client, &self.signals, None, Some(now), now)?;
            if !self.ready.contains(PollFlags::IN) {
                return Ok(());
            }
        }
    }

    fn is_finished(&self) -> bool {
        match &self.machine {
            Machine::Waiting(_) => false,
            Machine::Master(master) => master.is_finished() && self.client.unacknowledged().messages == 0,
            Machine::Slave(_) => self.service.is_none() && self.paired.is_some(),
        }
    }

    fn take_event(&mut self, event: Event, now: Instant) -> Result<()> {
        match event {
            Event::Subscribed { .. } => {
                self.report.verbose(format_args!("listening on {}", self.config.subscribe));
                if let Machine::Waiting(party) = &mut self.machine
                    && let Some(party) = party.take()
                {
                    self.machine = match (self.ends.role, self.ends.route.topics(self.ends.route.filter())) {
                        (Role::Master, Some(topics)) => {
                            Machine::Master(Master::new(party, topics, now, &mut self.rng).into())
                        }
                        _ => Machine::Slave(Slave::new(party, now, &mut self.rng).into()),
                    };
                }
            }
            Event::Message(message) => {
                let outcome = self.take(&message.topic, &message.payload, now);
                self.client.ack(message.receipt);
                match (&mut self.service, outcome) {
                    (Some(service), Err(error)) => service.complain(&error, self.report, now),
                    (_, outcome) => outcome?,
                }
            }
            Event::Oversize { receipt, .. } => self.client.ack(receipt),
            Event::Up { .. } => self.trouble.up(self.report),
            Event::Down { why, .. } => self.trouble.down(&why, self.report),
            Event::Refused(error) => return Err(error),
            Event::Contested { times } => Trouble::contested(times, self.report),
            Event::Acked(_) | Event::Closed => {}
        }
        Ok(())
    }

    fn take(&mut self, topic: &str, payload: &[u8], now: Instant) -> Result<()> {
        let kind = Type::of(payload);
        let Some(topics) = self.ends.route.topics(topic) else {
            self.report.verbose(format_args!("dropped a message on a topic of another link: {}", escape(topic)));
            return Ok(());
        };
        // Before a session is agreed, and before it is stored: whoever was forgotten meanwhile gets none.
        if matches!(kind, Ok(Type::AuthReq | Type::RdyReq)) && self.has_new_peers(now)? {
            let peers = self.ends.peers_left().to_vec();
            match &mut self.machine {
                Machine::Master(master) => master.party_mut().peers = peers,
                Machine::Slave(slave) => {
                    slave.party_mut().peers = peers;
                    slave.forget_others();
                }
                Machine::Waiting(_) => {}
            }
        }
        match (kind, &self.machine) {
            (Ok(Type::Enc | Type::Kill), _) => self.take_proof(payload),
            (Ok(Type::InitReq), Machine::Slave(_)) => {
                self.asked.push(topics, payload, &mut self.rng);
                Ok(())
            }
            _ => self.accept(&topics, payload, now),
        }
    }

    /// Answers INITREQs for a while, as far as there is room for the answers.
    fn answer_asked(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < ANSWERING
            && self.client.room(RESERVED)
            && let Some((topics, frame)) = self.asked.pop(&mut self.rng)
        {
            self.accept(&topics, &frame, Instant::now())?;
        }
        Ok(())
    }

    fn accept(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        let outcome = match &mut self.machine {
            Machine::Waiting(_) => Err(Rejected::Unexpected),
            Machine::Master(master) => master.accept(payload, now, &mut self.rng),
            Machine::Slave(slave) => slave.accept(topics, payload, now, &mut self.rng),
        };
        match outcome {
            Ok(step) => self.act(step, topics, now),
            Err(rejected) => {
                let what = Type::of(payload).map_or("a message", Type::name);
                self.report.verbose(format_args!("dropped {what}: {rejected}"));
                Ok(())
            }
        }
    }

    /// Whether `known_peers` was changed; one that cannot be read leaves a service with those it had.
    fn has_new_peers(&mut self, now: Instant) -> Result<bool> {
        match (self.ends.refresh(), &mut self.service) {
            (Err(error), Some(service)) => {
                service.complain(&error, self.report, now);
                Ok(false)
            }
            (outcome, _) => outcome,
        }
    }

    /// The master's first sealed message proves that it has the session, where its RDYACK was lost. It is opened for the
    /// proof only: sts-recv receives it.
    fn take_proof(&mut self, payload: &[u8]) -> Result<()> {
        let Machine::Slave(slave) = &mut self.machine else { return Ok(()) };
        let Ok(header) = Header::parse(payload) else { return Ok(()) };
        let opens = |established: &&Established| {
            session::tag(&established.keys.id) == header.tag
                && stored(&self.ends, established).opener().open(payload, &mut BytesMut::new()).is_ok()
        };
        let Some(id) = slave.pending().find(opens).map(|established| established.keys.id) else { return Ok(()) };
        if let Some(established) = slave.proved(&id) {
            self.promote(established)?;
        }
        Ok(())
    }

    /// Stores first, then sends: a peer that hears of a session can rely on it.
    fn act(&mut self, step: Move, topics: &Topics, now: Instant) -> Result<()> {
        match step {
            Move::Finished => self.paired.as_ref().map_or(Ok(()), |Established { keys, peer, .. }| {
                self.cache.prove(peer.key.fingerprint().as_bytes(), &keys.id).map(drop)
            }),
            Move::Send(frame) => self.publish(topics, frame, Qos::AtMostOnce),
            Move::Later => Ok(()),
            Move::Store(established, frame) => {
                let session = stored(&self.ends, &established);
                match self.ends.role {
                    Role::Slave => {
                        self.cache.store_pending(&session, session.created)?;
                        self.publish(topics, frame, Qos::AtMostOnce)
                    }
                    Role::Master => {
                        self.cache.store_current(&session, session.created)?;
                        self.paired = Some(*established);
                        // The broker keeps it for a slave that is off the line for a moment.
                        self.publish(topics, frame, Qos::AtLeastOnce)
                    }
                }
            }
            Move::Promote(established, frame) => {
                self.promote(*established)?;
                self.publish(topics, frame, Qos::AtMostOnce)
            }
            Move::SuiteDiffers { peer, theirs, frame } => {
                if let Some(frame) = frame {
                    self.publish(topics, frame, Qos::AtMostOnce)?;
                }
                Err(suite_differs(&peer, theirs, self.ends.suite))
            }
            Move::Hint(hint, frame) => {
                self.tell(&hint, now);
                frame.map_or(Ok(()), |frame| self.publish(topics, frame, Qos::AtMostOnce))
            }
        }
    }

    fn promote(&mut self, established: Established) -> Result<()> {
        let session = stored(&self.ends, &established);
        let in_use = |stored: &Stored| stored.session.id == session.id && stored.standing != Standing::Pending;
        // Where it is not pending any more, sts-recv was faster; or somebody deleted it.
        if !self.cache.promote(&session.peer, &session.id, unix_time())?
            && !self.cache.load_peer(&session.peer)?.iter().any(in_use)
        {
            return Err(Error::new(Exit::TryAgain, "the new session is gone")
                .because("it was deleted while the pairing ran")
                .hint("run sts-pair on both devices again"));
        }
        if self.service.is_some() {
            self.tell_paired(&established);
        }
        self.paired = Some(established);
        Ok(())
    }

    fn tell_paired(&self, Established { peer, .. }: &Established) {
        self.report.info(format_args!("paired with {} ({})", peer.name, peer.key.fingerprint()));
    }

    fn send_due(&mut self, now: Instant) -> Result<()> {
        loop {
            let due = match &mut self.machine {
                Machine::Waiting(_) => None,
                Machine::Master(master) => {
                    let topics = master.topics().clone();
                    master.poll(now, &mut self.rng).map(|frame| (topics, frame))
                }
                Machine::Slave(slave) => slave.poll(now, &mut self.rng),
            };
            let Some((topics, frame)) = due else { return Ok(()) };
            self.publish(&topics, frame, Qos::AtMostOnce)?;
        }
    }

    fn publish(&mut self, topics: &Topics, frame: Vec<u8>, qos: Qos) -> Result<()> {
        let topic = self.ends.route.publish(topics);
        // A frame that finds no room is lost like one that the network loses: it is repeated.
        if self.client.room(topic.len() + frame.len()) {
            self.client.publish(topic, frame.into(), qos, false)?;
        }
        Ok(())
    }

    /// Tells what nobody vouches for, each thing once a minute.
    fn tell(&mut self, hint: &Hint, now: Instant) {
        if !self.hints.is_due(hint, now) {
            return;
        }
        let error = match hint {
            Hint::UnknownKey(fingerprint) => Error::new(Exit::NotTrusted, "unknown peer")
                .because(format!("a device with the key {fingerprint} wants to pair (unverified)"))
                .hint(
                    "if it is yours, compare that with what sts-pair --key prints there, and pipe its key line here into: sts-pair --trust NAME",
                ),
            Hint::Refused(Refusal::UnknownKey) => Error::new(Exit::NotTrusted, "refused (unverified)")
                .because("the other device does not know this device's key")
                .hint(format!(
                    "it is {}: pipe what sts-pair --key prints here into, on the other device: sts-pair --trust NAME",
                    self.ends.identity.public().fingerprint()
                )),
            Hint::Refused(Refusal::Other(number)) => Error::new(Exit::Protocol, "refused (unverified)")
                .because(format!("the other device gives reason {number}, which this version does not know")),
            Hint::OtherMaster => Error::new(Exit::Config, "another master is on this link (unverified)")
                .because("it sends the request that this device sends too")
                .hint("set sts_mode to slave on one of the two devices"),
        };
        self.report.warn(&error);
    }

    fn timed_out(&self) -> Error {
        let error = Error::new(Exit::TryAgain, "timed out");
        match &self.machine {
            Machine::Waiting(_) => {
                error.because(format!("the broker at {} did not let us in", self.config.mqtt.endpoint))
            }
            Machine::Slave(slave) if slave.pending().next().is_some() => error
                .because("the peer's last word is missing; the new session is kept for it")
                .hint("nothing to do if the peer says that it is paired: its first message makes the session current"),
            Machine::Master(_) | Machine::Slave(_) => error
                .because(format!("no authentic answer on {}", self.config.subscribe))
                .hint("run sts-pair on both devices at the same time; one's pubtop is the other's subtop"),
        }
    }

    fn wait(&mut self, now: Instant) -> Result<()> {
        let machine = match &self.machine {
            Machine::Waiting(_) => None,
            Machine::Master(master) => master.deadline(),
            Machine::Slave(slave) => slave.deadline(),
        };
        let asked = (!self.asked.is_empty() && self.client.room(RESERVED)).then_some(now);
        let deadline = machine.into_iter().chain(self.until).chain(asked).min();
        let hangup = self.service.as_ref().map(|service| (service.as_fd(), PollFlags::IN));
        self.ready = turn::wait(&self.client, &self.signals, hangup, deadline, now)?;
        Ok(())
    }
}

/// The session as it is stored.
fn stored(ends: &Ends, established: &Established) -> Session {
    let fingerprints =
        crate::session::Ends { role: ends.role, own: ends.own(), peer: *established.peer.key.fingerprint().as_bytes() };
    Session::new(established.keys.clone(), fingerprints, established.topics.clone(), established.suite, unix_time())
}

fn suite_differs(peer: &PeerName, theirs: u8, ours: Suite) -> Error {
    let theirs =
        Suite::from_code(theirs).map_or_else(|| format!("suite number {theirs}"), |suite| format!("`aes = {suite}`"));
    Error::new(Exit::Protocol, "the suites differ")
        .because(format!("{peer} has {theirs}, this device has `aes = {ours}`"))
        .hint("give both devices the same line in their configuration")
}
