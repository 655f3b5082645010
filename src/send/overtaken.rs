//! Messages that the broker accepts out of order: it refuses one, as MQTT 5 allows, and accepts later ones that were
//! already under way.
//!
//! The receiver reports the refused one as a gap, and drops it if it comes later, so it is not resent as it is. A run
//! with a spool sends it, and all that follow, as the beginning of another sequence. A run without one ends, since it
//! has not kept those that follow. With `--confirm` there is nothing to do: the receiver accepts the messages of such a
//! stream in order only.

use std::time::Instant;

use super::failure::{RunResult, SendFailure};
use super::run::SendRun;
use crate::mqtt::Token;
use crate::text::count;
use crate::{Error, Exit};

impl SendRun<'_> {
    /// The oldest message that others have overtaken, where that matters. Nothing is published while there is one.
    pub(super) fn overtaken(&self) -> Option<Token> {
        self.events.broker.overtaken().filter(|_| !self.stream.is_confirmed())
    }

    /// Restores the order of messages, where it was lost: once all that is under way is answered, everything from the oldest
    /// message on that was overtaken is sent again.
    pub(super) fn restore_order(&mut self, now: Instant) -> RunResult<()> {
        if self.overtaken().is_none() {
            return Ok(());
        }
        if !self.source.keeps_undelivered() {
            return Err(SendFailure::GivenUp(self.source.refused(overtaken(), self.in_flight())));
        }
        let duplicates = self.source.restart_sequence(&mut *self.stream, now)?;
        if duplicates > 0 {
            let messages = count(duplicates, "message");
            let what = "the broker refused a message and accepted later ones; resent from the refused one on";
            self.report.warning(format_args!("{what}, possibly duplicated: {messages}"));
        }
        for token in self.events.broker.withdraw_overtaken() {
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
