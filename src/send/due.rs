//! What a run sends because it is due, not because there is new input: [`SendRun::publish_due`] does it, in each turn of
//! the loop and before any new message, and [`SendRun::deadline`] has the times that wake the run for it.
//!
//! | what | when | whose |
//! |---|---|---|
//! | what is made and not published | when the gate is open | [`OutgoingStream::next_due`] |
//! | what is not confirmed, once more | [`OutgoingStream::deadline`], and the receiver's word | the same |
//! | what is said between two streams | once all before it is confirmed | the same |
//! | what waits for space on a full disk | [`SpaceWait::retry_at`] | the same |
//! | the will of another session or stream | [`LastWill::deadline`](super::last_will::LastWill::deadline) | [`Registration`](super::run::Registration) |
//! | whether the receiver still has the session | [`Timeouts::is_silent`](super::timeouts::Timeouts::is_silent) | [`SendRun::handle_silence`] |
//!
//! None of these has a position of its own in the sequence that is not decided yet. So the source does not hear of them.
//!
//! # How to add a message that is sent by time
//!
//! Beside the sequence, it is a row above: a time in [`SendRun::deadline`], and an [`OutgoingMessage::BestEffort`] in
//! [`SendRun::publish_due`], as a query is.
//!
//! In the sequence, where a lost one is missed and a replay is a duplicate, it is a new message as far as the run is
//! concerned. An example is a heartbeat, which is sent when nothing was sent for a while. It is a kind (`stream/kind.rs`)
//! and an option. Sealing, confirms, retransmissions, a change of session, the counts, the end of a run and its exit
//! status, and what the broker keeps with `retain` need no change: they ask whether a message carries bytes of the
//! input, not of which kind it is ([`Pending::has_data`](crate::spool::Pending::has_data)). These steps are special to
//! it:
//!
//! 1. `timeouts.rs`: when it is due. Each run starts anew. Each turn tells `Timeouts::observe` whether anything waits to
//!    be delivered: the time runs while nothing does, or heartbeats pile up while the broker or the receiver is away. A
//!    time in `Timeouts::deadlines` wakes the run. Publishing one starts this time anew at once: `observe` is next called
//!    after the loop of `SendRun::transfer`, which would publish one after another until then.
//! 2. `SendRun::next_message` (`run.rs`): where the source says [`NextMessage::NoInput`](super::source::NextMessage), it is
//!    asked for this one if that is due and there is a connection. `Blocked` means that it has to wait, `Ended` that it
//!    is too late for it.
//! 3. `source.rs`: a method of `MessageSource` that gives it its position. `direct.rs` begins the stream and looks whether
//!    another one is due, as `next` does, and has the stream seal its buffer as the new content. `spooled.rs` appends an
//!    empty record (`RecordStore::append`), since the number of a record decides its position; `next` seals an empty
//!    record as the new content, since a record of data is never empty. If the spool takes no record, because it is
//!    full or busy, there is no message, and it stays due. It then needs a time of its own to try again, in
//!    `MessageSource::deadline`: a time that has passed wakes nobody, and nothing else may happen. The
//!    next run sends such a record, too, whatever its options are, so the message can carry only what is known when it
//!    is sealed. With either source it counts as a message that waits, so `--timeout` ends a run that cannot deliver it,
//!    with 75. A run with a spool ends only when it takes no more input.
//! 4. A link without encryption has nothing for it: `open_stream` (`mod.rs`) and `LegacyStream::open` refuse the option.
//! 5. `recv/sealed/mod.rs`: it delivers no bytes. To notice that none came for long, `stall.rs` has the time that counts;
//!    the head of `recv/sealed/mod.rs` says where what is known of a peer belongs.
//! 6. `tests/end_to_end/`: with and without `--spool`, `--confirm` and a connection; after `sts-recv -n` has left;
//!    `retain`.

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
        let others = [resend, space_at, self.gate.opens_at(), self.source.deadline(now), will_at];
        next_deadline(now, self.timeouts.deadlines().map(Some).chain(others))
    }

    /// Publishes what is due before any new message; true if there was any.
    pub(super) fn publish_due(&mut self, now: Instant) -> RunResult<bool> {
        let is_path_clear = self.is_path_clear();
        if !is_path_clear {
            self.stream.ignore_silence(now);
        }
        let mut progressed = false;
        while self.is_gate_open()
            && let Some(message) = self.stream.next_due(now, &mut self.rng)?
        {
            self.publish(message, now)?;
            progressed = true;
        }
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        if is_path_clear && self.stream.unconfirmed().messages > 0 && self.timeouts.is_silent(now) {
            self.handle_silence(now)?;
        }
        Ok(progressed)
    }

    /// Whether the receiver can have all that was published, and its confirms can reach us: the broker has acknowledged
    /// every frame, and on this connection the subscription for confirms. Only then does it mean something that nothing
    /// is confirmed. Until then the silence is the broker's: nothing is sent again for it, and it is neither reported
    /// nor queried.
    fn is_path_clear(&self) -> bool {
        self.registration.reply_topics.are_subscribed() && self.events.broker.unacknowledged().messages == 0
    }
}
