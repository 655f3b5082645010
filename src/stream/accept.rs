//! What comes: opened, then accepted; what is accepted is written down only after standard output took it.

use bytes::BytesMut;

use super::content::{self, Content};
use super::id::{Predecessor, StreamId};
use super::progress::{Gap, Progress, StreamState};
use super::receiver::Receiver;
use super::streams::AcceptError;
use crate::Rejected;
use crate::crypto::schedule::Digest;
use crate::message::SealedHeader;
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
    salt: [u8; 4],
}

impl Opened {
    /// The salt of its stream.
    pub(super) fn salt(&self) -> [u8; 4] {
        self.salt
    }
}

/// A message that is the next of its stream, or the next that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// The first and last number of streams of which nothing came and nothing will be accepted, as too many others are
    /// missing; to be reported.
    pub(crate) given_up: Option<(u32, u32)>,
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
            match entry.cipher().open(payload, plaintext) {
                Ok(()) => {
                    let (content, wants_confirms) = content::read(&header, plaintext);
                    let SealedHeader { stream: number, salt, seq, .. } = header;
                    let stream = StreamId { session: entry.session.id, number };
                    return Ok(Opened { peer: entry.session.peer, stream, seq, content, wants_confirms, salt });
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
    pub(crate) fn accept(&mut self, opened: &Opened) -> Result<Accepted, AcceptError> {
        let Opened { stream, seq, salt, wants_confirms, .. } = *opened;
        let entry = self.entry_mut(stream.session).ok_or(AcceptError::Gone)?;
        if !opened.content.is_in_sequence() {
            return Err(entry.streams.check_settled(stream.number, salt, seq));
        }
        let of_confirms = stream.is_of_confirms();
        let streams = if of_confirms { &mut entry.confirms } else { &mut entry.streams };
        let wanted = streams.check(stream.number, salt, seq, !wants_confirms)?;
        let newer = opened.content == Content::Newer;
        if newer && (wants_confirms || of_confirms) {
            return Err(AcceptError::Newer { next: wanted.seq });
        }
        // `open` lets no seq through that has none after it.
        let lost_below = if newer { seq + 1 } else { seq };
        // A confirm says all that those before it said: none of them is missed.
        let gap =
            (wanted.seq < lost_below && !of_confirms).then(|| Gap { stream, first: wanted.seq, last: lost_below - 1 });
        let state = if opened.content.closes_stream() { StreamState::Ended } else { StreamState::Open };
        let progress = Progress { stream, salt, next: seq + 1, skip: 0, state };
        let closed = (state == StreamState::Open).then(|| streams.close_for(stream.session, stream.number)).flatten();
        if let Some(closed) = &closed {
            streams.apply(closed);
        }
        let given_up = streams.apply(&progress);
        // Nothing is lost with a stream of confirms.
        let closed = closed.filter(|_| !of_confirms);
        let promoted = entry.standing == Standing::Pending;
        if promoted {
            self.promote(stream.session, &opened.peer);
        }
        let predecessor = self.predecessor(opened).filter(|_| !wants_confirms);
        let predecessor = predecessor.and_then(|predecessor| self.end_predecessor(&predecessor));
        let skip = usize::try_from(wanted.skip).unwrap_or(usize::MAX);
        Ok(Accepted { progress, gap, skip, closed, predecessor, given_up, promoted })
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
        let Content::Continues(predecessor) = opened.content else { return None };
        self.is_of_same_peer(predecessor.stream, opened).then_some(predecessor)
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
        let streams = &mut self.entry_mut(stream.session)?.streams;
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
        Some(ended)
    }
}
