//! What a run sends because it is due, not because there is new input: [`SendRun::publish_due`] does it, in each turn of
//! the loop and before any new message, and [`SendRun::deadline`] has the times that wake the run for it.
//!
//! | what | when | whose |
//! |---|---|---|
//! | what is made and not published | when the gate is open, and no other stream is under way | [`OutgoingStream::next_due`] |
//! | what is not confirmed, once more | [`OutgoingStream::deadline`], and the receiver's word | the same |
//! | what is said between two streams | once all before it is confirmed, or acknowledged | the same |
//! | what waits for space on a full disk | [`SpaceWait::retry_at`] | the same |
//! | the will of another session or stream | [`LastWill::deadline`](super::last_will::LastWill::deadline) | [`Registration`](super::run::Registration) |
//! | whether the receiver still has the session | [`Timeouts::is_silent`](super::timeouts::Timeouts::is_silent) | [`SendRun::handle_silence`] |
//!
//! None of these has a position of its own in the sequence that is not decided yet. So the source does not hear of them.
//!
//! # A new message that is sent by time
//!
//! Beside the sequence, it is a row above: a time in [`SendRun::deadline`], and an [`OutgoingMessage::BestEffort`] in
//! [`SendRun::publish_due`], as a query is.
//!
//! In the sequence, where a lost one is missed and a replay is a duplicate, it is a new message as far as the run is
//! concerned: a heartbeat, which is sent when nothing was sent for a while, is an example. `CONTRIBUTING.md`, "A message
//! that is sent by time", has the places. What holds there:
//!
//! - Its time runs while nothing waits to be delivered, which [`SendRun::observe_waiting`] tells `Timeouts::observe` in
//!   each turn, or messages pile up while the broker or the receiver is away. `SendRun::publish` starts the time anew at
//!   once: `observe` is next called after the loop of `SendRun::transfer`, which would publish one after another until
//!   then, and at QoS 0 it may never see one wait. Queries and answers ([`OutgoingMessage::BestEffort`]) pass there, too,
//!   and must not start it anew: they may be dropped, and tell the receiver of data nothing. All other variants do.
//! - It is made where the source says [`NextMessage::NoInput`](super::source::NextMessage) and there is a connection.
//!   `Blocked` means that it has to wait, `Ended` that it is too late for it. The beginning of a
//!   line is no input yet: the message may leave before the rest of the line is read.
//! - The source gives it its position, as it does for data. `Direct` begins the stream and looks whether another one is
//!   due, as its `next` does. `Spooled` appends an empty record (`RecordStore::append`), since the number of a record
//!   decides its position; `next` seals an empty record as the new content, since a record of data is never empty. The
//!   next run sends such a record, too, whatever its options are, and a run that only appends to the spool makes none,
//!   so the message carries only what is known when it is sealed. If the spool takes no record, because the disk is full
//!   (`space_wait::RETRY_INTERVAL`) or another run appends (`LOCK_RETRY_INTERVAL`), there is no message, and it stays due:
//!   `Spooled` then needs a field for the time at which to try again, in its `MessageSource::deadline`, since a time that
//!   has passed wakes nobody. `Intake::blocked` is not that time: it stops
//!   reading, and only a write of input clears it.
//! - It counts as a message that waits. Before the end of the input, `--timeout` ends a run that cannot deliver it, with 75
//!   (69 without the broker), but no run with a spool, as that takes more input. After the end of the input, a run without
//!   `--confirm` waits until the broker has it, as for any message, and `--timeout` ends that in the same way. One with
//!   `--confirm`, of which the receiver has written all data, ends with 0 after `END_TIMEOUT` at the latest (`timeouts.rs`),
//!   whether or not this is confirmed.

use std::time::Instant;

use super::failure::RunResult;
#[cfg(doc)]
use super::outgoing::{OutgoingMessage, OutgoingStream};
use super::run::SendRun;
use crate::event_loop::next_deadline;
use crate::space_wait::SpaceWait;

impl SendRun<'_> {
    /// When to wake if nothing happens before, in the run's own time; the event loop adds the client's. While the path
    /// is not clear nothing is sent again, and what clears it wakes the run. A time that has passed wakes nobody.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let resend = self.stream.deadline().filter(|_| self.is_path_clear());
        let space_at = self.stream.space().and_then(SpaceWait::retry_at);
        let will_at = self.registration.will.deadline();
        let retry_at = self.retried.retry_at(now);
        let own = [self.gate.opens_at(), self.source.deadline(now), self.stream.next_look(now)];
        let others = [resend, space_at, will_at, retry_at].into_iter().chain(own);
        next_deadline(now, self.timeouts.deadlines().map(Some).chain(others))
    }

    /// Publishes what is due before any new message; true if there was any.
    pub(super) fn publish_due(&mut self, now: Instant) -> RunResult<bool> {
        let is_path_clear = self.is_path_clear();
        if !is_path_clear {
            self.stream.ignore_silence(now);
        }
        let mut progressed = false;
        while self.is_gate_open() && !self.is_other_stream_under_way() {
            let due = self.stream.next_due(now, &mut self.rng);
            let Some(Some(message)) = self.unless_retried(due, now)? else { break };
            self.publish(message, now)?;
            progressed = true;
        }
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        if is_path_clear && self.stream.unconfirmed().messages > 0 && self.timeouts.is_silent(now) {
            self.handle_silence(now)?;
        }
        Ok(progressed)
    }

    /// Whether the broker has not acknowledged all of the stream that was published before the one that is due.
    fn is_other_stream_under_way(&self) -> bool {
        self.stream.enters_another_stream() && self.events.broker.unacknowledged().messages > 0
    }

    /// Whether the receiver can have all that was published, and its confirms can reach us: the broker has acknowledged
    /// every frame, and on this connection the subscription for confirms. Only then does it mean something that nothing
    /// is confirmed. Until then the silence is the broker's: nothing is sent again for it, and it is neither reported
    /// nor queried.
    fn is_path_clear(&self) -> bool {
        self.registration.reply_topics.are_subscribed() && self.events.broker.unacknowledged().messages == 0
    }
}
