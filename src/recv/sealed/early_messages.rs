//! Messages of streams that are confirmed, and that came before the ones that are missing. They are kept, sealed, until those
//! were sent again; their senders are told which they are.
//!
//! The broker has their acknowledgement already: it may have room for one message only, and the missing ones come after these.
//! So they are lost with this process, or for lack of room here. That costs nothing but time, as their senders keep them until
//! they are confirmed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::crypto::key_tree::Salt;
use crate::mqtt::{Message, Qos, Receipt};
use crate::session::SessionId;
use crate::stream::{MAX_SACK_RANGES, MAX_UNCONFIRMED, StreamId};

/// Most bytes that are kept, of all streams: what one sender may have unconfirmed.
const MAX_BYTES: usize = MAX_UNCONFIRMED;
/// What a message counts beside its bytes.
const OVERHEAD: usize = 64;
/// How long nothing came of a stream before it makes room for others: longer than the pauses of a sender that waits.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// What came early, by stream.
#[derive(Default)]
pub(super) struct EarlyMessages {
    streams: BTreeMap<StreamId, EarlyStream>,
    bytes: usize,
}

struct EarlyStream {
    salt: Salt,
    messages: BTreeMap<u32, Bytes>,
    touched: Instant,
}

impl EarlyStream {
    fn bytes(&self) -> usize {
        self.messages.values().map(|payload| payload.len() + OVERHEAD).sum()
    }
}

impl EarlyMessages {
    /// Keeps a message, if there is room; false if it is kept already, or is not kept.
    pub(super) fn hold(&mut self, (stream, salt, seq): (StreamId, Salt, u32), payload: &[u8], now: Instant) -> bool {
        if self.streams.get(&stream).is_some_and(|early| early.messages.contains_key(&seq)) {
            return false;
        }
        let size = payload.len() + OVERHEAD;
        if self.bytes + size > MAX_BYTES {
            self.retain(|_, early| now < early.touched + IDLE_TIMEOUT);
        }
        if self.bytes + size > MAX_BYTES {
            return false;
        }
        let early =
            self.streams.entry(stream).or_insert_with(|| EarlyStream { salt, messages: BTreeMap::new(), touched: now });
        if early.salt != salt {
            return false;
        }
        early.touched = now;
        // A view of the read buffer would keep all of that.
        early.messages.insert(seq, Bytes::copy_from_slice(payload));
        self.bytes += size;
        true
    }

    /// A message that is the next one of its stream now, where `wanted` tells the next seq of a stream, and the highest of one of
    /// which nothing is wanted any more.
    pub(super) fn next(&mut self, wanted: impl Fn(StreamId) -> u32) -> Option<Message> {
        let mut next = None;
        for (stream, early) in &mut self.streams {
            let wanted = wanted(*stream);
            while let Some(oldest) = early.messages.first_entry().filter(|oldest| *oldest.key() <= wanted) {
                let is_next = *oldest.key() == wanted;
                let payload = oldest.remove();
                self.bytes -= payload.len() + OVERHEAD;
                if is_next {
                    next = Some(payload);
                    break;
                }
            }
            if next.is_some() {
                break;
            }
        }
        self.streams.retain(|_, early| !early.messages.is_empty());
        let payload = next?;
        let (topic, qos, receipt) = (String::new(), Qos::AtMostOnce, Receipt::none());
        Some(Message { topic, payload, qos, retain: false, dup: false, receipt })
    }

    /// Which messages of a stream are kept: ranges in order, each of the first seq and the one after the last.
    pub(super) fn ranges(&self, stream: StreamId) -> Vec<(u32, u32)> {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for &seq in self.streams.get(&stream).into_iter().flat_map(|early| early.messages.keys()) {
            if let Some((_, next)) = ranges.last_mut().filter(|(_, next)| *next == seq) {
                *next += 1;
            } else if ranges.len() == MAX_SACK_RANGES {
                break;
            } else {
                ranges.push((seq, seq + 1));
            }
        }
        ranges
    }

    /// Forgets what is of sessions that are not usable any more.
    pub(super) fn retain_sessions(&mut self, usable: impl Fn(SessionId) -> bool) {
        self.retain(|stream, _| usable(stream.session));
    }

    fn retain(&mut self, keep: impl Fn(StreamId, &EarlyStream) -> bool) {
        self.streams.retain(|stream, early| keep(*stream, early));
        self.bytes = self.streams.values().map(EarlyStream::bytes).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SALT: Salt = [7; 8];
    const STREAM: StreamId = StreamId { session: [1; 8], number: 3 };
    const OTHER: StreamId = StreamId { session: [2; 8], number: 3 };

    fn payloads(early: &mut EarlyMessages, wanted: u32) -> Vec<u8> {
        std::iter::from_fn(|| early.next(|_| wanted)).map(|message| message.payload[0]).collect()
    }

    #[test]
    fn what_is_kept_is_named_and_comes_when_it_is_the_next() {
        let now = Instant::now();
        let mut early = EarlyMessages::default();
        for (seq, is_new) in [(3, true), (5, true), (6, true), (9, true), (3, false)] {
            assert_eq!(early.hold((STREAM, SALT, seq), &[u8::try_from(seq).unwrap()], now), is_new);
        }
        assert!(!early.hold((STREAM, [8; 8], 4), b"of a copy of the device", now));
        assert_eq!(early.ranges(STREAM), [(3, 4), (5, 7), (9, 10)]);
        assert!(early.ranges(OTHER).is_empty());
        assert!(payloads(&mut early, 2).is_empty());
        assert_eq!((payloads(&mut early, 3), payloads(&mut early, 6)), (vec![3], vec![6]), "5 came again meanwhile");
        assert!(payloads(&mut early, u32::MAX).is_empty());
        assert_eq!((early.streams.len(), early.bytes), (0, 0));
    }

    #[test]
    fn room_is_bounded_and_made_by_streams_that_are_silent() {
        let now = Instant::now();
        let mut early = EarlyMessages::default();
        let payload = vec![0; 64 << 10];
        let fill = |early: &mut EarlyMessages, stream, now| {
            let kept: Vec<_> = (1..=64).map(|seq| early.hold((stream, SALT, seq), &payload, now)).collect();
            let most = early.ranges(stream).last().map_or(0, |(_, next)| *next);
            assert_eq!(kept.iter().filter(|kept| **kept).count(), most.saturating_sub(1) as usize);
            most
        };
        let most = fill(&mut early, STREAM, now);
        assert!((16..=32).contains(&most) && early.bytes <= MAX_BYTES);
        assert_eq!(fill(&mut early, OTHER, now + IDLE_TIMEOUT / 2), 0);
        assert_eq!(fill(&mut early, OTHER, now + IDLE_TIMEOUT), most);
        assert!(early.ranges(STREAM).is_empty() && early.bytes <= MAX_BYTES);
        early.retain_sessions(|session| session != OTHER.session);
        assert_eq!((early.streams.len(), early.bytes), (0, 0));
    }
}
