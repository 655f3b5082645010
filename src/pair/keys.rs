//! `sts-pair --key`, `--trust` and `--forget`: this device's key, and the keys that it trusts on all links.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;

use super::peers_input::{self, PeersArgument};
use super::sole_peers;
use crate::cache;
use crate::config::Environment;
use crate::crypto::schedule::Digest;
use crate::files::{Dir, Guard};
use crate::identity::{FormerPeer, Identity, NewPeer, PeersLine, PeersStore};
use crate::link::Link;
use crate::name::LinkName;
use crate::report::Reporter;
use crate::text::{count, is_or_are};
use crate::{Error, Exit, Result};

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
pub fn trust(env: &Environment, who: &PeersArgument, link: Option<&Link>, report: &Reporter) -> Result<()> {
    // Before the key is read: a link that cannot be used needs none.
    let name = if let PeersArgument::One(name) = who { Some(name) } else { None };
    let peers = link.map(|link| super::link_peer(link, name, report)).transpose()?;
    let new = match who {
        PeersArgument::One(name) => {
            vec![NewPeer { key: peers_input::read_key(name, report)?, name: name.clone(), line_number: None }]
        }
        PeersArgument::List => peers_input::read_new_peers(report)?,
    };
    let dir = link.map_or_else(|| directory(env, report), Link::identity_dir)?;
    // Reading the private half takes time, and is not needed here.
    let own = match Identity::load_public(&dir)? {
        Some(own) => own,
        None => Identity::of_device(&dir, report)?.public().clone(),
    };
    let store = store(dir, env);
    let link = link.map(|link| &link.config.link);
    // A key for one link makes no other one ask, and a link with wildcards has no sole peer.
    if peers.as_ref().is_none_or(|peers| !peers.route.is_wildcard()) {
        sole_peers::note(&store, &env.runtime_dir(), link, report);
    }
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

/// Unpins a name, or either all or none of those of a list, and then deletes all sessions with their keys, on every link.
///
/// # Errors
/// [`Exit::Config`] if no key is pinned under a name; [`Exit::DataLost`] if standard input is not a list of names;
/// [`Exit::Failed`] if it cannot be read or a file cannot be changed.
pub fn forget(env: &Environment, who: &PeersArgument, report: &Reporter) -> Result<()> {
    let store = store(directory(env, report)?, env);
    match who {
        PeersArgument::One(name) => {
            let peers = store.forget(&[FormerPeer { name: name.clone(), line_number: None }])?;
            for PeersLine { key, .. } in &peers {
                report.info(format_args!("{name} is no longer trusted: {}", key.fingerprint()));
            }
            for link in delete_sessions(env, &peers)?.keys() {
                report.info(format_args!("deleted the sessions of {link} with {name}"));
            }
        }
        PeersArgument::List => forget_list(env, &store, &peers_input::read_former_peers(report)?, report)?,
    }
    Ok(())
}

fn forget_list(env: &Environment, store: &PeersStore, listed: &[FormerPeer], report: &Reporter) -> Result<()> {
    let peers = store.forget(listed)?;
    for PeersLine { name, key, .. } in &peers {
        report.verbose(format_args!("{name} is no longer trusted: {}", key.fingerprint()));
    }
    let number = peers.len() as u64;
    match number {
        0 => report.info("the list is empty: nothing was changed"),
        _ => report.info(format_args!("{} {} no longer trusted", count(number, "peer"), is_or_are(number))),
    }
    let names: HashMap<_, _> = peers.iter().map(|peer| (*peer.key.fingerprint().as_bytes(), &peer.name)).collect();
    for (link, of_link) in delete_sessions(env, &peers)? {
        for name in of_link.iter().filter_map(|peer| names.get(peer)) {
            report.verbose(format_args!("deleted the sessions of {link} with {name}"));
        }
        report.info(format_args!("deleted the sessions of {link} with {}", count(of_link.len() as u64, "peer")));
    }
    Ok(())
}

/// Deletes the sessions with peers that are no longer known.
fn delete_sessions(env: &Environment, peers: &[PeersLine]) -> Result<BTreeMap<LinkName, Vec<Digest>>> {
    let keys: Vec<_> = peers.iter().map(|peer| *peer.key.fingerprint().as_bytes()).collect();
    cache::forget(&env.runtime_dir(), &keys)
}
