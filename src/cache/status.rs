//! What `sts-pair --status` shows: everything about a link's sessions but their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::path::{Path, PathBuf};

use super::{Cache, Counters, OpenStream, PeerKey, ReceiveState, SessionOutline, Totals, link_of, peer_of, usual_dirs};
use crate::crypto::schedule::Digest;
use crate::files::PrivateReader;
use crate::name::LinkName;
use crate::role::Role;
use crate::session::Standing;
use crate::stream::Ranges;
use crate::suite::Suite;
use crate::{Error, Rejected, Result};

/// One session, without its keys.
#[derive(Clone, Debug)]
pub(crate) struct SessionStatus {
    /// The peer's fingerprint.
    pub(crate) peer: Digest,
    /// Which side we are.
    pub(crate) role: Role,
    /// How messages are sealed.
    pub(crate) suite: Suite,
    /// What it may be used for.
    pub(crate) standing: Standing,
    /// When it was agreed, in seconds since 1970.
    pub(crate) created: u64,
    /// Age in seconds; `None` where it is stamped in the future.
    pub(crate) age: Option<u64>,
    /// How many stream numbers were reserved to send under it.
    pub(crate) streams_reserved: u64,
    /// What was received under it.
    pub(crate) received: Counters,
    /// The streams of which more is to come, or the end was lost; the longest idle first.
    pub(crate) open: Vec<OpenStream>,
    /// The peer's stream numbers below the highest of which no messages were received.
    pub(crate) missing: Ranges,
}

/// One link.
#[derive(Debug)]
pub(crate) struct LinkStatus {
    /// Its name.
    pub(crate) link: LinkName,
    /// Its sessions; those with one peer stand together, newest first.
    pub(crate) sessions: Vec<SessionStatus>,
    /// After how many seconds cron replaces a session, where `--if-older` was ever given.
    pub(crate) rotation: Option<u64>,
    /// How many messages were dropped, per reason; only reasons with any.
    pub(crate) rejected: Vec<(Rejected, u64)>,
    /// What was received from each peer under sessions that are gone.
    pub(crate) past: BTreeMap<Digest, Totals>,
    /// Files that could not be read.
    pub(crate) broken: Vec<Error>,
}

impl LinkStatus {
    /// A link of which nothing is stored.
    pub(crate) fn without_sessions(link: LinkName) -> Self {
        let (sessions, rejected, past, broken) = (Vec::new(), Vec::new(), BTreeMap::new(), Vec::new());
        Self { link, sessions, rotation: None, rejected, past, broken }
    }
}

/// Another directory where sessions usually are, if there are any in it.
#[must_use]
pub(crate) fn other_dir(path: &Path) -> Option<PathBuf> {
    usual_dirs::other_with_sessions(path, None)
}

/// All links that have sessions, of either version of the protocol, each with its peers in the order of the directory, which is
/// read once for all of them; none where there is no runtime directory. Root may look at any user's.
///
/// # Errors
/// As [`usual_dirs::look`].
pub(crate) fn links_with_peers(path: &Path) -> Result<BTreeMap<LinkName, Vec<PeerKey>>> {
    let Some(dir) = usual_dirs::look(path)? else { return Ok(BTreeMap::new()) };
    let mut links: BTreeMap<String, Vec<PeerKey>> = BTreeMap::new();
    dir.each_name(|name| {
        let Some(link) = link_of(name) else { return };
        let peer = peer_of(name).map(|(_, peer)| peer);
        match links.get_mut(link) {
            Some(peers) => peers.extend(peer),
            None => drop(links.insert(link.to_owned(), peer.into_iter().collect())),
        }
    })?;
    Ok(links.into_iter().filter_map(|(link, peers)| Some((link.parse().ok()?, peers))).collect())
}

/// Calls `visit` with each link that has sessions of STS/2 and each of its peers, in any order, until that says of the link that its
/// other peers do not matter. Reads no session.
///
/// # Errors
/// As [`usual_dirs::look`].
pub(crate) fn each_sealed_peer(path: &Path, mut visit: impl FnMut(&LinkName, PeerKey) -> bool) -> Result<()> {
    let Some(dir) = usual_dirs::look(path)? else { return Ok(()) };
    let mut done: BTreeSet<String> = BTreeSet::new();
    dir.each_name(|name| {
        // Of the hundred thousand names of a fleet, nearly all are of a link that is done: nothing else is looked at.
        let is_done = name.split_once('@').is_some_and(|(link, _)| done.contains(link));
        if !is_done
            && let Some((link, peer)) = peer_of(name)
            && link.parse().map_or(true, |link| !visit(&link, peer))
        {
            done.insert(link.to_owned());
        }
    })
}

/// The status of one link at `now`, in seconds since 1970; `peers` are those with sessions on the link.
pub(crate) fn status(cache: &Cache, peers: Vec<PeerKey>, now: u64) -> LinkStatus {
    let (mut status, reader) = StatusReader::open(cache, peers, now);
    let mut all = Vec::new();
    let Ok(()) = reader.each(&mut status, |_, sessions| {
        all.push(sessions);
        Ok::<_, Infallible>(true)
    });
    // In the same order each time, as people compare what they see.
    all.sort_unstable_by_key(|of_peer| of_peer[0].peer);
    status.sessions = all.into_iter().flatten().collect();
    status
}

/// What was read, if it could be; else the error is added to the link's status.
fn or_broken<T>(read: Result<Option<T>>, status: &mut LinkStatus) -> Option<T> {
    read.unwrap_or_else(|err| {
        status.broken.push(err);
        None
    })
}

/// Reads the status of a link peer by peer: of a hundred thousand, one is in memory at a time.
pub(crate) struct StatusReader<'a> {
    cache: &'a Cache,
    state: ReceiveState,
    peers: Vec<PeerKey>,
    now: u64,
}

impl<'a> StatusReader<'a> {
    /// Reads what is not of one peer, at `now`, in seconds since 1970; `peers` are those with sessions on the link. A file that
    /// cannot be read is in [`LinkStatus::broken`].
    pub(crate) fn open(cache: &'a Cache, peers: Vec<PeerKey>, now: u64) -> (LinkStatus, Self) {
        let mut status = LinkStatus::without_sessions(cache.link().clone());
        let state = or_broken(ReceiveState::read(cache), &mut status).unwrap_or_default();
        status.rotation = or_broken(cache.rotation(), &mut status);
        status.rejected = state.rejected().filter(|(_, count)| *count > 0).collect();
        status.past = state.past().clone();
        (status, Self { cache, state, peers, now })
    }

    /// Hands the sessions with each peer to `visit`, in any order of the peers, until that says false. What cannot be read is
    /// added to the link's status.
    ///
    /// # Errors
    /// Those of `visit`.
    pub(crate) fn each<E>(
        self,
        status: &mut LinkStatus,
        mut visit: impl FnMut(&LinkStatus, Vec<SessionStatus>) -> std::result::Result<bool, E>,
    ) -> std::result::Result<(), E> {
        let mut reader = PrivateReader::new();
        for &peer in &self.peers {
            let read = reader.read(&self.cache.dir, &self.cache.file_of(peer));
            let outlines =
                read.and_then(|read| read.map_or(Ok(Vec::new()), |(_, bytes)| self.cache.outline(peer, bytes)));
            match outlines {
                Ok(outlines) if outlines.is_empty() => {}
                Ok(outlines) => {
                    let sessions = outlines.iter().map(|outline| self.session(outline)).collect();
                    if !visit(status, sessions)? {
                        break;
                    }
                }
                Err(err) => status.broken.push(err),
            }
        }
        Ok(())
    }

    fn session(&self, outline: &SessionOutline) -> SessionStatus {
        let SessionOutline { id, standing, role, suite, peer, created, streams: streams_reserved, .. } = *outline;
        let (streams, counters) = self.state.session(id).unzip();
        SessionStatus {
            peer,
            role,
            suite,
            standing,
            created,
            age: self.now.checked_sub(created),
            streams_reserved,
            received: counters.cloned().unwrap_or_default(),
            open: self.state.open_streams(id, self.now),
            missing: streams.map(crate::stream::Streams::missing).unwrap_or_default(),
        }
    }
}
