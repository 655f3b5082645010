//! A link whose configuration names several peers, and that is with one at a time (`peer = first, second`): the one with which
//! the device paired last.

use super::LinkSessions;
use crate::Result;
use crate::cache::{Cache, PeerKey, peer_key};
use crate::session::Session;

/// Which of the current sessions with alternatives was agreed last: the highest one. The time counts only where the latest peer
/// has none, as after `--forget`: this device's clock may have been set back, and nothing else orders sessions with different
/// peers.
pub(crate) fn recency(session: &Session, latest_peer: Option<PeerKey>) -> (bool, u64) {
    (latest_peer == Some(peer_key(&session.peer)), session.created)
}

impl LinkSessions {
    /// Stores a new session by `store`. Of alternatives, its peer is the latest then; a repeated step of the handshake does not
    /// make it that once more.
    ///
    /// # Errors
    /// As [`Cache::store_current`].
    pub(crate) fn store(&self, session: &Session, store: fn(&Cache, &Session, u64) -> Result<()>) -> Result<()> {
        let is_latest = self.peers.are_alternatives() && !self.cache.has(session).unwrap_or(false);
        store(&self.cache, session, session.created)?;
        if is_latest { self.cache.note_latest_peer(&session.peer) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::pair;
    use crate::suite::Suite;

    #[test]
    fn the_peer_that_paired_last_is_the_latest_whatever_the_clock_says() {
        let of = |peer, created| Session { peer: [peer; 32], created, ..pair(1, Suite::Gcm).0 };
        let [first, second] = [of(1, 2_000), of(2, 1_000)];
        let latest = |noted: Option<u8>| {
            let noted = noted.map(|peer| peer_key(&[peer; 32]));
            let newest = [&first, &second].into_iter().max_by_key(|session| recency(session, noted)).unwrap();
            newest.peer[0]
        };
        assert_eq!([Some(2), Some(1), None, Some(3)].map(latest), [2, 1, 1, 1]);
    }
}
