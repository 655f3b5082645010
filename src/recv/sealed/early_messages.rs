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
use crate::stream::{Receiver, StreamId};

/// Most bytes that are kept, of all streams: what one sender may have unconfirmed.
const MAX_BYTES: usize = 2 << 20;
/// What a message counts beside its bytes.
const OVERHEAD: usize = 64;
/// Most ranges that a sender is told, the lowest ones. It hears of those after them when the first ones are one.
const MAX_RANGES: usize = 256;
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
    /// Keeps a message, if there is room.
    pub(super) fn hold(&mut self, (stream, salt, seq): (StreamId, Salt, u32), payload: &[u8], now: Instant) {
        let size = payload.len() + OVERHEAD;
        if self.bytes + size > MAX_BYTES {
            self.retain(|_, early| now < early.touched + IDLE_TIMEOUT);
        }
        let fits = self.bytes + size <= MAX_BYTES;
        if !fits && !self.streams.contains_key(&stream) {
            return;
        }
        let early =
            self.streams.entry(stream).or_insert_with(|| EarlyStream { salt, messages: BTreeMap::new(), touched: now });
        if early.salt != salt {
            return;
        }
        early.touched = now;
        if fits && !early.messages.contains_key(&seq) {
            // A view of the read buffer would keep all of that.
            early.messages.insert(seq, Bytes::copy_from_slice(payload));
            self.bytes += size;
        }
    }

    /// A message that is the next one of its stream now.
    pub(super) fn next(&mut self, receiver: &Receiver) -> Option<Message> {
        let mut next = None;
        for (stream, early) in &mut self.streams {
            // Of a stream that is over, nothing is wanted any more.
            let streams = receiver.streams(stream.session).filter(|streams| !streams.is_over(stream.number));
            let wanted = streams.map_or(u32::MAX, |streams| streams.next_seq(stream.number).unwrap_or(0));
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
            } else if ranges.len() == MAX_RANGES {
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
