//! Messages of a stream that continues another one, and that overtook the messages before them. They are kept as they came,
//! sealed and unacknowledged, until those are there, or for as long as they may still be on their way.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::stall::Stall;
use crate::mqtt::{MIN_BROKER_WINDOW, Qos};
use crate::recv::MAX_HELD_BYTES;
use crate::session::SessionId;
use crate::stream::{Awaited, Receiver, StreamId};

/// How long a stream waits for what is before it.
pub(super) const REORDER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long it waits while more than [`MAX_UNACKNOWLEDGED`] messages are held.
const CROWDED_TIMEOUT: Duration = Duration::from_secs(1);
/// Most messages that are held, however short they are.
const MAX_MESSAGES: usize = 1024;
/// Most messages that are held for the whole of [`REORDER_TIMEOUT`] although the broker wants them acknowledged. It sends
/// only so many without an acknowledgement for all streams together, so that with more of them held neither what they wait
/// for comes nor anything else.
const MAX_UNACKNOWLEDGED: usize = MIN_BROKER_WINDOW - 2;

/// What the buffer is told of streams.
pub(super) trait StreamOrder {
    /// As [`Receiver::has_come`].
    fn has_come(&self, stream: StreamId, awaited: &Awaited) -> bool;

    /// As [`Receiver::precedes`].
    fn precedes(&self, one: (StreamId, Awaited), other: (StreamId, Awaited)) -> bool;
}

impl StreamOrder for Receiver {
    fn has_come(&self, stream: StreamId, awaited: &Awaited) -> bool {
        Self::has_come(self, stream, awaited)
    }

    fn precedes(&self, one: (StreamId, Awaited), other: (StreamId, Awaited)) -> bool {
        Self::precedes(self, one, other)
    }
}

/// The streams that wait, and their messages; `T` is a message.
#[derive(Debug)]
pub(super) struct ReorderBuffer<T> {
    streams: BTreeMap<StreamId, WaitingStream>,
    messages: VecDeque<HeldMessage<T>>,
    bytes: usize,
    /// How many messages the broker of this connection waits for.
    unacknowledged: usize,
    /// Nothing that is awaited can come meanwhile.
    stall: Stall,
}

#[derive(Clone, Copy, Debug)]
struct WaitingStream {
    awaited: Awaited,
    since: Instant,
}

#[derive(Debug)]
struct HeldMessage<T> {
    stream: StreamId,
    seq: u32,
    len: usize,
    qos: Qos,
    /// The broker of this connection waits for its acknowledgement.
    is_unacknowledged: bool,
    message: T,
}

impl<T> ReorderBuffer<T> {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        let (streams, messages, stall) = (BTreeMap::new(), VecDeque::new(), Stall::default());
        Self { streams, messages, bytes: 0, unacknowledged: 0, stall }
    }

    /// Whether a stream of `session` waits, or one waits for it.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        let names = |awaited: &Awaited| matches!(awaited, Awaited::Position(of) if of.origin.stream.session == session);
        self.streams.iter().any(|(stream, waiting)| stream.session == session || names(&waiting.awaited))
    }

    /// Whether a stream waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// A stream waits, from the first call on; what its first message says that it waits for, counts.
    pub(super) fn hold(&mut self, stream: StreamId, awaited: Awaited, now: Instant) {
        let waiting = self.streams.entry(stream).or_insert(WaitingStream { awaited, since: now });
        if waiting.awaited == Awaited::First {
            waiting.awaited = awaited;
        }
    }

    /// Keeps a message of `len` bytes of a stream that waits.
    pub(super) fn push(&mut self, (stream, seq): (StreamId, u32), len: usize, qos: Qos, message: T) {
        let is_unacknowledged = qos > Qos::AtMostOnce;
        self.bytes += len;
        self.unacknowledged += usize::from(is_unacknowledged);
        self.messages.push_back(HeldMessage { stream, seq, len, qos, is_unacknowledged, message });
    }

    /// The connection is gone: on the next one the broker sends again what it wants acknowledged, so that the same messages
    /// would be counted twice. At QoS 2 the client takes each once.
    pub(super) fn disconnected(&mut self) {
        for held in &mut self.messages {
            held.is_unacknowledged &= held.qos == Qos::ExactlyOnce;
        }
        self.unacknowledged = self.messages.iter().filter(|held| held.is_unacknowledged).count();
    }

    /// All messages that are held.
    pub(super) fn messages(&self) -> impl Iterator<Item = &T> {
        self.messages.iter().map(|held| &held.message)
    }

    /// Nothing can come from the broker from now on, or something can again; the time between does not count.
    pub(super) fn set_stalled(&mut self, stalled: bool, now: Instant) {
        self.stall.set(stalled, now, self.streams.values_mut().map(|waiting| &mut waiting.since));
    }

    /// When a stream has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stall.deadline(self.streams.values().map(|waiting| waiting.since).min(), self.timeout())
    }

    fn timeout(&self) -> Duration {
        if self.unacknowledged > MAX_UNACKNOWLEDGED { CROWDED_TIMEOUT } else { REORDER_TIMEOUT }
    }

    /// The messages of one stream that waits no longer, in the order of their numbers: what it awaits has come or `is_given_up`,
    /// or that took too long, or too much is held. None where all streams wait on.
    pub(super) fn release(
        &mut self,
        now: Instant,
        is_given_up: &dyn Fn(StreamId, &Awaited) -> bool,
        order: &impl StreamOrder,
    ) -> VecDeque<T> {
        let is_ready = |(stream, waiting): &(&StreamId, &WaitingStream)| order.has_come(**stream, &waiting.awaited);
        let ready = self.streams.iter().find(is_ready).map(|(stream, _)| *stream);
        let Some(stream) = ready.or_else(|| self.first_given_up(now, is_given_up, order)) else {
            return VecDeque::new();
        };
        self.take(stream)
    }

    /// The stream that goes first of those that wait no longer, without what they await.
    fn first_given_up(
        &self,
        now: Instant,
        is_given_up: &dyn Fn(StreamId, &Awaited) -> bool,
        order: &impl StreamOrder,
    ) -> Option<StreamId> {
        let full = self.bytes > MAX_HELD_BYTES || self.messages.len() > MAX_MESSAGES;
        let is_late = |since| self.stall.has_passed(since, self.timeout(), now);
        let may_go = |(stream, waiting): &(&StreamId, &WaitingStream)| {
            full || is_late(waiting.since) || is_given_up(**stream, &waiting.awaited)
        };
        let due = self.streams.iter().filter(may_go).min_by_key(|(_, waiting)| waiting.since);
        let of = |(stream, waiting): (&StreamId, &WaitingStream)| (*stream, waiting.awaited);
        let mut first = of(due?);
        // An authentic peer may lie: the search ends in any case.
        for _ in 0..self.streams.len() {
            let earlier = self.streams.iter().map(of).find(|one| order.precedes(*one, first));
            let Some(earlier) = earlier else { break };
            first = earlier;
        }
        Some(first.0)
    }

    /// Takes out a stream.
    fn take(&mut self, stream: StreamId) -> VecDeque<T> {
        self.streams.remove(&stream);
        let (released, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|held| held.stream == stream);
        let mut released = Vec::from(released);
        self.messages = kept;
        self.bytes -= released.iter().map(|held| held.len).sum::<usize>();
        self.unacknowledged -= released.iter().filter(|held| held.is_unacknowledged).count();
        released.sort_by_key(|held| held.seq);
        released.into_iter().map(|held| held.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Continues, Origin};

    const NOT_GIVEN_UP: fn(StreamId, &Awaited) -> bool = |_, _| false;

    /// Whether what a stream awaits has come. One stream goes before another one that awaits it.
    struct Order(fn(&Awaited) -> bool);

    impl StreamOrder for Order {
        fn has_come(&self, _: StreamId, awaited: &Awaited) -> bool {
            self.0(awaited)
        }

        fn precedes(&self, one: (StreamId, Awaited), other: (StreamId, Awaited)) -> bool {
            matches!(other.1, Awaited::Position(continues) if continues.origin.stream == one.0)
        }
    }

    const OLD: StreamId = StreamId { session: [1; 8], number: 3 };
    const NEW: StreamId = StreamId { session: [2; 8], number: 0 };
    const OTHER: StreamId = StreamId { session: [4; 8], number: 0 };
    const NEWEST: StreamId = StreamId { session: [3; 8], number: 0 };

    fn after(stream: StreamId) -> Awaited {
        Awaited::Position(Continues { origin: Origin { stream, salt: [0; 8] }, position: 5 })
    }

    #[test]
    fn a_stream_waits_for_the_one_before_it_but_not_for_ever() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new();
        assert!(!buffer.involves(NEW.session));
        buffer.hold(NEW, after(OLD), now);
        assert!(buffer.involves(NEW.session) && buffer.involves(OLD.session) && !buffer.involves(NEWEST.session));
        buffer.push((NEW, 0), 10, Qos::AtLeastOnce, "a");
        buffer.hold(NEW, after(OLD), now + REORDER_TIMEOUT);
        buffer.push((NEW, 0), 10, Qos::AtLeastOnce, "b");
        assert_eq!((buffer.deadline(), buffer.messages().count()), (Some(now + REORDER_TIMEOUT), 2));
        assert!(buffer.release(now, &NOT_GIVEN_UP, &Order(|_| false)).is_empty());
        assert_eq!(buffer.release(now, &NOT_GIVEN_UP, &Order(|awaited| *awaited == after(OLD))), ["a", "b"]);
        assert!(!buffer.involves(NEW.session) && buffer.deadline().is_none());

        buffer.hold(NEW, after(OLD), now);
        buffer.push((NEW, 0), 10, Qos::AtLeastOnce, "c");
        assert_eq!(buffer.release(now + REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)), ["c"]);
    }

    #[test]
    fn while_nothing_is_read_nothing_is_given_up() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new();
        buffer.hold(NEW, after(OLD), now);
        buffer.push((NEW, 0), 1, Qos::AtLeastOnce, "a");
        buffer.set_stalled(true, now + REORDER_TIMEOUT / 2);
        buffer.set_stalled(true, now + REORDER_TIMEOUT);
        assert!(
            buffer.deadline().is_none()
                && buffer.release(now + 2 * REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)).is_empty()
        );
        buffer.set_stalled(false, now + 2 * REORDER_TIMEOUT);
        assert_eq!(buffer.deadline(), Some(now + 2 * REORDER_TIMEOUT + REORDER_TIMEOUT / 2));
        assert!(buffer.release(now + 2 * REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)).is_empty());
        assert_eq!(buffer.release(now + 3 * REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)), ["a"]);
    }

    #[test]
    fn of_a_chain_the_first_goes_first() {
        let now = Instant::now();
        let later = now + REORDER_TIMEOUT / 2;
        for (newest, new) in [(later, now), (now, later)] {
            let mut buffer = ReorderBuffer::new();
            buffer.hold(NEWEST, after(NEW), newest);
            buffer.push((NEWEST, 0), 1, Qos::AtLeastOnce, "3");
            buffer.hold(NEW, after(OLD), new);
            buffer.push((NEW, 0), 1, Qos::AtLeastOnce, "2");
            assert_eq!(buffer.release(now + REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)), ["2"]);
            assert_eq!(buffer.release(now, &NOT_GIVEN_UP, &Order(|_| true)), ["3"]);
            assert!(buffer.release(now, &NOT_GIVEN_UP, &Order(|_| true)).is_empty());
        }
    }

    #[test]
    fn in_a_ring_nobody_waits_for_ever() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new();
        for (stream, predecessor) in [(OLD, NEW), (NEW, NEWEST), (NEWEST, OLD), (OTHER, OTHER)] {
            buffer.hold(stream, after(predecessor), now);
            buffer.push((stream, 0), 1, Qos::AtLeastOnce, ());
        }
        for _ in 0..4 {
            assert_eq!(buffer.release(now + REORDER_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)).len(), 1);
        }
        assert!(buffer.deadline().is_none());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_messages_and_leaves_room_for_others() {
        let now = Instant::now();
        for (len, qos, at, most) in [
            (64 << 10, Qos::AtMostOnce, now, MAX_HELD_BYTES / (64 << 10)),
            (0, Qos::AtMostOnce, now, MAX_MESSAGES),
            (0, Qos::AtLeastOnce, now + CROWDED_TIMEOUT, MAX_UNACKNOWLEDGED),
        ] {
            let mut buffer = ReorderBuffer::new();
            buffer.hold(NEW, after(OLD), now);
            let mut kept = 0;
            while buffer.release(at, &NOT_GIVEN_UP, &Order(|_| false)).is_empty() {
                buffer.push((NEW, 0), len, qos, ());
                kept += 1;
            }
            assert_eq!((kept, buffer.unacknowledged), (most + 1, 0));
        }
    }

    #[test]
    fn with_no_room_left_for_others_a_stream_waits_for_a_second() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new();
        buffer.hold(NEW, after(OLD), now);
        (0..=MAX_UNACKNOWLEDGED).for_each(|_| buffer.push((NEW, 0), 1, Qos::AtLeastOnce, ()));
        assert!(buffer.release(now, &NOT_GIVEN_UP, &Order(|_| false)).is_empty());
        assert_eq!(buffer.deadline(), Some(now + CROWDED_TIMEOUT));
        buffer.disconnected();
        (0..MAX_UNACKNOWLEDGED).for_each(|_| buffer.push((NEW, 0), 1, Qos::AtLeastOnce, ()));
        assert_eq!(buffer.deadline(), Some(now + REORDER_TIMEOUT), "what came again is counted once");
        buffer.push((NEW, 0), 1, Qos::AtLeastOnce, ());
        assert_eq!(
            buffer.release(now + CROWDED_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)).len(),
            2 * (MAX_UNACKNOWLEDGED + 1)
        );
        assert_eq!(buffer.unacknowledged, 0);
    }
    #[test]
    fn at_qos_2_a_lost_connection_makes_no_room() {
        let now = Instant::now();
        let mut buffer = ReorderBuffer::new();
        buffer.hold(NEW, after(OLD), now);
        (0..=MAX_UNACKNOWLEDGED).for_each(|_| buffer.push((NEW, 0), 1, Qos::ExactlyOnce, ()));
        buffer.disconnected();
        assert_eq!(buffer.deadline(), Some(now + CROWDED_TIMEOUT), "they do not come again");
        assert_eq!(
            buffer.release(now + CROWDED_TIMEOUT, &NOT_GIVEN_UP, &Order(|_| false)).len(),
            MAX_UNACKNOWLEDGED + 1
        );
        assert_eq!(buffer.unacknowledged, 0);
    }
}
