//! What the run asks of the messages that it receives. A link is sealed or it is plain: only the two implementors of
//! [`IncomingStreams`] know which, and [`super::run()`], which chooses one.

use std::time::Instant;

use bytes::Bytes;

use super::delivery::{Completion, Delivery};
use super::left_messages::LeftMessage;
use crate::mqtt::{Message, Qos, Receipt};
use crate::session::SessionId;
use crate::sessions::{Answer, SessionChanges};
use crate::stream::StreamId;
use crate::{Error, Exit, Result};

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum Disposition {
    /// It is written, then what is owed for it is settled.
    Deliver(Delivery),
    /// It is kept until the end of another stream has come, which its own stream continues; a KILL, until the keys that
    /// it is for are deleted. It is not acknowledged yet: should this process end, the broker sends it again.
    Hold {
        /// Whether this run receives its stream, as far as is known.
        is_followed: bool,
    },
    /// It is junk, or for somebody else: it is acknowledged, so that it does not fill the broker's queue.
    Drop(Receipt),
    /// It was received before, and is acknowledged once all that came of its stream is written.
    Repeat {
        /// The stream that it is printed as.
        stream: StreamId,
        receipt: Receipt,
    },
    /// The peer asks whether a session is still here.
    Answer { answer: Answer, receipt: Receipt },
    /// It stays with the broker, unacknowledged, for another run.
    Leave(LeftMessage),
}

impl Disposition {
    /// Whether the time of [`super::RecvOptions::timeout`] begins again with it. A message that this run does not
    /// receive may never be accepted, and so be played again and again.
    pub(super) fn restarts_timeout(&self) -> bool {
        match self {
            Self::Deliver(_) => true,
            Self::Hold { is_followed } => *is_followed,
            Self::Drop(_) | Self::Repeat { .. } | Self::Answer { .. } | Self::Leave(_) => false,
        }
    }
}

/// What nothing more is waited for, though it may still come: it is a gap for what is held until it comes.
#[derive(Clone, Copy, Debug)]
pub(super) enum GivenUp<'a> {
    Nothing,
    /// What has not come under these sessions.
    Sessions(&'a [SessionId]),
    All,
}

impl GivenUp<'_> {
    /// Whether a stream of this session is given up.
    pub(super) fn includes(self, session: SessionId) -> bool {
        match self {
            Self::Nothing => false,
            Self::Sessions(sessions) => sessions.contains(&session),
            Self::All => true,
        }
    }
}

/// Whether messages can come from the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Supply {
    #[default]
    Flowing,
    /// Perhaps not: it may send no more than is unacknowledged. What comes all the same shows that it could until then.
    Doubtful,
    /// Not; this time counts for no timeout.
    Stalled,
}

/// What the user is told of a message of `len` bytes that is over the limit.
pub(super) fn oversize(len: usize) -> Error {
    Error::new(Exit::Config, format!("dropped a message of {len} bytes"))
        .because("it is larger than this device accepts")
        .hint(format!("if it is not junk, add a line to the configuration of this device: max_message = {len}"))
}

/// The error of a run that got no retained message on `topic`. That there was no connection is the run's to say, as in
/// any other.
pub(super) fn none_retained(topic: &str) -> Error {
    Error::new(Exit::TryAgain, "no retained message")
        .because(format!("the broker sent none on {topic} in time"))
        .hint("with `retain = 1` in the sender's configuration, the broker keeps its newest message (sts.conf(5))")
}

/// A confirm to publish.
#[derive(Debug)]
pub(super) struct ConfirmMessage {
    pub(super) topic: String,
    pub(super) frame: Bytes,
    pub(super) qos: Qos,
}

/// Decides what becomes of each message. What a plain link has no use for does nothing by default.
pub(super) trait IncomingStreams: SessionChanges {
    /// What becomes of a message that came from the broker.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the session files cannot be read or written; nothing that a peer sends is an error.
    fn receive(&mut self, message: Message, now: Instant) -> Result<Disposition>;

    /// What is owed for a message that carries no data, the end of a stream for one, if everything before it in its stream
    /// is written, and its sender waits for the confirm of it. Any other message is left with the broker.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn receive_without_data(&mut self, _message: Message, _now: Instant) -> Result<Option<Completion>> {
        Ok(None)
    }

    /// The broker takes messages of at most this many bytes from us; false where nothing can be said in these.
    fn limit_messages(&mut self, _max_message: usize) -> bool {
        true
    }

    /// A message of `len` bytes came that is over the limit, and its payload was discarded.
    fn reject_oversize(&mut self, len: usize, now: Instant);

    /// What becomes of the next message that was held and need not wait any more: what it waits for came, took too
    /// long, or is given up.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn next_released(&mut self, _given_up: GivenUp<'_>, _now: Instant) -> Result<Option<Disposition>> {
        Ok(None)
    }

    /// Streams that messages were printed as, and that turned out to continue others: each with the one that what comes
    /// next is printed as. What waits of both is to be passed on before that.
    fn take_joined(&mut self) -> Vec<(StreamId, StreamId)> {
        Vec::new()
    }

    /// Whether a message is held that would be lost with this process, where `keeps` tells whether the broker keeps one
    /// of this quality of service until it is acknowledged.
    fn holds_unkept(&self, _keeps: &dyn Fn(Qos) -> bool) -> bool {
        false
    }

    /// Whether messages can come from the broker from now on.
    fn set_supply(&mut self, _supply: Supply, _now: Instant) {}

    /// The broker has accepted the subscription, and sends what it keeps from now on.
    fn subscribed(&mut self, _now: Instant) {}

    /// Whether a message waits for space on the disk to be recorded: until it is, no more are to be received.
    fn waits_for_space(&self) -> bool {
        false
    }

    /// The connection is gone.
    fn disconnected(&mut self) {}

    /// Writes down what is owed for messages that standard output has taken. Until this returns, none of them may be
    /// acknowledged: the broker would not send it again, and the next run could not know that it was written.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn record(&mut self, _written: &[Completion], _now: Instant) -> Result<()> {
        Ok(())
    }

    /// Writes down in the session files what follows from what was accepted and recorded, before any of it is acknowledged.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`]; the same may be tried again.
    fn update_session_files(&mut self) -> Result<()> {
        Ok(())
    }

    /// The run ends, and nothing more is written down.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn close(&mut self, _now: Instant) -> Result<()> {
        Ok(())
    }

    /// The confirms that are due; `all` of them at the end of a run.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn due_confirms(&mut self, _all: bool, _now: Instant) -> Result<Vec<ConfirmMessage>> {
        Ok(Vec::new())
    }

    /// The sessions that a peer ended and of which nothing more is waited for: the time for the last of their streams
    /// has passed.
    fn late_sessions(&self, _now: Instant) -> Vec<SessionId> {
        Vec::new()
    }

    /// Deletes sessions that their peer ended, where nothing more is to come, and nothing `is_held` back of the lines;
    /// returns what acknowledges the KILLs. To be called when everything that was passed on is written.
    ///
    /// # Errors
    /// As [`IncomingStreams::receive`].
    fn delete_ended_sessions(&mut self, _is_held: &dyn Fn(SessionId) -> bool, _now: Instant) -> Result<Vec<Receipt>> {
        Ok(Vec::new())
    }

    /// Whether nothing more will come that this run receives.
    fn is_complete(&self) -> bool;

    /// Until when a complete run stays: a sender may not have heard that all of its stream is written, and nobody else
    /// would tell it.
    fn linger_until(&self, _now: Instant) -> Option<Instant> {
        None
    }

    /// When one of these methods has something to do, if nothing comes before.
    fn deadline(&self, _now: Instant) -> Option<Instant> {
        None
    }

    /// Reports which streams are open, and what was lost whole, for a run that is told to end: it would not have ended
    /// by itself.
    fn report_unfinished(&mut self) {}

    /// What a run that ended by itself says by its exit status; `timed_out` if that was for lack of messages.
    ///
    /// # Errors
    /// [`crate::Exit::TryAgain`] where a stream is not complete; [`crate::Exit::DataLost`] where something was lost.
    fn verdict(&mut self, _timed_out: bool) -> Result<()> {
        Ok(())
    }
}
