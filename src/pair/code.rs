//! `sts-pair --code`: two devices that do not know each other yet are made to by a code that a person carries over.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use zeroize::Zeroizing;

use super::{Outcome, prompt};
use crate::cli::Reporter;
use crate::handshake::{BadCode, Code, EnrolmentConflict, MAX_CODE_ATTEMPTS, Peer};
use crate::link::Link;
use crate::name::PeerName;
use crate::peers::LinkPeers;
use crate::role::Role;
use crate::text::{count, is_or_are};
use crate::{Error, Exit, Result};

/// The variable that brings the code where nobody can be asked or shown one.
const VARIABLE: &str = "STS_CODE";
/// Its value for a code on standard input.
const ON_STDIN: &str = "-";
/// Longest line that is looked at for a code there, in bytes.
const LINE: u64 = 256;

/// The code in `$STS_CODE`, if it is set.
///
/// The environment of a process can be read for as long as it runs, and removing a variable does not erase it there. So a
/// code that comes in it is handed over to a new image of the same process, through a pipe.
///
/// # Errors
/// [`Exit::Usage`] where it is no code; [`Exit::Failed`] where the process cannot execute itself.
pub fn given() -> Result<Option<Code>> {
    let Some(value) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) else { return Ok(None) };
    let bad = |why: BadCode| {
        let hint = "it must be one that sts-pair --code made and showed, as it was shown";
        Error::new(Exit::Usage, VARIABLE).because(why).hint(hint)
    };
    if value != ON_STDIN {
        let text = Zeroizing::new(value.to_string_lossy().into_owned());
        let code = Code::parse(&text).map_err(bad)?;
        return Err(Error::new(Exit::Failed, format!("cannot take {VARIABLE} out of the environment"))
            .because(hand_over(&code))
            .hint(format!("give the code on standard input, with {VARIABLE}={ON_STDIN}")));
    }
    let mut line = Zeroizing::new(String::new());
    let read = io::stdin().take(LINE).read_to_string(&mut line);
    read.map_err(|err| Error::new(Exit::Failed, "cannot read the code from stdin").because(err))?;
    Code::parse(&line).map(Some).map_err(bad)
}

/// Executes this program anew with the code on its standard input; returns only if that fails, and why.
fn hand_over(code: &Code) -> io::Error {
    let filled = io::pipe().and_then(|(read, mut write)| write.write_all(code.expose().as_bytes()).map(|()| read));
    let mut args = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = args.next() {
        again.arg0(name);
    }
    match filled {
        Ok(read) => again.args(args).env(VARIABLE, ON_STDIN).stdin(read).exec(),
        Err(err) => err,
    }
}

/// Pairs by code, and pins each other's key: the slave makes the code and shows it, the master asks for it, unless it is
/// `given`. `name` is what this device calls itself.
///
/// # Errors
/// [`Exit::NotTrusted`] for a wrong code and for a peer that cannot be pinned; otherwise as [`super::run`], and as
/// asking for the code.
pub fn run(
    link: &Link,
    given: Option<Code>,
    name: Option<PeerName>,
    timeout: Option<Duration>,
    report: &Reporter,
) -> Result<()> {
    let ends = super::encrypted(link)?;
    // Where another sts-pair runs, no code is made or asked for that nobody could use.
    drop(link.create_cache()?.lock_pairing()?);
    let name = name.unwrap_or_else(host_name);
    let may_ask = given.is_none();
    let mut code = match (given, ends.role) {
        (Some(code), _) => code,
        (None, Role::Slave) => show(link, report),
        (None, Role::Master) => prompt::ask()?,
    };
    let mut attempts = MAX_CODE_ATTEMPTS;
    loop {
        let enrolment = |ends: &LinkPeers| Some(ends.enrolment(code, attempts));
        let Outcome::WrongCode { left } = super::pair(link, name.clone(), enrolment, timeout, None, report)? else {
            return Ok(());
        };
        if !may_ask {
            return Err(Error::new(Exit::NotTrusted, "wrong code")
                .because("the other device was given another one")
                .hint("run this again with the code that it shows"));
        }
        if left == 0 {
            return Err(erased(Role::Master));
        }
        report.warn(&wrong(left));
        (code, attempts) = (prompt::ask()?, left);
    }
}

/// Makes a code, and says what is to be done with it. Only names that were checked are in the command.
fn show(link: &Link, report: &Reporter) -> Code {
    let code = Code::generate(&mut rand::rng());
    let shown = code.expose();
    report.answer(format_args!("the code is {}", shown.as_str()));
    report.answer(format_args!("on the other device: sts-pair --code {}", link.config.link));
    code
}

/// What this device is called where `--name` does not say: its host name, with a hyphen for what a name cannot have.
fn host_name() -> PeerName {
    let host = rustix::system::uname();
    legal(&host.nodename().to_string_lossy())
}

fn legal(text: &str) -> PeerName {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' };
    let text: String =
        text.trim_start_matches(|c: char| !c.is_ascii_alphanumeric()).chars().map(plain).take(64).collect();
    text.parse().unwrap_or_else(|_| super::nameless())
}

/// Pins a peer that proved to have the code; the same peer again changes nothing.
///
/// # Errors
/// As [`crate::identity::KnownPeers::add`].
pub(super) fn pin(ends: &mut LinkPeers, peer: &Peer, report: &Reporter) -> Result<()> {
    ends.pin(peer)?;
    report.info(format_args!("{} is trusted from now on: {}", peer.name, peer.key.fingerprint()));
    if ends.is_ambiguous() {
        report.warn(
            &Error::new(Exit::Config, "several peers are trusted now")
                .because("a link whose configuration does not say which one it is to cannot be used")
                .hint(format!("add a line to the configuration of this one: peer = {}", peer.name)),
        );
    }
    Ok(())
}

/// The two sides were given different codes, and another can be tried.
pub(super) fn wrong(left: usize) -> Error {
    let left = left as u64;
    let (attempts, are) = (count(left, "attempt"), is_or_are(left));
    Error::new(Exit::NotTrusted, "wrong code")
        .because(format!("the two devices were given different ones; {attempts} {are} left"))
}

/// As [`wrong`], and it was the last time on the slave.
pub(super) fn erased(role: Role) -> Error {
    let why = match role {
        Role::Slave => "somebody tried others three times; this one is erased",
        Role::Master => "there were three attempts, and there is no other",
    };
    Error::new(Exit::NotTrusted, "wrong code").because(why).hint("for a new code: sts-pair --code on both devices")
}

/// The master's attempts were all answered by somebody who then did not go on.
pub(super) fn unanswered() -> Error {
    Error::new(Exit::NotTrusted, "the code is used up")
        .because("in three attempts somebody answered who did not prove to have it")
        .hint(
            "for a new code: sts-pair --code on both devices; if it happens again, somebody else answers on the topic",
        )
}

/// A device that has the code, and cannot be pinned under its name.
pub(super) fn unfit(peer: &Peer, why: Option<EnrolmentConflict>) -> Error {
    let Peer { name, key } = peer;
    let error = Error::new(Exit::NotTrusted, format!("cannot trust `{name}`"));
    match why {
        None => Error::new(Exit::NotTrusted, format!("`{name}` cannot trust this device"))
            .because("it says itself why: the name is taken there, or this device has another there, or the link is to another")
            .hint("to enrol under another name: sts-pair --code --name NAME"),
        Some(EnrolmentConflict::OwnKey) => error
            .because("it shows this device's own key")
            .hint("two devices cannot share an identity.pem: remove it on the one to which it was copied"),
        Some(EnrolmentConflict::NameTaken(pinned)) => error
            .because(format!("it has the key {}, and the name is known with {pinned}", key.fingerprint()))
            .hint(format!(
                "give the other device another name with --name; or, if it has a new key: sts-pair --forget {name}"
            )),
        Some(EnrolmentConflict::KeyKnown(pinned)) => error
            .because(format!("its key is already known as `{pinned}`"))
            .hint(format!("enrol it with --name {pinned} there; or, for its new name: sts-pair --forget {pinned}")),
        Some(EnrolmentConflict::NotWanted(wanted)) => error
            .because(format!("the link is to `{wanted}` by its configuration"))
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
            assert_eq!(legal(host).as_str(), name, "{host:?}");
        }
    }
}
