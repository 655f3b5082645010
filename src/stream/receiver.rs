//! Opening: check, open, then accept; what is accepted is marked only after stdout took it.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::fmt;

use bytes::BytesMut;

use super::content::{self, Content};
use super::progress::{AcceptError, Gap, Progress, Ranges, StreamState, Streams};
use super::{FIRST_CONFIRM_STREAM, Predecessor, StreamId};
use crate::Rejected;
use crate::crypto::cipher::Cipher;
use crate::crypto::schedule::Digest;
use crate::message::{Header, SessionTag};
use crate::session::{Session, SessionId, Standing};

/// An authentic message: opened, and not yet accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The fingerprint of that session's peer, who sealed it, whatever topic it came on.
    pub peer: Digest,
    /// Its stream.
    pub stream: StreamId,
    /// Its number in the stream.
    pub seq: u32,
    /// What it says.
    pub payload: Content,
    /// Its sender wants to know what was written, and then its stream has no gaps.
    pub asks: bool,
    salt: [u8; 4],
}

/// A message that is the next of its stream, or the next that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a gap must be reported, and the mark written down once the bytes are written"]
pub struct Accepted {
    /// How far the stream was received with it.
    pub mark: Progress,
    /// What was lost right before it; a message of a newer peer is lost itself.
    pub gap: Option<Gap>,
    /// How many of its payload bytes an earlier run wrote already.
    pub skip: usize,
    /// The stream that was closed to make room for this one; to be marked, and reported.
    pub closed: Option<Progress>,
    /// The stream that this one goes on from, where its end had not come: it is over, without the messages in the gap.
    pub before: Option<(Progress, Option<Gap>)>,
    /// The first and last number of streams of which nothing came and nothing will be accepted, as too many others are
    /// missing; to be reported.
    pub given_up: Option<(u32, u32)>,
    /// It was the first under a pending session, which is the current one from now on.
    pub promoted: bool,
}

struct SessionEntry {
    session: Session,
    standing: Standing,
    /// Expanded when first needed: of thousands of peers, few send.
    cipher: OnceCell<Cipher>,
    streams: Streams,
    /// The peer's streams of confirms, which only a sender that waits for them looks at; never stored.
    confirms: Streams,
}

/// Opens what comes on one link, from any number of peers, under any number of sessions with each.
#[derive(Default)]
pub struct Receiver {
    sessions: HashMap<SessionId, SessionEntry>,
    by_tag: HashMap<SessionTag, Vec<SessionId>>,
    /// The sessions of a peer, newest first.
    by_peer: HashMap<Digest, Vec<SessionId>>,
    /// Of sessions that were removed: should one come back, what was written stays written.
    gone: HashMap<SessionId, Streams>,
}

/// Everything but keys, in a fixed order, so that two states can be compared.
impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ids: Vec<_> = self.sessions.keys().collect();
        ids.sort_unstable();
        let entries = ids.into_iter().map(|id| (id, self.sessions[id].standing, &self.sessions[id].streams));
        f.debug_list().entries(entries).finish()
    }
}

impl Receiver {
    /// A receiver without sessions.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a session as its peer's newest; one that is known keeps its streams, and only its standing changes.
    pub fn add(&mut self, session: Session, standing: Standing) {
        let (id, peer) = (session.id, session.peer);
        if let Some(entry) = self.sessions.get_mut(&id) {
            entry.standing = standing;
            return;
        }
        self.by_tag.entry(session.tag()).or_default().push(id);
        let of_peer = self.by_peer.entry(peer).or_default();
        if !of_peer.contains(&id) {
            of_peer.insert(0, id);
        }
        let streams = self.gone.remove(&id).unwrap_or_default();
        self.sessions.insert(
            id,
            SessionEntry { session, standing, cipher: OnceCell::new(), streams, confirms: Streams::default() },
        );
    }

    /// Removes a session: its key is gone, and what is still on its way under it does not open any more.
    pub fn remove(&mut self, id: &SessionId) {
        let Some(entry) = self.sessions.remove(id) else { return };
        let without = |list: Option<&mut Vec<SessionId>>| {
            list.is_some_and(|list| {
                list.retain(|other| other != id);
                list.is_empty()
            })
        };
        if without(self.by_tag.get_mut(&entry.session.tag())) {
            self.by_tag.remove(&entry.session.tag());
        }
        if without(self.by_peer.get_mut(&entry.session.peer)) {
            self.by_peer.remove(&entry.session.peer);
        }
        if !entry.streams.is_empty() {
            self.gone.insert(*id, entry.streams);
        }
    }

    /// Makes these its sessions: adds the new ones, removes the others; those of one peer come newest first.
    pub fn update(&mut self, sessions: impl IntoIterator<Item = (Session, Standing)>) {
        let sessions: Vec<_> = sessions.into_iter().collect();
        let kept: HashSet<SessionId> = sessions.iter().map(|(session, _)| session.id).collect();
        let removed: Vec<_> = self.sessions.keys().filter(|id| !kept.contains(*id)).copied().collect();
        for id in removed {
            self.remove(&id);
        }
        self.by_peer.clear();
        for (session, _) in &sessions {
            self.by_peer.entry(session.peer).or_default().push(session.id);
        }
        for (session, standing) in sessions {
            self.add(session, standing);
        }
    }

    /// Puts back what was written down of a session's streams; true if the session is known.
    pub fn restore(&mut self, id: &SessionId, streams: Streams) -> bool {
        self.sessions.get_mut(id).map(|entry| entry.streams = streams).is_some()
    }

    /// The ids of its sessions, in no order.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionId> {
        self.sessions.keys()
    }

    /// A session of this id.
    #[must_use]
    pub fn session(&self, id: &SessionId) -> Option<&Session> {
        self.sessions.get(id).map(|entry| &entry.session)
    }

    /// The peers of its sessions, in no order.
    pub fn peers(&self) -> impl Iterator<Item = &Digest> {
        self.by_peer.keys()
    }

    /// The streams of a session.
    #[must_use]
    pub fn streams(&self, id: &SessionId) -> Option<&Streams> {
        self.sessions.get(id).map(|entry| &entry.streams)
    }

    /// Opens a payload: on success `plaintext` holds the bytes of data, and nothing else; otherwise it is empty.
    ///
    /// Every session with the message's tag is tried. Nothing is changed, whoever made the payload.
    ///
    /// # Errors
    /// [`Rejected::Foreign`], [`Rejected::Length`], [`Rejected::UnknownSession`], [`Rejected::NotAuthentic`].
    pub fn open(&self, payload: &[u8], plaintext: &mut BytesMut) -> Result<Opened, Rejected> {
        plaintext.clear();
        let header = Header::parse(payload)?;
        let candidates = self.by_tag.get(&header.tag).ok_or(Rejected::UnknownSession)?;
        // The number after the last one must exist, or the last message could be accepted for ever.
        if header.seq == u32::MAX || header.stream == u32::MAX {
            return Err(Rejected::NotAuthentic);
        }
        let mut rejected = Rejected::Length;
        for id in candidates {
            let entry = &self.sessions[id];
            match entry.cipher.get_or_init(|| entry.session.opener()).open(payload, plaintext) {
                Ok(()) => {
                    let (payload, asks) = content::read(&header, plaintext);
                    let peer = entry.session.peer;
                    let Header { stream: number, salt, seq, .. } = header;
                    let stream = StreamId { session: *id, number };
                    return Ok(Opened { peer, stream, seq, payload, asks, salt });
                }
                Err(Rejected::Length) => {}
                Err(other) => rejected = other,
            }
        }
        Err(rejected)
    }

    /// Takes an opened message into account: from now on it counts as received.
    ///
    /// # Errors
    /// [`AcceptError`], with nothing changed.
    pub fn accept(&mut self, opened: &Opened) -> Result<Accepted, AcceptError> {
        let Opened { stream: StreamId { session, number: stream }, seq, salt, .. } = *opened;
        let entry = self.sessions.get_mut(&session).ok_or(AcceptError::Gone)?;
        if opened.payload == Content::Settled {
            return Err(entry.streams.settled(stream, salt, seq));
        }
        let confirms = stream >= FIRST_CONFIRM_STREAM;
        let streams = if confirms { &mut entry.confirms } else { &mut entry.streams };
        let next = streams.check(stream, salt, seq, !opened.asks)?;
        let newer = opened.payload == Content::Newer;
        if newer && (opened.asks || confirms) {
            return Err(AcceptError::Newer { next: next.wanted });
        }
        // `open` lets no seq through that has none after it.
        let lost_below = if newer { seq + 1 } else { seq };
        // A confirm says all that those before it said: none of them is missed.
        let gap = (next.wanted < lost_below && !confirms).then(|| Gap {
            stream: StreamId { session, number: stream },
            first: next.wanted,
            last: lost_below - 1,
        });
        let place = match &opened.payload {
            Content::End | Content::Continued(_) | Content::Kill { .. } => StreamState::Ended,
            Content::Data | Content::Continues(_) | Content::Confirm(_) | Content::Settled | Content::Newer => {
                StreamState::Open
            }
        };
        let mark = Progress { stream: StreamId { session, number: stream }, salt, next: seq + 1, skip: 0, place };
        let mut closed = if place == StreamState::Open { streams.close_for(session, stream) } else { None };
        let skip = usize::try_from(next.skip).unwrap_or(usize::MAX);

        if let Some(closed) = &closed {
            streams.apply(closed);
        }
        let given_up = streams.apply(&mark);
        // Nothing is lost with a stream of confirms.
        closed = closed.filter(|_| !confirms);
        let promoted = entry.standing == Standing::Pending;
        if promoted {
            self.promote(session, &opened.peer);
        }
        let before = self.before(opened).filter(|_| !opened.asks).and_then(|before| self.leave(&before));
        Ok(Accepted { mark, gap, skip, closed, before, given_up, promoted })
    }

    /// The stream that must be complete before this message is accepted, or the rest of it is given up: the one that the
    /// message's own goes on from. `None` where the message says nothing of that, and where there is nothing to wait for.
    #[must_use]
    pub fn awaits(&self, opened: &Opened) -> Option<Predecessor> {
        let before = self.before(opened)?;
        // One that asks for confirms begins when all before it is confirmed, whatever is still known of that here.
        (!opened.asks && !self.is_complete(&before)).then_some(before)
    }

    /// The stream that this message says its own goes on from: one of the same peer, under a session that is here.
    #[must_use]
    pub fn before(&self, opened: &Opened) -> Option<Predecessor> {
        let Content::Continues(before) = opened.payload else { return None };
        let theirs = self.sessions.get(&before.stream.session).is_some_and(|entry| entry.session.peer == opened.peer);
        let is_other = before.stream != opened.stream;
        (theirs && is_other && before.stream.number < FIRST_CONFIRM_STREAM).then_some(before)
    }

    /// Whether nothing of such a stream is to come that anybody would miss.
    #[must_use]
    pub fn is_complete(&self, before: &Predecessor) -> bool {
        self.sessions.get(&before.stream.session).is_none_or(|entry| {
            // Its last message, the continued, carries no data.
            let has_all_data =
                entry.streams.wanted(before.stream.number).is_some_and(|next| next.checked_add(1) == Some(before.end));
            has_all_data || entry.streams.is_over(before.stream.number)
        })
    }

    /// Ends a stream that another one goes on from, or gives it up where something of it is missing.
    fn leave(&mut self, before: &Predecessor) -> Option<(Progress, Option<Gap>)> {
        let Predecessor { stream: StreamId { session, number: stream }, end } = *before;
        let is_complete = self.is_complete(before);
        let streams = &mut self.sessions.get_mut(&session).filter(|entry| !entry.streams.is_over(stream))?.streams;
        let mark = streams.close_at(session, stream);
        let left = if is_complete {
            (Progress { next: end, place: StreamState::Ended, ..mark }, None)
        } else {
            // At least its last message is missing, the one that would have ended it.
            (
                mark,
                Some(Gap {
                    stream: StreamId { session, number: stream },
                    first: mark.next,
                    last: mark.next.max(end.saturating_sub(1)),
                }),
            )
        };
        streams.apply(&left.0);
        Some(left)
    }

    /// The sessions with `peer` whose keys are not needed any more: retired, all their streams are over, and something
    /// was opened under a newer one.
    #[must_use]
    pub fn finished(&self, peer: &Digest) -> Vec<SessionId> {
        let mut newer = false;
        let mut finished = Vec::new();
        for id in self.by_peer.get(peer).into_iter().flatten() {
            let entry = &self.sessions[id];
            if newer && entry.standing == Standing::Retired && entry.streams.are_over() {
                finished.push(*id);
            }
            newer |= !(entry.streams.is_empty() && entry.confirms.is_empty());
        }
        finished
    }

    /// This session and every older one with the same peer, newest first: what a KILL under it ends.
    #[must_use]
    pub fn ended_by(&self, id: &SessionId) -> &[SessionId] {
        let Some(entry) = self.sessions.get(id) else { return &[] };
        let all = self.by_peer.get(&entry.session.peer).map_or(&[][..], Vec::as_slice);
        &all[all.iter().position(|other| other == id).unwrap_or(all.len())..]
    }

    /// The streams of a session below `end` that are not complete; without an end, below the highest that is known.
    #[must_use]
    pub fn outstanding(&self, id: &SessionId, end: Option<u32>) -> Ranges {
        let Some(entry) = self.sessions.get(id) else { return Ranges::default() };
        if let Some(end) = end {
            return entry.streams.outstanding(end);
        }
        let mut all = entry.streams.missing();
        let open = entry.streams.open(*id);
        for (first, last) in
            entry.streams.closed().iter().chain(open.iter().map(|mark| (mark.stream.number, mark.stream.number)))
        {
            all.insert(first, last);
        }
        all
    }

    /// Of the others, the current one retires; an older pending one is late, a newer one may still be the next.
    fn promote(&mut self, id: SessionId, peer: &Digest) {
        let mut older = false;
        for other in self.by_peer.get(peer).into_iter().flatten() {
            let Some(entry) = self.sessions.get_mut(other) else { continue };
            if *other == id {
                entry.standing = Standing::Current;
                older = true;
            } else if entry.standing == Standing::Current || older {
                entry.standing = Standing::Retired;
            }
        }
    }
}
