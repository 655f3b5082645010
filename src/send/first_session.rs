//! A spool on a link that has no session yet, say after a restart that cleared the runtime directory: what a sensor reports
//! until the next pairing is worth keeping, too.

use std::os::fd::BorrowedFd;
use std::time::Instant;

use super::SendOptions;
use super::failure::{RunResult, SendFailure};
use super::outgoing::OutgoingStream;
use super::source::MessageSource;
use super::spooled::Spooled;
use super::waiting::{self, Blocker};
use crate::crypto::schedule::Digest;
use crate::event_loop::EventLoop;
use crate::link::Link;
use crate::report::Reporter;
use crate::report_throttle::ReportThrottle;
use crate::sessions::SESSION_CHECK_INTERVAL;
use crate::{Error, Exit, Result, spool};

/// The peers that a spool is for, sorted: those of the stream that was `found`, or else those that the link's next session may
/// be with, which are the one that `--to` names, the only one, or the alternatives that the configuration names. None where the
/// link is not encrypted, or to the old program.
///
/// # Errors
/// Why no stream was found, if that does not mean to wait for one, or if the peer is not known.
pub(super) fn receivers_of(
    found: &Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
) -> Result<Vec<Digest>> {
    let error = match found {
        Ok(stream) => return stream.receivers(),
        Err(error) => error,
    };
    let is_waited_for = error.exit() == Exit::TryAgain;
    if is_waited_for && link.config.protection.is_legacy() {
        return Ok(Vec::new());
    }
    if is_waited_for && let Some(mut peers) = link.peer_to_reach(options.to.as_ref())? {
        if let Some(name) = &options.to {
            peers.restrict_to(name)?;
        }
        let accepted = peers.accepted()?;
        if accepted.len() == 1 || peers.are_alternatives() {
            return Ok(accepted.fingerprints());
        }
    }
    Err(error.clone())
}

/// Fills the spool for as long as there is no session; returns the stream once there is one.
///
/// What was `found` at the start of the run may be hours old, if another run had the spool until now. That one may have used
/// newer sessions, and the stream that it left is of one of these.
///
/// # Errors
/// [`Exit::TryAgain`] if the input, a signal or [`SendOptions::timeout`] ends the run before; [`Exit::Config`] if another peer
/// paired than the one that the spool is for.
pub(super) fn wait(
    found: Result<Box<dyn OutgoingStream>>,
    link: &Link,
    options: &SendOptions,
    receivers: &[Digest],
    spooled: &mut Spooled<'_>,
    events: &mut EventLoop<'_>,
    report: &Reporter,
) -> RunResult<Box<dyn OutgoingStream>> {
    if let Some(bell) = spooled.bell(Instant::now())? {
        events.watch(bell);
    }
    let notice = ReportThrottle::once();
    let mut lacking = NoSession { link, options, receivers, spooled, found: found.ok(), missing: None, notice, report };
    waiting::wait(&mut lacking, options.timeout, events)
}

/// A link without a session to send under.
struct NoSession<'a, 's> {
    link: &'a Link,
    options: &'a SendOptions,
    /// Whom the spool is for.
    receivers: &'a [Digest],
    spooled: &'a mut Spooled<'s>,
    /// The stream that there was at the start of the run, until it is looked at.
    found: Option<Box<dyn OutgoingStream>>,
    /// Why there was no session at the last look.
    missing: Option<Error>,
    notice: ReportThrottle,
    report: &'a Reporter,
}

impl NoSession<'_, '_> {
    /// The stream and its peers, by the sessions that there are now. A stream that was found stays with its peers, even if
    /// others have paired since. What it needs beyond a session, it gets here, when the spool is its own.
    fn open_stream(&mut self, now: Instant) -> Result<(Box<dyn OutgoingStream>, Vec<Digest>)> {
        let mut stream = match self.found.take() {
            Some(stream) => stream,
            None => super::open_stream(self.link, self.options, now)?,
        };
        stream.refresh(now)?;
        let receivers = stream.receivers()?;
        Ok((stream, receivers))
    }
}

impl Blocker for NoSession<'_, '_> {
    type Gained = Box<dyn OutgoingStream>;

    fn look(&mut self, now: Instant) -> RunResult<Option<Self::Gained>> {
        match self.open_stream(now) {
            Ok((stream, receivers)) if receivers == self.receivers => Ok(Some(stream)),
            Ok(_) => Err(SendFailure::Interrupted(
                Error::new(Exit::Config, "another peer paired on this link")
                    .because("the messages in the spool are for the previous peer")
                    .hint("give each peer its own spool, and name the peer: --to NAME"),
            )),
            Err(error) if error.exit() != Exit::TryAgain => Err(SendFailure::Interrupted(error)),
            Err(error) => {
                self.missing = Some(error);
                Ok(None)
            }
        }
    }

    fn woken(&mut self) -> Result<()> {
        self.spooled.woken()
    }

    fn keep_input(&mut self, stopping: bool, now: Instant) -> Result<()> {
        if stopping {
            self.spooled.stop_reading(now)?;
        }
        self.spooled.read_input(now)?;
        self.spooled.sync()?;
        self.spooled.warn_of_backlog(false);
        Ok(())
    }

    fn left(&self) -> Option<Error> {
        self.spooled.has_all_input().then(|| self.given_up("there is no session"))
    }

    fn awaits_delivery(&self) -> bool {
        self.spooled.awaits_delivery(spool::Pending::default())
    }

    /// Why there is no session is what ends the run, whatever it was that ended the wait for one.
    fn given_up(&self, what: &str) -> Error {
        let why = self.missing.clone().unwrap_or_else(|| Error::new(Exit::TryAgain, what));
        if self.spooled.is_empty() {
            return why;
        }
        let left = self.spooled.undelivered(Exit::TryAgain, &why.to_string(), spool::Pending::default());
        left.hint_if(why.hint_text().map(str::to_owned))
    }

    fn waits(&mut self, now: Instant) {
        if let Some(error) = &self.missing
            && self.notice.happened(now).is_some()
        {
            self.report.info(format_args!("{error}; meanwhile, input waits in the spool"));
        }
    }

    fn input_fd(&self) -> Option<BorrowedFd<'_>> {
        // The room that counts is that on the disk.
        self.spooled.input_fd(true)
    }

    fn deadline(&self, now: Instant) -> Instant {
        let look_at = now + SESSION_CHECK_INTERVAL;
        self.spooled.deadline(now).map_or(look_at, |at| at.min(look_at))
    }
}
