//! `sts-pair --code`: two devices that do not know each other's key enrol by a one-time code that a person carries from one
//! to the other.

use std::time::Duration;

use super::progress_line::ProgressLine;
use super::run::{Outcome, Purpose, Run, handshake};
use super::{code_prompt, default_name, link_peers, party};
use crate::cli::Reporter;
use crate::handshake::{Code, EnrolmentConflict, MAX_CODE_ATTEMPTS, Peer, Trust};
use crate::link::Link;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::role::Role;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::text::{count, is_or_are};
use crate::{Error, Exit, Result};

/// Pairs by code, and pins each other's key. Unless the code is `given`, the slave makes one and shows it, and the master asks
/// for it. `name` is the name that this device gives itself.
///
/// # Errors
/// [`Exit::NotTrusted`] for a wrong code and for a peer that cannot be pinned; otherwise as [`super::once::run`], and as
/// asking for the code.
pub fn run(
    link: &Link,
    given: Option<Code>,
    name: Option<PeerName>,
    timeout: Option<Duration>,
    report: &Reporter,
) -> Result<()> {
    let role = link_peers(link)?.role;
    // If another sts-pair runs, no code is made or asked for that could not be used.
    drop(link.create_cache()?.lock_pairing()?);
    let name = name.unwrap_or_else(host_name);
    let pair = |code: Code, attempts: usize| pair(link, &name, code, attempts, timeout, report);
    match (given, role) {
        (Some(code), _) => match pair(code, MAX_CODE_ATTEMPTS)? {
            Outcome::WrongCode { .. } => Err(Error::new(Exit::NotTrusted, "wrong code")
                .because("the other device was given another one")
                .hint("run this again with the code that it shows")),
            _ => Ok(()),
        },
        (None, Role::Slave) => pair(show_new_code(link, report), MAX_CODE_ATTEMPTS).map(drop),
        (None, Role::Master) => {
            let mut attempts = MAX_CODE_ATTEMPTS;
            while let Outcome::WrongCode { left } = pair(code_prompt::ask()?, attempts)? {
                if left == 0 {
                    return Err(code_erased(Role::Master));
                }
                report.warn(&wrong_code(left));
                attempts = left;
            }
            Ok(())
        }
    }
}

/// One run with one code.
fn pair(
    link: &Link,
    name: &PeerName,
    code: Code,
    attempts: usize,
    timeout: Option<Duration>,
    report: &Reporter,
) -> Result<Outcome> {
    let peers = link_peers(link)?;
    let cache = link.create_cache()?;
    let _lock = cache.lock_pairing()?;
    let _answers = cache.lock_answers()?;
    let trust = Trust::Code(peers.enrolment(code, attempts));
    let handshake = handshake(&peers, party(&peers, name.clone(), trust)?);
    let purpose = Purpose::Enrol { progress: ProgressLine::new(timeout) };
    let sessions = LinkSessions::new(peers, cache);
    Run::begin(link, report, sessions, handshake, purpose, None, Signals::catch()?)?.finish()
}

/// Makes a code and shows it, with the command for the other device. Only names that were checked are in the command.
fn show_new_code(link: &Link, report: &Reporter) -> Code {
    let code = Code::generate(&mut rand::rng());
    let shown = code.expose();
    report.answer(format_args!("the code is {}", shown.as_str()));
    report.answer(format_args!("on the other device: sts-pair --code {}", link.config.link));
    code
}

/// The name of this device without `--name`: its host name.
fn host_name() -> PeerName {
    let host = rustix::system::uname();
    to_name(&host.nodename().to_string_lossy())
}

/// The text as a name, with a hyphen for each character that a name cannot have.
fn to_name(text: &str) -> PeerName {
    let allowed = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String =
        text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().map(allowed).take(64).collect();
    text.parse().unwrap_or_else(|_| default_name())
}

/// Pins a peer that has proved to have the code; the same peer again changes nothing.
///
/// # Errors
/// As [`crate::identity::KnownPeers::add`].
pub(super) fn pin(peers: &mut LinkPeers, peer: &Peer, report: &Reporter) -> Result<()> {
    peers.pin(peer)?;
    report.info(format_args!("{} is now trusted: {}", peer.name, peer.key.fingerprint()));
    if peers.is_ambiguous() {
        report.warn(
            &Error::new(Exit::Config, "several peers are trusted now")
                .because("a link cannot be used if its configuration does not say which of them it is with")
                .hint(format!("add a line to the configuration of this one: peer = {}", peer.name)),
        );
    }
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
        Role::Slave => "a device tried other codes three times; this one is erased",
        Role::Master => "the other device has erased its code after three attempts",
    };
    Error::new(Exit::NotTrusted, "wrong code").because(why).hint("for a new code: sts-pair --code on both devices")
}

/// Each attempt of the master was answered by a device that did not continue.
pub(super) fn code_used_up() -> Error {
    Error::new(Exit::NotTrusted, "the code is used up")
        .because("in three attempts the device that answered did not prove that it has the code")
        .hint(
            "for a new code: sts-pair --code on both devices; if this happens again, a third device answers on the topic",
        )
}

/// A device that has the code, and cannot be pinned under its name.
pub(super) fn conflict(peer: &Peer, conflict: Option<EnrolmentConflict>) -> Error {
    let Peer { name, key } = peer;
    let error = Error::new(Exit::NotTrusted, format!("cannot trust `{name}`"));
    match conflict {
        None => Error::new(Exit::NotTrusted, format!("`{name}` cannot trust this device"))
            .because(
                "it reports the reason itself: it knows this name or this key already, or its configuration names another peer",
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
            .because(format!("by its configuration the link is with `{wanted}`"))
            .hint(format!("enrol the other device with --name {wanted}, or change the configuration: peer = {name}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_becomes_a_name() {
        let long = "x".repeat(300);
        for (host, name) in [
            ("station", "station"),
            ("pump-7.plant.example", "pump-7.plant.example"),
            ("_my pi's\u{1b}[31m", "my-pi-s--31m"),
            ("-", "sts"),
            ("", "sts"),
            ("\u{e9}t\u{e9}", "t-"),
            (long.as_str(), &long[..64]),
        ] {
            assert_eq!(to_name(host).as_str(), name, "{host:?}");
        }
    }
}
