//! `sts-pair --status`: links, peers, sessions and what came under them; never a secret.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write as _;

use crate::cache::Cache;
use crate::cache::status::{LinkStatus, SessionStatus, links, status};
use crate::cli::Reporter;
use crate::config::Environment;
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
use crate::identity::{Fingerprint, KnownPeers, PeerName};
use crate::link::unix_time;
use crate::session::Standing;
use crate::text::show;
use crate::{Error, Exit, Result};

/// Prints the status of every link that has sessions.
///
/// # Errors
/// [`Exit::NotTrusted`] where a directory is not as it must be; [`Exit::Failed`] where standard output does not take it.
/// A file that cannot be read is reported and does not keep the others back.
pub fn run(env: &Environment, report: &Reporter) -> Result<()> {
    let runtime = env.runtime_dir();
    let known = match Dir::open(&env.identity_dir(), Guard::Public)? {
        Some(dir) => KnownPeers::load(&dir)?,
        None => KnownPeers::default(),
    };
    let known: Names<'_> = known.iter().map(|(name, key)| (*key.fingerprint().as_bytes(), name)).collect();
    let mut text = String::new();
    let names = links(&runtime)?;
    for name in &names {
        let link = status(&Cache::open(&runtime, name, name.as_str())?, unix_time())?;
        for error in &link.broken {
            report.warn(error);
        }
        describe(&link, &known, &mut text);
    }
    if names.is_empty() {
        report.info(format_args!("no sessions in {}", show(&runtime)));
    }
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|err| Error::new(Exit::Failed, "cannot write to stdout").because(err))
}

/// The names of those that are pinned, by fingerprint.
type Names<'a> = HashMap<Digest, &'a PeerName>;

fn describe(link: &LinkStatus, known: &Names<'_>, text: &mut String) {
    let mut of: Option<Digest> = None;
    let _ = writeln!(text, "{}", link.link);
    for session in &link.sessions {
        if of.replace(session.peer) != Some(session.peer) {
            let _ = writeln!(text, "  peer      {}", peer(session.peer, known));
        }
        describe_session(session, text);
    }
    if !link.rejected.is_empty() {
        let reasons: Vec<_> = link.rejected.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let _ = writeln!(text, "  rejected  {}", reasons.join(", "));
    }
}

fn describe_session(session: &SessionStatus, text: &mut String) {
    let SessionStatus { standing, suite, role, age, streams_taken, received, open, .. } = session;
    let age = age.map_or_else(|| "stamped in the future".to_owned(), |age| format!("{} old", duration(age)));
    let _ = writeln!(text, "  session   {standing}, {age}, {suite}, {role}", standing = standing.name());
    if *standing == Standing::Current || *streams_taken > 0 {
        let _ = writeln!(text, "  sent      {}", count(*streams_taken, "stream"));
    }
    let mut parts = vec![count(received.messages, "message"), count(received.bytes, "byte")];
    if *open > 0 {
        parts.push(format!("{} not complete", count(*open as u64, "stream")));
    }
    if received.gaps > 0 {
        parts.push(format!("{} ({} lost)", count(received.gaps, "gap"), count(received.lost, "message")));
    }
    if received.duplicates > 0 {
        parts.push(format!("{} repeated", received.duplicates));
    }
    let missing: Vec<_> = session.missing.iter().map(|(first, last)| format!("{first}-{last}")).collect();
    if !missing.is_empty() {
        parts.push(format!("nothing of streams {}", missing.join(", ")));
    }
    let _ = writeln!(text, "  received  {}", parts.join(", "));
    for gap in &received.latest {
        let _ = writeln!(text, "  gap       stream {}, messages {}-{}", gap.stream, gap.first, gap.last);
    }
}

/// The peer's name where it is pinned, and its fingerprint.
fn peer(fingerprint: Digest, known: &Names<'_>) -> String {
    let shown = Fingerprint::from(fingerprint);
    match known.get(&fingerprint) {
        Some(name) => format!("{name} ({shown})"),
        None => format!("{shown}, not trusted any more"),
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Seconds in the two largest units that they fill.
fn duration(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "min"), (1, "s")];
    let largest = UNITS.iter().position(|(unit, _)| seconds >= *unit).unwrap_or(UNITS.len() - 1);
    let mut left = seconds;
    let mut parts = Vec::new();
    for (unit, name) in UNITS.iter().skip(largest).take(2) {
        if left >= *unit || parts.is_empty() {
            parts.push(format!("{} {name}", left / unit));
        }
        left %= unit;
    }
    parts.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_read_at_a_glance() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min 59 s"),
            (3600, "1 h"),
            (3659, "1 h"),
            (86_399, "23 h 59 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }
}
