//! With which of several alternatives (`peer = first, second`) a device paired last: the one that it sends to. That is written
//! down, since a clock that was set back tells it wrongly.

use super::field_text::{hex, unhex};
use super::{Cache, PeerKey, peer_key};
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::files;

impl Cache {
    /// Notes that the device has paired with this peer.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written; what was noted before stays.
    pub(crate) fn note_latest_peer(&self, peer: &Digest) -> Result<()> {
        let text = format!("peer = {}\n", hex(&peer_key(peer)));
        files::replace(&self.dir, &self.lock()?, &self.latest_peer_file(), text.as_bytes())
    }

    /// The peer that was noted; `None` if none was, or the file is malformed.
    ///
    /// # Errors
    /// As [`files::read_private`].
    pub(crate) fn latest_peer(&self) -> Result<Option<PeerKey>> {
        let Some(bytes) = files::read_private(&self.dir, &self.latest_peer_file())? else { return Ok(None) };
        let text = std::str::from_utf8(&bytes).ok();
        Ok(text.and_then(|text| unhex(text.strip_prefix("peer = ")?.strip_suffix('\n')?)))
    }

    fn latest_peer_file(&self) -> String {
        format!("{}@latest", self.link)
    }
}
