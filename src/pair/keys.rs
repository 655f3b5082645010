//! `sts-pair --key`, `--trust` and `--forget`: this device's key, and the keys that it trusts on all links.

use std::io::{IsTerminal, Read, Write};

use crate::cache::{self, Cache};
use crate::config::Environment;
use crate::files::Dir;
use crate::identity::{Identity, KnownPeers, PeerName, PublicKey};
use crate::link::Link;
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// Longest standard input that is read for a key line, in bytes.
const MAX_INPUT_LEN: u64 = 64 << 10;

fn directory(env: &Environment) -> Result<Dir> {
    env.create_identity_dir(&env.identity_dir())
}

/// Prints this device's key line on standard output, its fingerprint on standard error.
///
/// # Errors
/// As [`Identity::of_device`]; [`Exit::Failed`] if standard output cannot be written.
pub fn show(env: &Environment, report: &Reporter) -> Result<()> {
    let identity = Identity::of_device(&directory(env)?, report)?;
    let line = format!("{}\n", identity.public().key_line());
    std::io::stdout()
        .write_all(line.as_bytes())
        .map_err(|err| Error::new(Exit::Failed, "cannot write to stdout").because(err))?;
    report.info(format_args!("this device's key is {}", identity.public().fingerprint()));
    Ok(())
}

/// Pins the key line on standard input under `name`, for one link or for all of them. Links that have paired stay with their
/// peers.
///
/// # Errors
/// [`Exit::DataLost`] if standard input is not a key line, [`Exit::Failed`] if it cannot be read; [`Exit::NotTrusted`]
/// for a name or key that is pinned otherwise, and for our own key; [`Exit::Usage`] for a link without encryption.
pub fn trust(env: &Environment, name: &PeerName, link: Option<&Link>, report: &Reporter) -> Result<()> {
    // Before the key is read: a link that cannot be used needs none.
    let peers = link.map(|link| super::link_peers(link, report)).transpose()?;
    let key = read_key_line(name, report)?;
    let dir = link.map_or_else(|| directory(env), Link::identity_dir)?;
    let identity = Identity::of_device(&dir, report)?;
    let mut known = KnownPeers::load(&dir)?;
    note_sessions(&mut known, &dir, env, report);
    let link = link.map(|link| &link.config.link);
    known.add(&dir, identity.public(), name, &key, link)?;
    let for_link = link.map(|link| format!(" for the link {link}")).unwrap_or_default();
    report.info(format_args!("{name} is now trusted{for_link}: {}", key.fingerprint()));
    if let Some(mut peers) = peers {
        peers.refresh()?;
        if let Some(error) = peers.not_accepted(name) {
            report.warn(&error);
        }
    }
    Ok(())
}

fn read_key_line(name: &PeerName, report: &Reporter) -> Result<PublicKey> {
    if std::io::stdin().is_terminal() {
        report.info("reading the key line from the terminal; press Ctrl-D to end the input");
    }
    let mut text = String::new();
    let input = std::io::stdin().take(MAX_INPUT_LEN).read_to_string(&mut text);
    // What is not UTF-8 is not a key line either.
    if let Err(err) = input.as_ref()
        && err.kind() != std::io::ErrorKind::InvalidData
    {
        return Err(Error::new(Exit::Failed, "cannot read stdin").because(err));
    }
    let key = input
        .map_err(|err| err.to_string())
        .and_then(|_| PublicKey::from_key_line(&text).map_err(|err| err.to_string()));
    key.map_err(|why| {
        Error::new(Exit::DataLost, "stdin").because(why).hint(format!(
            "pipe in the line that sts-pair --key prints on the other device: … | sts-pair --trust {name}"
        ))
    })
}

/// Writes down with whom each link is that has sessions with one of the known peers: it stays with that one, no matter who is
/// trusted now. The pairing may have been unable to write. This is not worth an error: the sessions may be another user's.
fn note_sessions(known: &mut KnownPeers, dir: &Dir, env: &Environment, report: &Reporter) {
    let runtime = env.runtime_dir();
    for link in cache::status::sealed_links(&runtime).unwrap_or_default() {
        if known.with_bindings().any(|(_, _, binding)| binding.has_paired(&link)) {
            continue;
        }
        let sessions = Cache::look(&runtime, &link).and_then(|cache| cache.load()).unwrap_or_default();
        let has_session = |key: &PublicKey| sessions.iter().any(|it| it.session.peer == *key.fingerprint().as_bytes());
        let keys: Vec<_> = known.iter().map(|(_, key)| key).filter(|key| has_session(key)).take(2).cloned().collect();
        if let [key] = &keys[..]
            && let Err(error) = known.note_paired(dir, key, &link)
        {
            report.verbose(error);
        }
    }
}

/// Unpins `name` and deletes all sessions with its key, on every link.
///
/// # Errors
/// [`Exit::Config`] if no key is pinned under this name; [`Exit::Failed`] if a file cannot be changed.
pub fn forget(env: &Environment, name: &PeerName, report: &Reporter) -> Result<()> {
    let dir = directory(env)?;
    let key = KnownPeers::load(&dir)?.remove(&dir, name)?;
    report.info(format_args!("{name} is no longer trusted: {}", key.fingerprint()));
    for link in cache::forget(&env.runtime_dir(), key.fingerprint().as_bytes())? {
        report.info(format_args!("deleted the sessions of {link} with {name}"));
    }
    Ok(())
}
