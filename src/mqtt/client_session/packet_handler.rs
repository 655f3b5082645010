//! Handles each packet from the broker.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::incoming_publishes::IncomingPublish;
use super::keep_alive::KeepAlive;
use super::{ClientSession, ConnectionState, MAX_ANSWERS, MAX_WRITE_BUFFER, refusal};
use crate::mqtt::codec::{Packet, Reason, ReasonClass, Request};
use crate::mqtt::{ConnectionLost, Event, Message, Receipt, Token, foreign_protocol};

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
        let published =
            MAX_WRITE_BUFFER + self.options.max_send + self.last_topic.as_ref().map_or(0, |topic| topic.len());
        if self.write_buffer.len() <= published + MAX_ANSWERS {
            return Ok(());
        }
        Err(ConnectionLost::new("the broker does not read the answers to what it sends"))
    }

    fn receive(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<(), ConnectionLost> {
        if matches!(self.state, ConnectionState::Connecting(_))
            && let Some(lost) = foreign_protocol::recognize(bytes)
        {
            return Err(lost);
        }
        while let Some(packet) = self.codec.decode(bytes)? {
            match (&self.state, packet) {
                (ConnectionState::Connecting(_), Packet::ConnAck { session_present, reason }) => {
                    self.connack(session_present, &reason, now)?;
                }
                (ConnectionState::Up { .. }, packet) => self.handle(packet, now)?,
                (ConnectionState::Connecting(_), _) => {
                    return Err(ConnectionLost::malformed("a packet before CONNACK"));
                }
                (ConnectionState::Down | ConnectionState::Closing, _) => {}
            }
        }
        Ok(())
    }

    fn connack(&mut self, session_present: bool, reason: &Reason, now: Instant) -> Result<(), ConnectionLost> {
        if reason.class() != ReasonClass::Success {
            let options = &self.options;
            let error = refusal::connection(reason, options.version, &options.client_id, options.login.is_some());
            let lost = ConnectionLost::new(error.to_string());
            if reason.class() == ReasonClass::Refusal {
                self.events.push_back(Event::Refused(error));
            }
            return Err(lost);
        }
        let certainly_lost = !session_present;
        let in_doubt = std::mem::take(&mut self.connack_missing);
        let session_present = session_present && !in_doubt;
        if !session_present {
            self.outgoing.session_lost(certainly_lost);
            self.incoming.session_lost();
            self.subscriptions.session_lost();
        }
        let mut keep_alive = KeepAlive::new(Duration::from_secs(self.keep_alive_interval.into()), now);
        keep_alive.pause(self.paused, now);
        self.state = ConnectionState::Up { since: now, keep_alive };
        self.history.connection_accepted();
        self.events.push_back(Event::Up { session_present });
        self.send_subscribes(now);
        if self.history.suspects_oldest() {
            // Before PUBLISH, which waits for the answer: if the connection falls then, it was the message. In one flight with
            // it the answer would often be lost, as a reset discards what was not read yet.
            self.send_ping(now);
        }
        self.fill_write_buffer();
        Ok(())
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
            Packet::PubAck { pkid, .. } => {
                if let Some(acked) = self.outgoing.puback(pkid, self.sent_bytes) {
                    self.events.extend(acked.is_first_at_lower_qos.then(|| Event::Warning(refusal::lower_qos())));
                    self.acknowledged(Some(acked.token));
                }
            }
            Packet::PubRec { pkid, .. } => {
                let start = self.write_buffer.len();
                self.codec.encode(Request::PubRel(pkid), &mut self.write_buffer);
                let release = self.sent_bytes + start as u64..self.sent_bytes + self.write_buffer.len() as u64;
                if !self.outgoing.pubrec(pkid, self.sent_bytes, release) {
                    self.write_buffer.truncate(start);
                }
            }
            Packet::PubComp(pkid) => {
                let token = self.outgoing.pubcomp(pkid, self.sent_bytes);
                self.acknowledged(token);
            }
            Packet::PubRel(pkid) => {
                let answer = self.incoming.pubrel(pkid);
                self.codec.encode(answer, &mut self.write_buffer);
            }
            Packet::SubAck { pkid, granted } => self.events.extend(self.subscriptions.suback(pkid, &granted, now)?),
            Packet::PingResp => {
                if let ConnectionState::Up { keep_alive, .. } = &mut self.state {
                    keep_alive.ping_answered(now);
                }
                self.fill_write_buffer();
            }
            Packet::UnsubAck { .. } => {}
            Packet::ConnAck { .. } => return Err(ConnectionLost::malformed("a second CONNACK")),
            Packet::Disconnect(reason) => {
                return Err(ConnectionLost::new(format!("the broker ended the connection: {reason}")));
            }
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

    fn acknowledged(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.events.push_back(Event::Acknowledged(token));
            self.history.message_acknowledged();
            // The next message may have waited for this one: because it is under suspicion, or because of the limit at
            // QoS 2.
            self.fill_write_buffer();
        }
    }
}
