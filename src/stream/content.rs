//! What an authentic plaintext says: kind, flags, what the kind carries, and padding.

use bytes::{Buf, BufMut, BytesMut};

use super::id::{FIRST_SIDE_STREAM, StreamId};
use super::kind::Kind;
use super::preamble::Preamble;
use super::sent_time::SentTime;
use super::side_content::SideContent;
use crate::message::{FrameType, SealedHeader};
use crate::session::SessionId;

/// The bits of the first byte that hold the kind.
pub(super) const KIND_MASK: u8 = 0x0f;
/// The kinds of later versions that count as received, and of which nothing is written.
pub(super) const SKIPPED_KINDS: std::ops::RangeInclusive<u8> = Kind::FIRST_FREE_CODE..=KIND_MASK;
/// The flag of a message that ends with padding: a byte 0x80, then zeros (ISO/IEC 9797-1, method 2).
pub(super) const PADDED: u8 = 0x80;
/// The flag of a message whose sender wants its stream confirmed.
pub(super) const WANTS_CONFIRMS: u8 = 0x40;
/// The flag of a message with a preamble: the first of its stream, or one that says when its data was read.
pub(super) const PREAMBLE: u8 = 0x20;
/// The flag of each message of a stream that continues another one.
pub(super) const CONTINUES: u8 = 0x10;
/// Where padding begins.
pub(super) const PADDING: u8 = 0x80;

/// What a message says, beyond the bytes of data that it may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Bytes to write.
    Data,
    /// The last bytes to write, or none: the stream is complete.
    End,
    /// The stream is complete, and its sender continues in this one.
    Continued(StreamId),
    /// The peer ends this session and every older one; it reserved no number from this one on.
    Kill {
        /// The first stream number that the peer never reserved.
        next_stream: u32,
    },
    /// After the end of a stream: its sender has heard that all of it is written, and asks for nothing more.
    Settled,
    /// What the broker says for its sender.
    Will,
    /// What the receiver of our data says of it.
    Side(SideContent),
    /// Authentic, and of a kind that a later version adds: it counts as received, and nothing of it is written.
    Skipped,
    /// Authentic, and not to be understood: the peer is of a later version, or has a fault.
    Unreadable,
}

impl Content {
    /// Its kind; `None` where this version does not know it.
    #[must_use]
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Data => Some(Kind::Data),
            Self::End => Some(Kind::End),
            Self::Continued(_) => Some(Kind::Continued),
            Self::Kill { .. } => Some(Kind::Kill),
            Self::Settled => Some(Kind::Settled),
            Self::Will => Some(Kind::Will),
            Self::Side(said) => Some(said.kind()),
            Self::Skipped | Self::Unreadable => None,
        }
    }

    /// As [`Kind::carries_data`]; what is not understood is not written.
    #[must_use]
    pub(crate) fn carries_data(&self) -> bool {
        self.kind().is_some_and(Kind::carries_data)
    }

    /// Whether there may be data in it: a message that is not understood may carry some.
    #[must_use]
    pub(super) fn may_carry_data(&self) -> bool {
        self.carries_data() || *self == Self::Unreadable
    }

    /// As [`Kind::closes_stream`]; after a message that is not understood, its stream may continue.
    #[must_use]
    pub(crate) fn closes_stream(&self) -> bool {
        self.kind().is_some_and(Kind::closes_stream)
    }

    /// As [`Kind::ends_chain`]; after a message that is not understood, its chain may continue.
    #[must_use]
    pub(crate) fn ends_chain(&self) -> bool {
        self.kind().is_some_and(Kind::ends_chain)
    }

    /// As [`Kind::stays_with_stream`]; what is not understood counts in its stream, and is a gap for the run that
    /// follows it.
    #[must_use]
    pub(crate) fn stays_with_stream(&self) -> bool {
        self.kind().is_none_or(Kind::stays_with_stream)
    }

    /// As [`Kind::is_in_sequence`]; what is not understood takes a seq.
    #[must_use]
    pub(crate) fn is_in_sequence(&self) -> bool {
        self.kind().is_none_or(Kind::is_in_sequence)
    }

    /// As [`Kind::has_position`]; what is not understood takes one.
    #[must_use]
    pub(crate) fn has_position(&self) -> bool {
        self.kind().is_none_or(Kind::has_position)
    }

    /// Whether there is nothing to write for a message that says this, with these bytes of data: of what is not
    /// understood, nobody knows.
    #[must_use]
    pub(crate) fn is_without_data(&self, data: &[u8]) -> bool {
        data.is_empty() && *self != Self::Unreadable
    }

    /// As [`Kind::ends_session`].
    #[must_use]
    pub(crate) fn ends_session(&self) -> bool {
        self.kind().is_some_and(Kind::ends_session)
    }

    /// Appends what the kind carries, except data.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Data | Self::End | Self::Settled | Self::Will | Self::Skipped | Self::Unreadable => {}
            Self::Continued(next) => put_id(out, next),
            Self::Kill { next_stream } => out.put_u32(*next_stream),
            Self::Side(said) => said.put(out),
        }
    }

    /// Reads what [`Content::put`] made; `None` where it is not of the length that the kind has.
    fn parse(kind: Kind, bytes: &[u8]) -> Option<Self> {
        match kind {
            Kind::Data => Some(Self::Data),
            Kind::End => Some(Self::End),
            Kind::Continued => id(bytes).filter(|(_, rest)| rest.is_empty()).map(|(next, _)| Self::Continued(next)),
            Kind::Kill => number(bytes).map(|next_stream| Self::Kill { next_stream }),
            Kind::Settled => bytes.is_empty().then_some(Self::Settled),
            Kind::Will => Some(Self::Will),
            Kind::Confirm => SideContent::parse_confirm(bytes).map(Self::Side),
            Kind::Refused => SideContent::parse_refused(bytes).map(Self::Side),
            Kind::Sack => SideContent::parse_sack(bytes).map(Self::Side),
        }
    }

    /// Whether a stream of this number may carry it: a KILL closes its own stream, whose number is taken.
    fn may_be_in(&self, stream: u32) -> bool {
        if let Self::Kill { next_stream } = self { *next_stream > stream } else { true }
    }
}

fn put_id(out: &mut BytesMut, stream: &StreamId) {
    out.put_slice(&stream.session);
    out.put_u32(stream.number);
}

fn id(bytes: &[u8]) -> Option<(StreamId, &[u8])> {
    let (session, rest) = bytes.split_first_chunk()?;
    let (number, rest) = rest.split_first_chunk()?;
    Some((StreamId { session: *session, number: u32::from_be_bytes(*number) }, rest))
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().map(u32::from_be_bytes).ok()
}

/// What an authentic plaintext says beside its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlaintextHead {
    pub(crate) content: Content,
    /// Its sender wants its stream confirmed, and then the stream has no gaps.
    pub(crate) wants_confirms: bool,
    /// Its stream continues another one.
    pub(crate) continues: bool,
    /// What its stream says of itself and of others, in its first message.
    pub(crate) preamble: Option<Box<Preamble>>,
    /// When the sender read its data, if it says so.
    pub(crate) sent: Option<SentTime>,
}

/// Takes all but the data off an authentic plaintext of this session; what is left is data, and nothing where the
/// message carries none.
pub(super) fn read(session: SessionId, header: &SealedHeader, plaintext: &mut BytesMut) -> PlaintextHead {
    let flags = plaintext.first().copied().unwrap_or(0);
    let is_side = header.stream >= FIRST_SIDE_STREAM;
    let (content, preamble, sent) = parse(session, header, plaintext).unwrap_or((Content::Unreadable, None, None));
    let is_in_place = content.kind().is_none_or(|kind| kind.is_of_side_stream() == is_side);
    let content = if is_in_place { content } else { Content::Unreadable };
    if !content.carries_data() {
        plaintext.clear();
    }
    let (wants_confirms, continues) = (flags & WANTS_CONFIRMS != 0, flags & CONTINUES != 0);
    PlaintextHead { content, wants_confirms, continues, preamble, sent }
}

/// `None` where this version does not know the kind or an item of the preamble, where a flag is not in its place, or
/// where the kind has another length.
fn parse(
    session: SessionId,
    header: &SealedHeader,
    plaintext: &mut BytesMut,
) -> Option<(Content, Option<Box<Preamble>>, Option<SentTime>)> {
    let first = *plaintext.first()?;
    if first & PADDED != 0 {
        let end = plaintext.iter().rposition(|&byte| byte != 0)?;
        if end == 0 || plaintext[end] != PADDING {
            return None;
        }
        plaintext.truncate(end);
    }
    plaintext.advance(1);
    let has_padding_only = header.frame_type == FrameType::Will || header.stream >= FIRST_SIDE_STREAM;
    if has_padding_only && first & !(KIND_MASK | PADDED) != 0 {
        return None;
    }
    let is_first = header.seq == 0 && header.frame_type != FrameType::Will;
    let (preamble, sent) = if first & PREAMBLE == 0 {
        (None, None)
    } else {
        let (preamble, sent) = Preamble::take(StreamId { session, number: header.stream }, plaintext, is_first)?;
        (is_first.then_some(preamble), sent)
    };
    // The first message says what is continued, if the stream continues any.
    let names_origin = preamble.as_ref().is_some_and(|preamble| preamble.continues.is_some());
    if is_first && names_origin != (first & CONTINUES != 0) {
        return None;
    }
    let code = first & KIND_MASK;
    let content = match Kind::from_code(code) {
        Some(kind) if kind.frame_type() == header.frame_type => {
            Content::parse(kind, plaintext).filter(|content| content.may_be_in(header.stream))?
        }
        None if SKIPPED_KINDS.contains(&code) && header.frame_type == FrameType::Enc => Content::Skipped,
        _ => return None,
    };
    Some((content, preamble.map(Box::new), sent))
}
