//! One session file, as a running tool saw it last: with its keys, or as a line in a list.

use std::time::SystemTime;

use super::{Cache, PeerKey, PeerSessions, SessionOutline, StoredSession};
use crate::Error;
use crate::crypto::schedule::Digest;
use crate::files::{PrivateReader, Stamp};
use crate::session::{SessionId, Standing};

/// A session in a list of them, without its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ListedSession {
    /// Names it.
    pub(crate) id: SessionId,
    /// The fingerprint of the peer's key.
    pub(crate) peer: Digest,
    /// What it may be used for.
    pub(crate) standing: Standing,
    /// Something was received under it, so there must be receive state.
    pub(crate) received: bool,
}

/// A session file at the last look.
#[derive(Debug)]
pub(super) struct WatchedFile {
    /// `None` where the file was too new to tell its next version from this one.
    pub(super) stamp: Option<Stamp>,
    pub(super) content: FileContent,
}

impl WatchedFile {
    /// Reads a file, with its keys or as a list; `None` where it is absent. It is `date` that tells whether it may still change
    /// without a new stamp.
    pub(super) fn read(
        cache: &Cache,
        peer: PeerKey,
        with_keys: bool,
        reader: &mut PrivateReader,
        date: SystemTime,
    ) -> Option<Self> {
        let broken = |error| FileContent::Broken(Box::new(error));
        let (stamp, content) = match reader.read(&cache.dir, &cache.file_of(peer)) {
            Ok(None) => return None,
            Ok(Some((stamp, bytes))) if with_keys => {
                let loaded = |of_peer| FileContent::Loaded(Box::new(of_peer));
                (Some(stamp), cache.parse_usable(peer, bytes).map_or_else(broken, loaded))
            }
            Ok(Some((stamp, bytes))) => {
                (Some(stamp), cache.outline(peer, bytes).map_or_else(broken, |outlines| FileContent::listed(&outlines)))
            }
            Err(error) => (None, broken(error)),
        };
        Some(Self { stamp: stamp.filter(|stamp| stamp.is_stable(date)), content })
    }
}

/// What is in memory of a file. Of a hundred thousand files most are listed, so this is small.
#[derive(Debug)]
pub(super) enum FileContent {
    /// Which sessions it has; their keys are on disk only.
    Listed { peer: Digest, sessions: Box<[ListedId]> },
    /// All of it.
    Loaded(Box<PeerSessions>),
    /// It cannot be read: its peer has no session.
    Broken(Box<Error>),
}

/// A session of a file that is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListedId {
    id: SessionId,
    standing: Standing,
    received: bool,
}

impl FileContent {
    /// The list of these sessions, which are all of one peer.
    pub(super) fn listed(outlines: &[SessionOutline]) -> Self {
        let peer = outlines.first().map(|outline| outline.peer).unwrap_or_default();
        let listed = |outline: &SessionOutline| {
            let SessionOutline { id, standing, received, .. } = *outline;
            ListedId { id, standing, received }
        };
        Self::Listed { peer, sessions: outlines.iter().map(listed).collect() }
    }

    /// The file without its keys.
    pub(super) fn unloaded(self) -> Self {
        match self {
            Self::Loaded(of_peer) => {
                let outlines: Vec<_> = of_peer.sessions.iter().map(SessionOutline::from).collect();
                Self::listed(&outlines)
            }
            other => other,
        }
    }

    /// All of it, if it is in memory.
    pub(super) fn loaded(&self) -> Option<&PeerSessions> {
        if let Self::Loaded(of_peer) = self { Some(of_peer) } else { None }
    }

    /// Its sessions, newest first.
    pub(super) fn sessions(&self) -> Vec<ListedSession> {
        match self {
            Self::Listed { peer, sessions } => {
                let listed = |&ListedId { id, standing, received }: &ListedId| ListedSession {
                    id,
                    peer: *peer,
                    standing,
                    received,
                };
                sessions.iter().map(listed).collect()
            }
            Self::Loaded(of_peer) => of_peer.sessions.iter().map(ListedSession::from).collect(),
            Self::Broken(_) => Vec::new(),
        }
    }

    /// Whether the same sessions are in two versions of a file, each of the same standing.
    pub(super) fn has_same_standings(&self, other: &Self) -> bool {
        let standings =
            |content: &Self| content.sessions().iter().map(|listed| (listed.id, listed.standing)).collect::<Vec<_>>();
        standings(self) == standings(other)
    }
}

impl From<&StoredSession> for ListedSession {
    fn from(stored: &StoredSession) -> Self {
        let StoredSession { session, standing, received, .. } = stored;
        Self { id: session.id, peer: session.peer, standing: *standing, received: *received }
    }
}
