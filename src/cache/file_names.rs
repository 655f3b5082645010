//! The names of session files: `LINK@PEER`, PEER being the first 32 hexadecimal digits of the peer's fingerprint.

#[cfg(feature = "legacy")]
use std::path::Path;

use super::Cache;
use super::field_text::{put_hex, unhex};
use crate::Result;
use crate::crypto::schedule::Digest;
#[cfg(feature = "legacy")]
use crate::name::LinkName;

/// What follows `LINK@` in the name of the file that has the sessions of `sts_version = 1`.
pub(crate) const LEGACY_FILE: &str = "sts1";

/// The first half of a peer's fingerprint, after which its file is named.
pub(crate) type PeerKey = [u8; 16];

/// What the file of a peer's sessions is named after.
pub(crate) fn peer_key(peer: &Digest) -> PeerKey {
    *peer.first_chunk().expect("a fingerprint is longer")
}

/// Whether the runtime directory `path` has a file for sessions of `sts_version = 1` on this link.
#[cfg(feature = "legacy")]
pub(crate) fn has_legacy_file(path: &Path, link: &LinkName) -> bool {
    path.join(format!("{link}@{LEGACY_FILE}")).exists()
}

impl Cache {
    /// The peers that have a session file, in the order of the directory: a hundred thousand files are read a third faster in that
    /// order than in any other.
    pub(super) fn peers(&self) -> Result<Vec<PeerKey>> {
        let mut peers = Vec::new();
        self.dir.each_name(|name| peers.extend(self.peer_in(name)))?;
        Ok(peers)
    }

    /// The file of the sessions with a peer.
    pub(super) fn name(&self, peer: &Digest) -> String {
        self.file_of(peer_key(peer))
    }

    /// As [`Cache::name`].
    pub(super) fn file_of(&self, peer: PeerKey) -> String {
        let link = self.link.as_str();
        let mut name = String::with_capacity(link.len() + 1 + 2 * peer.len());
        name.push_str(link);
        name.push('@');
        put_hex(&mut name, &peer);
        name
    }

    /// The peer whose sessions on this link a file has.
    pub(super) fn peer_in(&self, name: &str) -> Option<PeerKey> {
        peer_of(name).filter(|(link, _)| *link == self.link.as_str()).map(|(_, peer)| peer)
    }
}

/// The link to which a session file belongs, and whose sessions are in it.
pub(super) fn peer_of(name: &str) -> Option<(&str, PeerKey)> {
    let (link, digits) = name.split_once('@')?;
    Some((link, unhex(digits)?))
}

/// The link that a session file is of, of either version of the protocol.
pub(super) fn link_of(name: &str) -> Option<&str> {
    let legacy = name.strip_suffix(LEGACY_FILE).and_then(|name| name.strip_suffix('@'));
    peer_of(name).map(|(link, _)| link).or(legacy)
}
