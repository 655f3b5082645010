//! The sessions of a tool that receives from any number of peers: all of them are listed, and those of a peer are loaded when
//! it sends.

use std::time::{Instant, SystemTime};

use super::LinkSessions;
use crate::Result;
use crate::cache::{FileChange, ListedSession, PeerKey, StoredSession, Watch, peer_key};
use crate::handshake::AcceptedPeers;
use crate::link::Link;
use crate::message::SessionTag;
use crate::peers::LinkPeers;
use crate::session::SessionId;

impl LinkSessions {
    /// As [`LinkSessions::open`], with no session loaded.
    ///
    /// # Errors
    /// As [`LinkSessions::open`].
    pub(crate) fn list(link: &Link, peers: LinkPeers, now: Instant) -> Result<Self> {
        let cache = link.cache()?;
        let accepted = peers.accepted_at_start()?;
        let watch = Watch::list(&cache, now, SystemTime::now())?;
        Ok(Self::of(link, peers, accepted, cache, watch))
    }

    /// Whether the link has a usable session: of a hundred thousand files, most often the first one tells.
    ///
    /// # Errors
    /// As [`LinkSessions::open`] and [`LinkPeers::look_up`].
    pub(crate) fn has_usable(link: &Link, mut peers: LinkPeers) -> Result<bool> {
        let accepted = peers.accepted_at_start()?;
        link.cache()?.any(|session| {
            let found = peers.look_up(&session.peer)?;
            let is_usable = match found {
                Some(peer) => peers.peer_of(session, &AcceptedPeers::from_iter([peer])).is_some(),
                None => peers.peer_of(session, &accepted).is_some(),
            };
            peers.forget(&[peer_key(&session.peer)]);
            Ok(is_usable)
        })
    }

    /// All stored sessions, loaded or not; those with one peer stand together, newest first.
    pub(crate) fn listed(&self) -> Vec<ListedSession> {
        self.watch.listed().collect()
    }

    /// All stored sessions with a peer, loaded or not, newest first.
    pub(crate) fn listed_of(&self, peer: PeerKey) -> Vec<ListedSession> {
        self.watch.of(peer)
    }

    /// All peers with a file of sessions, in the order of [`LinkSessions::listed`].
    pub(crate) fn listed_peers(&self) -> Vec<PeerKey> {
        self.watch.peers().collect()
    }

    /// All stored sessions with a peer that are loaded, usable or not, newest first.
    pub(crate) fn loaded_of(&self, peer: PeerKey) -> &[StoredSession] {
        self.watch.loaded_of(peer)
    }

    /// The peer of a session, loaded or not.
    pub(crate) fn peer_with(&self, id: SessionId) -> Option<PeerKey> {
        self.watch.peer_of(id)
    }

    /// The peers that are not loaded and have a session with this tag.
    pub(crate) fn unloaded_with_tag(&self, tag: SessionTag) -> Vec<PeerKey> {
        self.watch.unloaded_with_tag(tag)
    }

    /// Reads the sessions with a peer, and whether it is accepted; true if it has any session.
    ///
    /// # Errors
    /// As [`LinkPeers::look_up`].
    pub(crate) fn load(&mut self, peer: PeerKey) -> Result<bool> {
        let has_any = self.watch.load(&self.cache, peer, SystemTime::now());
        if let Some(fingerprint) = self.watch.loaded_of(peer).first().map(|stored| stored.session.peer)
            && let Some(known) = self.peers.look_up(&fingerprint)?
        {
            self.accepted.extend([known]);
        }
        Ok(has_any)
    }

    /// Looks for the peers of which sessions are loaded and that were not known: they may be trusted by now.
    pub(super) fn look_up_loaded(&mut self) -> Result<()> {
        for stored in self.watch.sessions() {
            self.peers.look_up(&stored.session.peer)?;
        }
        Ok(())
    }

    /// Forgets what [`LinkSessions::load`] read of these peers.
    pub(crate) fn unload(&mut self, peers: &[PeerKey]) {
        for peer in peers {
            self.watch.unload(*peer);
        }
        if self.peers.forget(peers) {
            self.accepted = self.peers.still_accepted(&self.accepted);
        }
    }

    /// The sessions with a peer that are loaded and usable, newest first.
    pub(crate) fn usable_of(&self, peer: PeerKey) -> impl Iterator<Item = &StoredSession> {
        self.watch.loaded_of(peer).iter().filter(|stored| self.is_usable(&stored.session))
    }

    /// The files of which the sessions changed since the last call, or their standings.
    pub(crate) fn take_changes(&mut self) -> Vec<FileChange> {
        self.watch.take_changes()
    }
}
