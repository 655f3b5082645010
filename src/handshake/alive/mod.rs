//! Whether the peer still has a session (`sts-protocol(7)`, "Still there"): before a new one is agreed in its place, and
//! where nothing is confirmed that was sent under it.
//!
//! It is asked under a session that both have, the one in question or a newer one. Whatever tool of the peer runs answers
//! with [`answer`], which keeps nothing: a stranger's junk costs it one MAC at most, and a question that is played again
//! gets the bytes that it got.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::schedule::{Asked, StillThere};
use crate::message::{FrameType, NONCE_LEN, Presence};
use crate::role::Role;
use crate::session::{Session, SessionId};

/// How often the question is sent until it is answered.
const EVERY: Duration = Duration::from_secs(1);
/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether a payload is such a question or such an answer, by its type and length.
#[must_use]
pub fn is_about(payload: &[u8]) -> bool {
    payload.len() == Presence::LEN && matches!(FrameType::of(payload), Ok(FrameType::RdyReq | FrameType::RdyAck))
}

/// The session under which a payload asks, if it is a question: not believed yet, but the only one worth looking at.
#[must_use]
pub fn asked_under(payload: &[u8]) -> Option<SessionId> {
    Presence::parse(payload, FrameType::RdyReq).ok().map(|question| *question.under)
}

/// The answer to a peer, and the session under which it asked; `sessions` are all that this device can use, and `past` those
/// with this peer that it deleted: these it has had, so they are not lost.
///
/// # Errors
/// What is wrong with the payload; [`Rejected::UnknownSession`] where the session that it is asked under is not among them.
pub fn answer<'a, S>(payload: &[u8], sessions: S, past: &[SessionId]) -> Result<(Vec<u8>, &'a Session), Rejected>
where
    S: IntoIterator<Item = &'a Session, IntoIter: Clone>,
{
    let Presence { under, fresh, about, mac } = Presence::parse(payload, FrameType::RdyReq)?;
    let mut sessions = sessions.into_iter();
    let session = sessions.clone().find(|session| session.id == *under).ok_or(Rejected::UnknownSession)?;
    let asked = Asked { asker: other(session.role), under, fresh, about };
    StillThere::Question.verify(&session.confirm, &asked, mac)?;
    // Of other peers' sessions it learns nothing.
    let here = past.contains(about) || sessions.any(|meant| meant.id == *about && meant.peer == session.peer);
    let says = if here { StillThere::Here } else { StillThere::Lost };
    let mac = says.mac(&session.confirm, &asked);
    Ok((Presence { under, fresh, about, mac: &mac }.frame(FrameType::RdyAck), session))
}

fn other(role: Role) -> Role {
    match role {
        Role::Master => Role::Slave,
        Role::Slave => Role::Master,
    }
}

/// One question: to be asked any number of times, and answered once.
#[derive(Debug)]
pub struct Question {
    under: Session,
    about: SessionId,
    fresh: [u8; NONCE_LEN],
}

impl Question {
    /// Whether the peer still has the session `about`, asked under one that it has for certain, or under that one itself.
    pub fn new(under: Session, about: SessionId, rng: &mut impl CryptoRng) -> Self {
        let mut fresh = [0; NONCE_LEN];
        rng.fill_bytes(&mut fresh);
        Self { under, about, fresh }
    }

    /// The session under which it is asked.
    #[must_use]
    pub fn under(&self) -> &Session {
        &self.under
    }

    /// The session that is meant.
    #[must_use]
    pub fn about(&self) -> &SessionId {
        &self.about
    }

    /// What to send.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let mac = StillThere::Question.mac(&self.under.confirm, &self.asked());
        let Asked { under, fresh, about, .. } = self.asked();
        Presence { under, fresh, about, mac: &mac }.frame(FrameType::RdyReq)
    }

    /// What the peer says to this very question: false where it knows nothing of the session, though both had it.
    ///
    /// # Errors
    /// What is wrong with the frame; [`Rejected::Unexpected`] for an answer to another question.
    pub fn answered(&self, frame: &[u8]) -> Result<bool, Rejected> {
        let answer = Presence::parse(frame, FrameType::RdyAck)?;
        if (answer.under, answer.fresh, answer.about) != (&self.under.id, &self.fresh, &self.about) {
            return Err(Rejected::Unexpected);
        }
        let says = |what: StillThere| what.verify(&self.under.confirm, &self.asked(), answer.mac);
        says(StillThere::Here).map(|()| true).or_else(|_| says(StillThere::Lost).map(|()| false))
    }

    fn asked(&self) -> Asked<'_> {
        Asked { asker: self.under.role, under: &self.under.id, fresh: &self.fresh, about: &self.about }
    }
}

/// What a frame says to one who asks.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The peer asks, too, under this session: send these, in this order.
    Asked(&'a Session, Vec<Vec<u8>>),
    /// The peer still has the session.
    Answered,
}

/// A device that would keep its session if the peer still has it. It answers the peer's question, too; a device that
/// wants a new session does not, so that its peer goes on to agree one.
#[derive(Debug)]
pub struct Asking {
    question: Question,
    /// The session in question, and the others with this peer.
    sessions: Vec<Session>,
    past: Vec<SessionId>,
    sending: Option<Sending>,
    reminded: bool,
}

#[derive(Debug)]
struct Sending {
    due: Instant,
    until: Instant,
}

impl Asking {
    /// A question about `session`; the peer may ask about the `others`, and about `past` ones that were deleted.
    pub fn new(
        session: Session,
        others: impl IntoIterator<Item = Session>,
        past: Vec<SessionId>,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let question = Question::new(session.clone(), session.id, rng);
        let sessions = std::iter::once(session).chain(others).collect();
        Self { question, sessions, past, sending: None, reminded: false }
    }

    /// An answer can reach us from now on; only the first call counts.
    pub fn begin(&mut self, now: Instant) {
        self.sending.get_or_insert(Sending { due: now, until: now + PATIENCE });
    }

    /// The question, where it is due at `now`.
    pub fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let sending = self.sending.as_mut().filter(|sending| sending.due <= now && now < sending.until)?;
        sending.due = now + EVERY;
        Some(self.question.frame())
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
        if FrameType::of(frame)? == FrameType::RdyReq {
            let (answer, session) = answer(frame, &self.sessions, &self.past)?;
            // A peer that leaves with our answer must have heard our question by then, and we must hear its answer. Once is
            // enough: more, and two devices whose answers get lost would ask each other as fast as they can.
            let first = !std::mem::replace(&mut self.reminded, true);
            let sending = self.sending.as_mut().filter(|_| first);
            let question = sending.map(|sending| {
                sending.until = now + PATIENCE;
                self.question.frame()
            });
            return Ok(Heard::Asked(session, question.into_iter().chain([answer]).collect()));
        }
        // Under the session itself nobody can say that it is lost.
        if self.question.answered(frame)? { Ok(Heard::Answered) } else { Err(Rejected::NotAuthentic) }
    }

    /// The session in question.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.question.under()
    }
}

#[cfg(test)]
mod tests;
