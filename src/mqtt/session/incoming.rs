//! What each packet from the broker does to the session.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::{ANSWERS, ClientSession, ConnectionLost, HIGH_WATER, State};
use crate::mqtt::codec::{ConnectRefusal, Packet, Request};
use crate::mqtt::inbound::Arrival;
use crate::mqtt::pulse::Pulse;
use crate::mqtt::{Event, Message, Receipt, Token, refusal};

type Result<T> = std::result::Result<T, ConnectionLost>;

impl ClientSession {
    /// Takes the packets off the front of `bytes`; part of one stays there for more to come.
    ///
    /// # Errors
    /// [`ConnectionLost`] when the bytes are not what a broker sends, or the broker refused the connection.
    pub fn received(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<()> {
        if let State::Up { pulse, .. } = &mut self.state {
            pulse.heard(now);
        }
        let result = self.receive(bytes, now).and_then(|()| self.check_answers());
        if result.is_err() {
            self.history.gave_up();
        }
        result
    }

    /// Each packet may call for an answer: a broker that sends on and reads none would fill the memory with them.
    fn check_answers(&self) -> Result<()> {
        let published = HIGH_WATER + self.options.max_send + self.topic.as_ref().map_or(0, |topic| topic.len());
        if self.outgoing.len() <= published + ANSWERS {
            return Ok(());
        }
        Err(ConnectionLost::new("the broker sends and does not read"))
    }

    fn receive(&mut self, bytes: &mut BytesMut, now: Instant) -> Result<()> {
        while let Some(packet) = self.codec.decode(bytes)? {
            match (&self.state, packet) {
                (State::Connecting(_), Packet::ConnAck { session_present, refused }) => {
                    self.connack(session_present, refused, now)?;
                }
                (State::Up { .. }, packet) => self.packet(packet)?,
                (State::Connecting(_), _) => return Err(ConnectionLost::malformed("no CONNACK before other packets")),
                (State::Down | State::Closing, _) => {}
            }
        }
        Ok(())
    }

    fn connack(&mut self, session_present: bool, refused: Option<ConnectRefusal>, now: Instant) -> Result<()> {
        if let Some(refused) = refused {
            let options = &self.options;
            let error = refusal::connection(refused, options.version, &options.client_id, options.login.is_some());
            let lost = ConnectionLost::new(error.to_string());
            if refused != ConnectRefusal::Unavailable {
                self.events.push_back(Event::Refused(error));
            }
            return Err(lost);
        }
        let forgotten = !session_present;
        let in_doubt = std::mem::take(&mut self.unanswered);
        let session_present = session_present && !in_doubt;
        if !session_present {
            self.outbound.forgotten(forgotten);
            self.inbound.forgotten();
            self.subscriptions.forgotten();
        }
        let mut pulse = Pulse::new(Duration::from_secs(self.keep_alive.into()), now);
        pulse.pause(self.paused, now);
        self.state = State::Up { since: now, pulse };
        self.events.push_back(Event::Up { session_present });
        self.ask_for_subscriptions(now);
        self.pump();
        Ok(())
    }

    fn packet(&mut self, packet: Packet) -> Result<()> {
        match packet {
            Packet::Publish { topic, payload, qos, retain, dup, pkid } => {
                self.history.heard();
                let arrival = self.inbound.publish(qos, pkid);
                self.arrived(arrival, |receipt| Event::Message(Message { topic, payload, qos, retain, dup, receipt }));
            }
            Packet::Oversize { topic, qos, pkid, len } => {
                let arrival = self.inbound.publish(qos, pkid);
                self.arrived(arrival, |receipt| Event::Oversize { topic, len, receipt });
            }
            Packet::PubAck(pkid) => {
                let token = self.outbound.puback(pkid, self.sent);
                self.acknowledged(token);
            }
            Packet::PubRec(pkid) => {
                let start = self.outgoing.len();
                self.codec.encode(Request::PubRel(pkid), &mut self.outgoing);
                let release = self.sent + start as u64..self.sent + self.outgoing.len() as u64;
                if !self.outbound.pubrec(pkid, self.sent, release) {
                    self.outgoing.truncate(start);
                }
            }
            Packet::PubComp(pkid) => {
                let token = self.outbound.pubcomp(pkid, self.sent);
                self.acknowledged(token);
            }
            Packet::PubRel(pkid) => {
                let answer = self.inbound.pubrel(pkid);
                self.codec.encode(answer, &mut self.outgoing);
            }
            Packet::SubAck { pkid, granted } => self.events.extend(self.subscriptions.answered(pkid, &granted)?),
            Packet::PingResp => {
                if let State::Up { pulse, .. } = &mut self.state {
                    pulse.answered();
                }
            }
            Packet::UnsubAck(_) => {}
            Packet::ConnAck { .. } => return Err(ConnectionLost::malformed("a second CONNACK")),
            Packet::Disconnect => return Err(ConnectionLost::new("the broker sent DISCONNECT")),
        }
        Ok(())
    }

    fn arrived(&mut self, arrival: Arrival, event: impl FnOnce(Receipt) -> Event) {
        match arrival {
            Arrival::Deliver(receipt) => self.events.push_back(event(receipt)),
            Arrival::Answer(request) => self.codec.encode(request, &mut self.outgoing),
            Arrival::Ignore => {}
        }
    }

    fn acknowledged(&mut self, token: Option<Token>) {
        if let Some(token) = token {
            self.events.push_back(Event::Acked(token));
            self.history.acked();
            // What went alone, or was one of as many as the broker takes, makes room for the next.
            self.pump();
        }
    }
}
