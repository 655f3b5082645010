//! What comes from the broker, and to whom of this run it is handed.

use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use super::{Machine, RESERVED, Run};
use crate::crypto::schedule::Topics;
use crate::event_loop::{self, Trouble};
use crate::handshake::{Handshake, session_check};
use crate::message::Type;
use crate::mqtt::Event;
use crate::role::Role;
use crate::text::escape;
use crate::{Rejected, Result};

/// How long INITREQs are answered before anything else is looked at again.
const ANSWERING: Duration = Duration::from_millis(20);

impl Run<'_> {
    /// Takes what came. While INITREQs wait for their answer it goes on reading for as long as it then answers: what waits in
    /// the socket, or in the broker until that drops it, may be a frame of an attempt.
    pub(super) fn take_events(&mut self, begun: Instant) -> Result<()> {
        let mut now = begun;
        loop {
            self.client.drive(now, self.ready);
            while let Some(event) = self.client.next_event() {
                now = Instant::now();
                self.take_event(event, now)?;
                // Each answer goes out before the next signature is made: hundreds may wait.
                self.client.drive(now, PollFlags::empty());
            }
            self.ready = PollFlags::empty();
            if self.asked.is_empty() || now >= begun + ANSWERING {
                return Ok(());
            }
            self.ready = event_loop::wait(&self.client, &self.signals, None, Some(now), now)?;
            if !self.ready.contains(PollFlags::IN) {
                return Ok(());
            }
        }
    }

    fn take_event(&mut self, event: Event, now: Instant) -> Result<()> {
        match event {
            Event::Subscribed { .. } => {
                self.report.verbose(format_args!("listening on {}", self.config.subscribe));
                if let Some(asking) = &mut self.asking {
                    asking.start(now);
                }
                self.start(now);
            }
            Event::Message(message) => {
                let outcome = self.take(&message.topic, &message.payload, now);
                self.client.ack(message.receipt);
                match (&mut self.service, outcome) {
                    (Some(service), Err(error)) => service.complain(&error, self.report, now),
                    (_, outcome) => outcome?,
                }
            }
            Event::Oversize { receipt, .. } => self.client.ack(receipt),
            Event::Up { .. } => self.trouble.up(self.report),
            Event::Down { why, .. } => self.trouble.down(&why, self.report),
            Event::Refused(error) => return Err(error),
            Event::Contested { times } => Trouble::contested(times, self.report),
            Event::Acknowledged(_) | Event::Closed => {}
        }
        Ok(())
    }

    /// Begins the handshake. A slave does so while it still asks, and answers a master that wants a new session; a master
    /// that asks has nothing to say in it.
    pub(super) fn start(&mut self, now: Instant) {
        let asks = self.asking.is_some() && self.ends.role == Role::Master;
        if let Machine::Waiting(party) = &mut self.machine
            && !asks
            && let Some(party) = party.take()
        {
            self.machine = match (self.ends.role, self.ends.route.topics(self.ends.route.filter())) {
                (Role::Master, Some(topics)) => Machine::Running(Handshake::master(party, topics, now)),
                _ => Machine::Running(Handshake::slave(party, now, &mut self.rng)),
            };
            if let Machine::Running(handshake) = &mut self.machine {
                handshake.begin(now, &mut self.rng);
            }
        }
    }

    fn take(&mut self, topic: &str, payload: &[u8], now: Instant) -> Result<()> {
        let kind = Type::of(payload);
        let Some(topics) = self.ends.route.topics(topic) else {
            self.report.verbose(format_args!("dropped a message on a topic of another link: {}", escape(topic)));
            return Ok(());
        };
        if session_check::is_session_check(payload) {
            return self.take_presence(&topics, payload, now);
        }
        // Before a session is agreed, and before it is stored: whoever was forgotten meanwhile gets none.
        // Who has the code is let in by it, and pinned when its session is stored.
        if matches!(kind, Ok(Type::AuthReq | Type::RdyReq))
            && self.has_new_peers(now)?
            && let Machine::Running(handshake) = &mut self.machine
        {
            handshake.set_peers(self.ends.still_accepted().to_vec());
        }
        match (kind, &self.machine) {
            (Ok(Type::Enc | Type::Kill), _) => self.take_proof(payload),
            (Ok(kind), Machine::Running(handshake)) if handshake.is_costly(kind) => {
                self.asked.push(topics, payload, &mut self.rng);
                Ok(())
            }
            _ => self.accept(&topics, payload, now),
        }
    }

    /// Answers INITREQs for a while, as far as there is room for the answers.
    pub(super) fn answer_asked(&mut self) -> Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < ANSWERING
            && self.client.has_room(RESERVED)
            && let Some((topics, frame)) = self.asked.pop(&mut self.rng)
        {
            self.accept(&topics, &frame, Instant::now())?;
        }
        Ok(())
    }

    fn accept(&mut self, topics: &Topics, payload: &[u8], now: Instant) -> Result<()> {
        let outcome = match &mut self.machine {
            Machine::Waiting(_) => Err(Rejected::Unexpected),
            Machine::Running(handshake) => handshake.accept(topics, payload, now, &mut self.rng),
        };
        match outcome {
            Ok(action) => self.act(action, topics, now),
            Err(rejected) => {
                let what = Type::of(payload).map_or("a message", Type::name);
                self.report.verbose(format_args!("dropped {what}: {rejected}"));
                Ok(())
            }
        }
    }

    /// Whether `known_peers` was changed; one that cannot be read leaves a service with those it had.
    fn has_new_peers(&mut self, now: Instant) -> Result<bool> {
        match (self.ends.refresh(), &mut self.service) {
            (Err(error), Some(service)) => {
                service.complain(&error, self.report, now);
                Ok(false)
            }
            (outcome, _) => outcome,
        }
    }
}
