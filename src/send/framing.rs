//! What becomes of the bytes that were read: an MQTT payload, sealed where the link is.

use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::{CryptoRng, RngExt};

use super::reading::Reading;
use crate::cache::{Cache, Watch};
use crate::handshake::{Peer, alive};
use crate::link::{Ends, Link, unix_time};
use crate::message::Type;
use crate::session::{Session, Standing};
use crate::stream::{Accepted, Payload, Receiver, Refused, Sender, Window};
use crate::{Error, Exit, Rejected, Result};

/// How often a running sender looks whether there is a newer session.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    pub(super) fn begin(&mut self, rng: &mut impl CryptoRng) -> Result<Reading> {
        match self {
            Self::Plain { max_message } => Ok(Reading::new(BytesMut::new(), *max_message)),
            Self::Sealed(sealing) => sealing.begin(rng),
        }
    }

    /// What has to go before the next message, where the session changed since the last one.
    pub(super) fn follow(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        match self {
            Self::Plain { .. } => Ok(None),
            Self::Sealed(sealing) => sealing.follow(now, rng),
        }
    }

    /// What asks for confirms, if this does.
    pub(super) fn confirms(&mut self) -> Option<&mut Sealing> {
        match self {
            Self::Sealed(sealing) if sealing.confirms.is_some() => Some(sealing),
            _ => None,
        }
    }

    /// Whether a message of `size` bytes may go out before older ones are confirmed.
    pub(super) fn has_room(&self, size: usize) -> bool {
        match self {
            Self::Plain { .. } => true,
            Self::Sealed(sealing) => {
                sealing.confirms.as_ref().is_none_or(|confirms| confirms.next.is_none() && confirms.window.room(size))
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
    ends: Ends,
    cache: Cache,
    watch: Watch,
    looked: Instant,
    /// A look saw a change that [`Sealing::follow`] has not seen yet.
    changed: bool,
    max_message: usize,
    /// The stream and its session; none before there is something to send.
    stream: Option<(Sender, Session)>,
    confirms: Option<Confirms>,
}

/// What the receiver has confirmed, and what to do about the rest: `--confirm`.
struct Confirms {
    window: Window,
    /// Opens the confirms; they come in a stream of the receiver's own.
    receiver: Receiver,
    next: Option<Next>,
}

/// What [`Sealing::step`] did.
pub(super) enum Step {
    /// This is to be sent.
    Send(Bytes),
    /// Nothing: there is something to wait for.
    Wait,
}

/// On the way to another stream: nothing is sent in it before the old one is confirmed to its end, so that the receiver
/// never has to hold one back.
enum Next {
    /// Once all is confirmed, the old stream says where it goes on.
    Wanted,
    /// It has said so; once that is confirmed, too, it goes on there.
    Announced(Box<(Sender, Session)>),
}

impl Sealing {
    /// Finds the session to send under; no number is taken yet.
    ///
    /// # Errors
    /// As [`crate::send::run`].
    pub(super) fn open(link: &Link, ends: Ends, confirm: bool, now: Instant) -> Result<Self> {
        let cache = link.sessions()?;
        let watch = Watch::new(&cache, SystemTime::now())?;
        let max_message = link.config.mqtt.max_message;
        let confirms = confirm.then(|| Confirms {
            window: Window::new(0, UNCONFIRMED, now),
            receiver: Receiver::new(),
            next: None,
        });
        let mut sealing = Self { ends, cache, watch, looked: now, changed: false, max_message, stream: None, confirms };
        sealing.current()?;
        sealing.adopt()?;
        Ok(sealing)
    }

    /// Gives the sessions that are usable now to what opens confirms.
    fn adopt(&mut self) -> Result<()> {
        let Some(confirms) = &mut self.confirms else { return Ok(()) };
        let peers = self.ends.peers()?;
        let usable = self.watch.sessions().filter(|stored| self.ends.accepts(&stored.session, &peers).is_some());
        confirms.receiver.update(usable.map(|stored| (stored.session.clone(), stored.standing)));
        Ok(())
    }

    /// Takes a payload from the receiver's topic; true if it confirms something.
    ///
    /// # Errors
    /// What is wrong with it; nothing changed then.
    pub(super) fn hear(&mut self, payload: &[u8], now: Instant) -> std::result::Result<bool, Rejected> {
        let (Some(confirms), Some((sender, session))) = (&mut self.confirms, &self.stream) else { return Ok(false) };
        if Type::of(payload)? != Type::Enc {
            return Ok(false);
        }
        let opened = confirms.receiver.open(payload, &mut BytesMut::new())?;
        let Payload::Confirm(streams) = &opened.payload else { return Ok(false) };
        if opened.session != session.id {
            return Ok(false);
        }
        // Gaps between confirms are no loss, as each says all that the ones before it did; a repeat says nothing.
        let _: Accepted = confirms.receiver.accept(&opened).map_err(Refused::rejected)?;
        match streams.iter().find(|(stream, _)| *stream == sender.stream()) {
            Some((_, next)) => confirms.window.confirm(*next, now),
            None => Ok(false),
        }
    }

    /// The answer to a peer that asks whether a session is still here.
    ///
    /// # Errors
    /// As [`Cache::answer`].
    pub(super) fn answer(&mut self, payload: &[u8], now: Instant) -> Result<Option<Vec<u8>>> {
        let Some(id) = alive::asked_for(payload) else { return Ok(None) };
        // While there is nothing to send, nobody else looks.
        if now >= self.looked + LOOK_EVERY {
            self.looked = now;
            self.changed |= self.watch.refresh(&self.cache, SystemTime::now())? | self.ends.refresh()?;
        }
        let peers = self.ends.peers()?;
        let asked = self.watch.sessions().filter(|stored| stored.session.id == id);
        let usable = asked.filter(|stored| self.ends.accepts(&stored.session, &peers).is_some());
        self.cache.answer(payload, usable, unix_time())
    }

    /// Nothing can be heard now: that nothing is confirmed means nothing.
    pub(super) fn not_yet(&mut self, now: Instant) {
        if let Some(confirms) = &mut self.confirms {
            confirms.window.not_yet(now);
        }
    }

    /// What is to be sent besides new data: what was not confirmed, or the way to another stream.
    ///
    /// # Errors
    /// As [`Sealing::open`]; [`Exit::Failed`] where the session file cannot be written.
    pub(super) fn step(&mut self, now: Instant, rng: &mut impl CryptoRng) -> Result<Step> {
        let Some(confirms) = &mut self.confirms else { return Ok(Step::Wait) };
        if let Some(again) = confirms.window.poll(now) {
            return Ok(Step::Send(again));
        }
        if confirms.window.unconfirmed().0 > 0 {
            return Ok(Step::Wait);
        }
        match confirms.next.take() {
            None => Ok(Step::Wait),
            Some(Next::Wanted) => {
                let session = self.current()?;
                let next = self.take(&session, rng)?;
                let (old, _) = self.stream.as_mut().expect("there is a stream to come from");
                let continued = old.continued(&next, rng)?;
                let confirms = self.confirms.as_mut().expect("it was there");
                confirms.window.push(continued.clone(), now);
                confirms.next = Some(Next::Announced(Box::new((next, session))));
                Ok(Step::Send(continued))
            }
            Some(Next::Announced(next)) => {
                confirms.window = Window::new(next.0.next_seq(), UNCONFIRMED, now);
                let (old, _) = self.stream.replace(*next).expect("there is a stream to come from");
                old.settled(rng).map(Step::Send)
            }
        }
    }

    /// The last word, once all is confirmed: whoever waits to confirm it again may go.
    ///
    /// # Errors
    /// As [`Sender::settled`].
    pub(super) fn settle(&mut self, rng: &mut impl CryptoRng) -> Result<Option<Bytes>> {
        self.stream.take().map(|(sender, _)| sender.settled(rng)).transpose()
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
        Err(self.ends.no_session(&self.cache, &self.watch, &peers))
    }

    /// A fresh stream of `session`.
    fn take(&self, session: &Session, rng: &mut impl CryptoRng) -> Result<Sender> {
        let taken = self.cache.take_stream(&session.peer, &session.id)?;
        let sender = Sender::new(session, taken, rng.random(), self.max_message)?;
        Ok(if self.confirms.is_some() { sender.ask_for_confirms() } else { sender })
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
        Ok(Reading::new(sender.buffer(0), sender.payload_room()))
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
        self.changed |= self.watch.refresh(&self.cache, SystemTime::now())? | self.ends.refresh()?;
        if !full && !self.changed {
            return Ok(None);
        }
        self.changed = false;
        let newest = self.current()?;
        let same = newest.id == session.id;
        self.adopt()?;
        if !full && same {
            return Ok(None);
        }
        if let Some(confirms) = &mut self.confirms {
            confirms.next.get_or_insert(Next::Wanted);
            return Ok(None);
        }
        let next = self.take(&newest, rng)?;
        let (mut old, _) = self.stream.replace((next, newest)).expect("there is one");
        let (next, _) = self.stream.as_ref().expect("it was just set");
        old.continued(next, rng).map(Some)
    }

    fn finish(&mut self, message: BytesMut, ends: bool, now: Instant, rng: &mut impl CryptoRng) -> Result<Bytes> {
        let cache = &self.cache;
        let (sender, session) = self.stream.as_mut().expect("a message is begun with a stream");
        let blocks = sender.wanted(message.len());
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
