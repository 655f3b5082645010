//! Admissions: which streams this run receives, and which of their messages wait for others (`sts-protocol(7)`, "The
//! receiver"). What belongs together is in [`chains`](super::chains).
//!
//! A stream may overtake what comes before it, or its own first message. Its messages then wait in the
//! [`ReorderBuffer`]. With `--once` the run follows one chain, and leaves the messages of all others with the broker.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;

use super::chains::Chains;
use super::early_messages::EarlyMessages;
use super::incomplete_streams::IncompleteStreams;
use super::reorder_buffer::ReorderBuffer;
use super::sessions::UsableSessions;
use crate::mqtt::Message;
use crate::recv::incoming::GivenUp;
use crate::session::SessionId;
use crate::stream::{Awaited, Opened, StreamId};

/// Whether an opened message is accepted now.
pub(super) enum Admission {
    Accept,
    /// Its stream waits for its first message, or for what comes before it.
    Hold {
        /// Whether this run receives its stream, as far as is known.
        is_followed: bool,
    },
    /// This run does not receive its stream.
    Leave,
}

/// Which chains of streams this run receives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum WantedChains {
    All,
    /// The chain of which a message is accepted first.
    FirstChain,
    /// The chain that begins with this stream.
    Chain(StreamId),
}

/// The streams that this run saw, and what of them waits.
pub(super) struct Admissions {
    wanted: WantedChains,
    chains: Chains,
    /// Streams that others were printed as, each with the one that these are printed as from now on.
    joined: Vec<(StreamId, StreamId)>,
    /// Streams that this run saw, or that others say continue them, and that are not complete.
    incomplete: IncompleteStreams,
    reorder: ReorderBuffer<Message>,
    /// Messages that wait no longer, and go before any that comes now.
    released: VecDeque<Message>,
    /// What came before the messages that its stream lacks, where the stream is confirmed.
    early: EarlyMessages,
}

impl Admissions {
    /// Follows the first chain that comes, or all.
    pub(super) fn new(once: bool) -> Self {
        Self {
            wanted: if once { WantedChains::FirstChain } else { WantedChains::All },
            chains: Chains::new(),
            joined: Vec::new(),
            incomplete: IncompleteStreams::default(),
            reorder: ReorderBuffer::new(),
            released: VecDeque::new(),
            early: EarlyMessages::default(),
        }
    }

    /// The head of the chain that a stream is in: the stream itself, if it continues no other.
    pub(super) fn head_of(&self, stream: StreamId) -> StreamId {
        self.chains.head_of(stream)
    }

    /// Whether this run follows one chain only.
    pub(super) fn is_selective(&self) -> bool {
        self.wanted != WantedChains::All
    }

    /// Whether this run is to follow one chain, and nothing of any was accepted.
    pub(super) fn awaits_first(&self) -> bool {
        self.wanted == WantedChains::FirstChain
    }

    /// Whether a stream is in the one chain that this run follows.
    pub(super) fn is_selected(&self, stream: StreamId) -> bool {
        self.wanted == WantedChains::Chain(self.head_of(stream))
    }

    /// Whether this run receives a stream, as far as is known.
    pub(super) fn receives(&self, stream: StreamId) -> bool {
        matches!(self.wanted, WantedChains::All) || self.is_selected(stream)
    }

    /// Decides whether a message is accepted now. One that `was_held` is not held again. With `--once`, a stream that
    /// is not of the chain that this run follows is left for another run, and so is each message that [stays with
    /// it](crate::stream::Kind::stays_with_stream); any other message concerns this run, too.
    pub(super) fn admit(
        &mut self,
        opened: &Opened,
        was_held: bool,
        sessions: &UsableSessions,
        now: Instant,
    ) -> Admission {
        let stream = opened.stream;
        if let Some(continues) = sessions.receiver.continued(opened)
            && sessions.is_new(stream)
        {
            self.link(stream, continues.origin.stream);
        }
        // If an earlier run began it, it is linked now: later, messages of it may already wait under its own number.
        if let Some(origin) = sessions.receiver.origin(stream)
            && !self.incomplete.contains(stream)
        {
            self.link(stream, origin);
        }
        let head = self.head_of(stream);
        let is_others = opened.head.content.stays_with_stream()
            && matches!(self.wanted, WantedChains::Chain(selected) if selected != head);
        // The head is unknown until its first message arrives, and may itself continue the chain that we follow: hold the
        // message until then.
        if is_others && (was_held || !sessions.is_new(head)) {
            return Admission::Leave;
        }
        if !was_held {
            let awaited = sessions.receiver.awaits(opened);
            if awaited.is_some() || self.reorder.holds(stream) {
                let all_came = if opened.seq == 0 { Awaited::Nothing } else { Awaited::First };
                let awaited = awaited.unwrap_or(all_came);
                let origin = if let Awaited::Position(continues) = awaited { continues.origin.stream } else { stream };
                if !sessions.is_over(origin) {
                    self.incomplete.insert(origin);
                }
                self.reorder.hold(stream, awaited, now);
                return Admission::Hold { is_followed: !is_others };
            }
        }
        if is_others { Admission::Leave } else { Admission::Accept }
    }

    /// A stream is in the chain of another one. Messages of it, or of streams that continue it, may have been printed as
    /// a chain of their own.
    pub(super) fn link(&mut self, stream: StreamId, before: StreamId) {
        let from = self.head_of(stream);
        self.chains.link(stream, before);
        let to = self.head_of(stream);
        if to == from {
            return;
        }
        if self.wanted == WantedChains::Chain(from) {
            self.wanted = WantedChains::Chain(to);
        }
        self.joined.push((from, to));
    }

    /// The chains that turned out to be part of another one, each with that one, since this was called last.
    pub(super) fn take_joined(&mut self) -> Vec<(StreamId, StreamId)> {
        std::mem::take(&mut self.joined)
    }

    /// A message that stays with its stream was accepted. If this run is to follow the first chain, it is this one:
    /// only now, as a message that is played again begins nothing.
    pub(super) fn select(&mut self, stream: StreamId) {
        if self.wanted == WantedChains::FirstChain {
            self.wanted = WantedChains::Chain(self.head_of(stream));
        }
    }

    /// More is to come of a stream.
    pub(super) fn begin(&mut self, stream: StreamId) {
        self.incomplete.insert(stream);
    }

    /// Nothing more is to come of a stream, or will be accepted.
    pub(super) fn end(&mut self, stream: StreamId) {
        self.incomplete.remove(stream);
    }

    /// A stream is complete, and its sender goes on in another one, if that is
    /// [known](crate::stream::Receiver::successor).
    pub(super) fn continue_in(&mut self, next: Option<StreamId>, stream: StreamId, sessions: &UsableSessions) {
        self.end(stream);
        let Some(next) = next else { return };
        // The broker may have let the next stream overtake this one, and its first message, which names this stream,
        // may be lost. Then it is a chain of its own: what comes of it follows what came of it, not this stream.
        let came =
            sessions.receiver.streams(next.session).is_some_and(|streams| streams.next_seq(next.number).is_some());
        let has_begun = (self.incomplete.contains(next) && came) || sessions.is_over(next);
        let is_expected = !sessions.is_over(next) && self.incomplete.expect(next);
        if is_expected && !has_begun {
            self.link(next, stream);
        }
    }

    /// Keeps a message of a stream that waits.
    pub(super) fn hold(&mut self, stream: StreamId, seq: u32, message: Message) {
        // A view of the read buffer would keep all of that; and a topic, which a sealed message does not need, up to 64
        // KiB.
        let (topic, payload) = (String::new(), Bytes::copy_from_slice(&message.payload));
        self.reorder.push((stream, seq), payload.len(), message.qos, Message { topic, payload, ..message });
    }

    /// Keeps a message that came too early in a stream that is confirmed; false if that changes nothing.
    pub(super) fn hold_early(&mut self, opened: &Opened, payload: &[u8], now: Instant) -> bool {
        self.early.hold((opened.stream, opened.salt(), opened.seq), payload, now)
    }

    /// The messages that came too early, in order: of each range the first seq, and the one after the last.
    pub(super) fn early_ranges(&self, stream: StreamId) -> Vec<(u32, u32)> {
        self.early.ranges(stream)
    }

    /// The next message that was held and waits no longer, in the order of its stream.
    pub(super) fn next_released(
        &mut self,
        given_up: GivenUp<'_>,
        sessions: &UsableSessions,
        now: Instant,
    ) -> Option<Message> {
        if self.released.is_empty() {
            let receiver = &sessions.receiver;
            let is_given_up = |stream: StreamId, awaited: &Awaited| {
                let awaited = if let Awaited::Position(continues) = awaited { continues.origin.stream } else { stream };
                given_up.includes(awaited.session)
            };
            self.released = self.reorder.release(now, &is_given_up, receiver);
        }
        self.released.pop_front().or_else(|| {
            self.early.next(|stream| {
                let streams =
                    sessions.receiver.streams(stream.session).filter(|streams| !streams.is_over(stream.number));
                streams.map_or(u32::MAX, |streams| streams.next_seq(stream.number).unwrap_or(0))
            })
        })
    }

    /// Whether messages of a stream wait.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.reorder.holds(stream)
    }

    /// All messages that wait.
    pub(super) fn held(&self) -> impl Iterator<Item = &Message> {
        self.reorder.messages()
    }

    /// Whether a stream of a session waits, or one waits for it.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        self.reorder.involves(session)
    }

    /// As [`ReorderBuffer::set_stalled`].
    pub(super) fn set_stalled(&mut self, stalled: bool, now: Instant) {
        self.reorder.set_stalled(stalled, now);
    }

    /// As [`ReorderBuffer::disconnected`].
    pub(super) fn disconnected(&mut self) {
        self.reorder.disconnected();
    }

    /// When [`Admissions::next_released`] has something, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.reorder.deadline()
    }

    /// The streams that this run saw and that are not complete, in order of their numbers.
    pub(super) fn incomplete(&self) -> Vec<StreamId> {
        let mut streams: Vec<StreamId> = self.incomplete.iter().collect();
        streams.sort_unstable_by_key(|stream| (stream.number, stream.session));
        streams
    }

    /// As [`IncompleteStreams::retain_sessions`]; what came too early goes, too.
    pub(super) fn retain_incomplete(&mut self, usable: impl Fn(SessionId) -> bool) {
        self.early.retain_sessions(&usable);
        self.incomplete.retain_sessions(usable);
    }

    /// As [`Chains::is_crowded`].
    pub(super) fn are_crowded(&self) -> bool {
        self.chains.is_crowded()
    }

    /// Forgets the chains of streams that are not `needed` any more.
    pub(super) fn retain_chains(&mut self, needed: impl Fn(StreamId) -> bool) {
        self.chains.retain(needed);
    }

    /// A session is deleted: nothing more will come of its streams.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.incomplete.forget_session(session);
    }
}
