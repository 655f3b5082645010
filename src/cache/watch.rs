//! A running tool's view of its link's sessions, kept up to date at the price of one stat.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::{Cache, PeerSessions, StoredSession};
use crate::crypto::schedule::Digest;
use crate::files::{self, Stamp};
use crate::session::{Expected, Session, SessionId, Standing};
use crate::{Error, Result};

/// Time between two looks of a running tool whether a session came or went, while there is anything to do.
const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct File {
    /// `None` where the file was too new to tell its next version from this one.
    stamp: Option<Stamp>,
    sessions: Result<PeerSessions>,
    /// It was read after the last [`Watch::share_keys`].
    is_new: bool,
}

/// The sessions of a link as they were at the last look.
#[derive(Debug, Default)]
pub struct Watch {
    /// The only file to look at; `None`: all of the link's.
    only: Option<String>,
    refreshed: Option<Instant>,
    dir: Option<Stamp>,
    files: BTreeMap<String, File>,
    standings: Vec<(SessionId, Standing)>,
    /// Some file was read since [`Watch::share_keys`].
    has_new: bool,
}

impl Watch {
    /// A first look.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn new(cache: &Cache, now: Instant, date: SystemTime) -> Result<Self> {
        let mut watch = Self::default();
        watch.refresh(cache, now, date)?;
        Ok(watch)
    }

    /// A first look at the sessions with one peer, whatever others there are: a stat of one file is all that the next
    /// looks cost.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(crate) fn of_peer(cache: &Cache, peer: &Digest, now: Instant, date: SystemTime) -> Result<Self> {
        let mut watch = Self { only: Some(cache.name(peer)), ..Self::default() };
        watch.refresh(cache, now, date)?;
        Ok(watch)
    }

    /// All sessions; those with one peer stand together, newest first.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &StoredSession> {
        self.readable().flat_map(|of_peer| &of_peer.sessions)
    }

    fn readable(&self) -> impl Iterator<Item = &PeerSessions> {
        self.files.values().filter_map(|file| file.sessions.as_ref().ok())
    }

    /// All sessions with the peer of the session `id`; `None` where that is not there.
    pub(super) fn of_peer_with(&self, id: SessionId) -> Option<&PeerSessions> {
        self.readable().find(|of_peer| of_peer.sessions.iter().any(|stored| stored.session.id == id))
    }

    /// Files that could not be read, each with the error that says why: their peers have no session.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &Error> {
        self.files.values().filter_map(|file| file.sessions.as_ref().err())
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

    /// Shares the keys that are in use already with the sessions that were read since the last call. Where none was, which
    /// a receiver asks for each message, this looks at no file.
    pub(crate) fn share_keys<'a>(&mut self, in_use: impl Fn(SessionId) -> Option<&'a Session>) {
        if !std::mem::take(&mut self.has_new) {
            return;
        }
        for file in self.files.values_mut().filter(|file| file.is_new) {
            file.is_new = false;
            if let Ok(sessions) = &mut file.sessions {
                sessions.share_keys(&in_use);
            }
        }
    }

    /// Looks again where the directory changed, reading only files that changed; true if a session came, went or
    /// changed its standing. Where nothing changed this is one stat. It is `date` that tells files that may still change
    /// without a new stamp.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the directory cannot be read.
    pub(crate) fn refresh(&mut self, cache: &Cache, now: Instant, date: SystemTime) -> Result<bool> {
        self.refreshed = Some(now);
        // Stamps are taken before reading: a change in between makes the stamp old, never the data.
        let (dir, names) = if let Some(name) = &self.only {
            (None, vec![name.clone()])
        } else {
            let dir = files::dir_stamp(&cache.dir)?;
            if self.dir == Some(dir) {
                return Ok(false);
            }
            (Some(dir), cache.names()?)
        };
        let mut files = BTreeMap::new();
        for name in names {
            let Some(stamp) = files::stamp(&cache.dir, &name)? else { continue };
            let file = match self.files.remove(&name) {
                Some(known) if known.stamp == Some(stamp) => known,
                known => {
                    let mut sessions = cache.read(&name);
                    if let (Ok(read), Some(Ok(known))) = (&mut sessions, known.map(|known| known.sessions)) {
                        read.share_keys(|id| known.session(id));
                    }
                    self.has_new = true;
                    File { stamp: Some(stamp).filter(|stamp| stamp.is_stable(date)), sessions, is_new: true }
                }
            };
            files.insert(name, file);
        }
        self.files = files;
        self.dir = dir.filter(|stamp| stamp.is_stable(date));
        let standings = self.sessions().map(|stored| (stored.session.id, stored.standing)).collect();
        let before = std::mem::replace(&mut self.standings, standings);
        Ok(before != self.standings)
    }
}
