//! The sessions that messages can be opened under, as they come and go while sts-recv runs.
//!
//! All sessions of the link are listed, as [`crate::cache::Watch`] says, and those of a peer are loaded together when
//! something comes that may be of one of them: what a message continues or ends is of the same peer. A peer is unloaded when
//! others need its room, and only if all that was accepted of it is written down, nothing of it is held, and nothing is owed
//! to it. Then the disk has all that a message of it needs, as after a restart; this run forgets only by which tags it would
//! notice that two devices use one session.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::BytesMut;

use super::loaded_peers::LoadedPeers;
use super::receive_log::ReceiveLog;
use crate::cache::{FileChange, PeerKey, ReceiveState, StoredSession, peer_key};
use crate::crypto::schedule::Digest;
use crate::handshake::session_check;
use crate::link::unix_time;
use crate::message::SealedHeader;
use crate::session::SessionId;
use crate::sessions::{Answer, LinkSessions};
use crate::space_wait::disk_full;
use crate::stream::{AcceptError, Receiver, StreamId, Streams};
use crate::{Error, Result};

/// The link's sessions, and the receiver that has those of them that are loaded and usable.
pub(super) struct UsableSessions {
    pub(super) link: LinkSessions,
    pub(super) receiver: Receiver,
    loaded: LoadedPeers,
    /// Those that have lost what was received under them: an old message under one could pass for a new one.
    lost: HashSet<SessionId>,
    /// Per session, the number of the first stream whose beginning this run could see: what is missing below it was for
    /// an earlier run to report.
    visible_from: HashMap<SessionId, u32>,
    /// Peers whose sessions changed, for which [`UsableSessions::follow`] was not called yet.
    unfollowed: Vec<PeerKey>,
    /// The [version](LinkSessions::accepted_version) of the accepted peers at the last call of it.
    accepted_version: u64,
}

impl UsableSessions {
    /// Nothing is usable before it is loaded.
    pub(super) fn new(link: LinkSessions) -> Self {
        let (loaded, lost, visible_from) = (LoadedPeers::default(), HashSet::new(), HashMap::new());
        let accepted_version = link.accepted_version();
        Self { link, receiver: Receiver::new(), loaded, lost, visible_from, unfollowed: Vec::new(), accepted_version }
    }

    /// These have lost what was received under them.
    pub(super) fn set_lost(&mut self, lost: impl IntoIterator<Item = SessionId>) {
        self.lost.extend(lost);
    }

    /// Loads the sessions with a peer, with what was received under them, unless they are. `log` takes note of each.
    ///
    /// # Errors
    /// As [`LinkSessions::load`].
    pub(super) fn load(&mut self, peer: PeerKey, log: &mut ReceiveLog) -> Result<()> {
        // Those that are loaded are kept up to date by each look.
        if self.is_loaded(peer) {
            return Ok(());
        }
        self.link.load(peer)?;
        self.note_changes(log);
        for stored in self.link.loaded_of(peer) {
            log.journal.look_at_keys(&stored.session);
        }
        self.adopt(peer, log.state());
        Ok(())
    }

    fn is_loaded(&self, peer: PeerKey) -> bool {
        self.loaded.fingerprint(peer).is_some() && !self.link.loaded_of(peer).is_empty()
    }

    /// Gives the receiver the sessions with a peer that are usable now, new ones with what was received under them. A peer
    /// whose file is gone, damaged or without sessions is not loaded any more, neither here nor there: the next session is
    /// found as that of any peer.
    fn adopt(&mut self, peer: PeerKey, received: &ReceiveState) {
        let stored = self.link.loaded_of(peer).first().map(|stored| stored.session.peer);
        let Some(fingerprint) = stored.or_else(|| self.loaded.fingerprint(peer)) else { return };
        let usable = self.link.usable_of(peer).filter(|stored| !self.lost.contains(&stored.session.id));
        let usable: Vec<_> = usable.map(|stored| (stored.session.clone(), stored.standing)).collect();
        let ids: Vec<_> = usable.iter().map(|(session, _)| session.id).collect();
        let new: Vec<_> = ids.iter().copied().filter(|id| self.receiver.session(*id).is_none()).collect();
        for id in self.receiver.of_peer(&fingerprint).iter().filter(|id| !ids.contains(id)) {
            self.visible_from.remove(id);
        }
        self.receiver.update_peer(&fingerprint, usable);
        for id in new {
            let streams = received.session(id).map(|(streams, _)| streams.clone()).unwrap_or_default();
            self.visible_from.entry(id).or_insert_with(|| streams.known_end());
            self.receiver.restore(id, streams);
        }
        if stored.is_some() {
            self.loaded.insert(peer, fingerprint);
        } else {
            self.loaded.remove(peer);
            self.link.unload(&[peer]);
        }
    }

    /// `log` takes note of the sessions that came or went since the last call, in each file that changed. This comes
    /// before the receiver gets any of them. A file that is loaded may be newer than the list, and the next look finds
    /// nothing new in it.
    fn note_changes(&mut self, log: &mut ReceiveLog) {
        for FileChange { peer, before } in self.link.take_changes() {
            self.unfollowed.push(peer);
            let now = self.link.listed_of(peer);
            let gone = before.into_iter().filter(|id| now.iter().all(|listed| listed.id != *id));
            let gone: Vec<SessionId> = gone.collect();
            log.journal.forget(&gone);
            self.lost.extend(log.journal.adopt(&now));
            for id in &gone {
                self.lost.remove(id);
                self.visible_from.remove(id);
            }
        }
    }

    /// Takes over what changed since the last call: the sessions of each file that changed, and those of all peers if
    /// others may be accepted now. `log` takes note of it. Not all files each time: while thousands of devices pair,
    /// one file after the other changes.
    pub(super) fn follow(&mut self, log: &mut ReceiveLog) {
        self.note_changes(log);
        let accepted_version = self.link.accepted_version();
        let mut changed = std::mem::take(&mut self.unfollowed);
        if std::mem::replace(&mut self.accepted_version, accepted_version) != accepted_version {
            changed = self.loaded_peers().collect();
        }
        for peer in changed {
            if self.loaded.fingerprint(peer).is_some() {
                self.adopt(peer, log.state());
            }
        }
        // Of sessions that are deleted nothing can come.
        self.receiver.forget_removed(|id| self.link.is_stored(id));
    }

    /// Whether loading found a change since the last call that is still to be followed.
    pub(super) fn has_unfollowed(&self) -> bool {
        !self.unfollowed.is_empty()
    }

    /// Loads the sessions of which a payload may be one; true if any was not loaded.
    ///
    /// # Errors
    /// As [`UsableSessions::load`].
    pub(super) fn load_for(&mut self, payload: &[u8], log: &mut ReceiveLog) -> Result<bool> {
        let Ok(SealedHeader { tag, .. }) = SealedHeader::parse(payload) else { return Ok(false) };
        let unloaded = self.link.unloaded_with_tag(tag);
        for peer in &unloaded {
            self.load(*peer, log)?;
        }
        Ok(!unloaded.is_empty())
    }

    /// A message of a peer was opened.
    pub(super) fn touch(&mut self, peer: &Digest) {
        self.loaded.touch(peer_key(peer));
    }

    /// Unloads peers that were used least recently, if too many are loaded. One of which something `is_needed`, or not
    /// written down, stays.
    pub(super) fn unload_excess(&mut self, log: &mut ReceiveLog, is_needed: impl Fn(SessionId) -> bool) {
        let excess = self.loaded.excess();
        if !excess.is_empty() {
            self.unload(&excess, log, is_needed);
        }
    }

    pub(super) fn unload(
        &mut self,
        peers: &[(PeerKey, Digest)],
        log: &mut ReceiveLog,
        is_needed: impl Fn(SessionId) -> bool,
    ) {
        let is_idle = |id: &SessionId| {
            let accepted = self.receiver.streams(*id);
            let written = log.state().session(*id).map(|(streams, _)| streams);
            let is_written = match (accepted, written) {
                (Some(accepted), Some(written)) => accepted == written,
                (Some(accepted), None) => accepted.is_empty(),
                (None, _) => true,
            };
            is_written && !log.confirms.involves(*id) && !is_needed(*id)
        };
        let mut unloaded = Vec::new();
        for (peer, fingerprint) in peers {
            if self.receiver.of_peer(fingerprint).iter().all(is_idle) {
                unloaded.push((*peer, *fingerprint));
            }
        }
        for (peer, fingerprint) in &unloaded {
            for id in self.receiver.of_peer(fingerprint) {
                log.confirms.forget_session(*id);
            }
            self.receiver.unload(fingerprint);
            self.loaded.remove(*peer);
        }
        self.link.unload(&unloaded.iter().map(|(peer, _)| *peer).collect::<Vec<_>>());
    }

    /// Whether a session is not known to be unusable: it is loaded and usable, or it is not loaded.
    pub(super) fn may_be_usable(&self, id: SessionId) -> bool {
        let is_unloaded = || {
            let peer = self.link.peer_with(id).filter(|_| !self.lost.contains(&id));
            peer.is_some_and(|peer| self.loaded.fingerprint(peer).is_none())
        };
        self.receiver.session(id).is_some() || is_unloaded()
    }

    /// Loads sessions until one is usable; false if none is.
    ///
    /// # Errors
    /// As [`UsableSessions::load`].
    pub(super) fn load_any(&mut self, log: &mut ReceiveLog) -> Result<bool> {
        if !self.is_empty() {
            return Ok(true);
        }
        for peer in self.link.listed_peers() {
            if self.loaded.fingerprint(peer).is_some() {
                continue;
            }
            self.load(peer, log)?;
            if !self.is_empty() {
                return Ok(true);
            }
            if let Some(fingerprint) = self.loaded.fingerprint(peer) {
                self.unload(&[(peer, fingerprint)], log, |_| false);
            }
        }
        Ok(false)
    }

    /// Gives the receiver all sessions that are loaded and usable, new ones without what was received under them.
    pub(super) fn adopt_all(&mut self) {
        for peer in self.link.listed_peers() {
            self.adopt(peer, &ReceiveState::default());
        }
        self.receiver.forget_removed(|id| self.link.is_stored(id));
    }

    /// Each key is in memory once: where the receiver has it.
    pub(super) fn share_keys(&mut self) {
        self.link.share_keys(|id| self.receiver.session(id));
    }

    /// Gives the receiver the sessions that are usable now, without what was received under new ones. Nothing is
    /// written.
    ///
    /// # Errors
    /// As [`LinkSessions::refresh_if_due`].
    pub(super) fn look_for_sessions(&mut self, now: Instant) -> Result<()> {
        if self.link.refresh_if_due(now)? {
            let loaded = self.loaded.all();
            self.adopt_all();
            // Of those that are gone there is no file any more.
            for (peer, _) in loaded {
                self.adopt(peer, &ReceiveState::default());
            }
        }
        Ok(())
    }

    /// Gives the receiver what was received under its sessions up to now, by whichever run. Of a session that has lost
    /// that, everything may have been received. Nothing is written.
    ///
    /// # Errors
    /// As [`UsableSessions::look_for_sessions`] and [`ReceiveState::look`].
    pub(super) fn look(&mut self, now: Instant) -> Result<()> {
        self.look_for_sessions(now)?;
        let (received, lost) = ReceiveState::look(self.link.cache(), &self.link.listed())?;
        for (id, streams) in received.into_streams() {
            self.receiver.restore(id, streams);
        }
        for id in lost {
            let mut all = Streams::default();
            all.insert_closed(0, u32::MAX);
            self.receiver.restore(id, all);
        }
        Ok(())
    }

    /// Whether no session is loaded and usable.
    pub(super) fn is_empty(&self) -> bool {
        self.receiver.sessions().next().is_none()
    }

    /// The sessions that were usable at any time in this run, and are stored; each with the number of the first stream whose
    /// beginning this run could see.
    pub(super) fn seen(&self) -> Vec<(SessionId, u32)> {
        self.visible_from.iter().map(|(id, first)| (*id, *first)).collect()
    }

    /// As [`LinkSessions::loaded_peer_name`]: that of a peer of which a message was opened.
    pub(super) fn loaded_peer_name(&self, peer: &Digest) -> String {
        self.link.loaded_peer_name(peer)
    }

    /// As when another run begins.
    #[cfg(test)]
    pub(super) fn see_anew(&mut self) {
        self.visible_from.clear();
    }

    /// The number of the first stream of a session whose beginning this run could see.
    pub(super) fn visible_from(&self, id: SessionId) -> u32 {
        self.visible_from.get(&id).copied().unwrap_or(0)
    }

    /// Whether nothing of a stream was accepted, and something may be.
    pub(super) fn is_new(&self, StreamId { session, number }: StreamId) -> bool {
        let is_new = |streams: &Streams| streams.next_seq(number).is_none() && !streams.is_over(number);
        self.receiver.streams(session).is_some_and(is_new)
    }

    /// Whether nothing more is accepted of a stream.
    pub(super) fn is_over(&self, StreamId { session, number }: StreamId) -> bool {
        self.receiver.streams(session).is_some_and(|streams| streams.is_over(number))
    }

    /// The answer to a payload that asks whether a session is still here; `None` for any other payload, and while
    /// sts-pair answers. A session that the receiver does not have is as good as lost, though its file is there. Whoever asks
    /// without its key has nothing loaded.
    ///
    /// # Errors
    /// As [`LinkSessions::answer`].
    pub(super) fn answer(&mut self, payload: &[u8], log: &mut ReceiveLog) -> Result<Option<Answer>> {
        let asked = session_check::query_session(payload).and_then(|id| self.link.peer_with(id));
        let Some(peer) = asked else { return Ok(None) };
        if !self.is_loaded(peer) {
            let is_authentic = self.link.load_to_answer(payload, peer);
            self.note_changes(log);
            if !is_authentic {
                return Ok(None);
            }
            self.load(peer, log)?;
        }
        self.link.answer(payload, |session| self.receiver.session(session.id).is_some())
    }

    /// The stored session under which a payload is authentic and new, if only the configuration keeps it out, and how.
    /// `None` on a link with wildcards: what one device sends must not hold up the others.
    pub(super) fn keeping_out(&self, payload: &[u8], state: &ReceiveState) -> Option<(SessionId, Error)> {
        // First, as such a link may have thousands of sessions.
        if self.link.peers.route.is_wildcard() {
            return None;
        }
        let tag = SealedHeader::parse(payload).ok()?.tag;
        let with_tag = self.link.stored().filter(|stored| stored.session.tag() == tag);
        let kept_out = with_tag.filter_map(|stored| Some((stored, self.link.keeps_out(&stored.session)?)));
        let mut kept_out = kept_out.filter(|(stored, _)| has_new_data(payload, stored, state));
        kept_out.next().map(|(stored, why)| (stored.session.id, why))
    }

    /// The peers that are loaded.
    pub(super) fn loaded_peers(&self) -> impl Iterator<Item = PeerKey> {
        self.loaded.all().into_iter().map(|(peer, _)| peer)
    }

    /// Deletes retired sessions with a peer of which nothing is to come, except those that are still `needed`; none while the
    /// disk is full.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::drop_finished`].
    pub(super) fn delete_finished(&self, peer: PeerKey, needed: impl Fn(SessionId) -> bool) -> Result<()> {
        let Some(fingerprint) = self.loaded.fingerprint(peer) else { return Ok(()) };
        let mut finished = self.receiver.finished(&fingerprint);
        finished.retain(|id| !needed(*id));
        if finished.is_empty() {
            return Ok(());
        }
        let deleted = self.link.cache().drop_finished(&fingerprint, &finished, unix_time());
        // Nothing comes of them: they are deleted after the next change, or by the next run.
        if disk_full(&deleted).is_some() { Ok(()) } else { deleted.map(drop) }
    }
}

/// Whether a payload is authentic under a session, and its data was not received before.
fn has_new_data(payload: &[u8], stored: &StoredSession, state: &ReceiveState) -> bool {
    let id = stored.session.id;
    let mut receiver = Receiver::new();
    receiver.add(stored.session.clone(), stored.standing);
    receiver.restore(id, state.session(id).map(|(streams, _)| streams.clone()).unwrap_or_default());
    let opened = receiver.open(payload, &mut BytesMut::new());
    opened.is_ok_and(|opened| match receiver.accept(&opened) {
        Ok(_) | Err(AcceptError::Ahead { .. } | AcceptError::Unreadable) => !opened.stream.is_side_stream(),
        Err(_) => false,
    })
}
