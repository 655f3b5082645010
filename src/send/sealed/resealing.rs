//! What is sealed again, in a stream that takes the place of another one: what the receiver does not confirm, or what the broker
//! does not accept in messages of that length.

use std::time::Instant;

use bytes::Bytes;
use rand::rngs::ThreadRng;

use super::confirms::Confirms;
use super::switching::{ActiveStream, Replaced, SealingState};
use super::{OutgoingStream, SealedStream};
use crate::Result;
use crate::send::outgoing::{Cut, OutgoingMessage};
use crate::stream::{Content, SentTime};

/// The stream that continues a sequence where another one is left.
enum Successor {
    /// A new one of the current session.
    New,
    /// The one that the `continued` has announced.
    Announced,
}

impl SealedStream {
    /// Seals again what is not confirmed, in a stream of the current session, and has it sent as retransmissions.
    /// Returns how many messages that are.
    pub(super) fn reseal_unconfirmed(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<u64> {
        if self.state.stream().is_none() {
            return Ok(0);
        }
        let first = self.confirms.first_unconfirmed();
        // Once the next stream is announced, only that is not confirmed.
        let is_announced = matches!(self.state, SealingState::Switching { .. });
        let count = if is_announced { 0 } else { self.confirms.unconfirmed().messages };
        self.reseal_messages(first, |confirms| confirms.take_unconfirmed(now).collect(), now, rng)?;
        self.confirms.retransmit_all(now);
        Ok(count)
    }

    /// Seals what waits again, as [`OutgoingStream::cut_again`].
    ///
    /// # Errors
    /// As [`SealedStream::reseal_messages`].
    pub(super) fn cut_shorter(&mut self, waiting: Vec<Bytes>, now: Instant, rng: &mut ThreadRng) -> Result<Cut> {
        if self.confirms.are_asked_for() {
            self.count_stream_below(self.confirms.first_unconfirmed());
            return self.reseal_unconfirmed(now, rng).map(Cut::Done);
        }
        let count = waiting.len() as u64;
        if count == 0 {
            return Ok(Cut::Done(0));
        }
        // What was not published follows in the same stream, which is left: it is sealed again, too, or its position would
        // come before that of what waits.
        let unpublished = std::mem::take(&mut self.unpublished);
        let undone = self.undo_replacement();
        let rest = match &undone {
            Some((_, messages)) => messages.clone(),
            None => unpublished.payloads().collect(),
        };
        let messages: Vec<_> = waiting.into_iter().chain(rest).collect();
        let cut = match self.state.stream().and_then(|stream| stream.sender.tail_from(&messages)) {
            None => Ok(Cut::NotWhole),
            Some(first) => {
                self.count_stream_below(first);
                self.reseal_messages(first, |_| messages, now, rng).map(|()| Cut::Done(count))
            }
        };
        if !matches!(cut, Ok(Cut::Done(_))) {
            self.unpublished = unpublished;
            self.redo_replacement(undone);
        }
        cut
    }

    /// If nothing was published of the stream, and it has taken the place of another one, which is still under way: has that one
    /// back in its place. Returns the stream that is not to be used, and the messages that were sealed again there.
    fn undo_replacement(&mut self) -> Option<(Box<ActiveStream>, Vec<Bytes>)> {
        let SealingState::Open(stream) = &mut self.state else { return None };
        let replaced = stream.replaced.take()?;
        let unused = std::mem::replace(stream, replaced.stream);
        self.ended.counted(&unused, 0);
        Some((unused, replaced.messages))
    }

    /// Uses the stream all the same that [`SealedStream::undo_replacement`] gave.
    fn redo_replacement(&mut self, undone: Option<(Box<ActiveStream>, Vec<Bytes>)>) {
        let Some((next, messages)) = undone else { return };
        if let Some(first) = self.state.stream().and_then(|stream| stream.sender.tail_from(&messages)) {
            self.count_stream_below(first);
        }
        if let SealingState::Open(stream) = &mut self.state {
            let replaced = std::mem::replace(stream, next);
            stream.replaced = Some(Replaced { stream: replaced, messages });
        }
    }

    /// Seals the messages of the stream again from the one with the seq `first` on, in a stream of the current session
    /// that takes their place in the sequence. `take` gives them, once there is such a stream.
    ///
    /// Where messages are shorter there, they are cut, and what follows moves up: so what the receiver drops, as it has
    /// the position, is never more than it has.
    ///
    /// # Errors
    /// As [`SealedStream::new_stream`]: then nothing has changed, and the same may be tried again.
    pub(super) fn reseal_messages(
        &mut self,
        first: u32,
        take: impl FnOnce(&mut Confirms) -> Vec<Bytes>,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<()> {
        let Some(successor) = self.successor() else { return Ok(()) };
        let begun = match successor {
            Successor::New => {
                let session = self.current_session()?;
                let continues = self.state.stream().and_then(|old| old.continued_in(&session, first));
                Some(self.new_stream(session, continues)?)
            }
            Successor::Announced => None,
        };
        let is_replaced = begun.is_some() && !self.confirms.are_asked_for();
        let Some((old, next)) = self.stream_to_replace(begun) else { return Ok(()) };
        let messages = take(&mut self.confirms);
        self.abandon_stream(now);
        self.enter(next);
        for sealed in &messages {
            let (content, sent, data) = old.sender.read_back(sealed)?;
            // What has a position is sealed again in that place: left out, what follows would be a duplicate to the
            // receiver. A continued has none, and says where the old stream continues, which is here.
            if content.has_position() {
                self.seal_again(&content, sent, &data, now, rng)?;
            }
        }
        if is_replaced {
            self.state.open_stream()?.replaced = Some(Replaced { stream: old, messages });
        }
        Ok(())
    }

    /// What takes the place of the stream, if there is one. Once the next stream is announced, all before that is confirmed or
    /// acknowledged.
    fn successor(&self) -> Option<Successor> {
        match &self.state {
            SealingState::Open(_) | SealingState::Draining(_) => Some(Successor::New),
            SealingState::Switching { .. } => Some(Successor::Announced),
            SealingState::Idle | SealingState::Reserved(_) | SealingState::Starting(_) | SealingState::Left => None,
        }
    }

    /// Takes the stream whose messages are sealed again, and the one that is to take their place: the one that was `begun` for
    /// that, or else the one that was announced.
    fn stream_to_replace(
        &mut self,
        begun: Option<Box<ActiveStream>>,
    ) -> Option<(Box<ActiveStream>, Box<ActiveStream>)> {
        match (self.state.take(), begun) {
            (
                SealingState::Open(old) | SealingState::Draining(old) | SealingState::Switching { old, .. },
                Some(begun),
            ) => Some((old, begun)),
            (SealingState::Switching { old, mut next }, None) => {
                next.sender.limit_messages(self.max_message);
                Some((old, next))
            }
            (unchanged, _) => {
                self.state = unchanged;
                None
            }
        }
    }

    /// Seals what a message carried, in as many as it takes.
    fn seal_again(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        data: &[u8],
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<()> {
        let max_data = self.state.open_stream()?.sender.max_record_len() - self.time_room;
        let mut rest = data;
        loop {
            let (piece, others) = rest.split_at(rest.len().min(max_data));
            let content = if others.is_empty() { content } else { &Content::Data };
            let mut message = self.buffer();
            message.extend_from_slice(piece);
            let payload = self.seal_next(content, sent, message, now, rng)?;
            if !self.confirms.are_asked_for() {
                self.unpublished.push(OutgoingMessage::new(payload, piece.len(), false));
            }
            if others.is_empty() {
                return Ok(());
            }
            rest = others;
        }
    }
}
