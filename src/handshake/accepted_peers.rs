//! The peers that a link accepts, found by the fingerprints of their keys.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Deref;
use std::sync::Arc;

use super::Peer;
use crate::crypto::schedule::Digest;

/// Whom a link accepts, in the order of the configuration or of `known_peers`. Clones share them: there may be a hundred
/// thousand.
#[derive(Clone, Debug, Default)]
pub struct AcceptedPeers {
    all: Arc<Vec<Peer>>,
    by_fingerprint: Arc<HashMap<Digest, usize>>,
}

impl AcceptedPeers {
    /// The peer with the key of this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Digest) -> Option<&Peer> {
        self.by_fingerprint.get(fingerprint).map(|index| &self.all[*index])
    }

    /// The fingerprints of their keys, sorted.
    pub(crate) fn fingerprints(&self) -> Vec<Digest> {
        let mut fingerprints: Vec<_> = self.by_fingerprint.keys().copied().collect();
        fingerprints.sort_unstable();
        fingerprints
    }

    /// Whether this peer is accepted, under its name. Unlike that of a slice, it does not search.
    #[must_use]
    pub(crate) fn contains(&self, peer: &Peer) -> bool {
        self.get(peer.key.fingerprint().as_bytes()) == Some(peer)
    }
}

impl Deref for AcceptedPeers {
    type Target = [Peer];

    fn deref(&self) -> &[Peer] {
        &self.all
    }
}

impl FromIterator<Peer> for AcceptedPeers {
    fn from_iter<I: IntoIterator<Item = Peer>>(peers: I) -> Self {
        let mut accepted = Self::default();
        accepted.extend(peers);
        accepted
    }
}

impl Extend<Peer> for AcceptedPeers {
    fn extend<I: IntoIterator<Item = Peer>>(&mut self, peers: I) {
        let (all, by_fingerprint) = (Arc::make_mut(&mut self.all), Arc::make_mut(&mut self.by_fingerprint));
        for peer in peers {
            if let Entry::Vacant(vacant) = by_fingerprint.entry(*peer.key.fingerprint().as_bytes()) {
                vacant.insert(all.len());
                all.push(peer);
            }
        }
    }
}

impl IntoIterator for AcceptedPeers {
    type Item = Peer;
    type IntoIter = std::vec::IntoIter<Peer>;

    fn into_iter(self) -> Self::IntoIter {
        Arc::unwrap_or_clone(self.all).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::stranger;
    use crate::looks;

    // All of one name: what is searched is then compared by its key.
    fn peer(name: &str, key: u32) -> Peer {
        Peer { name: name.parse().unwrap(), key: stranger(key) }
    }

    #[test]
    fn a_peer_is_found_among_a_thousand_as_among_two() {
        let looks = [2, 1000].map(|count| {
            let accepted: AcceptedPeers = (0..count).map(|number| peer("p", number)).collect();
            let last = peer("p", count - 1);
            let others = [peer("p", count), peer("other", 0)];
            looks::during(|| {
                assert!(accepted.contains(&last));
                assert!(others.iter().all(|other| !accepted.contains(other)), "another key, or another name");
            })
            .0
        });
        assert_eq!(looks[0], looks[1]);
    }
}
