//! What a message of a side stream says: what the receiver of data tells its sender of the streams of one session.
//!
//! A kind of side stream that is new is a variant here, and acted on in `Confirms::receive`
//! (`send/sealed/confirms.rs`). Use the session of the data: a message is a sign that its session is in use.

use bytes::{BufMut, BytesMut};

use super::kind::Kind;
use crate::crypto::key_tree::{SALT_LEN, Salt};

/// Length of a range of messages in a sack.
pub(super) const SACK_RANGE_LEN: usize = 4 + 4;
/// Length of what precedes those.
pub(super) const SACK_LEN: usize = 4 + SALT_LEN;

/// What the receiver says of streams that we send under the session of the message. A side stream is never closed, and
/// nothing waits for its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SideContent {
    /// How far they are written.
    Confirm(Vec<Confirmed>),
    /// It does not understand a message.
    Refused {
        /// Of which stream.
        stream: u32,
        /// The salt of that stream.
        salt: Salt,
        /// Which one.
        seq: u32,
    },
    /// It has these messages of a stream, and cannot confirm them, as others are missing.
    Sack {
        /// The number of the stream.
        stream: u32,
        /// Its salt.
        salt: Salt,
        /// In order: each the first seq, and the one after the last.
        ranges: Vec<(u32, u32)>,
    },
}

impl SideContent {
    /// Its kind.
    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Confirm(_) => Kind::Confirm,
            Self::Refused { .. } => Kind::Refused,
            Self::Sack { .. } => Kind::Sack,
        }
    }

    /// Appends what it carries.
    pub(super) fn put(&self, out: &mut BytesMut) {
        match self {
            Self::Confirm(streams) => {
                for &Confirmed { stream, salt, next } in streams {
                    out.put_u32(stream);
                    out.put_slice(&salt);
                    out.put_u32(next);
                }
            }
            Self::Refused { stream, salt, seq } => {
                out.put_u32(*stream);
                out.put_slice(salt);
                out.put_u32(*seq);
            }
            Self::Sack { stream, salt, ranges } => {
                out.put_u32(*stream);
                out.put_slice(salt);
                for (first, next) in ranges {
                    out.put_u32(*first);
                    out.put_u32(*next);
                }
            }
        }
    }

    /// A confirm: any number of streams.
    pub(super) fn parse_confirm(bytes: &[u8]) -> Option<Self> {
        let (streams, rest) = bytes.as_chunks();
        let streams = streams.iter().map(Confirmed::parse).collect();
        rest.is_empty().then_some(Self::Confirm(streams))
    }

    /// A stream, its salt and a seq.
    pub(super) fn parse_refused(bytes: &[u8]) -> Option<Self> {
        let Confirmed { stream, salt, next: seq } = Confirmed::parse(bytes.try_into().ok()?);
        Some(Self::Refused { stream, salt, seq })
    }

    /// A stream, its salt and one range at least.
    pub(super) fn parse_sack(bytes: &[u8]) -> Option<Self> {
        let (stream, rest) = bytes.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (ranges, rest) = rest.as_chunks();
        let range = |&[f0, f1, f2, f3, n0, n1, n2, n3]: &[u8; SACK_RANGE_LEN]| {
            (u32::from_be_bytes([f0, f1, f2, f3]), u32::from_be_bytes([n0, n1, n2, n3]))
        };
        let is_whole = rest.is_empty() && !ranges.is_empty();
        let ranges = ranges.iter().map(range).collect();
        is_whole.then_some(Self::Sack { stream: u32::from_be_bytes(*stream), salt: *salt, ranges })
    }
}

/// How far a stream is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Confirmed {
    /// Its number, in the session that this is said under.
    pub(crate) stream: u32,
    /// Its salt: a copy of the device may send another stream of this number.
    pub(crate) salt: Salt,
    /// The next seq that is wanted: all before it is written.
    pub(crate) next: u32,
}

impl Confirmed {
    /// Length in bytes in a message.
    pub(super) const LEN: usize = 4 + SALT_LEN + 4;

    fn parse(bytes: &[u8; Self::LEN]) -> Self {
        let [s0, s1, s2, s3, salt @ .., n0, n1, n2, n3] = *bytes;
        Self { stream: u32::from_be_bytes([s0, s1, s2, s3]), salt, next: u32::from_be_bytes([n0, n1, n2, n3]) }
    }
}
