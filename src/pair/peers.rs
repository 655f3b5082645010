//! `sts-pair --peers`: the keys of a link's peers, in the form that `--trust -` reads on another gateway.

use std::fmt::Write as _;
use std::str::FromStr;

use super::encrypted_peers;
use super::status::print;
use crate::config::TopicFilter;
use crate::handshake::Peer;
use crate::link::Link;
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// In place of a filter: all peers, also those without a session.
pub(crate) const ALL: &str = "*";

/// Which of the peers to print: those that publish on a topic which the filter matches, or all.
#[derive(Clone, Debug)]
pub struct Listing(Option<TopicFilter>);

impl FromStr for Listing {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, &'static str> {
        if text == ALL { Ok(Self(None)) } else { TopicFilter::parse(text).map(|filter| Self(Some(filter))) }
    }
}

/// Prints one line per peer: its name and its key. The topics of a peer are those of the session in use with it: an older one
/// may be from before it was moved.
///
/// # Errors
/// [`Exit::TryAgain`] if no peer has a session on a topic that matches; [`Exit::Failed`] if standard output cannot be written;
/// otherwise as [`Link::peers`], [`crate::peers::LinkPeers::accepted`] and [`Link::cache`].
pub fn list(link: &Link, listing: &Listing, report: &Reporter) -> Result<()> {
    let peers = encrypted_peers(link)?;
    let accepted = peers.accepted()?;
    let listed: Vec<&Peer> = match &listing.0 {
        None => accepted.iter().collect(),
        Some(filter) => {
            let cache = link.cache()?;
            let mut matching = Vec::new();
            for peer in accepted.iter() {
                let of_peer = cache.load_peer(peer.key.fingerprint().as_bytes())?;
                let topic = of_peer.in_use().map(|stored| peers.route.listen(&stored.session.topics));
                if topic.is_some_and(|topic| filter.matches(topic)) {
                    matching.push(peer);
                }
            }
            if matching.is_empty() {
                return Err(Error::new(
                    Exit::TryAgain,
                    format!("no peer publishes on a topic that `{filter}` matches"),
                )
                .because("the topics of a peer are known once it has paired")
                .hint(format!("to print all peers of the link: sts-pair --peers {}", link.config.link)));
            }
            matching
        }
    };
    let mut text = String::new();
    for peer in &listed {
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}", peer.key.to_line(&peer.name));
    }
    print(&text)?;
    report.info(format_args!("peers of {}: {}", link.config.link, listed.len()));
    Ok(())
}
