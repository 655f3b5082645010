//! What becomes of the bytes that were read: an MQTT payload, sealed where the link is.

mod asking;
mod resuming;
mod rotating;

use std::time::{Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::{CryptoRng, RngExt};

use self::asking::Asking;
use self::rotating::Next;
use super::Options;
use super::reading::Reading;
use crate::cache::{Cache, StoredSession, Watch};
use crate::config::Config;
use crate::crypto::schedule::{Digest, Topics};
use crate::handshake::{Peer, session_check};
use crate::link::{Link, unix_time};
use crate::message::FrameType;
use crate::peers::{LinkPeers, list};
use crate::session::{Session, Standing};
use crate::stream::{AcceptError, Accepted, Content, Receiver, RetransmitQueue, Sender};
use crate::{Error, Exit, Rejected, Result};

/// Most bytes that wait for a confirm.
const UNCONFIRMED: usize = 2 << 20;

/// How a message is made of what was read.
pub(super) enum Framing {
    /// `nosec`: the payload is what was read.
    Plain {
        /// Longest payload, in bytes.
        max_message: usize,
    },
    /// Sealed under the link's current session.
    Sealed(Box<Sealing>),
}

impl Framing {
    /// Begins to read: only now is there something to say that needs a stream.
    pub(super) fn begin(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Reading> {
        match self {
            Self::Plain { max_message } => Ok(Reading::new(BytesMut::new(), *max_message)),
            Self::Sealed(sealing) => sealing.begin(now, rng),
        }
    }

    /// Looks whether the next message is for another stream: then there is no room for it before [`Sealing::step`] has
    /// said what has to be said between them.
    pub(super) fn follow(&mut self, now: Instant) -> Result<()> {
        match self {
            Self::Plain { .. } => Ok(()),
            Self::Sealed(sealing) => sealing.follow(now),
        }
    }

    /// Where to publish.
    pub(super) fn topic<'a>(&'a self, config: &'a Config) -> &'a str {
        match self {
            Self::Plain { .. } => config.publish.as_str(),
            Self::Sealed(sealing) => sealing.ends.route.publish(&sealing.topics),
        }
    }

    /// Where the peer publishes; `None` where there is none.
    pub(super) fn listen(&self) -> Option<&str> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => Some(sealing.ends.route.listen(&sealing.topics)),
        }
    }

    /// Where the answer to a question about a session comes; `None` where none is asked.
    pub(super) fn answers_on(&self) -> Option<&str> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => sealing.answers_on(),
        }
    }

    /// The beginning of a message, to which its bytes are appended; empty where there is no stream.
    pub(super) fn buffer(&self) -> BytesMut {
        match self {
            Self::Plain { .. } => BytesMut::new(),
            Self::Sealed(sealing) => sealing.buffer(),
        }
    }

    /// The seq of the first message of the stream that the receiver has not confirmed; `None` where it is not asked to.
    pub(super) fn confirmed(&self) -> Option<u32> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => sealing.confirms.as_ref().map(|confirms| confirms.window.first()),
        }
    }

    /// What seals, if anything does.
    pub(super) fn sealing(&mut self) -> Option<&mut Sealing> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => Some(sealing),
        }
    }

    /// What asks for confirms, if this does.
    pub(super) fn confirms(&mut self) -> Option<&mut Sealing> {
        self.sealing().filter(|sealing| sealing.confirms.is_some())
    }

    /// Whether a message of `size` bytes may go out now.
    pub(super) fn has_room(&self, size: usize) -> bool {
        match self {
            Self::Plain { .. } => true,
            Self::Sealed(sealing) => {
                let confirms = sealing.confirms.as_ref();
                sealing.next.is_none() && confirms.is_none_or(|confirms| confirms.window.has_room(size))
            }
        }
    }

    /// Messages and bytes that the receiver has not confirmed; `None` where it is not asked to.
    pub(super) fn unconfirmed(&self) -> Option<(usize, usize)> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => sealing.confirms.as_ref().map(|confirms| confirms.window.unconfirmed()),
        }
    }

    /// When [`Sealing::step`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            Self::Plain { .. } => None,
            Self::Sealed(sealing) => sealing.confirms.as_ref().and_then(|confirms| confirms.window.deadline()),
        }
    }

    /// The payload of a message; `None` where there is nothing to say.
    pub(super) fn finish(
        &mut self,
        message: BytesMut,
        ends: bool,
        now: Instant,
        rng: &mut impl CryptoRng,
    ) -> Result<Option<Bytes>> {
        match self {
            Self::Plain { .. } => Ok((!message.is_empty()).then(|| message.freeze())),
            Self::Sealed(sealing) => sealing.finish(message, ends, now, rng).map(Some),
        }
    }
}

/// The stream that standard input is sealed into, and where the next one comes from.
pub(super) struct Sealing {
    ends: LinkPeers,
    cache: Cache,
    watch: Watch,
    /// A look saw a change that [`Sealing::follow`] has not seen yet.
    changed: bool,
    max_message: usize,
    /// Those of the session.
    topics: Topics,
    /// The stream and its session; none before there is something to send.
    stream: Option<(Sender, Session)>,
    /// The stream's session was not the current one when an earlier run's stream was taken up.
    stale: bool,
    next: Option<Next>,
    confirms: Option<Confirms>,
    /// Whether the receiver has lost the stream's session.
    asking: Option<Asking>,
}

/// What the receiver has confirmed, and what to do about the rest: `--confirm`.
struct Confirms {
    window: RetransmitQueue,
    /// Opens the confirms; they come in a stream of the receiver's own.
    receiver: Receiver,
}

impl Sealing {
    /// Finds the session to send under; no number is taken yet.
    ///
    /// # Errors
    /// As [`crate::send::run`].
    pub(super) fn open(link: &Link, mut ends: LinkPeers, options: &Options, now: Instant) -> Result<Self> {
        let cache = link.cache()?;
        if let Some(name) = &options.to {
            ends.restrict_to(name)?;
        }
        let peers = ends.accepted()?;
        let of_peer = |peer: &Digest| Watch::of_peer(&cache, peer, now, SystemTime::now());
        let (session, watch) = if let [one] = &peers[..] {
            let watch = of_peer(one.key.fingerprint().as_bytes())?;
            (current(&ends, &cache, &watch)?, watch)
        } else {
            let session = current(&ends, &cache, &Watch::new(&cache, now, SystemTime::now())?)?;
            let watch = of_peer(&session.peer)?;
            (session, watch)
        };
        // The one peer that there is now stays the one, whoever else pairs meanwhile.
        if let Some(peer) = peers.get(&session.peer) {
            ends.restrict_to(&peer.name)?;
        }
        let max_message = link.config.mqtt.max_message;
        let confirms = options
            .confirm
            .then(|| Confirms { window: RetransmitQueue::new(0, UNCONFIRMED, now), receiver: Receiver::new() });
        let topics = session.topics;
        let (stream, changed, stale) = (None, false, false);
        let mut sealing = Self {
            ends,
            cache,
            watch,
            changed,
            max_message,
            topics,
            stream,
            stale,
            next: None,
            confirms,
            asking: None,
        };
        sealing.adopt()?;
        Ok(sealing)
    }

    /// Gives the sessions that are usable now to what opens confirms.
    fn adopt(&mut self) -> Result<()> {
        let Some(confirms) = &mut self.confirms else { return Ok(()) };
        let peers = self.ends.accepted()?;
        let usable = self.watch.sessions().filter(|stored| self.ends.peer_of(&stored.session, &peers).is_some());
        confirms.receiver.update(usable.map(|stored| (stored.session.clone(), stored.standing)));
        Ok(())
    }

    /// Takes a payload from the receiver's topic; true if it confirms something.
    ///
    /// # Errors
    /// What is wrong with it; nothing changed then.
    pub(super) fn hear(&mut self, payload: &[u8], now: Instant) -> std::result::Result<bool, Rejected> {
        let (Some(confirms), Some((sender, session))) = (&mut self.confirms, &mut self.stream) else {
            return Ok(false);
        };
        if FrameType::of(payload)? != FrameType::Enc {
            return Ok(false);
        }
        let opened = confirms.receiver.open(payload, &mut BytesMut::new())?;
        let Content::Confirm(streams) = &opened.content else { return Ok(false) };
        if opened.stream.session != session.id {
            return Ok(false);
        }
        // Gaps between confirms are no loss, as each says all that the ones before it did; a repeat says nothing.
        let _: Accepted = confirms.receiver.accept(&opened).map_err(AcceptError::rejected)?;
        let Some((_, next)) = streams.iter().find(|(stream, _)| *stream == sender.id().number) else {
            return Ok(false);
        };
        let news = confirms.window.confirm(*next, now)?;
        if news {
            self.asking = None;
        }
        // The receiver may have what an earlier run sent and this one has not sent again.
        sender.skip_to(confirms.window.first());
        Ok(news)
    }

    /// The answer to a peer that asks whether a session is still here.
    ///
    /// # Errors
    /// As [`Cache::answer`].
    pub(super) fn answer(&mut self, payload: &[u8], now: Instant) -> Result<Option<Vec<u8>>> {
        if session_check::query_session(payload).is_none() {
            return Ok(None);
        }
        self.look(now)?;
        let peers = self.ends.still_accepted();
        self.cache.answer(payload, &self.watch, |session| self.ends.peer_of(session, &peers).is_some(), unix_time())
    }

    /// Whether the stream's session was deleted here, by `sts-pair --end` or `--forget` or with age: no confirm under it can
    /// be opened any more.
    ///
    /// # Errors
    /// As [`Watch::refresh`].
    pub(super) fn is_deleted(&mut self, now: Instant) -> Result<bool> {
        self.look(now)?;
        let Some((_, session)) = &self.stream else { return Ok(false) };
        Ok(!self.watch.sessions().any(|stored| stored.session.id == session.id))
    }

    /// Whether there is a session to send under, whatever that of the stream is.
    pub(super) fn has_another(&self) -> bool {
        self.current().is_ok()
    }

    /// Looks whether sessions came or went: while there is nothing to send, nobody else does.
    fn look(&mut self, now: Instant) -> Result<()> {
        if self.watch.is_due(now) {
            self.changed |= self.watch.refresh(&self.cache, now, SystemTime::now())? | self.ends.refresh()?;
        }
        Ok(())
    }

    /// Nothing can be heard now: that nothing is confirmed means nothing.
    pub(super) fn not_yet(&mut self, now: Instant) {
        if let Some(confirms) = &mut self.confirms {
            confirms.window.restart_timer(now);
        }
    }

    fn current(&self) -> Result<Session> {
        current(&self.ends, &self.cache, &self.watch)
    }

    /// A fresh stream of `session`.
    fn take(&self, session: &Session, rng: &mut impl CryptoRng) -> Result<Sender> {
        let taken = self.cache.reserve_stream(&session.peer, &session.id)?;
        let sender = Sender::new(session, taken, rng.random(), self.max_message)?;
        Ok(if self.confirms.is_some() { sender.ask_for_confirms() } else { sender })
    }

    fn stream(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<&mut (Sender, Session)> {
        if self.stream.is_none() {
            // Up to here nobody may have looked since the run began, and the session of then may be gone.
            self.look(now)?;
            self.adopt()?;
            let session = self.current()?;
            self.topics = session.topics.clone();
            self.stream = Some((self.take(&session, rng)?, session));
        }
        Ok(self.stream.as_mut().expect("it was just set"))
    }

    fn begin(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Reading> {
        let (sender, _) = self.stream(now, rng)?;
        Ok(Reading::new(sender.buffer(0), sender.max_data_len()))
    }

    /// The session to go on under, where there is a newer one or the stream has no numbers left.
    fn due(&mut self, now: Instant) -> Result<Option<Session>> {
        let Some((sender, session)) = &self.stream else { return Ok(None) };
        let full = sender.is_full();
        // Nothing more is sealed for a peer that was forgotten, not even for a second.
        let forgotten = self.ends.have_changed(now)? && self.ends.refresh()?;
        if !full && !self.stale && !self.changed && !forgotten && !self.watch.is_due(now) {
            return Ok(None);
        }
        self.changed |= self.watch.refresh(&self.cache, now, SystemTime::now())? | forgotten;
        if !full && !self.changed && !std::mem::take(&mut self.stale) {
            return Ok(None);
        }
        self.changed = false;
        let newest = self.current()?;
        let same = newest.id == session.id;
        self.adopt()?;
        Ok((full || !same).then_some(newest))
    }

    fn follow(&mut self, now: Instant) -> Result<()> {
        if self.due(now)?.is_some() {
            self.next.get_or_insert(Next::Wanted);
        }
        Ok(())
    }

    fn finish(&mut self, message: BytesMut, ends: bool, now: Instant, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let cache = &self.cache;
        let (sender, session) = self.stream.as_mut().expect("a message is begun with a stream");
        let blocks = sender.blocks_to_reserve(message.len());
        if blocks > 0 {
            cache.reserve_blocks(&session.peer, &session.id, blocks)?;
            sender.grant(blocks);
        }
        let sealed = if ends { sender.end(message, rng)? } else { sender.data(message, rng)? };
        if let Some(confirms) = &mut self.confirms {
            confirms.window.push(sealed.clone(), now);
        }
        Ok(sealed)
    }
}

/// The session to send under: the current one with the one peer of this link.
fn current(ends: &LinkPeers, cache: &Cache, watch: &Watch) -> Result<Session> {
    let peers = ends.accepted()?;
    let is_current = |stored: &&StoredSession| stored.standing == Standing::Current;
    let mut usable: Vec<(&Session, &Peer)> = watch
        .sessions()
        .filter(is_current)
        .filter_map(|stored| ends.peer_of(&stored.session, &peers).map(|peer| (&stored.session, peer)))
        .collect();
    usable.sort_by_key(|(_, peer)| &peer.name);
    match usable[..] {
        [] => Err(watch.no_session(cache, &ends.expected(), |session| ends.peer_of(session, &peers).is_some())),
        [(session, _)] => Ok(session.clone()),
        [(_, peer), ..] => Err(Error::new(Exit::Usage, "there are sessions with several peers")
            .because(list(usable.iter().map(|(_, peer)| &peer.name)))
            .hint(format!("say which one is meant: --to {}", peer.name))),
    }
}
