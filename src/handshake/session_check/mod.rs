//! Whether the peer still has a session (`sts-protocol(7)`, "Still there"): sts-pair checks it before it replaces one, and
//! sts-send where its messages are not confirmed.
//!
//! A query is authenticated with the confirmation key of a session that both ends have: the one that it is about, or a newer
//! one. Whichever tool of the peer runs answers with [`reply`], which keeps no state: a forged query costs it one MAC at
//! most, and a replayed one draws the same bytes again.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use crate::Rejected;
use crate::crypto::schedule::{SessionCheckMac, SessionCheckTranscript};
use crate::message::{FrameType, NONCE_LEN, SessionCheckFrame};
use crate::session::{Session, SessionId};

/// How often a query is sent until it is answered.
const QUERY_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for the reply to a query.
const REPLY_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether a payload is a query or a reply of a session check, by its type and length.
pub(crate) fn is_session_check(payload: &[u8]) -> bool {
    payload.len() == SessionCheckFrame::LEN
        && matches!(FrameType::of(payload), Ok(FrameType::RdyReq | FrameType::RdyAck))
}

/// The session whose key authenticates a query; `None` if the payload is not a query. Nothing is verified yet, but no other
/// session needs to be looked up.
pub(crate) fn query_session(payload: &[u8]) -> Option<SessionId> {
    SessionCheckFrame::parse(payload, FrameType::RdyReq).ok().map(|query| *query.session)
}

/// What a peer says of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionPresence {
    /// It has the session.
    Present,
    /// It does not know the session, or has lost what it received under it.
    Lost,
    /// It has deleted the session after it received something under it: it has lost nothing, and confirms nothing more.
    Deleted,
}

impl SessionPresence {
    const ALL: [Self; 3] = [Self::Present, Self::Lost, Self::Deleted];

    fn mac(self) -> SessionCheckMac {
        match self {
            Self::Present => SessionCheckMac::Present,
            Self::Lost => SessionCheckMac::Lost,
            Self::Deleted => SessionCheckMac::Deleted,
        }
    }
}

/// The reply to a query, and the session that authenticates it. `sessions` are all that this device can use, `deleted` the
/// ones with this peer that it deleted: those are not lost, since it had them.
///
/// # Errors
/// The reason why the payload is not an authentic query; [`Rejected::UnknownSession`] if the session that authenticates it
/// is not among `sessions`.
pub(crate) fn reply<'a, S>(
    payload: &[u8],
    sessions: S,
    deleted: &[SessionId],
) -> Result<(Vec<u8>, &'a Session), Rejected>
where
    S: IntoIterator<Item = &'a Session, IntoIter: Clone>,
{
    let SessionCheckFrame { session: id, nonce, about, mac } = SessionCheckFrame::parse(payload, FrameType::RdyReq)?;
    let mut sessions = sessions.into_iter();
    let session = sessions.clone().find(|session| session.id == *id).ok_or(Rejected::UnknownSession)?;
    let transcript = SessionCheckTranscript { asker: session.role.other(), session: id, nonce, about };
    SessionCheckMac::Query.verify(&session.confirm, &transcript, mac)?;
    // A peer learns nothing about the sessions of other peers.
    let presence = if sessions.any(|it| it.id == *about && it.peer == session.peer) {
        SessionPresence::Present
    } else if deleted.contains(about) {
        SessionPresence::Deleted
    } else {
        SessionPresence::Lost
    };
    let mac = presence.mac().mac(&session.confirm, &transcript);
    Ok((SessionCheckFrame { session: id, nonce, about, mac: &mac }.frame(FrameType::RdyAck), session))
}

/// One query, which may be sent any number of times.
#[derive(Debug)]
pub(crate) struct SessionQuery {
    session: Session,
    about: SessionId,
    nonce: [u8; NONCE_LEN],
}

impl SessionQuery {
    /// Asks whether the peer still has the session `about`. `session`, which may be the same one, authenticates the query.
    pub(crate) fn new(session: Session, about: SessionId, rng: &mut impl CryptoRng) -> Self {
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        Self { session, about, nonce }
    }

    /// The session that authenticates the query.
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }

    /// The session that the query is about.
    pub(crate) fn about(&self) -> &SessionId {
        &self.about
    }

    /// The frame to send.
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mac = SessionCheckMac::Query.mac(&self.session.confirm, &self.transcript());
        let SessionCheckTranscript { session, nonce, about, .. } = self.transcript();
        SessionCheckFrame { session, nonce, about, mac: &mac }.frame(FrameType::RdyReq)
    }

    /// Reads the reply to this query.
    ///
    /// # Errors
    /// The reason why the frame is not an authentic reply; [`Rejected::Unexpected`] for a reply to another query.
    pub(crate) fn presence(&self, frame: &[u8]) -> Result<SessionPresence, Rejected> {
        let reply = SessionCheckFrame::parse(frame, FrameType::RdyAck)?;
        if (reply.session, reply.nonce, reply.about) != (&self.session.id, &self.nonce, &self.about) {
            return Err(Rejected::Unexpected);
        }
        let is = |presence: &SessionPresence| {
            presence.mac().verify(&self.session.confirm, &self.transcript(), reply.mac).is_ok()
        };
        SessionPresence::ALL.into_iter().find(is).ok_or(Rejected::NotAuthentic)
    }

    fn transcript(&self) -> SessionCheckTranscript<'_> {
        let Self { session, about, nonce } = self;
        SessionCheckTranscript { asker: session.role, session: &session.id, nonce, about }
    }
}

/// What a frame of the peer means for a [`SessionCheck`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum CheckEvent<'a> {
    /// The peer sent a query of its own, authenticated with this session: send these frames, in this order.
    Queried(&'a Session, Vec<Vec<u8>>),
    /// The peer still has the session.
    Present,
}

/// Checks whether the peer still has a session, which is then kept. Meanwhile it replies to the peer's queries. A device
/// that wants a new session does not reply, so that its peer agrees a new one, too.
#[derive(Debug)]
pub(crate) struct SessionCheck {
    query: SessionQuery,
    /// The session that the query is about, and the others with this peer.
    sessions: Vec<Session>,
    deleted: Vec<SessionId>,
    /// `None` before [`SessionCheck::start`].
    timer: Option<QueryTimer>,
    /// Whether a query of the peer has already drawn an extra query of ours.
    has_repeated: bool,
}

#[derive(Debug)]
struct QueryTimer {
    due: Instant,
    until: Instant,
}

impl SessionCheck {
    /// A check of `session`. The peer may query that one, the `others`, and the ones that were `deleted`.
    pub(crate) fn new(
        session: Session,
        others: impl IntoIterator<Item = Session>,
        deleted: Vec<SessionId>,
        rng: &mut impl CryptoRng,
    ) -> Self {
        let query = SessionQuery::new(session.clone(), session.id, rng);
        let sessions = std::iter::once(session).chain(others).collect();
        Self { query, sessions, deleted, timer: None, has_repeated: false }
    }

    /// Starts to query, once replies can be received; only the first call counts.
    pub(crate) fn start(&mut self, now: Instant) {
        self.timer.get_or_insert(QueryTimer { due: now, until: now + REPLY_TIMEOUT });
    }

    /// The query, if it is due at `now`.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Vec<u8>> {
        let timer = self.timer.as_mut().filter(|timer| timer.due <= now && now < timer.until)?;
        timer.due = now + QUERY_INTERVAL;
        Some(self.query.frame())
    }

    /// When to call [`SessionCheck::poll`] and [`SessionCheck::is_timed_out`] again, if nothing arrives before.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timer.as_ref().map(|timer| timer.due.min(timer.until))
    }

    /// Whether no reply came in time.
    pub(crate) fn is_timed_out(&self, now: Instant) -> bool {
        self.timer.as_ref().is_some_and(|timer| now >= timer.until)
    }

    /// Takes one frame from the peer's topic.
    ///
    /// # Errors
    /// The reason why the frame was rejected; the state has not changed then.
    pub(crate) fn accept(&mut self, frame: &[u8], now: Instant) -> Result<CheckEvent<'_>, Rejected> {
        if FrameType::of(frame)? == FrameType::RdyReq {
            let (reply, session) = reply(frame, &self.sessions, &self.deleted)?;
            // A peer that leaves with our reply must have heard our query by then, and we must hear its reply. Once is
            // enough: otherwise two devices whose replies get lost would query each other as fast as they can.
            let first = !std::mem::replace(&mut self.has_repeated, true);
            let timer = self.timer.as_mut().filter(|_| first);
            let query = timer.map(|timer| {
                timer.until = now + REPLY_TIMEOUT;
                self.query.frame()
            });
            return Ok(CheckEvent::Queried(session, query.into_iter().chain([reply]).collect()));
        }
        match self.query.presence(frame)? {
            SessionPresence::Present => Ok(CheckEvent::Present),
            // This contradicts itself here: only a peer that has this session can authenticate it.
            SessionPresence::Lost | SessionPresence::Deleted => Err(Rejected::NotAuthentic),
        }
    }

    /// The session that is checked.
    pub(crate) fn session(&self) -> &Session {
        self.query.session()
    }
}

#[cfg(test)]
mod tests;
