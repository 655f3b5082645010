//! A spool on a link that has no session yet, say after a restart that cleared the runtime directory: what a sensor reports
//! until the next pairing is worth keeping, too.

use std::time::Instant;

use rustix::event::PollFlags;

use super::SendOptions;
use super::outgoing::OutgoingStream;
use super::run::{Failure, Outcome};
use super::source::MessageSource;
use super::spooled::Spooled;
use super::timeouts::Timeouts;
use crate::crypto::schedule::Digest;
use crate::event_loop::{EventLoop, Stop};
use crate::link::Link;
use crate::report::Reporter;
use crate::report_throttle::ReportThrottle;
use crate::sessions::SESSION_CHECK_INTERVAL;
use crate::{Error, Exit, Result, spool};

/// The peer that a spool is for: that of the stream that was `found`, or else the one that the link's next session will be
/// with, which is the one that `--to` names, or the only one. `None` where the link is not encrypted.
///
/// # Errors
/// Why no stream was found, if that does not mean to wait for one, or if the peer is not known.
pub(super) fn peer_of(
    found: &Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
) -> Result<Option<Digest>> {
    let error = match found {
        Ok(stream) => return stream.peer(),
        Err(error) => error,
    };
    if error.exit() == Exit::TryAgain
        && let Some(mut peers) = link.peers()?
    {
        if let Some(name) = &options.to {
            peers.restrict_to(name)?;
        }
        if let [peer] = &peers.accepted()?[..] {
            return Ok(Some(*peer.key.fingerprint().as_bytes()));
        }
    }
    Err(error.clone())
}

/// Fills the spool for as long as there is no session; returns the stream once there is one. The client stays idle.
///
/// What was `found` at the start of the run may be hours old, if another run had the spool until now. That one may have used
/// newer sessions, and the stream that it left is of one of these.
///
/// # Errors
/// [`Exit::TryAgain`] if the input, a signal or [`SendOptions::timeout`] ends the run before; [`Exit::Config`] if another peer
/// paired than the one that the spool is for.
pub(super) fn wait(
    mut found: Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
    peer: Option<&Digest>,
    spooled: &mut Spooled<'_>,
    events: &mut EventLoop<'_>,
    report: &Reporter,
) -> Outcome<Box<dyn OutgoingStream>> {
    let mut timeouts = Timeouts::new(options.timeout, false);
    let mut notice = ReportThrottle::once();
    loop {
        let now = events.begin_turn();
        let error = match look_again(found, link, options) {
            Ok((stream, of)) if of.as_ref() == peer => return Ok(stream),
            Ok(_) => {
                return Err(Failure::Interrupted(
                    Error::new(Exit::Config, "another peer paired on this link")
                        .because("the messages in the spool are for the previous peer")
                        .hint("give each peer its own spool, and name the peer: --to NAME"),
                ));
            }
            Err(error) if error.exit() != Exit::TryAgain => return Err(Failure::Interrupted(error)),
            Err(error) => error,
        };
        let stop = events.stop_requested();
        timeouts.observe(spooled.awaits_delivery(spool::Pending::default()), now);
        let ended = timeouts.ended(stop, now).is_some();
        keep_input(spooled, events.was_woken(), ended || stop > Stop::No, now)?;
        if spooled.has_all_input() || ended {
            return Err(Failure::GivenUp(if spooled.is_empty() { error } else { left_in_spool(spooled, &error) }));
        }
        if notice.happened(now).is_some() {
            report.info(format_args!("{error}; input waits in the spool until there is one"));
        }
        let input = spooled.input_fd(true).map(|fd| (fd, PollFlags::IN));
        let deadline = spooled.deadline(now).into_iter().chain([now + SESSION_CHECK_INTERVAL]).min();
        events.wait(input, deadline, now)?;
        found = Err(error);
    }
}

/// The stream and its peer, by the sessions that there are now. A stream that was found stays with its peer, whoever else
/// paired since.
fn look_again(
    found: Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
) -> Result<(Box<dyn OutgoingStream>, Option<Digest>)> {
    let now = Instant::now();
    let stream = match found {
        Ok(mut stream) => stream.refresh(now).map(|()| stream)?,
        Err(_) => super::open_stream(link, options, now)?,
    };
    let peer = stream.peer()?;
    Ok((stream, peer))
}

/// Has in the spool what can be read.
fn keep_input(spooled: &mut Spooled<'_>, woken: bool, stopping: bool, now: Instant) -> Result<()> {
    if woken {
        spooled.woken()?;
    }
    if stopping {
        spooled.stop_reading(now)?;
    }
    spooled.read_input(now)?;
    spooled.sync()?;
    spooled.warn_of_backlog(false);
    Ok(())
}

/// Says that the spool keeps what was read, and why it was not sent.
fn left_in_spool(spooled: &Spooled<'_>, why: &Error) -> Error {
    let left = spooled.undelivered(Exit::TryAgain, &why.to_string(), spool::Pending::default());
    left.hint_if(why.hint_text().map(str::to_owned))
}
