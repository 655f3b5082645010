//! A peer of a link.

use crate::identity::{PeerName, PublicKey};

/// A peer that a link accepts: a pinned key, under the name it was pinned with on this device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name on this device.
    pub name: PeerName,
    /// Its identity key.
    pub key: PublicKey,
}
