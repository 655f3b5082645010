//! What was missing when a run ends before everything is delivered: space on the disk, the broker, the receiver, or the
//! permissions of one of the two devices on the broker.

use super::run::SendRun;
use crate::space_wait::SpaceWait;
use crate::{Error, Exit};

/// Why nothing more was sent.
const DISK_FULL: &str = "the disk with the runtime directory is full";

impl SendRun<'_> {
    /// The error of waiting no longer, for this reason: how much is not delivered, and what was missing. If that was
    /// the broker, the exit status is not that of a timeout.
    pub(super) fn undelivered(&self, exit: Exit, what: &str) -> Error {
        if let Some(refusal) = self.retried.refusal() {
            return self.source.refused(refusal.clone().and_because(what), self.in_flight());
        }
        let outage = self.events.outage();
        let exit = if outage.is_some() && exit == Exit::TryAgain { Exit::Unavailable } else { exit };
        let is_disk_full = self.stream.space().and_then(SpaceWait::retry_at).is_some();
        let mut error = self.unfinished(exit, what);
        if is_disk_full {
            error = error.and_because(DISK_FULL);
        }
        match outage {
            Some(outage) => outage.explain(error),
            None if is_disk_full => error,
            None => self.explain_silence(error),
        }
    }

    /// Who is silent though there is a connection.
    fn explain_silence(&self, error: Error) -> Error {
        if self.in_flight().messages == 0 {
            return error;
        }
        let broker = self.events.broker.endpoint();
        if self.events.broker.unacknowledged().messages > 0 {
            return error.and_because(format_args!("the broker at {broker} does not acknowledge anything"));
        }
        let Some(topic) = self.stream.confirm_topic() else { return error };
        if !self.registration.reply_topics.are_subscribed() {
            return error.and_because(format_args!("the broker at {broker} did not grant the subscription to {topic}"));
        }
        let receiver = self.stream.receiver();
        let error = error.and_because(format_args!("sts-recv on {receiver} does not confirm anything"));
        if self.registration.reply_topics.have_delivered() {
            return error.hint(format!("it has stopped, or its output is blocked: check what runs on {receiver}"));
        }
        let publish = self.stream.topic();
        error.hint(format!(
            "run sts-recv on {receiver}; if it runs, check the permissions of both devices on the broker: \
             many brokers silently drop what a user may not publish on {publish} or receive on {topic}"
        ))
    }
}
