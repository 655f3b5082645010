//! `--if-older`: keeps the session that is there if it is young enough and the peer still has it, or if no peer comes to
//! agree a new one.

use std::time::Instant;

use super::run::{PairOutcome, PairRun, Phase, Purpose};
use crate::cache::{Cache, PeerSessions, ReceiveState, StoredSession};
use crate::crypto::schedule::Topics;
use crate::handshake::AcceptedPeers;
use crate::handshake::session_check::{CheckEvent, SessionCheck};
use crate::link::unix_time;
use crate::name::list;
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::session::{Session, SessionId, Standing};
use crate::sessions::recency;
use crate::units::Age;
use crate::{Error, Exit, Rejected, Result};

impl Age {
    /// Whether a session of this age in seconds is so young that it is kept if the peer still has it. One from the future
    /// (`None`) counts as old.
    pub(super) fn keeps(self, age: Option<u64>) -> bool {
        age.is_some_and(|age| age < self.seconds())
    }

    /// Whether such a session will do if no peer comes to agree a new one: until it is twice as old, later runs try again.
    pub(super) fn tolerates(self, age: Option<u64>) -> bool {
        age.is_some_and(|age| age < self.seconds().saturating_mul(2))
    }
}

/// The sessions with the peer that `--if-older` is about.
#[derive(Default)]
struct SessionsWithPeer {
    /// The current one, if it may be used.
    current: Option<Session>,
    others: Vec<Session>,
    deleted: Vec<SessionId>,
}

impl SessionsWithPeer {
    /// Those of a peer's sessions that are usable.
    fn of(of_peer: PeerSessions, is_usable: impl Fn(&StoredSession) -> bool) -> Self {
        let PeerSessions { sessions, deleted } = of_peer;
        let (current, others): (Vec<_>, Vec<_>) =
            sessions.into_iter().filter(is_usable).partition(|stored| stored.standing == Standing::Current);
        let others = others.into_iter().map(|stored| stored.session).collect();
        Self { current: current.into_iter().next().map(|stored| stored.session), others, deleted }
    }
}

/// The check whether the peer still has the current session, if that is younger than `age`.
///
/// # Errors
/// As [`sessions_with_peer`].
pub(super) fn session_check(
    age: Age,
    peers: &LinkPeers,
    cache: &Cache,
    report: &Reporter,
) -> Result<Option<SessionCheck>> {
    if let Err(error) = cache.note_rotation(age.seconds()) {
        // Only --status reads that note.
        report.warn(&error);
    }
    let SessionsWithPeer { current, others, deleted } = sessions_with_peer(peers, cache)?;
    let young = current.filter(|session| age.keeps(session.age(unix_time())));
    Ok(young.map(|session| SessionCheck::new(session, others, deleted, &mut rand::rng())))
}

/// Finds these sessions: with the only peer of the link, or of alternatives with the one with which the device paired last.
///
/// # Errors
/// As [`peers_to_check`]; [`Exit::NotTrusted`] as in [`Cache::load_peer`]. A file that cannot be read counts as no session: a
/// pairing replaces it.
fn sessions_with_peer(peers: &LinkPeers, cache: &Cache) -> Result<SessionsWithPeer> {
    let accepted = peers_to_check(peers)?;
    let received = if_readable(ReceiveState::read(cache))?.flatten().unwrap_or_default();
    // As sts-recv sees it: what was received under a session must be known, or it could be played again.
    let is_usable = |stored: &StoredSession| {
        let is_whole = !stored.received || received.session(stored.session.id).is_some();
        is_whole && peers.peer_of(&stored.session, &accepted).is_some()
    };
    let mut found = Vec::new();
    for peer in accepted.iter() {
        let of_peer = if_readable(cache.load_peer(peer.key.fingerprint().as_bytes()))?.unwrap_or_default();
        found.push(SessionsWithPeer::of(of_peer, is_usable));
    }
    let order = if_readable(cache.session_order())?.unwrap_or_default();
    let recency = |of: &SessionsWithPeer| of.current.as_ref().map(|session| recency(session, &order));
    Ok(found.into_iter().max_by_key(recency).unwrap_or_default())
}

/// The only peer of the link, or those of which it is with one at a time.
///
/// # Errors
/// [`Exit::Usage`] on a link that is with several peers at the same time; otherwise as [`LinkPeers::to_pair_with`].
fn peers_to_check(peers: &LinkPeers) -> Result<AcceptedPeers> {
    let accepted = peers.to_pair_with()?;
    if accepted.len() > 1 && !peers.are_alternatives() {
        return Err(Error::new(Exit::Usage, "--if-older is for links with one peer at a time")
            .because(format!("this link has several: {}", list(accepted.iter().map(|peer| peer.name.as_str()))))
            .hint("run it on the other devices, each of which has only one peer"));
    }
    Ok(accepted)
}

/// What was read; `None` if the file is damaged.
fn if_readable<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.exit() != Exit::Failed => Err(error),
        outcome => Ok(outcome.ok()),
    }
}

impl PairRun<'_> {
    /// Sends the query if it is due; without a reply in time, the handshake begins.
    pub(super) fn poll_session_check(&mut self, now: Instant) -> Result<()> {
        let Phase::Checking(check) = &mut self.phase else { return Ok(()) };
        if check.is_timed_out(now) {
            self.report.verbose("the peer did not confirm that it still has the session");
            self.begin_handshake(now);
            return Ok(());
        }
        let topics = check.session().topics.clone();
        check.poll(now).map_or(Ok(()), |query| self.publish(&topics, query))
    }

    /// Takes a query or a reply. A device that wants a new session does not reply, so that its peer comes to pair.
    pub(super) fn take_session_check(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        if matches!((&self.purpose, &self.phase), (Purpose::Serve(_), _) | (Purpose::Keep(_), Phase::Resting(_))) {
            return self.answer_session_check(payload, now);
        }
        match self.phase.check().map_or(Err(Rejected::Unexpected), |check| check.accept(payload, now)) {
            Ok(CheckEvent::Queried(session, frames)) => {
                // The query proves a session that is still pending here.
                self.sessions.cache().promote(&session.peer, &session.id, unix_time())?;
                frames.into_iter().try_for_each(|frame| self.publish(topics, frame))
            }
            Ok(CheckEvent::Present) => self.peer_has_session(now),
            Err(rejected) => {
                self.report.verbose(format_args!("dropped a session check: {rejected}"));
                Ok(())
            }
        }
    }

    /// The peer has the session that is checked: keeps it, unless it was deleted here meanwhile.
    fn peer_has_session(&mut self, now: Instant) -> Result<()> {
        let Some(check) = self.phase.check() else { return Ok(()) };
        let (peer, id) = (check.session().peer, check.session().id);
        if self.sessions.cache().prove(&peer, &id)? {
            self.report.verbose("the session is young enough, and the peer still has it");
            self.phase = Phase::Done(PairOutcome::Kept);
        } else {
            self.begin_handshake(now);
        }
        Ok(())
    }

    /// Ends the check without its result: the master wants a new session, and a reply that is still on its way does not
    /// change that.
    pub(super) fn abandon_check(&mut self, now: Instant) {
        match &mut self.phase {
            Phase::Subscribing(check) => *check = None,
            Phase::Checking(_) => self.begin_handshake(now),
            Phase::Resting(_) | Phase::Handshaking | Phase::Confirming(_) | Phase::Done(_) => {}
        }
    }

    /// Whether the session that is there will do, since no peer came to agree a new one.
    ///
    /// # Errors
    /// As [`sessions_with_peer`].
    pub(super) fn tolerates_session(&self) -> Result<bool> {
        let Purpose::Once { if_older: Some(age), .. } = self.purpose else { return Ok(false) };
        let now = unix_time();
        let current = sessions_with_peer(&self.sessions.peers, self.sessions.cache())?.current;
        let tolerated = current.map(|session| session.age(now)).filter(|of| age.tolerates(*of));
        if tolerated.is_some_and(|of| !age.keeps(of)) {
            self.report.info(format_args!("{}; the existing session stays in use", self.timed_out()));
        }
        Ok(tolerated.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::pair;
    use crate::suite::Suite;

    #[test]
    fn a_session_is_young_then_old_then_too_old() {
        // Agreed at 1,000 s.
        let session = pair(1, Suite::Gcm).0;
        let age: Age = "100s".parse().unwrap();
        for (now, keeps, tolerates) in
            [(999, false, false), (1_000, true, true), (1_099, true, true), (1_100, false, true), (1_200, false, false)]
        {
            let of = session.age(now);
            assert_eq!((age.keeps(of), age.tolerates(of)), (keeps, tolerates), "{now}");
        }
        let endless: Age = u32::MAX.to_string().parse().unwrap();
        assert!(endless.tolerates(session.age(5_000)));
    }
}
