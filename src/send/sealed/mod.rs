//! Messages on an encrypted link: sealed under the current session with the peer, in a stream.
//!
//! This file is the way of a message: `seal_next` seals each one that has a place in the stream, whatever its kind.
//! Wills, and the `settled` after the end of a stream, have no place in it and ways of their own. Beside it are:
//!
//! - `switching`: the state of the stream, and how it is replaced by one of a newer session;
//! - `confirms`: what the receiver has confirmed, and what is sent again (`--confirm`);
//! - `session_query`: whether the receiver still has the session, if it confirms nothing;
//! - `session_end`: the receiver ends the session;
//! - `spool_stream`: sequences that outlive the run (`--spool`);
//! - `will`: what the broker says for us if this process dies;
//! - `resealing`: what is sealed again, in a stream that takes the place of another one;
//! - `ended_streams`: how the streams of the run ended, for the next one to tell.

mod confirms;
mod ended_streams;
mod resealing;
mod session_end;
mod session_query;
mod spool_stream;
mod switching;
mod will;

use std::os::fd::BorrowedFd;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use rand::rngs::ThreadRng;

use self::confirms::Confirms;
use self::ended_streams::EndedStreams;
use self::switching::{ActiveStream, SealingState};
use super::SendOptions;
use super::outgoing::{Cut, OutgoingMessage, OutgoingStream};
use super::unpublished::Unpublished;
use crate::crypto::schedule::{Digest, Topics};
use crate::handshake::AcceptedPeers;
use crate::link::Link;
use crate::peers::LinkPeers;
use crate::session::Session;
use crate::sessions::{LinkSessions, SessionChanges};
use crate::space_wait::SpaceWait;
use crate::spool::Pending;
use crate::stream::{Content, Continues, Preamble, SentTime, max_record_len};
use crate::{Error, Exit, Result};

/// The stream of a run, or one after another.
pub(super) struct SealedStream {
    sessions: LinkSessions,
    /// The peers that this run may send to: the one that it began with, or the alternatives that the configuration named then.
    receivers: AcceptedPeers,
    max_message: usize,
    /// How many bytes of data less a message carries for its time.
    time_room: usize,
    /// The broker keeps the newest message with bytes of the input.
    retain: bool,
    /// The topics of the session that was used last: the last words of a stream are sent there, too.
    topics: Topics,
    state: SealingState,
    /// The streams that are over.
    ended: EndedStreams,
    confirms: Confirms,
    /// What was sealed again in shorter messages, where no confirms are asked for.
    unpublished: Unpublished,
    /// A stream number is taken on disk.
    space: SpaceWait,
}

impl SealedStream {
    /// Finds the session to send under. No stream number is taken yet.
    ///
    /// # Errors
    /// As [`LinkSessions::open_to_send`].
    pub(super) fn open(link: &Link, peers: LinkPeers, options: &SendOptions, now: Instant) -> Result<Self> {
        let sessions = LinkSessions::open_to_send(link, peers, options.to.as_ref(), now)?;
        let current = sessions.current()?;
        let (topics, receivers) = (current.topics.clone(), sessions.accepted().clone());
        let mut confirms = Confirms::new(options.confirm, now);
        confirms.use_sessions(&sessions);
        Ok(Self {
            sessions,
            receivers,
            max_message: link.config.mqtt.max_message,
            time_room: options.time_room(),
            retain: link.config.mqtt.retain,
            topics,
            state: SealingState::Idle,
            ended: EndedStreams::default(),
            confirms,
            unpublished: Unpublished::default(),
            space: SpaceWait::default(),
        })
    }

    /// The session to send under now.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where there is none, or the receiver has deleted it; [`Exit::Config`] where it is with a peer that
    /// the run may not send to, as the name of one was given to another key meanwhile.
    fn current_session(&self) -> Result<Session> {
        let session = self.sessions.current()?;
        // Here it stays current if a full disk prevents the change.
        if self.confirms.session.has_deleted(session.id) {
            return Err(self.sessions.none_usable());
        }
        if self.receivers.get(&session.peer).is_some() {
            return Ok(session.clone());
        }
        Err(Error::new(Exit::Config, "another peer paired on this link")
            .because("what was read is for the previous peer")
            .hint("start sts-send again to send to the new one"))
    }

    /// A stream of a session, whose number is taken now, durably.
    fn new_stream(&mut self, session: Session, continues: Option<Continues>) -> Result<Box<ActiveStream>> {
        let preamble = Preamble { continues, kept: self.retain, ..Preamble::default() };
        let ends = self.ended.with(&session.peer);
        let sender = self.sessions.begin_stream(&session, self.max_message, &ends, &preamble)?;
        self.ended.written(&session.peer);
        Ok(Box::new(ActiveStream::new(self.confirms.ask_in(sender), session)))
    }

    /// As [`SealedStream::new_stream`]; `None` where a full disk holds it up.
    fn new_stream_once_space(
        &mut self,
        session: Session,
        continues: Option<Continues>,
        now: Instant,
    ) -> Result<Option<Box<ActiveStream>>> {
        if !self.space.may_write(now) {
            return Ok(None);
        }
        let begun = self.new_stream(session, continues);
        self.space.unless_full(begun, now)
    }

    /// Seals in this stream from now on.
    fn enter(&mut self, stream: Box<ActiveStream>) {
        self.topics = stream.session.topics.clone();
        self.state = SealingState::Open(stream);
    }

    /// Seals the next message of the open stream. `message` is of [`OutgoingStream::buffer`].
    fn seal_next(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        message: BytesMut,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Bytes> {
        let stream = self.state.open_stream()?;
        let has_data = stream.sender.data_len(&message) > 0;
        let sealed = stream.seal(content, sent, message, &mut self.confirms, now, rng)?;
        if self.retain && has_data {
            self.confirms.retained(&sealed);
        }
        Ok(sealed)
    }

    /// The session to continue under, where there is a newer one or the stream has no numbers left.
    ///
    /// Asked for each message, so that none is sealed for a peer that was forgotten, not even for a second.
    fn next_session(&mut self, now: Instant) -> Result<Option<Session>> {
        let stream = self.state.open_stream()?;
        self.sessions.refresh_if_due(now)?;
        let (version, full) = (self.sessions.version(), stream.sender.is_full());
        if !full && stream.checked_version == Some(version) {
            return Ok(None);
        }
        let newest = self.current_session()?;
        let stream = self.state.open_stream()?;
        stream.checked_version = Some(version);
        let is_due = full || newest.id != stream.session.id;
        self.confirms.use_sessions(&self.sessions);
        Ok(is_due.then_some(newest))
    }
}

impl SessionChanges for SealedStream {
    fn follow_changes(&mut self, now: Instant) -> Result<()> {
        if self.sessions.refresh_if_changed(now)? {
            self.confirms.use_sessions(&self.sessions);
        }
        Ok(())
    }

    fn changes_fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        self.sessions.changes_fd(now)
    }

    fn next_look(&self, now: Instant) -> Option<Instant> {
        self.sessions.next_look(now)
    }
}

impl OutgoingStream for SealedStream {
    fn topic(&self) -> &str {
        self.sessions.peers.route.publish(&self.topics)
    }

    fn receivers(&self) -> Result<Vec<Digest>> {
        self.current_session().map(|_| self.receivers.fingerprints())
    }

    fn refresh(&mut self, now: Instant) -> Result<()> {
        self.sessions.refresh(now)?;
        self.confirms.use_sessions(&self.sessions);
        Ok(())
    }

    fn begin(&mut self, now: Instant) -> Result<Option<usize>> {
        // The run may have waited long for its first input, and the session found at its start may be gone.
        self.sessions.refresh_if_due(now)?;
        self.confirms.use_sessions(&self.sessions);
        let mut stream = match self.take_reserved()? {
            Some(mut reserved) => {
                // Its number was taken before there was a connection.
                reserved.sender.limit_messages(self.max_message);
                reserved
            }
            None => match self.new_stream_once_space(self.current_session()?, None, now)? {
                Some(stream) => stream,
                None => return Ok(None),
            },
        };
        stream.checked_version = Some(self.sessions.version());
        let max_data = stream.sender.max_record_len() - self.time_room;
        self.confirms.restart(now);
        self.enter(stream);
        Ok(Some(max_data))
    }

    fn space(&self) -> Option<&SpaceWait> {
        Some(&self.space)
    }

    fn is_ordered(&self) -> bool {
        // With confirms, the receiver takes each message in its place, whenever that arrives.
        !self.confirms.are_asked_for()
    }

    fn limit_messages(&mut self, max_message: usize) -> usize {
        let (lower, pad) = (self.max_message.min(max_message), self.sessions.pad());
        // With padding there may be no room left for data: then the broker refuses what is too long.
        if max_record_len(lower, pad) > self.time_room {
            self.max_message = lower;
        }
        max_record_len(self.max_message, pad) - self.time_room
    }

    fn max_message(&self) -> usize {
        self.max_message
    }

    fn cut_again(&mut self, waiting: Vec<Bytes>, now: Instant, rng: &mut ThreadRng) -> Result<Cut> {
        if !self.space.may_write(now) {
            return Ok(Cut::DiskFull);
        }
        let cut = self.cut_shorter(waiting, now, rng);
        Ok(self.space.unless_full(cut, now)?.unwrap_or(Cut::DiskFull))
    }

    fn buffer(&self) -> BytesMut {
        self.state.stream().map(|stream| stream.sender.buffer(0)).unwrap_or_default()
    }

    fn switch_if_due(&mut self, now: Instant) -> Result<bool> {
        let is_due = self.next_session(now)?.is_some();
        if is_due {
            self.state.drain();
        }
        Ok(is_due)
    }

    fn is_switching(&self) -> bool {
        self.state.is_switching()
    }

    fn has_room(&self, size: usize) -> bool {
        !self.is_switching() && self.confirms.have_room(size)
    }

    fn ends_apart(&self) -> bool {
        // So that what precedes the end is the newest message with input, which a receiver can tell by its seq.
        self.retain
    }

    fn seal(
        &mut self,
        content: &Content,
        sent: Option<SentTime>,
        message: BytesMut,
        now: Instant,
        rng: &mut ThreadRng,
    ) -> Result<Option<Bytes>> {
        self.seal_next(content, sent, message, now, rng).map(Some)
    }

    fn next_due(&mut self, now: Instant, rng: &mut ThreadRng) -> Result<Option<OutgoingMessage>> {
        if let Some(message) = self.unpublished.pop() {
            self.state.is_published();
            return Ok(Some(message));
        }
        if let Some(message) = self.confirms.retransmit(now) {
            return Ok(Some(message));
        }
        // A stream is left once all of it is confirmed, so that the receiver never has to hold any of the next one
        // back.
        if self.confirms.unconfirmed().messages > 0 {
            return Ok(None);
        }
        Ok(self.switch(now, rng)?.map(OutgoingMessage::Unordered))
    }

    fn unpublished(&self) -> Pending {
        self.unpublished.pending()
    }

    fn enters_another_stream(&self) -> bool {
        !self.confirms.are_asked_for() && self.state.enters_another_stream()
    }

    fn write_ends(&mut self, delivered: Option<u64>) -> Result<()> {
        self.count_streams(delivered);
        self.ended.write(&self.sessions)
    }

    fn deadline(&self) -> Option<Instant> {
        self.confirms.deadline()
    }
}
