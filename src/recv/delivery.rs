//! A message on its way to standard output, with all that is owed for it once it is written.

use std::time::SystemTime;

use bytes::Bytes;

use crate::cache::JournalEntry;
use crate::mqtt::Receipt;
use crate::stream::{Progress, SentTime, StreamId};

/// A message to write.
#[derive(Debug)]
pub(super) struct Delivery {
    /// Whose order it keeps: the first stream of its chain, as a chain is one stream to standard output.
    pub(super) stream: StreamId,
    /// The bytes to write: a view of a buffer that is used again, so it must not be kept (see [`Delivery::detached`]).
    pub(super) data: Bytes,
    /// How it joins the lines of its stream.
    pub(super) joint: Joint,
    /// What `--prefix` and `--json` print with each of its lines; `None` where nothing is printed but the line.
    pub(super) metadata: Option<Metadata>,
    pub(super) completion: Completion,
}

/// How a message joins the lines of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Joint {
    /// More may come of its last line.
    Continues,
    /// The stream ends with it, and so does a line that is not finished.
    Ends,
    /// It is a will, and one line of its own, whatever of another one was written before.
    Alone,
}

/// What a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineKind {
    /// A line of the sender's input.
    Input,
    /// What the broker says for the sender.
    Will,
}

/// Where a line is from.
#[derive(Clone, Debug)]
pub(super) enum Metadata {
    /// A sealed stream.
    Sealed {
        /// The peer's name on this device.
        peer: String,
        stream: u32,
        seq: u32,
        kind: LineKind,
        received: SystemTime,
        /// When its sender read it, if it says so.
        sent: Option<SentTime>,
    },
    /// `nosec`: anybody who can publish there.
    Plain { topic: String, received: SystemTime },
}

/// What is owed once standard output has taken a message's bytes: state to write down, a confirm, an acknowledgement to
/// the broker, in this order.
#[derive(Debug, Default)]
pub(super) struct Completion {
    /// How far its stream is written then; `None` where there is no stream (`nosec`), or nothing of one to write.
    pub(super) progress: Option<Progress>,
    /// What it showed of what came before it, to be written down first: streams that are over, and gaps. Rarely any, so that
    /// an ordinary message allocates nothing.
    pub(super) prior: Vec<JournalEntry>,
    /// How many bytes of the message were written before these.
    pub(super) offset: usize,
    /// How many bytes of data these are.
    pub(super) bytes: usize,
    /// Its sender asks for confirms.
    pub(super) wants_confirm: bool,
    /// Acknowledges the message to the broker.
    pub(super) receipt: Option<Receipt>,
}

impl Delivery {
    pub(super) fn new(
        stream: StreamId,
        data: Bytes,
        joint: Joint,
        metadata: Option<Metadata>,
        completion: Completion,
    ) -> Self {
        let completion = Completion { bytes: data.len(), ..completion };
        Self { stream, data, joint, metadata, completion }
    }

    /// What is owed after all that came of a stream before is written, without data of its own.
    pub(super) fn without_data(stream: StreamId, completion: Completion) -> Self {
        Self::new(stream, Bytes::new(), Joint::Continues, None, completion)
    }

    /// Splits off the first `len` bytes; what is left settles the message.
    pub(super) fn split_to(&mut self, len: usize) -> Self {
        Self {
            stream: self.stream,
            data: self.data.split_to(len),
            joint: Joint::Continues,
            metadata: self.metadata.clone(),
            completion: self.completion.split_to(len),
        }
    }

    /// The same with data of its own, so that keeping a short line does not keep a whole read buffer.
    pub(super) fn detached(self) -> Self {
        Self { data: Bytes::copy_from_slice(&self.data), ..self }
    }
}

impl Completion {
    /// Splits off what is owed for the first `len` bytes; what is left is owed for the rest, and settles the message: a
    /// message that was written in part is neither acknowledged nor confirmed, as the rest of it is still wanted.
    pub(super) fn split_to(&mut self, len: usize) -> Self {
        let offset = self.offset;
        self.offset += len;
        self.bytes -= len;
        let written = u32::try_from(self.offset).expect("a message is shorter than 4 GiB");
        Self {
            progress: self.progress.map(|progress| progress.partly(written)),
            prior: std::mem::take(&mut self.prior),
            offset,
            bytes: len,
            wants_confirm: self.wants_confirm,
            receipt: None,
        }
    }

    /// Whether something was lost right before it.
    pub(super) fn follows_gap(&self) -> bool {
        self.prior.iter().any(|entry| matches!(entry, JournalEntry::Lost(_)))
    }

    /// What to write down, in the order in which it happened.
    pub(super) fn entries(&self) -> impl Iterator<Item = JournalEntry> {
        let written = self.progress.map(|progress| {
            let written = JournalEntry::Written {
                session: progress.stream.session,
                // A message that was written in part is counted when the rest is.
                messages: u64::from(progress.skip == 0),
                bytes: self.bytes as u64,
            };
            [written, JournalEntry::Progress(progress)]
        });
        self.prior.iter().copied().chain(written.into_iter().flatten())
    }

    /// What to confirm to the sender, if it asks; nothing of a message that was written in part.
    pub(super) fn confirmable(&self) -> Option<Progress> {
        self.progress.filter(|progress| self.wants_confirm && progress.skip == 0)
    }
}

/// Nothing but the acknowledgement of a message that is not written.
impl From<Receipt> for Completion {
    fn from(receipt: Receipt) -> Self {
        Self { receipt: Some(receipt), ..Self::default() }
    }
}

#[cfg(test)]
pub(super) mod for_tests {
    use super::*;
    use crate::stream::{Origin, Sequence, StreamState};

    pub(in crate::recv) const fn stream(number: u32) -> StreamId {
        StreamId { session: [0; 8], number }
    }

    /// The message of this seq in stream `number`.
    pub(in crate::recv) fn delivery(number: u32, seq: u32, data: &str, ends: bool) -> Delivery {
        let stream = stream(number);
        let progress = Progress {
            stream,
            salt: [0; 8],
            next: seq + 1,
            skip: 0,
            wants_confirms: false,
            state: StreamState::Open,
            sequence: Sequence::of_origin(Origin { stream, salt: [0; 8] }, seq + 1),
        };
        let completion = Completion { progress: Some(progress), ..Completion::default() };
        let joint = if ends { Joint::Ends } else { Joint::Continues };
        Delivery::new(stream, Bytes::copy_from_slice(data.as_bytes()), joint, None, completion)
    }

    /// The seq that [`delivery`] was given.
    pub(in crate::recv) fn seq_of(delivery: &Delivery) -> u32 {
        delivery.completion.progress.map(|progress| progress.next - 1).unwrap()
    }
}
