//! What comes from the broker, and which part of a run takes it.

use std::time::{Duration, Instant};

use super::run::{PairRun, Phase, Purpose};
use crate::Result;
use crate::crypto::schedule::Topics;
use crate::event_loop::BrokerEvent;
use crate::handshake::session_check::is_session_check;
use crate::message::FrameType;
use crate::text::escape;

/// How long INITREQs are answered before anything else is looked at again.
const ANSWER_INTERVAL: Duration = Duration::from_millis(20);

impl PairRun<'_> {
    /// Takes what came in; returns the time of this turn. While INITREQs wait for their answer it goes on reading for as long
    /// as it then answers: what waits in the socket, or in the broker until that drops it, may be a frame of an attempt.
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
            if self.init_reqs.is_empty() || now >= begun + ANSWER_INTERVAL {
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
                match (&mut self.purpose, outcome) {
                    // The other pairings of a service go on.
                    (Purpose::Serve(service), Err(error)) => service.report_error(&error, self.report, now),
                    (_, outcome) => outcome?,
                }
                Ok(())
            }
            BrokerEvent::Oversize { receipt, .. } => {
                self.event_loop.broker.ack(receipt);
                Ok(())
            }
            BrokerEvent::Connected | BrokerEvent::Disconnected | BrokerEvent::Acknowledged(_) => Ok(()),
        }
    }

    /// From now on the peer's frames come in. A subscription is also renewed after an outage, when there is nothing to begin.
    fn subscribed(&mut self, now: Instant) {
        if let Phase::Subscribing(check) = &mut self.phase {
            match check.take() {
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
            self.report.verbose(format_args!("dropped a message on a topic of another link: {}", escape(topic)));
            return Ok(());
        };
        if is_session_check(payload) {
            return self.take_session_check(&topics, payload, now);
        }
        match FrameType::of(payload) {
            Ok(FrameType::Enc | FrameType::Kill) => self.take_proof(payload),
            Ok(frame_type) if self.handshake.is_costly(frame_type) => {
                self.init_reqs.push(topics, payload, &mut rand::rng());
                Ok(())
            }
            Ok(FrameType::AuthReq | FrameType::RdyReq) => {
                // Before a session is agreed, and before it is stored: a peer that was forgotten meanwhile gets none.
                self.refresh_peers(now)?;
                self.accept(&topics, payload, now)
            }
            _ => self.accept(&topics, payload, now),
        }
    }

    /// Answers INITREQs for a while, as long as there is room for the answers.
    pub(super) fn answer_init_reqs(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < ANSWER_INTERVAL
            && self.has_room_for_init_acks()
            && let Some((topics, frame)) = self.init_reqs.pop(&mut rand::rng())
        {
            self.accept(&topics, &frame, Instant::now())?;
        }
        Ok(())
    }

    /// Hands a frame to the handshake.
    fn accept(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        match self.handshake.accept(topics, payload, now, &mut rand::rng()) {
            Ok(action) => self.perform(action, topics, now),
            Err(rejected) => {
                let name = FrameType::of(payload).map_or("a message", FrameType::name);
                self.report.verbose(format_args!("dropped {name}: {rejected}"));
                Ok(())
            }
        }
    }

    /// Reads `known_peers` again if it changed. If it cannot be read, a service continues with the peers that it had.
    pub(super) fn refresh_peers(&mut self, now: Instant) -> Result<()> {
        match (self.sessions.refresh_peers(), &mut self.purpose) {
            (Ok(true), _) => self.handshake.set_peers(self.sessions.accepted().to_vec()),
            (Ok(false), _) => {}
            (Err(error), Purpose::Serve(service)) => service.report_error(&error, self.report, now),
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }
}
