//! Messages at QoS 0 after which the broker closes the connection. MQTT has no answer to them, so a broker that does not accept
//! one, in MQTT 3.1.1 for its length, can do nothing else.

use std::sync::Arc;

use crate::mqtt::connection_lost::MIN_CLOSED;

/// A message that the socket took, at QoS 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentMessage {
    pub(super) topic: Arc<str>,
    /// Of its payload, in bytes.
    pub(super) len: usize,
}

/// What was sent last when connections ended.
#[derive(Debug, Default)]
pub(super) struct LastSent {
    /// On this connection, unless the broker has answered since.
    last: Option<SentMessage>,
    /// On those that ended soon, with how many did so in a row.
    ended_after: Option<(SentMessage, u32)>,
    /// The user was warned.
    is_told: bool,
}

impl LastSent {
    /// The socket took this message, if it was not taken back meanwhile.
    pub(super) fn sent(&mut self, message: Option<SentMessage>) {
        self.last = message;
    }

    /// The broker has read what was sent.
    pub(super) fn answered(&mut self) {
        self.last = None;
    }

    /// The connection ended, and what was sent last may be the reason, or not.
    pub(super) fn connection_ended(&mut self, may_be_reason: bool) {
        let before = self.ended_after.take();
        self.ended_after = self.last.take().filter(|_| may_be_reason).map(|message| {
            let times = before.filter(|(known, _)| *known == message).map_or(0, |(_, times)| times);
            (message, times.saturating_add(1))
        });
    }

    /// The message that several connections in a row ended after, with how many those are.
    pub(super) fn suspect(&self) -> Option<&(SentMessage, u32)> {
        self.ended_after.as_ref().filter(|(_, times)| *times >= MIN_CLOSED)
    }

    /// The same, the first time.
    pub(super) fn untold_suspect(&mut self) -> Option<&(SentMessage, u32)> {
        let is_told = self.is_told;
        self.is_told |= self.suspect().is_some();
        self.suspect().filter(|_| !is_told)
    }
}
