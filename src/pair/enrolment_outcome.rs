//! How an enrolment by code ends: the peer is pinned, or the words of why it is not.

use crate::handshake::{EnrolmentConflict, Peer};
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::role::Role;
use crate::text::{count, is_or_are};
use crate::{Error, Exit, Result};

/// Pins a peer that has proved to have the code; the same peer again changes nothing.
///
/// # Errors
/// As [`crate::identity::PeersStore::trust`].
pub(super) fn pin(peers: &mut LinkPeers, peer: &Peer, report: &Reporter) -> Result<()> {
    peers.pin(peer)?;
    report.info(format_args!("{} is now trusted: {}", peer.name, peer.key.fingerprint()));
    Ok(())
}

/// The two sides were given different codes, and another one can be tried.
pub(super) fn wrong_code(left: usize) -> Error {
    let left = left as u64;
    let (attempts, are) = (count(left, "attempt"), is_or_are(left));
    Error::new(Exit::NotTrusted, "wrong code")
        .because(format!("the two devices were given different codes; {attempts} {are} left"))
}

/// As [`wrong_code`], and no attempt is left.
pub(super) fn code_erased(role: Role) -> Error {
    let why = match role {
        Role::Slave => "a device tried wrong codes three times; the code is erased",
        Role::Master => "the other device has erased its code after three attempts",
    };
    Error::new(Exit::NotTrusted, "wrong code").because(why).hint("for a new code: sts-pair --code on both devices")
}

/// Each attempt of the master was answered by a device that did not continue.
pub(super) fn code_used_up() -> Error {
    Error::new(Exit::NotTrusted, "the code is used up")
        .because("in three attempts the device that answered did not prove that it has the code")
        .hint(
            "for a new code: sts-pair --code on both devices; if this happens again, a third device is answering on the topic",
        )
}

/// A device that has the code, and cannot be pinned under its name.
pub(super) fn conflict(peer: &Peer, conflict: Option<EnrolmentConflict>) -> Error {
    let Peer { name, key } = peer;
    let error = Error::new(Exit::NotTrusted, format!("cannot trust `{name}`"));
    match conflict {
        None => Error::new(Exit::NotTrusted, format!("`{name}` cannot trust this device"))
            .because(
                "it reports the reason itself: it already knows this name or this key, or its configuration names another peer",
            )
            .hint("to enrol under another name: sts-pair --code --name NAME"),
        Some(EnrolmentConflict::OwnKey) => error
            .because("it has the same key as this device")
            .hint("two devices cannot share an identity.pem: remove it on the one to which it was copied"),
        Some(EnrolmentConflict::NameTaken(pinned)) => error
            .because(format!("its key is {}, and this name is known with {pinned}", key.fingerprint()))
            .hint(format!(
                "give the other device another name with --name; or, if it has a new key: sts-pair --forget {name}"
            )),
        Some(EnrolmentConflict::KeyKnown(pinned)) => error
            .because(format!("its key is already known as `{pinned}`"))
            .hint(format!(
                "enrol it with --name {pinned} there; or, to rename it: sts-pair --forget {pinned}"
            )),
        Some(EnrolmentConflict::NotWanted(wanted)) => error
            .because(format!("according to its configuration, the link is with `{wanted}`"))
            .hint(format!("enrol the other device with --name {wanted}, or change the configuration: peer = {name}")),
    }
}
