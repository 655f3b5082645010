//! Answers to peers that ask whether a session is still here (`sts-protocol(7)`, "Still there").

use std::time::{Instant, SystemTime};

use super::{LinkSessions, SESSION_CHECK_INTERVAL};
use crate::Result;
use crate::cache::PeerKey;
use crate::handshake::session_check;
use crate::link::unix_time;
use crate::session::{Session, SessionId};

/// The sessions under which something was received that is not known any more, as of the last look.
#[derive(Debug, Default)]
pub(super) struct LostSessions {
    looked: Option<Instant>,
    ids: Vec<SessionId>,
}

/// An answer to a peer that asks whether a session is still here.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Where the peer listens.
    pub topic: String,
    /// What to publish there.
    pub frame: Vec<u8>,
}

impl LinkSessions {
    /// The answer to a payload that asks about a session, under one of those that this tool `can_use`; `None` for any
    /// other payload, for a session that is not loaded, and while sts-pair answers.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::answer`].
    pub(crate) fn answer(&self, payload: &[u8], can_use: impl Fn(&Session) -> bool) -> Result<Option<Answer>> {
        let queried = session_check::query_session(payload).and_then(|id| self.usable_session(id));
        let Some(session) = queried else { return Ok(None) };
        let can_use = |session: &Session| self.is_usable(session) && can_use(session);
        let frame = self.cache.answer(payload, &self.watch, can_use, unix_time())?;
        Ok(frame.map(|frame| Answer { topic: self.publish_topic(session).to_owned(), frame }))
    }

    /// Whether a payload asks about a session with this peer, authentically: its sessions are read for that, and stay loaded only
    /// then. Whom the link accepts is not looked up.
    pub(crate) fn load_to_answer(&mut self, payload: &[u8], peer: PeerKey) -> bool {
        self.watch.load(&self.cache, peer, SystemTime::now());
        let of_peer = self.watch.loaded_of(peer).iter().map(|stored| &stored.session);
        let is_authentic = session_check::reply(payload, of_peer, &[]).is_ok();
        if !is_authentic {
            self.watch.unload(peer);
        }
        is_authentic
    }

    /// As [`LinkSessions::answer`], for a tool that receives nothing itself. A session of which the receive state is
    /// lost is lost: a sender that hears that it is here would wait for confirms that never come.
    ///
    /// # Errors
    /// As [`crate::cache::Cache::answer`].
    pub(crate) fn answer_for_receiver(&mut self, payload: &[u8], now: Instant) -> Result<Option<Answer>> {
        let queried = session_check::query_session(payload).and_then(|id| Some((id, self.watch.peer_of(id)?)));
        let Some((id, peer)) = queried else { return Ok(None) };
        self.watch.load(&self.cache, peer, SystemTime::now());
        let answer = if self.usable_session(id).is_some() { self.answer_unless_lost(payload, now) } else { Ok(None) };
        self.watch.unload(peer);
        answer
    }

    fn answer_unless_lost(&mut self, payload: &[u8], now: Instant) -> Result<Option<Answer>> {
        // Whoever repeats a recorded query must not have the state read each time.
        if self.lost.looked.is_none_or(|looked| now >= looked + SESSION_CHECK_INTERVAL) {
            self.lost = LostSessions { looked: Some(now), ids: self.cache.lost_sessions(self.watch.listed()) };
        }
        self.answer(payload, |session| !self.lost.ids.contains(&session.id))
    }

    /// The usable session of this id, if it is loaded.
    fn usable_session(&self, id: SessionId) -> Option<&Session> {
        let of_peer = self.watch.loaded_of(self.watch.peer_of(id)?);
        let session = of_peer.iter().map(|stored| &stored.session).find(|session| session.id == id);
        session.filter(|session| self.is_usable(session))
    }
}
