//! What comes: opened, then accepted; what is accepted is written down only after standard output took it.

use bytes::BytesMut;

use super::content::{self, Content, Message};
use super::id::{Predecessor, StreamId};
use super::preamble::{Continues, Preamble};
use super::progress::{Gap, Progress, StreamState};
use super::receiver::{Receiver, SessionEntry};
use super::streams::{AcceptError, Claim};
use crate::Rejected;
use crate::crypto::key_tree::Salt;
use crate::crypto::schedule::Digest;
use crate::message::{FrameType, SealedHeader};
use crate::session::Standing;

/// An authentic message: opened, and not yet accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Opened {
    /// The fingerprint of the session's peer, who sealed it, whatever topic it came on.
    pub(crate) peer: Digest,
    /// Its stream.
    pub(crate) stream: StreamId,
    /// Its number in the stream.
    pub(crate) seq: u32,
    /// What it says.
    pub(crate) content: Content,
    /// Its sender wants to know what was written, and then its stream has no gaps.
    pub(crate) wants_confirms: bool,
    /// Its stream continues another one.
    pub(crate) continues: bool,
    /// What its stream says of itself and of others, in its first message.
    pub(crate) preamble: Option<Box<Preamble>>,
    salt: Salt,
}

impl Opened {
    /// The salt of its stream.
    pub(crate) fn salt(&self) -> Salt {
        self.salt
    }

    /// How far its stream is received with it.
    fn progress(&self) -> Progress {
        let Self { stream, seq, salt, wants_confirms, ref content, .. } = *self;
        let state = if content.closes_stream() { StreamState::Ended } else { StreamState::Open };
        // `open` lets no seq through that has none after it.
        Progress { stream, salt, next: seq + 1, skip: 0, wants_confirms, state }
    }
}

impl SessionEntry {
    /// What is lost right before a message, if it is to be accepted, and how many of its bytes were written before.
    fn check(&self, opened: &Opened) -> Result<(Option<Gap>, usize), AcceptError> {
        let Opened { stream, seq, salt, wants_confirms, .. } = *opened;
        if !opened.content.is_in_sequence() {
            return Err(self.streams.check_settled(stream.number, salt, seq));
        }
        let of_confirms = stream.is_of_confirms();
        let streams = if of_confirms { &self.confirms } else { &self.streams };
        let wanted = streams.check(stream.number, salt, seq, !wants_confirms)?;
        let unreadable = opened.content == Content::Unreadable;
        if unreadable && (wants_confirms || of_confirms) {
            return Err(AcceptError::Unreadable);
        }
        let lost_below = if unreadable { seq + 1 } else { seq };
        // A confirm says all that those before it said: none of them is missed.
        let is_gap = wanted.seq < lost_below && !of_confirms;
        let gap = is_gap.then(|| Gap { stream, first: wanted.seq, last: lost_below - 1 });
        Ok((gap, usize::try_from(wanted.skip).unwrap_or(usize::MAX)))
    }

    /// Makes room for a stream, and takes its number and progress over. Returns the stream that was closed for it, and the
    /// numbers that were given up.
    fn take(&mut self, progress: &Progress) -> (Option<Progress>, Vec<(u32, u32)>) {
        let Progress { stream, salt, next, state, .. } = *progress;
        let streams = if stream.is_of_confirms() { &mut self.confirms } else { &mut self.streams };
        let is_open = state == StreamState::Open;
        let closed = is_open.then(|| streams.close_for(stream.session, stream.number)).flatten();
        if let Some(closed) = &closed {
            streams.apply(closed);
        }
        let mut given_up = self.keys.accept(stream.number, salt, next - 1);
        for &(first, last) in &given_up {
            streams.insert_closed(first, last);
        }
        given_up.extend(streams.apply(progress));
        (closed, given_up)
    }

    /// A stream is over, and so are its keys, once nothing of it is likely to come again.
    fn end(&mut self, stream: u32) {
        let streams = &self.streams;
        self.keys.end(stream, |other| streams.is_recent(other) || streams.kept() == Some(other));
    }
}

/// A message that is the next of its stream, or the next that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a gap must be reported, and the progress written down once the bytes are written"]
pub(crate) struct Accepted {
    /// How far the stream was received with it.
    pub(crate) progress: Progress,
    /// What was lost right before it; a message of a newer peer is lost itself.
    pub(crate) gap: Option<Gap>,
    /// How many of its bytes of data an earlier run wrote already.
    pub(crate) skip: usize,
    /// The stream that was closed to make room for this one; to be written down, and reported.
    pub(crate) closed: Option<Progress>,
    /// The stream that this one continues, if its end had not come: it is over, without the messages in the gap.
    pub(crate) predecessor: Option<(Progress, Option<Gap>)>,
    /// The first and last numbers of streams of which nothing came and nothing will be accepted, as too many others are
    /// missing; to be written down, and reported.
    pub(crate) given_up: Vec<(u32, u32)>,
    /// The broker keeps messages of this stream, and of no newer one; to be written down.
    pub(crate) is_kept: bool,
    /// It was the first under a pending session, which is the current one from now on.
    pub(crate) promoted: bool,
}

impl Receiver {
    /// Opens a payload: on success `plaintext` holds the bytes of data, and nothing else; otherwise it is empty.
    ///
    /// Every session with the message's tag is tried. Nothing is changed, whoever made the payload.
    ///
    /// # Errors
    /// [`Rejected::Foreign`], [`Rejected::Length`], [`Rejected::UnknownSession`], [`Rejected::NotAuthentic`].
    pub(crate) fn open(&self, payload: &[u8], plaintext: &mut BytesMut) -> Result<Opened, Rejected> {
        plaintext.clear();
        let header = SealedHeader::parse(payload)?;
        let candidates = self.with_tag(header.tag).ok_or(Rejected::UnknownSession)?;
        // The number after the last one must exist, or the last message could be accepted for ever.
        if header.seq == u32::MAX || header.stream == u32::MAX {
            return Err(Rejected::NotAuthentic);
        }
        let mut rejected = Rejected::Length;
        for entry in candidates {
            let Some(cipher) = entry.keys.cipher(&header) else {
                rejected = Rejected::NotAuthentic;
                continue;
            };
            match cipher.open(payload, plaintext) {
                Ok(()) => {
                    let Message { content, wants_confirms, continues, preamble } = content::read(&header, plaintext);
                    let SealedHeader { stream: number, salt, seq, .. } = header;
                    let stream = StreamId { session: entry.session.id, number };
                    let peer = entry.session.peer;
                    return Ok(Opened { peer, stream, seq, content, wants_confirms, continues, preamble, salt });
                }
                Err(Rejected::Length) => {}
                Err(other) => rejected = other,
            }
        }
        Err(rejected)
    }

    /// What a payload that does not open says it is, of which peer and stream; `None` if it is of no stream that is known.
    ///
    /// Only who saw a message of a stream knows its salt: so who makes such a payload could as well repeat that message.
    #[must_use]
    pub(crate) fn claim(&self, payload: &[u8]) -> Option<(Digest, StreamId, Claim)> {
        let header = SealedHeader::parse(payload).ok().filter(|header| header.frame_type != FrameType::Will)?;
        self.with_tag(header.tag)?.find_map(|entry| {
            let claim = entry.streams.claim(header.stream, header.salt, header.seq)?;
            let stream = StreamId { session: entry.session.id, number: header.stream };
            Some((entry.session.peer, stream, claim))
        })
    }

    /// Takes an opened message into account: from now on it counts as received.
    ///
    /// # Errors
    /// [`AcceptError`], with nothing changed.
    pub(crate) fn accept(&mut self, opened: &Opened) -> Result<Accepted, AcceptError> {
        let Opened { stream, wants_confirms, .. } = *opened;
        let entry = self.entry_mut(stream.session).ok_or(AcceptError::Gone)?;
        let (gap, skip) = entry.check(opened)?;
        let progress = opened.progress();
        let (closed, given_up) = entry.take(&progress);
        let is_kept = opened.preamble.as_ref().is_some_and(|preamble| preamble.kept) && !stream.is_of_confirms();
        if is_kept {
            entry.streams.keep(stream.number);
        }
        for over in closed.iter().chain([&progress]).filter(|progress| progress.state != StreamState::Open) {
            entry.end(over.stream.number);
        }
        if let Content::Kill { next_stream } = opened.content {
            entry.keys.refuse_from(next_stream);
        }
        // Nothing is lost with a side stream.
        let closed = closed.filter(|_| !stream.is_of_confirms());
        let promoted = entry.standing == Standing::Pending;
        if promoted {
            self.promote(stream.session, &opened.peer);
        }
        let predecessor = self.predecessor(opened).filter(|_| !wants_confirms);
        let predecessor = predecessor.and_then(|predecessor| self.end_predecessor(&predecessor));
        Ok(Accepted { progress, gap, skip, closed, predecessor, given_up, is_kept, promoted })
    }

    /// The stream that must be complete before this message is accepted, or the rest of it is given up: the one that the
    /// message's own continues. `None` if the message says nothing of that, or there is nothing to wait for.
    #[must_use]
    pub(crate) fn awaits(&self, opened: &Opened) -> Option<Predecessor> {
        let predecessor = self.predecessor(opened)?;
        // One that wants confirms begins when all before it is confirmed, whatever is still known of that here.
        (!opened.wants_confirms && !self.is_complete(&predecessor)).then_some(predecessor)
    }

    /// The stream that this message says its own continues: one of the same peer, under a session that is here.
    #[must_use]
    pub(crate) fn predecessor(&self, opened: &Opened) -> Option<Predecessor> {
        let Continues { stream, position } = opened.preamble.as_ref()?.continues?;
        let predecessor = Predecessor { stream, end: u32::try_from(position).unwrap_or(u32::MAX) };
        self.is_of_same_peer(stream, opened).then_some(predecessor)
    }

    /// The stream in which this message says that its sender continues: one of the same peer, under a session that is here.
    #[must_use]
    pub(crate) fn successor(&self, opened: &Opened) -> Option<StreamId> {
        let Content::Continued(next) = opened.content else { return None };
        self.is_of_same_peer(next, opened).then_some(next)
    }

    /// Whether a stream that a message names is another one of its own sender. A peer that could name a stream of somebody else
    /// would write into the lines of that one.
    fn is_of_same_peer(&self, named: StreamId, opened: &Opened) -> bool {
        let is_theirs = self.session(named.session).is_some_and(|session| session.peer == opened.peer);
        is_theirs && named != opened.stream && !named.is_of_confirms()
    }

    /// Whether no more data of such a stream is to come: it is over, or its session is gone.
    #[must_use]
    pub(crate) fn is_complete(&self, Predecessor { stream, end }: &Predecessor) -> bool {
        self.streams(stream.session).is_none_or(|streams| {
            // Its last message, the continued, carries no data.
            let next = streams.next_seq(stream.number);
            next.is_some_and(|next| next.checked_add(1) == Some(*end)) || streams.is_over(stream.number)
        })
    }

    /// Ends a stream that another one continues, or gives it up if something of it is missing.
    fn end_predecessor(&mut self, predecessor: &Predecessor) -> Option<(Progress, Option<Gap>)> {
        let Predecessor { stream, end } = *predecessor;
        let is_complete = self.is_complete(predecessor);
        let entry = self.entry_mut(stream.session)?;
        let streams = &mut entry.streams;
        if streams.is_over(stream.number) {
            return None;
        }
        let closed = streams.close_at(stream);
        let ended = if is_complete {
            (Progress { next: end, state: StreamState::Ended, ..closed }, None)
        } else {
            // At least its last message is missing, the one that would have ended it.
            let last = closed.next.max(end.saturating_sub(1));
            (closed, Some(Gap { stream, first: closed.next, last }))
        };
        streams.apply(&ended.0);
        entry.end(stream.number);
        Some(ended)
    }
}
