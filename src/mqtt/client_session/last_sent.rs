//! Messages at QoS 0 after which the broker closes the connection. MQTT has no answer to them, so a broker that does not accept
//! one, in MQTT 3.1.1 for its length, can do nothing else.

use std::sync::Arc;

use crate::mqtt::Token;
use crate::mqtt::connection_lost::MIN_CLOSED;

/// A message that the socket took, at QoS 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SentMessage {
    pub(super) topic: Arc<str>,
    /// Of its payload, in bytes.
    pub(super) len: usize,
}

/// What was sent when connections ended, and may be the reason.
#[derive(Debug, Default)]
pub(super) struct LastSent {
    on_connection: OnConnection,
    /// Of the connections that ended soon, with how many did so in a row.
    ended_after: Option<(SentMessage, u32)>,
    /// The user was warned since the last stable connection.
    is_told: bool,
}

/// What is known of the messages on this connection.
#[derive(Debug, Default)]
struct OnConnection {
    /// The longest one, if it is not known that the broker accepted it, and of those the first.
    longest: Option<(Token, SentMessage)>,
    /// The broker has sent a message since.
    is_followed: bool,
    /// The length of the longest one that the broker accepted: a limit does not forbid others of that length.
    accepted_len: usize,
}

impl OnConnection {
    fn sent(&mut self, token: Token, message: SentMessage) {
        if self.is_followed {
            self.accepted();
        }
        let longest = self.longest.as_ref().map_or(0, |(_, message)| message.len).max(self.accepted_len);
        if message.len > longest {
            self.longest = Some((token, message));
        }
    }

    fn accepted(&mut self) {
        let accepted_len = self.longest.take().map_or(0, |(_, message)| message.len);
        *self = Self { accepted_len: self.accepted_len.max(accepted_len), ..Self::default() };
    }
}

impl LastSent {
    /// A connection begins.
    pub(super) fn connection_began(&mut self) {
        self.on_connection = OnConnection::default();
    }

    /// The socket took this message, if it was not taken back meanwhile.
    pub(super) fn sent(&mut self, token: Token, message: Option<SentMessage>) {
        match message {
            Some(message) => self.on_connection.sent(token, message),
            None => self.on_connection.longest = None,
        }
    }

    /// The broker has read all that was sent.
    pub(super) fn answered(&mut self) {
        self.on_connection.accepted();
    }

    /// The broker has read this message, and so all that were sent before it.
    pub(super) fn answered_at(&mut self, token: Token) {
        if self.on_connection.longest.as_ref().is_some_and(|(longest, _)| *longest < token) {
            self.on_connection.accepted();
        }
    }

    /// The broker sent a message. It may have been on its way when ours was sent, so that says nothing before the next one of
    /// ours has gone out, too.
    pub(super) fn followed(&mut self) {
        self.on_connection.is_followed = self.on_connection.longest.is_some();
    }

    /// The connection ended, and what was sent may be the reason, or not.
    pub(super) fn connection_ended(&mut self, may_be_reason: bool) {
        let before = self.ended_after.take();
        let longest = std::mem::take(&mut self.on_connection).longest.filter(|_| may_be_reason);
        self.ended_after = longest.map(|(_, message)| {
            let times = before.filter(|(known, _)| *known == message).map_or(0, |(_, times)| times);
            (message, times.saturating_add(1))
        });
    }

    /// A connection was stable: the user is warned of what follows.
    pub(super) fn was_stable(&mut self) {
        self.is_told = false;
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
