//! What a stream says of itself and of others before its first message (`sts-protocol(7)`, "Preamble").
//!
//! `length 2 | items, each: type 1 | length 2 | value`. An item of a type from 128 on may be ignored by a receiver that does
//! not know it; one below that is unknown makes the message unreadable.

use bytes::{Buf, BufMut, BytesMut};

use super::id::{Origin, StreamId};
use crate::crypto::key_tree::{SALT_LEN, Salt};
use crate::session::SessionId;

/// Items from this type on may be ignored.
const FIRST_IGNORABLE: u8 = 128;
/// Most streams of which a preamble tells how they ended.
const MAX_ENDED: usize = 16;
/// The count of a stream that is not known.
const UNKNOWN_COUNT: u32 = u32::MAX;

const CONTINUES: u8 = 1;
const ENDED: u8 = 2;
const KEPT: u8 = 3;
const ENDED_CONTINUING: u8 = 4;

/// The length of a preamble that says all but how streams ended.
const LEN_WITHOUT_ENDED: usize = 2 + (3 + CONTINUES_LEN) + 3;
const CONTINUES_LEN: usize = 8 + 4 + SALT_LEN + 8;
/// How a stream ended, in an item that it shares.
const ENDED_LEN: usize = 4 + SALT_LEN + 4;
/// What such an item begins with.
const ENDED_HEAD_LEN: usize = 3 + 8;
/// Room for three streams of one session, which are all that a device has to tell if it begins one stream after
/// another; or for one that continued another one.
const MIN_ENDED_ROOM: usize = ENDED_HEAD_LEN + 3 * ENDED_LEN;
/// Room for as many as a preamble can tell, each of which continued another one.
const MAX_ENDED_ROOM: usize = MAX_ENDED * (ENDED_HEAD_LEN + ENDED_LEN + CONTINUES_LEN);

/// Messages from this length on have room for the longest preamble.
const MIN_MESSAGE_FOR_ALL: usize = 8192;

/// The room in bytes that is left for how streams ended, in a message of at most this length.
fn ended_room(max_message: usize) -> usize {
    if max_message >= MIN_MESSAGE_FOR_ALL { MAX_ENDED_ROOM } else { MIN_ENDED_ROOM }
}

/// The room in bytes that is left for a preamble in a message of at most this length.
#[must_use]
pub(super) fn preamble_room(max_message: usize) -> usize {
    LEN_WITHOUT_ENDED + ended_room(max_message)
}

/// Whether there is room to tell of all these streams in a message of at most this length.
#[must_use]
pub(crate) fn can_tell(ended: &[EndedStream], max_message: usize) -> bool {
    let mut items = BytesMut::new();
    put_ended_items(&mut items, ended);
    ended.len() <= MAX_ENDED && items.len() <= ended_room(max_message)
}

/// What precedes the content of a stream's first message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preamble {
    /// The stream continues another one.
    pub(crate) continues: Option<Continues>,
    /// How earlier streams of the device ended.
    pub(crate) ended: Vec<EndedStream>,
    /// The broker is asked to keep frames of this stream.
    pub(crate) kept: bool,
}

/// What a stream continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Continues {
    /// The stream in which the sequence began.
    pub(crate) origin: Origin,
    /// Where this stream begins in it.
    pub(crate) position: u64,
}

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

impl Preamble {
    /// Whether it says nothing.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Its length in a plaintext.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        let mut bytes = BytesMut::new();
        self.put(&mut bytes);
        bytes.len()
    }

    /// Appends it to a plaintext.
    pub(super) fn put(&self, out: &mut BytesMut) {
        let mut items = BytesMut::new();
        if let Some(continues) = &self.continues {
            let mut value = BytesMut::new();
            continues.put(&mut value);
            put_item(&mut items, CONTINUES, &value);
        }
        put_ended_items(&mut items, &self.ended);
        if self.kept {
            put_item(&mut items, KEPT, &[]);
        }
        put_prefixed(out, &items);
    }

    /// Leaves out the oldest streams that a message of at most this length has no room for.
    pub(super) fn limit_to(&mut self, max_message: usize) {
        while !can_tell(&self.ended, max_message) {
            self.ended.remove(0);
        }
    }

    /// Takes it off the front of a plaintext; `None` where this version cannot read it.
    pub(super) fn take(plaintext: &mut BytesMut) -> Option<Self> {
        let (len, rest) = plaintext.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let preamble = Self::parse(rest.get(..len)?)?;
        plaintext.advance(2 + len);
        Some(preamble)
    }

    fn parse(mut items: &[u8]) -> Option<Self> {
        let mut preamble = Self::default();
        while let Some((&[item, high, low], rest)) = items.split_first_chunk() {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            items = rest;
            match item {
                CONTINUES if preamble.continues.is_none() => preamble.continues = Some(Continues::parse(value)?),
                ENDED => preamble.put_ended(value)?,
                ENDED_CONTINUING => preamble.put_ended_continuing(value)?,
                KEPT if value.is_empty() => preamble.kept = true,
                FIRST_IGNORABLE.. => {}
                _ => return None,
            }
        }
        items.is_empty().then_some(preamble)
    }

    fn put_ended(&mut self, value: &[u8]) -> Option<()> {
        let (session, rest) = value.split_first_chunk()?;
        let (streams, rest) = rest.as_chunks::<{ 4 + SALT_LEN + 4 }>();
        for stream in streams {
            self.ended.push(EndedStream::parse(*session, stream)?);
        }
        (rest.is_empty() && self.ended.len() <= MAX_ENDED).then_some(())
    }

    fn put_ended_continuing(&mut self, value: &[u8]) -> Option<()> {
        let (session, rest) = value.split_first_chunk()?;
        let (stream, continues) = rest.split_at_checked(4 + SALT_LEN + 4)?;
        let ended = EndedStream::parse(*session, stream).filter(|ended| ended.count.is_some())?;
        self.ended.push(EndedStream { continues: Some(Continues::parse(continues)?), ..ended });
        (self.ended.len() <= MAX_ENDED).then_some(())
    }
}

impl Continues {
    fn put(&self, out: &mut BytesMut) {
        let Self { origin: Origin { stream, salt }, position } = self;
        out.put_slice(&stream.session);
        out.put_u32(stream.number);
        out.put_slice(salt);
        out.put_u64(*position);
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (session, rest) = value.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let stream = StreamId { session: *session, number: u32::from_be_bytes(*number) };
        let origin = Origin { stream, salt: *salt };
        Some(Self { origin, position: u64::from_be_bytes(rest.try_into().ok()?) })
    }
}

impl EndedStream {
    fn may_share_item(&self, next: &Self) -> bool {
        self.stream.session == next.stream.session && self.continues.is_none() && next.continues.is_none()
    }

    fn parse(session: SessionId, value: &[u8]) -> Option<Self> {
        let (number, rest) = value.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let count = u32::from_be_bytes(rest.try_into().ok()?);
        let stream = StreamId { session, number: u32::from_be_bytes(*number) };
        Some(Self { stream, salt: *salt, count: (count != UNKNOWN_COUNT).then_some(count), continues: None })
    }
}

fn put_ended_items(out: &mut BytesMut, ended: &[EndedStream]) {
    for together in ended.chunk_by(EndedStream::may_share_item) {
        let mut value = BytesMut::from(&together[0].stream.session[..]);
        for EndedStream { stream, salt, count, continues } in together {
            value.put_u32(stream.number);
            value.put_slice(salt);
            value.put_u32(count.unwrap_or(UNKNOWN_COUNT));
            if let Some(continues) = continues {
                continues.put(&mut value);
            }
        }
        let item = if together[0].continues.is_some() { ENDED_CONTINUING } else { ENDED };
        put_item(out, item, &value);
    }
}

fn put_item(out: &mut BytesMut, item: u8, value: &[u8]) {
    out.put_u8(item);
    put_prefixed(out, value);
}

fn put_prefixed(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u16(u16::try_from(bytes.len()).expect("a preamble has at most 16 ended streams"));
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stream() -> impl Strategy<Value = StreamId> {
        (prop::sample::select(vec![[1; 8], [2; 8]]), any::<u32>())
            .prop_map(|(session, number)| StreamId { session, number })
    }

    fn preamble() -> impl Strategy<Value = Preamble> {
        let continues = || {
            let named = (stream(), any::<Salt>(), any::<u64>());
            named.prop_map(|(stream, salt, position)| Continues { origin: Origin { stream, salt }, position })
        };
        let end = prop::option::of((0..u32::MAX, prop::option::of(continues())));
        let ended = (stream(), any::<Salt>(), end).prop_map(|(stream, salt, end)| {
            let (count, continues) = end.map_or((None, None), |(count, continues)| (Some(count), continues));
            EndedStream { stream, salt, count, continues }
        });
        let ended = prop::collection::vec(ended, 0..=MAX_ENDED);
        (prop::option::of(continues()), ended, any::<bool>()).prop_map(|(continues, ended, kept)| Preamble {
            continues,
            ended,
            kept,
        })
    }

    fn taken(bytes: &[u8]) -> Option<(Preamble, BytesMut)> {
        let mut plaintext = BytesMut::from(bytes);
        Preamble::take(&mut plaintext).map(|preamble| (preamble, plaintext))
    }

    proptest! {
        #[test]
        fn what_is_said_is_read(preamble in preamble(), rest in prop::collection::vec(any::<u8>(), 0..20)) {
            let mut bytes = BytesMut::new();
            preamble.put(&mut bytes);
            let len = bytes.len();
            bytes.put_slice(&rest);
            prop_assert!(len == preamble.len() && len <= preamble_room(MIN_MESSAGE_FOR_ALL));
            prop_assert_eq!(taken(&bytes), Some((preamble, BytesMut::from(&rest[..]))));
            for cut in 0..len {
                prop_assert_eq!(taken(&bytes[..cut]), None);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut prefixed = BytesMut::new();
            put_prefixed(&mut prefixed, &bytes);
            let _ = (taken(&bytes), taken(&prefixed));
        }
    }

    /// How a stream of session 1 ended that continued another one, and one that did not.
    fn examples() -> [EndedStream; 2] {
        let origin = Origin { stream: StreamId { session: [1; 8], number: 1 }, salt: [2; 8] };
        let continuing = Some(Continues { origin, position: 3 });
        [continuing, None].map(|continues| EndedStream {
            stream: origin.stream,
            salt: [2; 8],
            count: Some(4),
            continues,
        })
    }

    #[test]
    fn a_short_message_tells_how_three_streams_ended_or_one_that_continued_another() {
        let [continuing, alone] = examples();
        for (max_message, most, most_alone) in [(256, 1, 3), (8191, 1, 3), (8192, 16, 16), (1 << 20, 16, 16)] {
            for (ended, most) in [(continuing, most), (alone, most_alone)] {
                let told = (0..40).rev().find(|&count| can_tell(&vec![ended; count], max_message));
                assert_eq!(told, Some(most), "{max_message}");
            }
        }
    }

    #[test]
    fn the_longest_preamble_has_room() {
        let [continuing, alone] = examples();
        for (max_message, ended) in [(256, vec![alone; 3]), (MIN_MESSAGE_FOR_ALL, vec![continuing; MAX_ENDED])] {
            let longest = Preamble { continues: continuing.continues, ended, kept: true };
            assert_eq!(longest.len(), preamble_room(max_message));
        }
    }

    #[test]
    fn what_has_no_room_any_more_is_the_oldest() {
        let numbered = |number| EndedStream { stream: StreamId { session: [1; 8], number }, ..examples()[1] };
        let mut preamble = Preamble { ended: (0..16).map(numbered).collect(), kept: true, ..Preamble::default() };
        let whole = preamble.clone();
        preamble.limit_to(MIN_MESSAGE_FOR_ALL);
        assert_eq!(preamble, whole);
        preamble.limit_to(256);
        assert_eq!(preamble, Preamble { ended: (13..16).map(numbered).collect(), ..whole });
    }

    #[test]
    fn an_item_of_a_later_version_may_be_ignored_from_128_on() {
        for item in 0..=u8::MAX {
            let mut bytes = BytesMut::new();
            let mut items = BytesMut::new();
            put_item(&mut items, KEPT, &[]);
            put_item(&mut items, item, b"later");
            put_prefixed(&mut bytes, &items);
            let expected = Preamble { kept: true, ..Preamble::default() };
            assert_eq!(taken(&bytes), (item >= FIRST_IGNORABLE).then_some((expected, BytesMut::new())), "{item}");
        }
    }

    #[test]
    fn an_item_of_another_length_is_unreadable() {
        let item = |item, len| {
            let (mut bytes, mut items) = (BytesMut::new(), BytesMut::new());
            put_item(&mut items, item, &vec![0; len]);
            put_prefixed(&mut bytes, &items);
            taken(&bytes).is_some()
        };
        let lengths = |wanted| (0..400).filter(|&len| item(wanted, len)).collect::<Vec<_>>();
        assert_eq!(lengths(CONTINUES), [28]);
        assert_eq!(lengths(ENDED), (0..=MAX_ENDED).map(|streams| 8 + 16 * streams).collect::<Vec<_>>());
        assert_eq!(lengths(KEPT), [0]);
        assert_eq!(lengths(ENDED_CONTINUING), [52]);
    }
}
