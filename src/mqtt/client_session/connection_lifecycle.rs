//! How connections begin and end for a session.

use std::time::Instant;

use rand::CryptoRng;

use super::connection_history::EndedConnection;
use super::{ClientSession, ConnectionState, SessionDoubt, refusal};
use crate::mqtt::codec::Connect;
use crate::mqtt::connection_lost::MIN_CLOSED;
use crate::mqtt::{Event, Outage, Refused, Will};
use crate::{Error, Result};

impl ClientSession {
    /// Sets what later connections leave with the broker; the one that there is keeps what it has.
    ///
    /// # Errors
    /// [`Exit::Config`](crate::Exit::Config) where it does not fit into CONNECT: nothing has changed then.
    pub fn set_will(&mut self, will: Option<Will>) -> Result<()> {
        will.as_ref().map_or(Ok(()), Will::check)?;
        self.options.will = will;
        Ok(())
    }

    /// The transport to the broker is open: CONNECT goes first.
    pub fn transport_opened(&mut self, now: Instant) {
        self.wire.connection_began();
        self.incoming.connection_began();
        self.history.connection_began();
        let will = self.options.will.as_ref().map(|will| self.outgoing.broker_limits().bearable(will));
        if let (Some(asked), Some(borne)) = (&self.options.will, &will) {
            self.events.extend(self.notices.will(asked, borne));
        }
        self.wire.connect(Connect {
            client_id: &self.options.client_id,
            login: self.options.login.as_ref(),
            keep_alive: self.options.keep_alive_seconds(),
            clean_session: self.options.clean_session,
            session_expiry: self.options.v5.session_expiry,
            will: will.as_ref(),
        });
        let doubt = if let ConnectionState::Down(doubt) = self.state { doubt } else { SessionDoubt::None };
        self.state = ConnectionState::Connecting { since: now, doubt };
    }

    /// There will be no transport until something is changed; `error` is for [`Event::Refused`].
    pub(in crate::mqtt) fn transport_refused(&mut self, error: Error) {
        self.events.push_back(Refused::Connection.because(error));
    }

    /// Takes the event that the broker refused the connection, if it did.
    pub(in crate::mqtt) fn take_connection_refused(&mut self) -> Option<Error> {
        let is_it = |event: &Event| matches!(event, Event::Refused(refusal) if refusal.of == Refused::Connection);
        let at = self.events.iter().position(is_it)?;
        if let Some(Event::Refused(refusal)) = self.events.remove(at) { Some(refusal.error) } else { None }
    }

    /// This end drops the connection for what came below MQTT: that is no answer to anything that was asked for.
    pub(in crate::mqtt) fn gave_up(&mut self) {
        self.history.gave_up();
    }

    /// The transport is gone, or could not be opened; `outage` is for [`Event::Down`]. Returns when to try again.
    pub fn transport_lost(&mut self, outage: impl Into<Outage>, now: Instant, rng: &mut impl CryptoRng) -> Instant {
        let mut outage = outage.into();
        match std::mem::replace(&mut self.state, ConnectionState::Down(SessionDoubt::None)) {
            ConnectionState::Up { since, keep_alive, .. } => {
                outage = self.connection_ended(outage, since, keep_alive.was_ping_answered(), now, rng);
            }
            ConnectionState::Connecting { doubt, .. } => {
                let is_sent = self.wire.sent() > 0;
                self.state = ConnectionState::Down(if is_sent { SessionDoubt::ConnAckMissing } else { doubt });
                outage = self.connect_unanswered(outage);
            }
            ConnectionState::Down(doubt) => {
                self.state = ConnectionState::Down(doubt);
                self.history.attempt_failed();
            }
            ConnectionState::Closing => self.history.attempt_failed(),
        }
        self.outgoing.connection_ended(self.wire.sent());
        self.wire.connection_ended();
        self.subscriptions.connection_ended();
        let retry = self.history.next_delay(rng);
        self.events.push_back(Event::Down { outage, retry });
        now + retry
    }

    /// A connection ended that the broker had accepted.
    fn connection_ended(
        &mut self,
        outage: Outage,
        since: Instant,
        answered_ping: bool,
        ended: Instant,
        rng: &mut impl CryptoRng,
    ) -> Outage {
        let attempted = self.outgoing.oldest_attempted(self.wire.sent());
        let subscribing = self.subscriptions.pending().filter(|_| !self.history.has_given_up());
        let connection = EndedConnection { since, ended, answered_ping, attempted, subscribing };
        let event = self.history.connection_ended(&connection, self.options.unique_client_id);
        let is_news = event.is_some();
        self.events.extend(event);
        let Some(subscribing) = subscribing else {
            // A warning has the same hint, and is printed just before.
            let is_suspect = self.history.suspects_sent() && !is_news;
            let hint = is_suspect.then(|| refusal::length_hint(self.options.unique_client_id));
            return match hint {
                Some(hint) => outage.or_hint(hint),
                None => outage,
            };
        };
        let is_refused = !subscribing.was_granted && self.history.times_closed() >= MIN_CLOSED;
        let hint = is_refused.then(|| refusal::subscribe_hint(subscribing.filter));
        // After a failover the broker may hold the identifier, or the queue of that name, for a connection that is gone.
        self.options.redraw_client_id(rng);
        match hint {
            Some(hint) => outage.or_hint(hint),
            None => outage,
        }
    }

    /// A connection ended before the broker had accepted it.
    fn connect_unanswered(&mut self, outage: Outage) -> Outage {
        let refused = self.history.connect_unanswered();
        self.events.extend(self.history.contested(self.options.unique_client_id));
        let Some(times) = refused else { return outage };
        if self.history.is_closed_news() {
            self.events.push_back(Event::Warning(refusal::closed_at_connect(&self.options, times)));
        }
        outage.or_hint(refusal::connect_hint(&self.options))
    }

    /// The transport is closed after [`disconnect`](Self::disconnect), and no other will be opened.
    pub(in crate::mqtt) fn transport_closed(&mut self) {
        self.state = ConnectionState::Down(SessionDoubt::None);
        self.outgoing.close();
        self.outgoing.connection_ended(self.wire.sent());
        self.wire.connection_ended();
        self.events.push_back(Event::Closed);
    }

    /// The transport is closed after [`renew`](Self::renew). False if it was closed for good.
    pub(in crate::mqtt) fn transport_renewed(&mut self) -> bool {
        if self.outgoing.is_closed() || !matches!(self.state, ConnectionState::Closing) {
            return false;
        }
        self.state = ConnectionState::Down(SessionDoubt::None);
        self.outgoing.connection_ended(self.wire.sent());
        self.wire.connection_ended();
        self.subscriptions.connection_ended();
        self.events.push_back(Event::Renewed);
        true
    }

    /// Whether DISCONNECT went out, or never will because there is no connection.
    pub(in crate::mqtt) fn is_disconnect_sent(&self) -> bool {
        match self.state {
            ConnectionState::Closing => self.wire.unsent().is_empty(),
            ConnectionState::Down(_) | ConnectionState::Connecting { .. } => self.outgoing.is_closed(),
            ConnectionState::Up { .. } => false,
        }
    }
}
