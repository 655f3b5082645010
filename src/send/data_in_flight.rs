//! How much of the user's data is on its way: what a message carries beside it, no user has typed.

use std::collections::VecDeque;

use crate::mqtt::Token;

/// The data in messages that were published and that the broker has not acknowledged.
#[derive(Default)]
pub(super) struct DataInFlight {
    /// Each message with data, and how many bytes that are; 0 where it is acknowledged.
    messages: VecDeque<(Token, usize)>,
    bytes: usize,
}

impl DataInFlight {
    /// A message with so many bytes of data was published.
    pub(super) fn published(&mut self, token: Token, data_len: usize) {
        if data_len > 0 {
            self.messages.push_back((token, data_len));
            self.bytes += data_len;
        }
    }

    /// The broker has a message.
    pub(super) fn acknowledged(&mut self, token: Token) {
        if let Ok(at) = self.messages.binary_search_by_key(&token, |(token, _)| *token) {
            self.bytes -= std::mem::take(&mut self.messages[at].1);
        }
        while self.messages.front().is_some_and(|(_, data_len)| *data_len == 0) {
            self.messages.pop_front();
        }
    }

    /// How many bytes of data the broker has not acknowledged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}
