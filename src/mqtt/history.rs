//! What the last connections have in common: when to try again, and who is to blame.

use std::time::Duration;

use rand::CryptoRng;

use super::backoff::ReconnectDelay;
use super::outbound::Flight;
use super::{Event, Token, refusal};

/// A connection that lived for so long was a good one.
const SETTLED: Duration = Duration::from_secs(5);

/// So many short connections in a row, with no failed attempt between them, are somebody else's doing.
const CONTESTED: u32 = 5;

/// So many connections in a row that ended on the same message are that message's doing.
const STUCK: u32 = 3;

/// The record of this connection and of those before it.
#[derive(Debug, Default)]
pub(super) struct History {
    backoff: ReconnectDelay,
    /// We ended this connection, not the peer.
    gave_up: bool,
    /// This connection brought an acknowledgement.
    acked: bool,
    /// This connection brought a message.
    heard: bool,
    /// Connections in a row that the broker accepted and soon dropped.
    short_lived: u32,
    /// Connections since the last one that settled, whatever ended them and whatever failed between them.
    unsettled: u32,
    /// The message that the last connections ended on, and how many there were.
    stuck: Option<(Token, u32)>,
}

impl History {
    /// A connection begins.
    pub(super) fn connected(&mut self) {
        (self.gave_up, self.acked, self.heard) = (false, false, false);
    }

    /// We end this connection ourselves.
    pub(super) fn gave_up(&mut self) {
        self.gave_up = true;
    }

    /// A message came in.
    pub(super) fn heard(&mut self) {
        self.heard = true;
    }

    /// The broker acknowledged something.
    pub(super) fn acked(&mut self) {
        self.acked = true;
        self.stuck = None;
    }

    /// The socket took this message, at QoS 0.
    pub(super) fn taken(&mut self, token: Token) {
        self.stuck = self.stuck.filter(|(stuck, _)| *stuck != token);
    }

    /// Whether the oldest message must go alone, so that it is known to be the one that ends connections.
    pub(super) fn suspects(&self) -> bool {
        self.stuck.is_some()
    }

    /// An attempt failed before the broker accepted it.
    ///
    /// A takeover is somebody who can connect: where an attempt fails, short connections have another reason.
    pub(super) fn failed(&mut self) {
        self.short_lived = 0;
    }

    /// A connection ended that the broker had accepted and that lived for so long; `oldest` is the oldest
    /// unacknowledged message, if the socket had taken some of it. An `exclusive` client id is nobody else's.
    pub(super) fn ended(
        &mut self,
        lived: Duration,
        exclusive: bool,
        oldest: Option<(Token, &Flight)>,
    ) -> Option<Event> {
        let cut_short = lived < SETTLED && !self.gave_up;
        self.short_lived = if cut_short { self.short_lived + 1 } else { 0 };
        self.unsettled = if lived < SETTLED { self.unsettled.saturating_add(1) } else { 0 };
        let useful = self.acked || self.heard;
        if lived >= SETTLED || (useful && self.unsettled < CONTESTED) {
            self.backoff.reset();
        } else if useful && exclusive {
            // A broker that comes and goes is to be used while it is there. Where the id is shared, it may be two clients
            // that take the connection from each other, and neither must hurry.
            self.backoff.hurry();
        }
        if let Some((token, flight)) = oldest.filter(|_| cut_short && !self.acked) {
            let times = self.stuck.filter(|(last, _)| *last == token).map_or(1, |(_, times)| times + 1);
            self.stuck = Some((token, times));
            return times
                .is_multiple_of(STUCK)
                .then(|| Event::Refused(refusal::message(&flight.topic, flight.payload.len(), times)));
        }
        let contested =
            !exclusive && self.short_lived > 0 && self.short_lived.is_multiple_of(CONTESTED) && self.stuck.is_none();
        contested.then_some(Event::Contested { times: self.short_lived })
    }

    /// How long to wait before the next attempt.
    pub(super) fn delay(&mut self, rng: &mut impl CryptoRng) -> Duration {
        self.backoff.next(rng)
    }
}
