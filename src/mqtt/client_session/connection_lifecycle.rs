//! How connections begin and end for a session.

use std::time::Instant;

use rand::CryptoRng;

use super::connection_history::EndedConnection;
use super::{ClientSession, ConnectionState};
use crate::mqtt::codec::Request;
use crate::mqtt::{Event, Outage, Will};
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
        self.codec.reset();
        self.write_buffer.clear();
        self.sent_bytes = 0;
        self.incoming.connection_began();
        self.history.connection_began();
        self.codec.encode(
            Request::Connect {
                client_id: &self.options.client_id,
                login: self.options.login.as_ref(),
                keep_alive: self.keep_alive_interval,
                clean_session: self.options.clean_session,
                will: self.options.will.as_ref(),
            },
            &mut self.write_buffer,
        );
        self.state = ConnectionState::Connecting(now);
    }

    /// There will be no transport until something is changed; `error` is for [`Event::Refused`].
    pub(in crate::mqtt) fn transport_refused(&mut self, error: Error) {
        self.events.push_back(Event::Refused(error));
    }

    /// The transport is gone, or could not be opened; `outage` is for [`Event::Down`]. Returns when to try again.
    pub fn transport_lost(&mut self, outage: impl Into<Outage>, now: Instant, rng: &mut impl CryptoRng) -> Instant {
        match std::mem::replace(&mut self.state, ConnectionState::Down) {
            ConnectionState::Up { since, keep_alive } => {
                let connection = EndedConnection {
                    since,
                    ended: now,
                    answered_ping: keep_alive.was_ping_answered(),
                    attempted: self.outgoing.oldest_attempted(self.sent_bytes),
                };
                self.events.extend(self.history.connection_ended(&connection, self.options.unique_client_id));
            }
            ConnectionState::Connecting(_) => {
                self.connack_missing |= self.sent_bytes > 0;
                self.history.attempt_failed();
            }
            ConnectionState::Down | ConnectionState::Closing => self.history.attempt_failed(),
        }
        self.outgoing.connection_ended(self.sent_bytes);
        self.write_buffer.clear();
        self.subscriptions.connection_ended();
        let retry = self.history.next_delay(rng);
        self.events.push_back(Event::Down { outage: outage.into(), retry });
        now + retry
    }

    /// The transport is closed after [`disconnect`](Self::disconnect), and no other will be opened.
    pub(in crate::mqtt) fn transport_closed(&mut self) {
        self.state = ConnectionState::Down;
        self.disconnecting = true;
        self.outgoing.connection_ended(self.sent_bytes);
        self.write_buffer.clear();
        self.events.push_back(Event::Closed);
    }

    /// Whether DISCONNECT went out, or never will because there is no connection.
    pub(in crate::mqtt) fn is_disconnect_sent(&self) -> bool {
        match self.state {
            ConnectionState::Closing => self.write_buffer.is_empty(),
            ConnectionState::Down | ConnectionState::Connecting(_) => self.disconnecting,
            ConnectionState::Up { .. } => false,
        }
    }
}
