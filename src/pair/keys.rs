//! `sts-pair --key`, `--trust` and `--forget`: this device's key, and the keys that it trusts on all links.

use std::io::{IsTerminal, Read, Write};

use crate::cache;
use crate::config::Environment;
use crate::files::{Dir, Guard};
use crate::identity::{Identity, KnownPeers, PeerName, PublicKey};
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// Longest standard input that is read for a key line, in bytes.
const MAX_INPUT_LEN: u64 = 64 << 10;

fn directory(env: &Environment) -> Result<Dir> {
    Dir::create(&env.identity_dir(), Guard::Public)
}

/// Prints this device's key line on standard output, its fingerprint on standard error.
///
/// # Errors
/// As [`Identity::load_or_create`]; [`Exit::Failed`] if standard output cannot be written.
pub fn show(env: &Environment, report: &Reporter) -> Result<()> {
    let identity = Identity::load_or_create(&directory(env)?, &mut rand::rng())?;
    let line = format!("{}\n", identity.public().key_line());
    std::io::stdout()
        .write_all(line.as_bytes())
        .map_err(|err| Error::new(Exit::Failed, "cannot write to stdout").because(err))?;
    report.info(format_args!("this device's key is {}", identity.public().fingerprint()));
    Ok(())
}

/// Pins the key line on standard input under `name`.
///
/// # Errors
/// [`Exit::DataLost`] if standard input is not a key line; [`Exit::NotTrusted`] for a name or key that is pinned otherwise,
/// and for our own key.
pub fn trust(env: &Environment, name: &PeerName, report: &Reporter) -> Result<()> {
    if std::io::stdin().is_terminal() {
        report.info("reading the key line from the terminal; press Ctrl-D to end the input");
    }
    let mut line = String::new();
    let input = std::io::stdin().take(MAX_INPUT_LEN).read_to_string(&mut line);
    let key = input
        .map_err(|err| err.to_string())
        .and_then(|_| PublicKey::from_key_line(&line).map_err(|err| err.to_string()));
    let key = key.map_err(|why| {
        Error::new(Exit::DataLost, "stdin").because(why).hint(format!(
            "pipe in the line that sts-pair --key prints on the other device: … | sts-pair --trust {name}"
        ))
    })?;
    let dir = directory(env)?;
    let identity = Identity::load_or_create(&dir, &mut rand::rng())?;
    KnownPeers::load(&dir)?.add(&dir, identity.public(), name, &key)?;
    report.info(format_args!("{name} is now trusted: {}", key.fingerprint()));
    Ok(())
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
        report.info(format_args!("the sessions of {link} with {name} are deleted"));
    }
    Ok(())
}
