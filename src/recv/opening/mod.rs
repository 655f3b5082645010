//! What comes from the broker, opened: which bytes it carries, and what it says about its stream.

mod ending;
mod sessions;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::CryptoRng;

use self::ending::Ending;
use super::confirming::Confirming;
use super::held::Held;
use crate::cache::{Cache, Journal, JournalEntry, Watch};
use crate::cli::Reporter;
use crate::crypto::schedule::Digest;
use crate::link::{Link, unix_time};
use crate::message::FrameType;
use crate::mqtt::Message;
use crate::peers::{AcceptedPeers, LinkPeers};
use crate::session::SessionId;
use crate::stream::{AcceptError, Accepted, Content, Opened, Progress, Receiver, StreamId, StreamState, Streams};
use crate::text::numbered;
use crate::throttle::{KeyedThrottle, Throttle};
use crate::{Rejected, Result};

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum What {
    /// It is the next of its stream, with bytes to write or without.
    Next {
        peer: Digest,
        /// The stream that its own goes on from, in however many steps: they are one to standard output.
        origin: StreamId,
        stream: u32,
        seq: u32,
        /// Nothing more is to come.
        ends: bool,
        /// Its sender wants to know when it was written.
        asks: bool,
        accepted: Accepted,
    },
    /// It was dropped.
    Dropped,
    /// The peer asks whether a session is still here: this is the answer.
    Asked { topic: String, answer: Vec<u8> },
    /// It was dropped, since it had come before; its bytes may still be on their way to standard output, under this origin.
    Repeated(StreamId),
    /// Its stream goes on from one of which the end has not come: to be kept until that has.
    Early {
        stream: StreamId,
        /// Whether this run receives it, as far as is known.
        ours: bool,
    },
    /// It stays with the broker: another run's, or a KILL, which is done with only when the keys are deleted.
    Left,
}

/// Which streams this run receives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    All,
    /// The first one of which a message comes.
    First,
    /// The one of this origin.
    Only(StreamId),
}

/// The sessions of an encrypted link, and what was received under them.
pub(super) struct Opening<'a> {
    report: &'a Reporter,
    ends: LinkPeers,
    peers: AcceptedPeers,
    cache: Cache,
    watch: Watch,
    receiver: Receiver,
    journal: Journal,
    endings: Vec<Ending>,
    /// Streams that this run saw and that are not complete.
    open: HashSet<StreamId>,
    /// Of each stream that goes on from another, the first stream of that chain.
    origins: HashMap<StreamId, StreamId>,
    pub(super) held: Held<Message>,
    /// Per session, the first stream number that this run could see the beginning of.
    first: HashMap<SessionId, u32>,
    follow: Follow,
    /// What was lost in this run.
    pub(super) lost: bool,
    /// The followed stream is complete, or the peer ended the last session.
    pub(super) over: bool,
    named: KeyedThrottle<Rejected>,
    confirming: Confirming,
    max_message: usize,
    reused: Throttle,
}

impl<'a> Opening<'a> {
    /// Takes the link's receive state, which one sts-recv holds at a time.
    ///
    /// # Errors
    /// As [`crate::recv::run`].
    pub(super) fn new(link: &Link, ends: LinkPeers, once: bool, report: &'a Reporter, now: Instant) -> Result<Self> {
        let cache = link.cache()?;
        let watch = Watch::new(&cache, now, SystemTime::now())?;
        let peers = ends.accepted()?;
        let stored: Vec<_> = watch.sessions().cloned().collect();
        let (journal, unusable) = Journal::open(&cache, &stored)?;
        let mut opening = Self {
            report,
            ends,
            peers,
            cache,
            watch,
            receiver: Receiver::new(),
            journal,
            endings: Vec::new(),
            open: HashSet::new(),
            origins: HashMap::new(),
            held: Held::new(),
            first: HashMap::new(),
            follow: if once { Follow::First } else { Follow::All },
            lost: false,
            over: false,
            named: KeyedThrottle::once(),
            confirming: Confirming::default(),
            max_message: link.config.mqtt.max_message,
            reused: Throttle::every(Duration::from_secs(60)),
        };
        opening.adopt(&unusable);
        if opening.receiver.sessions().next().is_none() {
            let Opening { ends, peers, cache, watch, .. } = &opening;
            return Err(watch.no_session(cache, &ends.expected(), |session| ends.peer_of(session, peers).is_some()));
        }
        Ok(opening)
    }

    /// Opens one payload; its bytes are in `data` then. One that `was_held` is not held again.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the session files cannot be read or written; nothing that a peer sends is an error.
    pub(super) fn take(&mut self, payload: &[u8], was_held: bool, data: &mut BytesMut, now: Instant) -> Result<What> {
        match FrameType::of(payload) {
            Ok(FrameType::Enc | FrameType::Kill) => {}
            Ok(FrameType::RdyReq) => return self.answer(payload, now),
            // The handshake's frames are sts-pair's, which listens on the same topic.
            Ok(_) => return Ok(What::Dropped),
            Err(rejected) => return Ok(self.rejected(rejected, now)),
        }
        // A peer that was forgotten is heard no more, not even for a second.
        if self.watch.is_due(now) || self.ends.have_changed(now)? {
            self.look(now)?;
        }
        let mut opened = self.receiver.open(payload, data);
        if opened == Err(Rejected::UnknownSession) && self.look(now)? {
            opened = self.receiver.open(payload, data);
        }
        let opened = match opened {
            Ok(opened) => opened,
            Err(rejected) => return Ok(self.rejected(rejected, now)),
        };
        let stream = opened.stream;
        if let Some(predecessor) = self.receiver.predecessor(&opened)
            && self.is_new(stream)
        {
            self.goes_on_from(stream, predecessor.stream);
        }
        let is_input = opened.content.is_input();
        let origin = self.origin(stream);
        let is_anothers = is_input && matches!(self.follow, Follow::Only(followed) if followed != origin);
        // Where its stream goes on from one of which nothing came, that may go on from ours.
        if is_anothers && (was_held || !self.is_new(origin)) {
            return Ok(What::Left);
        }
        if !was_held && self.must_wait(&opened, now) {
            return Ok(What::Early { stream, ours: !is_anothers });
        }
        if is_anothers {
            return Ok(What::Left);
        }
        match self.receiver.accept(&opened) {
            Ok(accepted) => {
                // Only now: a message played again is no beginning.
                if is_input && self.follow == Follow::First {
                    self.follow = Follow::Only(self.origin(stream));
                }
                self.accepted(&opened, &accepted, now).map(|()| self.what(&opened, accepted))
            }
            Err(refused) => Ok(self.refused(&opened, refused, now)),
        }
    }

    /// Whether a message must wait, as its stream does, for the end of another one; a stream's first message begins that.
    fn must_wait(&mut self, opened: &Opened, now: Instant) -> bool {
        let stream = opened.stream;
        if let Some(before) = self.receiver.awaits(opened)
            && self.is_new(stream)
        {
            self.open.insert(before.stream);
            self.held.begin(stream, before, now);
        }
        self.held.holds(stream)
    }

    /// Whether nothing of a stream was accepted, and something may be.
    fn is_new(&self, StreamId { session, number }: StreamId) -> bool {
        let is_new = |streams: &Streams| streams.next_seq(number).is_none() && !streams.is_over(number);
        self.receiver.streams(session).is_some_and(is_new)
    }

    fn is_over(&self, stream: StreamId) -> bool {
        self.receiver.streams(stream.session).is_some_and(|streams| streams.is_over(stream.number))
    }

    /// Whether something of a stream was accepted in this run, or nothing will be.
    fn has_begun(&self, stream: StreamId) -> bool {
        let is_open = self.open.contains(&stream);
        let of_session = self.receiver.streams(stream.session);
        let came = of_session.is_some_and(|streams| streams.next_seq(stream.number).is_some());
        (is_open && came) || self.is_over(stream)
    }

    /// The messages of one stream that need not be held any more, or with `all` of any, in the order in which they came; none
    /// where there is no such stream.
    pub(super) fn release(&mut self, all: bool, now: Instant) -> Vec<Message> {
        let receiver = &self.receiver;
        self.held.release(now, |before| all || receiver.is_complete(before))
    }

    fn accepted(&mut self, opened: &Opened, accepted: &Accepted, now: Instant) -> Result<()> {
        let stream = opened.stream;
        let name = self.name(&opened.peer);
        if let Some(closed) = accepted.closed {
            self.lost = true;
            self.open.remove(&closed.stream);
            self.report.warning(format_args!(
                "gap: {name}, stream {}: given up before its end, since too many streams are open",
                closed.stream.number
            ));
        }
        for gap in accepted.predecessor.and_then(|(_, gap)| gap).into_iter().chain(accepted.gap) {
            self.lost = true;
            self.report.warning(format_args!("gap: {name}, {gap}"));
        }
        if let Some((ended, _)) = accepted.predecessor {
            self.open.remove(&ended.stream);
        }
        // Else what a flood of other gaps covers would be nowhere at the end.
        let first = self.first.get(&opened.stream.session).copied().unwrap_or(0);
        if let Some((from, to)) = accepted.given_up.filter(|(_, to)| *to >= first) {
            self.lost = true;
            let streams = numbered("stream", &[(from.max(first), to)]);
            self.report.warning(format_args!("gap: {name}: nothing came of {streams}"));
        }
        if accepted.promoted && self.cache.promote(&opened.peer, &opened.stream.session, unix_time())? {
            self.report.verbose(format_args!("{name}: the new session is in use"));
        }
        match opened.content {
            Content::Data | Content::Continues(_) | Content::Newer => drop(self.open.insert(stream)),
            Content::End => {
                self.open.remove(&stream);
                self.over |= self.follow == Follow::Only(self.origin(stream));
            }
            Content::Continued(next) => {
                self.open.remove(&stream);
                // Whoever carries the messages may have let the next stream pass in front, and its first message be lost:
                // then what comes of it goes behind what came of it, not behind this one.
                if !self.has_begun(next) {
                    self.goes_on_from(next, stream);
                }
                if !self.is_over(next) {
                    self.open.insert(next);
                }
            }
            Content::Kill { next_stream } => {
                self.begin_ending(opened, next_stream, now);
            }
            Content::Confirm(_) | Content::Settled => {}
        }
        if opened.content == Content::Newer {
            self.report.warning(format_args!("{name} sends what only a newer version understands; it is lost here"));
        }
        Ok(())
    }

    fn refused(&mut self, opened: &Opened, refused: AcceptError, now: Instant) -> What {
        if opened.wants_confirms
            && let Some(next) = refused.confirm()
        {
            self.confirming.again(opened.stream, next, now);
        }
        match refused {
            AcceptError::Settled => {
                self.confirming.settled(opened.stream);
                What::Dropped
            }
            // It is done with once the keys are deleted, however often the broker sends it until then.
            AcceptError::Duplicate { .. } if opened.content.ends_session() => What::Left,
            AcceptError::Duplicate { .. } => {
                self.journal.count_duplicate(opened.stream.session);
                What::Repeated(self.origin(opened.stream))
            }
            // A message that shows it can be played again and again: it is news once a minute.
            AcceptError::StreamReused if self.reused.happened(now).is_none() => self.rejected(refused.rejected(), now),
            AcceptError::StreamReused => {
                self.report.warning(format_args!(
                    "{} used stream {} twice: its runtime directory was copied or restored; pair again",
                    self.name(&opened.peer),
                    opened.stream.number
                ));
                self.rejected(refused.rejected(), now)
            }
            _ => self.rejected(refused.rejected(), now),
        }
    }

    /// Counts a message that was dropped, and names its kind once.
    pub(super) fn rejected(&mut self, rejected: Rejected, now: Instant) -> What {
        self.journal.count_rejected(rejected);
        if self.named.is_due(&rejected, now) {
            self.report.warning(format_args!("dropped a message: {rejected}; others of the kind are only counted"));
        }
        What::Dropped
    }

    /// Writes down what standard output took.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub(super) fn record(&mut self, entries: &[JournalEntry]) -> Result<()> {
        if entries.is_empty() { Ok(()) } else { self.journal.record(&self.cache, entries) }
    }

    /// When [`Opening::delete_ended`], [`Opening::confirm`] or [`Opening::release`] has something to do at the latest.
    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        let endings = self.endings.iter().map(|ending| ending.until);
        endings.chain(self.confirming.deadline()).chain(self.held.deadline())
    }

    /// Standard output took a message whose sender wants to know; it is written down.
    pub(super) fn written(&mut self, accepted: &Accepted, bytes: usize, now: Instant) {
        let Progress { stream, state, .. } = accepted.progress;
        self.confirming.written(stream, bytes, state == StreamState::Ended, now);
    }

    /// The confirms that are due, `all` of them at the end of a run; each with its topic and whether it must arrive.
    ///
    /// What is confirmed is what is written down, never what is only accepted.
    ///
    /// # Errors
    /// As [`Confirming::seal`].
    pub(super) fn confirm(
        &mut self,
        all: bool,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<(String, Bytes, bool)>> {
        let Some((streams, last)) = self.confirming.take(all, now) else { return Ok(Vec::new()) };
        let mut sealed = Vec::new();
        for of_session in streams.chunk_by(|(one, _), (other, _)| one.session == other.session) {
            let id = of_session[0].0.session;
            let Some(session) = self.receiver.session(id) else { continue };
            let Some((written, _)) = self.journal.state().session(id) else { continue };
            let wanted: Vec<_> = of_session
                .iter()
                .map(|&(StreamId { number: stream, .. }, next)| {
                    // Of a stream that ended long ago all that comes again was written; of any other that is not known,
                    // nothing was.
                    let forgotten = if written.ended().contains(stream) { next } else { 0 };
                    (stream, written.next_seq(stream).unwrap_or(forgotten))
                })
                .collect();
            let topic = self.ends.route.publish(&session.topics);
            let confirms = self.confirming.seal(session, &wanted, self.max_message, &self.cache, rng)?;
            sealed.extend(confirms.into_iter().map(|confirm| (topic.to_owned(), confirm, last)));
        }
        Ok(sealed)
    }

    /// Until when a run that is over stays, as a sender may not have heard that all of its stream is written.
    pub(super) fn lingers(&self, now: Instant) -> Option<Instant> {
        self.confirming.lingers().filter(|until| *until > now)
    }

    fn what(&self, opened: &Opened, accepted: Accepted) -> What {
        let origin = self.origin(opened.stream);
        let Opened { peer, stream, seq, wants_confirms: asks, .. } = *opened;
        match opened.content {
            Content::Data | Content::Continues(_) | Content::Continued(_) | Content::Newer => {
                What::Next { peer, origin, stream: stream.number, seq, ends: false, asks, accepted }
            }
            Content::End => What::Next { peer, origin, stream: stream.number, seq, ends: true, asks, accepted },
            // For sts-send, if one waits.
            Content::Confirm(_) | Content::Settled => What::Dropped,
            Content::Kill { .. } => What::Left,
        }
    }
}
