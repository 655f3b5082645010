//! What the last connections have in common: how long to wait before the next one, and what keeps ending them.

use std::time::Duration;

use rand::CryptoRng;

use super::outgoing_publishes::OutgoingPublish;
use super::refusal;
use crate::mqtt::reconnect_delay::ReconnectDelay;
use crate::mqtt::{Event, Token};

/// A connection that lived this long was a stable one.
const MIN_STABLE_LIFETIME: Duration = Duration::from_secs(5);

/// Short connections in a row, with no failed attempt between them, that point to another client with the same client
/// identifier.
const MIN_CONTESTED: u32 = 5;

/// Connections in a row that ended on the same message before it is reported.
const MIN_STUCK: u32 = 3;

/// The record of this connection and of those before it.
#[derive(Debug, Default)]
pub(super) struct ConnectionHistory {
    delay: ReconnectDelay,
    /// We ended this connection, not the broker.
    gave_up: bool,
    /// This connection brought an acknowledgement.
    acknowledged: bool,
    /// This connection brought a message.
    received: bool,
    /// Connections in a row that the broker accepted and soon dropped.
    short_lived: u32,
    /// Connections since the last stable one, whatever ended them and whatever failed between them.
    unstable: u32,
    /// The message that the last connections ended on, and how many they were.
    stuck: Option<(Token, u32)>,
}

impl ConnectionHistory {
    /// A connection begins.
    pub(super) fn connection_began(&mut self) {
        (self.gave_up, self.acknowledged, self.received) = (false, false, false);
    }

    /// We end this connection ourselves.
    pub(super) fn gave_up(&mut self) {
        self.gave_up = true;
    }

    /// A message came in.
    pub(super) fn message_received(&mut self) {
        self.received = true;
    }

    /// The broker acknowledged a message.
    pub(super) fn message_acknowledged(&mut self) {
        self.acknowledged = true;
        self.stuck = None;
    }

    /// The socket took this message, at QoS 0.
    pub(super) fn message_sent(&mut self, token: Token) {
        self.stuck = self.stuck.filter(|(stuck, _)| *stuck != token);
    }

    /// Whether the oldest message must go alone, to show that it is the one that ends connections.
    pub(super) fn suspects_oldest(&self) -> bool {
        self.stuck.is_some()
    }

    /// An attempt failed before the broker accepted it.
    ///
    /// A client that takes over our connections can connect: where attempts fail, short connections have another
    /// reason.
    pub(super) fn attempt_failed(&mut self) {
        self.short_lived = 0;
    }

    /// A connection ended that the broker had accepted; `oldest` is the oldest unacknowledged message, if the socket
    /// had taken some of it, and no other client uses a `unique_client_id`.
    pub(super) fn connection_ended(
        &mut self,
        lifetime: Duration,
        unique_client_id: bool,
        oldest: Option<(Token, &OutgoingPublish)>,
    ) -> Option<Event> {
        let stable = lifetime >= MIN_STABLE_LIFETIME;
        let cut_short = !stable && !self.gave_up;
        self.short_lived = if cut_short { self.short_lived + 1 } else { 0 };
        self.unstable = if stable { 0 } else { self.unstable.saturating_add(1) };
        self.adjust_backoff(stable, unique_client_id);
        if let Some((token, publish)) = oldest.filter(|_| cut_short && !self.acknowledged) {
            return self.ended_on(token, publish);
        }
        let contested = self.short_lived > 0 && self.short_lived.is_multiple_of(MIN_CONTESTED) && self.stuck.is_none();
        (contested && !unique_client_id).then_some(Event::Contested { times: self.short_lived })
    }

    fn adjust_backoff(&mut self, stable: bool, unique_client_id: bool) {
        let useful = self.acknowledged || self.received;
        if stable || (useful && self.unstable < MIN_CONTESTED) {
            self.delay.reset();
        } else if useful && unique_client_id {
            // A broker that comes and goes is to be used while it is there. Where the client identifier is shared, two
            // clients may be taking the connection from each other, and hurrying would only make that worse.
            self.delay.hurry();
        }
    }

    /// A short connection ended on this message.
    fn ended_on(&mut self, token: Token, publish: &OutgoingPublish) -> Option<Event> {
        let times = self.stuck.filter(|(last, _)| *last == token).map_or(1, |(_, times)| times + 1);
        self.stuck = Some((token, times));
        times
            .is_multiple_of(MIN_STUCK)
            .then(|| Event::Refused(refusal::message(&publish.topic, publish.payload.len(), times)))
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_delay(&mut self, rng: &mut impl CryptoRng) -> Duration {
        self.delay.next(rng)
    }
}
