//! `sts-pair --serve`: a slave that is always there, for one master or for thousands.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::os::fd::BorrowedFd;
use std::time::{Instant, SystemTime};

use super::{Machine, Run, encrypted, hints, nameless, party};
use crate::cache::{Cache, Watch};
use crate::cli::Reporter;
use crate::event_loop;
use crate::link::{Link, unix_time};
use crate::peers::LinkPeers;
use crate::role::Role;
use crate::stdio::Signals;
use crate::throttle::KeyedThrottle;
use crate::{Error, Exit, Result};

/// What goes on beside the pairings.
pub(super) struct Service {
    hangups: Signals,
    /// How many were seen.
    seen: usize,
    complaints: KeyedThrottle<u64>,
    hasher: RandomState,
    /// The sessions of the link, as of the last look.
    watch: Watch,
}

impl Service {
    fn begin() -> Result<Self> {
        Ok(Self {
            hangups: Signals::hangups()?,
            seen: 0,
            complaints: hints::throttle(),
            hasher: RandomState::new(),
            watch: Watch::default(),
        })
    }

    /// Whether SIGHUP came since this was last asked.
    pub(super) fn is_told_to_reload(&mut self) -> bool {
        let before = std::mem::replace(&mut self.seen, self.hangups.count());
        self.seen > before
    }

    /// What becomes readable at SIGHUP.
    pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
        self.hangups.as_fd()
    }

    /// The answer to a peer that asks whether a session is still here. `sts-pair --serve` is always there, and wants no new
    /// session itself.
    ///
    /// # Errors
    /// As [`Cache::answer`] and [`Watch::refresh`].
    pub(super) fn answer(
        &mut self,
        cache: &Cache,
        ends: &LinkPeers,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Vec<u8>>> {
        if self.watch.is_due(now) {
            self.watch.refresh(cache, now, SystemTime::now())?;
        }
        let peers = ends.still_accepted();
        cache.answer(payload, &self.watch, |session| ends.peer_of(session, &peers).is_some(), unix_time())
    }

    /// Tells what kept one pairing from its end, once a minute: the others go on.
    pub(super) fn complain(&mut self, error: &Error, report: &Reporter, now: Instant) {
        if self.complaints.is_due(&self.hasher.hash_one(error.to_string()), now) {
            report.warn(error);
        }
    }
}

/// Answers every pairing until SIGINT or SIGTERM; at SIGHUP `open` reads the configuration again.
///
/// A configuration that cannot be used then is reported, and the one before it stays in use. Pairings that are under way
/// go on; what is sent while the connection is made anew is repeated by its sender.
///
/// # Errors
/// [`Exit::Usage`] for a master; [`Exit::Unavailable`] where the broker refuses us; otherwise as [`super::run`] before it
/// begins.
pub fn run(open: impl Fn() -> Result<Link>, report: &Reporter) -> Result<()> {
    let mut link = open()?;
    let mut ends = encrypted(&link)?;
    check_role(ends.role)?;
    let _lock = link.create_cache()?.lock_pairing()?;
    let mut signals = Signals::catch()?;
    let mut service = Service::begin()?;
    let mut machine = Machine::Waiting(Some(party(&ends, nameless(), None)?));
    loop {
        let cache = link.create_cache()?;
        let mut run = Run::begin(&link, report, ends, cache, signals, machine)?;
        run.service = Some(service);
        let outcome = run.pair();
        event_loop::leave(&mut run.client, &mut run.signals)?;
        outcome?;
        if run.signals.count() > 0 {
            return Ok(());
        }
        (ends, signals, machine) = (run.ends, run.signals, run.machine);
        service = run.service.expect("it was just given to it");
        match reload(&open, &mut machine) {
            Ok(read) => {
                (link, ends) = read;
                report.info("the configuration is read again");
            }
            Err(error) => report.warn(&error.hint("the configuration before it stays in use")),
        }
    }
}

fn reload(open: &impl Fn() -> Result<Link>, machine: &mut Machine) -> Result<(Link, LinkPeers)> {
    let link = open()?;
    let ends = encrypted(&link)?;
    check_role(ends.role)?;
    let party = party(&ends, nameless(), None)?;
    match machine {
        Machine::Running(handshake) => handshake.set_party(party),
        Machine::Waiting(waiting) => *waiting = Some(party),
    }
    Ok((link, ends))
}

fn check_role(role: Role) -> Result<()> {
    match role {
        Role::Slave => Ok(()),
        Role::Master => Err(Error::new(Exit::Usage, "--serve")
            .because("this device is the master of the link, which begins each pairing itself")
            .hint("run sts-pair from cron here, and sts-pair --serve on the other device")),
    }
}
