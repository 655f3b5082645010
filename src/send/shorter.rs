//! Messages no longer than the broker bears, also where that is less than on an earlier connection: what is under way then
//! goes in shorter ones.

use std::time::Instant;

use super::failure::{RunResult, SendFailure};
use super::outgoing::Cut;
use super::retried_failure::FailureCause;
use super::run::SendRun;
use super::source::Turn;
use crate::Error;
use crate::config::MIN_MESSAGE;
use crate::mqtt::Refused;
use crate::text::count;

/// Why what is too long cannot go in shorter messages.
const NOT_CUT: &str = "it cannot be cut, because later messages are already acknowledged, or continue from it";

impl SendRun<'_> {
    /// The broker bears less than on an earlier connection: what is in messages that are too long now goes in shorter
    /// ones.
    pub(super) fn cut_again(&mut self, refusal: Error, now: Instant) -> RunResult<()> {
        if self.stream.max_message() > self.events.broker.max_payload(self.stream.topic()) {
            return self.fail(FailureCause::Refused(Refused::Message), refusal, now);
        }
        let in_flight = self.in_flight();
        let waiting = self.events.broker.uncarried();
        let mut turn = Turn { now, connected: self.events.is_connected(), rng: &mut self.rng };
        let cut = self.source.cut_again(waiting, &mut *self.stream, &mut turn);
        let duplicates = match cut.map_err(|cause| self.not_resealed(cause, in_flight))? {
            Cut::Done(duplicates) => duplicates,
            Cut::NotWhole => {
                let refusal = refusal.and_because(NOT_CUT);
                return Err(SendFailure::GivenUp(self.source.refused(refusal, in_flight)));
            }
            Cut::DiskFull => {
                self.gate.shut_until_cut(refusal);
                return Ok(());
            }
        };
        for (token, _) in self.events.broker.withdraw() {
            self.gate.acknowledged(token);
        }
        if duplicates > 0 {
            self.report.warning(format_args!(
                "the broker now accepts only shorter messages; resent as shorter ones, possibly duplicated: {}",
                count(duplicates, "message")
            ));
        }
        self.registration.follow(&mut *self.stream, &mut self.events.broker, now, &mut self.rng)?;
        Ok(())
    }

    /// Keeps messages to the length that the broker bears, unless that is too little for any: then each is refused.
    pub(super) fn limit_messages(&mut self) {
        let max_message = self.events.broker.max_payload(self.stream.topic());
        if max_message >= MIN_MESSAGE {
            let max_record = self.stream.limit_messages(max_message);
            self.source.limit_records(max_record);
        }
    }
}
