//! From one stream to the next: what has to be said between them, and in which order.
//!
//! | state | sealed last | what follows |
//! |---|---|---|
//! | `Idle` | nothing | `Open`, or `Reserved` with a will |
//! | `Reserved` | nothing | `Open`, with the first message; another `Reserved`, if there is a newer session by then |
//! | `Open` | data | `Draining`, if a newer session is to be used or the stream has no numbers left |
//! | `Draining` | data | `Switching`: `continued` in the old stream, once all is confirmed, or acknowledged |
//! | | | with confirms and to another peer, `Starting`: the same |
//! | `Switching` | `continued` | without confirms, `Open`, once that is acknowledged |
//! | | | with confirms, `Starting`: `settled` in the old stream, once `continued` is confirmed |
//! | `Starting` | `settled`, or to another peer `continued` | `Open` |
//! | `Left` | what ends a stream | `Open`, with a spool |
//!
//! Between `Draining` and `Open` no new message is sealed. The first message of a stream says what that continues; if the
//! device has moved to another peer, it begins a sequence of its own.
//!
//! Nothing of a stream is published before all of the one before it is confirmed, or without confirms acknowledged by the
//! broker: only what is under way of one stream can be sealed again in shorter messages.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use super::SealedStream;
use super::confirms::Confirms;
use crate::crypto::schedule::{Digest, Topics};
use crate::session::{Session, SessionId};
use crate::stream::{Content, Continues, Sender, SentTime};
use crate::{Error, Exit, Result};

/// A stream that messages can be sealed in, and its session.
pub(super) struct ActiveStream {
    pub(super) sender: Sender,
    pub(super) session: StreamSession,
    /// The [`LinkSessions::version`](crate::sessions::LinkSessions::version) for which it is known whether the session is
    /// the current one.
    pub(super) checked_version: Option<u64>,
    /// What it takes the place of, while nothing of it was published.
    pub(super) replaced: Option<Replaced>,
}

/// What a stream needs of its session. The keys of the session are not here, so that they go when it is deleted, whether or not
/// the run has anything to send.
pub(super) struct StreamSession {
    pub(super) id: SessionId,
    pub(super) peer: Digest,
    pub(super) topics: Topics,
}

/// A stream that another one takes the place of, and those of its messages that are sealed again there, oldest first.
pub(super) struct Replaced {
    pub(super) stream: Box<ActiveStream>,
    pub(super) messages: Vec<Bytes>,
}

impl ActiveStream {
    pub(super) fn new(sender: Sender, session: Session) -> Self {
        let Session { id, peer, topics, .. } = session;
        Self { sender, session: StreamSession { id, peer, topics }, checked_version: None, replaced: None }
    }

    /// What a stream of this session continues that takes over from the message with this seq on. A sequence is of one peer: of
    /// what another one received in it, the next peer would say that it was lost.
    pub(super) fn continued_in(&self, session: &Session, seq: u32) -> Option<Continues> {
        (session.peer == self.session.peer).then(|| self.sender.position_of(seq))
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

    /// Whether what is published next is of another stream than what was published last.
    pub(super) fn enters_another_stream(&self) -> bool {
        match self {
            Self::Draining(_) | Self::Switching { .. } => true,
            Self::Open(stream) => stream.replaced.is_some(),
            Self::Idle | Self::Reserved(_) | Self::Starting(_) | Self::Left => false,
        }
    }

    /// The first message of the open stream is published.
    pub(super) fn is_published(&mut self) {
        if let Self::Open(stream) = self {
            stream.replaced = None;
        }
    }

    /// The state, to be replaced by what follows it.
    pub(super) fn take(&mut self) -> Self {
        std::mem::replace(self, Self::Left)
    }
}

impl SealedStream {
    /// Does one step towards the next stream, if one is to be entered; returns what is to be sent for it.
    pub(super) fn switch(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<Bytes>> {
        match self.state.take() {
            SealingState::Draining(old) => self.announce_next(old, now, rng),
            SealingState::Switching { old, next } if self.confirms.are_asked_for() => {
                // Where its own session has its topics: the next one may have others.
                self.state = SealingState::Starting(next);
                self.ended.settled(&old);
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

    /// Begins the next stream, and says in the old one that it is continued there.
    fn announce_next(
        &mut self,
        mut old: Box<ActiveStream>,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        // The continued has no position: what comes after it has the next one.
        let seq = old.sender.next_seq();
        self.ended.counted(&old, seq);
        let next = match self.current_session() {
            Ok(session) => {
                let continues = old.continued_in(&session, seq);
                self.new_stream_once_space(session, continues, now)
            }
            Err(error) => Err(error),
        };
        let Ok(Some(next)) = next else {
            self.state = SealingState::Draining(old);
            return next.map(|_| None);
        };
        let (content, message) = (Content::Continued(next.sender.id()), old.sender.buffer(0));
        let continued = old.seal(&content, None, message, &mut self.confirms, now, rng)?;
        if self.confirms.are_asked_for() && next.session.peer != old.session.peer {
            // The peer that the device leaves may not know it any more, and has confirmed all that counts.
            self.confirms.restart(now);
            self.state = SealingState::Starting(next);
        } else {
            self.state = SealingState::Switching { old, next };
        }
        Ok(Some(continued))
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
                ended.counted(&stream, count(&stream.sender));
            }
            SealingState::Switching { old, next } => {
                // The continued has no position.
                ended.counted(&old, count(&old.sender).min(old.sender.next_seq() - 1));
                ended.counted(&next, 0);
            }
            SealingState::Reserved(unused) => ended.counted(&unused, 0),
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
            None => self.ended.settled(stream),
            Some(_) => self.ended.counted(stream, seq),
        }
    }

    /// Leaves all streams, of which the receiver does not know any more.
    pub(super) fn give_up_streams(&mut self) {
        if let Some(stream) = self.state.stream() {
            self.ended.settled(stream);
        }
        if let SealingState::Reserved(next) | SealingState::Switching { next, .. } | SealingState::Starting(next) =
            self.state.take()
        {
            self.ended.counted(&next, 0);
        }
    }

    /// Leaves the stream, and what is not confirmed of it, as nothing can be confirmed any more.
    pub(super) fn abandon_stream(&mut self, now: Instant) {
        self.state = SealingState::Left;
        self.confirms.session.open_query = None;
        self.confirms.restart(now);
        self.confirms.use_sessions(&self.sessions);
    }
}
