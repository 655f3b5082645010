//! What an authentic plaintext says: kind, flags, what the kind carries, and padding.

use bytes::{Buf, BufMut, BytesMut};

use super::id::{FIRST_CONFIRM_STREAM, Predecessor, StreamId};
use super::kind::Kind;
use crate::message::{FrameType, SealedHeader};

/// The bits of the first byte that hold the kind.
pub(super) const KIND_MASK: u8 = 0x0f;
/// The flag of a message whose sender wants its stream confirmed.
pub(super) const WANTS_CONFIRMS: u8 = 0x40;
/// The flag of a message that ends with padding.
pub(super) const PADDED: u8 = 0x80;
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
    /// Streams that we send under this session, each with the next seq that the peer wants. Only a stream of confirms carries
    /// them, and it is never closed: nothing waits for its end.
    Confirm(Vec<(u32, u32)>),
    /// The peer ends this session and every older one; it reserved no number from this one on.
    Kill {
        /// The first stream number that the peer never reserved.
        next_stream: u32,
    },
    /// After the end of a stream: its sender has heard that all of it is written, and asks for nothing more.
    Settled,
    /// The first message of a stream: it continues this one, and a receiver that gets it before the end of that one waits. A
    /// stream that wants confirms has no need of it: it begins when the one before it is confirmed.
    Continues(Predecessor),
    /// Authentic, but of a kind or with a flag that this version does not know: the peer is newer.
    Newer,
}

impl Content {
    /// Its kind; `None` where this version does not know it.
    #[must_use]
    pub(crate) fn kind(&self) -> Option<Kind> {
        match self {
            Self::Data => Some(Kind::Data),
            Self::End => Some(Kind::End),
            Self::Continued(_) => Some(Kind::Continued),
            Self::Confirm(_) => Some(Kind::Confirm),
            Self::Kill { .. } => Some(Kind::Kill),
            Self::Settled => Some(Kind::Settled),
            Self::Continues(_) => Some(Kind::Continues),
            Self::Newer => None,
        }
    }

    /// As [`Kind::carries_data`]; what a newer peer says is not written.
    #[must_use]
    pub(crate) fn carries_data(&self) -> bool {
        self.kind().is_some_and(Kind::carries_data)
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

    /// As [`Kind::stays_with_stream`]; what is not understood counts in its stream, and is a gap for the run that follows it.
    #[must_use]
    pub(crate) fn stays_with_stream(&self) -> bool {
        self.kind().is_none_or(Kind::stays_with_stream)
    }

    /// As [`Kind::is_in_sequence`]; what is not understood takes a seq.
    #[must_use]
    pub(crate) fn is_in_sequence(&self) -> bool {
        self.kind().is_none_or(Kind::is_in_sequence)
    }

    /// As [`Kind::ends_session`].
    #[must_use]
    pub(crate) fn ends_session(&self) -> bool {
        self.kind().is_some_and(Kind::ends_session)
    }

    /// Appends what the kind carries, except data.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Data | Self::End | Self::Settled | Self::Newer => {}
            Self::Continued(next) => put_id(out, next),
            Self::Confirm(streams) => {
                for &(stream, next) in streams {
                    out.put_u32(stream);
                    out.put_u32(next);
                }
            }
            Self::Kill { next_stream } => out.put_u32(*next_stream),
            Self::Continues(Predecessor { stream, end }) => {
                put_id(out, stream);
                out.put_u32(*end);
            }
        }
    }

    /// Reads what [`Content::put`] made; `None` where it is not of the length that the kind has.
    fn parse(kind: Kind, bytes: &[u8]) -> Option<Self> {
        match kind {
            Kind::Data => Some(Self::Data),
            Kind::End => Some(Self::End),
            Kind::Continued => id(bytes).filter(|(_, rest)| rest.is_empty()).map(|(next, _)| Self::Continued(next)),
            Kind::Confirm => {
                let (pairs, rest) = bytes.as_chunks::<8>();
                let pairs = pairs.iter().map(|pair| Some((number(&pair[..4])?, number(&pair[4..])?))).collect();
                if rest.is_empty() { pairs } else { None }.map(Self::Confirm)
            }
            Kind::Kill => number(bytes).map(|next_stream| Self::Kill { next_stream }),
            Kind::Settled => bytes.is_empty().then_some(Self::Settled),
            Kind::Continues => {
                let (stream, rest) = id(bytes)?;
                Some(Self::Continues(Predecessor { stream, end: number(rest)? }))
            }
        }
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

/// Takes kind and padding off an authentic plaintext; what is left is data, and nothing where the message carries none.
/// Returns what it says, and whether its sender wants confirms.
pub(super) fn read(header: &SealedHeader, plaintext: &mut BytesMut) -> (Content, bool) {
    let wants_confirms = plaintext.first().is_some_and(|first| first & WANTS_CONFIRMS != 0);
    let of_confirms = header.stream >= FIRST_CONFIRM_STREAM;
    let content = parse(header.frame_type, plaintext).unwrap_or(Content::Newer);
    let is_in_place = |kind: Kind| (header.seq == 0 || !kind.begins_stream()) && kind.is_of_confirms() == of_confirms;
    let content = if content.kind().is_some_and(is_in_place) { content } else { Content::Newer };
    if !content.carries_data() {
        plaintext.clear();
    }
    (content, wants_confirms)
}

/// Takes kind and padding off; `None` where this version does not know the kind or a flag, or the kind has another length.
fn parse(frame_type: FrameType, plaintext: &mut BytesMut) -> Option<Content> {
    let first = *plaintext.first()?;
    if first & !(KIND_MASK | WANTS_CONFIRMS | PADDED) != 0 {
        return None;
    }
    let kind = Kind::from_code(first & KIND_MASK).filter(|kind| kind.frame_type() == frame_type)?;
    if first & PADDED != 0 {
        let end = plaintext.iter().rposition(|&byte| byte != 0)?;
        if end == 0 || plaintext[end] != PADDING {
            return None;
        }
        plaintext.truncate(end);
    }
    plaintext.advance(1);
    Content::parse(kind, plaintext)
}
