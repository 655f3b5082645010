//! What an opened message is to what was received before, without accepting it: for a message that the broker kept,
//! which stands alone (`sts-protocol(7)`, "The receiver").

use std::cmp::Reverse;

use super::id::StreamId;
use super::opened::Opened;
use super::receiver::Receiver;
use super::streams::{AcceptError, Streams};
use crate::crypto::key_tree::Salt;

/// Orders the messages of one peer: by session, by stream, by seq.
type Position = (Reverse<usize>, u32, u32);

impl Receiver {
    /// Whether a message is the next of a stream of which something came, or would be refused whatever came before it.
    /// Of any other nothing is known but that it was sent: those before it may have been received, be on their way, or
    /// be lost.
    #[must_use]
    pub(crate) fn expects(&self, opened: &Opened) -> bool {
        let StreamId { session, number } = opened.stream;
        let Some(streams) = self.streams(session).filter(|_| !opened.stream.is_side_stream()) else { return true };
        match streams.check(number, opened.salt(), opened.seq, false) {
            Ok(_) => streams.is_open(number),
            Err(AcceptError::Ahead { .. } | AcceptError::Closed) => false,
            Err(_) => true,
        }
    }

    /// Whether something later of the same peer was received, or may have been: under a newer session, in a later
    /// stream, or later in the same one, where only data counts. That a message itself was received does not make it
    /// outdated.
    #[must_use]
    pub(crate) fn is_outdated(&self, opened: &Opened) -> bool {
        let StreamId { session, number } = opened.stream;
        let is_empty = |id| self.streams(id).is_none_or(Streams::is_empty);
        let mut newer = self.of_peer(&opened.peer).iter().take_while(|id| **id != session);
        newer.any(|id| !is_empty(*id))
            || self.streams(session).is_none_or(|streams| streams.is_past(number, opened.salt(), opened.seq))
    }

    /// Whether one message is later than another one of the same peer.
    #[must_use]
    pub(crate) fn is_later(&self, one: &Opened, other: &Opened) -> bool {
        self.position(one) > self.position(other)
    }

    /// Where a message is among those of its peer.
    fn position(&self, opened: &Opened) -> Position {
        let StreamId { session, number } = opened.stream;
        let age = self.of_peer(&opened.peer).iter().take_while(|id| **id != session).count();
        (Reverse(age), number, opened.seq)
    }
}

impl Streams {
    /// Whether bytes after those of this message were received, or may have been.
    fn is_past(&self, stream: u32, salt: Salt, seq: u32) -> bool {
        if self.known_end() > stream.saturating_add(1) {
            return true;
        }
        match self.end_of(stream) {
            // A number that was used twice has no order.
            Some((other, _)) if other != salt => true,
            Some((_, end)) => {
                let kept = self.kept().filter(|kept| kept.number == stream);
                let is_closed = kept.is_some() && self.is_over(stream);
                // Where the broker keeps messages of a stream, the one that closes it carries no bytes, so the one before
                // it is the last with any. Any other stream may have ended with bytes.
                let received_end = end.saturating_sub(u32::from(is_closed));
                let value_end = kept.and_then(|kept| kept.value_end).unwrap_or(received_end);
                seq.saturating_add(1) < value_end || is_closed && seq >= end
            }
            // Given up, or forgotten how far it was received.
            None => self.is_over(stream),
        }
    }
}
