//! What `sts-pair --status` shows: everything about a link's sessions but their keys.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Cache, Counters, OpenStream, PeerSessions, ReceiveState, Totals, link_of, peer_of, usual_dirs};
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
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

/// The names of all links that have sessions, of either version of the protocol, in order; none where there is no runtime
/// directory. Root may look at any user's.
///
/// # Errors
/// As [`Dir::look`].
pub(crate) fn links(path: &Path) -> Result<Vec<LinkName>> {
    links_by(path, link_of)
}

/// As [`links`], of STS/2 only.
///
/// # Errors
/// As [`Dir::look`].
pub(crate) fn sealed_links(path: &Path) -> Result<Vec<LinkName>> {
    links_by(path, |name| peer_of(name).map(|(link, _)| link))
}

/// The links that have sessions of STS/2, with the beginnings of the fingerprints of their peers. Reads no session.
///
/// # Errors
/// As [`Dir::look`].
pub(crate) fn sealed_peers(path: &Path) -> Result<BTreeMap<LinkName, Vec<[u8; 16]>>> {
    let mut links: BTreeMap<String, Vec<_>> = BTreeMap::new();
    if let Some(dir) = Dir::look(path, Guard::Private)? {
        dir.each_name(|name| {
            let Some((link, peer)) = peer_of(name) else { return };
            match links.get_mut(link) {
                Some(peers) => peers.push(peer),
                None => drop(links.insert(link.to_owned(), vec![peer])),
            }
        })?;
    }
    Ok(links.into_iter().filter_map(|(link, peers)| Some((link.parse().ok()?, peers))).collect())
}

fn links_by(path: &Path, link_of: fn(&str) -> Option<&str>) -> Result<Vec<LinkName>> {
    let Some(dir) = Dir::look(path, Guard::Private)? else { return Ok(Vec::new()) };
    let mut links: Vec<_> =
        dir.names()?.iter().filter_map(|name| link_of(name)).filter_map(|link| link.parse().ok()).collect();
    links.sort_unstable();
    links.dedup();
    Ok(links)
}

/// The status of one link at `now`, in seconds since 1970.
///
/// # Errors
/// [`crate::Exit::Failed`] where the directory cannot be read; a file in it that cannot is in [`LinkStatus::broken`].
pub(crate) fn status(cache: &Cache, now: u64) -> Result<LinkStatus> {
    let mut broken = Vec::new();
    let state = ReceiveState::read(cache).unwrap_or_else(|err| {
        broken.push(err);
        None
    });
    let state = state.unwrap_or_default();
    let mut sessions = Vec::new();
    for name in cache.names()? {
        let of_peer = cache.read(&name).unwrap_or_else(|err| {
            broken.push(err);
            PeerSessions::default()
        });
        for stored in of_peer.sessions {
            let session = &stored.session;
            let (streams, counters) = state.session(session.id).unzip();
            sessions.push(SessionStatus {
                peer: session.peer,
                role: session.role,
                suite: session.suite,
                standing: stored.standing,
                created: session.created,
                age: session.age(now),
                streams_reserved: stored.streams,
                received: counters.cloned().unwrap_or_default(),
                open: state.open_streams(session.id, now),
                missing: streams.map(crate::stream::Streams::missing).unwrap_or_default(),
            });
        }
    }
    let rotation = cache.rotation().unwrap_or_else(|err| {
        broken.push(err);
        None
    });
    let rejected = state.rejected().filter(|(_, count)| *count > 0).collect();
    let past = state.past().clone();
    Ok(LinkStatus { link: cache.link().clone(), sessions, rotation, rejected, past, broken })
}
