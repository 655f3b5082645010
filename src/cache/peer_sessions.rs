//! The sessions with one peer: which is current, and how long the others are kept (`sts-protocol(7)`, "Sessions").

use super::stream_end::LatestStream;
use crate::crypto::schedule::Digest;
use crate::role::Role;
use crate::session::{Session, SessionId, Standing};
use crate::suite::Suite;

/// A session is deleted when this many newer ones exist that are proven as it is, or unproven as it is.
pub(super) const MAX_NEWER: usize = 16;
/// But a proven one stays for this time after it was retired, however many are newer, in seconds: a tool that runs looks
/// for a new session once a second, and what it sealed before is on its way.
pub(super) const RETIRED_GRACE_SECS: u64 = 60;
/// Hard limit of newer ones, whatever the grace period.
pub(super) const MAX_NEWER_IN_GRACE: usize = 256;
/// A session is deleted this long after it was retired, in seconds: 7 days.
pub(super) const MAX_RETIRED_SECS: u64 = 7 * 24 * 3600;
/// A retired session stays this long at least, in seconds, although all its known streams ended: a process that reserved a
/// number under it may not have sent anything yet.
pub(crate) const MIN_RETIRED_SECS: u64 = 3600;
/// How many deleted sessions are remembered.
pub(super) const MAX_DELETED: usize = 128;

/// The sessions with one peer, as their file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerSessions {
    /// Newest first.
    pub(crate) sessions: Vec<StoredSession>,
    /// Those deleted last under which something was received, the latest at the end: a peer that asks for one must not
    /// take it for lost. Of the others nothing was written, and an attacker on the way of a handshake makes any number.
    pub(crate) deleted: Vec<SessionId>,
}

impl PeerSessions {
    /// A session of this id.
    pub(super) fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.iter().map(|stored| &stored.session).find(|session| session.id == id)
    }

    /// The session in use: the current one; where there is none, the newest, if it is still to become that.
    pub(crate) fn in_use(&self) -> Option<&StoredSession> {
        let current = self.sessions.iter().find(|stored| stored.standing == Standing::Current);
        current.or_else(|| self.sessions.first().filter(|stored| stored.standing == Standing::Pending))
    }

    /// Shares the keys of sessions that are known already.
    pub(super) fn share_keys<'a>(&mut self, known: impl Fn(SessionId) -> Option<&'a Session>) {
        for StoredSession { session, .. } in &mut self.sessions {
            if let Some(same) = known(session.id) {
                session.share_keys(same);
            }
        }
    }

    /// Changes the sessions, and remembers the deleted ones under which something was received.
    pub(super) fn change<T>(&mut self, change: impl FnOnce(&mut Vec<StoredSession>) -> T) -> T {
        let received = self.sessions.iter().filter(|stored| stored.received);
        let received: Vec<SessionId> = received.map(|stored| stored.session.id).collect();
        let result = change(&mut self.sessions);
        let is_there = |id: &SessionId| self.sessions.iter().any(|stored| stored.session.id == *id);
        // The oldest of them goes first.
        self.deleted.extend(received.iter().rev().filter(|id| !is_there(id)));
        self.deleted.drain(..self.deleted.len().saturating_sub(MAX_DELETED));
        result
    }
}

/// A session as its file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// The session.
    pub(crate) session: Session,
    /// What it may be used for.
    pub(crate) standing: Standing,
    /// When it was retired, in seconds since 1970; 0 where it was not.
    pub(crate) retired: u64,
    /// How many stream numbers were reserved: the next one.
    pub(crate) streams: u64,
    /// How many numbers of streams of confirms were reserved.
    pub(crate) confirms: u64,
    /// Something was received under it, so there must be receive state.
    pub(crate) received: bool,
    /// The peer has shown that it uses it. An attacker on the way of the handshake decides how many sessions are made that
    /// only one end uses: those must not push out one that both use.
    pub(crate) proven: bool,
    /// The streams of data that this device sent last under it, oldest first.
    pub(crate) latest: Vec<LatestStream>,
}

/// A session without its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionOutline {
    /// Names it.
    pub(crate) id: SessionId,
    /// What it may be used for.
    pub(crate) standing: Standing,
    /// Which side we are.
    pub(crate) role: Role,
    /// How its messages are sealed.
    pub(crate) suite: Suite,
    /// The fingerprint of the peer's key.
    pub(crate) peer: Digest,
    /// When it was agreed, in seconds since 1970 by this device's clock.
    pub(crate) created: u64,
    /// How many stream numbers were reserved: the next one.
    pub(crate) streams: u64,
    /// Something was received under it, so there must be receive state.
    pub(crate) received: bool,
}

impl From<&StoredSession> for SessionOutline {
    fn from(stored: &StoredSession) -> Self {
        let StoredSession { session, standing, streams, received, .. } = stored;
        let Session { id, role, suite, peer, created, .. } = *session;
        Self { id, standing: *standing, role, suite, peer, created, streams: *streams, received: *received }
    }
}

impl StoredSession {
    pub(super) fn new(session: &Session, standing: Standing) -> Self {
        Self {
            session: session.clone(),
            standing,
            retired: 0,
            streams: 0,
            confirms: 0,
            received: false,
            proven: false,
            latest: Vec::new(),
        }
    }

    pub(super) fn retire(&mut self, now: u64) {
        self.standing = Standing::Retired;
        self.retired = now;
    }
}

/// The current session retires.
pub(super) fn retire_current(sessions: &mut [StoredSession], now: u64) {
    for stored in sessions.iter_mut().filter(|stored| stored.standing == Standing::Current) {
        stored.retire(now);
    }
}

/// Makes the pending session at this place the current one. It stays where it is in the order, newest first: a pending
/// one before it may be the next, and one after it is late, so that it opens but never takes over again.
pub(super) fn promote(sessions: &mut [StoredSession], at: usize, now: u64) {
    retire_current(sessions, now);
    for older in sessions[at + 1..].iter_mut().filter(|stored| stored.standing == Standing::Pending) {
        older.retire(now);
    }
    sessions[at].standing = Standing::Current;
    sessions[at].proven = true;
}

/// Deletes sessions that are too old or too many. Proven and unproven ones are counted apart.
pub(super) fn limit(sessions: &mut Vec<StoredSession>, now: u64) {
    let (mut proven, mut unproven) = (0, 0);
    sessions.retain_mut(|stored| {
        let newer = if stored.proven { &mut proven } else { &mut unproven };
        // A clock that was set back must neither delete what has just retired nor keep it for ever.
        stored.retired = stored.retired.min(now);
        let too_old = stored.standing == Standing::Retired && now - stored.retired >= MAX_RETIRED_SECS;
        let in_grace =
            stored.proven && stored.standing == Standing::Retired && now - stored.retired < RETIRED_GRACE_SECS;
        let few = *newer < if in_grace { MAX_NEWER_IN_GRACE } else { MAX_NEWER };
        let keep = stored.standing == Standing::Current || (few && !too_old);
        *newer += 1;
        keep
    });
}
