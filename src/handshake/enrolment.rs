//! Enrolling by one-time code: how often a code may be tried, and whom it lets in (`sts-protocol(7)`, "Enrolment by code").

use rand::CryptoRng;

use super::{Code, Party, Peer};
use crate::Rejected;
use crate::crypto::pake::{Half, SHARE_LEN};
use crate::crypto::schedule::AttemptId;
use crate::identity::{Fingerprint, PeerName, PublicKey};
use crate::message::Credentials;
use crate::role::Role;
use crate::secret::{Key, Pake};

/// How many attempts a code is good for on each side. On the slave those count in which an AUTHREQ did not open, on the
/// master those in which an INITACK was answered: that many guesses has who does not know it.
pub const ATTEMPTS: usize = 3;

/// A code, what was tried with it, and whom it may let in.
#[derive(Debug)]
pub struct Enrolment {
    code: Option<Code>,
    allowed: usize,
    counted: Vec<AttemptId>,
    /// All that are pinned on this device, whatever their link.
    pub known: Vec<Peer>,
    /// The names that the link accepts; any where it gives none.
    pub wanted: Vec<PeerName>,
}

/// Why a device that has the code cannot be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolmentConflict {
    /// The key that it shows is this device's own.
    OwnKey,
    /// Its name is pinned here with another key.
    NameTaken(Fingerprint),
    /// Its key is pinned here under another name.
    KeyKnown(PeerName),
    /// The configuration names others as the peers of this link.
    NotWanted(PeerName),
}

impl Enrolment {
    /// Begins with a code that is good for so many attempts: [`ATTEMPTS`], or what a code before it has left of them.
    #[must_use]
    pub fn new(code: Code, attempts: usize, known: Vec<Peer>, wanted: Vec<PeerName>) -> Self {
        Self { code: Some(code), allowed: attempts.min(ATTEMPTS), counted: Vec::new(), known, wanted }
    }

    /// Attempts that may still fail.
    #[must_use]
    pub fn attempts_left(&self) -> usize {
        if self.code.is_some() { self.allowed.saturating_sub(self.counted.len()) } else { 0 }
    }

    /// Whether the code can still be used.
    pub(super) fn is_alive(&self) -> bool {
        self.code.is_some()
    }

    /// Counts an attempt; false where it was counted before.
    pub(super) fn count(&mut self, attempt: AttemptId) -> bool {
        let fresh = !self.counted.contains(&attempt) && self.code.is_some();
        if fresh {
            self.counted.push(attempt);
        }
        fresh
    }

    /// Erases the code; false where it was gone before.
    pub(super) fn erase(&mut self) -> bool {
        self.code.take().is_some()
    }

    fn unfit(&self, own: &PublicKey, peer: &Peer) -> Option<EnrolmentConflict> {
        if peer.key == *own {
            return Some(EnrolmentConflict::OwnKey);
        }
        for known in &self.known {
            match (known.name == peer.name, known.key == peer.key) {
                (true, false) => return Some(EnrolmentConflict::NameTaken(known.key.fingerprint())),
                (false, true) => return Some(EnrolmentConflict::KeyKnown(known.name.clone())),
                _ => {}
            }
        }
        let first = self.wanted.first()?;
        (!self.wanted.contains(&peer.name)).then(|| EnrolmentConflict::NotWanted(first.clone()))
    }
}

impl Party {
    /// This end's half of SPAKE2, where it has a code.
    pub(super) fn half(&self, role: Role, rng: &mut impl CryptoRng) -> Option<Half> {
        let code = self.enrolment.as_ref()?.code.as_ref()?;
        Some(Half::draw(role, &code.password(), rng))
    }

    /// Whether a message that has a share, or has none, is from the same kind of pairing as this end's.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] if it is not, or if the code is gone.
    pub(super) fn check_share(&self, share: Option<&[u8; SHARE_LEN]>) -> Result<(), Rejected> {
        let code = self.enrolment.as_ref().map(Enrolment::is_alive);
        if matches!((code, share), (None, None) | (Some(true), Some(_))) { Ok(()) } else { Err(Rejected::Unexpected) }
    }

    /// Whose credentials these claim to be: those of the pinned peer with this key; while enrolling by code, of whoever
    /// they say. `None` for a key that is not pinned.
    pub(super) fn sender(&self, credentials: &Credentials<'_>) -> Result<Option<Peer>, Rejected> {
        if self.enrolment.is_none() {
            return Ok(self.peer(credentials.key).cloned());
        }
        let name = std::str::from_utf8(credentials.name).ok().and_then(|name| name.parse().ok());
        let name = name.ok_or(Rejected::NotAuthentic)?;
        let key = PublicKey::from_der(credentials.key).map_err(|_| Rejected::NotAuthentic)?;
        Ok(Some(Peer { name, key }))
    }

    /// Why a peer that proved to have the code cannot be pinned, if it cannot.
    pub(super) fn unfit(&self, peer: &Peer) -> Option<EnrolmentConflict> {
        self.enrolment.as_ref()?.unfit(self.identity.public(), peer)
    }
}

/// What the code adds to an attempt's keys, where both sides sent a share.
///
/// # Errors
/// [`Rejected::Unexpected`] where only one did; as [`Half::agree`].
pub(super) fn agree(ours: Option<&Half>, theirs: Option<&[u8; SHARE_LEN]>) -> Result<Option<Key<Pake>>, Rejected> {
    match (ours, theirs) {
        (None, None) => Ok(None),
        (Some(ours), Some(theirs)) => ours.agree(theirs).map(Some),
        _ => Err(Rejected::Unexpected),
    }
}
