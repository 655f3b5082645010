//! This end of a link as the handshake sees it: who it is, whom it trusts, and what both ends must agree on.

use std::sync::Arc;

use rand::CryptoRng;

use super::{AcceptedPeers, Enrolment, EnrolmentConflict, Peer};
use crate::Rejected;
use crate::crypto::pake::{SHARE_LEN, Spake2Half};
use crate::crypto::schedule::{SessionKeys, Topics};
use crate::identity::{Fingerprint, Identity, PeerName, PublicKey};
use crate::message::Credentials;
use crate::role::Role;
use crate::secret::{Key, Pake};
use crate::suite::Suite;

/// One end of a link.
#[derive(Debug)]
pub(crate) struct Party {
    /// This device's identity key.
    pub identity: Arc<Identity>,
    /// The name that this device gives itself; it only counts while enrolling.
    pub name: PeerName,
    /// The suite that this end's configuration asks for.
    pub suite: Suite,
    /// Whom this end accepts.
    pub trust: Trust,
}

/// Whom one end of a link accepts.
#[derive(Debug)]
pub(crate) enum Trust {
    /// The peers whose keys are pinned.
    Pinned(AcceptedPeers),
    /// The device that has the same one-time code, whatever its key.
    Code(Enrolment),
}

/// A session that both ends have authenticated, and with which peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Established {
    /// Its secrets.
    pub keys: SessionKeys,
    /// Its suite.
    pub suite: Suite,
    /// The peer, as pinned on this device.
    pub peer: Peer,
    /// The topics that it is bound to.
    pub topics: Topics,
}

impl Party {
    /// The enrolment, if this end was given a code.
    pub(super) fn enrolment(&self) -> Option<&Enrolment> {
        match &self.trust {
            Trust::Pinned(_) => None,
            Trust::Code(enrolment) => Some(enrolment),
        }
    }

    pub(super) fn enrolment_mut(&mut self) -> Option<&mut Enrolment> {
        match &mut self.trust {
            Trust::Pinned(_) => None,
            Trust::Code(enrolment) => Some(enrolment),
        }
    }

    /// Whether a peer that was authenticated before is still accepted. A code lets its peer in by itself.
    pub(super) fn accepts(&self, peer: &Peer) -> bool {
        match &self.trust {
            Trust::Pinned(peers) => peers.contains(peer),
            Trust::Code(_) => true,
        }
    }

    /// Replaces the pinned peers; with a code there are none.
    pub(super) fn set_peers(&mut self, peers: AcceptedPeers) {
        if let Trust::Pinned(pinned) = &mut self.trust {
            *pinned = peers;
        }
    }

    /// This end's half of SPAKE2, if it has a code.
    pub(super) fn half(&self, role: Role, rng: &mut impl CryptoRng) -> Option<Spake2Half> {
        let code = self.enrolment()?.code()?;
        Some(Spake2Half::draw(role, &code.password(), rng))
    }

    /// Checks that a frame carries a SPAKE2 share if this end has a code, and none otherwise.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] if it does not, or if the code is erased.
    pub(super) fn check_share(&self, share: Option<&[u8; SHARE_LEN]>) -> Result<(), Rejected> {
        let code = self.enrolment().map(Enrolment::is_usable);
        if matches!((code, share), (None, None) | (Some(true), Some(_))) { Ok(()) } else { Err(Rejected::Unexpected) }
    }

    /// Whose credentials these claim to be: those of the pinned peer with this key or, while enrolling, of the device that
    /// they name. `None` for a key that is not pinned.
    pub(super) fn sender(&self, credentials: &Credentials<'_>) -> Result<Option<Peer>, Rejected> {
        if let Trust::Pinned(peers) = &self.trust {
            // What a stranger shows as its key is hashed, whatever it is; all of these are public.
            return Ok(peers.get(Fingerprint::of(credentials.key).as_bytes()).cloned());
        }
        let name = std::str::from_utf8(credentials.name).ok().and_then(|name| name.parse().ok());
        let name = name.ok_or(Rejected::NotAuthentic)?;
        let key = PublicKey::from_der(credentials.key).map_err(|_| Rejected::NotAuthentic)?;
        Ok(Some(Peer { name, key }))
    }

    /// Why a peer that has proved to have the code cannot be pinned, if it cannot.
    pub(super) fn conflict(&self, peer: &Peer) -> Option<EnrolmentConflict> {
        self.enrolment()?.conflict(self.identity.public(), peer)
    }
}

/// What the code adds to an attempt's keys, if both sides sent a share.
///
/// # Errors
/// [`Rejected::Unexpected`] if only one did; as [`Spake2Half::agree`].
pub(super) fn agree(
    ours: Option<&Spake2Half>,
    theirs: Option<&[u8; SHARE_LEN]>,
) -> Result<Option<Key<Pake>>, Rejected> {
    match (ours, theirs) {
        (None, None) => Ok(None),
        (Some(ours), Some(theirs)) => ours.agree(theirs).map(Some),
        _ => Err(Rejected::Unexpected),
    }
}
