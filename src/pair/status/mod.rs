//! `sts-pair --status`: links, peers, sessions and what was received under them; never a secret.

mod json;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, IsTerminal, Write as _};

use crate::cache::status::{LinkStatus, SessionStatus, links, other_dir, status};
use crate::cache::{Cache, OpenStream};
use crate::config::Environment;
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
use crate::identity::{Fingerprint, KnownPeers, PeerName};
use crate::link::unix_time;
use crate::report::Reporter;
use crate::session::Standing;
use crate::stream::Gap;
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// Prints the status of every link that has sessions, as a table or, with `as_json`, as JSON: one line per peer in both.
///
/// # Errors
/// [`Exit::NotTrusted`] if the runtime directory has the wrong owner or mode; [`Exit::Failed`] if standard output cannot be
/// written. Anything else that cannot be read is reported, and the rest is shown.
pub fn run(env: &Environment, as_json: bool, report: &Reporter) -> Result<()> {
    let runtime = env.runtime_dir();
    let names = names(env, report);
    let mut statuses = Vec::new();
    for name in links(&runtime)? {
        let link = status(&Cache::look(&runtime, &name)?, unix_time())?;
        for error in &link.broken {
            report.warn(error);
        }
        statuses.push(link);
    }
    if statuses.iter().all(|link| link.sessions.is_empty() && link.broken.is_empty()) {
        match other_dir(&runtime) {
            Some(other) => {
                let what = format!("no sessions in {}", show(&runtime));
                let why = format!("there are some in {}", show(&other));
                let hint = format!("STS_RUNTIME_DIR={} sts-pair --status", quote(&other));
                report.warn(&Error::new(Exit::TryAgain, what).because(why).hint(hint));
            }
            None => report.info(format_args!("no sessions in {}", show(&runtime))),
        }
    }
    let rows: Vec<_> = statuses.iter().flat_map(|link| rows(link, &names)).collect();
    let text = if as_json { json::lines(&rows) } else { table::table(&rows, has_colours()) };
    match io::stdout().write_all(text.as_bytes()) {
        // As in `sts-pair --status | head`.
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Exit::Failed, "cannot write to stdout").because(err))
        }
        _ => Ok(()),
    }
}

/// The names of all keys that are known in a directory where links are looked for; the first one counts. Root may look at any
/// user's.
fn names(env: &Environment, report: &Reporter) -> HashMap<Digest, PeerName> {
    let mut names = HashMap::new();
    for dir in env.config_dirs() {
        let known = Dir::look(&dir, Guard::Public).and_then(|dir| dir.as_ref().map(KnownPeers::load).transpose());
        match known {
            Ok(Some(known)) => known.iter().for_each(|(name, key)| {
                names.entry(*key.fingerprint().as_bytes()).or_insert_with(|| name.clone());
            }),
            Ok(None) => {}
            Err(error) => report.warn(&env.explain(error)),
        }
    }
    names
}

/// Colours are for a terminal, unless the user does not want them (<https://no-color.org>).
fn has_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}

/// One peer of one link.
struct Row<'a> {
    link: &'a LinkStatus,
    /// The first row of its link, which shows what is counted for the link as a whole.
    first: bool,
    /// `None` if its key is no longer pinned.
    name: Option<&'a PeerName>,
    fingerprint: Fingerprint,
    /// The current session, else the newest.
    session: &'a SessionStatus,
    /// All of its sessions.
    sessions: &'a [SessionStatus],
}

fn rows<'a>(link: &'a LinkStatus, names: &'a HashMap<Digest, PeerName>) -> Vec<Row<'a>> {
    let peers = link.sessions.chunk_by(|one, other| one.peer == other.peer).enumerate();
    let row = |(number, sessions): (usize, &'a [SessionStatus])| {
        let current = sessions.iter().find(|session| session.standing == Standing::Current);
        let session = current.or(sessions.first()).expect("no group is empty");
        let fingerprint = Fingerprint::from(session.peer);
        Row { link, first: number == 0, name: names.get(&session.peer), fingerprint, session, sessions }
    };
    peers.map(row).collect()
}

impl Row<'_> {
    fn sum(&self, of: impl Fn(&SessionStatus) -> u64) -> u64 {
        self.sessions.iter().map(of).sum()
    }

    fn gaps(&self) -> u64 {
        self.sum(|session| session.received.gaps)
    }

    /// The ranges of stream numbers of which no message was received.
    fn missing(&self) -> impl Iterator<Item = (u32, u32)> {
        self.sessions.iter().flat_map(|session| session.missing.iter())
    }

    /// The latest gaps, oldest session first.
    fn latest_gaps(&self) -> impl Iterator<Item = &Gap> {
        self.sessions.iter().rev().flat_map(|session| &session.received.latest)
    }

    /// The open streams, oldest session first.
    fn open_streams(&self) -> impl Iterator<Item = &OpenStream> {
        self.sessions.iter().rev().flat_map(|session| &session.open)
    }

    fn rejected(&self) -> u64 {
        self.link.rejected.iter().map(|(_, count)| count).sum()
    }

    /// Seconds until cron replaces the current session, 0 if it is due.
    fn next(&self) -> Option<u64> {
        let rotation = self.link.rotation.filter(|_| self.session.standing == Standing::Current)?;
        Some(self.session.age.map_or(0, |age| rotation.saturating_sub(age)))
    }
}
