//! Sessions that go: finished, ended by their peer, or forgotten with it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::file_names::{PeerKey, peer_key, peer_of};
use super::peer_sessions::MIN_RETIRED_SECS;
use super::{Cache, StoredSession};
use crate::Result;
use crate::crypto::schedule::Digest;
use crate::files::{self, Dir, Guard};
use crate::name::LinkName;
use crate::session::{SessionId, Standing};

impl Cache {
    /// Deletes retired sessions of which nothing is to come ([`crate::stream::Receiver::finished`]), except those that
    /// retired less than [`MIN_RETIRED_SECS`] ago; returns how many.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub(crate) fn drop_finished(&self, peer: &Digest, ids: &[SessionId], now: u64) -> Result<usize> {
        self.drop_if(peer, |stored| {
            let retired =
                stored.standing == Standing::Retired && now.saturating_sub(stored.retired) >= MIN_RETIRED_SECS;
            retired && ids.contains(&stored.session.id)
        })
    }

    /// Deletes sessions with a peer whatever their standing, as a KILL of the peer asks; returns how many.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub(crate) fn delete(&self, peer: &Digest, ids: &[SessionId]) -> Result<usize> {
        self.drop_if(peer, |stored| ids.contains(&stored.session.id))
    }

    /// Retires those of these sessions that are current or pending, without a newer one: the peer has ended them, and what it
    /// sent before that is still to be opened.
    ///
    /// # Errors
    /// As [`Cache::store_pending`].
    pub(crate) fn retire(&self, peer: &Digest, ids: &[SessionId], now: u64) -> Result<()> {
        self.change(peer, |sessions| {
            let is_in_use =
                |stored: &&mut StoredSession| ids.contains(&stored.session.id) && stored.standing != Standing::Retired;
            let retired = sessions.iter_mut().filter(is_in_use).map(|stored| stored.retire(now)).count();
            Ok(((), retired > 0))
        })
    }

    /// Deletes all sessions with a peer, readable or not; false where there were none.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the directory cannot be written.
    pub(crate) fn delete_all(&self, peer: &Digest) -> Result<bool> {
        let lock = self.lock()?;
        let name = self.name(peer);
        let Ok(mut of_peer) = self.load_peer(peer) else { return files::remove(&self.dir, &name) };
        let had_any = !of_peer.sessions.is_empty();
        // A sender that still waits for a confirm may ask for them under a new one: they are not lost.
        of_peer.change(Vec::clear);
        if had_any {
            self.write(&lock, &name, &of_peer)?;
        }
        Ok(had_any)
    }

    fn drop_if(&self, peer: &Digest, goes: impl Fn(&StoredSession) -> bool) -> Result<usize> {
        self.change(peer, |sessions| {
            let before = sessions.len();
            sessions.retain(|stored| !goes(stored));
            let dropped = before - sessions.len();
            Ok((dropped, dropped > 0))
        })
    }
}

/// Deletes the sessions with peers on every link, as `--forget` does, by one look at the directory; returns the links that had
/// any, each with those peers.
///
/// # Errors
/// As [`Cache::delete_all`], after the others were deleted.
pub(crate) fn forget(path: &Path, peers: &[Digest]) -> Result<BTreeMap<LinkName, Vec<Digest>>> {
    let mut deleted: BTreeMap<LinkName, Vec<Digest>> = BTreeMap::new();
    let Some(dir) = Dir::open(path, Guard::Private)? else { return Ok(deleted) };
    let peers: HashMap<PeerKey, &Digest> = peers.iter().map(|peer| (peer_key(peer), peer)).collect();
    let mut found: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    dir.each_name(|name| {
        if let Some((link, key)) = peer_of(name)
            && let Some(&peer) = peers.get(&key)
        {
            found.entry(link.to_owned()).or_default().push(*peer);
        }
    })?;
    let mut failed = None;
    for (link, of_link) in found {
        let Ok(link) = link.parse::<LinkName>() else { continue };
        let cache = Cache::open(path, &link, link.as_str())?;
        for peer in of_link {
            match cache.delete_all(&peer) {
                Ok(true) => deleted.entry(link.clone()).or_default().push(peer),
                Ok(false) => {}
                Err(error) => failed = failed.or(Some(error)),
            }
        }
    }
    failed.map_or(Ok(deleted), Err)
}
