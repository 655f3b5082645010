//! The peers that a link accepts, found by the fingerprints of their keys.

use std::collections::HashMap;
use std::ops::Deref;

use crate::crypto::schedule::Digest;
use crate::handshake::Peer;

/// Whom a link accepts, in the order of the configuration or of `known_peers`.
#[derive(Clone, Debug, Default)]
pub struct AcceptedPeers {
    all: Vec<Peer>,
    by_fingerprint: HashMap<Digest, usize>,
}

impl AcceptedPeers {
    /// The peer with the key of this fingerprint.
    #[must_use]
    pub fn get(&self, fingerprint: &Digest) -> Option<&Peer> {
        self.by_fingerprint.get(fingerprint).map(|index| &self.all[*index])
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
        for peer in peers {
            let fingerprint = *peer.key.fingerprint().as_bytes();
            if self.get(&fingerprint).is_none() {
                self.by_fingerprint.insert(fingerprint, self.all.len());
                self.all.push(peer);
            }
        }
    }
}

impl IntoIterator for AcceptedPeers {
    type Item = Peer;
    type IntoIter = std::vec::IntoIter<Peer>;

    fn into_iter(self) -> Self::IntoIter {
        self.all.into_iter()
    }
}
