//! Whether the peer still has a session, before a new one is agreed in its place (`sts-protocol(7)`, "Still there").
//!
//! Whoever wants to keep a session asks under it; whatever tool of the peer runs answers with [`answer`], which keeps
//! nothing: a stranger's junk costs it one MAC at most, and a question that is played again gets the bytes that it got.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::schedule::StillThere;
use crate::message::{NONCE_LEN, Presence, Type};
use crate::role::Role;
use crate::session::{Session, SessionId};

/// How often the question is sent until it is answered.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a payload is such a question or such an answer, by its type and length.
#[must_use]
pub fn is_about(payload: &[u8]) -> bool {
    payload.len() == Presence::LEN && matches!(Type::of(payload), Ok(Type::RdyReq | Type::RdyAck))
}

/// The session that a payload asks for, if it is a question: not believed yet, but the only one worth looking at.
#[must_use]
pub fn asked_for(payload: &[u8]) -> Option<SessionId> {
    Presence::parse(payload, Type::RdyReq).ok().map(|question| *question.session)
}

/// The answer to a peer that asks for one of `sessions`, and which one it is.
///
/// # Errors
/// What is wrong with the payload; [`Rejected::UnknownSession`] for a session that is not among them.
pub fn answer<'a>(
    payload: &[u8],
    sessions: impl IntoIterator<Item = &'a Session>,
) -> Result<(Vec<u8>, &'a Session), Rejected> {
    let question = Presence::parse(payload, Type::RdyReq)?;
    let mut sessions = sessions.into_iter();
    let session = sessions.find(|session| session.id == *question.session).ok_or(Rejected::UnknownSession)?;
    let asker = other(session.role);
    StillThere::Question.verify(&session.confirm, asker, session.id, question.fresh, question.mac)?;
    let mac = StillThere::Answer.mac(&session.confirm, asker, session.id, question.fresh);
    Ok((Presence::frame(Type::RdyAck, &session.id, question.fresh, &mac), session))
}

fn other(role: Role) -> Role {
    match role {
        Role::Master => Role::Slave,
        Role::Slave => Role::Master,
    }
}

/// What a frame says to one who asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The peer asks, too, for this session: send these, in this order.
    Asked(&'a Session, Vec<Vec<u8>>),
    /// The peer still has the session.
    Answered,
}

/// A device that would keep its session if the peer still has it. It answers the peer's question, too; a device that
/// wants a new session does not, so that its peer goes on to agree one.
#[derive(Debug)]
pub struct Asking {
    /// The session in question, and the others with this peer.
    sessions: Vec<Session>,
    fresh: [u8; NONCE_LEN],
    sending: Option<Sending>,
    reminded: bool,
}

#[derive(Debug)]
struct Sending {
    due: Instant,
    until: Instant,
}

impl Asking {
    /// A question about `session`; `others` are the sessions that the peer may ask about.
    pub fn new(session: Session, others: impl IntoIterator<Item = Session>, rng: &mut impl CryptoRng) -> Self {
        let mut fresh = [0; NONCE_LEN];
        rng.fill_bytes(&mut fresh);
        let sessions = std::iter::once(session).chain(others).collect();
        Self { sessions, fresh, sending: None, reminded: false }
    }

    /// An answer can reach us from now on; only the first call counts.
    pub fn begin(&mut self, now: Instant) {
        self.sending.get_or_insert(Sending { due: now, until: now + PATIENCE });
    }

    /// The question, where it is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let sending = self.sending.as_mut().filter(|sending| sending.due <= now && now < sending.until)?;
        sending.due = now + EVERY;
        Some(question(session_of(&self.sessions), &self.fresh))
    }

    /// When [`Asking::poll`] or [`Asking::is_over`] has something to say, if nothing arrives before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.sending.as_ref().map(|sending| sending.due.min(sending.until))
    }

    /// Whether nobody has answered in time.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.sending.as_ref().is_some_and(|sending| now >= sending.until)
    }

    /// Takes one frame from the peer's topic.
    ///
    /// # Errors
    /// Whatever is wrong with the frame; nothing has changed then.
    pub fn accept(&mut self, frame: &[u8], now: Instant) -> Result<Heard<'_>, Rejected> {
        if Type::of(frame)? == Type::RdyReq {
            let (answer, session) = answer(frame, &self.sessions)?;
            // A peer that leaves with our answer must have heard our question by then, and we must hear its answer. Once is
            // enough: more, and two devices whose answers get lost would ask each other as fast as they can.
            let first = !std::mem::replace(&mut self.reminded, true);
            let sending = self.sending.as_mut().filter(|_| first);
            let question = sending.map(|sending| {
                sending.until = now + PATIENCE;
                question(session_of(&self.sessions), &self.fresh)
            });
            return Ok(Heard::Asked(session, question.into_iter().chain([answer]).collect()));
        }
        let answer = Presence::parse(frame, Type::RdyAck)?;
        let session = self.session();
        if *answer.session != session.id || *answer.fresh != self.fresh {
            return Err(Rejected::Unexpected);
        }
        StillThere::Answer.verify(&session.confirm, session.role, session.id, &self.fresh, answer.mac)?;
        Ok(Heard::Answered)
    }

    /// The session in question.
    #[must_use]
    pub fn session(&self) -> &Session {
        session_of(&self.sessions)
    }
}

fn session_of(sessions: &[Session]) -> &Session {
    sessions.first().expect("the session in question was the first when this was made")
}

fn question(session: &Session, fresh: &[u8; NONCE_LEN]) -> Vec<u8> {
    let mac = StillThere::Question.mac(&session.confirm, session.role, session.id, fresh);
    Presence::frame(Type::RdyReq, &session.id, fresh, &mac)
}

#[cfg(test)]
mod tests;
