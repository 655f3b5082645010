//! Handles each packet from the broker.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::broker_limits::BrokerLimits;
use super::incoming_publishes::IncomingPublish;
use super::keep_alive::KeepAlive;
use super::{ClientSession, ConnectionState, MAX_ANSWERS, MAX_WRITE_BUFFER, SessionDoubt, refusal};
use crate::mqtt::codec::{Capabilities, ConnAck, Packet, Reason, ReasonClass};
use crate::mqtt::{ConnectionLost, Event, Message, Receipt, Refused, foreign_protocol};
use crate::text::escape;

impl ClientSession {
    /// Takes the packets off the front of `bytes`; part of one stays there for more to come.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the bytes are not what a broker sends, or the broker refused the connection.
    pub fn bytes_received(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<(), ConnectionLost> {
        if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
            keep_alive.bytes_received(now);
        }
        let result = self.receive(bytes, now).and_then(|()| self.check_answers());
        self.await_ack(now);
        if result.is_err() {
            self.history.gave_up();
        }
        result
    }

    /// Each packet may need an answer, so a broker that sends without reading would fill the memory with them.
    fn check_answers(&self) -> Result<(), ConnectionLost> {
        let published = MAX_WRITE_BUFFER + self.options.limits.max_send + self.outgoing.last_topic_len();
        if self.wire.unsent().len() <= published + MAX_ANSWERS {
            return Ok(());
        }
        Err(ConnectionLost::new("the broker does not read the answers to what it sends"))
    }

    fn receive(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<(), ConnectionLost> {
        if matches!(self.state, ConnectionState::Connecting { .. })
            && let Some(lost) = foreign_protocol::recognize(bytes)
        {
            return Err(lost);
        }
        while let Some(packet) = self.wire.receive(bytes)? {
            match (&self.state, packet) {
                (ConnectionState::Connecting { .. }, Packet::ConnAck(connack)) => {
                    self.connack(&connack, now)?;
                }
                (ConnectionState::Up { .. }, packet) => self.handle(packet, now)?,
                (ConnectionState::Connecting { .. }, Packet::Auth) => return Err(self.auth_wanted()),
                (ConnectionState::Connecting { .. }, _) => {
                    return Err(ConnectionLost::malformed("a packet before CONNACK"));
                }
                (ConnectionState::Down(_) | ConnectionState::Closing, _) => {}
            }
        }
        Ok(())
    }

    fn connack(&mut self, connack: &ConnAck, now: Instant) -> Result<(), ConnectionLost> {
        let ConnAck { session_present, reason, capabilities } = connack;
        if reason.class() != ReasonClass::Success {
            return Err(self.connection_refused(reason, capabilities));
        }
        // MQTT 3.1 cannot say whether there is a session. There is none after a clean start; otherwise there may be one
        // or not, and what follows must be right for both: everything is subscribed to and sent again, and at QoS 2 a
        // message may arrive twice rather than never.
        let certainly_lost = self.options.clean_session || *session_present == Some(false);
        let in_doubt = matches!(self.state, ConnectionState::Connecting { doubt: SessionDoubt::ConnAckMissing, .. });
        let session_present = *session_present == Some(true) && !in_doubt;
        if !session_present {
            self.outgoing.session_lost(certainly_lost);
            self.incoming.session_lost();
            self.subscriptions.session_lost();
        }
        self.take_capabilities(capabilities);
        let interval = self.ping_interval(capabilities);
        let mut keep_alive = KeepAlive::new(Duration::from_secs(interval.into()), now);
        keep_alive.pause(self.is_paused(), now);
        self.state = ConnectionState::Up { since: now, keep_alive, renewing: false };
        self.history.connection_accepted();
        self.events.push_back(Event::Up { session_present });
        self.send_subscribes(now);
        if self.history.suspects_oldest() {
            // Before PUBLISH, which waits for the answer: if the connection falls then, it was the message. In one
            // flight with it the answer would often be lost, as a reset discards what was not read yet.
            self.send_ping(now);
        }
        self.fill_write_buffer();
        Ok(())
    }

    /// The broker does not accept the connection. That is final if another attempt would be refused as well.
    fn connection_refused(&mut self, reason: &Reason, capabilities: &Capabilities) -> ConnectionLost {
        let options = &self.options;
        let error = refusal::connection(reason, options.version, &options.client_id, options.login.is_some());
        let lost = ConnectionLost::new(error.to_string()).hint_if(error.hint_text());
        let limits = self.outgoing.broker_limits();
        let lowers_will =
            options.will.as_ref().is_some_and(|will| limits.lower_for_will(will, reason.code, capabilities));
        if reason.class() == ReasonClass::Refusal && !reason.is_unexplained() && !lowers_will {
            self.events.push_back(Refused::Connection.because(error));
        }
        lost
    }

    /// Seconds without a packet before PINGREQ; 0 for none. A broker may want it sooner than the user. One that lets us
    /// wait longer, or sets 0, does not keep the user from hearing of a dead connection in time.
    fn ping_interval(&self, capabilities: &Capabilities) -> u16 {
        let asked_for = self.options.keep_alive_seconds();
        let intervals = [Some(asked_for), capabilities.keep_alive].into_iter().flatten();
        intervals.filter(|seconds| *seconds > 0).min().unwrap_or(0)
    }

    /// Keeps to what the broker bears, and to what it chose.
    fn take_capabilities(&mut self, capabilities: &Capabilities) {
        self.events.extend(self.notices.changes(capabilities, &self.options));
        self.outgoing.connection_accepted(BrokerLimits::new(capabilities));
        // It may choose one only where CONNECT had none (MQTT 5, 3.2.2.3.7).
        let chosen = capabilities.client_id.as_ref().filter(|_| self.options.client_id.is_empty());
        if let Some(client_id) = chosen {
            self.events.push_back(Event::Note(format!("the broker chose the client id {}", escape(client_id))));
            self.options.client_id.clone_from(client_id);
        }
    }

    fn handle(&mut self, packet: Packet, now: Instant) -> Result<(), ConnectionLost> {
        match packet {
            Packet::Publish { topic, payload, qos, retain, dup, pkid } => {
                self.history.message_received();
                let publish = self.incoming.publish(qos, pkid);
                self.handle_publish(publish, |receipt| {
                    Event::Message(Message { topic, payload, qos, retain, dup, receipt })
                });
            }
            Packet::Oversize { topic, qos, pkid, len } => {
                let publish = self.incoming.publish(qos, pkid);
                self.handle_publish(publish, |receipt| Event::Oversize { topic, len, receipt });
            }
            Packet::PubAck { pkid, reason } => self.puback(pkid, &reason, now),
            Packet::PubRec { pkid, reason } => self.pubrec(pkid, &reason, now),
            Packet::PubComp(pkid) => self.pubcomp(pkid),
            Packet::PubRel(pkid) => {
                let answer = self.incoming.pubrel(pkid);
                self.wire.send(answer);
            }
            Packet::SubAck { pkid, granted } => self.events.extend(self.subscriptions.suback(pkid, &granted, now)?),
            Packet::PingResp => {
                if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
                    keep_alive.ping_answered(now);
                }
                self.history.ping_answered();
                self.fill_write_buffer();
            }
            Packet::UnsubAck { .. } => {}
            Packet::ConnAck(_) => return Err(ConnectionLost::malformed("a second CONNACK")),
            Packet::Auth => return Err(self.auth_wanted()),
            Packet::Disconnect(reason) => return Err(self.disconnected(&reason, now)),
        }
        Ok(())
    }

    fn handle_publish(&mut self, publish: IncomingPublish, event: impl FnOnce(Receipt) -> Event) {
        match publish {
            IncomingPublish::New(receipt) => self.events.push_back(event(receipt)),
            IncomingPublish::AcknowledgedRepeat(request) => self.send_answer(request),
            IncomingPublish::PendingRepeat => {}
        }
    }

    /// The broker ends the connection, and says why. Where a subscription is pending, that counts as the answer to it: if it was
    /// for a message instead, the next connection shows that, as nothing is subscribed there for a while.
    fn disconnected(&mut self, reason: &Reason, now: Instant) -> ConnectionLost {
        match self.subscriptions.disconnected(reason, now) {
            Some((lost, event)) => {
                self.events.extend(event);
                lost
            }
            None => self.disconnected_at_publish(reason, now),
        }
    }

    /// The broker asks for an authentication that this program does not have.
    fn auth_wanted(&mut self) -> ConnectionLost {
        let error = refusal::auth_wanted();
        let lost = ConnectionLost::new(error.to_string());
        self.events.push_back(Refused::Connection.because(error));
        lost
    }
}
