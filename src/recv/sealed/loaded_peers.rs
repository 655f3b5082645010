//! The peers whose sessions are loaded, and which of them to unload when they are too many.

use std::collections::HashMap;

use crate::cache::PeerKey;
use crate::crypto::schedule::Digest;

/// Most peers that stay loaded, each with a few KiB: as many as send at about the same time. When there are more, a quarter of
/// these goes, so that looking for them costs each message next to nothing.
pub(super) const MAX_LOADED_PEERS: usize = 2048;

/// The peers that are loaded.
#[derive(Debug, Default)]
pub(super) struct LoadedPeers {
    peers: HashMap<PeerKey, LoadedPeer>,
    /// Counts the messages that were opened.
    opened: u64,
}

#[derive(Debug)]
struct LoadedPeer {
    fingerprint: Digest,
    /// Which message of it was opened last; 0 before the first one, as for a peer that only forged messages name.
    used: u64,
}

impl LoadedPeers {
    /// A peer was loaded.
    pub(super) fn insert(&mut self, peer: PeerKey, fingerprint: Digest) {
        self.peers.entry(peer).or_insert(LoadedPeer { fingerprint, used: 0 });
    }

    /// A peer was unloaded.
    pub(super) fn remove(&mut self, peer: PeerKey) {
        self.peers.remove(&peer);
    }

    /// A message of a peer was opened.
    pub(super) fn touch(&mut self, peer: PeerKey) {
        self.opened += 1;
        if let Some(loaded) = self.peers.get_mut(&peer) {
            loaded.used = self.opened;
        }
    }

    /// The fingerprint of a peer that is loaded.
    pub(super) fn fingerprint(&self, peer: PeerKey) -> Option<Digest> {
        self.peers.get(&peer).map(|loaded| loaded.fingerprint)
    }

    /// All of them, in no order.
    pub(super) fn all(&self) -> Vec<(PeerKey, Digest)> {
        self.peers.iter().map(|(peer, loaded)| (*peer, loaded.fingerprint)).collect()
    }

    /// If they are too many: those that were used least recently, which are to go if they can.
    pub(super) fn excess(&self) -> Vec<(PeerKey, Digest)> {
        if self.peers.len() <= MAX_LOADED_PEERS {
            return Vec::new();
        }
        let mut oldest: Vec<_> = self.peers.iter().collect();
        oldest.sort_unstable_by_key(|(_, loaded)| loaded.used);
        let count = self.peers.len() - MAX_LOADED_PEERS / 4 * 3;
        oldest[..count].iter().map(|(peer, loaded)| (**peer, loaded.fingerprint)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(number: usize) -> PeerKey {
        u128::try_from(number).unwrap().to_be_bytes()
    }

    #[test]
    fn those_that_sent_last_stay_and_those_that_never_did_go_first() {
        let mut loaded = LoadedPeers::default();
        for number in 0..MAX_LOADED_PEERS {
            loaded.insert(peer(number), [0; 32]);
            if number % 2 == 0 {
                loaded.touch(peer(number));
            }
        }
        assert!(loaded.excess().is_empty());
        loaded.touch(peer(0));
        loaded.insert(peer(MAX_LOADED_PEERS), [1; 32]);
        let excess = loaded.excess();
        assert_eq!(excess.len(), MAX_LOADED_PEERS / 4 + 1);
        assert!(excess.iter().all(|(peer, _)| peer[15] % 2 == 1 || *peer == self::peer(MAX_LOADED_PEERS)));
        for (peer, _) in &excess {
            loaded.remove(*peer);
        }
        assert!(loaded.excess().is_empty() && loaded.fingerprint(peer(0)).is_some());
        for number in MAX_LOADED_PEERS..MAX_LOADED_PEERS / 4 * 5 + 10 {
            loaded.insert(peer(number), [1; 32]);
            loaded.touch(peer(number));
        }
        let excess = loaded.excess();
        assert!(excess.iter().any(|(peer, _)| *peer == self::peer(2)), "it was used before the new ones");
        assert!(excess.iter().all(|(_, fingerprint)| *fingerprint == [0; 32]));
    }
}
