//! Whom a link accepts: this device, its known peers, and those of them that the configuration allows.

use std::collections::HashMap;
use std::ops::Deref;
use std::time::Instant;

use crate::config::Sealed;
use crate::crypto::schedule::Digest;
use crate::files::Dir;
use crate::handshake::{Code, Enrolment, Peer};
use crate::identity::{Identity, KnownPeers, PublicKey};
use crate::name::{PeerName, did_you_mean, list};
use crate::role::Role;
use crate::route::Route;
use crate::session::{Expected, Session};
use crate::suite::Suite;
use crate::{Error, Exit, Result};

/// This device and those that it accepts on an encrypted link.
#[derive(Debug)]
pub struct LinkPeers {
    dir: Dir,
    /// The public half of this device's identity key: sealing and opening take no other.
    pub public: PublicKey,
    known: KnownPeers,
    /// Loop iteration of the last check: at most one stat per iteration.
    checked: Option<Instant>,
    /// Which side this is.
    pub role: Role,
    /// The suite that the configuration asks for.
    pub suite: Suite,
    /// The topics.
    pub route: Route,
    /// The names that `peer` gives; none where the configuration does not say.
    wanted: Vec<PeerName>,
}

/// Whom a link accepts, in the order of the configuration or of `known_peers`.
#[derive(Clone, Debug, Default)]
pub struct AcceptedPeers {
    all: Vec<Peer>,
    by_fingerprint: HashMap<Digest, usize>,
}

impl AcceptedPeers {
    /// The peer with the key of this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Digest) -> Option<&Peer> {
        self.by_fingerprint.get(fingerprint).map(|index| &self.all[*index])
    }
}

impl Deref for AcceptedPeers {
    type Target = [Peer];

    fn deref(&self) -> &[Peer] {
        &self.all
    }
}

impl FromIterator<Peer> for AcceptedPeers {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        let all: Vec<_> = peers.into_iter().collect();
        let indexed = all.iter().zip(0..).map(|(peer, index)| (*peer.key.fingerprint().as_bytes(), index));
        let by_fingerprint = indexed.collect();
        Self { all, by_fingerprint }
    }
}

impl LinkPeers {
    /// The peers of a link with this configuration, whose identity key and known peers are in `dir`.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where this device has no identity key yet, or a file that must be ours is not.
    pub(crate) fn load(dir: Dir, sealed: &Sealed, route: Route) -> Result<Self> {
        let public = Identity::load_public(&dir)?.ok_or_else(no_peer_trusted)?;
        let known = KnownPeers::load(&dir)?;
        let Sealed { role, suite, ref peers, .. } = *sealed;
        Ok(Self { dir, public, known, checked: None, role, suite, route, wanted: peers.clone() })
    }

    /// Reads the known peers again if their file changed; true if it did.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub fn refresh(&mut self) -> Result<bool> {
        self.known.refresh(&self.dir)
    }

    /// Whether [`LinkPeers::refresh`] has something to read. Costs one stat per loop iteration, of which `now` is the time.
    ///
    /// # Errors
    /// As [`KnownPeers::has_changed`].
    pub fn have_changed(&mut self, now: Instant) -> Result<bool> {
        let first_check = self.checked.replace(now) != Some(now);
        Ok(first_check && self.known.has_changed(&self.dir)?)
    }

    /// The peers that this link accepts: those that `peer` names, else the only pinned one, or all on a wildcard link.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where none is pinned; [`Exit::Config`] where it is not clear which one is meant, or where a
    /// name in `peer` is not pinned.
    pub fn accepted(&self) -> Result<AcceptedPeers> {
        let pinned: AcceptedPeers = self.pinned().collect();
        if pinned.is_empty() {
            return Err(no_peer_trusted());
        }
        if self.wanted.is_empty() {
            return if pinned.len() == 1 || self.route.is_wildcard() { Ok(pinned) } else { Err(ambiguous(&pinned)) };
        }
        let by_name: HashMap<_, _> = pinned.iter().map(|peer| (&peer.name, peer)).collect();
        let named = |name: &PeerName| {
            by_name.get(name).copied().cloned().ok_or_else(|| {
                let hint = did_you_mean(name.as_str(), pinned.iter().map(|peer| peer.name.as_str()));
                Error::new(Exit::NotTrusted, format!("`peer = {name}`"))
                    .because("no key is pinned under this name")
                    .hint(hint.unwrap_or_else(|| {
                        format!("on the other device: sts-pair --key; pipe that line into: sts-pair --trust {name}")
                    }))
            })
        };
        self.wanted.iter().map(named).collect()
    }

    /// Those of [`LinkPeers::accepted`] that are pinned now. While a tool runs, a peer that was forgotten is no reason to
    /// refuse the others, and having none left is no reason to end.
    #[must_use]
    pub fn still_accepted(&self) -> AcceptedPeers {
        let left = || self.pinned().filter(|peer| self.wanted.contains(&peer.name)).collect();
        if self.wanted.is_empty() { self.accepted().unwrap_or_default() } else { left() }
    }

    /// Restricts the link to this peer.
    ///
    /// # Errors
    /// [`Exit::Usage`] where the link does not accept a peer of that name; otherwise as [`LinkPeers::accepted`].
    pub fn restrict_to(&mut self, name: &PeerName) -> Result<()> {
        let peers = self.accepted()?;
        if !peers.iter().any(|peer| peer.name == *name) {
            let names = || peers.iter().map(|peer| peer.name.as_str());
            return Err(Error::new(Exit::Usage, format!("no peer `{name}` on this link"))
                .because(format!("it accepts {}", list(names())))
                .hint_if(did_you_mean(name.as_str(), names())));
        }
        self.wanted = vec![name.clone()];
        Ok(())
    }

    /// An enrolment on this link by a code with this many attempts left.
    #[must_use]
    pub fn enrolment(&self, code: Code, attempts: usize) -> Enrolment {
        Enrolment::new(code, attempts, self.pinned().collect(), self.wanted.clone())
    }

    /// Pins a peer.
    ///
    /// # Errors
    /// As [`KnownPeers::add`].
    pub fn pin(&mut self, peer: &Peer) -> Result<()> {
        self.known.add(&self.dir, &self.public, &peer.name, &peer.key)
    }

    /// Whether several peers are pinned and the configuration does not say which one the link is with, though it must.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.wanted.is_empty() && !self.route.is_wildcard() && self.pinned().count() > 1
    }

    /// All pinned keys except our own: written into the file by hand, it would let anyone reflect our messages to us.
    fn pinned(&self) -> impl Iterator<Item = Peer> {
        let own = &self.public;
        let others = self.known.iter().filter(move |(_, key)| *key != own);
        others.map(|(name, key)| Peer { name: name.clone(), key: key.clone() })
    }

    /// What a session must agree with to be used on this link.
    #[must_use]
    pub fn expected(&self) -> Expected<'_> {
        Expected { suite: self.suite, role: self.role, own: self.own(), route: &self.route }
    }

    /// This device's identity key, to sign with.
    ///
    /// # Errors
    /// As [`Identity::load_or_create`].
    pub fn identity(&self) -> Result<Identity> {
        Identity::load_or_create(&self.dir, &mut rand::rng())
    }

    /// The fingerprint of this device's key.
    #[must_use]
    pub fn own(&self) -> Digest {
        *self.public.fingerprint().as_bytes()
    }

    /// The peer of a session that may be used: the session agrees with the configuration, and its peer is accepted.
    #[must_use]
    pub fn peer_of<'a>(&self, session: &Session, accepted: &'a AcceptedPeers) -> Option<&'a Peer> {
        if session.mismatch(&self.expected()).is_some() {
            return None;
        }
        accepted.get(&session.peer)
    }
}

fn no_peer_trusted() -> Error {
    Error::new(Exit::NotTrusted, "no peer is trusted yet")
        .because("this device does not know any public key")
        .hint("run sts-pair --code on both devices; or run sts-pair --key on the other one, and pipe its line into: sts-pair --trust NAME")
}

fn ambiguous(pinned: &[Peer]) -> Error {
    Error::new(
        Exit::Config,
        "several peers are trusted, and the configuration does not say which one this link is with",
    )
    .because(list(pinned.iter().map(|peer| peer.name.as_str())))
    .hint(format!("add a line to the configuration: peer = {}", pinned[0].name))
}
