//! Why a link accepts nobody, or cannot tell whom.

use crate::handshake::Peer;
use crate::identity::Binding;
use crate::name::{LinkName, PeerName, list};
use crate::{Error, Exit};

/// The error of having no key of any peer.
pub(crate) fn no_peer_trusted() -> Error {
    Error::new(Exit::NotTrusted, "no peer is trusted yet")
        .because("this device does not know any public key")
        .hint("run sts-pair --code on both devices; or run sts-pair --key on the other one, and pipe its line into: sts-pair --trust NAME")
}

/// The only key that is pinned is this device's own, which happens if `identity.pem` is copied from the peer.
pub(super) fn own_key_trusted(name: &PeerName) -> Error {
    Error::new(Exit::NotTrusted, "no peer is trusted yet")
        .because(format!("the key that is known as {name} is this device's own: two devices must not share a key"))
        .hint("if identity.pem was copied from the other device, delete it here; then run sts-pair --code on both devices")
}

pub(super) fn ambiguous(link: &LinkName, accepted: &[Peer]) -> Error {
    let why = format!("{} are trusted, and nothing says which of them {link} is with", list(names(accepted)));
    Error::new(Exit::Config, "several peers").because(why).hint(format!(
        "add a line to the configuration: peer = {name}; or pipe its key line into: sts-pair --trust {name} {link}",
        name = accepted[0].name
    ))
}

/// The keys that are pinned are for other links only.
pub(super) fn bound_elsewhere<'a>(link: &LinkName, pinned: impl Iterator<Item = (Peer, &'a Binding)>) -> Error {
    let mut links: Vec<&str> = Vec::new();
    let mut peers = Vec::new();
    for (peer, binding) in pinned {
        peers.push(peer);
        for other in binding.links().iter().map(LinkName::as_str) {
            if !links.contains(&other) {
                links.push(other);
            }
        }
    }
    let why = format!("trusted for other links ({}): {}", links.join(", "), list(names(&peers)));
    let name = peers.first().map_or("NAME", |peer| peer.name.as_str());
    Error::new(Exit::NotTrusted, format!("no peer is trusted for {link}")).because(why).hint(format!(
        "run sts-pair --code on both devices; or, if it is one of those, add a line to the configuration: peer = {name}"
    ))
}

pub(super) fn names(peers: &[Peer]) -> impl Iterator<Item = &str> {
    peers.iter().map(|peer| peer.name.as_str())
}
