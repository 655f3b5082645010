//! `sts-pair --end`: tells the peer that it is over, and deletes the sessions with it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use rustix::event::PollFlags;

use crate::cache::{Cache, StoredSession};
use crate::cli::Reporter;
use crate::crypto::schedule::Digest;
use crate::event_loop;
use crate::handshake::Peer;
use crate::link::{Link, Tool};
use crate::mqtt::{Event, Qos};
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::session::Standing;
use crate::stdio::Signals;
use crate::stream::Sender;
use crate::{Error, Exit, Result};

/// Sends KILL under the current session and deletes every session, whatever came of it: with `to`, or with all of the
/// link's peers.
///
/// # Errors
/// [`Exit::Usage`] where the link has no peer of that name; [`Exit::TryAgain`] where there was no session, or the broker
/// did not acknowledge KILL in `timeout`; [`Exit::Unavailable`] where it refused us. The sessions are deleted all the same.
pub fn run(link: &Link, to: Option<&PeerName>, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let mut ends = super::encrypted(link)?;
    if let Some(name) = to {
        ends.restrict_to(name)?;
    }
    let cache = link.cache()?;
    let peers = ends.accepted()?;
    let mut told = Ok(());
    let mut kills = VecDeque::new();
    for Peer { key, .. } in peers.iter() {
        match kill(link, &ends, &cache, key.fingerprint().as_bytes()) {
            Ok(kill) => kills.extend(kill),
            Err(error) => told = told.and(Err(error)),
        }
    }
    if !kills.is_empty() {
        told = told.and(tell(link, kills, timeout, report));
    }
    let mut ended = false;
    for Peer { name, key } in peers.iter() {
        // Whatever kept KILL from being made or sent: these keys are to go.
        if cache.delete_all(key.fingerprint().as_bytes())? {
            report.info(format_args!("the sessions with {name} are deleted"));
            ended = true;
        }
    }
    if ended { told } else { Err(cache.no_session()) }
        .map_err(|error| error.hint("the other device may not know: run sts-pair --end there, too"))
}

/// The KILL for a peer, and its topic; `None` where there is no session to seal it under.
fn kill(link: &Link, ends: &LinkPeers, cache: &Cache, peer: &Digest) -> Result<Option<(String, Bytes)>> {
    let current = |stored: &StoredSession| {
        stored.standing == Standing::Current && stored.session.mismatch(&ends.expected()).is_none()
    };
    let Some(stored) = cache.load_peer(peer)?.sessions.into_iter().find(current) else { return Ok(None) };
    let mut rng = rand::rng();
    let taken = cache.reserve_stream(peer, &stored.session.id)?;
    let mut sender = Sender::new(&stored.session, taken, rng.random(), link.config.mqtt.max_message)?;
    let topic = ends.route.publish(&stored.session.topics).to_owned();
    sender.kill(&mut rng).map(|kill| Some((topic, kill)))
}

/// Publishes each KILL and waits until the broker has all of them.
fn tell(link: &Link, mut kills: VecDeque<(String, Bytes)>, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let mut client = link.connect(Tool::Pair, &mut rand::rng())?;
    let mut ready = PollFlags::empty();
    let mut signals = Signals::catch()?;
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let qos = link.config.mqtt.qos.max(Qos::AtLeastOnce);
    loop {
        let now = Instant::now();
        while kills.front().is_some_and(|(topic, kill)| client.has_room(topic.len() + kill.len()))
            && let Some((topic, kill)) = kills.pop_front()
        {
            client.publish(&topic, kill, qos, false)?;
        }
        client.drive(now, ready);
        while let Some(event) = client.next_event() {
            match event {
                Event::Refused(error) => return Err(error),
                Event::Down { why, .. } => report.verbose(why),
                _ => {}
            }
        }
        if kills.is_empty() && client.unacknowledged().messages == 0 {
            return event_loop::leave(&mut client, &mut signals);
        }
        if signals.count() > 0 || until.is_some_and(|until| now >= until) {
            return Err(Error::new(Exit::TryAgain, "the peer was not told")
                .because(format!("the broker at {} did not acknowledge it", link.config.mqtt.endpoint)));
        }
        ready = event_loop::wait(&client, &signals, None, until, now)?;
    }
}
