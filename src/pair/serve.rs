//! `sts-pair --serve`: a slave that is always there, for one master or for thousands.

use std::time::Instant;

use super::keeper::{Keeper, Moves};
use super::run::{PairRun, Purpose, handshake};
use super::service::{Duty, Service, reopen};
use super::{default_name, party, pinned_party, pinned_peers};
use crate::handshake::{AcceptedPeers, Handshake, Party, Trust};
use crate::link::Link;
use crate::mqtt::Qos;
use crate::peers::LinkPeers;
use crate::report::Reporter;
use crate::role::Role;
use crate::sandbox::Needs;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::{Error, Exit, Result};

impl PairRun<'_> {
    /// Replies to a peer that checks a session. A service replies under every usable one: it wants no new session itself.
    ///
    /// # Errors
    /// As [`LinkSessions::refresh_sessions_if_due`] and [`LinkSessions::answer_for_receiver`].
    pub(super) fn answer_session_check(&mut self, payload: &[u8], now: Instant) -> Result<()> {
        // A known_peers that cannot be read is no reason to be silent: a service continues with the peers that it had.
        self.refresh_peers(now)?;
        self.sessions.refresh_sessions_if_due(now)?;
        match self.sessions.answer_for_receiver(payload, now)? {
            Some(answer) => self.event_loop.publish_or_drop(&answer.topic, answer.frame, Qos::AtMostOnce).map(drop),
            None => Ok(()),
        }
    }
}

/// Answers every pairing until SIGINT or SIGTERM; at SIGHUP `open` reads the configuration again.
///
/// If it cannot be used then, that is reported, and the previous configuration is kept. Pairings that are under way go on;
/// what is sent during the reconnection is repeated by its sender.
///
/// # Errors
/// [`Exit::Usage`] for a master; [`Exit::Unavailable`] if the broker refuses the connection; otherwise as
/// [`super::once::run`] before it begins.
pub fn run(open: impl Fn() -> Result<Link>, report: &Reporter) -> Result<()> {
    run_service(open, Duty::Serve, report)
}

/// A service of either role, until it is stopped.
pub(super) fn run_service(open: impl Fn() -> Result<Link>, duty: Duty, report: &Reporter) -> Result<()> {
    let mut link = open()?;
    #[cfg(feature = "legacy")]
    if let Some(legacy) = link.legacy() {
        return super::legacy::serve(link, legacy, duty, open, report);
    }
    let peers = service_peers(&link, duty, report)?;
    let _locks = link.create_cache()?.lock_service()?;
    let mut signals = Signals::terminations()?;
    // Of all turns of the loop: a reload must not have a device move again at once.
    let (mut service, mut moves) = (Service::begin()?, Moves::default());
    let mut handshake = handshake(&peers, service_party(&peers, report)?);
    let held = link.enter_sandbox(link.pairing_needs(true), report);
    let mut sessions = LinkSessions::new(peers, link.create_cache()?);
    loop {
        let purpose = match duty {
            Duty::Serve => Purpose::Serve(&mut service),
            Duty::Keep(age) => Purpose::Keep(Keeper::new(&mut service, age, &mut moves)),
        };
        let mut run = PairRun::begin(&link, report, sessions, handshake, purpose, None, signals)?;
        let outcome = run.run();
        // If the reload fails, the next run continues with the peers that this one accepted, as its handshake does.
        (signals, handshake, sessions) = run.close()?;
        outcome?;
        if signals.count() > 0 {
            return Ok(());
        }
        match reload(&open, duty, &mut handshake, held.as_ref(), report) {
            Ok(reloaded) => {
                (link, sessions) = reloaded;
                report.info("configuration reloaded");
            }
            Err(error) => {
                report.warn(&error);
                report.warning("keeping the previous configuration");
            }
        }
    }
}

fn reload(
    open: &impl Fn() -> Result<Link>,
    duty: Duty,
    current: &mut Handshake,
    held: Option<&Needs>,
    report: &Reporter,
) -> Result<(Link, LinkSessions)> {
    let link = reopen(open, held)?;
    let peers = service_peers(&link, duty, report)?;
    // Unlike at the start, a name that no key has yet is refused: it would replace a configuration that works.
    peers.named()?;
    let cache = link.create_cache()?;
    let party = service_party(&peers, report)?;
    match duty {
        Duty::Serve => current.set_party(party),
        // Its topics may be others.
        Duty::Keep(_) => *current = handshake(&peers, party),
    }
    Ok((link, LinkSessions::new(peers, cache)))
}

/// This end of a service, which may be started before it has a peer: the first key is taken as later ones are.
fn service_party(peers: &LinkPeers, report: &Reporter) -> Result<Party> {
    let Some(error) = peers.none_trusted() else { return pinned_party(peers) };
    report.info(format_args!("{error}; waiting for the first key"));
    party(peers, default_name(), Trust::Pinned(AcceptedPeers::default()))
}

/// The peers of a link of which this device has the role for that duty.
fn service_peers(link: &Link, duty: Duty, report: &Reporter) -> Result<LinkPeers> {
    let peers = pinned_peers(link, report)?;
    match (duty, peers.role) {
        (Duty::Serve, Role::Slave) | (Duty::Keep(_), Role::Master) => Ok(peers),
        (Duty::Serve, Role::Master) => Err(Error::new(Exit::Usage, "--serve")
            .because("this device is the master of the link, and the master begins each pairing")
            .hint("run sts-pair --keep 24h here, and sts-pair --serve on the other device")),
        (Duty::Keep(_), Role::Slave) => Err(Error::new(Exit::Usage, "--keep")
            .because("this device is the slave of the link, and the master begins each pairing")
            .hint("run sts-pair --serve here, and sts-pair --keep 24h on the other device")),
    }
}
