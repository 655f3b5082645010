//! From one stream to the next: what has to be said between them, and in which order.

use std::time::Instant;

use bytes::Bytes;
use rand::CryptoRng;

use super::{Sealing, UNCONFIRMED};
use crate::Result;
use crate::session::Session;
use crate::stream::{Predecessor, RetransmitQueue, Sender};

/// On the way to another stream.
pub(super) enum Next {
    /// The old stream is to say where it goes on; one that asks for confirms, once all is confirmed.
    Wanted,
    /// It has said so, and goes on there; one that asks for confirms only once that is confirmed, too, so that the receiver
    /// never has to hold any of it back.
    Announced(Box<(Sender, Session)>),
}

impl Sealing {
    /// What is to be sent besides new data, if there is anything: what was not confirmed, or the way to another stream.
    ///
    /// # Errors
    /// As [`Sealing::open`]; [`crate::Exit::Failed`] where the session file cannot be written.
    pub(in crate::send) fn step(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        if let Some(confirms) = &mut self.confirms {
            if let Some(again) = confirms.window.poll(now) {
                return Ok(Some(again));
            }
            if confirms.window.unconfirmed().0 > 0 {
                return Ok(None);
            }
        }
        match self.next.take() {
            None => Ok(None),
            Some(Next::Wanted) => {
                let session = self.current()?;
                let next = self.take(&session, rng)?;
                let (old, _) = self.stream.as_mut().expect("there is a stream to come from");
                let continued = old.continued_in(next.id(), rng)?;
                if let Some(confirms) = &mut self.confirms {
                    confirms.window.push(continued.clone(), now);
                }
                self.next = Some(Next::Announced(Box::new((next, session))));
                Ok(Some(continued))
            }
            Some(Next::Announced(next)) => match (self.stream.take(), &mut self.confirms) {
                // It has its last word first, where its session has its topics: the next one may have others.
                (Some((old, _)), Some(_)) => {
                    self.next = Some(Next::Announced(next));
                    old.settled(rng).map(Some)
                }
                (Some((old, _)), None) => {
                    self.go_on(*next);
                    self.begin_after(old.as_predecessor(), rng).map(Some)
                }
                (None, confirms) => {
                    if let Some(confirms) = confirms {
                        confirms.window = RetransmitQueue::new(0, UNCONFIRMED, now);
                    }
                    self.go_on(*next);
                    Ok(None)
                }
            },
        }
    }

    /// Goes on in another stream.
    pub(super) fn go_on(&mut self, next: (Sender, Session)) {
        self.topics = next.1.topics.clone();
        self.stream = Some(next);
    }

    /// The first message of a stream that goes on from another.
    pub(super) fn begin_after(&mut self, predecessor: Predecessor, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let (sender, _) = self.stream.as_mut().expect("it was begun");
        sender.continues(predecessor, rng)
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
