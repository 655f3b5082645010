//! How an earlier stream of a device ended, as a preamble says it (`sts-protocol(7)`, "Preamble", items 2, 4 and 5).

use bytes::{BufMut, BytesMut};

use super::id::StreamId;
use super::preamble::{CONTINUES_LEN, Continues, put_item};
use crate::crypto::key_tree::{SALT_LEN, Salt};
use crate::session::SessionId;

/// Most streams of which a preamble tells how they ended.
pub(super) const MAX_ENDED: usize = 16;
/// The count of a stream that is not known.
const UNKNOWN_COUNT: u32 = u32::MAX;

pub(super) const ENDED: u8 = 2;
pub(super) const ENDED_CONTINUING: u8 = 4;
pub(super) const ENDED_BEFORE: u8 = 5;

/// How a stream ended, in an item that it shares.
const ENDED_LEN: usize = 4 + SALT_LEN + 4;
/// What such an item begins with.
const ENDED_HEAD_LEN: usize = 3 + 8;
/// Room for three streams of one session, or for one that continued another one; usually for five of the stream's own
/// session.
const MIN_ENDED_ROOM: usize = ENDED_HEAD_LEN + 3 * ENDED_LEN;
/// Room for as many as a preamble can tell, each of which continued another one.
const MAX_ENDED_ROOM: usize = MAX_ENDED * (ENDED_HEAD_LEN + ENDED_LEN + CONTINUES_LEN);

/// Messages from this length on have room for the longest preamble.
pub(super) const MIN_MESSAGE_FOR_ALL: usize = 8192;

/// An earlier stream of the same device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndedStream {
    /// Which one.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
    /// How many positions of its sequence it carried; `None` where that is not known.
    pub(crate) count: Option<u32>,
    /// What it continued, if its count is known.
    pub(crate) continues: Option<Continues>,
}

/// The room in bytes that is left for how streams ended, in a message of at most this length.
pub(super) fn ended_room(max_message: usize) -> usize {
    if max_message >= MIN_MESSAGE_FOR_ALL { MAX_ENDED_ROOM } else { MIN_ENDED_ROOM }
}

/// Whether there is room to tell of all these streams in the first message of this one, of at most this length.
#[must_use]
pub(crate) fn can_tell(ended: &[EndedStream], teller: StreamId, max_message: usize) -> bool {
    let mut items = BytesMut::new();
    put_ended_items(&mut items, ended, teller);
    ended.len() <= MAX_ENDED && items.len() <= ended_room(max_message)
}

/// Appends the items that tell of these streams in the preamble of another one.
pub(super) fn put_ended_items(out: &mut BytesMut, ended: &[EndedStream], teller: StreamId) {
    for together in ended.chunk_by(|ended, next| ended.may_share_item(next, teller)) {
        let item = together[0].item(teller);
        let mut value = BytesMut::new();
        if item != ENDED_BEFORE {
            value.put_slice(&together[0].stream.session);
        }
        for ended in together {
            if item == ENDED_BEFORE {
                ended.put_before(teller, &mut value);
            } else {
                ended.put(&mut value);
            }
        }
        put_item(out, item, &value);
    }
}

/// The streams of an item of this type, in the preamble of this stream; `None` if it is malformed.
pub(super) fn parse_ended_item(item: u8, value: &[u8], teller: StreamId) -> Option<Vec<EndedStream>> {
    if item == ENDED_BEFORE {
        return parse_before(value, teller);
    }
    let (session, rest) = value.split_first_chunk()?;
    if item == ENDED_CONTINUING {
        let (stream, continues) = rest.split_at_checked(ENDED_LEN)?;
        let ended = EndedStream::parse(*session, stream).filter(|ended| ended.count.is_some())?;
        return Some(vec![EndedStream { continues: Some(Continues::parse(continues)?), ..ended }]);
    }
    let (streams, rest) = rest.as_chunks::<ENDED_LEN>();
    let streams = streams.iter().map(|stream| EndedStream::parse(*session, stream)).collect();
    if rest.is_empty() { streams } else { None }
}

fn parse_before(mut value: &[u8], teller: StreamId) -> Option<Vec<EndedStream>> {
    let mut streams = Vec::new();
    while !value.is_empty() {
        let distance = take_varint(&mut value).filter(|distance| *distance > 0)?;
        let stream = StreamId { number: teller.number.checked_sub(distance)?, ..teller };
        let salt = *value.split_off(..SALT_LEN)?.first_chunk()?;
        let count = take_varint(&mut value)?.checked_sub(1);
        streams.push(EndedStream { stream, salt, count, continues: None });
    }
    Some(streams)
}

impl EndedStream {
    /// The type of the item that tells of it in the preamble of this stream.
    fn item(&self, teller: StreamId) -> u8 {
        if self.continues.is_some() {
            ENDED_CONTINUING
        } else if self.stream.session == teller.session && self.stream.number < teller.number {
            ENDED_BEFORE
        } else {
            ENDED
        }
    }

    fn may_share_item(&self, next: &Self, teller: StreamId) -> bool {
        let item = self.item(teller);
        item != ENDED_CONTINUING && item == next.item(teller) && self.stream.session == next.stream.session
    }

    fn put(&self, out: &mut BytesMut) {
        out.put_u32(self.stream.number);
        out.put_slice(&self.salt);
        out.put_u32(self.count.unwrap_or(UNKNOWN_COUNT));
        if let Some(continues) = &self.continues {
            continues.put(out);
        }
    }

    fn put_before(&self, teller: StreamId, out: &mut BytesMut) {
        put_varint(teller.number - self.stream.number, out);
        out.put_slice(&self.salt);
        put_varint(self.count.map_or(0, |count| count.saturating_add(1)), out);
    }

    fn parse(session: SessionId, value: &[u8]) -> Option<Self> {
        let (number, rest) = value.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let count = u32::from_be_bytes(rest.try_into().ok()?);
        let stream = StreamId { session, number: u32::from_be_bytes(*number) };
        Some(Self { stream, salt: *salt, count: (count != UNKNOWN_COUNT).then_some(count), continues: None })
    }
}

fn put_varint(mut value: u32, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.put_u8(value.to_le_bytes()[0]);
}

/// Takes a number off the front; `None` if it is cut, or above 2^32 - 1.
fn take_varint(bytes: &mut &[u8]) -> Option<u32> {
    let mut value = 0;
    for shift in (0..35).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return u32::try_from(value).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::id::Origin;
    use super::*;

    const TELLER: StreamId = StreamId { session: [1; 8], number: 1000 };

    fn before(distance: u32, count: Option<u32>) -> EndedStream {
        let stream = StreamId { number: TELLER.number - distance, ..TELLER };
        EndedStream { stream, salt: [2; 8], count, continues: None }
    }

    fn items(ended: &[EndedStream]) -> BytesMut {
        let mut out = BytesMut::new();
        put_ended_items(&mut out, ended, TELLER);
        out
    }

    /// What each of a row of short runs tells.
    #[test]
    fn a_stream_of_the_same_session_takes_ten_bytes() {
        let told = [before(48, Some(9)), before(1, Some(1))];
        let expected = [&[5, 0, 20, 48][..], &[2; 8], &[10, 1], &[2; 8], &[2]].concat();
        assert_eq!(items(&told), expected);
        assert_eq!(parse_ended_item(ENDED_BEFORE, &expected[3..], TELLER), Some(told.to_vec()));
    }

    #[test]
    fn a_short_message_tells_how_five_streams_ended_or_three_in_any_case_or_one_that_continued_another() {
        let origin = Origin { stream: TELLER, salt: [2; 8] };
        let continuing = EndedStream { continues: Some(Continues { origin, position: 3 }), ..before(1, Some(4)) };
        let most = u32::MAX - 1;
        let last = StreamId { number: most, ..TELLER };
        let far = EndedStream { stream: StreamId { number: 0, ..TELLER }, ..before(1, Some(most)) };
        let elsewhere = EndedStream { stream: StreamId { session: [7; 8], number: 4 }, ..before(1, Some(4)) };
        for (ended, teller, short) in
            [(before(1, Some(4)), TELLER, 5), (far, last, 3), (elsewhere, TELLER, 3), (continuing, TELLER, 1)]
        {
            for (max_message, expected) in [(256, short), (8191, short), (8192, 16), (1 << 20, 16)] {
                let told = (0..40).rev().find(|&count| can_tell(&vec![ended; count], teller, max_message));
                assert_eq!(told, Some(expected), "{max_message}");
            }
        }
    }

    #[test]
    fn a_number_has_at_most_five_bytes_and_thirty_two_bits() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u32::MAX] {
            let mut bytes = BytesMut::new();
            put_varint(value, &mut bytes);
            let mut rest = &bytes[..];
            assert_eq!((take_varint(&mut rest), rest), (Some(value), &[][..]));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(take_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x10][..]), None);
        assert_eq!(take_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
    }

    #[test]
    fn only_a_lower_number_is_before() {
        let of = |distance| [&[distance][..], &[2; 8], &[1]].concat();
        let taken = |value: &[u8], number| parse_ended_item(ENDED_BEFORE, value, StreamId { number, ..TELLER });
        assert_eq!(taken(&of(3), 3).map(|told| told[0].stream.number), Some(0));
        assert_eq!((taken(&of(0), 3), taken(&of(4), 3)), (None, None));
        assert_eq!(taken(&of(3)[..9], 3), None);
        assert_eq!(items(&[before(0, Some(4))])[0], ENDED);
    }
}
