//! What was decided of each message is done: it is printed, acknowledged, answered, or left with the broker.

use std::time::Instant;

use super::incoming::{Disposition, GivenUp};
use super::run::RecvRun;
use crate::Result;
use crate::mqtt::Qos;

impl RecvRun<'_> {
    /// Does with a message what was decided.
    pub(super) fn dispose(&mut self, disposition: Disposition, now: Instant) -> Result<()> {
        for (from, to) in self.streams.take_joined() {
            self.printer.join(from, to);
        }
        match disposition {
            Disposition::Deliver(delivery) => self.printer.print(delivery, now),
            Disposition::Drop(receipt) => self.printer.acknowledge(receipt),
            Disposition::Repeat { stream, receipt } => self.printer.acknowledge_repeat(stream, receipt, now),
            Disposition::Answer { answer, receipt } => {
                self.events.publish_or_drop(&answer.topic, answer.frame, Qos::AtMostOnce)?;
                self.printer.acknowledge(receipt);
            }
            Disposition::Leave(message) => {
                if let Some(copy) = self.left.push(message) {
                    self.printer.acknowledge(copy);
                }
            }
            Disposition::Hold { .. } => {}
        }
        Ok(())
    }

    /// Takes what was held and need not wait any more.
    pub(super) fn take_released(&mut self, given_up: GivenUp<'_>, now: Instant) -> Result<()> {
        // They came before: the timeout does not begin again.
        while let Some(disposition) = self.streams.next_released(given_up, now)? {
            self.dispose(disposition, now)?;
        }
        Ok(())
    }
}
