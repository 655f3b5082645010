//! `--if-older AGE`: how old a session may be, and whether the one that is there will do.

use crate::cache::{Cache, PeerSessions, ReceiveState, StoredSession};
use crate::crypto::schedule::Digest;
use crate::peers::LinkPeers;
use crate::session::{Session, SessionId, Standing};
use crate::units::Age;
use crate::{Error, Exit, Result};

impl Age {
    /// Whether a session is so young that it stays if the peer still has it. One that is stamped in the future is old.
    pub(super) fn keeps(self, session: &Session, now: u64) -> bool {
        session.age(now).is_some_and(|age| age < self.seconds())
    }

    /// Whether a session will do where nobody is there to agree a new one: until it is twice as old, later runs try again.
    pub(super) fn tolerates(self, session: &Session, now: u64) -> bool {
        session.age(now).is_some_and(|age| age < self.seconds().saturating_mul(2))
    }
}

/// The sessions with the one peer that `--if-older` is about.
#[derive(Default)]
pub(super) struct Sessions {
    /// The current one, if it may be used.
    pub(super) current: Option<Session>,
    pub(super) others: Vec<Session>,
    /// Those that were deleted.
    pub(super) past: Vec<SessionId>,
}

/// Finds these sessions.
///
/// # Errors
/// [`Exit::Usage`] on a link with several peers; [`Exit::NotTrusted`] as in [`Cache::load_peer`]. What cannot be read is no
/// session: a pairing replaces it.
pub(super) fn sessions(ends: &LinkPeers, cache: &Cache) -> Result<Sessions> {
    let peers = ends.accepted()?;
    let [peer] = &peers[..] else {
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        return Err(Error::new(Exit::Usage, "--if-older")
            .because(format!("this link has several peers: {}", names.join(", ")))
            .hint("run it on the other devices, each of which has one"));
    };
    let peer: Digest = *peer.key.fingerprint().as_bytes();
    let PeerSessions { sessions, deleted: past } = readable(cache.load_peer(&peer))?.unwrap_or_default();
    let received = readable(ReceiveState::read(cache))?.flatten().unwrap_or_default();
    // As sts-recv sees it: what was received under a session must be known, or it could be played again.
    let usable = |stored: &&StoredSession| {
        let whole = !stored.received || received.session(stored.session.id).is_some();
        whole && ends.peer_of(&stored.session, &peers).is_some()
    };
    let (current, others): (Vec<_>, Vec<_>) =
        sessions.iter().filter(usable).partition(|stored| stored.standing == Standing::Current);
    let others = others.into_iter().map(|stored| stored.session.clone()).collect();
    Ok(Sessions { current: current.first().map(|stored| stored.session.clone()), others, past })
}

fn readable<T>(outcome: Result<T>) -> Result<Option<T>> {
    match outcome {
        Err(error) if error.exit() != Exit::Failed => Err(error),
        outcome => Ok(outcome.ok()),
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
            assert_eq!((age.keeps(&session, now), age.tolerates(&session, now)), (keeps, tolerates), "{now}");
        }
        let endless: Age = format!("{}s", u64::MAX).parse().unwrap();
        assert!(endless.tolerates(&session, 5_000));
    }
}
