//! `sts-pair --key`, `--trust` and `--forget`: this device's key, and the keys that it trusts on all links.

use std::io::{IsTerminal, Read, Write};
use std::str::FromStr;

use super::sole_peers;
use crate::cache;
use crate::config::Environment;
use crate::files::{Dir, Guard};
use crate::identity::{Identity, MAX_KNOWN_PEERS_LEN, NewPeer, PeerName, PeersLine, PeersStore, PublicKey};
use crate::link::Link;
use crate::name::BadName;
use crate::report::Reporter;
use crate::{Error, Exit, Result};

/// Longest standard input that is read for a key line, in bytes.
const MAX_INPUT_LEN: u64 = 64 << 10;

/// In place of a name: the names are on standard input, too.
const LIST: &str = "-";

/// Whose keys are on standard input.
#[derive(Clone, Debug)]
pub enum Newcomers {
    /// The one of this name: its key line.
    One(PeerName),
    /// Those of a list, one line per peer: its name, and its key line.
    List,
}

impl FromStr for Newcomers {
    type Err = BadName;

    fn from_str(text: &str) -> std::result::Result<Self, BadName> {
        if text == LIST { Ok(Self::List) } else { text.parse().map(Self::One) }
    }
}

/// Opens the directory of the keys of all links.
fn directory(env: &Environment, report: &Reporter) -> Result<Dir> {
    if let Some(hint) = env.hint_at_service() {
        report.warning_with_hint("these are root's own keys, not those of the services", Some(&hint));
    }
    env.create_identity_dir(&env.identity_dir())
}

/// Prints this device's key line on standard output, its fingerprint on standard error.
///
/// # Errors
/// As [`Identity::of_device`]; [`Exit::Failed`] if standard output cannot be written.
pub fn show(env: &Environment, report: &Reporter) -> Result<()> {
    let identity = Identity::of_device(&directory(env, report)?, report)?;
    let line = format!("{}\n", identity.public().key_line());
    std::io::stdout()
        .write_all(line.as_bytes())
        .map_err(|err| Error::new(Exit::Failed, "cannot write to stdout").because(err))?;
    report.info(format_args!("this device's key is {}", identity.public().fingerprint()));
    Ok(())
}

/// The known peers in a directory, and their index.
fn store(dir: Dir, env: &Environment) -> PeersStore {
    // An index that cannot be used costs some time.
    PeersStore::new(dir, Dir::open(&env.runtime_dir(), Guard::Private).ok().flatten())
}

/// Pins the key line on standard input under a name, or either all or none of the key lines of a list, for one link or
/// for all links. Links that have paired stay with their peers.
///
/// # Errors
/// [`Exit::DataLost`] if standard input is not a key line or a list of them, [`Exit::Failed`] if it cannot be read;
/// [`Exit::NotTrusted`] for a name or key that is pinned otherwise, and for our own key; [`Exit::Usage`] for a link without
/// encryption.
pub fn trust(env: &Environment, who: &Newcomers, link: Option<&Link>, report: &Reporter) -> Result<()> {
    // Before the key is read: a link that cannot be used needs none.
    let name = if let Newcomers::One(name) = who { Some(name) } else { None };
    let peers = link.map(|link| super::link_peer(link, name, report)).transpose()?;
    let new = match who {
        Newcomers::One(name) => {
            vec![NewPeer { key: read_key_line(name, report)?, name: name.clone(), line_number: None }]
        }
        Newcomers::List => read_list(report)?,
    };
    let dir = link.map_or_else(|| directory(env, report), Link::identity_dir)?;
    // Reading the private half takes time, and is not needed here.
    let own = match Identity::load_public(&dir)? {
        Some(own) => own,
        None => Identity::of_device(&dir, report)?.public().clone(),
    };
    let store = store(dir, env);
    sole_peers::note(&store, &env.runtime_dir(), report);
    let link = link.map(|link| &link.config.link);
    store.trust(&own, &new, link)?;
    let for_link = link.map(|link| format!(" for the link {link}")).unwrap_or_default();
    match &new[..] {
        [] => report.info("the list is empty: nothing was changed"),
        [peer] => report.info(format_args!("{} is now trusted{for_link}: {}", peer.name, peer.key.fingerprint())),
        peers => report.info(format_args!("{} peers are now trusted{for_link}", peers.len())),
    }
    if let (Some(mut peers), Some(first)) = (peers, new.first()) {
        peers.refresh()?;
        if let Some(error) = peers.not_accepted(&first.name) {
            report.warn(&error);
        }
    }
    Ok(())
}

/// Reads standard input up to `max` bytes: its text, or why it is not text.
fn read_input(max: u64) -> Result<std::result::Result<String, String>> {
    let mut text = String::new();
    match std::io::stdin().take(max).read_to_string(&mut text) {
        Ok(_) => Ok(Ok(text)),
        // What is not UTF-8 is not a key line either.
        Err(err) if err.kind() == std::io::ErrorKind::InvalidData => Ok(Err(err.to_string())),
        Err(err) => Err(Error::new(Exit::Failed, "cannot read stdin").because(err)),
    }
}

/// The peers of the list on standard input: the lines of `known_peers`, without the fields for links.
fn read_list(report: &Reporter) -> Result<Vec<NewPeer>> {
    if std::io::stdin().is_terminal() {
        report.info("reading the list from the terminal; press Ctrl-D to end the input");
    }
    let bad = |place: String, why: String| {
        Error::new(Exit::DataLost, place)
            .because(why)
            .hint("nothing was changed; each line is a name and the line that sts-pair --key prints on that device")
    };
    let text = read_input(MAX_KNOWN_PEERS_LEN + 1)?.map_err(|why| bad("stdin".into(), why))?;
    if text.len() as u64 > MAX_KNOWN_PEERS_LEN {
        return Err(bad("stdin".into(), format!("longer than {MAX_KNOWN_PEERS_LEN} bytes")));
    }
    let mut peers = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let parsed = PeersLine::parse_new(line).map_err(|why| bad(format!("stdin, line {number}"), why))?;
        peers.extend(parsed.map(|(name, key)| NewPeer { name, key, line_number: Some(number) }));
    }
    Ok(peers)
}

fn read_key_line(name: &PeerName, report: &Reporter) -> Result<PublicKey> {
    if std::io::stdin().is_terminal() {
        report.info("reading the key line from the terminal; press Ctrl-D to end the input");
    }
    let key =
        read_input(MAX_INPUT_LEN)?.and_then(|text| PublicKey::from_key_line(&text).map_err(|err| err.to_string()));
    key.map_err(|why| {
        Error::new(Exit::DataLost, "stdin").because(why).hint(format!(
            "pipe in the line that sts-pair --key prints on the other device: … | sts-pair --trust {name}"
        ))
    })
}

/// Unpins `name` and deletes all sessions with its key, on every link.
///
/// # Errors
/// [`Exit::Config`] if no key is pinned under this name; [`Exit::Failed`] if a file cannot be changed.
pub fn forget(env: &Environment, name: &PeerName, report: &Reporter) -> Result<()> {
    let key = store(directory(env, report)?, env).forget(name)?;
    report.info(format_args!("{name} is no longer trusted: {}", key.fingerprint()));
    for link in cache::forget(&env.runtime_dir(), key.fingerprint().as_bytes())? {
        report.info(format_args!("deleted the sessions of {link} with {name}"));
    }
    Ok(())
}
