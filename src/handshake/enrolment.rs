//! Enrolment by one-time code: how often a code may be tried, and which devices can be pinned (`sts-protocol(7)`, "Enrolment
//! by code").

use super::{Code, Peer};
use crate::crypto::schedule::AttemptId;
use crate::identity::{Fingerprint, PeerName, PublicKey};

/// Attempts that a code is good for on each side. The slave counts those whose AUTHREQ did not open, the master those whose
/// INITACK was answered: a device without the code has that many guesses.
pub(crate) const MAX_CODE_ATTEMPTS: usize = 3;

/// A code, the attempts that were counted against it, and which devices may be pinned.
#[derive(Debug)]
pub struct Enrolment {
    /// `None` once it is erased.
    code: Option<Code>,
    allowed: usize,
    counted: Vec<AttemptId>,
    /// All that are pinned on this device, whatever their link.
    known: Vec<Peer>,
    /// The names that the link accepts; any if it gives none.
    wanted: Vec<PeerName>,
}

/// Why a device that has the code cannot be pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EnrolmentConflict {
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
    /// Begins with a code that is good for `attempts`: [`MAX_CODE_ATTEMPTS`], or what an earlier code has left of them.
    #[must_use]
    pub fn new(code: Code, attempts: usize, known: Vec<Peer>, wanted: Vec<PeerName>) -> Self {
        Self { code: Some(code), allowed: attempts.min(MAX_CODE_ATTEMPTS), counted: Vec::new(), known, wanted }
    }

    /// Attempts that may still fail.
    #[must_use]
    pub fn attempts_left(&self) -> usize {
        if self.code.is_some() { self.allowed.saturating_sub(self.counted.len()) } else { 0 }
    }

    pub(super) fn code(&self) -> Option<&Code> {
        self.code.as_ref()
    }

    /// Whether the code can still be used.
    pub(super) fn is_usable(&self) -> bool {
        self.code.is_some()
    }

    /// Counts an attempt; false if it was counted before.
    pub(super) fn count(&mut self, attempt: AttemptId) -> bool {
        let fresh = !self.counted.contains(&attempt) && self.code.is_some();
        if fresh {
            self.counted.push(attempt);
        }
        fresh
    }

    /// Erases the code; false if it was erased before.
    pub(super) fn erase(&mut self) -> bool {
        self.code.take().is_some()
    }

    /// Why this device, whose key is `own`, cannot pin `peer`, if it cannot.
    pub(super) fn conflict(&self, own: &PublicKey, peer: &Peer) -> Option<EnrolmentConflict> {
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
