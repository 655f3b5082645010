//! `sts-pair --end`: tells the peer that it is over, and deletes the sessions with it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt;
use rustix::event::PollFlags;

use crate::cache::{Cache, Stored};
use crate::cli::Reporter;
use crate::crypto::schedule::Digest;
use crate::handshake::Peer;
use crate::link::{Ends, Link, Tool};
use crate::mqtt::{Event, Qos};
use crate::pipe::Signals;
use crate::session::Standing;
use crate::stream::Sender;
use crate::turn;
use crate::{Error, Exit, Result};

/// Sends KILL under the current session and deletes every session with the link's peers, whatever came of it.
///
/// # Errors
/// [`Exit::TryAgain`] where there was no session, or the broker did not acknowledge KILL in `timeout`;
/// [`Exit::Unavailable`] where it refused us. The sessions are deleted all the same.
pub fn run(link: &Link, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let ends = super::encrypted(link)?;
    let cache = link.sessions()?;
    let peers = ends.peers()?;
    let mut outcome = None;
    for Peer { name, key } in &peers {
        let peer = *key.fingerprint().as_bytes();
        let told = kill(link, &ends, &cache, &peer).and_then(|kill| match kill {
            Some(kill) => tell(link, kill, timeout, report),
            None => Ok(()),
        });
        // Whatever kept KILL from being made or sent: these keys are to go.
        if cache.end(&peer)? {
            report.info(format_args!("the sessions with {name} are deleted"));
            outcome = Some(outcome.unwrap_or(Ok(())).and(told));
        }
    }
    outcome
        .unwrap_or_else(|| Err(cache.no_session()))
        .map_err(|error| error.hint("the other device may not know: run sts-pair --end there, too"))
}

/// The KILL for a peer; `None` where there is no session to seal it under.
fn kill(link: &Link, ends: &Ends, cache: &Cache, peer: &Digest) -> Result<Option<Bytes>> {
    let current =
        |stored: &Stored| stored.standing == Standing::Current && stored.session.mismatch(&ends.expected()).is_none();
    let Some(stored) = cache.load_peer(peer)?.into_iter().find(current) else { return Ok(None) };
    let mut rng = rand::rng();
    let taken = cache.take_stream(peer, &stored.session.id)?;
    let mut sender = Sender::new(&stored.session, taken, rng.random(), link.config.mqtt.max_message)?;
    sender.kill(&mut rng).map(Some)
}

/// Publishes KILL and waits until the broker has it.
fn tell(link: &Link, kill: Bytes, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let mut client = link.connect(Tool::Pair, &mut rand::rng())?;
    let mut ready = PollFlags::empty();
    let mut signals = Signals::catch()?;
    let until = timeout.map(|timeout| Instant::now() + timeout);
    let qos = link.config.mqtt.qos.max(Qos::AtLeastOnce);
    client.publish(link.config.publish.as_str(), kill, qos, false)?;
    loop {
        let now = Instant::now();
        client.drive(now, ready);
        while let Some(event) = client.next_event() {
            match event {
                Event::Acked(_) => return turn::leave(&mut client, &mut signals),
                Event::Refused(error) => return Err(error),
                Event::Down { why, .. } => report.verbose(why),
                _ => {}
            }
        }
        if signals.count() > 0 || until.is_some_and(|until| now >= until) {
            return Err(Error::new(Exit::TryAgain, "the peer was not told")
                .because(format!("the broker at {} did not acknowledge it", link.config.mqtt.endpoint)));
        }
        ready = turn::wait(&client, &signals, None, until, now)?;
    }
}
