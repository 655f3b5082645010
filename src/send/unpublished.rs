//! What is made and not published: it waits in the stream until the gate of the run lets it pass.

use std::collections::VecDeque;

use bytes::Bytes;

use super::outgoing::OutgoingMessage;
use crate::spool::Pending;

/// Messages of the stream that nothing else keeps, oldest first. Nothing newer may overtake them, and a run that ended with
/// them would lose them: `SendRun` asks how many there are for both.
#[derive(Default)]
pub(super) struct Unpublished(VecDeque<OutgoingMessage>);

impl Unpublished {
    /// The newest of all.
    pub(super) fn push(&mut self, message: OutgoingMessage) {
        self.0.push_back(message);
    }

    /// The oldest one, to be published.
    pub(super) fn pop(&mut self) -> Option<OutgoingMessage> {
        self.0.pop_front()
    }

    /// What is in all of them.
    pub(super) fn payloads(&self) -> impl Iterator<Item = Bytes> {
        self.0.iter().map(OutgoingMessage::payload)
    }

    /// How many there are.
    pub(super) fn pending(&self) -> Pending {
        let bytes = self.0.iter().map(|message| message.new_data_len() as u64).sum();
        Pending { messages: self.0.len() as u64, bytes }
    }
}
