//! The sessions under which a receiver opens, and what was received under each; messages come in `accept`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::keys::StreamKeys;
use super::progress::Announced;
use super::ranges::Ranges;
use super::streams::Streams;
use crate::crypto::schedule::Digest;
use crate::message::SessionTag;
use crate::session::{Session, SessionId, Standing};

/// A session, and what was received under it.
pub(super) struct SessionEntry {
    pub(super) session: Session,
    pub(super) standing: Standing,
    pub(super) keys: StreamKeys,
    pub(super) streams: Streams,
    /// The peer's streams of confirms, which only a sender that waits for them looks at; never stored.
    pub(super) confirms: Streams,
    /// The streams that have not begun and that others named as the next ones, by number; never stored: without
    /// it, a stream closes what it may continue until a later one tells, and both are reported.
    pub(super) announced: BTreeMap<u32, Announced>,
    /// The streams that were put where another one announced them, by number: the position at which each began. A later
    /// stream may tell another one; never stored, as what it tells shows those that were put too far on.
    pub(super) assumed: BTreeMap<u32, u64>,
}

/// Opens what comes on one link, from any number of peers, under any number of sessions with each.
#[derive(Default)]
pub(crate) struct Receiver {
    /// Boxed, as a table is up to twice as large as what is in it.
    pub(super) sessions: HashMap<SessionId, Box<SessionEntry>>,
    by_tag: HashMap<SessionTag, Vec<SessionId>>,
    /// The sessions of a peer, newest first.
    by_peer: HashMap<Digest, Vec<SessionId>>,
    /// Of sessions that were removed: should one come back, what was written stays written.
    gone: HashMap<SessionId, Streams>,
}

/// Everything but keys, in a fixed order, so that two states can be compared.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<_> = self.sessions.keys().collect();
        ids.sort_unstable();
        let entry = |id| {
            let SessionEntry { standing, streams, announced, assumed, .. } = &*self.sessions[id];
            (id, standing, streams, announced, assumed)
        };
        f.debug_list().entries(ids.into_iter().map(entry)).finish()
    }
}

impl Receiver {
    /// A receiver without sessions.
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a session as its peer's newest; one that is known keeps its streams, and only its standing changes.
    pub(crate) fn add(&mut self, mut session: Session, standing: Standing) {
        let (id, peer) = (session.id, session.peer);
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.standing = standing;
            return;
        }
        self.by_tag.entry(session.tag()).or_default().push(id);
        let of_peer = self.by_peer.entry(peer).or_default();
        if !of_peer.contains(&id) {
            of_peer.insert(0, id);
        }
        let streams = self.gone.remove(&id).unwrap_or_default();
        let keys = StreamKeys::new(&mut session, &streams);
        let confirms = Streams::default();
        let (announced, assumed) = (BTreeMap::new(), BTreeMap::new());
        let entry = SessionEntry { session, standing, keys, streams, confirms, announced, assumed };
        self.sessions.insert(id, Box::new(entry));
    }

    /// Removes a session: its key is gone, and what is still on its way under it does not open any more.
    pub(crate) fn remove(&mut self, id: SessionId) {
        let Some(entry) = self.sessions.remove(&id) else { return };
        let without = |list: Option<&mut Vec<SessionId>>| {
            list.is_some_and(|list| {
                list.retain(|other| *other != id);
                list.is_empty()
            })
        };
        if without(self.by_tag.get_mut(&entry.session.tag())) {
            self.by_tag.remove(&entry.session.tag());
        }
        if without(self.by_peer.get_mut(&entry.session.peer)) {
            self.by_peer.remove(&entry.session.peer);
        }
        if !entry.streams.is_empty() {
            self.gone.insert(id, entry.streams);
        }
    }

    /// Forgets what was received under sessions that were removed, except those that `may_return`.
    pub(crate) fn forget_removed(&mut self, may_return: impl Fn(SessionId) -> bool) {
        self.gone.retain(|id, _| may_return(*id));
    }

    /// Makes these its sessions: adds the new ones, removes the others; those of one peer come newest first.
    pub(crate) fn update(&mut self, sessions: impl IntoIterator<Item = (Session, Standing)>) {
        let sessions: Vec<_> = sessions.into_iter().collect();
        let kept: HashSet<SessionId> = sessions.iter().map(|(session, _)| session.id).collect();
        let removed: Vec<_> = self.sessions.keys().filter(|id| !kept.contains(*id)).copied().collect();
        for id in removed {
            self.remove(id);
        }
        self.by_peer.clear();
        for (session, _) in &sessions {
            self.by_peer.entry(session.peer).or_default().push(session.id);
        }
        for (session, standing) in sessions {
            self.add(session, standing);
        }
    }

    /// Makes these its sessions with a peer, newest first, as [`Receiver::update`] does with those of all peers.
    pub(crate) fn update_peer(&mut self, peer: &Digest, sessions: Vec<(Session, Standing)>) {
        let ids: Vec<SessionId> = sessions.iter().map(|(session, _)| session.id).collect();
        for id in self.of_peer(peer).to_vec() {
            if !ids.contains(&id) {
                self.remove(id);
            }
        }
        if !ids.is_empty() {
            self.by_peer.insert(*peer, ids);
        }
        for (session, standing) in sessions {
            self.add(session, standing);
        }
    }

    /// Forgets the sessions with a peer, of which all that was accepted is written down: whoever adds them again
    /// [restores](Receiver::restore) what that says.
    pub(crate) fn unload(&mut self, peer: &Digest) {
        for id in self.of_peer(peer).to_vec() {
            self.remove(id);
            self.gone.remove(&id);
        }
    }

    /// Puts back what was written down of a session's streams; true if the session is known.
    pub(crate) fn restore(&mut self, id: SessionId, streams: Streams) -> bool {
        let Some(entry) = self.sessions.get_mut(&id) else { return false };
        entry.keys = StreamKeys::new(&mut entry.session, &streams);
        entry.streams = streams;
        true
    }

    /// The ids of its sessions, in no order.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.sessions.keys()
    }

    /// A session of this id.
    #[must_use]
    pub(crate) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id).map(|entry| &entry.session)
    }

    /// The peers of its sessions, in no order.
    #[cfg(test)]
    pub(crate) fn peers(&self) -> impl Iterator<Item = &Digest> {
        self.by_peer.keys()
    }

    /// The sessions of a peer, newest first.
    pub(crate) fn of_peer(&self, peer: &Digest) -> &[SessionId] {
        self.by_peer.get(peer).map_or(&[], Vec::as_slice)
    }

    /// The streams of a session.
    #[must_use]
    pub(crate) fn streams(&self, id: SessionId) -> Option<&Streams> {
        self.sessions.get(&id).map(|entry| &entry.streams)
    }

    /// The sessions with `peer` whose keys are not needed any more: retired, all their streams are over, and something
    /// was opened under a newer one.
    #[must_use]
    pub(crate) fn finished(&self, peer: &Digest) -> Vec<SessionId> {
        let mut newer = false;
        let mut finished = Vec::new();
        for id in self.by_peer.get(peer).into_iter().flatten() {
            let entry = &self.sessions[id];
            if newer && entry.standing == Standing::Retired && entry.streams.are_over() {
                finished.push(*id);
            }
            newer |= !(entry.streams.is_empty() && entry.confirms.is_empty());
        }
        finished
    }

    /// This session and every older one with the same peer, newest first: what a KILL under it ends.
    #[must_use]
    pub(crate) fn ended_by(&self, id: SessionId) -> &[SessionId] {
        let Some(entry) = self.sessions.get(&id) else { return &[] };
        let all = self.by_peer.get(&entry.session.peer).map_or(&[][..], Vec::as_slice);
        &all[all.iter().position(|other| *other == id).unwrap_or(all.len())..]
    }

    /// The streams of a session below `end` that are not complete; without an end, below the highest that is known.
    #[must_use]
    pub(crate) fn outstanding(&self, id: SessionId, end: Option<u32>) -> Ranges {
        self.streams(id).map(|streams| streams.outstanding(end)).unwrap_or_default()
    }

    /// The sessions of which a message with this tag may be one, if there are any.
    pub(super) fn with_tag(&self, tag: SessionTag) -> Option<impl Iterator<Item = &SessionEntry>> {
        Some(self.by_tag.get(&tag)?.iter().map(|id| &*self.sessions[id]))
    }

    pub(super) fn entry_mut(&mut self, id: SessionId) -> Option<&mut SessionEntry> {
        self.sessions.get_mut(&id).map(Box::as_mut)
    }

    /// Of the others, the current one retires; an older pending one is late, a newer one may still be the next.
    pub(super) fn promote(&mut self, id: SessionId, peer: &Digest) {
        let mut older = false;
        for other in self.by_peer.get(peer).into_iter().flatten() {
            let Some(entry) = self.sessions.get_mut(other) else { continue };
            if *other == id {
                entry.standing = Standing::Current;
                older = true;
            } else if entry.standing == Standing::Current || older {
                entry.standing = Standing::Retired;
            }
        }
    }
}
