//! What is taken back of that which was published, and whether it has to be, since newer messages have overtaken it.

use bytes::Bytes;

use super::super::outgoing_publish::{OutgoingPublish, PublishState, UNSENT};
use super::OutgoingPublishes;
use crate::mqtt::{Qos, Token};

impl OutgoingPublishes {
    /// The payloads of what this connection has not carried, oldest first.
    pub(in crate::mqtt::client_session) fn uncarried(&self) -> Vec<Bytes> {
        let publishes = (self.first_serial..).zip(&self.publishes).filter(|(serial, _)| *serial >= self.next_serial);
        let waiting = publishes.filter(|(_, publish)| publish.state == PublishState::Publishing);
        waiting.map(|(_, publish)| publish.payload.clone()).collect()
    }

    /// Takes back what this connection has not carried, oldest first: nothing more is heard of it.
    ///
    /// Its numbers stay used, as a broker that kept the session may know them from an earlier connection.
    pub(in crate::mqtt::client_session) fn withdraw(&mut self) -> Vec<(Token, Bytes)> {
        let next_serial = self.next_serial;
        self.take_back(|serial, _| serial >= next_serial)
    }

    /// Newer messages may overtake this one.
    pub(in crate::mqtt::client_session) fn exempt_from_order(&mut self, token: Token) {
        self.refused.order.exempt(token.0);
    }

    /// The oldest message that the broker refused while it accepted, or may have accepted, a newer one.
    pub(in crate::mqtt::client_session) fn overtaken(&self) -> Option<Token> {
        self.refused.order.overtaken().map(Token)
    }

    /// Takes back all that is not under way, including what the broker refused. Once nothing is under way, no message
    /// counts as overtaken any more, and the next [`MAX_SINGLE`](super::super::publish_order::MAX_SINGLE) messages of this
    /// connection are sent one at a time.
    pub(in crate::mqtt::client_session) fn withdraw_overtaken(&mut self) -> Vec<Token> {
        let withdrawn = self.take_back(|_, publish| publish.position == UNSENT);
        if self.unacknowledged.messages == 0 {
            self.refused.order.begin();
        }
        withdrawn.into_iter().map(|(token, _)| token).collect()
    }

    fn take_back(&mut self, is_wanted: impl Fn(u64, &OutgoingPublish) -> bool) -> Vec<(Token, Bytes)> {
        let mut withdrawn = Vec::new();
        for (serial, publish) in (self.first_serial..).zip(&mut self.publishes) {
            if publish.state == PublishState::Publishing && is_wanted(serial, publish) {
                self.unacknowledged.messages -= 1;
                self.unacknowledged.bytes -= publish.size();
                publish.state = PublishState::Acknowledged;
                self.refused.withdrawn(serial);
                withdrawn.push((Token(serial), std::mem::take(&mut publish.payload)));
            }
        }
        self.forget_acknowledged();
        withdrawn
    }

    /// No more answers are heard on this connection, whose socket took `sent_bytes`: if the broker refused a message, it may
    /// have accepted newer ones that it did not answer.
    pub(in crate::mqtt::client_session) fn note_attempted(&mut self, sent_bytes: u64) {
        let Some(refused) = self.refused.order.oldest_unaccepted() else { return };
        let is_attempted = |publish: &OutgoingPublish| {
            let is_unanswered = publish.qos > Qos::AtMostOnce && publish.state == PublishState::Publishing;
            is_unanswered && publish.position.start < sent_bytes
        };
        let newest = (self.first_serial..).zip(&self.publishes).filter(|(_, publish)| is_attempted(publish)).last();
        if let Some((newest, _)) = newest.filter(|(newest, _)| *newest > refused) {
            self.refused.order.taken(newest);
        }
    }
}
