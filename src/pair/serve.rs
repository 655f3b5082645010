//! `sts-pair --serve`: a slave that is always there, for one master or for thousands.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::run::{Purpose, Run, handshake};
use super::{claims, link_peers, pinned_party};
use crate::cli::Reporter;
use crate::handshake::Handshake;
use crate::link::Link;
use crate::mqtt::Qos;
use crate::peers::LinkPeers;
use crate::role::Role;
use crate::sessions::LinkSessions;
use crate::stdio::Signals;
use crate::throttle::KeyedThrottle;
use crate::{Error, Exit, Result};

/// What a service has beside its pairings: requests to reload, and errors that do not end it.
pub(super) struct Service {
    hangups: Signals,
    /// How many of them led to a reload.
    handled: usize,
    reported: KeyedThrottle<u64>,
    hasher: RandomState,
}

impl Service {
    fn begin() -> Result<Self> {
        let (reported, hasher) = (claims::throttle(), RandomState::new());
        Ok(Self { hangups: Signals::hangups()?, handled: 0, reported, hasher })
    }

    /// Whether SIGHUP came since the last call.
    pub(super) fn is_told_to_reload(&mut self) -> bool {
        let handled = std::mem::replace(&mut self.handled, self.hangups.count());
        self.handled > handled
    }

    /// Becomes readable at SIGHUP.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.hangups.as_fd()
    }

    /// Reports what ended one pairing, the same error once a minute. The others go on.
    pub(super) fn report_error(&mut self, error: &Error, report: &Reporter, now: Instant) {
        if self.reported.is_due(&self.hasher.hash_one(error.to_string()), now) {
            report.warn(error);
        }
    }
}

impl Run<'_> {
    /// Replies to a peer that checks a session. A service replies under every usable one: it wants no new session itself.
    ///
    /// # Errors
    /// As [`LinkSessions::refresh_if_due`] and [`LinkSessions::answer`].
    pub(super) fn answer_session_check(&mut self, payload: &[u8], now: Instant) -> Result<()> {
        if self.sessions.refresh_if_due(now)? {
            self.handshake.set_peers(self.sessions.accepted().to_vec());
        }
        match self.sessions.answer(payload, |_| true)? {
            Some(answer) => self.event_loop.publish_or_drop(&answer.topic, answer.frame, Qos::AtMostOnce),
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
    let mut link = open()?;
    let mut peers = slave_peers(&link)?;
    let _lock = link.create_cache()?.lock_pairing()?;
    let mut signals = Signals::catch()?;
    let mut service = Service::begin()?;
    let mut handshake = handshake(&peers, pinned_party(&peers)?);
    loop {
        let sessions = LinkSessions::new(peers, link.create_cache()?);
        let purpose = Purpose::Serve(&mut service);
        let mut run = Run::begin(&link, report, sessions, handshake, purpose, None, signals)?;
        let outcome = run.run();
        (signals, handshake, peers) = run.close()?;
        outcome?;
        if signals.count() > 0 {
            return Ok(());
        }
        match reload(&open, &mut handshake) {
            Ok(reloaded) => {
                (link, peers) = reloaded;
                report.info("configuration reloaded");
            }
            Err(error) => report.warn(&error.hint("keeping the previous configuration")),
        }
    }
}

fn reload(open: &impl Fn() -> Result<Link>, handshake: &mut Handshake) -> Result<(Link, LinkPeers)> {
    let link = open()?;
    let peers = slave_peers(&link)?;
    handshake.set_party(pinned_party(&peers)?);
    Ok((link, peers))
}

/// The peers of a link of which this device is the slave.
fn slave_peers(link: &Link) -> Result<LinkPeers> {
    let peers = link_peers(link)?;
    match peers.role {
        Role::Slave => Ok(peers),
        Role::Master => Err(Error::new(Exit::Usage, "--serve")
            .because("this device is the master of the link, which begins each pairing itself")
            .hint("run sts-pair from cron here, and sts-pair --serve on the other device")),
    }
}
