//! The handshake of STS/2 as two machines without I/O, clock or randomness of their own (`sts-protocol(7)`, "Handshake").
//!
//! Frames, the time and a random number generator come in; frames to send, a deadline and a finished session come out.
//! Each machine answers `accept` with an [`Action`], or rejects the frame and is left exactly as it was: everything is
//! derived from borrowed state first and assigned last.
//!
//! ```text
//!      master                                        slave
//!   1  INITREQ  random, suite, X25519, ML-KEM  --->
//!                                              <---  INITACK  X25519, ML-KEM              2
//!   3  AUTHREQ  {name, key, signature}         --->
//!                                              <---  AUTHACK  {name, key, signature}      4
//!   5  RDYREQ   confirmation                   --->  stores the session as pending
//!      stores it as current                    <---  RDYACK   confirmation                6
//!   7  RDYACK   confirmation                   --->  makes it current
//!                                              <---  RDYACK   confirmation                8
//! ```
//!
//! While two devices enrol by code, 1 and 2 carry SPAKE2 shares, too, and only a device that has the code can open 3 and 4.
//!
//! [`Handshake`] is the one of the two machines that this device is, and all that its callers see of it.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod accepted_peers;
mod action;
mod code;
mod enrolment;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod master;
mod merkle;
mod party;
mod peer;
pub(crate) mod session_check;
mod slave;
#[cfg(test)]
mod tests;
mod verdict;

use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use crate::Rejected;
use crate::backoff::Backoff;
use crate::crypto::schedule::{AttemptId, Confirmation, Features, Topics, digest};
use crate::identity::Identity;
use crate::message::{FrameType, NONCE_LEN, Ready, SessionTag};
use crate::session::SessionId;

pub use accepted_peers::AcceptedPeers;
pub use code::{BadCode, Code};
pub use enrolment::Enrolment;
pub use peer::Peer;

pub(crate) use action::{Action, Claim, HandshakeFailure};
pub(crate) use enrolment::{EnrolmentConflict, MAX_CODE_ATTEMPTS};
pub(crate) use party::{Established, Party, Trust};
pub(crate) use verdict::AuthRefusal;

use self::master::Master;
use self::slave::Slave;

/// What this version can do beyond the protocol as it was first released: nothing yet.
const OWN_FEATURES: Features = [0; 4];

/// This device's side of the handshakes on a link.
#[derive(Debug)]
pub(crate) struct Handshake(Side);

/// What a frame is that costs a key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeyExchange {
    /// An INITREQ: each costs one.
    InitReq,
    /// An AUTHREQ with a good cookie: the first one that carries an INITREQ costs one.
    AuthReq,
}

#[derive(Debug)]
enum Side {
    Master(Box<Master>),
    Slave(Box<Slave>),
}

impl Handshake {
    /// A master, on these topics: it sends nothing and accepts nothing before [`Handshake::begin`].
    pub(crate) fn master(party: Party, topics: Topics, now: Instant) -> Self {
        Self(Side::Master(Box::new(Master::new(party, topics, now))))
    }

    /// A slave: it answers each master, on the topics that its frames come in on.
    pub(crate) fn slave(party: Party, now: Instant, rng: &mut impl CryptoRng) -> Self {
        Self(Side::Slave(Box::new(Slave::new(party, now, rng))))
    }

    /// A new session is wanted: a master sends INITREQ from now on. A slave answers its master in any case.
    pub(crate) fn begin(&mut self, now: Instant, rng: &mut impl CryptoRng) {
        match &mut self.0 {
            Side::Master(master) => master.begin(now, rng),
            Side::Slave(_) => {}
        }
    }

    /// No new session is wanted any more: a master sends nothing until [`Handshake::begin`].
    pub(crate) fn cease(&mut self) {
        match &mut self.0 {
            Side::Master(master) => master.cease(),
            Side::Slave(_) => {}
        }
    }

    /// Replaces this end of the link; attempts go on with those peers that it still accepts.
    pub(crate) fn set_party(&mut self, party: Party) {
        match &mut self.0 {
            Side::Master(master) => *master.party_mut() = party,
            Side::Slave(slave) => slave.set_party(party),
        }
    }

    /// Replaces the pinned peers; no attempt goes on with another one. While enrolling there are none, and this does nothing.
    pub(crate) fn set_peers(&mut self, peers: AcceptedPeers) {
        match &mut self.0 {
            Side::Master(master) => master.party_mut().set_peers(peers),
            Side::Slave(slave) => slave.set_peers(peers),
        }
    }

    /// Which key exchange answering this frame would cost, before anything is known of its sender; `None` if it costs none.
    /// Such frames can wait, so that a flood of them does not hold up the others.
    ///
    /// # Errors
    /// The reason why the frame is rejected, if that can be told without a key exchange.
    pub(crate) fn key_exchange(&mut self, topics: &Topics, frame: &[u8]) -> Result<Option<KeyExchange>, Rejected> {
        match &mut self.0 {
            Side::Master(_) => Ok(None),
            Side::Slave(slave) => slave.key_exchange(topics, frame),
        }
    }

    /// Whether [`Handshake::poll`] would sign now. What is accepted before is covered by the same signature.
    pub(crate) fn has_unsigned_answers(&self) -> bool {
        match &self.0 {
            Side::Master(_) => false,
            Side::Slave(slave) => slave.has_unsigned_answers(),
        }
    }

    /// Takes one frame from the peer's topic. `topics` are that one and the one to answer on; an attempt's frames all belong
    /// to the same two.
    ///
    /// # Errors
    /// The reason why the frame was rejected; the handshake has not changed then.
    pub(crate) fn accept(
        &mut self,
        topics: &Topics,
        frame: &[u8],
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Action, Rejected> {
        match &mut self.0 {
            Side::Master(master) => master.accept(frame, now, rng),
            Side::Slave(slave) => slave.accept(topics, frame, now, rng),
        }
    }

    /// What is due at `now`, if anything is, and the topics of its handshake; call again until there is nothing.
    pub(crate) fn poll(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<(Topics, Action)> {
        match &mut self.0 {
            Side::Master(master) => master.poll(now, rng).map(|frame| (master.topics().clone(), Action::Send(frame))),
            Side::Slave(slave) => slave.poll(now, rng),
        }
    }

    /// When [`Handshake::poll`] has something to do, if nothing arrives before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.0 {
            Side::Master(master) => master.deadline(),
            Side::Slave(slave) => slave.deadline(),
        }
    }

    /// Whether a master has nothing left to do: the session is stored on both ends, as far as it can know. A slave is ready
    /// for the next master at any time.
    pub(crate) fn is_finished(&self) -> bool {
        match &self.0 {
            Side::Master(master) => master.is_finished(),
            Side::Slave(_) => false,
        }
    }

    /// Whether a master's code was of no use: in each attempt an INITACK was answered whose sender did not continue. A slave
    /// learns of that attempt by attempt ([`Action::WrongCode`]).
    pub(crate) fn is_code_used_up(&self) -> bool {
        match &self.0 {
            Side::Master(master) => master.is_code_used_up(),
            Side::Slave(_) => false,
        }
    }

    /// The sessions that are stored as pending and wait for their master's proof; a master has none.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Established> {
        self.as_slave().into_iter().flat_map(Slave::pending)
    }

    /// Those of them to which a sealed message with this tag may belong.
    pub(crate) fn pending_with(&self, tag: SessionTag) -> impl Iterator<Item = &Established> {
        self.as_slave().into_iter().flat_map(move |slave| slave.pending_with(tag))
    }

    /// Notes that the master of a pending session proved to have it in another way than by step 7: by a message under its
    /// key. Returns the session if it was pending.
    pub(crate) fn mark_proved(&mut self, session: SessionId) -> Option<Established> {
        match &mut self.0 {
            Side::Master(_) => None,
            Side::Slave(slave) => slave.mark_proved(session),
        }
    }

    /// How many attempts a slave keeps.
    #[cfg(test)]
    pub(crate) fn kept_attempts(&self) -> usize {
        self.as_slave().map_or(0, Slave::kept_attempts)
    }

    fn as_slave(&self) -> Option<&Slave> {
        match &self.0 {
            Side::Master(_) => None,
            Side::Slave(slave) => Some(slave),
        }
    }
}

/// When to send a frame again: after 1 s, then doubling to 8 s, each wait shortened at random by up to a fifth. Before that,
/// the first message of all is sent for two seconds at a steady pace: most likely nobody was there yet, or a flood left it
/// no more than a chance.
#[derive(Clone, Debug)]
struct Repeat {
    due: Instant,
    /// How often it is sent before its waits double.
    early: u32,
    backoff: Backoff,
}

impl Repeat {
    const MIN_REPEAT_DELAY: Duration = Duration::from_secs(1);
    const EARLY_REPEAT_DELAY: Duration = Duration::from_millis(125);
    const MAX_EARLY: u32 = 16;
    const MAX_REPEAT_DELAY: Duration = Duration::from_secs(8);

    /// The first message of all, due at once: a peer that was started at the same moment may not be listening yet.
    fn now(now: Instant) -> Self {
        let backoff = Backoff::new(Self::MIN_REPEAT_DELAY, Self::MAX_REPEAT_DELAY);
        Self { due: now, early: Self::MAX_EARLY, backoff }
    }

    /// Sent at `now` already; due again after the first wait.
    fn after(now: Instant, rng: &mut impl CryptoRng) -> Self {
        let mut repeat = Self { early: 0, ..Self::now(now) };
        repeat.is_due(now, rng);
        repeat
    }

    /// Whether to send now; if so, sets the next time.
    fn is_due(&mut self, now: Instant, rng: &mut impl CryptoRng) -> bool {
        let due = now >= self.due;
        if due {
            let delay = if self.early > 0 { Self::EARLY_REPEAT_DELAY } else { self.backoff.next() };
            self.early = self.early.saturating_sub(1);
            self.due = now + delay.mul_f64(rng.random_range(0.8..=1.0));
        }
        due
    }
}

/// How an INITACK refers to its INITREQ: by the beginning of its digest.
fn init_req_reference(init_req: &[u8]) -> [u8; NONCE_LEN] {
    *digest(&[init_req]).first_chunk().expect("a digest is longer than that")
}

/// The frame of one of the steps 5 to 8.
fn confirm(frame_type: FrameType, attempt: &AttemptId, step: Confirmation, session: &Established) -> Vec<u8> {
    Ready::frame(frame_type, attempt, &step.mac(&session.keys))
}

/// Signs a transcript. A signature that does not verify under its own key, a fault of the hardware, is never sent: the
/// frame stays unanswered, and the next repeat tries again.
fn sign(identity: &Identity, transcript: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, Rejected> {
    identity.sign(transcript, rng).map_err(|_| Rejected::Unexpected)
}
