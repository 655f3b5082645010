//! Where messages come from: standard input directly ([`Direct`]), or by way of a spool ([`Spooled`]).
//!
//! [`Direct`]: super::direct::Direct
//! [`Spooled`]: super::spooled::Spooled

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use bytes::Bytes;
use rand::rngs::ThreadRng;

use super::outgoing::{Cut, OutgoingMessage, OutgoingStream};
use crate::mqtt::Token;
use crate::spool::Pending;
use crate::stdio::Input;
use crate::text::count;
use crate::{Error, Exit, Result};

/// What one turn of the loop has at hand.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) connected: bool,
    pub(super) rng: &'a mut ThreadRng,
}

/// What a source gives to be published next.
pub(super) enum NextMessage {
    /// This.
    Message(OutgoingMessage),
    /// Nothing, because no whole message was read. Only in this case may a message be sent by time.
    NoInput,
    /// Nothing any more: all of the input was given, and what ends it.
    Ended,
    /// Nothing yet, whatever was read: another stream is due, a spool has no connection, its records have to be cut
    /// first, or the disk is full. The run wakes when that changes.
    Blocked,
}

impl NextMessage {
    /// What a stream made of `data_len` bytes of the input, as [`OutgoingMessage::new`]: the rest of these bytes may be in
    /// messages that are [`OutgoingStream::unpublished`], or all of them. Without encryption, nothing is made of an end.
    pub(super) fn sealed(
        payload: Option<Bytes>,
        data_len: usize,
        is_record: bool,
        stream: &dyn OutgoingStream,
    ) -> Self {
        let rest = stream.unpublished();
        let in_rest = usize::try_from(rest.bytes).unwrap_or(usize::MAX);
        match payload {
            Some(payload) => Self::Message(OutgoingMessage::new(payload, data_len.saturating_sub(in_rest), is_record)),
            None if rest.messages > 0 => Self::Blocked,
            None => Self::Ended,
        }
    }
}

/// The owner of standard input, from reading it until it is delivered: to the broker, or with `--confirm` to the
/// receiver.
///
/// The methods that have a default tell of a disk, which only a spool has.
pub(super) trait MessageSource {
    /// Reads what there is to read and room for; nothing here waits. `may_read` says whether there is room for one more
    /// message in memory; a disk has its own.
    fn fill(&mut self, may_read: bool, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<()>;

    /// The next message of what was read. Called only while there is room for the longest one.
    ///
    /// A message gets its place in the stream here. A source with a spool does that only while there is a connection,
    /// since the session may be another one by the time there is. A source without one does it as soon as the gate
    /// is open ([`Gate::is_open`](super::gate::Gate::is_open)): what is sealed waits in the client.
    ///
    /// With a spool, every message in the sequence but what ends that is a record first, and is sealed when that is read
    /// back: the number of a record decides its position ([`crate::spool::SpooledSequence::position_of`]), in the next
    /// run, too.
    fn next(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<NextMessage>;

    /// What to poll for input, if [`MessageSource::fill`] would read it; `may_read` is as there.
    fn input_fd(&self, may_read: bool) -> Option<BorrowedFd<'_>>;

    /// Standard input.
    fn input(&self) -> &Input;

    /// Reads no further: what was read is all there is, and is kept where there is a disk.
    fn stop_reading(&mut self, now: Instant) -> Result<()>;

    /// A [`OutgoingMessage::Record`] of this source was published.
    fn published(&mut self, _token: Token) {}

    /// The broker has a message.
    fn acknowledged(&mut self, _token: Token) -> Result<()> {
        Ok(())
    }

    /// These were all acknowledgements that there are now.
    fn acknowledged_all(&mut self) -> Result<()> {
        Ok(())
    }

    /// The receiver has written every message of the sequence below this position.
    fn confirmed(&mut self, _position: u64) -> Result<()> {
        Ok(())
    }

    /// Nothing more will be sent for now: whatever is not safe yet becomes so before the run waits.
    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    /// Cuts messages with at most this many bytes of data from now on; those in a spool are cut again if need be.
    fn limit_records(&mut self, max_record: usize);

    /// When to call [`MessageSource::fill`] and [`MessageSource::next`] again, if nothing else happens before. A time
    /// in the past is ignored, here and by the caller: make one of several times with
    /// [`next_deadline`](crate::event_loop::next_deadline).
    fn deadline(&self, _now: Instant) -> Option<Instant> {
        None
    }

    /// Seals what is not confirmed again, under the current session; returns how many messages that are, or `None` while the
    /// disk is full: what asked for it comes again.
    fn reseal(&mut self, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Option<u64>>;

    /// The broker takes no messages as long as some that were published, and [`MessageSource::limit_records`] said so:
    /// what is in them goes in shorter ones. `waiting` are those that are to be taken back once it is done, oldest first.
    fn cut_again(&mut self, waiting: Vec<Bytes>, stream: &mut dyn OutgoingStream, turn: &mut Turn<'_>) -> Result<Cut>;

    /// The broker refused a message, and may have accepted newer ones: sends it and those after it again, as the beginning of
    /// another sequence, since the receiver drops what comes out of order. Returns how many of these were published, the
    /// refused one included. Called once more while the newer ones are under way, and then has nothing to do.
    fn restart_sequence(&mut self, _refused: Token, _stream: &mut dyn OutgoingStream, _now: Instant) -> Result<u64> {
        Ok(0)
    }

    /// Whether what is not delivered is kept, on a disk: the next run can send it, or this one under another session.
    /// Without a disk, the run ends when its messages can no longer be confirmed.
    fn keeps_undelivered(&self) -> bool {
        false
    }

    /// Whether the stream is closed, and can be left once everything in it is acknowledged. A run without a spool has
    /// one stream to leave, at its very end.
    fn is_stream_closed(&self, _stream: &dyn OutgoingStream) -> bool {
        false
    }

    /// Leaves a closed stream for the next one.
    fn leave_stream(&mut self, _stream: &mut dyn OutgoingStream) -> Result<()> {
        Ok(())
    }

    /// Whether standard input has ended, and all of it is in messages or in the spool.
    fn has_all_input(&self) -> bool;

    /// Whether standard input has ended, and all of it was sent, with what ends it.
    fn is_done(&self, stream: &dyn OutgoingStream) -> bool;

    /// What was read and is not delivered, to the last byte, including what is in flight.
    fn pending(&self, in_flight: Pending) -> Pending;

    /// Whether anything waits to be delivered: a message in flight, a whole message that was read, or the end of the
    /// input, whether or not it was sent. Timeouts count for these only: the beginning of a line waits for the rest of
    /// it, however long that takes. Input that cannot be read on before something is done with what was read counts as
    /// whole.
    fn awaits_delivery(&self, in_flight: Pending) -> bool;

    /// Whether what may still come on standard input is kept for the next run, if this one cannot deliver it.
    /// `--timeout` does not end a run while this is true.
    fn outlasts_timeout(&self) -> bool {
        false
    }

    /// Whether more input may come, or be written to the disk, that only this run can keep. What the network refuses does not
    /// end a run while this is true.
    fn is_collecting(&self) -> bool {
        self.keeps_undelivered() && !self.has_all_input()
    }

    /// Whether all that was read is delivered, though the stream may not be over: the next run can end that. Without a
    /// disk there is no next run.
    fn is_delivered(&self) -> bool {
        false
    }

    /// Whether a run that was told to stop can leave the rest to another one: all that was there by then is delivered.
    fn is_others_turn(&self) -> bool {
        false
    }

    /// The error of ending now for this reason, which says how much is not delivered; with `exit` where that is lost:
    /// where data ([`Pending::has_data`]) is not delivered, and not kept.
    fn undelivered(&self, exit: Exit, what: &str, in_flight: Pending) -> Error;

    /// The error of ending because something failed that the run needs, the session for one. It keeps the cause, and
    /// says how much data is not delivered; where that is lost, with [`Exit::DataLost`].
    fn interrupted(&self, cause: Error, in_flight: Pending) -> Error;

    /// The error of ending because the broker or the receiver refuses something: the refusal, which decides the exit
    /// status, and how much data is not delivered.
    fn refused(&self, refusal: Error, in_flight: Pending) -> Error;

    /// Another process has something for this source.
    fn woken(&mut self) -> Result<()> {
        Ok(())
    }

    /// Ends, as all of it was sent and is delivered; false where another process had something for it at the last
    /// moment, or has the disk at this one: then [`MessageSource::deadline`] says when to try again.
    fn leave(&mut self) -> Result<bool> {
        Ok(true)
    }

    /// The messages below this position are delivered, where the next run sends the rest.
    fn delivered(&self) -> Option<u64> {
        None
    }

    /// Leaves the disk at the end of a run, however that ends.
    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The larger of two ways to count the same messages.
pub(super) fn larger(one: Pending, other: Pending) -> Pending {
    Pending { messages: one.messages.max(other.messages), bytes: one.bytes.max(other.bytes) }
}

/// How much is pending, in words.
pub(super) struct Amount(pub(super) Pending);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", count(self.0.messages, "message"), count(self.0.bytes, "byte"))
    }
}
