//! How a run ends, and what it says then of what is not delivered.
//!
//! It ends when all is delivered (`SendRun::deliver`), when a timeout or a signal says so ([`SendRun::is_stopped`]), when
//! the broker or the receiver refuses something ([`SendRun::fail`]), or when something else fails that it needs. Each way passes
//! [`SendRun::finish`]. What is not delivered is counted in one place, [`SendRun::in_flight`], to which the source adds
//! what it has ([`MessageSource::pending`](super::source::MessageSource::pending)): whatever holds messages back must be
//! in these counts, or a run ends without them.

use std::time::Instant;

use super::failure::{RunResult, SendFailure};
use super::outgoing::OutgoingMessage;
use super::retried_failure::FailureCause;
use super::run::SendRun;
use super::source::larger;
use super::timeouts::{STOPPED, STOPPED_AT_ONCE};
use crate::event_loop::{CLOSE_TIMEOUT, RunProgress, Stop};
use crate::spool::Pending;
use crate::text::count;
use crate::units::short_size;
use crate::{Error, Exit, Result};

impl SendRun<'_> {
    /// Sends all of the source, and ends the connection.
    pub(super) fn finish(mut self) -> Result<()> {
        let delivered = match self.deliver() {
            Ok(()) => {
                self.await_others_answers();
                Ok(())
            }
            Err(SendFailure::GivenUp(error)) => Err(error),
            Err(SendFailure::Interrupted(cause)) => Err(self.interrupted(cause)),
        };
        let left = self.leave_order(Instant::now());
        let closed = match delivered.and(left) {
            Ok(()) => self.events.close().map(drop),
            failed => failed,
        };
        self.report.status("");
        // How the streams ended is known to the peer no worse than after a crash if it cannot be written down.
        if let Err(error) = self.stream.write_ends(self.source.delivered()) {
            self.report.verbose(format_args!("how the stream ended is not written down: {error}"));
        }
        let stored = self.source.close();
        closed.and(stored)
    }

    /// Where the next run sends the rest, its order depends on the answers to what is under way.
    fn await_others_answers(&mut self) {
        if self.source.keeps_undelivered() && !self.source.is_delivered() {
            self.await_acknowledgements();
        }
    }

    /// The error of ending for this cause, which says what is not delivered, too: nobody else would.
    fn interrupted(&mut self, cause: Error) -> Error {
        // The cause counts: what cannot be kept is counted as lost.
        let _ = self.source.stop_reading(Instant::now());
        self.await_acknowledgements();
        self.source.interrupted(cause, self.in_flight())
    }

    /// How the run ends where messages were to be sealed again, and that failed: they may be in no count any more, so
    /// `in_flight` is what was in flight before.
    pub(super) fn not_resealed(&mut self, cause: Error, in_flight: Pending) -> SendFailure {
        // As in `interrupted`.
        let _ = self.source.stop_reading(Instant::now());
        SendFailure::GivenUp(self.source.interrupted(cause, in_flight))
    }

    /// Waits for the acknowledgement of what was published, as
    /// [`EventLoop::close`](crate::event_loop::EventLoop::close) does, and takes notice of it.
    fn await_acknowledgements(&mut self) {
        let (until, stop) = (Instant::now() + CLOSE_TIMEOUT, self.events.stop_requested());
        while self.events.is_connected() {
            let now = self.events.begin_turn();
            if self.handle_events(now).is_err() || now >= until || self.events.stop_requested() > stop {
                return;
            }
            if self.events.broker.unacknowledged().messages == 0 {
                self.events.broker.disconnect();
                return self.events.flush(now);
            }
            if self.events.wait(None, Some(until), now).is_err() {
                return;
            }
        }
    }

    /// Something fails that may succeed later: that ends the run, now or once it takes no more input.
    pub(super) fn fail(&mut self, cause: FailureCause, error: Error, now: Instant) -> RunResult<()> {
        if self.source.is_collecting() {
            self.retried.failed(cause, error, self.report, now);
        } else if self.source.is_delivered() {
            self.retried.note(cause, error, now);
        } else {
            return Err(self.refused(error));
        }
        Ok(())
    }

    /// This has succeeded: if it had failed before, the service manager hears that this is over.
    pub(super) fn succeeded(&mut self, cause: FailureCause) {
        if self.retried.succeeded(cause) {
            self.events.show_connected();
        }
    }

    /// How the run ends for what is refused.
    fn refused(&self, error: Error) -> SendFailure {
        SendFailure::GivenUp(self.source.refused(error, self.in_flight()))
    }

    /// What the stream did; `None` where it cannot continue for now, and the run waits for that.
    pub(super) fn unless_retried<T>(&mut self, outcome: Result<T>, now: Instant) -> RunResult<Option<T>> {
        match outcome {
            Err(error) if error.exit() == Exit::TryAgain && self.source.is_collecting() => {
                self.retried.failed(FailureCause::Stream, error, self.report, now);
                Ok(None)
            }
            outcome => Ok(Some(outcome?)),
        }
    }

    /// Whether the run ends since it takes no more input, and something is still refused. That is no failure where all that was
    /// read is delivered: the spool keeps the end of the stream.
    pub(super) fn ends_refused(&self) -> RunResult<bool> {
        let Some(error) = self.retried.refusal().filter(|_| !self.source.is_collecting()) else { return Ok(false) };
        if !self.source.is_delivered() {
            return Err(self.refused(error.clone()));
        }
        self.report.info(format_args!("all that was read was delivered, but not the end of the stream: {error}"));
        Ok(true)
    }

    /// Whether a timeout or a signal ends the run now.
    ///
    /// # Errors
    /// As [`MessageSource::undelivered`](super::source::MessageSource::undelivered), where that leaves anything undelivered.
    pub(super) fn is_stopped(&mut self, now: Instant) -> RunResult<bool> {
        let stop = self.events.stop_requested();
        if stop > Stop::No && self.timeouts.begin_stop(now) {
            self.source.stop_reading(now)?;
            self.report.info("delivering what was read, then stopping; signal again to stop immediately");
        }
        self.observe_waiting(now);
        let why = match stop {
            Stop::AtOnce => Some((Exit::DataLost, STOPPED_AT_ONCE)),
            Stop::No | Stop::Gracefully => self.timeouts.expired(now).or_else(|| self.leaves_rest(now)),
        };
        let is_session_over = self.is_session_over();
        if (why.is_some() || is_session_over || self.timeouts.is_end_overdue(now)) && self.is_written() {
            self.report.info("everything was written, but the receiver did not confirm the end of the stream");
            if let Some(payload) = self.stream.seal_early_end(now, &mut self.rng)? {
                self.publish(OutgoingMessage::WithoutData(payload), now)?;
            }
            return Ok(true);
        }
        if is_session_over {
            self.source.stop_reading(now)?;
            return Err(self.session_ended());
        }
        match why {
            Some((exit, what)) if !self.source.is_delivered() => {
                self.source.stop_reading(now)?;
                Err(SendFailure::GivenUp(self.undelivered(exit, what)))
            }
            stopped => Ok(stopped.is_some() || self.source.is_others_turn()),
        }
    }

    /// Why a run that was told to stop leaves the rest to the next one, if it does now: between two records, or the next run
    /// would send one of them again.
    fn leaves_rest(&self, now: Instant) -> Option<(Exit, &'static str)> {
        let is_under_way = self.awaits_answer() || self.stream.unpublished().messages > 0;
        (self.takes_no_more(now) && !is_under_way).then_some((Exit::TryAgain, STOPPED))
    }

    /// Whether a run that was told to stop begins no further message, and ends once what it has begun is delivered: it has
    /// a rate limit, and a spool with the rest. While a full disk keeps what was read out of the spool, what is sent makes room.
    pub(super) fn takes_no_more(&self, now: Instant) -> bool {
        let is_rest_kept = self.source.keeps_undelivered() && !self.source.is_collecting();
        self.gate.has_rate_limit() && self.timeouts.is_stop_overdue(now) && is_rest_kept
    }

    /// Tells the timeouts whether anything waits to be delivered, for whatever reason. If nothing but a rate limit holds it
    /// back, time counts from now.
    pub(super) fn observe_waiting(&mut self, now: Instant) {
        self.timeouts.observe(self.source.awaits_delivery(self.in_flight()), self.source.outlasts_timeout(), now);
        if !self.awaits_answer() && self.events.is_connected() && self.gate.opens_at().is_some() {
            self.timeouts.progress(now);
        }
    }

    /// Whether the broker has yet to acknowledge a message, or the receiver to confirm one. What is not published yet
    /// awaits neither.
    fn awaits_answer(&self) -> bool {
        self.events.broker.unacknowledged().messages > 0 || self.stream.unconfirmed().messages > 0
    }

    /// Whether the receiver has written all of the input, so that only confirms of messages without data are missing. The
    /// broker has these messages, and a spool does not count their bytes.
    fn is_written(&self) -> bool {
        let has_rest = !self.source.has_all_input() || self.source.pending(Pending::default()).bytes > 0;
        !has_rest && self.events.broker.unacknowledged().messages == 0 && self.stream.is_written()
    }

    /// What is made into messages and is not delivered: to the broker, or with `--confirm` to the receiver. The client
    /// has it, whether or not this connection has carried it, or the stream has it.
    pub(super) fn in_flight(&self) -> Pending {
        let messages = self.events.broker.unacknowledged().messages as u64;
        let broker = Pending { messages, bytes: self.gate.bytes_in_flight() };
        // What is not confirmed was published, and may be unacknowledged, too. What is not published is in neither.
        larger(broker, self.stream.unconfirmed()).plus(self.stream.unpublished())
    }

    /// How far the run has come: what was read and is delivered.
    pub(super) fn progress(&self) -> RunProgress {
        let (input, pending) = (self.source.input(), self.pending());
        let (messages, bytes) = (count(pending.messages, "message"), short_size(pending.bytes));
        RunProgress {
            bytes: input.bytes_read().saturating_sub(pending.bytes),
            total: input.total(),
            lines: input.lines_read(),
            under_way: format!("{messages} ({bytes}) unacknowledged"),
        }
    }

    /// What was read and is not delivered.
    pub(super) fn pending(&self) -> Pending {
        self.source.pending(self.in_flight())
    }

    /// The error of ending now for a reason that says it all.
    pub(super) fn unfinished(&self, exit: Exit, what: &str) -> Error {
        self.source.undelivered(exit, what, self.in_flight())
    }
}
