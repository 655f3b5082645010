//! From one stream to the next: what has to be said between them, and in which order.

use std::time::Instant;

use bytes::Bytes;
use rand::CryptoRng;

use super::{Sealing, UNCONFIRMED};
use crate::Result;
use crate::session::Session;
use crate::stream::{Before, Sender, Window};

/// What [`Sealing::step`] did.
pub(in crate::send) enum Step {
    /// This is to be sent where the stream's session has had its topics until now.
    Send(Bytes),
    /// Nothing: there is something to wait for.
    Wait,
}

/// On the way to another stream.
pub(super) enum Next {
    /// The old stream is to say where it goes on; one that asks for confirms, once all is confirmed.
    Wanted,
    /// It has said so, and asks for confirms: once that is confirmed, too, it goes on there. So the receiver never has to
    /// hold one of them back.
    Announced(Box<(Sender, Session)>),
    /// It has said so; what goes on there is to say where it comes from.
    Begun(Before),
}

impl Sealing {
    /// What is to be sent besides new data: what was not confirmed, or the way to another stream.
    ///
    /// # Errors
    /// As [`Sealing::open`]; [`Exit::Failed`] where the session file cannot be written.
    pub(in crate::send) fn step(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Step> {
        if let Some(confirms) = &mut self.confirms {
            if let Some(again) = confirms.window.poll(now) {
                return Ok(Step::Send(again));
            }
            if confirms.window.unconfirmed().0 > 0 {
                return Ok(Step::Wait);
            }
        }
        match self.next.take() {
            None => Ok(Step::Wait),
            Some(Next::Wanted) => {
                let session = self.current()?;
                let next = self.take(&session, rng)?;
                let (old, _) = self.stream.as_mut().expect("there is a stream to come from");
                let continued = old.continued(&next, rng)?;
                let before = old.before();
                let next = Box::new((next, session));
                if let Some(confirms) = &mut self.confirms {
                    confirms.window.push(continued.clone(), now);
                    self.next = Some(Next::Announced(next));
                } else {
                    self.go_on(*next);
                    self.next = Some(Next::Begun(before));
                }
                Ok(Step::Send(continued))
            }
            Some(Next::Announced(next)) => {
                let first = next.0.next_seq();
                let old = self.go_on(*next);
                let settled = old.map(|(old, _)| old.settled(rng)).transpose()?;
                if let Some(confirms) = &mut self.confirms {
                    confirms.window = Window::new(first, UNCONFIRMED, now);
                }
                Ok(settled.map_or(Step::Wait, Step::Send))
            }
            Some(Next::Begun(before)) => self.begin_after(&before, rng).map(Step::Send),
        }
    }

    /// Goes on in another stream; returns the one before it.
    pub(super) fn go_on(&mut self, next: (Sender, Session)) -> Option<(Sender, Session)> {
        self.topics = next.1.topics.clone();
        self.stream.replace(next)
    }

    /// The first message of a stream that goes on from another.
    pub(super) fn begin_after(&mut self, before: &Before, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let (sender, _) = self.stream.as_mut().expect("it was begun");
        sender.continues(before, rng)
    }

    /// The last word of a stream that this run closed, once all is confirmed: whoever waits to confirm it again may go.
    ///
    /// # Errors
    /// As [`Sender::settled`].
    pub(in crate::send) fn settle(&mut self, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        let closed = self.stream.take().filter(|(sender, _)| sender.is_closed());
        closed.map(|(sender, _)| sender.settled(rng)).transpose()
    }
}
