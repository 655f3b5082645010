//! What an authentic plaintext says: kind, flags, payload and padding (`sts-protocol(7)`, "Kinds").

use bytes::{Buf, BytesMut};

use super::{FIRST_CONFIRM_STREAM, Predecessor, StreamId, kind};
use crate::message::{FrameType, SealedHeader};

/// What a message says, beyond the bytes of data that it may carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Bytes to write.
    Data,
    /// The last bytes to write, or none: the stream is complete.
    End,
    /// The stream is complete, and its sender goes on in this one.
    Continued(StreamId),
    /// The first message of a stream: it goes on from this one.
    Continues(Predecessor),
    /// Streams that we send under this session, each with the next seq that the peer wants.
    Confirm(Vec<(u32, u32)>),
    /// The peer ends this session and every older one; it took no number from this one on.
    Kill {
        /// The first stream number that the peer never took.
        next_stream: u32,
    },
    /// Behind the end of a stream: its sender has heard that all of it is written, and asks for nothing more.
    Settled,
    /// Authentic, but of a kind or with a flag that this version does not know: the peer is newer.
    Newer,
}

/// Takes kind and padding off an authentic plaintext; what is left is data, and nothing where the message carries none.
/// Returns what it says, and whether it asks for confirms.
pub(super) fn read(header: &SealedHeader, plaintext: &mut BytesMut) -> (Content, bool) {
    let (mut payload, asks) = parse(header.frame_type, plaintext).unwrap_or((Content::Newer, false));
    let out_of_place = matches!(payload, Content::Continues(_)) && header.seq > 0;
    if out_of_place || matches!(payload, Content::Confirm(_)) != (header.stream >= FIRST_CONFIRM_STREAM) {
        payload = Content::Newer;
    }
    if !matches!(payload, Content::Data | Content::End) {
        plaintext.clear();
    }
    (payload, asks)
}

/// `None` for a kind that is no kind of this version, or not of the length that this version knows.
fn parse(frame: FrameType, plaintext: &mut BytesMut) -> Option<(Content, bool)> {
    let byte = *plaintext.first()?;
    let asks = byte & kind::ASKS != 0;
    let newer = Some((Content::Newer, asks));
    if byte & !(kind::MASK | kind::FLAGS) != 0 {
        return newer;
    }
    if byte & kind::PADDED != 0 {
        let Some(end) = plaintext.iter().rposition(|&byte| byte != 0) else { return newer };
        if end == 0 || plaintext[end] != kind::PADDING {
            return newer;
        }
        plaintext.truncate(end);
    }
    plaintext.advance(1);
    let word = |bytes: &[u8]| bytes.try_into().map(u32::from_be_bytes).ok();
    let payload = match (frame, byte & kind::MASK) {
        (FrameType::Enc, kind::DATA) => Some(Content::Data),
        (FrameType::Enc, kind::END) => Some(Content::End),
        (FrameType::Enc, kind::CONTINUED) => plaintext.split_first_chunk().and_then(|(session, stream)| {
            Some(Content::Continued(StreamId { session: *session, number: word(stream)? }))
        }),
        (FrameType::Enc, kind::CONTINUES) => plaintext.split_first_chunk().and_then(|(session, rest)| {
            let (stream, end) = rest.split_first_chunk::<4>()?;
            let (stream, end) = (u32::from_be_bytes(*stream), word(end)?);
            Some(Content::Continues(Predecessor { stream: StreamId { session: *session, number: stream }, end }))
        }),
        (FrameType::Enc, kind::CONFIRM) => {
            let (pairs, rest) = plaintext.as_chunks::<8>();
            let pairs = pairs.iter().map(|pair| Some((word(&pair[..4])?, word(&pair[4..])?))).collect();
            if rest.is_empty() { pairs } else { None }.map(Content::Confirm)
        }
        (FrameType::Enc, kind::SETTLED) => plaintext.is_empty().then_some(Content::Settled),
        (FrameType::Kill, kind::KILL) => word(plaintext).map(|next_stream| Content::Kill { next_stream }),
        _ => None,
    };
    Some((payload.unwrap_or(Content::Newer), asks))
}
