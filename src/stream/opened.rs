//! A message that is opened, and not yet accepted: what is known of it, and who says so.

use super::content::PlaintextHead;
use super::id::StreamId;
use super::keys::TagEnd;
use super::progress::{Progress, Sequence, StreamState};
use crate::crypto::key_tree::Salt;
use crate::crypto::schedule::Digest;

/// An authentic message: opened, and not yet accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The fingerprint of the session's peer, who sealed it, whatever topic it came on.
    pub(crate) peer: Digest,
    /// Its stream.
    pub(crate) stream: StreamId,
    /// Its number in the stream.
    pub(crate) seq: u32,
    /// What it says, beside its data.
    pub(crate) head: PlaintextHead,
    pub(super) salt: Salt,
    pub(super) tag: TagEnd,
}

impl Opened {
    /// The salt of its stream.
    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// Whether it says that the broker keeps messages of its stream.
    pub(super) fn is_kept(&self) -> bool {
        self.head.preamble.as_ref().is_some_and(|preamble| preamble.kept) && !self.stream.is_side_stream()
    }

    /// How far its stream is received with it, where the stream had come to `wanted`, and its sequence to a position.
    pub(super) fn progress(&self, wanted: u32, skip: u32, sequence: Sequence) -> Progress {
        let Self { stream, seq, salt, head: PlaintextHead { wants_confirms, ref content, .. }, .. } = *self;
        let state = if content.closes_stream() { StreamState::Ended } else { StreamState::Open };
        // `open` lets no seq through that has none after it.
        let end = seq + 1;
        if end <= wanted {
            // Its position was received in another stream.
            let next = if state == StreamState::Ended { end } else { wanted };
            return Progress { stream, salt, next, skip, wants_confirms, state, sequence };
        }
        let positions = u64::from(seq - wanted) + u64::from(content.has_position());
        let sequence = Sequence { position: sequence.position.saturating_add(positions), ..sequence };
        Progress { stream, salt, next: end, skip: 0, wants_confirms, state, sequence }
    }

    /// Where its stream begins, as [`Opened::progress`]: before what is lost, which the next run is to report if this
    /// one is killed before the message is written.
    pub(super) fn beginning(&self, wanted: u32, sequence: Sequence) -> Progress {
        let Self { stream, salt, head: PlaintextHead { wants_confirms, .. }, .. } = *self;
        let sequence = Sequence { position: sequence.position.saturating_sub(wanted.into()), ..sequence };
        Progress { stream, salt, next: 0, skip: 0, wants_confirms, state: StreamState::Open, sequence }
    }
}
