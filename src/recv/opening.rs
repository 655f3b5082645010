//! What comes from the broker, opened: which bytes it carries, and what it says about its stream.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use rand::CryptoRng;

use super::confirming::Confirming;
use crate::cache::{Cache, Entry, Journal, Watch};
use crate::cli::{Notice, Reporter};
use crate::crypto::schedule::Digest;
use crate::handshake::alive;
use crate::link::{Ends, Link, Peers, unix_time};
use crate::message::Type;
use crate::session::SessionId;
use crate::stream::{Accepted, Gap, Mark, Opened, Payload, Place, Receiver, Refused};
use crate::{Rejected, Result};

/// How often a running receiver looks whether a session came or went, while messages come.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long after a KILL the streams before it may still arrive.
const AFTER_KILL: Duration = Duration::from_secs(60);

/// One stream of one session.
pub(super) type StreamId = (SessionId, u32);

/// What becomes of a message.
#[derive(Debug)]
pub(super) enum What {
    /// It is the next of its stream, with bytes to write or without.
    Next {
        peer: Digest,
        stream: StreamId,
        seq: u32,
        /// The stream is complete with it.
        ends: bool,
        /// Its sender wants to know when it was written.
        asks: bool,
        accepted: Accepted,
    },
    /// It was dropped.
    Dropped,
    /// The peer asks whether a session is still here: this is the answer.
    Asked { topic: String, answer: Vec<u8> },
    /// It was dropped, since it had come before; its bytes may still be on their way to standard output.
    Repeated(StreamId),
    /// It stays with the broker: another run's, or a KILL, which is settled only when the keys are deleted.
    Left,
}

/// Which streams this run receives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Follow {
    All,
    /// The first one of which a message comes.
    First,
    Only(StreamId),
}

/// A peer that ended its sessions, of which the last streams may be on their way.
struct Ending {
    peer: Digest,
    session: SessionId,
    next_stream: u32,
    until: Instant,
}

/// The sessions of an encrypted link, and what was received under them.
pub(super) struct Opening<'a> {
    report: &'a Reporter,
    ends: Ends,
    peers: Peers,
    cache: Cache,
    watch: Watch,
    looked: Instant,
    receiver: Receiver,
    journal: Journal,
    endings: Vec<Ending>,
    /// Streams that this run saw and that are not complete.
    open: HashSet<StreamId>,
    /// Per session, the first stream number that this run could see the beginning of.
    first: HashMap<SessionId, u32>,
    follow: Follow,
    /// What was lost in this run.
    pub(super) lost: bool,
    /// The followed stream is complete, or the peer ended the last session.
    pub(super) over: bool,
    named: HashMap<Rejected, Notice>,
    confirming: Confirming,
    max_message: usize,
    reused: Notice,
}

impl<'a> Opening<'a> {
    /// Takes the link's receive state, which one sts-recv holds at a time.
    ///
    /// # Errors
    /// As [`crate::recv::run`].
    pub(super) fn new(link: &Link, ends: Ends, once: bool, report: &'a Reporter, now: Instant) -> Result<Self> {
        let cache = link.sessions()?;
        let watch = Watch::new(&cache, SystemTime::now())?;
        let peers = ends.peers()?;
        let stored: Vec<_> = watch.sessions().cloned().collect();
        let (journal, unusable) = Journal::open(&cache, &stored)?;
        let mut opening = Self {
            report,
            ends,
            peers,
            cache,
            watch,
            looked: now,
            receiver: Receiver::new(),
            journal,
            endings: Vec::new(),
            open: HashSet::new(),
            first: HashMap::new(),
            follow: if once { Follow::First } else { Follow::All },
            lost: false,
            over: false,
            named: HashMap::new(),
            confirming: Confirming::default(),
            max_message: link.config.mqtt.max_message,
            reused: Notice::every(Duration::from_secs(60)),
        };
        opening.adopt(&unusable);
        if opening.receiver.sessions().next().is_none() {
            return Err(opening.ends.no_session(&opening.cache, &opening.watch, &opening.peers));
        }
        Ok(opening)
    }

    /// Gives the receiver the sessions that are usable now.
    fn adopt(&mut self, unusable: &[SessionId]) {
        let usable: Vec<_> = self
            .watch
            .sessions()
            .filter(|stored| !unusable.contains(&stored.session.id))
            .filter(|stored| self.ends.accepts(&stored.session, &self.peers).is_some())
            .map(|stored| (stored.session.clone(), stored.standing))
            .collect();
        let known: HashSet<SessionId> = self.receiver.sessions().copied().collect();
        let new: Vec<_> = usable.iter().map(|(session, _)| session.id).filter(|id| !known.contains(id)).collect();
        self.receiver.update(usable);
        for id in new {
            let streams = self.journal.state().session(&id).map(|(streams, _)| streams.clone()).unwrap_or_default();
            self.first.insert(id, streams.known_end());
            self.receiver.restore(&id, streams);
        }
    }

    /// Looks whether sessions came or went; one stat where none did.
    fn look(&mut self, now: Instant) -> Result<bool> {
        self.looked = now;
        let changed = self.watch.refresh(&self.cache, SystemTime::now())?;
        if self.ends.refresh()? {
            self.peers = self.ends.peers_left();
        } else if !changed {
            return Ok(false);
        }
        let stored: Vec<_> = self.watch.sessions().cloned().collect();
        let unusable = self.journal.adopt(&stored);
        self.adopt(&unusable);
        for peer in self.receiver.peers() {
            let finished = self.receiver.finished(peer);
            if !finished.is_empty() {
                self.cache.drop_finished(peer, &finished, unix_time())?;
            }
        }
        Ok(true)
    }

    /// Opens one payload; its bytes are in `data` then.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the session files cannot be read or written; nothing that a peer sends is an error.
    pub(super) fn take(&mut self, payload: &[u8], data: &mut BytesMut, now: Instant) -> Result<What> {
        match Type::of(payload) {
            Ok(Type::Enc | Type::Kill) => {}
            Ok(Type::RdyReq) => return self.answer(payload, now),
            // The handshake's frames are sts-pair's, which listens on the same topic.
            Ok(_) => return Ok(What::Dropped),
            Err(rejected) => return Ok(self.rejected(rejected, now)),
        }
        // A peer that was forgotten is heard no more, not even for a second.
        if now >= self.looked + LOOK_EVERY || self.ends.have_changed()? {
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
        let stream = (opened.session, opened.stream);
        let has_data = matches!(opened.payload, Payload::Data | Payload::End | Payload::Continued { .. });
        if has_data && matches!(self.follow, Follow::Only(followed) if followed != stream) {
            return Ok(What::Left);
        }
        match self.receiver.accept(&opened) {
            Ok(accepted) => {
                // Only now: a message played again is no beginning.
                if has_data && self.follow == Follow::First {
                    self.follow = Follow::Only(stream);
                }
                self.accepted(&opened, &accepted, now).map(|()| what(&opened, accepted))
            }
            Err(refused) => Ok(self.refused(&opened, refused, now)),
        }
    }

    /// Answers a peer that asks whether a session of it is still here.
    fn answer(&mut self, payload: &[u8], now: Instant) -> Result<What> {
        let Some(id) = alive::asked_for(payload) else { return Ok(What::Dropped) };
        if now >= self.looked + LOOK_EVERY {
            self.look(now)?;
        }
        // What this cannot open is as good as lost, though its file is there.
        if !self.receiver.sessions().any(|usable| *usable == id) {
            return Ok(What::Dropped);
        }
        let asked = self.watch.sessions().filter(|stored| stored.session.id == id);
        let Some(answer) = self.cache.answer(payload, asked, unix_time())? else { return Ok(What::Dropped) };
        let topic = self.receiver.session(&id).map(|session| self.ends.route.publish(&session.topics).to_owned());
        Ok(topic.map_or(What::Dropped, |topic| What::Asked { topic, answer }))
    }

    fn accepted(&mut self, opened: &Opened, accepted: &Accepted, now: Instant) -> Result<()> {
        let stream = (opened.session, opened.stream);
        let name = self.name(&opened.peer);
        if let Some(gap) = accepted.gap {
            self.lost = true;
            self.report.warning(format_args!("gap: {name}, stream {}: {}", gap.stream, messages_of(&gap)));
        }
        if let Some(closed) = accepted.closed {
            self.lost = true;
            self.open.remove(&(closed.session, closed.stream));
            self.report.warning(format_args!(
                "gap: {name}, stream {}: given up before its end, since too many streams are open",
                closed.stream
            ));
        }
        // Else what a flood of other gaps covers would be nowhere at the end.
        let first = self.first.get(&opened.session).copied().unwrap_or(0);
        if let Some((from, to)) = accepted.given_up.filter(|(_, to)| *to >= first) {
            self.lost = true;
            self.report.warning(format_args!("gap: {name}: nothing came of {}", range_of((from.max(first), to))));
        }
        if accepted.promoted && self.cache.promote(&opened.peer, &opened.session, unix_time())? {
            self.report.verbose(format_args!("{name}: the new session is in use"));
        }
        match opened.payload {
            Payload::Data | Payload::Newer => drop(self.open.insert(stream)),
            Payload::End => {
                self.open.remove(&stream);
                self.over |= self.follow == Follow::Only(stream);
            }
            Payload::Continued { session, stream: next } => {
                self.open.remove(&stream);
                // Whoever carries the messages may have let the next stream pass in front.
                if !self.receiver.streams(&session).is_some_and(|streams| streams.ended().contains(next)) {
                    self.open.insert((session, next));
                }
                if self.follow == Follow::Only(stream) {
                    self.follow = Follow::Only((session, next));
                }
            }
            Payload::Kill { next_stream } => {
                let until = now + AFTER_KILL;
                self.endings.push(Ending { peer: opened.peer, session: opened.session, next_stream, until });
            }
            Payload::Confirm(_) | Payload::Settled => {}
        }
        if opened.payload == Payload::Newer {
            self.report.warning(format_args!("{name} sends what only a newer version understands; it is lost here"));
        }
        Ok(())
    }

    fn refused(&mut self, opened: &Opened, refused: Refused, now: Instant) -> What {
        if opened.asks
            && let Some(next) = refused.confirm()
        {
            self.confirming.again((opened.session, opened.stream), next, now);
        }
        match refused {
            Refused::Settled => {
                self.confirming.settled((opened.session, opened.stream));
                What::Dropped
            }
            // It is settled once the keys are deleted, however often the broker sends it until then.
            Refused::Duplicate { .. } if matches!(opened.payload, Payload::Kill { .. }) => What::Left,
            Refused::Duplicate { .. } => {
                self.journal.count_duplicate(&opened.session);
                What::Repeated((opened.session, opened.stream))
            }
            // A message that shows it can be played again and again: it is news once a minute.
            Refused::StreamReused if self.reused.happened(now).is_none() => self.rejected(refused.rejected(), now),
            Refused::StreamReused => {
                self.report.warning(format_args!(
                    "{} used stream {} twice: its runtime directory was copied or restored; pair again",
                    self.name(&opened.peer),
                    opened.stream
                ));
                self.rejected(refused.rejected(), now)
            }
            _ => self.rejected(refused.rejected(), now),
        }
    }

    /// Counts a message that was dropped, and names its kind once.
    pub(super) fn rejected(&mut self, rejected: Rejected, now: Instant) -> What {
        self.journal.count_rejected(rejected);
        if self.named.entry(rejected).or_insert_with(Notice::once).happened(now).is_some() {
            self.report.warning(format_args!("dropped a message: {rejected}; others of the kind are only counted"));
        }
        What::Dropped
    }

    /// Writes down what standard output took.
    ///
    /// # Errors
    /// As [`Journal::record`].
    pub(super) fn record(&mut self, entries: &[Entry]) -> Result<()> {
        if entries.is_empty() { Ok(()) } else { self.journal.record(&self.cache, entries) }
    }

    /// When [`Opening::settle`] or [`Opening::confirm`] has something to do at the latest.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.endings.iter().map(|ending| ending.until).chain(self.confirming.deadline()).min()
    }

    /// Standard output took a message whose sender wants to know; it is written down.
    pub(super) fn written(&mut self, accepted: &Accepted, bytes: usize, now: Instant) {
        let Mark { session, stream, place, .. } = accepted.mark;
        self.confirming.written((session, stream), bytes, place == Place::Ended, now);
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
        for of_session in streams.chunk_by(|((one, _), _), ((other, _), _)| one == other) {
            let ((id, _), _) = of_session[0];
            let Some(session) = self.receiver.session(&id) else { continue };
            let Some((written, _)) = self.journal.state().session(&id) else { continue };
            let wanted: Vec<_> = of_session
                .iter()
                .map(|&((_, stream), next)| {
                    // Of a stream that ended long ago all that comes again was written; of any other that is not known,
                    // nothing was.
                    let forgotten = if written.ended().contains(stream) { next } else { 0 };
                    (stream, written.wanted(stream).unwrap_or(forgotten))
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

    /// Says where a sender may not have heard that all of its stream is written.
    pub(super) fn report_unsettled(&self) {
        if self.confirming.lingers().is_some() {
            self.report.info("the other device may not have heard that all is written; the next run tells it");
        }
    }

    /// Deletes the sessions that their peer ended, once all of their streams are complete or it is too late for that.
    /// To be called when everything received was written.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the session files cannot be written.
    pub(super) fn settle(&mut self, now: Instant) -> Result<()> {
        let mut waiting = Vec::new();
        for ending in std::mem::take(&mut self.endings) {
            let ids = self.receiver.ended_by(&ending.session).to_vec();
            let end = |id: &SessionId| (*id == ending.session).then_some(ending.next_stream);
            let incomplete: Vec<String> = ids
                .iter()
                .flat_map(|id| self.receiver.outstanding(id, end(id)).iter().map(range_of).collect::<Vec<_>>())
                .collect();
            if !incomplete.is_empty() && now < ending.until {
                waiting.push(ending);
                continue;
            }
            let name = self.name(&ending.peer);
            if incomplete.is_empty() {
                self.report.info(format_args!("{name} ended the session; its keys are deleted"));
            } else {
                self.lost = true;
                let list = incomplete.join(", ");
                self.report.warning(format_args!("gap: {name} ended the session; never complete: {list}"));
            }
            self.cache.delete(&ending.peer, &ids)?;
            for id in &ids {
                self.receiver.remove(id);
                self.open.retain(|(session, _)| session != id);
            }
            self.over |= self.receiver.sessions().next().is_none();
        }
        self.endings = waiting;
        Ok(())
    }

    /// The streams that this run saw and that are not complete, in words.
    pub(super) fn open_streams(&self) -> Option<String> {
        let mut streams: Vec<u32> = self.open.iter().map(|(_, stream)| *stream).collect();
        streams.sort_unstable();
        let names: Vec<_> = streams.iter().map(u32::to_string).collect();
        (!names.is_empty()).then(|| format!("stream {}", names.join(", ")))
    }

    /// Reports streams that were lost whole: numbers that a later one proves to have been taken.
    pub(super) fn report_missing(&mut self) {
        let sessions: Vec<SessionId> = self.receiver.sessions().copied().collect();
        for id in sessions {
            let Some(streams) = self.receiver.streams(&id) else { continue };
            let first = self.first.get(&id).copied().unwrap_or(0);
            let missing: Vec<_> = streams
                .missing()
                .iter()
                .filter(|(_, last)| *last >= first)
                .map(|(from, to)| range_of((from.max(first), to)))
                .collect();
            if !missing.is_empty() {
                self.lost = true;
                self.report.warning(format_args!("gap: nothing came of {}", missing.join(", ")));
            }
        }
    }

    /// The peer's name here, for messages.
    pub(super) fn name(&self, peer: &Digest) -> String {
        self.peers.get(peer).map_or_else(|| "a peer".to_owned(), |known| known.name.to_string())
    }
}

fn what(opened: &Opened, accepted: Accepted) -> What {
    let stream = (opened.session, opened.stream);
    let Opened { peer, seq, asks, .. } = *opened;
    match opened.payload {
        Payload::Data | Payload::Newer => What::Next { peer, stream, seq, ends: false, asks, accepted },
        // For sts-send, if one waits.
        Payload::Confirm(_) | Payload::Settled => What::Dropped,
        Payload::End | Payload::Continued { .. } => What::Next { peer, stream, seq, ends: true, asks, accepted },
        Payload::Kill { .. } => What::Left,
    }
}

fn range_of((first, last): (u32, u32)) -> String {
    if first == last { format!("stream {first}") } else { format!("streams {first}-{last}") }
}

fn messages_of(gap: &Gap) -> String {
    let Gap { first, last, .. } = gap;
    if first == last { format!("message {first} is lost") } else { format!("messages {first}-{last} are lost") }
}
