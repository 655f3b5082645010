//! A running tool's view of its link's sessions, kept up to date at the price of one system call a second. A tool that has nothing
//! to do is woken when one may have come or gone: the keys of a session that was deleted do not stay in its memory.
//!
//! A tool that sends reads the sessions that it may send under, with their keys. One that receives from a hundred thousand
//! devices hears of few of them at a time, so it [lists](Watch::list) all and [loads](Watch::load) the file of a peer that
//! sends: the list says which file that is, by the first bytes of a session's id. Keys of the others are on disk only, where
//! other tools change them too. They are read anew each time, so nothing that was erased there comes back.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use super::watched_file::{FileContent, WatchedFile};
use super::{Cache, ListedSession, PeerKey, PeerSessions, SessionOrder, StoredSession, peer_key};
use crate::crypto::schedule::Digest;
use crate::files::{self, DirChanges, PrivateReader, WhatChanged};
use crate::message::SessionTag;
use crate::session::{Expected, Session, SessionId, Standing};
use crate::{Error, Result, stdio};

/// Time between two looks of a running tool whether a session came or went, while there is anything to do.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// Which files are read with their keys.
#[derive(Debug, Default, PartialEq, Eq)]
enum Reads {
    /// All of the link's.
    #[default]
    All,
    /// The one of this peer, and no other file is looked at.
    One(PeerKey),
    /// Those that are [loaded](Watch::load).
    Loaded,
}

/// The sessions of a link as they were at the last look.
#[derive(Debug, Default)]
pub struct Watch {
    reads: Reads,
    refreshed: Option<Instant>,
    changes: Option<DirChanges>,
    files: BTreeMap<PeerKey, WatchedFile>,
    by_id: BTreeMap<IdNumber, PeerKey>,
    /// The files that were loaded since [`Watch::share_keys`].
    new: BTreeSet<PeerKey>,
    /// The sessions that each file had of which others are loaded now, or listed. `None` until [`Watch::take_changes`]
    /// is called.
    changed: Option<BTreeMap<PeerKey, Vec<SessionId>>>,
    /// [`Cache::session_order`], if all files are read.
    order: SessionOrder,
}

/// The id of a session as a number of the same order: a hundred thousand numbers are sorted faster than as many byte
/// strings.
type IdNumber = u64;

fn number(id: SessionId) -> IdNumber {
    IdNumber::from_be_bytes(id)
}

/// A file of which the sessions changed, or their standings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileChange {
    /// Whose.
    pub(crate) peer: PeerKey,
    /// The sessions that it had.
    pub(crate) before: Vec<SessionId>,
}

impl Watch {
    /// A first look.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn new(cache: &Cache, now: Instant, date: SystemTime) -> Result<Self> {
        Self::reading(Reads::All, cache, now, date)
    }

    /// A first look at the sessions with one peer, whatever others there are: a stat of one file is all that the next
    /// looks cost.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn of_peer(cache: &Cache, peer: &Digest, now: Instant, date: SystemTime) -> Result<Self> {
        Self::reading(Reads::One(peer_key(peer)), cache, now, date)
    }

    /// A list of all sessions, without keys.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn list(cache: &Cache, now: Instant, date: SystemTime) -> Result<Self> {
        let mut watch = Self::reading(Reads::Loaded, cache, now, date)?;
        watch.take_changes();
        Ok(watch)
    }

    /// As [`Watch::list`], before the first look.
    pub(crate) fn on_demand() -> Self {
        Self { reads: Reads::Loaded, ..Self::default() }
    }

    fn reading(reads: Reads, cache: &Cache, now: Instant, date: SystemTime) -> Result<Self> {
        let mut watch = Self { reads, ..Self::default() };
        watch.refresh(cache, now, date)?;
        Ok(watch)
    }

    /// All sessions that are loaded; those with one peer stand together, newest first.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &StoredSession> {
        self.loaded().flat_map(|of_peer| &of_peer.sessions)
    }

    /// All sessions, loaded or not; those with one peer stand together, newest first.
    pub(crate) fn listed(&self) -> impl Iterator<Item = ListedSession> {
        self.files.values().flat_map(|file| file.content.sessions())
    }

    fn loaded(&self) -> impl Iterator<Item = &PeerSessions> {
        self.files.values().filter_map(|file| file.content.loaded())
    }

    /// The peers of all sessions, in the order of [`Watch::listed`].
    pub(crate) fn peers(&self) -> impl Iterator<Item = PeerKey> {
        self.files.keys().copied()
    }

    /// The sessions with a peer, loaded or not, newest first.
    pub(crate) fn of(&self, peer: PeerKey) -> Vec<ListedSession> {
        self.files.get(&peer).map(|file| file.content.sessions()).unwrap_or_default()
    }

    /// The sessions with a peer, if they are loaded; newest first.
    pub(crate) fn loaded_of(&self, peer: PeerKey) -> &[StoredSession] {
        self.files.get(&peer).and_then(|file| file.content.loaded()).map_or(&[], |of_peer| &of_peer.sessions)
    }

    /// The peer of a session, loaded or not.
    pub(crate) fn peer_of(&self, id: SessionId) -> Option<PeerKey> {
        self.by_id.get(&number(id)).copied()
    }

    /// The peers that are not loaded and have a session with this tag.
    pub(crate) fn unloaded_with_tag(&self, tag: SessionTag) -> Vec<PeerKey> {
        let (mut first, mut last) = ([0; 8], [0xff; 8]);
        for bound in [&mut first, &mut last] {
            bound[..tag.len()].copy_from_slice(&tag);
        }
        let with_tag = self.by_id.range(number(first)..=number(last)).map(|(_, peer)| *peer);
        with_tag.filter(|peer| self.files.get(peer).is_some_and(|file| file.content.loaded().is_none())).collect()
    }

    /// All sessions with the peer of the session `id`, if they are loaded; `None` where that is not there.
    pub(super) fn of_peer_with(&self, id: SessionId) -> Option<&PeerSessions> {
        self.files.get(self.by_id.get(&number(id))?)?.content.loaded()
    }

    /// In which order the sessions were agreed, as far as that was noted.
    pub(crate) fn order(&self) -> &SessionOrder {
        &self.order
    }

    /// Files that could not be read, each with the error that says why: their peers have no session.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Error> {
        self.files.values().filter_map(|file| match &file.content {
            FileContent::Broken(error) => Some(&**error),
            _ => None,
        })
    }

    /// The error of having no session to use, which says what is wrong with what is there; `accepts` tells whose sessions
    /// the configuration accepts.
    #[must_use]
    pub(crate) fn no_session(
        &self,
        cache: &Cache,
        expected: &Expected<'_>,
        accepts: impl Fn(&Session) -> bool,
    ) -> Error {
        let waits = |stored: &StoredSession| stored.standing == Standing::Pending && accepts(&stored.session);
        if self.sessions().any(waits) {
            return cache.no_session().because("the new one is pending until the peer's first message arrives");
        }
        match (self.sessions().find_map(|stored| stored.session.mismatch(expected)), self.broken().next()) {
            (Some(why), _) => {
                cache.no_session().because(format!("the existing one does not match the configuration: {why}"))
            }
            (None, Some(broken)) => broken.clone(),
            (None, None) => cache.no_session(),
        }
    }

    /// Whether the last look is so old that it is time for another one.
    #[must_use]
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.refreshed.is_none_or(|refreshed| now >= refreshed + REFRESH_INTERVAL)
    }

    /// When to call [`Watch::may_have_changed`] next, if it is not time for that.
    #[must_use]
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.refreshed.map(|refreshed| refreshed + REFRESH_INTERVAL).filter(|due| *due > now)
    }

    /// What is readable while a session may have come or gone since the last look; `None` before [`Watch::next_look`], so that a
    /// directory in which much changes wakes nobody more often, and where the kernel does not tell.
    #[must_use]
    pub(crate) fn changes_fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.changes.as_ref().filter(|_| self.is_due(now))?.as_fd()
    }

    /// Whether a look is due, and would find a change, as far as the kernel tells it. The first call of a run that watches one peer
    /// begins to listen to it, which a short run has no time for.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the directory was removed: nothing changes there any more, of which the kernel could tell.
    pub(crate) fn may_have_changed(&mut self, cache: &Cache, now: Instant) -> Result<bool> {
        if !self.is_due(now) {
            return Ok(false);
        }
        cache.dir.check_present()?;
        if self.changes.is_none() {
            self.changes = Some(DirChanges::of(&cache.dir));
            return Ok(true);
        }
        Ok(self.changes_fd(now).is_some_and(stdio::is_readable))
    }

    /// Shares the keys that are in use already with the sessions that were read since the last call. Where none was, which
    /// a receiver asks for each message, this looks at no file.
    pub(crate) fn share_keys<'a>(&mut self, in_use: impl Fn(SessionId) -> Option<&'a Session>) {
        for peer in std::mem::take(&mut self.new) {
            if let Some(FileContent::Loaded(of_peer)) = self.files.get_mut(&peer).map(|file| &mut file.content) {
                of_peer.share_keys(&in_use);
            }
        }
    }

    /// Reads the sessions with a peer as they are now, with their keys, unless that was done; true if there are any.
    ///
    /// What is found may be another version than the one that is listed: then that counts as a change.
    pub(crate) fn load(&mut self, cache: &Cache, peer: PeerKey, date: SystemTime) -> bool {
        let Some(file) = self.files.get(&peer) else { return false };
        if file.content.loaded().is_none() {
            let read = WatchedFile::read(cache, peer, true, &mut PrivateReader::new(), date);
            self.put(peer, read);
        }
        !self.loaded_of(peer).is_empty()
    }

    /// Forgets the keys of the sessions with a peer, which are on disk.
    pub(crate) fn unload(&mut self, peer: PeerKey) {
        if self.reads == Reads::Loaded
            && let Some(WatchedFile { stamp, content }) = self.files.remove(&peer)
        {
            self.files.insert(peer, WatchedFile { stamp, content: content.unloaded() });
        }
    }

    /// The files of which the sessions changed since the last call, or their standings; none in the first call.
    pub(crate) fn take_changes(&mut self) -> Vec<FileChange> {
        let changed = self.changed.replace(BTreeMap::new()).unwrap_or_default();
        changed.into_iter().map(|(peer, before)| FileChange { peer, before }).collect()
    }

    /// At the next look, anything may have changed, as after a look that failed.
    #[cfg(test)]
    pub(super) fn lose_changes(&mut self) {
        self.changes = None;
    }

    /// Looks again at the files that changed, reading only those; true if a session came, went or changed its standing, or their
    /// order did. Where nothing changed this is one system call, and reading the order if all files are read with their keys.
    /// It is `date` that tells files that may still change without a new stamp.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the directory cannot be read.
    pub(crate) fn refresh(&mut self, cache: &Cache, now: Instant, date: SystemTime) -> Result<bool> {
        self.refreshed = Some(now);
        let changed = self.changed_peers(cache, date).and_then(|peers| {
            // After the kernel was asked, which tells of each later note; before a session is taken over, of which nobody would be
            // told if this failed.
            let order = if self.reads == Reads::All { cache.session_order()? } else { SessionOrder::default() };
            let has_changed = self.read_changed(cache, &peers, date)?;
            Ok(std::mem::replace(&mut self.order, order) != self.order || has_changed)
        });
        if changed.is_err() {
            // What was to be looked at is not known any more.
            self.changes = None;
        }
        changed
    }

    /// Reads those of the files that changed.
    fn read_changed(&mut self, cache: &Cache, peers: &[PeerKey], date: SystemTime) -> Result<bool> {
        if peers.is_empty() {
            return Ok(false);
        }
        let (mut reader, mut has_changed) = (PrivateReader::new(), false);
        if self.files.is_empty() && self.reads == Reads::Loaded && self.changed.is_none() {
            return Ok(self.list_all(
                peers
                    .iter()
                    .filter_map(|&peer| Some((peer, WatchedFile::read(cache, peer, false, &mut reader, date)?))),
            ));
        }
        for &peer in peers {
            // The stamp is taken before reading: a change in between makes the stamp old, never the data.
            if let Some(known) = self.files.get(&peer)
                && known.stamp.is_some()
                && known.stamp == files::stamp(&cache.dir, &cache.file_of(peer))?
            {
                continue;
            }
            let with_keys = match self.reads {
                Reads::All | Reads::One(_) => true,
                Reads::Loaded => self.files.get(&peer).is_some_and(|known| known.content.loaded().is_some()),
            };
            let read = WatchedFile::read(cache, peer, with_keys, &mut reader, date);
            has_changed |= self.put(peer, read);
        }
        Ok(has_changed)
    }

    /// The peers whose files may have changed.
    fn changed_peers(&mut self, cache: &Cache, date: SystemTime) -> Result<Vec<PeerKey>> {
        if let Reads::One(peer) = self.reads {
            if let Some(changes) = &mut self.changes {
                changes.look(&cache.dir, date)?;
            }
            return Ok(vec![peer]);
        }
        let changes = self.changes.get_or_insert_with(|| DirChanges::of(&cache.dir));
        Ok(match changes.look(&cache.dir, date)? {
            WhatChanged::Nothing => Vec::new(),
            WhatChanged::Files(names) => names.iter().filter_map(|name| cache.peer_in(name)).collect(),
            WhatChanged::Anything => {
                let mut peers = cache.peers()?;
                if !self.files.is_empty() {
                    let there: HashSet<_> = peers.iter().copied().collect();
                    peers.extend(self.files.keys().filter(|peer| !there.contains(*peer)));
                }
                peers
            }
        })
    }

    /// Takes over what was read of all files at the first look; true if there is any session.
    fn list_all(&mut self, files: impl Iterator<Item = (PeerKey, WatchedFile)>) -> bool {
        // Both are built of all at once, which takes less time than to insert one by one.
        let mut files: Vec<_> = files.collect();
        // As numbers, which are compared faster than bytes.
        files.sort_unstable_by_key(|(peer, _)| u128::from_be_bytes(*peer));
        self.files = files.into_iter().collect();
        let ids_of = |(peer, file): (&PeerKey, &WatchedFile)| {
            let peer = *peer;
            file.content.sessions().into_iter().map(move |listed| (number(listed.id), peer))
        };
        self.by_id = self.files.iter().flat_map(ids_of).collect();
        !self.by_id.is_empty()
    }

    /// Takes over what was read of a file, or that there is none; true if its sessions are others now, or of other standings.
    fn put(&mut self, peer: PeerKey, read: Option<WatchedFile>) -> bool {
        let known = self.files.remove(&peer).map(|known| known.content);
        let known = known.unwrap_or(FileContent::listed(&[]));
        let before: Vec<_> = known.sessions().iter().map(|listed| listed.id).collect();
        let has_changed = match &read {
            Some(file) => !file.content.has_same_standings(&known),
            None => !before.is_empty(),
        };
        if has_changed {
            for id in &before {
                self.by_id.remove(&number(*id));
            }
        }
        if let Some(mut file) = read {
            if has_changed {
                self.by_id.extend(file.content.sessions().iter().map(|listed| (number(listed.id), peer)));
            }
            if let FileContent::Loaded(of_peer) = &mut file.content {
                self.new.insert(peer);
                if let Some(known) = known.loaded() {
                    of_peer.share_keys(|id| known.session(id));
                }
            }
            self.files.insert(peer, file);
        }
        if has_changed && let Some(changed) = &mut self.changed {
            changed.entry(peer).or_insert(before);
        }
        has_changed
    }
}
