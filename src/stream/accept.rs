//! What comes: opened, then accepted; what is accepted is written down only after standard output took it.

use bytes::BytesMut;

use super::content::{self, Content};
use super::id::{FIRST_SIDE_STREAM, StreamId};
use super::keys::tag_end;
use super::opened::Opened;
use super::others::{Closing, OtherStreams};
use super::progress::{Announced, Gap, Progress, Sequence, StreamState};
use super::receiver::{Receiver, SessionEntry};
use super::sequence::Beginning;
use super::streams::{AcceptError, HeaderClaim, KeptStream, Wanted};
use crate::Rejected;
use crate::crypto::key_tree::MAX_NUMBER;
use crate::crypto::schedule::Digest;
use crate::message::{FrameType, SealedHeader};
use crate::session::{SessionId, Standing};

impl SessionEntry {
    /// What is wanted of the stream of a message, if the message is to be accepted.
    fn check(&self, opened: &Opened) -> Result<Wanted, AcceptError> {
        let Opened { stream, seq, salt, tag, .. } = *opened;
        let wants_confirms = opened.head.wants_confirms;
        if self.keys.remembers_other(stream.number, seq, tag) {
            return Err(AcceptError::SealedTwice);
        }
        if !opened.head.content.is_in_sequence() {
            return Err(self.streams.check_settled(stream.number, salt, seq));
        }
        let is_side = stream.is_side_stream();
        let streams = if is_side { &self.confirms } else { &self.streams };
        let wanted = streams.wanted(stream.number, salt, seq)?;
        // Only where a stream carries on a sequence does its end come after what is wanted of it.
        let is_repeat = seq < wanted.seq;
        if is_repeat && !opened.head.content.closes_stream() {
            return Err(AcceptError::Duplicate { next: wanted.seq });
        }
        if seq > wanted.seq && wants_confirms {
            return Err(AcceptError::Ahead { next: wanted.seq });
        }
        if opened.head.content == Content::Unreadable && (wants_confirms || is_side) {
            return Err(AcceptError::Unreadable);
        }
        Ok(wanted)
    }

    /// What is lost right before a message, in its stream.
    fn gap(opened: &Opened, wanted: u32) -> Option<Gap> {
        let Opened { stream, seq, .. } = *opened;
        let lost_below = if opened.head.content == Content::Unreadable { seq + 1 } else { seq };
        // A confirm says all that those before it said: none of them is missed.
        let is_gap = wanted < lost_below && !stream.is_side_stream();
        is_gap.then(|| Gap { stream, first: wanted, last: lost_below - 1 })
    }

    /// Makes room for a stream, and takes its number and progress over. Returns the stream that was closed for it, and
    /// the numbers that were given up.
    fn take(&mut self, progress: &Progress) -> (Option<Progress>, Vec<(u32, u32)>) {
        let Progress { stream, salt, next, state, .. } = *progress;
        let streams = if stream.is_side_stream() { &mut self.confirms } else { &mut self.streams };
        let is_open = state == StreamState::Open;
        let closed = is_open.then(|| streams.close_for(stream.session, stream.number)).flatten();
        if let Some(closed) = &closed {
            streams.apply(closed);
        }
        let mut given_up = self.keys.accept(&mut self.session, stream.number, salt, next.saturating_sub(1));
        for &(first, last) in &given_up {
            streams.insert_closed(first, last);
        }
        given_up.extend(streams.apply(progress));
        (closed, given_up)
    }

    /// As [`SessionEntry::take`], with what else a message says of its own stream and its session.
    fn accept(&mut self, opened: &Opened, progress: &Progress, is_gap: bool) -> (Option<Progress>, Vec<(u32, u32)>) {
        let number = opened.stream.number;
        let (closed, given_up) = self.take(progress);
        if let Some(Announced::Placed(Sequence { position, .. })) = self.announced.remove(&number)
            && opened.seq > 0
            && opened.head.continues
        {
            let streams = &self.streams;
            self.assumed.retain(|number, _| streams.salt(*number).is_some());
            self.assumed.insert(number, position);
        }
        self.keys.remember(number, opened.seq, opened.tag);
        if opened.is_kept() {
            self.streams.keep(KeptStream { number, value_end: None });
        }
        if let Some(kept) = self.streams.kept().filter(|kept| kept.number == number) {
            self.streams.keep(kept.with(opened.seq, &opened.head.content, is_gap));
        }
        for over in closed.iter().chain([progress]).filter(|progress| progress.state != StreamState::Open) {
            self.end(over.stream.number);
        }
        if let Content::Kill { next_stream } = opened.head.content {
            self.keys.refuse_from(&mut self.session, next_stream);
        }
        (closed, given_up)
    }

    /// A stream is over, and so are its keys, once nothing of it is likely to come again.
    fn end(&mut self, stream: u32) {
        let streams = &self.streams;
        self.keys.end(&mut self.session, stream, |other| streams.is_recent(other) || streams.is_kept(other));
    }
}

/// A message that is the next of its stream, or the next that came.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a gap must be reported, and the progress written down once the bytes are written"]
pub(crate) struct Accepted {
    /// How far the stream was received with it.
    pub(crate) progress: Progress,
    /// Where its stream begins, if it begins with it: to be written down before anything that came after it, as a
    /// stream that is not known may not begin any more once a newer one is.
    pub(crate) beginning: Option<Progress>,
    /// What was lost right before it; a message of a newer peer is lost itself.
    pub(crate) gap: Option<Gap>,
    /// How many of its bytes of data were written already; all of them, where another stream of the sequence carried
    /// it.
    pub(crate) skip: usize,
    /// What becomes of other streams with it.
    pub(crate) others: OtherStreams,
    /// The first and last numbers of streams of which nothing came and nothing will be accepted, as too many others are
    /// missing; to be written down, and reported.
    pub(crate) given_up: Vec<(u32, u32)>,
    /// What is new of the stream of which the broker keeps messages: to be written down.
    pub(crate) kept: Option<KeptStream>,
    /// It was the first under a pending session, which is the current one from now on.
    pub(crate) promoted: bool,
}

/// A will that was not received before.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it must be written down once it is written"]
pub(crate) struct AcceptedWill {
    /// How far its stream was received, which it may have opened.
    pub(crate) accepted: Accepted,
    /// The lowest number of a will of its stream that is accepted from now on.
    pub(crate) next: u32,
}

impl Receiver {
    /// Opens a payload: on success `plaintext` holds the bytes of data, and nothing else; otherwise it is empty.
    ///
    /// Every session with the message's tag is tried. Nothing is changed, not even by an authentic payload.
    ///
    /// # Errors
    /// [`Rejected::Foreign`], [`Rejected::Length`], [`Rejected::UnknownSession`], [`Rejected::NotAuthentic`].
    pub(crate) fn open(&self, payload: &[u8], plaintext: &mut BytesMut) -> Result<Opened, Rejected> {
        plaintext.clear();
        let header = SealedHeader::parse(payload)?;
        let candidates = self.with_tag(header.tag).ok_or(Rejected::UnknownSession)?;
        // The number after the last one must exist, or the last message could be accepted for ever. Between the streams
        // of data and those of confirms is one that is neither.
        let may_be_side = header.frame_type == FrameType::Enc && (FIRST_SIDE_STREAM..u32::MAX).contains(&header.stream);
        if header.seq == u32::MAX || !(header.stream <= MAX_NUMBER || may_be_side) {
            return Err(Rejected::NotAuthentic);
        }
        let mut rejected = Rejected::Length;
        for entry in candidates {
            let Some(cipher) = entry.keys.cipher(&entry.session, &header) else {
                rejected = Rejected::NotAuthentic;
                continue;
            };
            match cipher.open(payload, plaintext) {
                Ok(()) => {
                    let SealedHeader { stream: number, salt, seq, .. } = header;
                    let (session, peer, tag) = (entry.session.id, entry.session.peer, tag_end(payload));
                    let head = content::read(session, &header, plaintext);
                    return Ok(Opened { peer, stream: StreamId { session, number }, seq, head, salt, tag });
                }
                Err(Rejected::Length) => {}
                Err(other) => rejected = other,
            }
        }
        Err(rejected)
    }

    /// What a payload that does not open says it is, of which peer and stream; `None` if it is of no stream that is
    /// known.
    ///
    /// Only who saw a message of a stream knows its salt: so who makes such a payload could as well repeat that
    /// message.
    #[must_use]
    pub(crate) fn claim(&self, payload: &[u8]) -> Option<(Digest, StreamId, HeaderClaim)> {
        let header = SealedHeader::parse(payload).ok()?;
        self.with_tag(header.tag)?.find_map(|entry| {
            let claim = match header.frame_type {
                // The broker may say it after the stream ended: its sender then died before it disconnected.
                FrameType::Will => entry.streams.is_over(header.stream).then_some(HeaderClaim::Settled)?,
                _ => entry.streams.claim(header.stream, header.salt, header.seq)?,
            };
            let stream = StreamId { session: entry.session.id, number: header.stream };
            Some((entry.session.peer, stream, claim))
        })
    }

    /// Takes an opened message into account: from now on it counts as received.
    ///
    /// # Errors
    /// [`AcceptError`], with nothing changed.
    pub(crate) fn accept(&mut self, opened: &Opened) -> Result<Accepted, AcceptError> {
        let StreamId { session, number } = opened.stream;
        let is_side = opened.stream.is_side_stream();
        let entry = self.sessions.get(&session).ok_or(AcceptError::Gone)?;
        let wanted = entry.check(opened)?;
        let has_begun = is_side || entry.streams.has_begun(number);
        if !has_begun {
            self.check_begins(opened)?;
        }
        // What the run knew that was killed before it wrote the stream's first message is found again.
        let goes_on = is_side || entry.streams.has_progress(number);
        // Nothing is refused from here on.
        let sequence = entry.streams.close_at(opened.stream).sequence;
        let moved = self.move_told(opened);
        let Beginning { mut others, wanted, skip, sequence } = if goes_on {
            Beginning { others: OtherStreams::default(), wanted: wanted.seq, skip: wanted.skip, sequence }
        } else {
            self.begin(opened)
        };
        others.moved = moved;
        let progress = opened.progress(wanted, skip, sequence);
        let beginning = (!has_begun).then(|| opened.beginning(wanted, sequence));
        let skip = if opened.seq < wanted { usize::MAX } else { usize::try_from(skip).unwrap_or(usize::MAX) };
        for over in others.superseded.iter().chain(others.closed.iter().map(|(closed, _)| closed)) {
            self.apply_over(over);
        }
        let entry = self.entry_mut(session).ok_or(AcceptError::Gone)?;
        let gap = SessionEntry::gap(opened, wanted);
        let kept_before = entry.streams.kept();
        let (closed, given_up) = entry.accept(opened, &progress, gap.is_some());
        let kept = entry.streams.kept().filter(|kept| kept_before != Some(*kept));
        // Nothing is lost with a side stream.
        others.closed.extend(closed.filter(|_| !is_side).map(|closed| (closed, Closing::NoRoom)));
        self.announce(opened, progress.sequence);
        let promoted = self.promote_if_pending(session, &opened.peer);
        Ok(Accepted { progress, beginning, gap, skip, others, given_up, kept, promoted })
    }

    /// Takes an opened will into account. Returns how far its stream was received, and the lowest number of a will of
    /// it that is accepted from now on; both are to be written down. The first message of its stream that comes opens
    /// it.
    ///
    /// # Errors
    /// [`AcceptError`], with nothing changed.
    pub(crate) fn accept_will(&mut self, opened: &Opened) -> Result<AcceptedWill, AcceptError> {
        let Opened { stream, seq, salt, .. } = *opened;
        let entry = self.entry_mut(stream.session).ok_or(AcceptError::Gone)?;
        let wanted = entry.streams.wanted(stream.number, salt, seq)?;
        let next = entry.streams.next_will(stream.number);
        if seq < next {
            return Err(AcceptError::Duplicate { next: wanted.seq });
        }
        if opened.head.content != Content::Will {
            return Err(AcceptError::Unreadable);
        }
        let known = entry.streams.close_at(stream);
        let progress = Progress { salt, state: StreamState::Open, ..known };
        let (closed, given_up) = entry.take(&progress);
        if let Some(closed) = &closed {
            entry.end(closed.stream.number);
        }
        entry.streams.set_next_will(stream.number, seq + 1);
        let promoted = self.promote_if_pending(stream.session, &opened.peer);
        let closed = closed.map(|closed| (closed, Closing::NoRoom)).into_iter().collect();
        let others = OtherStreams { closed, ..OtherStreams::default() };
        let accepted =
            Accepted { progress, beginning: None, gap: None, skip: 0, others, given_up, kept: None, promoted };
        Ok(AcceptedWill { accepted, next: seq + 1 })
    }

    /// A stream is over, before its end.
    pub(super) fn apply_over(&mut self, over: &Progress) {
        if let Some(entry) = self.entry_mut(over.stream.session) {
            entry.streams.apply(over);
            entry.end(over.stream.number);
        }
    }

    /// A pending session of which something is accepted is the current one from now on; returns whether it was pending.
    fn promote_if_pending(&mut self, session: SessionId, peer: &Digest) -> bool {
        let promoted = self.sessions.get(&session).is_some_and(|entry| entry.standing == Standing::Pending);
        if promoted {
            self.promote(session, peer);
        }
        promoted
    }

    /// The stream in which this message says that its sender continues: one of the same peer, under a session that is
    /// here.
    #[must_use]
    pub(crate) fn successor(&self, opened: &Opened) -> Option<StreamId> {
        let Content::Continued(next) = opened.head.content else { return None };
        self.is_of_same_peer(next, opened).then_some(next)
    }

    /// Whether a stream that a message names is another one of its own sender. A peer that could name a stream of
    /// somebody else would write into the lines of that one.
    pub(super) fn is_of_same_peer(&self, named: StreamId, opened: &Opened) -> bool {
        let is_theirs = self.session(named.session).is_some_and(|session| session.peer == opened.peer);
        is_theirs && named != opened.stream && !named.is_side_stream()
    }
}
