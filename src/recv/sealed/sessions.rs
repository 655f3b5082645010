//! The sessions that messages can be opened under, as they come and go while sts-recv runs.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use bytes::BytesMut;

use crate::cache::{ReceiveState, StoredSession};
use crate::crypto::schedule::Digest;
use crate::link::unix_time;
use crate::message::SealedHeader;
use crate::session::SessionId;
use crate::sessions::{Answer, LinkSessions};
use crate::stream::{AcceptError, Receiver, StreamId, Streams};
use crate::{Error, Result};

/// The link's sessions, and the receiver that has those of them that are usable.
pub(super) struct UsableSessions {
    pub(super) link: LinkSessions,
    pub(super) receiver: Receiver,
    /// Per session, the number of the first stream whose beginning this run could see: what is missing below it was for
    /// an earlier run to report.
    visible_from: HashMap<SessionId, u32>,
}

impl UsableSessions {
    /// Nothing is usable before [`UsableSessions::adopt`].
    pub(super) fn new(link: LinkSessions) -> Self {
        Self { link, receiver: Receiver::new(), visible_from: HashMap::new() }
    }

    /// All stored sessions, usable or not.
    pub(super) fn stored(&self) -> Vec<&StoredSession> {
        self.link.stored().collect()
    }

    /// Gives the receiver the sessions that are usable now, new ones with what was received under them. One that is
    /// `unusable` has lost that: an old message under it could pass for a new one.
    pub(super) fn adopt(&mut self, unusable: &[SessionId], received: &ReceiveState) {
        let usable: Vec<_> = self
            .link
            .usable()
            .filter(|stored| !unusable.contains(&stored.session.id))
            .map(|stored| (stored.session.clone(), stored.standing))
            .collect();
        let known: HashSet<SessionId> = self.receiver.sessions().copied().collect();
        let new: Vec<_> = usable.iter().map(|(session, _)| session.id).filter(|id| !known.contains(id)).collect();
        self.receiver.update(usable);
        // Of sessions that are deleted nothing can come.
        let stored: HashSet<SessionId> = self.link.stored().map(|stored| stored.session.id).collect();
        self.receiver.forget_removed(|id| stored.contains(&id));
        self.visible_from.retain(|id, _| stored.contains(id));
        for id in new {
            let streams = received.session(id).map(|(streams, _)| streams.clone()).unwrap_or_default();
            self.visible_from.insert(id, streams.known_end());
            self.receiver.restore(id, streams);
        }
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
            self.adopt(&[], &ReceiveState::default());
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
        let (received, lost) = ReceiveState::look(self.link.cache(), &self.stored())?;
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

    pub(super) fn is_empty(&self) -> bool {
        self.receiver.sessions().next().is_none()
    }

    /// The peer's name on this device, for messages.
    pub(super) fn peer_name(&self, peer: &Digest) -> String {
        self.link.peer_name(peer)
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
    /// sts-pair answers. A session that the receiver does not have is as good as lost, though its file is there.
    ///
    /// # Errors
    /// As [`LinkSessions::answer`].
    pub(super) fn answer(&self, payload: &[u8]) -> Result<Option<Answer>> {
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

    /// Deletes retired sessions of which nothing is to come, except those that are still `needed`.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::drop_finished`].
    pub(super) fn delete_finished(&self, needed: impl Fn(SessionId) -> bool) -> Result<()> {
        for peer in self.receiver.peers() {
            let mut finished = self.receiver.finished(peer);
            finished.retain(|id| !needed(*id));
            if !finished.is_empty() {
                self.link.cache().drop_finished(peer, &finished, unix_time())?;
            }
        }
        Ok(())
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
