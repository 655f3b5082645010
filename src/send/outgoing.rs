//! The outgoing stream: what makes MQTT payloads of messages.
//!
//! [`super::run()`] chooses it, once: `sealed` on an encrypted link, `legacy` on one to the old program, `plain` on any other.
//! It is seen through five traits: [`OutgoingStream`] is what every run needs, [`ConfirmedStream`] is what `--confirm` adds,
//! [`SpoolStream`] what a spool adds, [`WillStream`] what `--will` adds, and [`SessionChanges`] is for an idle run. The
//! defaults are right for a stream without sessions: nothing is confirmed, nothing has to be resumed.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use crate::crypto::schedule::Digest;
use crate::mqtt::Message;
use crate::sessions::SessionChanges;
use crate::space_wait::SpaceWait;
use crate::spool::{Pending, Spool};
use crate::stream::{Content, SentTime, StreamId};
use crate::{Rejected, Result};

/// What leaves a run, and what an acknowledgement of it means.
pub(super) enum OutgoingMessage {
    /// A message of the stream that is sent for the first time, with `data_len` bytes of the input, one or more. With
    /// `retain`, the broker keeps it.
    Message { payload: Bytes, data_len: usize },
    /// A message of the stream that takes a record of a spool to the broker: once it is acknowledged, the record can
    /// go. Every record must be published so, since they are counted; with `retain`, the broker keeps it if it has
    /// bytes of the input.
    Record { payload: Bytes, data_len: usize },
    /// A message of the stream that is sent for the first time, without bytes of the input: an end, for example.
    WithoutData(Bytes),
    /// A message of the stream that is sent once more, with `--confirm`: its bytes of the input were counted when it was
    /// sent first. With `retain`, the broker keeps it if it is the newest one that has any: it may have lost it, too.
    Repeated { payload: Bytes, is_newest_data: bool },
    /// A message without a position in the sequence, which the broker must not keep: what is said between two streams, and
    /// after the last one. Others may overtake it.
    Unordered(Bytes),
    /// A frame beside the stream, which is repeated until it is answered: without room it is dropped, as if it was lost.
    BestEffort { topic: String, frame: Vec<u8> },
}

impl OutgoingMessage {
    /// A message of the stream that is sent for the first time, with so many bytes of the input. `is_record` says that it
    /// takes a record of a spool to the broker, or the last part of one.
    pub(super) fn new(payload: Bytes, data_len: usize, is_record: bool) -> Self {
        match data_len {
            _ if is_record => Self::Record { payload, data_len },
            0 => Self::WithoutData(payload),
            _ => Self::Message { payload, data_len },
        }
    }

    /// How many bytes of the input leave with it for the first time.
    pub(super) fn new_data_len(&self) -> usize {
        match self {
            Self::Message { data_len, .. } | Self::Record { data_len, .. } => *data_len,
            Self::WithoutData(_) | Self::Repeated { .. } | Self::Unordered(_) | Self::BestEffort { .. } => 0,
        }
    }

    /// Whether the broker is to keep it, with `retain`: the newest bytes of the input, and nothing else.
    pub(super) fn is_value(&self) -> bool {
        match self {
            Self::Message { .. } => true,
            Self::Record { data_len, .. } => *data_len > 0,
            Self::Repeated { is_newest_data, .. } => *is_newest_data,
            Self::WithoutData(_) | Self::Unordered(_) | Self::BestEffort { .. } => false,
        }
    }

    /// What is published.
    pub(super) fn payload(&self) -> Bytes {
        match self {
            Self::Message { payload, .. }
            | Self::Record { payload, .. }
            | Self::WithoutData(payload)
            | Self::Repeated { payload, .. }
            | Self::Unordered(payload) => payload.clone(),
            Self::BestEffort { frame, .. } => Bytes::copy_from_slice(frame),
        }
    }
}

/// What became of sealing messages again, in shorter ones.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// It is done; this many messages may arrive twice.
    Done(u64),
    /// It cannot be done: they are not all that the stream has from the first of them on.
    NotWhole,
    /// Nothing has changed: the disk has no space to begin a stream. [`OutgoingStream::space`] says when to try again.
    DiskFull,
}

/// Makes payloads of messages, in order.
pub(super) trait OutgoingStream: ConfirmedStream + SpoolStream + WillStream + SessionChanges {
    /// Where to publish its messages.
    fn topic(&self) -> &str;

    /// The fingerprints of the peers that the stream may be with, sorted; none where the link is not encrypted.
    ///
    /// # Errors
    /// [`crate::Exit::TryAgain`] where there is no session with any of them; [`crate::Exit::Config`] where it is with another
    /// peer.
    fn receivers(&self) -> Result<Vec<Digest>> {
        Ok(Vec::new())
    }

    /// Looks at the sessions as they are now, however short ago it did.
    fn refresh(&mut self, _now: Instant) -> Result<()> {
        Ok(())
    }

    /// Begins the stream, once there is something to send; returns the most bytes that one message carries, or `None`
    /// while the disk is full. The source calls this until the stream has begun: a further call would begin another one
    /// and leave this one without an end.
    fn begin(&mut self, now: Instant) -> Result<Option<usize>>;

    /// The wait for space on the disk, of a stream that writes down what it sends. [`SpaceWait::retry_at`] wakes the
    /// run.
    fn space(&self) -> Option<&SpaceWait> {
        None
    }

    /// Whether the receiver drops a message that arrives after a later one.
    fn is_ordered(&self) -> bool {
        false
    }

    /// Keeps the messages of later streams to this many bytes, which the broker bears. Returns the most bytes of data
    /// that a record of a spool may then have.
    fn limit_messages(&mut self, max_message: usize) -> usize;

    /// The most bytes that a message has from now on.
    fn max_message(&self) -> usize;

    /// Reseals messages that are now too long, as shorter ones, which [`OutgoingStream::next_due`] gives. With
    /// confirms, these are all that the receiver has not confirmed. Without, they are those in `waiting`, oldest first,
    /// which the caller takes back once this is done, and then the newer ones in [`OutgoingStream::unpublished`].
    fn cut_again(&mut self, waiting: Vec<Bytes>, now: Instant, rng: &mut ThreadRng) -> Result<Cut>;

    /// The first bytes of a message, which [`OutgoingStream::seal`] fills in. The message's own are appended to them.
    fn buffer(&self) -> BytesMut;

    /// Begins to replace the stream if the next message belongs to another one; true if it does, and then
    /// [`OutgoingStream::is_switching`].
    fn switch_if_due(&mut self, _now: Instant) -> Result<bool> {
        Ok(false)
    }

    /// Whether one stream is being replaced by another, so that no message can be sealed before
    /// [`OutgoingStream::next_due`] has said what has to be said between the two.
    fn is_switching(&self) -> bool {
        false
    }

    /// Whether a message of `size` bytes may be sealed now: not while [`OutgoingStream::is_switching`], nor where too
    /// much waits for a confirm.
    fn has_room(&self, _size: usize) -> bool {
        true
    }

    /// Whether what ends the stream is a message of its own, without bytes of the input.
    fn ends_apart(&self) -> bool {
        false
    }

    /// The payload of the next message of the stream, which says this, with the data in `message` and when that was read. A
    /// stream without encryption carries data only: `None` where there is none. `None`, too, where it is not sealed yet, but
    /// kept for [`OutgoingStream::next_due`].
    fn seal(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        message: BytesMut,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>>;

    /// The next message that is due before any new one: what is made and not published, a retransmission, or what is
    /// said between two streams.
    fn next_due(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>>;

    /// What is made and not published, and is in no other count: without what waits for a confirm.
    fn unpublished(&self) -> Pending;

    /// Whether [`OutgoingStream::next_due`] has to wait until the broker has acknowledged all that was published: what
    /// comes next is of another stream, and [`OutgoingStream::cut_again`] needs all of what is under way.
    fn enters_another_stream(&self) -> bool {
        false
    }

    /// The run is over, however it ends: writes down how its streams ended. Where another run sends what this one
    /// leaves, only what is `delivered` counts as sent here: the messages below this position.
    fn write_ends(&mut self, _delivered: Option<u64>) -> Result<()> {
        Ok(())
    }

    /// When the next retransmission is due, if nothing arrives before. One that is due already, and was not sent as the
    /// gate is shut, makes this a time in the past, which the caller ignores: what opens the gate must wake the run, as
    /// the client does when it has room again. For the same reason, what is [`OutgoingStream::unpublished`] has no time
    /// here.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// What the receiver has to say of a stream, with `--confirm`.
pub(super) trait ConfirmedStream {
    /// Whether a message is delivered when the receiver confirms it, rather than when the broker acknowledges it.
    fn is_confirmed(&self) -> bool {
        false
    }

    /// What the receiver has not confirmed.
    fn unconfirmed(&self) -> Pending {
        Pending::default()
    }

    /// Who is to confirm, for messages.
    fn receiver(&self) -> String {
        "the other device".to_owned()
    }

    /// Where confirms arrive.
    fn confirm_topic(&self) -> Option<&str> {
        None
    }

    /// Where the answer to [`ConfirmedStream::query`] arrives, while one is open.
    fn answer_topic(&self) -> Option<&str> {
        None
    }

    /// Confirms cannot reach us now (`SendRun::is_path_clear`), so silence does not count.
    fn ignore_silence(&mut self, _now: Instant) {}

    /// Takes a message from one of these topics.
    fn receive(&mut self, _message: &Message, _now: Instant) -> Result<Reply> {
        Ok(Reply::Nothing)
    }

    /// Asks whether the receiver has lost the session of the stream: where there is a newer one, every few seconds
    /// until it answers.
    fn query(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        Ok(None)
    }

    /// Whether the session of the stream was deleted here and there is no other one, so that nothing can be confirmed.
    fn is_orphaned(&mut self, _now: Instant) -> Result<bool> {
        Ok(false)
    }

    /// Whether the receiver has ended the session of the stream, so that nothing more of it can be confirmed.
    fn is_session_ended(&self) -> bool {
        false
    }

    /// Seals what is not confirmed again, in a stream of the current session; returns how many messages that are, or `None`
    /// while the disk is full, and nothing has changed.
    fn reseal(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<u64>> {
        Ok(Some(0))
    }

    /// Whether the stream is closed, and the receiver has written all data of it and of those before it: nothing that is
    /// not confirmed carries any.
    fn is_written(&self) -> bool {
        false
    }

    /// The end of the next stream, where [`ConfirmedStream::is_written`] and the stream says that it continues there:
    /// its number is taken, so the receiver would miss it.
    fn seal_early_end(&mut self, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// The last message of a stream that is closed and confirmed: the receiver need not repeat its last confirm.
    fn seal_settled(&mut self, _rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        Ok(None)
    }
}

/// What a payload from the receiver calls for.
pub(super) enum Reply {
    /// Nothing: it says nothing new.
    Nothing,
    /// Nothing: this is wrong with it.
    Rejected(Rejected),
    /// The receiver asks the same of us; this is the answer.
    Answer(OutgoingMessage),
    /// The receiver has written every message of the sequence below this position.
    Confirmed(u64),
    /// The receiver does not understand the message of the stream with this seq.
    Refused(u32),
    /// The receiver has taken another stream of this number: a copy of this device uses the session, too.
    Copied,
    /// The receiver has lost the session of the stream.
    SessionLost,
    /// The device has moved to another peer, which answers; the one before may have written what it has not confirmed.
    Moved,
    /// The receiver has ended the session of the stream, and may have written what it has not confirmed.
    SessionEnded,
    /// The receiver has the session of the stream, which was deleted here: its confirms cannot be opened.
    SessionDeleted,
}

/// What the broker says for this device if the run dies, with `--will`.
pub(super) trait WillStream {
    /// What a will that is made now is of, which is then decided; `None` where that cannot be said at the moment, and
    /// the will that there is stays.
    fn will_of(&mut self, now: Instant) -> Result<Option<WillOf>>;

    /// The will for the connection of this number.
    ///
    /// # Errors
    /// [`crate::Exit::Usage`] where the text is too long.
    fn will(&mut self, text: &str, number: u32, rng: &mut ThreadRng) -> Result<WillMessage>;
}

/// What a will is of: of another one, it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WillOf {
    /// The link, which is not encrypted.
    Link,
    Stream(StreamId),
}

/// What the broker is to publish.
pub(super) struct WillMessage {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retain: bool,
}

/// Streams of a spool. All of them, those of other runs too, carry one sequence, until that ends.
pub(super) trait SpoolStream {
    /// Whether the run can send what an earlier one left in the spool.
    fn check(&self, _spool: &Spool) -> Result<()> {
        Ok(())
    }

    /// Begins a stream if there is none, and decides whether the sequence ends here; `ended` says that no more records
    /// will be written. False where another stream is due before the next record, or a full disk holds this one up.
    fn prepare_record(&mut self, _spool: &mut Spool, _ended: bool, _now: Instant) -> Result<bool> {
        Ok(true)
    }

    /// Whether what was sealed last is the end of its record. Where a record becomes several messages, the last of them is an
    /// [`OutgoingMessage::Record`] of [`OutgoingStream::next_due`].
    fn is_record_whole(&self) -> bool {
        true
    }

    /// What ends the sequence, after the last of its records.
    fn after_last_record(&mut self, _spool: &Spool, _now: Instant, _rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        Ok(None)
    }

    /// Whether what ends the sequence was sent.
    fn is_closed(&self) -> bool {
        false
    }

    /// Leaves the stream, which is closed and acknowledged to its end.
    fn leave(&mut self, _spool: &mut Spool) -> Result<()> {
        Ok(())
    }

    /// Leaves the stream without an end: what is not acknowledged of it goes into another one. Returns how many
    /// messages that are.
    fn reseal_records(&mut self, _spool: &mut Spool, _now: Instant) -> Result<u64> {
        Ok(0)
    }

    /// What waits in the spool goes into another sequence: the stream of this one is left without an end.
    fn restart(&mut self, _now: Instant) {}

    /// Whether the sequences of this run are over.
    fn is_over(&self, _spool: &Spool) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_without_input_does_not_take_the_place_of_the_newest_input() {
        let payload = Bytes::from_static(b"sealed");
        for is_record in [false, true] {
            let of = |data_len| OutgoingMessage::new(payload.clone(), data_len, is_record);
            assert_eq!([of(0), of(1)].map(|message| message.is_value()), [false, true]);
            assert!([of(0), of(1)].iter().all(|of| matches!(of, OutgoingMessage::Record { .. }) == is_record));
        }
        let again = |is_newest_data| OutgoingMessage::Repeated { payload: payload.clone(), is_newest_data };
        assert_eq!([true, false].map(|is_newest| again(is_newest).is_value()), [true, false]);
        assert_eq!(again(true).new_data_len(), 0);
    }
}
