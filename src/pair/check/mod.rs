//! `sts-pair --check`: the configuration as it is used, then what each step of using it comes to, one line per step.

mod broker;
mod findings;

use std::fmt::Write as _;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant, SystemTime};

use self::broker::check_broker;
use self::findings::Findings;
use super::status::print;
use crate::Result;
use crate::config::{self, BrokerAddress, Environment};
use crate::handshake::Peer;
use crate::link::{Link, LinkOptions, is_plausible, unix_time};
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::session::{Session, Standing};
use crate::sessions::LinkSessions;
use crate::text::show;
use crate::units::{approximate, utc};
use crate::{Error, Exit};

/// Prints the configuration and checks it, with the broker and the peer. `timeout` is for the broker.
///
/// # Errors
/// The first of what is wrong, after all of it was printed; as [`Link::open`] if there is no configuration to check.
pub fn run(options: &LinkOptions, timeout: Option<Duration>, report: &Reporter) -> Result<()> {
    let link = Link::open(options, report)?;
    print_configuration(options, &link)?;
    link.enter_sandbox(link.needs(), report);
    let mut findings = Findings::default();
    check_clock(&mut findings)?;
    check_names(&link, &mut findings)?;
    let peer = check_keys(&link, &mut findings)?;
    check_broker(&link, peer.as_ref(), timeout, &mut findings)?;
    findings.verdict()
}

fn print_configuration(options: &LinkOptions, link: &Link) -> Result<()> {
    let env = Environment::of_process();
    let values = config::explain(options.link.as_deref(), &options.overrides, &env, &link.config)?;
    let width = values.iter().map(|value| value.value.chars().count()).max().unwrap_or_default().min(40);
    let put = |name: &str, value: &str, origin: &str| format!("{name:14} = {value:width$}  ({origin})\n");
    let runtime = if env.is_runtime_dir_set() { "STS_RUNTIME_DIR" } else { "default" };
    let mut text: String = values.iter().map(|value| put(value.name, &value.value, &value.origin)).collect();
    let _ = writeln!(text, "\nkeys in {}", show(link.keys_dir()));
    let _ = writeln!(text, "sessions in {} ({runtime})\n", show(&env.runtime_dir()));
    print(&text).map(drop)
}

fn check_clock(findings: &mut Findings) -> Result<()> {
    let now = unix_time();
    if is_plausible(SystemTime::now()) {
        return findings.good("clock", utc(now));
    }
    let why = format!("this device's clock says {}, which is before this program was built", utc(now));
    findings.bad("clock", Error::new(Exit::Failed, "wrong clock").because(why).hint("set this device's clock"))
}

/// Looks up the names of the broker, or of the proxy, which looks up the broker's.
fn check_names(link: &Link, findings: &mut Findings) -> Result<()> {
    let endpoint = &link.config.mqtt.endpoint;
    let nodes = match (&endpoint.proxy, &endpoint.address) {
        (_, BrokerAddress::Unix(_)) => return findings.skipped("name", "a Unix socket has none"),
        (Some(proxy), _) => std::slice::from_ref(&proxy.node),
        (None, BrokerAddress::Tcp(nodes)) => nodes,
    };
    for node in nodes {
        match (node.host.as_str(), node.port).to_socket_addrs() {
            Ok(addresses) => {
                let addresses: Vec<_> = addresses.map(|address| address.ip().to_string()).collect();
                findings.good("name", format!("{} is {}", node.host, addresses.join(", ")))?;
            }
            Err(why) => {
                let error = Error::new(Exit::Unavailable, format!("cannot look up {}", node.host)).because(why);
                findings.bad("name", error.hint("check `host`, and that this device can look up names"))?;
            }
        }
    }
    Ok(())
}

/// The steps `peer` and `session`.
fn check_keys(link: &Link, findings: &mut Findings) -> Result<Option<CheckedSession>> {
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        findings.skipped("peer", "the old program has no key (sts_version = 1)")?;
        return check_legacy_session(link, legacy, findings).map(|()| None);
    }
    if link.config.sealed().is_some() {
        return check_session(link, findings);
    }
    let why = "the link is not encrypted (sts_mode = nosec)";
    findings.skipped("peer", why)?;
    findings.skipped("session", why).map(|()| None)
}

/// The session with the old program, which cannot be asked for it.
#[cfg(feature = "legacy")]
fn check_legacy_session(link: &Link, legacy: config::Legacy, findings: &mut Findings) -> Result<()> {
    let found = link.cache().and_then(|cache| {
        let store = crate::legacy::Store::new(cache, legacy);
        store.check_current()?;
        store.age(unix_time())
    });
    match found {
        Ok(age) => {
            let age = age.map_or_else(|| "in the future".to_owned(), |age| format!("{} ago", approximate(age)));
            findings.good("session", format!("with the old program (sts_version = 1), agreed on {age}"))
        }
        Err(error) => findings.bad("session", error),
    }
}

/// The peer and the session with it, of a link with one peer.
pub(super) struct CheckedSession {
    peer: Peer,
    session: Session,
    /// Where the peer listens.
    topic: String,
}

fn check_session(link: &Link, findings: &mut Findings) -> Result<Option<CheckedSession>> {
    let accepting = |peers: LinkPeers| peers.accepted().map(|accepted| (peers, accepted));
    let (peers, accepted) = match link.peers().and_then(|peers| peers.map(accepting).transpose()) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) => {
            findings.bad("peer", error)?;
            return findings.skipped("session", "no peer is trusted for the link").map(|()| None);
        }
    };
    let names: Vec<_> = accepted.iter().map(|peer| peer.name.to_string()).collect();
    findings.good("peer", names.join(", "))?;
    let sessions = match LinkSessions::open(link, peers, Instant::now()) {
        Ok(sessions) => sessions,
        Err(error) => return findings.bad("session", error).map(|()| None),
    };
    let current: Vec<_> = sessions.usable().filter(|stored| stored.standing == Standing::Current).collect();
    let (Some(stored), true) = (current.first(), names.len() == 1) else {
        return match (current.len(), names.len()) {
            (0, _) => findings.bad("session", sessions.none_usable()),
            (paired, all) => findings.good("session", format!("with {paired} of {all} peers")),
        }
        .map(|()| None);
    };
    let session = stored.session.clone();
    if let Some(age) = session.age(unix_time()) {
        findings.good("session", format!("agreed on {} ago", approximate(age)))?;
    } else {
        let (created, now) = (utc(session.created), utc(unix_time()));
        let why = format!("it was agreed on at {created}, and this device's clock says {now}");
        let error = Error::new(Exit::Failed, "the session is from the future").because(why);
        findings.bad("session", error.hint("set this device's clock"))?;
    }
    let topic = sessions.publish_topic(&session).to_owned();
    Ok(sessions.accepted().first().cloned().map(|peer| CheckedSession { peer, session, topic }))
}
