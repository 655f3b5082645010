//! Where nothing is confirmed for long: whether the receiver still has the session of the stream, or has lost it, say with
//! its runtime directory, and agreed a new one since. Only its own word counts (`sts-protocol(7)`, "Still there"): silence
//! is whatever the broker likes, and no reason to send a second time what was sent.

use std::time::{Duration, Instant};

use rand::CryptoRng;

use super::{Next, Sealing, UNCONFIRMED};
use crate::handshake::session_check::{self, SessionQuery};
use crate::message::FrameType;
use crate::stream::RetransmitQueue;
use crate::{Rejected, Result};

/// Time between two questions at least. What wakes a sender to ask is that it sends its oldest message again.
const EVERY: Duration = Duration::from_secs(5);

/// A question that is asked until it is answered.
pub(super) struct Asking {
    question: SessionQuery,
    due: Instant,
}

impl Sealing {
    /// Asks, where there is a newer session to ask under; returns the topic and the question.
    ///
    /// # Errors
    /// As [`crate::cache::Watch::refresh`].
    pub(in crate::send) fn ask(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<(String, Vec<u8>)>> {
        self.look(now)?;
        let (Some((_, session)), Ok(current)) = (&self.stream, self.current()) else { return Ok(None) };
        if current.id == session.id {
            return Ok(None);
        }
        let about = session.id;
        let same = |asking: &Asking| (asking.question.session().id, *asking.question.about()) == (current.id, about);
        if !self.asking.as_ref().is_some_and(same) {
            let question = SessionQuery::new(current, about, rng);
            self.asking = Some(Asking { question, due: now });
        }
        let Some(asking) = self.asking.as_mut().filter(|asking| now >= asking.due) else { return Ok(None) };
        asking.due = now + EVERY;
        let topic = self.ends.route.publish(&asking.question.session().topics).to_owned();
        Ok(Some((topic, asking.question.frame())))
    }

    /// Where the answer to the question comes, if one is asked.
    pub(super) fn answers_on(&self) -> Option<&str> {
        self.asking.as_ref().map(|asking| self.ends.route.listen(&asking.question.session().topics))
    }

    /// What a payload from the receiver's topic says to the question, if it is an answer: false where the session of the
    /// stream is lost there.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub(in crate::send) fn peer_has_session(&self, payload: &[u8]) -> std::result::Result<Option<bool>, Rejected> {
        let is_answer = session_check::is_session_check(payload) && FrameType::of(payload) == Ok(FrameType::RdyAck);
        let asking = self.asking.as_ref().filter(|_| is_answer);
        asking.map(|asking| asking.question.is_present(payload)).transpose()
    }

    /// Leaves the stream, and what is not confirmed of it, to go on in one of the current session.
    ///
    /// # Errors
    /// As [`Sealing::open`].
    pub(in crate::send) fn forsake(&mut self, now: Instant) -> Result<()> {
        (self.stream, self.next, self.asking) = (None, None, None);
        if let Some(confirms) = &mut self.confirms {
            confirms.window = RetransmitQueue::new(0, UNCONFIRMED, now);
        }
        self.adopt()
    }

    /// Seals what the receiver has not confirmed once more, in a stream of the current session, and sends it as [`RetransmitQueue`]
    /// sends what nobody confirmed.
    ///
    /// # Errors
    /// As [`Sealing::open`]; [`crate::Exit::Failed`] where the session file cannot be written.
    pub(in crate::send) fn begin_again(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<()> {
        let current = self.current()?;
        let (Some(confirms), Some((old, _))) = (&mut self.confirms, self.stream.take()) else { return Ok(()) };
        let window = std::mem::replace(&mut confirms.window, RetransmitQueue::new(0, UNCONFIRMED, now));
        let announced = match self.next.take() {
            // A number that was taken is used, or the receiver would miss its stream; from there it may go on at once.
            Some(Next::Announced(next)) => Some(*next),
            _ => None,
        };
        self.forsake(now)?;
        let current_id = current.id;
        let next = announced.map_or_else(|| self.take(&current, rng).map(|sender| (sender, current)), Ok)?;
        self.stale = next.1.id != current_id;
        let empty = next.0.buffer(0);
        self.go_on(next);
        for sealed in window.into_unconfirmed() {
            let (said, bytes) = old.read_back(&sealed)?;
            let mut message = empty.clone();
            message.extend_from_slice(&bytes);
            // Any other says where the stream continued: it is there that we are now.
            if said.carries_data() {
                self.finish(message, said.closes_stream(), now, rng)?;
            }
        }
        if let Some(confirms) = &mut self.confirms {
            confirms.window.resend_all(now);
        }
        Ok(())
    }
}
