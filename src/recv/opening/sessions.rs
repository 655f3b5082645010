//! The sessions of a link as they come and go beside a run, and what is known of them.

use std::collections::HashSet;
use std::time::{Instant, SystemTime};

use super::{Opening, What};
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::handshake::session_check;
use crate::link::unix_time;
use crate::session::{Session, SessionId};
use crate::stream::StreamId;

impl Opening<'_> {
    /// Gives the receiver the sessions that are usable now.
    pub(super) fn adopt(&mut self, unusable: &[SessionId]) {
        let usable: Vec<_> = self
            .watch
            .sessions()
            .filter(|stored| !unusable.contains(&stored.session.id))
            .filter(|stored| self.ends.peer_of(&stored.session, &self.peers).is_some())
            .map(|stored| (stored.session.clone(), stored.standing))
            .collect();
        let known: HashSet<SessionId> = self.receiver.sessions().copied().collect();
        let new: Vec<_> = usable.iter().map(|(session, _)| session.id).filter(|id| !known.contains(id)).collect();
        self.receiver.update(usable);
        for id in new {
            let streams = self.journal.state().session(id).map(|(streams, _)| streams.clone()).unwrap_or_default();
            self.first.insert(id, streams.known_end());
            self.receiver.restore(id, streams);
        }
    }

    /// Looks whether sessions came or went; one stat where none did.
    pub(super) fn look(&mut self, now: Instant) -> Result<bool> {
        let changed = self.watch.refresh(&self.cache, now, SystemTime::now())?;
        if self.ends.refresh()? {
            self.peers = self.ends.still_accepted();
        } else if !changed {
            return Ok(false);
        }
        let stored: Vec<_> = self.watch.sessions().cloned().collect();
        let unusable = self.journal.adopt(&stored);
        self.adopt(&unusable);
        for peer in self.receiver.peers() {
            let mut finished = self.receiver.finished(peer);
            finished.retain(|id| !self.held.needs(*id));
            if !finished.is_empty() {
                self.cache.drop_finished(peer, &finished, unix_time())?;
            }
        }
        // What is written down as over has nothing on its way to standard output either.
        let state = self.journal.state();
        let is_over = |stream: &StreamId| {
            state.session(stream.session).is_some_and(|(streams, _)| streams.is_over(stream.number))
        };
        self.origins.retain(|stream, _| self.receiver.session(stream.session).is_some() && !is_over(stream));
        Ok(true)
    }

    /// The first of the streams that this one goes on from, or itself.
    pub(super) fn origin(&self, stream: StreamId) -> StreamId {
        self.origins.get(&stream).copied().unwrap_or(stream)
    }

    /// Takes note that a stream goes on from another; so do then those that are known to go on from it.
    pub(super) fn goes_on_from(&mut self, stream: StreamId, before: StreamId) {
        let origin = self.origin(before);
        if origin == stream || self.origins.contains_key(&stream) {
            return;
        }
        for other in self.origins.values_mut().filter(|other| **other == stream) {
            *other = origin;
        }
        self.origins.insert(stream, origin);
    }

    /// Answers a peer that asks whether a session of it is still here.
    pub(super) fn answer(&mut self, payload: &[u8], now: Instant) -> Result<What> {
        let Some(id) = session_check::query_session(payload) else { return Ok(What::Dropped) };
        if self.watch.is_due(now) {
            self.look(now)?;
        }
        // What this cannot open is as good as lost, though its file is there.
        let can_use = |session: &Session| self.receiver.session(session.id).is_some();
        let answer = self.cache.answer(payload, &self.watch, can_use, unix_time())?;
        let (Some(answer), Some(session)) = (answer, self.receiver.session(id)) else { return Ok(What::Dropped) };
        Ok(What::Asked { topic: self.ends.route.publish(&session.topics).to_owned(), answer })
    }

    /// The peer's name here, for messages.
    pub(in crate::recv) fn name(&self, peer: &Digest) -> String {
        self.peers.get(peer).map_or_else(|| "a peer".to_owned(), |known| known.name.to_string())
    }
}
