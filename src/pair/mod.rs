//! sts-pair: agrees a session with the device at the other end of a link, and manages keys and sessions.
//!
//! Pairing is one [`run`] over the broker, from SUBSCRIBE to a session that both ends have stored. [`once`], [`enrol`],
//! [`serve`] and [`keep`] are its purposes; [`end`] only sends KILL, [`check`] tries each step, and [`keys`], [`peers`] and
//! [`status`] need no broker.
//! A link to the old program (`sts_version = 1`) has its own in `legacy`.

mod actions;
pub mod check;
mod claims;
mod code_prompt;
mod code_source;
pub mod end;
pub mod enrol;
mod enrolment_outcome;
mod if_older;
mod incoming;
pub mod keep;
mod keeper;
mod key_exchange_queue;
pub mod keys;
#[cfg(feature = "legacy")]
mod legacy;
pub mod once;
pub mod peers;
mod peers_input;
mod progress_line;
mod run;
pub mod serve;
mod service;
mod sole_peers;
pub mod status;
#[cfg(test)]
mod storm;

pub use self::code_source::given as given_code;
pub use self::peers_input::PeersArgument;

use crate::handshake::{Party, Trust};
use crate::link::Link;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// The name of a device that was not given one; it has no meaning while keys are pinned by hand.
const DEFAULT_NAME: &str = "sts";

/// The hint if `--end` could not tell the peer.
const PEER_NOT_TOLD: &str = "the other device may not know: run sts-pair --end there, too";

fn default_name() -> PeerName {
    DEFAULT_NAME.parse().expect("the default name has the form of a name")
}

/// The peers of a link, which must be encrypted. Makes this device's identity key if there is none yet.
///
/// # Errors
/// As [`Link::make_identity`] and [`encrypted_peers`].
fn link_peers(link: &Link, report: &Reporter) -> Result<LinkPeers> {
    link.make_identity(report)?;
    encrypted_peers(link)
}

/// As [`link_peers`]; if a name is given, only the peer with that name matters.
///
/// # Errors
/// As [`link_peers`].
fn link_peer(link: &Link, name: Option<&PeerName>, report: &Reporter) -> Result<LinkPeers> {
    let Some(name) = name else { return link_peers(link, report) };
    link.make_identity(report)?;
    link.peer_to_reach(Some(name))?.ok_or_else(nothing_to_pair)
}

/// The peers of a link, which must be encrypted.
///
/// # Errors
/// [`Exit::Usage`] on a link without encryption; otherwise as [`Link::peers`].
fn encrypted_peers(link: &Link) -> Result<LinkPeers> {
    link.peers()?.ok_or_else(nothing_to_pair)
}

fn nothing_to_pair() -> Error {
    Error::new(Exit::Usage, "nothing to pair")
        .because("the link is not encrypted (sts_mode = nosec)")
        .hint("set sts_mode to master on one device and to slave on the other")
}

/// As [`link_peers`], of a link whose peers are pinned already. If it could be with several, and has sessions with one of them,
/// it is with that one.
///
/// # Errors
/// As [`link_peers`] and [`Link::create_cache`].
fn pinned_peers(link: &Link, report: &Reporter) -> Result<LinkPeers> {
    let mut peers = link_peers(link, report)?;
    let cache = link.create_cache()?;
    peers.prefer_with_session(|peer| cache.load_peer(peer).is_ok_and(|of_peer| !of_peer.sessions.is_empty()));
    Ok(peers)
}

/// This end of a link whose peers are pinned already.
///
/// # Errors
/// As [`LinkPeers::to_pair_with`] and [`LinkPeers::identity`].
fn pinned_party(peers: &LinkPeers) -> Result<Party> {
    party(peers, default_name(), Trust::Pinned(peers.to_pair_with()?))
}

fn party(peers: &LinkPeers, name: PeerName, trust: Trust) -> Result<Party> {
    Ok(Party { identity: peers.identity()?.into(), name, suite: peers.suite, trust })
}
