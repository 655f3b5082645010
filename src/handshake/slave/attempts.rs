//! The authentic attempts of a slave. Each is found by what a frame or a caller names, so that a frame costs the same with
//! a hundred thousand of them as with one. What they are found by is public: ids, keys of peers, and tags of sessions.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::hash::Hash;
use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::attempt::{AttemptState, VerifiedAttempt};
use crate::crypto::schedule::{AttemptId, Digest};
use crate::handshake::{Established, Repeat};
use crate::message::SessionTag;
use crate::session::{SessionId, tag};

/// How long an attempt is kept, since its master may repeat itself. A stored session is kept longer, for its proof.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);
/// Authenticated attempts kept for each peer; the oldest makes room.
pub(super) const MAX_ATTEMPTS_PER_PEER: usize = 4;

/// An attempt as it is kept. Its secrets stay where they are while a map grows. The tests count how often one is looked at.
#[cfg(not(test))]
type Kept = Box<VerifiedAttempt>;
#[cfg(test)]
type Kept = crate::looks::Counted<VerifiedAttempt>;

/// All authentic attempts that are kept.
#[derive(Default)]
pub(super) struct Attempts {
    by_id: HashMap<AttemptId, Kept>,
    /// Those with each peer by the fingerprint of its key, oldest first, which decides which one makes room.
    by_peer: HashMap<Digest, Vec<AttemptId>>,
    /// Whether they count as those of one peer: a device that has the code may show any number of keys.
    are_by_code: bool,
    /// Those whose session is stored as pending.
    pending: HashMap<SessionTag, Vec<AttemptId>>,
    /// When step 6 is sent again, and for which of them.
    repeats: BTreeSet<(Instant, AttemptId)>,
}

/// The attempts; nothing depends on how they are found.
impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_id.values()).finish()
    }
}

impl Attempts {
    /// None yet; with a code, all of them together have the bound of one peer.
    pub(super) fn new(are_by_code: bool) -> Self {
        Self { are_by_code, ..Self::default() }
    }

    pub(super) fn get(&self, id: &AttemptId) -> Option<&VerifiedAttempt> {
        self.by_id.get(id).map(|kept| -> &VerifiedAttempt { kept })
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Keeps a new one. If its peer has too many, the oldest of them makes room; its id is returned.
    pub(super) fn keep(&mut self, new: VerifiedAttempt) -> Option<AttemptId> {
        let peer = self.peer_of(&new);
        let of_peer = self.by_peer.entry(peer).or_default();
        let oldest = (of_peer.len() >= MAX_ATTEMPTS_PER_PEER).then(|| of_peer[0]);
        of_peer.push(new.id);
        self.by_id.insert(new.id, new.into());
        oldest.inspect(|oldest| self.remove(oldest))
    }

    /// Its session is stored as pending: step 6 is sent again until the master proves to have it.
    pub(super) fn await_master_ready(&mut self, id: &AttemptId, repeat: Repeat) {
        let Some(attempt) = self.by_id.get_mut(id) else { return };
        self.repeats.insert((repeat.due, *id));
        self.pending.entry(tag(attempt.session.keys.id)).or_default().push(*id);
        attempt.state = AttemptState::AwaitingMasterReady(Some(repeat));
    }

    /// The master proved to have the session.
    pub(super) fn finish(&mut self, id: &AttemptId) {
        self.stop_waiting(id);
        if let Some(attempt) = self.by_id.get_mut(id) {
            attempt.state = AttemptState::Done;
        }
    }

    /// When step 6 is to be sent again, of any of them.
    pub(super) fn next_repeat(&self) -> Option<Instant> {
        self.repeats.first().map(|(due, _)| *due)
    }

    /// One whose step 6 is to be sent again at `now`; call again until there is none.
    pub(super) fn poll_repeat(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Option<&VerifiedAttempt> {
        let (_, id) = self.repeats.first().filter(|(due, _)| *due <= now).copied()?;
        self.repeats.pop_first();
        let attempt = self.by_id.get_mut(&id)?;
        if let AttemptState::AwaitingMasterReady(Some(repeat)) = &mut attempt.state {
            repeat.is_due(now, rng);
            self.repeats.insert((repeat.due, id));
        }
        Some(attempt)
    }

    /// The sessions that are stored as pending and wait for their master's proof.
    pub(super) fn pending(&self) -> impl Iterator<Item = &Established> {
        self.pending.values().flatten().filter_map(|id| self.get(id)).map(|attempt| &attempt.session)
    }

    /// Those of them to which a sealed message with this tag may belong.
    pub(super) fn pending_with(&self, tag: SessionTag) -> impl Iterator<Item = &Established> {
        self.pending_attempts(tag).map(|attempt| &attempt.session)
    }

    /// The attempt that led to this pending session.
    pub(super) fn of_pending(&self, session: SessionId) -> Option<&VerifiedAttempt> {
        self.pending_attempts(tag(session)).find(|attempt| attempt.session.keys.id == session)
    }

    fn pending_attempts(&self, tag: SessionTag) -> impl Iterator<Item = &VerifiedAttempt> {
        self.pending.get(&tag).into_iter().flatten().filter_map(|id| self.get(id))
    }

    /// Whether its master has gone on to a later attempt: a step 5 that was held back must not be stored over that one.
    pub(super) fn is_superseded(&self, attempt: &VerifiedAttempt) -> bool {
        let of_peer = self.by_peer.get(&self.peer_of(attempt)).map_or(&[][..], Vec::as_slice);
        let mut later = of_peer.iter().rev().take_while(|id| **id != attempt.id).filter_map(|id| self.get(id));
        let is_stored =
            |other: &VerifiedAttempt| other.is_stored() && other.session.peer.key == attempt.session.peer.key;
        attempt.awaits_request() && later.any(is_stored)
    }

    /// Discards those that are too old, and returns their ids. A session that waits for its proof stays; its step 6 is sent
    /// no more.
    pub(super) fn discard_expired(&mut self, now: Instant) -> Vec<AttemptId> {
        let is_expired = |attempt: &VerifiedAttempt| now.saturating_duration_since(attempt.since) >= ATTEMPT_TIMEOUT;
        let (mut unproved, mut discarded) = (Vec::new(), Vec::new());
        for attempt in self.by_id.values_mut().filter(|attempt| is_expired(attempt)) {
            if let AttemptState::AwaitingMasterReady(repeat) = &mut attempt.state {
                unproved.extend(repeat.take().map(|repeat| (repeat.due, attempt.id)));
            } else {
                discarded.push(attempt.id);
            }
        }
        for repeat in unproved {
            self.repeats.remove(&repeat);
        }
        for id in &discarded {
            self.remove(id);
        }
        // A storm of pairings leaves no room behind that nobody needs.
        self.by_id.shrink_to_fit();
        self.by_peer.shrink_to_fit();
        self.pending.shrink_to_fit();
        discarded
    }

    /// Drops those whose peer is no longer accepted.
    pub(super) fn retain(&mut self, is_accepted: impl Fn(&VerifiedAttempt) -> bool) {
        let strangers: Vec<_> = self.by_id.values().filter(|attempt| !is_accepted(attempt)).map(|it| it.id).collect();
        for id in &strangers {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: &AttemptId) {
        self.stop_waiting(id);
        if let Some(removed) = self.by_id.remove(id) {
            let peer = self.peer_of(&removed);
            remove_from(&mut self.by_peer, peer, id);
        }
    }

    /// Takes it out of those that wait for a proof.
    fn stop_waiting(&mut self, id: &AttemptId) {
        let Some(attempt) = self.by_id.get(id) else { return };
        if let AttemptState::AwaitingMasterReady(repeat) = &attempt.state {
            if let Some(repeat) = repeat {
                self.repeats.remove(&(repeat.due, *id));
            }
            remove_from(&mut self.pending, tag(attempt.session.keys.id), id);
        }
    }

    /// Whose bound it counts for.
    fn peer_of(&self, attempt: &VerifiedAttempt) -> Digest {
        if self.are_by_code { Digest::default() } else { *attempt.session.peer.key.fingerprint().as_bytes() }
    }
}

/// Removes an id from those that are found by this key.
fn remove_from<K: Eq + Hash>(index: &mut HashMap<K, Vec<AttemptId>>, key: K, id: &AttemptId) {
    if let Entry::Occupied(mut found) = index.entry(key) {
        found.get_mut().retain(|other| other != id);
        if found.get().is_empty() {
            found.remove();
        }
    }
}
