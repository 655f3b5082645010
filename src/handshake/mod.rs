//! The handshake of STS/2 as two machines without I/O, clock or randomness of their own (`sts-protocol(7)`, "Handshake").
//!
//! Frames, the time and a random number generator come in; frames to send, a deadline and a finished session come out.
//! Each machine answers `accept` with a [`Action`], or rejects the frame and is left exactly as it was: everything is
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
//! While two devices enrol by code, 1 and 2 carry SPAKE2 shares, too, and 3 and 4 open only for who has the code.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

mod batch;
mod code;
mod enrolment;
mod master;
pub mod session_check;
mod slave;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use crate::Rejected;
use crate::backoff::Backoff;
use crate::crypto::schedule::{AttemptId, Confirmation, SessionKeys, Topics, digest};
use crate::identity::{Fingerprint, Identity, PeerName, PublicKey};
use crate::message::{NONCE_LEN, Ready, Type};
use crate::suite::Suite;

pub use code::{BadCode, Code};
pub use enrolment::{ATTEMPTS, Enrolment, EnrolmentConflict};
pub use master::Master;
pub use slave::Slave;

/// A peer that this link accepts: a pinned key, under the name it was pinned with here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name on this device.
    pub name: PeerName,
    /// Its identity key.
    pub key: PublicKey,
}

/// One end of a link: who it is, whom it accepts, and what both ends must agree on.
#[derive(Debug)]
pub struct Party {
    /// This device's identity key.
    pub identity: Arc<Identity>,
    /// The name that this device shows; it counts only while enrolling.
    pub name: PeerName,
    /// The suite that this end's configuration asks for.
    pub suite: Suite,
    /// Whom it accepts.
    pub peers: Vec<Peer>,
    /// The code that it was given, if it was: then whoever has it is accepted, and nobody else.
    pub enrolment: Option<Enrolment>,
}

impl Party {
    /// The pinned peer with exactly these key bytes.
    fn peer(&self, key: &[u8]) -> Option<&Peer> {
        self.peers.iter().find(|peer| peer.key.der() == key)
    }
}

/// A session that both ends have authenticated, and with whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Established {
    /// Its secrets.
    pub keys: SessionKeys,
    /// Its suite.
    pub suite: Suite,
    /// The peer, as pinned here.
    pub peer: Peer,
    /// The topics that it is bound to.
    pub topics: Topics,
}

/// What an accepted frame asks the caller to do, in this order: store, then send.
#[derive(Debug)]
pub enum Action {
    /// Send this frame.
    Send(Vec<u8>),
    /// Send nothing yet: what answers the frame is due later.
    Later,
    /// Slave, step 5: store the session as pending and send step 6. Master, step 6: store it as current and send step 7.
    Store(Box<Established>, Vec<u8>),
    /// Slave, step 7: make the session current and send step 8. That is the end of the handshake.
    Promote(Box<Established>, Vec<u8>),
    /// Master, step 8: the slave knows that the session is current; nothing is left to wait for.
    Finished,
    /// The peer is authentic and its configuration is not ours; send the frame if there is one, then give up.
    SuiteDiffers {
        /// The peer, as pinned here.
        peer: PeerName,
        /// The number of the suite that it asks for.
        theirs: u8,
        /// The slave's signed verdict.
        frame: Option<Vec<u8>>,
    },
    /// Slave: an attempt was counted against the code. Master: who answered says that the code is another one. Send the
    /// frame if there is one; where the code is erased, give up.
    WrongCode {
        /// Whether no attempt is left on the slave.
        erased: bool,
        /// The slave's refusal.
        frame: Option<Vec<u8>>,
    },
    /// The peer has the code, and it cannot be pinned; send the frame if there is one, then give up.
    EnrolmentConflict {
        /// The peer, as it calls itself.
        peer: Peer,
        /// Why; `None` where it is the peer that cannot pin this end.
        why: Option<EnrolmentConflict>,
        /// The slave's signed verdict.
        frame: Option<Vec<u8>>,
    },
    /// Something a person should know that no signature vouches for; send the frame if there is one.
    Claim(Claim, Option<Vec<u8>>),
}

/// News that anybody on the topic could have made up: worth a line, never worth changing anything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Claim {
    /// Somebody whose key is not pinned here asks to pair, or answers.
    UnknownKey(Fingerprint),
    /// Somebody who answers says that it does not know this device's key.
    Refused(AuthRefusal),
    /// Another master sends on the topic that this one listens on.
    OtherMaster,
    /// A master enrols by code, and this slave was given none.
    CodeThere,
    /// A master pairs without a code, and this slave was given one.
    CodeHere,
}

/// Why a slave refuses an AUTHREQ; a number on the wire, never text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AuthRefusal {
    /// The master's key is not pinned, or not allowed on this link.
    UnknownKey,
    /// AUTHREQ did not open: the two sides were given different codes.
    WrongCode,
    /// As [`AuthRefusal::WrongCode`], and no attempt is left.
    CodeErased,
    /// A number that this version does not know.
    Other(u8),
}

impl AuthRefusal {
    const UNKNOWN_KEY: u8 = 1;
    const WRONG_CODE: u8 = 2;
    const CODE_ERASED: u8 = 3;

    fn from_code(code: u8) -> Self {
        match code {
            Self::UNKNOWN_KEY => Self::UnknownKey,
            Self::WRONG_CODE => Self::WrongCode,
            Self::CODE_ERASED => Self::CodeErased,
            other => Self::Other(other),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::UnknownKey => Self::UNKNOWN_KEY,
            Self::WrongCode => Self::WRONG_CODE,
            Self::CodeErased => Self::CODE_ERASED,
            Self::Other(code) => code,
        }
    }
}

/// The slave's verdict on an authentic AUTHREQ, inside what it seals and signs.
const VERDICT_AGREED: u8 = 0;
const VERDICT_SUITE_DIFFERS: u8 = 1;
const VERDICT_UNFIT: u8 = 2;

/// When to send a frame again: after 1 s, or sooner where most likely nobody was there yet, then doubling to 8 s, each wait
/// shortened at random by up to a fifth.
#[derive(Clone, Debug)]
struct Repeat {
    due: Instant,
    backoff: Backoff,
}

impl Repeat {
    const FIRST: Duration = Duration::from_secs(1);
    const SOON: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(8);

    /// The first message of all, due at once: a peer that was started at the same moment may not be listening yet.
    fn now(now: Instant) -> Self {
        Self { due: now, backoff: Backoff::new(Self::SOON, Self::LONGEST) }
    }

    /// Sent at `now` already; due again after the first wait.
    fn after(now: Instant, rng: &mut impl CryptoRng) -> Self {
        let mut repeat = Self { due: now, backoff: Backoff::new(Self::FIRST, Self::LONGEST) };
        repeat.is_due(now, rng);
        repeat
    }

    /// Whether to send now; if so, sets the next time.
    fn is_due(&mut self, now: Instant, rng: &mut impl CryptoRng) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now + self.backoff.next().mul_f64(rng.random_range(0.8..=1.0));
        }
        due
    }
}

/// What INITACK refers to its INITREQ by: the beginning of its digest.
fn init_req_reference(init_req: &[u8]) -> [u8; NONCE_LEN] {
    *digest(&[init_req]).first_chunk().expect("a digest is longer than that")
}

/// The frame of one of the steps 5 to 8.
fn confirm(kind: Type, attempt: &AttemptId, step: Confirmation, session: &Established) -> Vec<u8> {
    Ready::frame(kind, attempt, &step.mac(&session.keys))
}

/// Signs a transcript. A signature that does not verify under its own key, a fault of the hardware, is never sent: the
/// frame stays unanswered, and the next repeat tries again.
fn sign(identity: &Identity, transcript: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, Rejected> {
    identity.sign(transcript, rng).map_err(|_| Rejected::Unexpected)
}
