//! sts-pair: the handshake over the broker, from SUBSCRIBE to a session that both ends have stored.

mod age;
pub mod end;
mod hints;
mod keeping;
pub mod keys;
pub mod status;

use std::time::{Duration, Instant};

use bytes::BytesMut;
use rand::rngs::ThreadRng;
use rustix::event::PollFlags;

pub use self::age::Age;
use self::hints::Hints;
use crate::cache::{Cache, Stored};
use crate::cli::Reporter;
use crate::config::Config;
use crate::handshake::alive::{self, Asking};
use crate::handshake::{Established, Hint, Master, Move, Party, Refusal, Slave};
use crate::link::{Ends, Link, Tool, unix_time};
use crate::message::Type;
use crate::mqtt::{self, Event, Qos};
use crate::name::PeerName;
use crate::pipe::Signals;
use crate::role::Role;
use crate::session::{Session, Standing};
use crate::suite::Suite;
use crate::turn::{self, Trouble};
use crate::{Error, Exit, Rejected, Result};

/// The name that a device shows where it has none; it counts for nothing while keys are pinned by hand.
const NAME: &str = "sts";

/// Agrees a session with the link's peer and stores it; gives up after `timeout`, if there is one. One that is younger
/// than `if_older`, and that the peer still has, is kept instead (`sts-protocol(7)`, "Still there").
///
/// # Errors
/// [`Exit::TryAgain`] when time is up, or another sts-pair runs on the link; [`Exit::Protocol`] where the peer, proven to
/// be the peer, asks for another suite; [`Exit::NotTrusted`] where nobody is pinned; [`Exit::Unavailable`] where the broker
/// refuses us; [`Exit::Usage`] on a link without encryption.
pub fn run(link: &Link, timeout: Option<Duration>, if_older: Option<Age>, report: &Reporter) -> Result<()> {
    let mut rng = rand::rng();
    let ends = encrypted(link)?;
    let cache = link.create_sessions()?;
    let _lock = cache.lock_pairing()?;
    let _answers = cache.lock_answers()?;
    let asking = match if_older {
        Some(age) => keeping::question(age, &ends, &cache, report, &mut rng)?,
        None => None,
    };
    let start = Instant::now();
    let party = Party {
        identity: ends.identity.clone(),
        name: NAME.parse().expect("the name is a name"),
        topics: ends.topics.clone(),
        suite: ends.suite,
        peers: ends.peers()?,
    };
    let signals = Signals::catch()?;
    let mut client = link.connect(Tool::Pair, &mut rng)?;
    client.subscribe(link.config.subscribe.as_str(), Qos::AtLeastOnce, start)?;
    let run = Run {
        config: &link.config,
        report,
        ends,
        cache,
        signals,
        client,
        ready: PollFlags::empty(),
        rng,
        trouble: Trouble::default(),
        hints: Hints::default(),
        until: timeout.map(|timeout| start + timeout),
        machine: Machine::Waiting(Some(party)),
        paired: None,
        if_older,
        asking,
        kept: false,
    };
    run.finish()
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
    hints: Hints,
    until: Option<Instant>,
    machine: Machine,
    /// With whom a session is stored that both ends may use.
    paired: Option<Established>,
    if_older: Option<Age>,
    /// While it is not clear yet whether the peer still has a session that is young enough.
    asking: Option<Asking>,
    /// The peer has it.
    kept: bool,
}

impl Run<'_> {
    fn finish(mut self) -> Result<()> {
        let outcome = self.pair();
        // Whatever came of it, the last frame is for the peer: let the broker have it.
        turn::leave(&mut self.client, &mut self.signals)?;
        outcome?;
        if let Some(Established { peer, .. }) = &self.paired {
            self.report.info(format_args!("paired with {} ({})", peer.name, peer.key.fingerprint()));
        }
        Ok(())
    }

    fn pair(&mut self) -> Result<()> {
        loop {
            let now = Instant::now();
            self.client.drive(now, self.ready);
            while let Some(event) = self.client.next_event() {
                self.take_event(event, now)?;
            }
            self.send_due(now)?;
            if self.is_finished() {
                return Ok(());
            }
            if self.signals.count() > 0 {
                if self.paired.is_some() {
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
            Machine::Master(master) => master.is_finished() && self.client.unacknowledged().messages == 0,
            Machine::Slave(_) => self.paired.is_some(),
        }
    }

    fn take_event(&mut self, event: Event, now: Instant) -> Result<()> {
        match event {
            Event::Subscribed { .. } => {
                self.report.verbose(format_args!("listening on {}", self.config.subscribe));
                if let Some(asking) = &mut self.asking {
                    asking.begin(now);
                }
                self.begin(now);
            }
            Event::Message(message) => {
                let outcome = self.take(&message.payload, now);
                self.client.ack(message.receipt);
                outcome?;
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

    /// Begins the handshake. A slave does so while it still asks, and answers a master that wants a new session; a master
    /// that asks has nothing to say in it.
    fn begin(&mut self, now: Instant) {
        let asks = self.asking.is_some() && self.ends.role == Role::Master;
        if let Machine::Waiting(party) = &mut self.machine
            && !asks
            && let Some(party) = party.take()
        {
            self.machine = match self.ends.role {
                Role::Master => Machine::Master(Master::new(party, now, &mut self.rng).into()),
                Role::Slave => Machine::Slave(Slave::new(party, now, &mut self.rng).into()),
            };
        }
    }

    fn take(&mut self, payload: &[u8], now: Instant) -> Result<()> {
        if alive::is_about(payload) {
            return self.take_presence(payload, now);
        }
        let kind = Type::of(payload);
        if kind == Ok(Type::AuthReq) && self.ends.refresh()? {
            let peers = self.ends.peers().unwrap_or_default();
            match &mut self.machine {
                Machine::Master(master) => master.party_mut().peers = peers,
                Machine::Slave(slave) => slave.party_mut().peers = peers,
                Machine::Waiting(_) => {}
            }
        }
        if matches!(kind, Ok(Type::Enc | Type::Kill)) {
            return self.take_proof(payload);
        }
        let outcome = match &mut self.machine {
            Machine::Waiting(_) => Err(Rejected::Unexpected),
            Machine::Master(master) => master.accept(payload, now, &mut self.rng),
            Machine::Slave(slave) => slave.accept(payload, now, &mut self.rng),
        };
        match outcome {
            Ok(step) => {
                // A master that this slave trusts is here to pair: no answer that is still on its way changes that.
                if kind == Ok(Type::AuthReq) && matches!(step, Move::Send(_)) {
                    self.asking = None;
                }
                self.act(step, now)
            }
            Err(rejected) => {
                self.report.verbose(format_args!("dropped {}: {rejected}", kind.map_or("a message", Type::name)));
                Ok(())
            }
        }
    }

    /// The master's first sealed message proves that it has the session, where its RDYACK was lost. It is opened for the
    /// proof only: sts-recv receives it.
    fn take_proof(&mut self, payload: &[u8]) -> Result<()> {
        let Machine::Slave(slave) = &mut self.machine else { return Ok(()) };
        let opens = |established: &&Established| {
            let session = stored(&self.ends, established);
            session.opener().open(payload, &mut BytesMut::new()).is_ok()
        };
        let Some(id) = slave.pending().find(opens).map(|established| established.keys.id) else { return Ok(()) };
        if let Some(established) = slave.proved(&id) {
            self.promote(established)?;
        }
        Ok(())
    }

    /// Stores first, then sends: a peer that hears of a session can rely on it.
    fn act(&mut self, step: Move, now: Instant) -> Result<()> {
        match step {
            Move::Finished => self.paired.as_ref().map_or(Ok(()), |Established { keys, peer, .. }| {
                self.cache.prove(peer.key.fingerprint().as_bytes(), &keys.id).map(drop)
            }),
            Move::Send(frame) => self.publish(frame, Qos::AtMostOnce),
            Move::Store(established, frame) => {
                let session = stored(&self.ends, &established);
                match self.ends.role {
                    Role::Slave => {
                        self.cache.store_pending(&session, session.created)?;
                        self.publish(frame, Qos::AtMostOnce)
                    }
                    Role::Master => {
                        self.cache.store_current(&session, session.created)?;
                        self.paired = Some(*established);
                        // The broker keeps it for a slave that is off the line for a moment.
                        self.publish(frame, Qos::AtLeastOnce)
                    }
                }
            }
            Move::Promote(established, frame) => {
                self.promote(*established)?;
                self.publish(frame, Qos::AtMostOnce)
            }
            Move::SuiteDiffers { peer, theirs, frame } => {
                if let Some(frame) = frame {
                    self.publish(frame, Qos::AtMostOnce)?;
                }
                Err(suite_differs(&peer, theirs, self.ends.suite))
            }
            Move::Hint(hint, frame) => {
                self.tell(&hint, now);
                frame.map_or(Ok(()), |frame| self.publish(frame, Qos::AtMostOnce))
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
        self.paired = Some(established);
        Ok(())
    }

    fn send_due(&mut self, now: Instant) -> Result<()> {
        self.ask(now)?;
        loop {
            let due = match &mut self.machine {
                Machine::Waiting(_) => None,
                Machine::Master(master) => master.poll(now, &mut self.rng),
                Machine::Slave(slave) => slave.poll(now, &mut self.rng),
            };
            let Some(frame) = due else { return Ok(()) };
            self.publish(frame, Qos::AtMostOnce)?;
        }
    }

    fn publish(&mut self, frame: Vec<u8>, qos: Qos) -> Result<()> {
        let topic = self.config.publish.as_str();
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
        let asking = self.asking.as_ref().and_then(Asking::deadline);
        let deadline = machine.into_iter().chain(asking).chain(self.until).min();
        self.ready = turn::wait(&self.client, &self.signals, None, deadline, now)?;
        Ok(())
    }
}

/// The session as it is stored.
fn stored(ends: &Ends, established: &Established) -> Session {
    let fingerprints =
        crate::session::Ends { role: ends.role, own: ends.own(), peer: *established.peer.key.fingerprint().as_bytes() };
    Session::new(established.keys.clone(), fingerprints, ends.topics.clone(), established.suite, unix_time())
}

fn suite_differs(peer: &PeerName, theirs: u8, ours: Suite) -> Error {
    let theirs =
        Suite::from_code(theirs).map_or_else(|| format!("suite number {theirs}"), |suite| format!("`aes = {suite}`"));
    Error::new(Exit::Protocol, "the suites differ")
        .because(format!("{peer} has {theirs}, this device has `aes = {ours}`"))
        .hint("give both devices the same line in their configuration")
}
