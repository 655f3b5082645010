//! Streams that came before the end of the one that they go on from: what comes of them is kept as it came, sealed and
//! unacknowledged, until that one is complete, or for as long as the rest of it may still be on its way.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::session::SessionId;
use crate::stream::{Predecessor, StreamId};

/// How long the end of a stream is waited for once the next one has begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of payloads that are kept: more than a broker usually has on the way to one client.
const BYTES: usize = 2 << 20;
/// Most messages that are kept, however short they are.
const MESSAGES: usize = 1024;
/// Most of them that the broker wants acknowledged for the whole of that time: it has only so many on the way (20, with
/// mosquitto) for all streams together, so that with more of them kept neither what is waited for comes nor anything else.
const OWED: usize = 16;
/// How long with more.
const SHORT_PATIENCE: Duration = Duration::from_secs(1);

/// What waits, and for what; `T` is a message.
#[derive(Debug)]
pub(super) struct Held<T> {
    streams: BTreeMap<StreamId, Waiting>,
    messages: VecDeque<Kept<T>>,
    bytes: usize,
    owed: usize,
    /// Nothing is read from the broker since then, or there is no connection: what is waited for cannot come.
    paused: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    before: Predecessor,
    since: Instant,
}

#[derive(Debug)]
struct Kept<T> {
    stream: StreamId,
    len: usize,
    is_owed: bool,
    message: T,
}

impl<T> Held<T> {
    /// Nothing waits.
    pub(super) fn new() -> Self {
        Self { streams: BTreeMap::new(), messages: VecDeque::new(), bytes: 0, owed: 0, paused: None }
    }

    /// Whether what comes of `stream` waits.
    pub(super) fn holds(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Whether a stream of `session` waits, or one waits for it.
    pub(super) fn needs(&self, session: SessionId) -> bool {
        self.streams
            .iter()
            .any(|(stream, waiting)| stream.session == session || waiting.before.stream.session == session)
    }

    /// From now on `stream` waits for `before`; only the first call counts.
    pub(super) fn begin(&mut self, stream: StreamId, before: Predecessor, now: Instant) {
        self.streams.entry(stream).or_insert(Waiting { before, since: now });
    }

    /// Keeps a message of `len` bytes of a stream that waits; where it `is_owed`, the broker waits for an acknowledgement.
    pub(super) fn push(&mut self, stream: StreamId, len: usize, is_owed: bool, message: T) {
        self.bytes += len;
        self.owed += usize::from(is_owed);
        self.messages.push_back(Kept { stream, len, is_owed, message });
    }

    /// The connection is gone: on the next one the broker sends again what it wants acknowledged.
    pub(super) fn disconnected(&mut self) {
        self.owed = 0;
        self.messages.iter_mut().for_each(|kept| kept.is_owed = false);
    }

    /// All that is kept.
    pub(super) fn messages(&self) -> impl Iterator<Item = &T> {
        self.messages.iter().map(|kept| &kept.message)
    }

    /// Nothing can come from the broker from now on, or something can again; the time between does not count.
    pub(super) fn pause(&mut self, paused: bool, now: Instant) {
        if paused {
            self.paused.get_or_insert(now);
        } else if let Some(since) = self.paused.take() {
            for waiting in self.streams.values_mut() {
                waiting.since += now.saturating_duration_since(since);
            }
        }
    }

    /// When a stream has waited long enough.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let since = self.streams.values().map(|waiting| waiting.since).min().filter(|_| self.paused.is_none());
        since.map(|since| since + self.patience())
    }

    fn patience(&self) -> Duration {
        if self.owed > OWED { SHORT_PATIENCE } else { PATIENCE }
    }

    /// The messages of one stream that waits no more, in the order in which they came: what it waited for `is_complete`, or
    /// that took too long, or too much is kept. None where all wait on.
    pub(super) fn release(&mut self, now: Instant, is_complete: impl Fn(&Predecessor) -> bool) -> Vec<T> {
        let full = self.bytes > BYTES || self.messages.len() > MESSAGES;
        let is_late = |since: Instant| self.paused.is_none() && now >= since + self.patience();
        let may_go = |waiting: &Waiting| full || is_late(waiting.since) || is_complete(&waiting.before);
        let due = self.streams.iter().filter(|(_, waiting)| may_go(waiting)).min_by_key(|(_, waiting)| waiting.since);
        let Some((mut stream, mut waiting)) = due else { return Vec::new() };
        // What it goes on from may wait, too, and goes first. An authentic peer may still lie: in a ring nobody is first.
        for _ in 0..self.streams.len() {
            let before = waiting.before.stream;
            let Some(first) = self.streams.get_key_value(&before) else { break };
            (stream, waiting) = first;
        }
        let stream = *stream;
        self.streams.remove(&stream);
        let (freed, kept): (VecDeque<_>, VecDeque<_>) =
            std::mem::take(&mut self.messages).into_iter().partition(|kept| kept.stream == stream);
        self.messages = kept;
        self.bytes -= freed.iter().map(|kept| kept.len).sum::<usize>();
        self.owed -= freed.iter().filter(|kept| kept.is_owed).count();
        freed.into_iter().map(|kept| kept.message).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: StreamId = StreamId { session: [1; 8], number: 3 };
    const NEW: StreamId = StreamId { session: [2; 8], number: 0 };
    const OTHER: StreamId = StreamId { session: [4; 8], number: 0 };
    const NEWEST: StreamId = StreamId { session: [3; 8], number: 0 };

    fn after(stream: StreamId) -> Predecessor {
        Predecessor { stream, end: 5 }
    }

    #[test]
    fn a_stream_waits_for_the_one_before_it_but_not_for_ever() {
        let now = Instant::now();
        let mut held = Held::new();
        assert!(!held.holds(NEW) && !held.needs(NEW.session));
        held.begin(NEW, after(OLD), now);
        assert!(held.needs(NEW.session) && held.needs(OLD.session) && !held.needs(NEWEST.session));
        held.push(NEW, 10, true, "a");
        held.begin(NEW, after(OLD), now + PATIENCE);
        held.push(NEW, 10, true, "b");
        assert_eq!((held.deadline(), held.messages().count()), (Some(now + PATIENCE), 2));
        assert!(held.release(now, |_| false).is_empty());
        assert_eq!(held.release(now, |before| *before == after(OLD)), ["a", "b"]);
        assert!(!held.holds(NEW) && !held.needs(NEW.session) && held.deadline().is_none());

        held.begin(NEW, after(OLD), now);
        held.push(NEW, 10, true, "c");
        assert_eq!(held.release(now + PATIENCE, |_| false), ["c"]);
    }

    #[test]
    fn while_nothing_is_read_nothing_is_given_up() {
        let now = Instant::now();
        let mut held = Held::new();
        held.begin(NEW, after(OLD), now);
        held.push(NEW, 1, true, "a");
        held.pause(true, now + PATIENCE / 2);
        held.pause(true, now + PATIENCE);
        assert!(held.deadline().is_none() && held.release(now + 2 * PATIENCE, |_| false).is_empty());
        held.pause(false, now + 2 * PATIENCE);
        assert_eq!(held.deadline(), Some(now + 2 * PATIENCE + PATIENCE / 2));
        assert!(held.release(now + 2 * PATIENCE, |_| false).is_empty());
        assert_eq!(held.release(now + 3 * PATIENCE, |_| false), ["a"]);
    }

    #[test]
    fn of_a_chain_the_first_goes_first() {
        let now = Instant::now();
        let later = now + PATIENCE / 2;
        for (newest, new) in [(later, now), (now, later)] {
            let mut held = Held::new();
            held.begin(NEWEST, after(NEW), newest);
            held.push(NEWEST, 1, true, "3");
            held.begin(NEW, after(OLD), new);
            held.push(NEW, 1, true, "2");
            assert_eq!(held.release(now + PATIENCE, |_| false), ["2"]);
            assert_eq!(held.release(now, |_| true), ["3"]);
            assert!(held.release(now, |_| true).is_empty());
        }
    }

    #[test]
    fn in_a_ring_nobody_waits_for_ever() {
        let now = Instant::now();
        let mut held = Held::new();
        for (stream, before) in [(OLD, NEW), (NEW, NEWEST), (NEWEST, OLD), (OTHER, OTHER)] {
            held.begin(stream, after(before), now);
            held.push(stream, 1, true, ());
        }
        for _ in 0..4 {
            assert_eq!(held.release(now + PATIENCE, |_| false).len(), 1);
        }
        assert!(held.deadline().is_none());
    }

    #[test]
    fn what_waits_is_bounded_in_bytes_and_in_messages_and_leaves_room_for_others() {
        let now = Instant::now();
        for (len, is_owed, at, most) in [
            (64 << 10, false, now, BYTES / (64 << 10)),
            (0, false, now, MESSAGES),
            (0, true, now + SHORT_PATIENCE, OWED),
        ] {
            let mut held = Held::new();
            held.begin(NEW, after(OLD), now);
            let mut kept = 0;
            while held.release(at, |_| false).is_empty() {
                held.push(NEW, len, is_owed, ());
                kept += 1;
            }
            assert_eq!((kept, held.owed), (most + 1, 0));
        }
    }

    #[test]
    fn with_no_room_left_for_others_a_stream_waits_for_a_second() {
        let now = Instant::now();
        let mut held = Held::new();
        held.begin(NEW, after(OLD), now);
        (0..=OWED).for_each(|_| held.push(NEW, 1, true, ()));
        assert!(held.release(now, |_| false).is_empty());
        assert_eq!(held.deadline(), Some(now + SHORT_PATIENCE));
        held.disconnected();
        (0..OWED).for_each(|_| held.push(NEW, 1, true, ()));
        assert_eq!(held.deadline(), Some(now + PATIENCE), "what came again is owed once");
        held.push(NEW, 1, true, ());
        assert_eq!(held.release(now + SHORT_PATIENCE, |_| false).len(), 2 * (OWED + 1));
        assert_eq!(held.owed, 0);
    }
}
