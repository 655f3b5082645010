//! `sts-pair --code`: two devices that do not know each other's key enrol by a one-time code that a person carries from one
//! to the other.

use std::time::Duration;

use super::enrolment_outcome::{code_erased, wrong_code};
use super::progress_line::ProgressLine;
use super::run::{PairOutcome, PairRun, Purpose, handshake};
use super::{code_prompt, default_name, link_peers, party};
use crate::handshake::{Code, MAX_CODE_ATTEMPTS, Trust};
use crate::link::Link;
use crate::name::PeerName;
use crate::report::Reporter;
use crate::role::Role;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::system_rng::system_rng;
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
    let role = link_peers(link, report)?.role;
    // If another sts-pair runs, no code is made or asked for that could not be used.
    drop(link.create_cache()?.lock_enrolment()?);
    let name = name.unwrap_or_else(host_name);
    let mut needs = link.pairing_needs(false);
    needs.ask_at_terminal();
    link.enter_sandbox(needs, report);
    let pair = |code: Code, attempts: usize| pair(link, &name, code, attempts, timeout, report);
    match (given, role) {
        (Some(code), _) => match pair(code, MAX_CODE_ATTEMPTS)? {
            PairOutcome::WrongCode { .. } => Err(Error::new(Exit::NotTrusted, "wrong code")
                .because("the other device was given another one")
                .hint("run this again with the code that it shows")),
            _ => Ok(()),
        },
        (None, Role::Slave) => pair(show_new_code(link, report), MAX_CODE_ATTEMPTS).map(drop),
        (None, Role::Master) => {
            let mut attempts = MAX_CODE_ATTEMPTS;
            while let PairOutcome::WrongCode { left } = pair(code_prompt::ask()?, attempts)? {
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
) -> Result<PairOutcome> {
    let peers = link_peers(link, report)?;
    let cache = link.create_cache()?;
    let _locks = cache.lock_enrolment()?;
    let trust = Trust::Code(peers.enrolment(code, attempts));
    let handshake = handshake(&peers, party(&peers, name.clone(), trust)?);
    let purpose = Purpose::Enrol { progress: ProgressLine::new(timeout) };
    let sessions = LinkSessions::new(peers, cache);
    PairRun::begin(link, report, sessions, handshake, purpose, None, Signals::catch()?)?.finish()
}

/// Makes a code and shows it, with the command for the other device. Only names that were checked are in the command.
fn show_new_code(link: &Link, report: &Reporter) -> Code {
    let code = Code::generate(&mut system_rng());
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
