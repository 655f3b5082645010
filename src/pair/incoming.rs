//! What comes from the broker, and which part of a run takes it.

use std::time::{Duration, Instant};

use super::keeper::Keeper;
use super::run::{PairRun, Phase, Purpose};
use crate::crypto::schedule::Topics;
use crate::event_loop::BrokerEvent;
use crate::handshake::session_check::is_session_check;
use crate::handshake::{Claim, KeyExchange};
use crate::message::FrameType;
use crate::system_rng::system_rng;
use crate::{Exit, Rejected, Result};

/// How long frames are read while others wait for a key exchange or a signature, and how long one kind of those that
/// wait is answered then.
pub(super) const TIME_SLICE: Duration = Duration::from_millis(20);

impl PairRun<'_> {
    /// Takes what came in; returns the time of this turn. While frames wait for a key exchange or a signature it goes
    /// on reading for as long as it then answers: what waits in the socket, or in the broker until that drops it, may
    /// be a frame of an attempt, or one more that the same signature answers.
    pub(super) fn take_events(&mut self) -> Result<Instant> {
        let begun = self.event_loop.begin_turn();
        let mut now = begun;
        loop {
            while let Some(event) = self.event_loop.next_event()? {
                now = Instant::now();
                self.take_event(event, now)?;
                // Each answer goes out before the next signature is made: hundreds may wait.
                self.event_loop.flush(now);
            }
            let is_idle = self.key_exchanges.is_empty() && !self.handshake.has_unsigned_answers();
            if is_idle || now >= begun + TIME_SLICE {
                return Ok(begun);
            }
            self.event_loop.wait(None, Some(now), now)?;
            if !self.event_loop.is_readable() {
                return Ok(begun);
            }
            self.event_loop.begin_turn();
        }
    }

    fn take_event(&mut self, event: BrokerEvent, now: Instant) -> Result<()> {
        match event {
            BrokerEvent::Subscribed { .. } => {
                self.report.verbose(format_args!("listening on {}", self.config.subscribe));
                self.subscribed(now);
                Ok(())
            }
            BrokerEvent::Message(message) => {
                let outcome = self.take_message(&message.topic, &message.payload, now);
                self.event_loop.broker.ack(message.receipt);
                self.tolerate(outcome, now)
            }
            BrokerEvent::Oversize { receipt, .. } => {
                self.event_loop.broker.ack(receipt);
                Ok(())
            }
            BrokerEvent::TooLong(refusal) => {
                // Unlike data, a handshake message cannot be cut, so the hint to send shorter ones would be wrong.
                let hint = "pairing needs messages of this length: raise the limit of the broker";
                Err(refusal.exit_as(Exit::Unavailable).hint(hint))
            }
            BrokerEvent::Disconnected => {
                self.suspend_round();
                Ok(())
            }
            BrokerEvent::Connected | BrokerEvent::Acknowledged(_) => Ok(()),
        }
    }

    /// From now on the peer's frames come in. A subscription is also renewed after an outage, when there is nothing to
    /// begin.
    fn subscribed(&mut self, now: Instant) {
        if let Phase::Subscribing(check) = &mut self.phase {
            match check.take() {
                _ if matches!(self.purpose, Purpose::Keep(_)) => self.rest(now),
                Some(mut check) => {
                    check.start(now);
                    self.phase = Phase::Checking(check);
                }
                None => self.begin_handshake(now),
            }
        }
    }

    fn take_message(&mut self, topic: &str, payload: &[u8], now: Instant) -> Result<()> {
        let Some(topics) = self.sessions.peers.route.topics(topic) else {
            self.tell_other_topic(topic, now);
            return Ok(());
        };
        if FrameType::is_of_later_version(payload) {
            self.tell_claim(&Claim::LaterVersion, now);
            return Ok(());
        }
        if is_session_check(payload) {
            return self.take_session_check(&topics, payload, now);
        }
        if let Ok(FrameType::Enc | FrameType::Kill) = FrameType::of(payload) {
            return self.take_proof(payload);
        }
        match self.handshake.key_exchange(&topics, payload) {
            Ok(Some(kind)) => self.key_exchanges.of(kind).push(topics, payload, &mut rand::rng()),
            Ok(None) => self.accept(&topics, payload, now)?,
            Err(rejected) => self.tell_dropped(payload, rejected),
        }
        Ok(())
    }

    fn tell_dropped(&self, payload: &[u8], rejected: Rejected) {
        let name = FrameType::of(payload).map_or("a message", FrameType::name);
        self.report.verbose(format_args!("dropped {name}: {rejected}"));
    }

    /// Answers frames that wait for a key exchange: those of each kind for a while, as long as there is room for the
    /// answers.
    pub(super) fn exchange_keys(&mut self) -> Result<()> {
        for kind in [KeyExchange::InitReq, KeyExchange::AuthReq] {
            let begun = Instant::now();
            let mut now = begun;
            while now < begun + TIME_SLICE
                && self.has_room_for_strangers()
                && let Some((topics, frame)) = self.key_exchanges.of(kind).pop(&mut rand::rng())
            {
                let outcome = self.accept(&topics, &frame, now);
                self.tolerate(outcome, now)?;
                now = Instant::now();
            }
        }
        Ok(())
    }

    /// What ends one pairing ends a run that is for one; the other pairings of a service go on.
    pub(super) fn tolerate(&mut self, outcome: Result<()>, now: Instant) -> Result<()> {
        match (&mut self.purpose, outcome) {
            (Purpose::Serve(service), Err(error)) => {
                service.report_error(&error, self.report, now);
                Ok(())
            }
            (Purpose::Keep(_), Err(error)) => {
                self.rest_after_error(&error, now);
                Ok(())
            }
            (_, outcome) => outcome,
        }
    }

    /// Hands a frame to the handshake.
    fn accept(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        if let Ok(FrameType::AuthReq | FrameType::RdyReq) = FrameType::of(payload) {
            // Before a session is agreed, and before it is stored: a peer that was forgotten meanwhile gets none.
            self.refresh_peers(now)?;
        }
        match self.handshake.accept(topics, payload, now, &mut system_rng()) {
            Ok(action) => self.perform(action, topics, now),
            Err(rejected) => {
                self.tell_dropped(payload, rejected);
                Ok(())
            }
        }
    }

    /// Reads `known_peers` again if it changed. If it cannot be read, a service continues with the peers that it had.
    pub(super) fn refresh_peers(&mut self, now: Instant) -> Result<()> {
        match (self.sessions.refresh_peers(), &mut self.purpose) {
            (Ok(true), _) => self.limit_peers(now),
            (Ok(false), _) => {}
            (Err(error), Purpose::Serve(service) | Purpose::Keep(Keeper { service, .. })) => {
                service.report_error(&error, self.report, now);
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }
}
