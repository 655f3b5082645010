//! Messages that the broker accepts out of order: it refuses one, as MQTT 5 allows, and accepts later ones that were
//! already under way.
//!
//! The receiver of an encrypted stream reports the refused one as a gap, and drops it if it comes later. So a run with a
//! spool sends it, and all that follow, as the beginning of another sequence. As soon as the broker accepts a later one, the
//! client resends the refused one as it is, and the run cannot take it back then: it counts as one that may arrive twice. A
//! run without a spool ends, since it has not kept those that follow.
//!
//! There is nothing to do where the receiver drops nothing for its order ([`OutgoingStream::is_ordered`]), nor for a message
//! without a position in the sequence ([`OutgoingMessage::Unordered`]).
//!
//! A run may also end before all answers have come: then [`SendRun::leave_order`] abandons the sequence, or the next run
//! would give the refused message its old position.

use std::time::Instant;

use super::failure::{RunResult, SendFailure};
#[cfg(doc)]
use super::outgoing::{OutgoingMessage, OutgoingStream};
use super::run::SendRun;
use crate::mqtt::Token;
use crate::text::count;
use crate::{Error, Exit, Result};

impl SendRun<'_> {
    /// The oldest message that others have overtaken, where that matters. Nothing is published while there is one.
    pub(super) fn overtaken(&self) -> Option<Token> {
        self.events.broker.overtaken().filter(|_| self.stream.is_ordered())
    }

    /// Restores the order of messages, where it was lost: once all that is under way is answered, everything from the oldest
    /// message on that was overtaken is sent again.
    pub(super) fn restore_order(&mut self, now: Instant) -> RunResult<()> {
        let Some(refused) = self.overtaken() else { return Ok(()) };
        if !self.source.keeps_undelivered() {
            return Err(SendFailure::GivenUp(self.source.refused(overtaken(), self.in_flight())));
        }
        Ok(self.restart_sequence(refused, now)?)
    }

    /// The run ends, and hears no more answers: if messages are overtaken, or may be, the next run sends them in another
    /// sequence.
    pub(super) fn leave_order(&mut self, now: Instant) -> Result<()> {
        self.events.broker.give_up_answers();
        match self.overtaken().filter(|_| self.source.keeps_undelivered()) {
            Some(refused) => self.restart_sequence(refused, now),
            None => Ok(()),
        }
    }

    fn restart_sequence(&mut self, refused: Token, now: Instant) -> Result<()> {
        let resent = self.source.restart_sequence(refused, &mut *self.stream, now)?;
        let withdrawn = self.events.broker.withdraw_overtaken();
        // The broker does not have the refused one, unless that is under way again.
        let duplicates = resent.saturating_sub(u64::from(withdrawn.contains(&refused)));
        if duplicates > 0 {
            let messages = count(duplicates, "message");
            let what = "the broker refused a message and accepted later ones; resent from the refused one on";
            self.report.warning(format_args!("{what}, possibly duplicated: {messages}"));
        }
        for token in withdrawn {
            self.gate.acknowledged(token);
        }
        Ok(())
    }
}

/// The order of messages is lost.
fn overtaken() -> Error {
    Error::new(Exit::Unavailable, "the broker refused a message and accepted later ones")
        .because("the receiver drops messages that arrive out of order")
        .hint("with --confirm or --spool, a message that the broker refuses for a moment is resent")
}
