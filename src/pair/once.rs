//! `sts-pair` without an action: agrees one session with the link's peer.

use std::time::Duration;

use super::progress_line::ProgressLine;
use super::run::{PairRun, Purpose, handshake};
use super::{if_older, pinned_party, pinned_peers};
use crate::Result;
use crate::link::Link;
use crate::report::Reporter;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::units::Age;

/// What the command line says of one pairing.
#[derive(Clone, Copy, Debug)]
pub struct OnceOptions {
    /// When to give up.
    pub timeout: Option<Duration>,
    /// Keep the session if it is younger, and the peer still has it.
    pub if_older: Option<Age>,
}

/// Agrees a session with the link's peer and stores it; gives up after the timeout, if there is one. A session that is younger
/// than `if_older`, and that the peer still has, is kept instead (`sts-protocol(7)`, "Still there").
///
/// # Errors
/// [`crate::Exit::TryAgain`] when time is up, or if another sts-pair runs on the link; [`crate::Exit::Protocol`] if the
/// authenticated peer asks for another suite; [`crate::Exit::NotTrusted`] if no peer is pinned; [`crate::Exit::Unavailable`]
/// if the broker refuses the connection, or if there is none when time is up; [`crate::Exit::Usage`] on a link without
/// encryption.
pub fn run(link: &Link, options: OnceOptions, report: &Reporter) -> Result<()> {
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return super::legacy::once(link, legacy, options, report);
    }
    let OnceOptions { timeout, if_older } = options;
    let peers = pinned_peers(link, report)?;
    let cache = link.create_cache()?;
    let _locks = cache.lock_pairing()?;
    let check = match if_older {
        Some(age) => if_older::session_check(age, &peers, &cache, report)?,
        None => None,
    };
    let handshake = handshake(&peers, pinned_party(&peers)?);
    let purpose = Purpose::Once { if_older, progress: ProgressLine::new(timeout) };
    let sessions = LinkSessions::new(peers, cache);
    let signals = Signals::catch()?;
    link.enter_sandbox(link.pairing_needs(false), report);
    PairRun::begin(link, report, sessions, handshake, purpose, check, signals)?.finish().map(drop)
}
