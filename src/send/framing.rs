//! What becomes of the bytes that were read: an MQTT payload, sealed where the link is.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::{CryptoRng, RngExt};

use crate::cache::{Cache, Watch};
use crate::handshake::Peer;
use crate::link::{Ends, Link};
use crate::session::{Session, Standing};
use crate::stream::Sender;
use crate::{Error, Exit, Result};

/// How often a running sender looks whether there is a newer session.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

/// A message that is being read: its bytes of data are `buffer[head..]`.
pub(super) struct Reading {
    pub(super) buffer: BytesMut,
    pub(super) head: usize,
    /// Most bytes of data that it carries.
    pub(super) room: usize,
}

impl Reading {
    /// What was read so far.
    pub(super) fn data(&self) -> &[u8] {
        &self.buffer[self.head..]
    }
}

impl Framing {
    /// A message that begins with `rest`, what the one before it did not take.
    pub(super) fn begin(&mut self, rest: &[u8], rng: &mut impl CryptoRng) -> Result<Reading> {
        let mut reading = match self {
            Self::Plain { max_message } => Reading { buffer: BytesMut::new(), head: 0, room: *max_message },
            Self::Sealed(sealing) => sealing.begin(rng)?,
        };
        reading.buffer.extend_from_slice(rest);
        Ok(reading)
    }

    /// The payloads that come before the next message, where the session changed since the last one.
    pub(super) fn follow(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        match self {
            Self::Plain { .. } => Ok(None),
            Self::Sealed(sealing) => sealing.follow(now, rng),
        }
    }

    /// The payload of a message; `None` where there is nothing to say.
    pub(super) fn finish(&mut self, message: BytesMut, ends: bool, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        match self {
            Self::Plain { .. } => Ok((!message.is_empty()).then(|| message.freeze())),
            Self::Sealed(sealing) => sealing.finish(message, ends, rng).map(Some),
        }
    }
}

/// The stream that standard input is sealed into, and where the next one comes from.
pub(super) struct Sealing {
    ends: Ends,
    cache: Cache,
    watch: Watch,
    looked: Instant,
    max_message: usize,
    /// The stream and its peer's fingerprint; none before there is something to send.
    stream: Option<(Sender, Session)>,
}

impl Sealing {
    /// Finds the session to send under; no number is taken yet.
    ///
    /// # Errors
    /// As [`crate::send::run`].
    pub(super) fn open(link: &Link, ends: Ends, now: Instant) -> Result<Self> {
        let cache = link.sessions()?;
        let watch = Watch::new(&cache, SystemTime::now())?;
        let max_message = link.config.mqtt.max_message;
        let sealing = Self { ends, cache, watch, looked: now, max_message, stream: None };
        sealing.current()?;
        Ok(sealing)
    }

    /// The session to send under: the current one with the one peer of this link.
    fn current(&self) -> Result<Session> {
        let peers = self.ends.peers()?;
        let mut of: Option<(&Session, &Peer)> = None;
        for stored in self.watch.sessions().filter(|stored| stored.standing == Standing::Current) {
            let Some(peer) = self.ends.accepts(&stored.session, &peers) else { continue };
            if let Some((_, other)) = of {
                return Err(Error::new(Exit::Config, "there are sessions with several peers")
                    .because(format!("{}, {}", other.name, peer.name))
                    .hint(format!("say which one is meant, in the configuration: peer = {}", peer.name)));
            }
            of = Some((&stored.session, peer));
        }
        if let Some((session, _)) = of {
            return Ok(session.clone());
        }
        let expected = self.ends.expected();
        let mut current = self.watch.sessions().filter(|stored| stored.standing == Standing::Current);
        let why = current.find_map(|stored| stored.session.mismatch(&expected));
        let broken = self.watch.broken().next();
        Err(match (why, broken) {
            (Some(why), _) => self.cache.no_session().because(format!("the one there is does not fit: {why}")),
            (None, Some(broken)) => broken.clone(),
            (None, None) => self.cache.no_session(),
        })
    }

    /// A fresh stream of `session`.
    fn take(&self, session: &Session, rng: &mut impl CryptoRng) -> Result<Sender> {
        let taken = self.cache.take_stream(&session.peer, &session.id)?;
        Sender::new(session, taken, rng.random(), self.max_message)
    }

    fn stream(&mut self, rng: &mut impl CryptoRng) -> Result<&mut (Sender, Session)> {
        if self.stream.is_none() {
            let session = self.current()?;
            self.stream = Some((self.take(&session, rng)?, session));
        }
        Ok(self.stream.as_mut().expect("it was just set"))
    }

    fn begin(&mut self, rng: &mut impl CryptoRng) -> Result<Reading> {
        let (sender, _) = self.stream(rng)?;
        let room = sender.payload_room();
        let buffer = sender.buffer(room);
        Ok(Reading { head: buffer.len(), buffer, room })
    }

    /// Goes on in another stream where there is a newer session or this one has no numbers left: its first word is the
    /// last one of the old stream, so that the receiver knows in which order they belong.
    fn follow(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        let Some((sender, session)) = &self.stream else { return Ok(None) };
        let full = sender.is_full();
        if !full && now < self.looked + LOOK_EVERY {
            return Ok(None);
        }
        self.looked = now;
        let changed = self.watch.refresh(&self.cache, SystemTime::now())? | self.ends.refresh()?;
        if !full && !changed {
            return Ok(None);
        }
        let newest = self.current()?;
        if !full && newest.id == session.id {
            return Ok(None);
        }
        let next = self.take(&newest, rng)?;
        let (mut old, _) = self.stream.replace((next, newest)).expect("there is one");
        let (next, _) = self.stream.as_ref().expect("it was just set");
        old.continued(next, rng).map(Some)
    }

    fn finish(&mut self, message: BytesMut, ends: bool, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let cache = &self.cache;
        let (sender, session) = self.stream.as_mut().expect("a message is begun with a stream");
        let blocks = sender.wanted(message.len());
        if blocks > 0 {
            cache.reserve_blocks(&session.peer, &session.id, blocks)?;
            sender.grant(blocks);
        }
        if ends { sender.end(message, rng) } else { sender.data(message, rng) }
    }
}
