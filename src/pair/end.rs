//! `sts-pair --end`: tells the peer that its sessions are over, and deletes them.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{PEER_NOT_TOLD, encrypted_peers};

use crate::cache::{Cache, StoredSession};
use crate::crypto::schedule::Digest;
use crate::event_loop::{EventLoop, Stop};
use crate::handshake::{AcceptedPeers, Peer};
use crate::link::{Link, Tool};
use crate::mqtt::Qos;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::session::Standing;
use crate::sessions::fresh_salt;
use crate::stdio::Signals;
use crate::stream::{Preamble, Sender};
use crate::{Error, Exit, Result};

/// What the command line says of the end of sessions.
#[derive(Clone, Copy, Debug)]
pub struct EndOptions<'a> {
    /// End only the sessions with this peer.
    pub to: Option<&'a PeerName>,
    /// When to give up.
    pub timeout: Option<Duration>,
}

/// A KILL, and the topic to publish it on.
struct KillMessage {
    topic: String,
    frame: Bytes,
}

/// Sends KILL under the current session and deletes every session, even if KILL could not be sent: with the peer `to`, or with
/// all peers of the link. With all peers goes the session with the old program, if the link had one before: it cannot be told.
///
/// # Errors
/// [`Exit::Usage`] if the link has no peer of that name; [`Exit::TryAgain`] if there was no session, or if the broker did not
/// acknowledge KILL within `timeout`; [`Exit::Unavailable`] if it refused the connection, or if there was none. The sessions
/// are deleted in any case.
pub fn run(link: &Link, options: EndOptions<'_>, report: &Reporter) -> Result<()> {
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return super::legacy::end(link, legacy, options, report);
    }
    let EndOptions { to, timeout } = options;
    let (mut ended, mut told) = (false, Ok(()));
    #[cfg(feature = "legacy")]
    if to.is_none()
        && link.config.sealed().is_some()
        && let Ok(cache) = link.cache()
    {
        // An error keeps no other session.
        ended = super::legacy::delete_replaced(&cache, report).unwrap_or_else(|error| {
            told = Err(error);
            false
        });
        if ended && cache.load().is_ok_and(|sessions| sessions.is_empty()) {
            return Ok(());
        }
    }
    let mut peers = encrypted_peers(link)?;
    if let Some(name) = to {
        peers.restrict_to(name)?;
    }
    let cache = link.cache()?;
    let accepted = peers.accepted()?;
    let mut kills = VecDeque::new();
    for Peer { key, .. } in accepted.iter() {
        match kill(link, &peers, &cache, key.fingerprint().as_bytes()) {
            Ok(kill) => kills.extend(kill),
            // How to mend the sessions is of no use: they are deleted.
            Err(error) => told = told.and(Err(error.hint(PEER_NOT_TOLD))),
        }
    }
    if !kills.is_empty() {
        told = told.and(publish(link, kills, timeout, report).map_err(|error| error.and_hint(PEER_NOT_TOLD)));
    }
    ended |= delete_sessions(&cache, &accepted, report)?;
    if ended { told } else { told.and(Err(cache.no_session().hint(PEER_NOT_TOLD))) }
}

/// Deletes the sessions with each of these peers, whatever kept KILL from being made or sent; false if there were none.
fn delete_sessions(cache: &Cache, accepted: &AcceptedPeers, report: &Reporter) -> Result<bool> {
    let mut ended = false;
    for Peer { name, key } in accepted.iter() {
        if cache.delete_all(key.fingerprint().as_bytes())? {
            report.info(format_args!("deleted the sessions with {name}"));
            ended = true;
        }
    }
    Ok(ended)
}

/// The KILL for a peer; `None` if there is no session to seal it under.
fn kill(link: &Link, peers: &LinkPeers, cache: &Cache, peer: &Digest) -> Result<Option<KillMessage>> {
    let is_current = |stored: &StoredSession| {
        stored.standing == Standing::Current && stored.session.mismatch(&peers.expected()).is_none()
    };
    let Some(stored) = cache.load_peer(peer)?.sessions.into_iter().find(is_current) else { return Ok(None) };
    let (salt, max_message) = (fresh_salt()?, link.config.mqtt.max_message);
    let (stream, ended) = cache.begin_stream(peer, stored.session.id, salt, &[], max_message)?;
    let mut sender = Sender::new(&stored.session, stream, salt, max_message)?;
    sender.begin_with(Preamble { ended, ..Preamble::default() });
    let topic = peers.route.publish(&stored.session.topics).to_owned();
    sender.kill(&mut rand::rng()).map(|frame| Some(KillMessage { topic, frame }))
}

/// Publishes each KILL and waits until the broker has all of them.
fn publish(link: &Link, mut kills: VecDeque<KillMessage>, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let broker = link.connect(Tool::Pair, &mut rand::rng())?;
    let mut event_loop = EventLoop::new(broker, Signals::catch()?, report);
    link.enter_sandbox(link.pairing_needs(false), report);
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let qos = link.config.mqtt.qos.max(Qos::AtLeastOnce);
    loop {
        let now = event_loop.begin_turn();
        while event_loop.next_event()?.is_some() {}
        while kills.front().is_some_and(|kill| event_loop.broker.has_room(kill.topic.len() + kill.frame.len()))
            && let Some(KillMessage { topic, frame }) = kills.pop_front()
        {
            event_loop.broker.publish(&topic, frame, qos, false)?;
        }
        if kills.is_empty() && event_loop.broker.unacknowledged().messages == 0 {
            return event_loop.close().map(drop);
        }
        if event_loop.stop_requested() > Stop::No || until.is_some_and(|until| now >= until) {
            const WHAT: &str = "the peer was not told";
            return Err(event_loop.unreachable(WHAT).unwrap_or_else(|| {
                let endpoint = &link.config.mqtt.endpoint;
                Error::new(Exit::TryAgain, WHAT)
                    .because(format!("the broker at {endpoint} did not acknowledge the message"))
            }));
        }
        event_loop.wait(None, until, now)?;
    }
}
