//! A running tool's view of its link's sessions: which of them are usable now, and which one to send under.
//!
//! Sessions come and go while a tool runs: `sts-pair` agrees new ones, `--forget` and `--end` delete them. All three
//! tools see that through [`LinkSessions`]: at the price of one stat per second, and of one per loop iteration for
//! `known_peers`, so that nothing more is sealed for a peer that was forgotten. A run that has nothing to do is woken, so that it
//! drops the keys of a session that was deleted ([`SessionChanges`]).

mod alternatives;
mod answers;
mod changes;
mod on_demand;

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use rand::TryRng;
use rand::rngs::SysRng;

pub(crate) use self::alternatives::recency;
pub(crate) use self::answers::Answer;
use self::answers::LostSessions;
pub(crate) use self::changes::SessionChanges;
use crate::cache::{Cache, EndOfStream, StoredSession, Watch};
use crate::crypto::key_tree::Salt;
use crate::crypto::schedule::Digest;
use crate::handshake::{AcceptedPeers, Peer};
use crate::link::{Link, unix_time};
use crate::name::{PeerName, list};
use crate::peers::LinkPeers;
use crate::session::{Session, SessionId, Standing};
use crate::stream::{Preamble, Sender};
use crate::{Error, Exit, Result};

/// How often a run without a session looks whether there is one.
pub(crate) const SESSION_CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The sessions of a link, as of the last look at them.
#[derive(Debug)]
pub(crate) struct LinkSessions {
    /// Whom the link accepts.
    pub peers: LinkPeers,
    /// Those of them that were pinned at the last look.
    accepted: AcceptedPeers,
    cache: Cache,
    watch: Watch,
    /// Counts the changes seen.
    version: u64,
    /// Counts the changes of `known_peers` among them.
    accepted_version: u64,
    /// What is sealed is padded to a multiple of this many bytes.
    pad: Option<usize>,
    lost: LostSessions,
}

impl LinkSessions {
    /// The sessions with these peers, each read when its peer asks for it. Nothing is read before the first
    /// [`LinkSessions::refresh`] or [`LinkSessions::refresh_if_due`].
    #[must_use]
    pub(crate) fn new(peers: LinkPeers, cache: Cache) -> Self {
        Self {
            accepted: peers.still_accepted(&AcceptedPeers::default()),
            peers,
            cache,
            watch: Watch::on_demand(),
            version: 0,
            accepted_version: 0,
            pad: None,
            lost: LostSessions::default(),
        }
    }

    /// The sessions with all peers of a link, read now.
    ///
    /// # Errors
    /// As [`LinkPeers::accepted`], [`Link::cache`] and [`Watch::refresh`].
    pub(crate) fn open(link: &Link, peers: LinkPeers, now: Instant) -> Result<Self> {
        let cache = link.cache()?;
        let accepted = peers.accepted()?;
        let watch = Watch::new(&cache, now, SystemTime::now())?;
        Ok(Self::of(link, peers, accepted, cache, watch))
    }

    fn of(link: &Link, peers: LinkPeers, accepted: AcceptedPeers, cache: Cache, watch: Watch) -> Self {
        let (version, accepted_version) = (0, 0);
        Self {
            peers,
            accepted,
            cache,
            watch,
            version,
            accepted_version,
            pad: link.pad(),
            lost: LostSessions::default(),
        }
    }

    /// The sessions with the one peer to send to: the one named `to`, the only one, or the only one with a session.
    /// From then on that peer stays the one, whoever else pairs. If the configuration names alternatives and there is no
    /// `to`, these are the sessions with all of them, and [`LinkSessions::current`] says which peer it is now.
    ///
    /// # Errors
    /// As [`LinkSessions::open`] and [`LinkSessions::current`].
    pub(crate) fn open_to_send(link: &Link, mut peers: LinkPeers, to: Option<&PeerName>, now: Instant) -> Result<Self> {
        let cache = link.cache()?;
        if let Some(name) = to {
            peers.restrict_to(name)?;
        }
        let accepted = peers.accepted()?;
        let watch = match &accepted[..] {
            [one] => Watch::of_peer(&cache, one.key.fingerprint().as_bytes(), now, SystemTime::now())?,
            _ => Watch::new(&cache, now, SystemTime::now())?,
        };
        let mut sessions = Self::of(link, peers, accepted, cache, watch);
        let peer = sessions.current()?.peer;
        if sessions.peers.are_alternatives() {
            return Ok(sessions);
        }
        if sessions.accepted.len() > 1 {
            sessions.watch = Watch::of_peer(&sessions.cache, &peer, now, SystemTime::now())?;
        }
        if let Some(peer) = sessions.accepted.get(&peer) {
            if to.is_none() {
                sessions.peers.stay_with(&peer.name)?;
            }
            sessions.accepted = sessions.peers.accepted()?;
        }
        Ok(sessions)
    }

    /// Looks again if a second has passed since the last look, or if `known_peers` changed; true if a session came,
    /// went or changed its standing, or if other peers are accepted now.
    ///
    /// # Errors
    /// As [`LinkSessions::refresh`].
    pub(crate) fn refresh_if_due(&mut self, now: Instant) -> Result<bool> {
        if self.watch.is_due(now) || self.peers.have_changed(now)? { self.refresh(now) } else { Ok(false) }
    }

    /// As [`LinkSessions::refresh_if_due`], where the kernel says that a session may have come or gone: for a run that has nothing
    /// to do, and would look no more.
    ///
    /// # Errors
    /// As [`Watch::may_have_changed`] and [`LinkSessions::refresh`].
    pub(crate) fn refresh_if_changed(&mut self, now: Instant) -> Result<bool> {
        if self.watch.may_have_changed(&self.cache, now)? { self.refresh(now) } else { Ok(false) }
    }

    /// What is readable when [`LinkSessions::refresh_if_changed`] is to be called; `None` before [`LinkSessions::next_look`].
    pub(crate) fn changes_fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.watch.changes_fd(now)
    }

    /// When to call [`LinkSessions::refresh_if_changed`] next, if it is not time for that.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.watch.next_look(now)
    }

    /// Looks again; otherwise as [`LinkSessions::refresh_if_due`].
    ///
    /// # Errors
    /// As [`Watch::refresh`] and [`LinkPeers::refresh`].
    pub(crate) fn refresh(&mut self, now: Instant) -> Result<bool> {
        let mut changed = self.watch.refresh(&self.cache, now, SystemTime::now())?;
        if self.peers.refresh()? {
            self.look_up_loaded()?;
            self.accepted = self.peers.still_accepted(&self.accepted);
            self.accepted_version += 1;
            changed = true;
        }
        self.version += u64::from(changed);
        Ok(changed)
    }

    /// Looks at the sessions alone, if a second has passed since the last look.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn refresh_sessions_if_due(&mut self, now: Instant) -> Result<()> {
        if self.watch.is_due(now) {
            self.version += u64::from(self.watch.refresh(&self.cache, now, SystemTime::now())?);
        }
        Ok(())
    }

    /// Reads the known peers again if their file changed, and leaves the sessions as they were at the last look; true
    /// if it did. For a service with thousands of sessions, which reads them only when a peer checks one.
    ///
    /// # Errors
    /// As [`LinkPeers::refresh`].
    pub(crate) fn refresh_peers(&mut self) -> Result<bool> {
        let changed = self.peers.refresh()?;
        if changed {
            self.accepted = self.peers.still_accepted(&self.accepted);
            self.accepted_version += 1;
            self.version += 1;
        }
        Ok(changed)
    }

    /// As [`Watch::share_keys`], for a tool that changes the keys in memory as it does in the file.
    pub(crate) fn share_keys<'a>(&mut self, in_use: impl Fn(SessionId) -> Option<&'a Session>) {
        self.watch.share_keys(in_use);
    }

    /// The peers that the link accepts, as of the last look.
    #[must_use]
    pub(crate) fn accepted(&self) -> &AcceptedPeers {
        &self.accepted
    }

    /// How many changes were seen: two equal numbers mean that nothing changed in between.
    #[must_use]
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    /// How many changes of `known_peers` were seen: two equal numbers mean that the same peers are accepted.
    #[must_use]
    pub(crate) fn accepted_version(&self) -> u64 {
        self.accepted_version
    }

    /// All stored sessions that are loaded, usable or not; those with one peer stand together, newest first.
    pub(crate) fn stored(&self) -> impl Iterator<Item = &StoredSession> {
        self.watch.sessions()
    }

    /// The sessions that agree with the configuration and whose peer is accepted; those with one peer newest first.
    pub(crate) fn usable(&self) -> impl Iterator<Item = &StoredSession> {
        self.stored().filter(|stored| self.is_usable(&stored.session))
    }

    fn is_usable(&self, session: &Session) -> bool {
        self.peers.peer_of(session, &self.accepted).is_some()
    }

    /// Why the configuration keeps out what comes under a session of a peer that is still trusted; `None` where it does
    /// not.
    #[must_use]
    pub(crate) fn keeps_out(&self, session: &Session) -> Option<Error> {
        if self.is_usable(session) {
            return None;
        }
        let name = self.peers.pinned_name(&session.peer)?;
        let error = Error::new(Exit::Config, format!("messages of {name} are left with the broker"));
        Some(if let Some(why) = session.mismatch(&self.peers.expected()) {
            error
                .because(format!("the session does not match the configuration: {why}"))
                .hint("restore that setting until they have been received")
        } else {
            let names: Vec<_> = self.accepted.iter().map(|peer| peer.name.as_str()).chain([name.as_str()]).collect();
            error
                .because("this link does not accept that peer")
                .hint(format!("to receive them: peer = {}; to drop them: sts-pair --forget {name}", names.join(", ")))
        })
    }

    /// Whether a session is stored, usable or not. No confirm under one that is not can be opened any more.
    #[must_use]
    pub(crate) fn is_stored(&self, id: SessionId) -> bool {
        self.watch.peer_of(id).is_some()
    }

    /// The session to send under: the current one with the one peer of this link. If the configuration names several
    /// peers, it is the one that was agreed last ([`recency`]): a device that moves to another gateway pairs with that one, and
    /// needs no other change.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is none; [`Exit::Usage`] where there are sessions with several peers, and none of
    /// them says which is meant; otherwise as [`LinkPeers::accepted`].
    pub(crate) fn current(&self) -> Result<&Session> {
        if self.accepted.is_empty() {
            // Says why nobody is accepted.
            self.peers.accepted()?;
        }
        let is_current = |stored: &&StoredSession| stored.standing == Standing::Current;
        let mut usable: Vec<(&Session, &Peer)> = self
            .stored()
            .filter(is_current)
            .filter_map(|stored| Some((&stored.session, self.peers.peer_of(&stored.session, &self.accepted)?)))
            .collect();
        usable.sort_by_key(|(_, peer)| &peer.name);
        if self.peers.are_alternatives() {
            let recency = |session| recency(session, self.watch.order());
            let latest = usable.iter().map(|(session, _)| recency(session)).max();
            usable.retain(|(session, _)| Some(recency(session)) == latest);
        }
        match usable[..] {
            [] => Err(self.none_usable()),
            [(session, _)] => Ok(session),
            [(_, peer), ..] => Err(Error::new(Exit::Usage, "there are sessions with several peers")
                .because(list(usable.iter().map(|(_, peer)| peer.name.as_str())))
                .hint(format!("choose one of them: --to {}", peer.name))),
        }
    }

    /// The error of having no session to use, which says what is wrong with what is there.
    #[must_use]
    pub(crate) fn none_usable(&self) -> Error {
        self.watch.no_session(&self.cache, &self.peers.expected(), |session| self.is_usable(session))
    }

    /// The name on this device of a peer of which the sessions are loaded; of another one, that it is a peer.
    #[must_use]
    pub(crate) fn loaded_peer_name(&self, peer: &Digest) -> String {
        self.accepted.get(peer).map_or_else(|| "a peer".to_owned(), |known| known.name.to_string())
    }

    /// The topic on which messages under a session are published.
    #[must_use]
    pub(crate) fn publish_topic<'a>(&'a self, session: &'a Session) -> &'a str {
        self.peers.route.publish(&session.topics)
    }

    /// The topic on which the session's peer publishes.
    #[must_use]
    pub(crate) fn listen_topic<'a>(&'a self, session: &'a Session) -> &'a str {
        self.peers.route.listen(&session.topics)
    }

    /// What is sealed is padded to a multiple of this many bytes.
    pub(crate) fn pad(&self) -> Option<usize> {
        self.pad
    }

    /// Begins a stream of a session: takes its next number, durably, and writes down how others ended (`ends`) in the
    /// same write. Besides what `preamble` says, the stream tells the peer how earlier ones ended.
    ///
    /// # Errors
    /// As [`Cache::begin_stream`] and [`Sender::new`].
    pub(crate) fn begin_stream(
        &self,
        session: &Session,
        max_message: usize,
        ends: &[EndOfStream],
        preamble: &Preamble,
    ) -> Result<Sender> {
        let salt = fresh_salt()?;
        let (reserved, ended) = self.cache.begin_stream(&session.peer, session.id, salt, ends, max_message)?;
        let mut sender = Sender::new(session, reserved, salt, max_message)?.pad_to(self.pad);
        let Preamble { continues, kept, .. } = *preamble;
        sender.begin_with(Preamble { continues, ended, kept });
        Ok(sender)
    }

    /// As [`LinkSessions::begin_stream`], for a stream of confirms, which tells nothing.
    ///
    /// # Errors
    /// As [`Cache::reserve_confirm_stream`] and [`Sender::new`].
    pub(crate) fn begin_side_stream(&self, session: &Session, max_message: usize) -> Result<Sender> {
        let number = self.cache.reserve_confirm_stream(&session.peer, &session.id)?;
        Ok(Sender::new(session, number, fresh_salt()?, max_message)?.pad_to(self.pad))
    }

    /// Notes that the peer uses a session, unless that is known.
    ///
    /// # Errors
    /// As [`Cache::prove`].
    pub(crate) fn prove(&self, id: SessionId) -> Result<()> {
        if let Some(stored) = self.stored().find(|stored| stored.session.id == id && !stored.proven) {
            self.cache.prove(&stored.session.peer, &id)?;
        }
        Ok(())
    }

    /// Sends nothing more under these sessions, which their peer has ended; true if any was in use. Looks again then, so
    /// that a recorded KILL that is repeated does not have the file read each time, unless the disk is full.
    ///
    /// # Errors
    /// As [`Cache::retire`] and [`LinkSessions::refresh`].
    pub(crate) fn retire(&mut self, ended: &[SessionId], now: Instant) -> Result<bool> {
        let is_in_use =
            |stored: &&StoredSession| ended.contains(&stored.session.id) && stored.standing != Standing::Retired;
        let Some(peer) = self.stored().find(is_in_use).map(|stored| stored.session.peer) else { return Ok(false) };
        self.cache.retire(&peer, ended, unix_time())?;
        self.refresh(now)
    }

    /// The files behind this view.
    #[must_use]
    pub(crate) fn cache(&self) -> &Cache {
        &self.cache
    }
}

/// A salt for a stream. From the system, as a copy of a running process has its generator, too: systems that are told
/// that they were copied, as Linux is by most hypervisors, give each copy bytes of its own from then on.
pub(crate) fn fresh_salt() -> Result<Salt> {
    let mut salt = Salt::default();
    let drawn = SysRng.try_fill_bytes(&mut salt);
    drawn.map_err(|error| Error::new(Exit::Failed, "cannot draw random bytes").because(error))?;
    Ok(salt)
}
