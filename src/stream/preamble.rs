//! What a stream says of itself and of others before its first message, and when what any of its messages carries was
//! read (`sts-protocol(7)`, "Preamble").
//!
//! `length 2 | items, each: type 1 | length 2 | value`. An item of a type from 128 on may be ignored by a receiver that does
//! not know it; one below that is unknown makes the message unreadable.

use bytes::{Buf, BufMut, BytesMut};

use super::ended_stream::{
    ENDED, ENDED_BEFORE, ENDED_CONTINUING, EndedStream, MAX_ENDED, can_tell, ended_room, parse_ended_item,
    put_ended_items,
};
use super::id::{Origin, StreamId};
use super::sent_time::SentTime;
use crate::crypto::key_tree::SALT_LEN;

/// Items from this type on may be ignored.
const FIRST_IGNORABLE: u8 = 128;

const CONTINUES: u8 = 1;
const KEPT: u8 = 3;
const SENT: u8 = 6;

/// The length of a preamble that says all but how streams ended.
const LEN_WITHOUT_ENDED: usize = 2 + (3 + CONTINUES_LEN) + 3;
pub(super) const CONTINUES_LEN: usize = 8 + 4 + SALT_LEN + 8;

/// The room in bytes that is left for a preamble in a message of at most this length.
#[must_use]
pub(super) fn preamble_room(max_message: usize) -> usize {
    LEN_WITHOUT_ENDED + ended_room(max_message)
}

/// What a stream says in its first message.
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

impl Preamble {
    /// Whether it says nothing.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What precedes the content of this stream's message with this seq, of which the data was sent at a certain time.
    pub(super) fn before(&self, of: StreamId, seq: u32, sent: Option<SentTime>) -> BytesMut {
        let mut bytes = BytesMut::new();
        if seq == 0 && !self.is_empty() {
            self.put(of, sent, &mut bytes);
        } else if sent.is_some() {
            Self::default().put(of, sent, &mut bytes);
        }
        bytes
    }

    /// Appends it to a plaintext of this stream, with when the data of that message was read.
    pub(super) fn put(&self, of: StreamId, sent: Option<SentTime>, out: &mut BytesMut) {
        let mut items = BytesMut::new();
        if let Some(continues) = &self.continues {
            let mut value = BytesMut::new();
            continues.put(&mut value);
            put_item(&mut items, CONTINUES, &value);
        }
        put_ended_items(&mut items, &self.ended, of);
        if self.kept {
            put_item(&mut items, KEPT, &[]);
        }
        if let Some(sent) = sent {
            put_item(&mut items, SENT, &sent.to_bytes());
        }
        put_prefixed(out, &items);
    }

    /// Leaves out the oldest streams that a message of this stream, of at most this length, has no room for.
    pub(super) fn limit_to(&mut self, of: StreamId, max_message: usize) {
        while !can_tell(&self.ended, of, max_message) {
            self.ended.remove(0);
        }
    }

    /// Takes what [`Preamble::put`] made off the front of a plaintext of this stream; `None` where this version cannot
    /// read it.
    pub(super) fn take(of: StreamId, plaintext: &mut BytesMut, is_first: bool) -> Option<(Self, Option<SentTime>)> {
        let (len, rest) = plaintext.split_first_chunk()?;
        let len = usize::from(u16::from_be_bytes(*len));
        let read = Self::parse(of, rest.get(..len)?, is_first)?;
        plaintext.advance(2 + len);
        Some(read)
    }

    fn parse(of: StreamId, mut items: &[u8], is_first: bool) -> Option<(Self, Option<SentTime>)> {
        let (mut preamble, mut sent) = (Self::default(), None);
        while let Some((&[item, high, low], rest)) = items.split_first_chunk() {
            let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            items = rest;
            match item {
                // Of streams, only the first message tells.
                CONTINUES..=ENDED_BEFORE if !is_first => return None,
                CONTINUES if preamble.continues.is_none() => preamble.continues = Some(Continues::parse(value)?),
                ENDED | ENDED_CONTINUING | ENDED_BEFORE => preamble.ended.extend(parse_ended_item(item, value, of)?),
                KEPT if value.is_empty() => preamble.kept = true,
                SENT if sent.is_none() => sent = Some(SentTime::from_bytes(value.try_into().ok()?)),
                FIRST_IGNORABLE.. => {}
                _ => return None,
            }
        }
        (items.is_empty() && preamble.ended.len() <= MAX_ENDED).then_some((preamble, sent))
    }
}

impl Continues {
    pub(super) fn put(&self, out: &mut BytesMut) {
        let Self { origin: Origin { stream, salt }, position } = self;
        out.put_slice(&stream.session);
        out.put_u32(stream.number);
        out.put_slice(salt);
        out.put_u64(*position);
    }

    pub(super) fn parse(value: &[u8]) -> Option<Self> {
        let (session, rest) = value.split_first_chunk()?;
        let (number, rest) = rest.split_first_chunk()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let stream = StreamId { session: *session, number: u32::from_be_bytes(*number) };
        let origin = Origin { stream, salt: *salt };
        Some(Self { origin, position: u64::from_be_bytes(rest.try_into().ok()?) })
    }
}

/// Appends an item of this type.
pub(super) fn put_item(out: &mut BytesMut, item: u8, value: &[u8]) {
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

    use super::super::ended_stream::MIN_MESSAGE_FOR_ALL;
    use super::*;
    use crate::crypto::key_tree::Salt;

    const OF: StreamId = StreamId { session: [1; 8], number: 1 << 31 };

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

    fn taken(bytes: &[u8]) -> Option<(Preamble, Option<SentTime>, BytesMut)> {
        let mut plaintext = BytesMut::from(bytes);
        Preamble::take(OF, &mut plaintext, true).map(|(preamble, sent)| (preamble, sent, plaintext))
    }

    proptest! {
        #[test]
        fn what_is_said_is_read(
            preamble in preamble(),
            sent in prop::option::of(any::<[u8; 8]>()),
            rest in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let (mut bytes, sent) = (BytesMut::new(), sent.map(SentTime::from_bytes));
            preamble.put(OF, sent, &mut bytes);
            let len = bytes.len();
            bytes.put_slice(&rest);
            let room = preamble_room(MIN_MESSAGE_FOR_ALL) + if sent.is_some() { SentTime::ITEM_LEN } else { 0 };
            prop_assert!(len <= room);
            prop_assert_eq!(taken(&bytes), Some((preamble, sent, BytesMut::from(&rest[..]))));
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
    fn the_longest_preamble_has_room() {
        let [continuing, alone] = examples();
        let alone = EndedStream { stream: StreamId { session: [7; 8], number: 1 }, ..alone };
        for (max_message, ended) in [(256, vec![alone; 3]), (MIN_MESSAGE_FOR_ALL, vec![continuing; MAX_ENDED])] {
            let longest = Preamble { continues: continuing.continues, ended, kept: true };
            assert_eq!(longest.before(OF, 0, None).len(), preamble_room(max_message));
            let sent = Some(SentTime::from_bytes([1; 8]));
            assert_eq!(longest.before(OF, 0, sent).len(), preamble_room(max_message) + SentTime::ITEM_LEN);
        }
    }

    #[test]
    fn what_has_no_room_any_more_is_the_oldest() {
        let numbered = |number| EndedStream { stream: StreamId { session: [7; 8], number }, ..examples()[1] };
        let mut preamble = Preamble { ended: (0..16).map(numbered).collect(), kept: true, ..Preamble::default() };
        let whole = preamble.clone();
        preamble.limit_to(OF, MIN_MESSAGE_FOR_ALL);
        assert_eq!(preamble, whole);
        preamble.limit_to(OF, 256);
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
            assert_eq!(taken(&bytes), (item >= FIRST_IGNORABLE).then_some((expected, None, BytesMut::new())), "{item}");
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
        assert_eq!(lengths(SENT), [8]);
    }

    #[test]
    fn a_message_is_sent_at_one_time() {
        let (mut bytes, mut items) = (BytesMut::new(), BytesMut::new());
        (0..2).for_each(|_| put_item(&mut items, SENT, &[0; 8]));
        put_prefixed(&mut bytes, &items);
        assert_eq!(taken(&bytes), None);
    }

    #[test]
    fn only_the_first_message_says_what_its_stream_says_and_nothing_is_no_preamble() {
        let (kept, sent) = (Preamble { kept: true, ..Preamble::default() }, Some(SentTime::from_bytes([9; 8])));
        let said = |preamble: &Preamble, seq, sent| {
            let bytes = preamble.before(OF, seq, sent);
            (!bytes.is_empty()).then(|| taken(&bytes)).flatten().map(|(preamble, sent, _)| (preamble, sent))
        };
        for sent in [None, sent] {
            let alone = sent.map(|_| (Preamble::default(), sent));
            assert_eq!(said(&kept, 0, sent), Some((kept.clone(), sent)));
            assert_eq!((said(&kept, 1, sent), said(&Preamble::default(), 0, sent)), (alone.clone(), alone));
        }
    }
}
