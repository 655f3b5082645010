//! What the last connections have in common: how long to wait before the next one, and what keeps ending them.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::last_sent::{LastSent, SentMessage};
use super::outgoing_publish::AttemptedPublish;
use super::refusal;
use super::subscriptions::PendingSubscription;
use crate::mqtt::connection_lost::MIN_CLOSED;
use crate::mqtt::reconnect_delay::ReconnectDelay;
use crate::mqtt::{Event, Refused, Token};

/// A connection that lived this long was a stable one, and does not speak against its node.
pub(in crate::mqtt) const MIN_STABLE_LIFETIME: Duration = Duration::from_secs(5);

/// Short connections in a row, with no failed attempt between them, that point to another client with the same client
/// identifier.
const MIN_CONTESTED: u32 = 5;

/// Connections that must have ended on the same message, each after the broker had answered PINGREQ on it, before the
/// user is warned.
const MIN_SUSPICIOUS: u32 = 3;

/// As many before the message counts as refused: once less is known, a link that keeps breaking looks the same.
const MIN_REFUSED: u32 = 7;

/// The least time from the first of them to the last. A broker that closes connections for a while, as a cluster does
/// that fails over, refuses nothing.
const MIN_REFUSED_TIME: Duration = Duration::from_secs(20);

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
    /// Connections in a row that the broker accepted and soon dropped, and those that it closed after such a one before
    /// it had accepted them: a broker may punish a client that comes and goes.
    short_lived: u32,
    /// Connections since the last stable one, whatever ended them and whatever failed between them.
    unstable: u32,
    suspect: Option<Suspect>,
    closed: ClosedUnanswered,
    last_sent: LastSent,
}

/// Connections that the broker closed instead of an answer, one after the other.
#[derive(Debug, Default)]
struct ClosedUnanswered {
    /// At this request, so many.
    at: Option<(ClosedAt, u32)>,
    /// It accepted a connection in this run, so that nothing is wrong with the login.
    was_accepted: bool,
    /// The user was warned of these.
    told: Vec<ClosedAt>,
}

/// The request that the broker did not answer when it closed the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClosedAt {
    /// CONNECT.
    Connect,
    /// SUBSCRIBE.
    Subscribe,
}

impl ClosedUnanswered {
    /// The next connection ended; returns how many ended like it in a row, if it was closed at a request.
    fn next(&mut self, at: Option<ClosedAt>) -> u32 {
        self.at = match (at, self.at) {
            (Some(at), Some((last, times))) if at == last => Some((at, times.saturating_add(1))),
            (Some(at), _) => Some((at, 1)),
            (None, _) => None,
        };
        self.times()
    }

    fn times(&self) -> u32 {
        self.at.map_or(0, |(_, times)| times)
    }

    /// Whether there are enough of them to warn the user, who was not warned of such ones.
    fn is_news(&mut self) -> bool {
        let Some((at, _)) = self.at.filter(|(at, times)| *times >= MIN_CLOSED && !self.told.contains(at)) else {
            return false;
        };
        self.told.push(at);
        true
    }
}

/// A message that connections ended on.
#[derive(Debug)]
struct Suspect {
    token: Token,
    /// How many of the latest ones had answered PINGREQ: they worked until the message was sent.
    times: u32,
    /// When the first of those ended.
    since: Instant,
    /// The user was warned of it.
    is_told: bool,
}

/// What is known of a connection that the broker had accepted.
#[derive(Debug)]
pub(super) struct EndedConnection<'a> {
    pub(super) since: Instant,
    pub(super) ended: Instant,
    /// The broker answered a PINGREQ.
    pub(super) answered_ping: bool,
    /// The message that it may have ended on.
    pub(super) attempted: Option<AttemptedPublish<'a>>,
    /// The topic filter that it may have ended on, if the broker ended it.
    pub(super) subscribing: Option<PendingSubscription<'a>>,
}

impl ConnectionHistory {
    /// A connection begins.
    pub(super) fn connection_began(&mut self) {
        (self.gave_up, self.acknowledged, self.received) = (false, false, false);
        self.last_sent.connection_began();
    }

    /// We end this connection ourselves.
    pub(super) fn gave_up(&mut self) {
        self.gave_up = true;
    }

    /// Whether we ended this connection ourselves.
    pub(super) fn has_given_up(&self) -> bool {
        self.gave_up
    }

    /// A message came in.
    pub(super) fn message_received(&mut self) {
        self.received = true;
        self.last_sent.followed();
    }

    /// The broker acknowledged a message.
    pub(super) fn message_acknowledged(&mut self, token: Token) {
        self.acknowledged = true;
        self.suspect = None;
        self.last_sent.answered_at(token);
    }

    /// The broker refused a message, and the connection goes on.
    pub(super) fn message_refused(&mut self, token: Token) {
        self.last_sent.answered_at(token);
    }

    /// The socket took this message, at QoS 0.
    pub(super) fn message_sent(&mut self, token: Token, message: Option<SentMessage>) {
        self.suspect.take_if(|suspect| suspect.token == token);
        self.last_sent.sent(token, message);
    }

    /// The broker answered PINGREQ.
    pub(super) fn ping_answered(&mut self) {
        self.last_sent.answered();
    }

    /// The message at QoS 0 that several connections in a row ended after.
    pub(super) fn suspects_sent(&self) -> bool {
        self.last_sent.suspect().is_some()
    }

    /// The broker ended this connection for a message, which may be this one.
    pub(super) fn suspect(&mut self, token: Token, now: Instant) {
        let is_told = self.suspect.as_ref().is_some_and(|suspect| suspect.token == token && suspect.is_told);
        self.suspect = Some(Suspect { token, times: 0, since: now, is_told });
    }

    /// Whether the oldest message must go alone, and after a PINGREQ, to show whether it is what ends connections.
    pub(super) fn suspects_oldest(&self) -> bool {
        self.suspect.is_some()
    }

    /// The broker accepts this connection.
    pub(super) fn connection_accepted(&mut self) {
        self.closed.was_accepted = true;
    }

    /// An attempt failed before there was a connection.
    ///
    /// A client that takes over our connections can connect: where attempts fail, short connections have another
    /// reason.
    pub(super) fn attempt_failed(&mut self) {
        self.short_lived = 0;
        self.closed.next(None);
        self.excuse_suspect();
        self.last_sent.connection_ended(false);
    }

    /// The broker fails without the message under suspicion, too: what it did before says nothing of that.
    fn excuse_suspect(&mut self) {
        if let Some(suspect) = &mut self.suspect {
            suspect.times = 0;
        }
    }

    /// A connection ended before the broker accepted it: unless we gave up, the broker closed it instead of an answer.
    /// Returns how many it closed so in a row, if the reason may be what CONNECT asked for.
    pub(super) fn connect_unanswered(&mut self) -> Option<u32> {
        if self.gave_up {
            self.attempt_failed();
            return None;
        }
        self.excuse_suspect();
        self.last_sent.connection_ended(false);
        self.short_lived += u32::from(self.short_lived > 0);
        let times = self.closed.next(Some(ClosedAt::Connect));
        (!self.closed.was_accepted && times >= MIN_CLOSED).then_some(times)
    }

    /// Whether the user is to be warned that the broker closes each connection at the same request: once for each of these,
    /// whatever else ends connections in between.
    pub(super) fn is_closed_news(&mut self) -> bool {
        self.closed.is_news()
    }

    /// How many connections in a row the broker closed at the same request.
    pub(super) fn times_closed(&self) -> u32 {
        self.closed.times()
    }

    /// Whether another client seems to use the same client id. No other client uses a `unique_client_id`.
    pub(super) fn contested(&self, unique_client_id: bool) -> Option<Event> {
        let contested =
            self.short_lived > 0 && self.short_lived.is_multiple_of(MIN_CONTESTED) && self.suspect.is_none();
        (contested && !unique_client_id).then_some(Event::Contested { times: self.short_lived })
    }

    /// A connection ended that the broker had accepted. No other client uses a `unique_client_id`. Returns what the
    /// user is to know.
    pub(super) fn connection_ended(
        &mut self,
        connection: &EndedConnection<'_>,
        unique_client_id: bool,
    ) -> Option<Event> {
        let stable = connection.ended.saturating_duration_since(connection.since) >= MIN_STABLE_LIFETIME;
        let cut_short = !stable && !self.gave_up;
        self.short_lived = if cut_short { self.short_lived + 1 } else { 0 };
        self.unstable = if stable { 0 } else { self.unstable.saturating_add(1) };
        if stable && connection.subscribing.is_none() {
            self.closed.told.clear();
            self.last_sent.was_stable();
        }
        self.adjust_backoff(stable, unique_client_id);
        if connection.subscribing.is_some() {
            self.excuse_suspect();
        }
        let times = self.closed.next(connection.subscribing.map(|_| ClosedAt::Subscribe));
        let is_unasked = connection.attempted.is_none() && connection.subscribing.is_none();
        self.last_sent.connection_ended(cut_short && is_unasked);
        if let Some(publish) = connection.attempted.as_ref().filter(|_| cut_short && !self.acknowledged) {
            return self.ended_on(publish, connection.answered_ping, connection.ended);
        }
        match connection.subscribing {
            Some(pending) if !pending.was_granted && self.closed.is_news() => {
                Some(Event::Warning(refusal::closed_at_subscribe(pending.filter, times)))
            }
            _ => match self.last_sent.untold_suspect() {
                Some((message, times)) => {
                    Some(Event::Warning(refusal::closed_after(&message.topic, message.len, *times, unique_client_id)))
                }
                None => self.contested(unique_client_id),
            },
        }
    }

    fn adjust_backoff(&mut self, stable: bool, unique_client_id: bool) {
        let useful = self.acknowledged || self.received;
        if stable || (useful && self.unstable < MIN_CONTESTED) {
            self.delay.reset();
        } else if useful && unique_client_id {
            // A broker that comes and goes is to be used while it is there. Where the client id is shared, two
            // clients may be taking the connection from each other, and hurrying would only make that worse.
            self.delay.hurry();
        }
    }

    /// A short connection ended on this message. That alone says nothing: a link that keeps breaking ends each
    /// connection on whatever is sent first.
    fn ended_on(&mut self, publish: &AttemptedPublish<'_>, answered_ping: bool, now: Instant) -> Option<Event> {
        let token = publish.token;
        let known = self.suspect.take().filter(|suspect| suspect.token == token);
        let is_told = known.as_ref().is_some_and(|suspect| suspect.is_told);
        let (mut times, mut since) = match known {
            Some(suspect) if answered_ping => (suspect.times, suspect.since),
            _ => (0, now),
        };
        if answered_ping {
            since = if times == 0 { now } else { since };
            times += 1;
        }
        let certain = times >= MIN_REFUSED && now.saturating_duration_since(since) >= MIN_REFUSED_TIME;
        let refused = certain && !publish.longer_was_accepted;
        let warns = times >= MIN_SUSPICIOUS && !is_told;
        // A tool that continues all the same hears of the refusal again after as much evidence. The user is not warned again.
        let is_told = is_told || warns;
        self.suspect = Some(Suspect { token, times: if refused { 0 } else { times }, since, is_told });
        if refused {
            return Some(Refused::Message.because(refusal::message(publish, times)));
        }
        warns.then(|| Event::Warning(refusal::suspect(publish, times)))
    }

    /// How long to wait before the next attempt.
    pub(super) fn next_delay(&mut self, rng: &mut impl CryptoRng) -> Duration {
        self.delay.next(rng)
    }
}
