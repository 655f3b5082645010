//! A spool on a link that has no session yet: after a restart that took the runtime directory with it, what a sensor says
//! until the next pairing is worth keeping, too.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use super::Options;
use super::framing::{Framing, Sealing};
use super::spooled::Spooled;
use crate::cli::Reporter;
use crate::crypto::schedule::Digest;
use crate::link::Link;
use crate::stdio::{self, Input, Signals};
use crate::throttle::Throttle;
use crate::{Error, Exit, Result, spool};

/// How often it is looked whether there is a session.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How messages are to be made on this link.
///
/// # Errors
/// [`Exit::TryAgain`] without a session; [`Exit::Usage`] where nobody can confirm anything.
pub(super) fn framing(link: &Link, options: &Options, now: Instant) -> Result<Framing> {
    match link.peers()? {
        None if options.confirm => Err(Error::new(Exit::Usage, "--confirm")
            .because("the link is not encrypted (sts_mode = nosec), so nobody can confirm anything")),
        None if options.to.is_some() => Err(Error::new(Exit::Usage, "--to")
            .because("the link is not encrypted (sts_mode = nosec), so nobody has a name on it")),
        None => Ok(Framing::Plain { max_message: link.config.mqtt.max_message }),
        Some(ends) => Ok(Framing::Sealed(Box::new(Sealing::open(link, ends, options, now)?))),
    }
}

/// Opens the spool, and fills it for as long as there is no session; returns once there is one.
///
/// # Errors
/// As [`Spooled::open`]; [`Exit::TryAgain`] where the input, a signal or [`Options::timeout`] comes to an end before.
pub(super) fn open(
    link: &Link,
    options: &Options,
    spool: &spool::SpoolOptions,
    input: &mut Input,
    signals: &mut Signals,
    report: &Reporter,
) -> Result<(Framing, Spooled)> {
    let began = Instant::now();
    let mut found = framing(link, options, began);
    let peer = match &found {
        Ok(Framing::Plain { .. }) => None,
        Ok(Framing::Sealed(sealing)) => Some(sealing.peer()?),
        Err(error) => Some(only_peer(link, options, error)?),
    };
    let mut spooled = Spooled::open(spool, options.cut, &link.config, peer.as_ref(), report)?;
    let mut notice = Throttle::once();
    loop {
        let now = Instant::now();
        let error = match found {
            Ok(mut framing) => {
                // Whoever paired while this run waited: what is in the spool is not for another.
                if let Framing::Sealed(sealing) = &framing
                    && Some(sealing.peer()?) != peer
                {
                    spooled.end()?;
                    return Err(Error::new(Exit::Config, "another peer paired on this link")
                        .because("what is in the spool is for the one that the link was with before")
                        .hint("give each peer a spool of its own, and say which one is meant: --to NAME"));
                }
                spooled.take_up(&mut framing, report, now)?;
                return Ok((framing, spooled));
            }
            Err(error) if error.exit() != Exit::TryAgain => return Err(error),
            Err(error) => error,
        };
        if signals.count() > 0 {
            input.stop();
        }
        spooled.fill(input, report, now)?;
        spooled.sync()?;
        let late = options.timeout.is_some_and(|timeout| now >= began + timeout);
        if spooled.has_all(input) || signals.count() > 0 || late {
            spooled.end()?;
            return Err(if spooled.pending().messages == 0 { error } else { spooled.left_because(&error) });
        }
        if notice.happened(now).is_some() {
            report.info(format_args!("{error}; what is read waits in the spool until there is one"));
        }
        let own = signals.as_fd();
        let mut fds = vec![PollFd::new(&own, PollFlags::IN)];
        let stdin = input.as_fd().filter(|_| spooled.has_room());
        fds.extend(stdin.iter().map(|fd| PollFd::new(fd, PollFlags::IN)));
        stdio::wait(&mut fds, Some(now + LOOK_EVERY), now)?;
        found = framing(link, options, Instant::now());
    }
}

/// The peer that the link's next session will be with: the one that `--to` names, or the only one.
fn only_peer(link: &Link, options: &Options, error: &Error) -> Result<Digest> {
    if error.exit() == Exit::TryAgain
        && let Some(mut ends) = link.peers()?
    {
        if let Some(name) = &options.to {
            ends.restrict_to(name)?;
        }
        if let [peer] = &ends.accepted()?[..] {
            return Ok(*peer.key.fingerprint().as_bytes());
        }
    }
    Err(error.clone())
}
