//! Whether the receiver still has the session of the stream, if nothing is confirmed for long: it may have lost it, say with
//! its runtime directory, and agreed a new one since. Only its own word counts (`sts-protocol(7)`, "Still there"): silence
//! can be caused by the broker, and is no reason to send a second time what was sent. If the device has moved to another
//! peer, that one is asked, under its own session.

use std::time::{Duration, Instant};

use rand::rngs::ThreadRng;

use super::SealedStream;
use super::confirms::Confirms;
use crate::Result;
use crate::handshake::session_check::{self, SessionPresence, SessionQuery};
use crate::message::FrameType;
use crate::send::outgoing::{OutgoingMessage, Reply};
use crate::session::{Session, SessionId};
use crate::sessions::LinkSessions;
use crate::space_wait::disk_full;

/// Least time between two queries. What wakes a run to ask is that it sends its oldest message again.
const SESSION_QUERY_INTERVAL: Duration = Duration::from_secs(5);

/// What the receiver has said of the session of the stream.
#[derive(Default)]
pub(super) struct ReceiverSession {
    /// The session of which it is written down that the receiver uses it.
    proven: Option<SessionId>,
    /// The receiver was asked whether it still has the session, and has not answered.
    pub(super) open_query: Option<OpenQuery>,
    /// The sessions that it has deleted, of those that may still be used here.
    deleted: Vec<SessionId>,
}

impl ReceiverSession {
    /// Notes that the receiver has deleted these sessions. Of those before them, only what `may_be_used` is kept, which
    /// bounds their number.
    pub(super) fn note_deleted(&mut self, ids: &[SessionId], may_be_used: impl Fn(SessionId) -> bool) {
        self.deleted.retain(|id| may_be_used(*id) && !ids.contains(id));
        self.deleted.extend_from_slice(ids);
    }

    pub(super) fn has_deleted(&self, id: SessionId) -> bool {
        self.deleted.contains(&id)
    }
}

/// A query that is repeated until it is answered.
pub(super) struct OpenQuery {
    query: SessionQuery,
    due: Instant,
}

impl OpenQuery {
    /// The session under which it is sent.
    pub(super) fn session(&self) -> &Session {
        self.query.session()
    }

    fn is_about(&self, about: SessionId, under: &Session) -> bool {
        (self.query.session().id, *self.query.about()) == (under.id, about)
    }
}

impl Confirms {
    /// Opens confirms under the sessions that are usable now.
    pub(super) fn use_sessions(&mut self, sessions: &LinkSessions) {
        if self.are_asked_for() {
            self.receiver.update(sessions.usable().map(|stored| (stored.session.clone(), stored.standing)));
        }
    }

    /// The receiver has confirmed something under this session, so it uses it, which is written down once. If the disk is
    /// full, the next confirm tries again: what is sent does not depend on it.
    pub(super) fn prove(&mut self, session: SessionId, sessions: &LinkSessions) -> Result<()> {
        if self.session.proven == Some(session) {
            return Ok(());
        }
        let proven = sessions.prove(session);
        if disk_full(&proven).is_none() {
            proven?;
            self.session.proven = Some(session);
        }
        Ok(())
    }
}

impl SealedStream {
    /// The query, if it is due, and if there is a newer session to send it under.
    pub(super) fn query_session(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        self.refresh_sessions(now)?;
        let (Some(stream), Ok(current)) = (self.state.stream(), self.sessions.current()) else { return Ok(None) };
        let about = stream.session.id;
        if current.id == about {
            return Ok(None);
        }
        let open = match self.confirms.session.open_query.take() {
            Some(open) if open.is_about(about, current) => open,
            _ => OpenQuery { query: SessionQuery::new(current.clone(), about, rng), due: now },
        };
        let open = self.confirms.session.open_query.insert(open);
        if now < open.due {
            return Ok(None);
        }
        open.due = now + SESSION_QUERY_INTERVAL;
        let topic = self.sessions.publish_topic(open.session()).to_owned();
        Ok(Some(OutgoingMessage::BestEffort { topic, frame: open.query.frame() }))
    }

    /// Takes a payload from the receiver's topic, if it is a query of its own or the answer to ours.
    pub(super) fn receive_session_query(&mut self, payload: &[u8], now: Instant) -> Result<Option<Reply>> {
        if session_check::query_session(payload).is_some() {
            self.refresh_sessions(now)?;
            let answer = self.sessions.answer_for_receiver(payload, now)?;
            let message = answer.map(|answer| OutgoingMessage::BestEffort { topic: answer.topic, frame: answer.frame });
            return Ok(Some(message.map_or(Reply::Nothing, Reply::Answer)));
        }
        let is_answer = session_check::is_session_check(payload) && FrameType::of(payload) == Ok(FrameType::RdyAck);
        let Some(open) = self.confirms.session.open_query.as_ref().filter(|_| is_answer) else { return Ok(None) };
        let has_moved = self.state.stream().is_some_and(|stream| stream.session.peer != open.session().peer);
        Ok(Some(match open.query.presence(payload) {
            // Whatever it says of a session that is not its own: it is there.
            Ok(_) if has_moved => Reply::Moved,
            Ok(SessionPresence::Lost) => Reply::SessionLost,
            Ok(SessionPresence::Deleted) => {
                let about = *open.query.about();
                self.sessions_ended(&[about])
            }
            Ok(SessionPresence::Present) if self.is_session_deleted(now)? => Reply::SessionDeleted,
            Ok(SessionPresence::Present) => Reply::Nothing,
            Err(rejected) => Reply::Rejected(rejected),
        }))
    }

    /// Whether the stream's session was deleted here, by `sts-pair --end` or `--forget` or with age: no confirm under it can
    /// be opened any more.
    pub(super) fn is_session_deleted(&mut self, now: Instant) -> Result<bool> {
        self.refresh_sessions(now)?;
        Ok(self.state.stream().is_some_and(|stream| !self.sessions.is_stored(stream.session.id)))
    }

    /// Looks whether sessions came or went, if it is time for that: what the receiver says is opened under those of now.
    pub(super) fn refresh_sessions(&mut self, now: Instant) -> Result<()> {
        if self.sessions.refresh_if_due(now)? {
            self.confirms.use_sessions(&self.sessions);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn id(number: u8) -> SessionId {
        [number; 8]
    }

    #[test]
    fn a_deleted_session_stays_refused_for_as_long_as_it_may_be_used() {
        let mut receiver = ReceiverSession::default();
        receiver.note_deleted(&[id(2), id(1)], |_| false);
        receiver.note_deleted(&[id(3)], |known| known == id(2));
        assert_eq!([1, 2, 3, 4].map(|number| receiver.has_deleted(id(number))), [false, true, true, false]);
        // A KILL that is repeated, or of an older session, takes nothing back.
        (0..9).for_each(|_| receiver.note_deleted(&[id(2)], |_| true));
        assert_eq!([2, 3].map(|number| receiver.has_deleted(id(number))), [true, true]);
        assert_eq!(receiver.deleted.len(), 2);
    }
}
