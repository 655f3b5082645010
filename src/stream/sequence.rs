//! Sequences: what streams that continue each other carry, each position once (`sts-protocol(7)`, "Sequences").

use super::id::{Origin, StreamId};
use super::opened::Opened;
use super::others::{Closing, OtherStreams};
use super::preamble::Continues;
use super::progress::{Announced, Gap, Progress, Sequence, StreamState};
use super::receiver::{Receiver, SessionEntry};
use super::streams::{AcceptError, MAX_OPEN_STREAMS, Streams};
use crate::crypto::schedule::Digest;

/// What must come before a message is accepted, or is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The first message of its stream, which says what the stream continues.
    First,
    /// Everything below this position of a sequence.
    Position(Continues),
    /// Nothing any more.
    Nothing,
}

/// Where a stream that begins is in its sequence.
pub(super) struct Beginning {
    pub(super) others: OtherStreams,
    /// The next seq that is wanted: messages below it were received in other streams.
    pub(super) wanted: u32,
    /// How many bytes of data of that message were written already.
    pub(super) skip: u32,
    /// The sequence, at that message.
    pub(super) sequence: Sequence,
}

/// The stream that carried a sequence last.
struct Carrier {
    stream: StreamId,
    position: u64,
    is_open: bool,
}

impl Carrier {
    /// Orders the carriers of a sequence by how far they carried it.
    fn order(&self) -> (u64, bool) {
        (self.position, self.is_open)
    }
}

impl Beginning {
    /// Of a stream that continues none.
    pub(super) fn of_origin(origin: Origin) -> Self {
        Self { others: OtherStreams::default(), wanted: 0, skip: 0, sequence: Sequence::of_origin(origin, 0) }
    }
}

impl Receiver {
    /// What must come before this message is accepted, or is given up; `None` if it can be accepted now.
    #[must_use]
    pub(crate) fn awaits(&self, opened: &Opened) -> Option<Awaited> {
        // One that wants confirms begins when all before it is confirmed, and is sent again until its first message is
        // there.
        if !opened.head.continues || opened.head.wants_confirms || !opened.head.content.is_in_sequence() {
            return None;
        }
        let StreamId { session, number } = opened.stream;
        let streams = self.streams(session).filter(|_| !opened.stream.is_side_stream())?;
        if streams.has_begun(number) || streams.is_over(number) {
            return None;
        }
        if opened.seq > 0 {
            return Some(Awaited::First);
        }
        let awaited = Awaited::Position(self.continued(opened)?);
        (!self.has_come(opened.stream, &awaited)).then_some(awaited)
    }

    /// Whether what a stream awaits is there, or will never be.
    #[must_use]
    pub(crate) fn has_come(&self, stream: StreamId, awaited: &Awaited) -> bool {
        let Some(streams) = self.streams(stream.session) else { return true };
        match awaited {
            Awaited::Nothing => true,
            Awaited::First => streams.has_begun(stream.number) || streams.is_over(stream.number),
            Awaited::Position(Continues { origin, position }) => self
                .wanted_position(*origin, self.carrier(*origin, stream).as_ref())
                .is_none_or(|wanted| wanted >= *position),
        }
    }

    /// Whether one stream that waits must be accepted before another one: it is of the same sequence, and before it, or
    /// it is of the same sender, and older, and one of them does not say what it continues.
    #[must_use]
    pub(crate) fn precedes(&self, one: (StreamId, Awaited), other: (StreamId, Awaited)) -> bool {
        if let (Awaited::Position(one), Awaited::Position(other)) = (one.1, other.1) {
            return one.origin == other.origin && one.position < other.position;
        }
        self.is_older(one.0, other.0)
    }

    /// Whether a stream is of the same sender as another one, and was begun before it.
    #[must_use]
    pub(crate) fn is_older(&self, one: StreamId, other: StreamId) -> bool {
        if one.session == other.session {
            return one.number < other.number;
        }
        self.ended_by(other.session).contains(&one.session)
    }

    /// What this message says that its stream continues, if that is of the same sender.
    #[must_use]
    pub(crate) fn continued(&self, opened: &Opened) -> Option<Continues> {
        let continues = opened.head.preamble.as_ref()?.continues?;
        (self.is_of_same_peer(continues.origin.stream, opened) && !self.shows_copy(opened)).then_some(continues)
    }

    /// The stream that began the sequence of an open stream of which something came.
    #[must_use]
    pub(crate) fn origin(&self, stream: StreamId) -> Option<StreamId> {
        let streams = self.streams(stream.session).filter(|streams| streams.has_begun(stream.number))?;
        Some(streams.close_at(stream).sequence.origin.stream)
    }

    /// The position of a sequence that is wanted next; `None` if nothing is known of the sequence.
    fn wanted_position(&self, origin: Origin, carrier: Option<&Carrier>) -> Option<u64> {
        if let Some(carrier) = carrier {
            return Some(carrier.position);
        }
        let StreamId { session, number } = origin.stream;
        let may_come = |streams: &&Streams| !streams.is_over(number) && !streams.has_begun(number);
        self.streams(session).filter(may_come).map(|_| 0)
    }

    /// Whether a sequence was carried on by a newer stream than this one, other than one that begins: a run that was killed may
    /// have written down where.
    pub(super) fn is_carried_on(&self, origin: Origin, stream: StreamId, begins: Option<StreamId>) -> bool {
        let is_newer = |other: StreamId| Some(other) != begins && self.is_older(stream, other);
        let peer = self.session(origin.stream.session).map(|session| session.peer);
        peer.is_some_and(|peer| self.carriers(origin, &peer).any(|carrier| is_newer(carrier.stream)))
    }

    /// Whether something of a stream may be missing that was not reported.
    fn lacks_end(&self, Carrier { stream, is_open, .. }: &Carrier) -> bool {
        *is_open || self.streams(stream.session).is_some_and(|streams| streams.is_cut(stream.number))
    }

    fn carrier(&self, origin: Origin, except: StreamId) -> Option<Carrier> {
        let peer = self.session(origin.stream.session)?.peer;
        let carriers = self.carriers(origin, &peer).filter(|carrier| carrier.stream != except);
        carriers.max_by_key(Carrier::order)
    }

    /// The streams that carried a sequence before this one. One that was begun by a run that was killed may have newer
    /// ones after it.
    fn carriers_before(&self, origin: Origin, stream: StreamId) -> impl Iterator<Item = Carrier> {
        let peer = self.session(origin.stream.session).map(|session| session.peer);
        let carriers = peer.into_iter().flat_map(move |peer| self.carriers(origin, &peer).collect::<Vec<_>>());
        carriers.filter(move |carrier| carrier.stream != stream && !self.is_older(stream, carrier.stream))
    }

    fn carriers(&self, origin: Origin, peer: &Digest) -> impl Iterator<Item = Carrier> {
        let of_session = |&session| self.streams(session).map(|streams| (session, streams));
        self.of_peer(peer).iter().filter_map(of_session).flat_map(move |(session, streams)| {
            let of_origin = streams.sequences().filter(move |(_, sequence, _)| sequence.origin == origin);
            of_origin.map(move |(number, Sequence { position, .. }, is_open)| Carrier {
                stream: StreamId { session, number },
                position,
                is_open,
            })
        })
    }

    /// Whether a stream of which nothing was received may begin with a message.
    ///
    /// # Errors
    /// [`AcceptError::Closed`] if a newer stream carries the sequence, or may: if the message that says what this
    /// stream continues did not come.
    pub(super) fn check_begins(&self, opened: &Opened) -> Result<(), AcceptError> {
        let stream = opened.stream;
        let is_refused = match self.continued(opened) {
            _ if !opened.head.continues || stream.is_side_stream() => false,
            // What this one carries is of the newer one, or was given up with its beginning.
            Some(continues) => self.is_carried_on(continues.origin, stream, None),
            None if opened.seq > 0 && !opened.head.wants_confirms => match self.announced(opened) {
                Some(Announced::Placed(sequence)) => self.is_carried_on(sequence.origin, stream, None),
                Some(Announced::Unplaced) | None => self.may_be_carried_on(stream),
            },
            None => false,
        };
        if is_refused { Err(AcceptError::Closed) } else { Ok(()) }
    }

    /// Where a stream begins that [`Receiver::check_begins`] lets begin, with its first message that came.
    pub(super) fn begin(&self, opened: &Opened) -> Beginning {
        let stream = opened.stream;
        let alone = |others| Beginning { others, ..Beginning::of_origin(Origin { stream, salt: opened.salt() }) };
        if !opened.head.continues || stream.is_side_stream() {
            return alone(OtherStreams::default());
        }
        if opened.seq > 0 {
            return match self.announced(opened) {
                Some(Announced::Placed(Sequence { origin, position })) => {
                    self.go_on(&Continues { origin, position }, stream)
                }
                Some(Announced::Unplaced) => alone(OtherStreams::default()),
                None => alone(OtherStreams { closed: self.closed_for_order(stream), ..OtherStreams::default() }),
            };
        }
        if let Some(continues) = self.continued(opened) {
            return self.go_on(&continues, stream);
        }
        let named = opened.head.preamble.as_ref().and_then(|preamble| preamble.continues);
        let unknown = named.map(|continues| continues.position).filter(|position| *position > 0);
        alone(OtherStreams { unknown: unknown.filter(|_| !self.shows_copy(opened)), ..OtherStreams::default() })
    }

    /// A stream carries on a sequence.
    pub(super) fn go_on(&self, continues: &Continues, stream: StreamId) -> Beginning {
        let Continues { origin, position } = *continues;
        let carrier = self.carriers_before(origin, stream).max_by_key(Carrier::order);
        let Some(wanted) = self.wanted_position(origin, carrier.as_ref()) else {
            let others =
                OtherStreams { unknown: Some(position).filter(|position| *position > 0), ..OtherStreams::default() };
            return Beginning { others, wanted: 0, skip: 0, sequence: Sequence { origin, position } };
        };
        let open = carrier.filter(|carrier| self.lacks_end(carrier)).map(|carrier| self.close(carrier.stream));
        let gap = (wanted < position).then(|| {
            let lost = position - wanted - 1;
            let (stream, first) = open.map_or((origin.stream, wanted), |open| (open.stream, open.next.into()));
            Gap { stream, first: saturated(first), last: saturated(first.saturating_add(lost)) }
        });
        let skip = open.filter(|_| gap.is_none()).map_or(0, |open| open.skip);
        let others = OtherStreams { superseded: self.superseded(origin, stream), gap, ..OtherStreams::default() };
        let ahead = wanted.saturating_sub(position);
        let sequence = Sequence { origin, position: wanted.max(position) };
        Beginning { others, wanted: saturated(ahead), skip, sequence }
    }

    /// The streams that carried a sequence, and its origin, if nothing of that came.
    fn superseded(&self, origin: Origin, by: StreamId) -> Vec<Progress> {
        let StreamId { session, number } = origin.stream;
        let open = self.carriers_before(origin, by).filter(|carrier| self.lacks_end(carrier));
        let mut closed: Vec<_> = open.map(|carrier| self.close(carrier.stream)).collect();
        let is_over = |streams: &Streams| streams.is_over(number) || streams.is_open(number);
        if !self.streams(session).is_none_or(is_over) {
            closed.push(Progress { salt: origin.salt, ..self.close(origin.stream) });
        }
        closed.into_iter().map(|closed| Progress { state: StreamState::Superseded, ..closed }).collect()
    }

    /// Whether a newer stream of the same sender continues another one, which may be this one.
    fn may_be_carried_on(&self, stream: StreamId) -> bool {
        let continues = |other: StreamId, origin: Origin| origin.stream != other && self.is_older(stream, other);
        self.streams_of_sender(stream).any(|(other, sequence, _)| continues(other, sequence.origin))
    }

    /// The streams that must be closed before one is accepted that may continue any of them. One that asks for
    /// confirms stays open: its sender would wait for them for ever, and what it sends comes in order anyway.
    fn closed_for_order(&self, stream: StreamId) -> Vec<(Progress, Closing)> {
        let open =
            self.streams_of_sender(stream).filter(|(other, _, is_open)| *is_open && self.is_older(*other, stream));
        let closed = open.map(|(other, ..)| self.close(other)).filter(|other| !other.wants_confirms);
        closed.map(|other| (other, Closing::OrderUnknown)).collect()
    }

    /// What is known of the stream of a message, of which nothing was written: the last message of the one that it continues has
    /// come, a later one told it, or an earlier run knew what it continues.
    fn announced(&self, opened: &Opened) -> Option<Announced> {
        let stream = opened.stream;
        let entry = self.sessions.get(&stream.session)?;
        if entry.streams.has_begun(stream.number) {
            let sequence = entry.streams.close_at(stream).sequence;
            if sequence.origin.stream != stream {
                return Some(Announced::Placed(sequence));
            }
        }
        let told = self.told_beginning(stream, opened.salt());
        let told = told.map(|Continues { origin, position }| Announced::Placed(Sequence { origin, position }));
        told.or_else(|| entry.announced.get(&stream.number).copied())
    }

    /// Notes where the stream begins that an accepted message names as the next one: who withholds the first message
    /// of that one then leaves no doubt what it continues.
    pub(super) fn announce(&mut self, opened: &Opened, sequence: Sequence) {
        let Some(next) = self.successor(opened).filter(|next| self.is_older(opened.stream, *next)) else { return };
        let is_placed = !opened.head.continues || sequence.origin.stream != opened.stream;
        let Some(entry) = self.entry_mut(next.session).filter(|entry| !entry.streams.is_copied()) else { return };
        let SessionEntry { announced, streams, .. } = entry;
        // One of which something came is where it began then, until a later stream tells where that is.
        if streams.has_progress(next.number) {
            return;
        }
        if announced.len() >= MAX_OPEN_STREAMS {
            announced.retain(|number, _| !streams.has_begun(*number) && !streams.is_over(*number));
        }
        if announced.len() < MAX_OPEN_STREAMS {
            let of_next = if is_placed { Announced::Placed(sequence) } else { Announced::Unplaced };
            announced.insert(next.number, of_next);
        }
    }

    /// The streams of the device that sent this one, as [`Streams::sequences`].
    fn streams_of_sender(&self, stream: StreamId) -> impl Iterator<Item = (StreamId, Sequence, bool)> {
        let sessions = self.session(stream.session).map_or(&[][..], |session| self.of_peer(&session.peer));
        sessions.iter().flat_map(|&session| {
            let sequences = self.streams(session).into_iter().flat_map(Streams::sequences);
            sequences.map(move |(number, sequence, is_open)| (StreamId { session, number }, sequence, is_open))
        })
    }

    fn close(&self, stream: StreamId) -> Progress {
        self.streams(stream.session)
            .map_or_else(|| Streams::default().close_at(stream), |streams| streams.close_at(stream))
    }
}

fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
