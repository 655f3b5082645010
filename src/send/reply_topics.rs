//! Where the receiver's replies arrive, and whether they can.

use std::time::Instant;

use super::outgoing::OutgoingStream;
use crate::Result;
use crate::mqtt::{Client, Qos};

/// The topics that the receiver's replies arrive on.
#[derive(Default)]
pub(super) struct ReplyTopics {
    /// Where confirms arrive.
    confirms: Option<String>,
    /// Where the answer to a query about a session arrives, if that is another topic.
    answers: Option<String>,
    /// The broker has accepted the subscription for confirms, on this connection.
    subscribed: bool,
    /// A confirm has arrived in this run.
    has_delivered: bool,
}

impl ReplyTopics {
    /// Subscribes where the receiver publishes now: with a new session it may have other topics.
    pub(super) fn follow(&mut self, stream: &dyn OutgoingStream, broker: &mut Client, now: Instant) -> Result<()> {
        let topic = stream.confirm_topic();
        if topic != self.confirms.as_deref() {
            if let Some(topic) = topic {
                broker.subscribe(topic, Qos::AtLeastOnce, now)?;
                self.subscribed = false;
            }
            self.confirms = topic.map(str::to_owned);
        }
        let known = [self.confirms.as_deref(), self.answers.as_deref()];
        if let Some(topic) = stream.answer_topic().filter(|topic| !known.contains(&Some(*topic))) {
            broker.subscribe(topic, Qos::AtLeastOnce, now)?;
            self.answers = Some(topic.to_owned());
        }
        Ok(())
    }

    /// The broker accepted a subscription.
    pub(super) fn subscription_accepted(&mut self, filter: &str) {
        self.subscribed |= self.confirms.as_deref() == Some(filter);
    }

    /// A confirm arrived.
    pub(super) fn delivered(&mut self) {
        self.has_delivered = true;
    }

    /// Whether a confirm has arrived in this run: then the broker lets both devices publish and receive.
    pub(super) fn have_delivered(&self) -> bool {
        self.has_delivered
    }

    /// Subscriptions do not outlive their connection.
    pub(super) fn disconnected(&mut self) {
        self.subscribed = false;
    }

    /// Whether confirms reach us.
    pub(super) fn are_subscribed(&self) -> bool {
        self.subscribed
    }
}
