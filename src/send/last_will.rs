//! The will of a run (`--will`): what the broker publishes if a connection ends without DISCONNECT.
//!
//! The broker gets it with CONNECT, and keeps it as it is until the connection ends. Each connection gets one of its own, so that
//! the receiver takes each once. It is of the stream that messages are sealed in: once that is over, it would say nothing. So a
//! run that enters another stream connects anew. And while nothing was sent, nobody else looks whether there is a new session.

use std::time::{Duration, Instant};

use rand::rngs::ThreadRng;

use super::outgoing::{OutgoingStream, WillMessage, WillOf};
use crate::Result;
use crate::mqtt::{Client, Qos, Will};

/// How often it is looked whether there is a new session.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What the broker has, and what it gets with the next connection.
pub(super) struct LastWill {
    text: Option<String>,
    qos: Qos,
    /// How many wills were made.
    count: u32,
    /// What the will is of that the next connection leaves, if there is one that was not used.
    next: Option<WillOf>,
    connection: WillState,
    check_at: Option<Instant>,
}

enum WillState {
    /// The next one may have begun, with the will that there was then.
    Unknown,
    /// Nothing has begun: the next one has the will that is set now.
    None,
    /// It left a will of this, or none, as nothing could be decided yet.
    Open(Option<WillOf>),
}

impl LastWill {
    pub(super) fn new(text: Option<String>, qos: Qos) -> Self {
        Self { text, qos, count: 0, next: None, connection: WillState::None, check_at: None }
    }

    /// Has the broker get a will of the stream that there is now: with the next connection, and that is at once where the one that
    /// there is left another.
    pub(super) fn follow(
        &mut self,
        stream: &mut dyn OutgoingStream,
        broker: &mut Client,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<()> {
        let Some(text) = &self.text else { return Ok(()) };
        self.check_at = Some(now + CHECK_INTERVAL);
        let Some(of) = stream.will_of(now)? else { return Ok(()) };
        if self.next != Some(of) {
            let WillMessage { topic, payload, retain } = stream.will(text, self.count, rng)?;
            broker.set_will(Some(Will { topic, payload, qos: self.qos, retain }))?;
            self.count += 1;
            if self.next.replace(of).is_some() && matches!(self.connection, WillState::None) {
                self.connection = WillState::Unknown;
            }
        }
        if let WillState::Open(left) = self.connection
            && left != Some(of)
        {
            self.connection = WillState::Unknown;
            broker.renew();
        }
        Ok(())
    }

    /// The broker accepted a connection, and so the will. If that may not be the last one that was set, it is left again.
    pub(super) fn connected(&mut self, broker: &mut Client) {
        match (&self.connection, self.next.take()) {
            (WillState::None, left) => self.connection = WillState::Open(left),
            (_, None) => {}
            (WillState::Unknown | WillState::Open(_), Some(_)) => broker.renew(),
        }
    }

    /// The connection is gone, or could not be made; it may have used the will.
    pub(super) fn disconnected(&mut self) {
        (self.next, self.connection) = (None, WillState::None);
    }

    /// When to [`LastWill::follow`] again, if nothing happens before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.check_at
    }
}
