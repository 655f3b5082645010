//! From one stream to the next: what has to be said between them, and in which order.
//!
//! | state | sealed last | what follows |
//! |---|---|---|
//! | `Idle` | nothing | `Open`, or `Reserved` with a will |
//! | `Reserved` | nothing | `Open`, with the first message; another `Reserved`, if there is a newer session by then |
//! | `Open` | data | `Draining`, if a newer session is to be used or the stream has no numbers left |
//! | `Draining` | data | `Switching`: `continued` in the old stream, once all is confirmed |
//! | `Switching` | `continued` | without confirms, `Open` |
//! | | | with confirms, `Starting`: `settled` in the old stream, once `continued` is confirmed |
//! | `Starting` | `settled` | `Open` |
//! | `Left` | what ends a stream | `Open`, with a spool |
//!
//! Between `Draining` and `Open` no new message is sealed. The first message of a stream says what that continues.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::confirms::Confirms;
use super::{OutgoingStream, SealedStream};
use crate::send::outgoing::{Cut, OutgoingMessage};
use crate::session::Session;
use crate::stream::{Content, Continues, Sender, SentTime};
use crate::{Error, Exit, Result};

/// A stream that messages can be sealed in, and its session.
pub(super) struct ActiveStream {
    pub(super) sender: Sender,
    pub(super) session: Session,
    /// The [`LinkSessions::version`](crate::sessions::LinkSessions::version) for which it is known whether the session is
    /// the current one.
    pub(super) checked_version: Option<u64>,
}

impl ActiveStream {
    pub(super) fn new(sender: Sender, session: Session) -> Self {
        Self { sender, session, checked_version: None }
    }

    /// Seals the next message of the stream, and keeps what is to be confirmed, to be sent again. `message` is of the
    /// sender's `buffer`, with the data if the kind carries any.
    pub(super) fn seal(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        message: BytesMut,
        confirms: &mut Confirms,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Bytes> {
        let data_len = self.sender.data_len(&message);
        let sealed = self.sender.seal(content, sent, message, rng)?;
        confirms.sent(&sealed, data_len, now);
        Ok(sealed)
    }
}

/// Where a run is between two streams. The table above says what follows what.
pub(super) enum SealingState {
    /// There was no stream yet.
    Idle,
    /// Its number is taken, so that a will can be of it.
    Reserved(Box<ActiveStream>),
    /// Messages are sealed in it.
    Open(Box<ActiveStream>),
    /// It is to say where it continues, and has no room for messages.
    Draining(Box<ActiveStream>),
    /// The old one has said so.
    Switching { old: Box<ActiveStream>, next: Box<ActiveStream> },
    /// The old one is left.
    Starting(Box<ActiveStream>),
    /// The last stream is left, and another one has not begun.
    Left,
}

impl SealingState {
    /// The stream whose messages may still be unconfirmed.
    pub(super) fn stream(&self) -> Option<&ActiveStream> {
        match self {
            Self::Open(stream) | Self::Draining(stream) | Self::Switching { old: stream, .. } => Some(stream),
            Self::Idle | Self::Reserved(_) | Self::Starting(_) | Self::Left => None,
        }
    }

    /// The stream to seal in.
    ///
    /// # Errors
    /// [`Exit::Failed`] where there is none, which is a fault of the caller.
    pub(super) fn open_stream(&mut self) -> Result<&mut ActiveStream> {
        match self {
            Self::Open(stream) => Ok(stream),
            Self::Idle
            | Self::Reserved(_)
            | Self::Draining(_)
            | Self::Switching { .. }
            | Self::Starting(_)
            | Self::Left => Err(Error::new(Exit::Failed, "cannot seal").because("no stream is open")),
        }
    }

    /// Whether no message was sealed in any stream.
    pub(super) fn is_unused(&self) -> bool {
        matches!(self, Self::Idle | Self::Reserved(_))
    }

    /// The stream that a will is of; the one before is over for the receiver once the next one is entered.
    pub(super) fn will_stream(&self) -> Option<&ActiveStream> {
        match self {
            Self::Reserved(stream) | Self::Starting(stream) => Some(stream),
            other => other.stream(),
        }
    }

    /// Whether no message can be sealed before the next stream is open.
    pub(super) fn is_switching(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Switching { .. } | Self::Starting(_))
    }

    /// Seals no more messages in an open stream.
    pub(super) fn drain(&mut self) {
        *self = match self.take() {
            Self::Open(stream) => Self::Draining(stream),
            other => other,
        };
    }

    /// The state, to be replaced by what follows it.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Left)
    }
}

/// The stream that continues a sequence where another one is left.
enum Successor {
    /// A new one of the current session, which continues from here.
    New(Continues),
    /// The one that the `continued` has announced.
    Announced,
}

impl SealedStream {
    /// Does one step towards the next stream, if one is to be entered; returns what is to be sent for it.
    pub(super) fn switch(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        match self.state.take() {
            SealingState::Draining(mut old) => {
                // The continued has no position: what comes after it has the next one.
                let position = old.sender.position_of(old.sender.next_seq());
                self.ended.counted(&old.sender, old.sender.next_seq());
                let next = match self.current_session() {
                    Ok(session) => self.new_stream_once_space(session, Some(position), now),
                    Err(error) => Err(error),
                };
                let Ok(Some(next)) = next else {
                    self.state = SealingState::Draining(old);
                    return next.map(|_| None);
                };
                let (content, message) = (Content::Continued(next.sender.id()), old.sender.buffer(0));
                let continued = old.seal(&content, None, message, &mut self.confirms, now, rng)?;
                self.state = SealingState::Switching { old, next };
                Ok(Some(continued))
            }
            SealingState::Switching { old, next } if self.confirms.are_asked_for() => {
                // Where its own session has its topics: the next one may have others.
                self.state = SealingState::Starting(next);
                self.ended.settled(&old.sender);
                old.sender.settled(rng).map(Some)
            }
            SealingState::Switching { next, .. } => {
                self.enter(next);
                Ok(None)
            }
            SealingState::Starting(next) => {
                self.confirms.restart(now);
                self.enter(next);
                Ok(None)
            }
            unchanged @ (SealingState::Idle
            | SealingState::Reserved(_)
            | SealingState::Open(_)
            | SealingState::Left) => {
                self.state = unchanged;
                Ok(None)
            }
        }
    }

    /// Leaves all streams, and notes how many positions each of them carried. Where another run sends what this one
    /// leaves, only the positions below `delivered` count as carried by these streams: the rest will be by another one.
    pub(super) fn count_streams(&mut self, delivered: Option<u64>) {
        let ended = &mut self.ended;
        let count = |sender: &Sender| {
            let delivered = delivered.map(|below| below.saturating_sub(sender.position_of(0).position));
            delivered
                .and_then(|count| u32::try_from(count).ok())
                .map_or(sender.next_seq(), |count| count.min(sender.next_seq()))
        };
        match self.state.take() {
            SealingState::Open(stream) | SealingState::Draining(stream) | SealingState::Starting(stream) => {
                ended.counted(&stream.sender, count(&stream.sender));
            }
            SealingState::Switching { old, next } => {
                // The continued has no position.
                ended.counted(&old.sender, count(&old.sender).min(old.sender.next_seq() - 1));
                ended.counted(&next.sender, 0);
            }
            SealingState::Reserved(unused) => ended.counted(&unused.sender, 0),
            SealingState::Idle => self.state = SealingState::Idle,
            SealingState::Left => {}
        }
    }

    /// Notes that the stream carried the messages below the one with this seq, and the next one carries the rest. That
    /// names the origin of the sequence, of which a receiver then misses nothing. Of a stream between the two it has to be
    /// told.
    pub(super) fn count_stream_below(&mut self, seq: u32) {
        let Some(stream) = self.state.stream() else { return };
        match stream.sender.continues() {
            None => self.ended.settled(&stream.sender),
            Some(_) => self.ended.counted(&stream.sender, seq),
        }
    }

    /// Leaves all streams, of which the receiver does not know any more.
    pub(super) fn give_up_streams(&mut self) {
        if let Some(stream) = self.state.stream() {
            self.ended.settled(&stream.sender);
        }
        if let SealingState::Reserved(next) | SealingState::Switching { next, .. } | SealingState::Starting(next) =
            self.state.take()
        {
            self.ended.counted(&next.sender, 0);
        }
    }

    /// Leaves the stream, and what is not confirmed of it, as nothing can be confirmed any more.
    pub(super) fn abandon_stream(&mut self, now: Instant) {
        self.state = SealingState::Left;
        self.confirms.session.open_query = None;
        self.confirms.restart(now);
        self.confirms.use_sessions(&self.sessions);
    }

    /// Seals again what is not confirmed, in a stream of the current session, and has it sent as retransmissions.
    /// Returns how many messages that are.
    pub(super) fn reseal_unconfirmed(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<u64> {
        if self.state.stream().is_none() {
            return Ok(0);
        }
        let (first, count) = (self.confirms.first_unconfirmed(), self.confirms.unconfirmed().messages);
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
        let messages: Vec<_> = waiting.into_iter().chain(unpublished.payloads()).collect();
        let cut = match self.state.stream().and_then(|stream| stream.sender.tail_from(&messages)) {
            None => Ok(Cut::NotWhole),
            Some(first) => {
                self.count_stream_below(first);
                self.reseal_messages(first, |_| messages, now, rng).map(|()| Cut::Done(count))
            }
        };
        if !matches!(cut, Ok(Cut::Done(_))) {
            self.unpublished = unpublished;
        }
        cut
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
        let Some(successor) = self.successor(first) else { return Ok(()) };
        let begun = match successor {
            Successor::New(continues) => Some(self.new_stream(self.current_session()?, Some(continues))?),
            Successor::Announced => None,
        };
        let Some((old, next)) = self.stream_to_replace(begun) else { return Ok(()) };
        let messages = take(&mut self.confirms);
        self.abandon_stream(now);
        self.enter(next);
        for sealed in messages {
            let (content, sent, data) = old.sender.read_back(&sealed)?;
            // What has a position is sealed again in that place: left out, what follows would be a duplicate to the
            // receiver. A continued has none, and says where the old stream continues, which is here.
            if content.has_position() {
                self.seal_again(&content, sent, &data, now, rng)?;
            }
        }
        Ok(())
    }

    /// What takes the place of the messages from the seq `first` on, if there are any.
    ///
    /// The receiver puts the announced stream behind the old one, and would take what it carries elsewhere for something
    /// else. So it is noted as unused if messages before it are sealed again.
    fn successor(&mut self, first: u32) -> Option<Successor> {
        match &self.state {
            SealingState::Open(old) | SealingState::Draining(old) => {
                Some(Successor::New(old.sender.position_of(first)))
            }
            // The continued has no position.
            SealingState::Switching { old, next } if first < old.sender.next_seq() - 1 => {
                self.ended.counted(&next.sender, 0);
                Some(Successor::New(old.sender.position_of(first)))
            }
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
