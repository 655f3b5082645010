//! Whom a link accepts: this device, its known peers, and those of them that the configuration allows.

mod none_accepted;
mod wanted;

use std::collections::HashSet;
use std::time::Instant;

pub(crate) use self::none_accepted::no_peer_trusted;
use self::none_accepted::{ambiguous, bound_elsewhere, names, own_key_trusted};
use self::wanted::Wanted;
use crate::cache::{PeerKey, peer_key};
use crate::config::Sealed;
use crate::crypto::schedule::Digest;
use crate::handshake::{AcceptedPeers, Code, Enrolment, Peer};
use crate::identity::{Binding, Identity, KnownPeers, PeersLine, PeersStore, PublicKey, Selection};
use crate::name::{LinkName, PeerName, did_you_mean, list};
use crate::role::Role;
use crate::route::Route;
use crate::session::{Expected, Session};
use crate::suite::Suite;
use crate::{Error, Exit, Result};

/// This device and those that it accepts on an encrypted link.
#[derive(Debug)]
pub struct LinkPeers {
    link: LinkName,
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
    /// The names to which the link is restricted.
    wanted: Wanted,
}

/// Which of the peers a run is with.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach<'a> {
    /// All that the link accepts.
    All,
    /// All that the link accepts, each known when it sends something. A link with wildcards may have a hundred thousand of them.
    Senders,
    /// The one of this name, or else the only one.
    One(Option<&'a PeerName>),
}

impl LinkPeers {
    /// The peers of the link of this name and configuration, whose identity key and known peers are in `store`. A run
    /// that is to `reach` one of them, or the only one, need not know the others.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where this device has no identity key yet, or a file that must be ours is not.
    pub(crate) fn load(
        link: LinkName,
        store: PeersStore,
        sealed: &Sealed,
        route: Route,
        reach: Reach<'_>,
    ) -> Result<Self> {
        let public = Identity::load_public(store.dir())?.ok_or_else(no_peer_trusted)?;
        Self::of_device(link, public, store, sealed, route, reach)
    }

    /// As [`LinkPeers::load`], of a device with this identity key.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub(crate) fn of_device(
        link: LinkName,
        public: PublicKey,
        store: PeersStore,
        sealed: &Sealed,
        route: Route,
        reach: Reach<'_>,
    ) -> Result<Self> {
        let Sealed { role, suite, ref peers, .. } = *sealed;
        let known = match reach {
            Reach::One(to) => KnownPeers::load_selected(
                store,
                Selection {
                    names: peers.iter().chain(to).cloned().collect(),
                    link: (!route.is_wildcard()).then(|| link.clone()),
                },
            ),
            Reach::Senders if route.is_wildcard() && peers.is_empty() => KnownPeers::load_as_asked(store),
            Reach::All | Reach::Senders => KnownPeers::load(store),
        }?;
        Ok(Self { link, public, known, checked: None, role, suite, route, wanted: Wanted::configured(peers.clone()) })
    }

    /// Reads the known peers again if their file changed; true if it did.
    ///
    /// # Errors
    /// As [`KnownPeers::load`].
    pub fn refresh(&mut self) -> Result<bool> {
        if !self.known.has_changed()? {
            return Ok(false);
        }
        if !self.wanted.names().is_empty() && self.named().is_ok() {
            self.wanted.are_trusted();
        }
        self.known.refresh()
    }

    /// Whether [`LinkPeers::refresh`] has something to read. Costs one stat per loop iteration, of which `now` is the time.
    ///
    /// # Errors
    /// As [`KnownPeers::has_changed`].
    pub fn have_changed(&mut self, now: Instant) -> Result<bool> {
        let first_check = self.checked.replace(now) != Some(now);
        Ok(first_check && self.known.has_changed()?)
    }

    /// The peers that this link accepts: those that `peer` names; else, of the keys that are for this link, all on a wildcard
    /// link, and on any other link the one that it has paired with, those that were trusted for it by name, or all of them.
    /// There may be several on any link: which of them is meant, the sessions tell, or [`LinkPeers::to_pair_with`] asks.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where none is pinned for this link, or where a name in `peer` is not pinned.
    pub fn accepted(&self) -> Result<AcceptedPeers> {
        let bindings = || self.pinned_lines().map(|line| &line.binding);
        if bindings().next().is_none() {
            return Err(self.known.lines().first().map_or_else(no_peer_trusted, |own| own_key_trusted(&own.name)));
        }
        if !self.wanted.names().is_empty() {
            return self.named();
        }
        let Some(best) = bindings().filter_map(|binding| self.preference(binding)).max() else {
            return Err(bound_elsewhere(&self.link, self.pinned()));
        };
        Ok(self.pinned().filter(|(_, binding)| self.preference(binding) == Some(best)).map(|(peer, _)| peer).collect())
    }

    /// Why the link accepts nobody yet, if no key is trusted for it: the first one changes that. `None` if there is a key for
    /// it, or our own is among the keys: if no peer is accepted then, that is a mistake, which waiting does not mend.
    pub(crate) fn none_trusted(&self) -> Option<Error> {
        let mut lines = self.known.lines().iter();
        let has_key = lines.any(|line| {
            line.key == self.public || line.binding.allows(&self.link) || self.wanted.names().contains(&line.name)
        });
        if has_key { None } else { self.accepted().err() }
    }

    /// As [`LinkPeers::accepted`]; but where each peer is known when it sends something, none is missed yet.
    ///
    /// # Errors
    /// As [`LinkPeers::accepted`].
    pub(crate) fn accepted_at_start(&self) -> Result<AcceptedPeers> {
        if self.known.are_more() { Ok(AcceptedPeers::default()) } else { self.accepted() }
    }

    /// Looks for a peer that may not be known yet; returns it if it is accepted and was not known.
    ///
    /// # Errors
    /// As [`KnownPeers::look_up`].
    pub(crate) fn look_up(&mut self, fingerprint: &Digest) -> Result<Option<Peer>> {
        let (own, link) = (&self.public, &self.link);
        let found = self.known.look_up(fingerprint)?.filter(|line| line.key != *own && line.binding.allows(link));
        Ok(found.map(|line| Peer { name: line.name.clone(), key: line.key.clone() }))
    }

    /// Forgets those of the peers that were looked up; true if there were any.
    pub(crate) fn forget(&mut self, peers: &[PeerKey]) -> bool {
        let peers: HashSet<_> = peers.iter().collect();
        self.known.forget(|fingerprint| peers.contains(&peer_key(fingerprint)))
    }

    /// How much a key is meant for this link; `None` if it is for others only.
    fn preference(&self, binding: &Binding) -> Option<u8> {
        let is_one_peers = !self.route.is_wildcard();
        let (has_paired, is_named) = (binding.has_paired(&self.link), binding.names(&self.link));
        match (has_paired && is_one_peers, is_named && is_one_peers) {
            _ if !binding.allows(&self.link) => None,
            (true, _) => Some(2),
            (false, true) => Some(1),
            (false, false) => Some(0),
        }
    }

    /// The peers that `peer` names; none where the configuration does not say.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where one of the names is not pinned.
    pub(crate) fn named(&self) -> Result<AcceptedPeers> {
        if self.wanted.names().is_empty() {
            return Ok(AcceptedPeers::default());
        }
        self.wanted.find(self.pinned().map(|(peer, _)| peer))
    }

    /// Why the link does not accept the peer of this name, although its key is for this link; `None` if it does.
    pub(crate) fn not_accepted(&self, name: &PeerName) -> Option<Error> {
        let accepted = self.accepted().ok()?;
        if accepted.iter().any(|peer| peer.name == *name) {
            return None;
        }
        let other = &accepted.first()?.name;
        let error = Error::new(Exit::Config, format!("{} stays with {other}", self.link));
        Some(if self.wanted.names().is_empty() {
            error.because("it has paired with that peer").hint(format!(
                "to change that, add a line to the configuration: peer = {name}; or: sts-pair --forget {other}"
            ))
        } else {
            error.because("its configuration says so").hint(format!("to change that: peer = {name}"))
        })
    }

    /// The peers to agree a session with: as [`LinkPeers::accepted`], where that is not open.
    ///
    /// # Errors
    /// [`Exit::Config`] where it is; otherwise as [`LinkPeers::accepted`].
    pub fn to_pair_with(&self) -> Result<AcceptedPeers> {
        let accepted = self.accepted()?;
        if self.is_open(&accepted) { Err(ambiguous(&self.link, &accepted)) } else { Ok(accepted) }
    }

    /// Whether nothing says which of these peers the link is with.
    fn is_open(&self, accepted: &AcceptedPeers) -> bool {
        self.wanted.names().is_empty() && !self.route.is_wildcard() && accepted.len() > 1
    }

    /// Whether the configuration names several peers for a link that is with one at a time.
    #[must_use]
    pub(crate) fn are_alternatives(&self) -> bool {
        self.wanted.names().len() > 1 && !self.route.is_wildcard()
    }

    /// Where several peers are accepted and only one of them has sessions, the link is with that one.
    pub(crate) fn prefer_with_session(&mut self, has_session: impl Fn(&Digest) -> bool) {
        let accepted = self.accepted().unwrap_or_default();
        if self.is_open(&accepted) {
            let mut with_session = accepted.iter().filter(|peer| has_session(peer.key.fingerprint().as_bytes()));
            if let (Some(peer), None) = (with_session.next(), with_session.next()) {
                self.wanted = Wanted::kept(peer.name.clone());
            }
        }
    }

    /// Those of [`LinkPeers::accepted`] that are pinned now, and those accepted `before` whose keys may still be used: while a
    /// tool runs, a key that is trusted takes no peer away. One that was forgotten is no reason to refuse the others, and
    /// having none left is no reason to end.
    #[must_use]
    pub fn still_accepted(&self, before: &AcceptedPeers) -> AcceptedPeers {
        let wanted = self.wanted.names();
        if !wanted.is_empty() {
            return self.pinned().map(|(peer, _)| peer).filter(|peer| wanted.contains(&peer.name)).collect();
        }
        let mut accepted = self.accepted().unwrap_or_default();
        if self.route.is_wildcard() {
            return accepted;
        }
        let is_kept = |(peer, binding): &(Peer, &Binding)| binding.allows(&self.link) && before.contains(peer);
        let kept: AcceptedPeers = self.pinned().filter(is_kept).map(|(peer, _)| peer).collect();
        // A key that makes it open which peer is meant does not come in by that.
        if !kept.is_empty() && self.is_open(&accepted) {
            return kept;
        }
        accepted.extend(kept);
        accepted
    }

    /// Restricts the link to this peer, with which a run stays.
    ///
    /// # Errors
    /// As [`LinkPeers::restrict_to`].
    pub(crate) fn stay_with(&mut self, name: &PeerName) -> Result<()> {
        self.restrict_to(name)?;
        self.wanted = Wanted::kept(name.clone());
        Ok(())
    }

    /// Restricts the link to this peer, which the user names (`--to`).
    ///
    /// # Errors
    /// [`Exit::Usage`] where the link does not accept a peer of that name; otherwise as [`LinkPeers::accepted`].
    pub fn restrict_to(&mut self, name: &PeerName) -> Result<()> {
        let peers = self.accepted()?;
        if !peers.iter().any(|peer| peer.name == *name) {
            return Err(Error::new(Exit::Usage, format!("no peer `{name}` on this link"))
                .because(format!("it accepts {}", list(names(&peers))))
                .hint_if(did_you_mean(name.as_str(), names(&peers))));
        }
        self.wanted = Wanted::given(name.clone());
        self.known.narrow_to(name);
        Ok(())
    }

    /// An enrolment on this link by a code with this many attempts left.
    #[must_use]
    pub fn enrolment(&self, code: Code, attempts: usize) -> Enrolment {
        Enrolment::new(code, attempts, self.pinned().map(|(peer, _)| peer).collect(), self.wanted.names().to_vec())
    }

    /// Pins a peer for this link, with which it stays if it can be with no other one: an enrolment replaces the file once.
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub fn pin(&mut self, peer: &Peer) -> Result<()> {
        let add = if self.stays_with_peer() { KnownPeers::add_paired } else { KnownPeers::add };
        add(&mut self.known, &self.public, &peer.name, &peer.key, &self.link)
    }

    /// Writes down that the link has paired with this peer, if it stays with one.
    ///
    /// # Errors
    /// As [`PeersStore::trust`].
    pub(crate) fn note_paired(&mut self, peer: &Peer) -> Result<()> {
        if self.stays_with_peer() { self.known.note_paired(&peer.key, &self.link) } else { Ok(()) }
    }

    fn stays_with_peer(&self) -> bool {
        !self.route.is_wildcard() && self.wanted.names().len() <= 1
    }

    /// The name under which the key with this fingerprint is pinned.
    pub(crate) fn pinned_name(&self, fingerprint: &Digest) -> Option<&PeerName> {
        let mut lines = self.known.lines().iter();
        lines.find(|line| line.key.fingerprint().as_bytes() == fingerprint).map(|line| &line.name)
    }

    /// All pinned keys except our own, and the links that they are for.
    fn pinned(&self) -> impl Iterator<Item = (Peer, &Binding)> {
        self.pinned_lines().map(|line| (Peer { name: line.name.clone(), key: line.key.clone() }, &line.binding))
    }

    /// Without our own key: written into the file by hand, it would let anyone reflect our messages to us.
    fn pinned_lines(&self) -> impl Iterator<Item = &PeersLine> {
        self.known.lines().iter().filter(|line| line.key != self.public)
    }

    /// What a session must agree with to be used on this link.
    #[must_use]
    pub fn expected(&self) -> Expected<'_> {
        Expected { suite: self.suite, role: self.role, own: self.own(), route: &self.route }
    }

    /// This device's identity key, to sign with.
    ///
    /// # Errors
    /// As [`Identity::load`]; [`Exit::NotTrusted`] where it was removed meanwhile.
    pub fn identity(&self) -> Result<Identity> {
        Identity::load(self.known.store().dir())?.ok_or_else(no_peer_trusted)
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
