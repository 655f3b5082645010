//! What a sender that wants confirms has sealed and its receiver has not confirmed (`sts-protocol(7)`, "Confirms").
//!
//! The receiver says which message it wants next, and which ones it holds that came too early. What is missing is sent again as
//! the identical sealed bytes: sealing anew would be a second message under one nonce, or one message under two. How much may
//! be on the way, and when something counts as missing, is in `congestion`.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::congestion::{Arrivals, Fate, Path, Publication};
use crate::Rejected;

/// Time between two rounds of sending everything again to a receiver that does not say what it holds: longer than a message
/// and its confirm are usually on their way.
const ROUND_INTERVAL: Duration = Duration::from_millis(300);

/// The unconfirmed messages of one stream, oldest first.
#[derive(Debug)]
pub(crate) struct RetransmitQueue {
    limit: usize,
    /// The seq of the oldest.
    first: u32,
    frames: VecDeque<Frame>,
    totals: Totals,
    path: Path,
    /// Nothing that is lost is below.
    lost_from: u32,
    /// When a frame counts as lost, if it does not arrive before.
    late_at: Option<Instant>,
    holder: Holder,
    quiet_since: Instant,
}

#[derive(Debug)]
struct Frame {
    sealed: Bytes,
    /// How many bytes of data it carries.
    data_len: usize,
    state: FrameState,
}

#[derive(Clone, Copy, Debug)]
enum FrameState {
    InFlight(Publication),
    /// The receiver has it, and may still lose it, as long as it does not confirm it.
    Held(Publication),
    /// To be sent again.
    Lost,
}

/// Sums over the frames.
#[derive(Debug, Default)]
struct Totals {
    bytes: usize,
    data_bytes: usize,
    /// Bytes in flight.
    in_flight: usize,
    /// How many are lost.
    lost: usize,
    /// The size of the newest one: the next one is expected to have it, too.
    newest: usize,
}

/// What the receiver does with a frame that came too early.
#[derive(Clone, Copy, Debug)]
enum Holder {
    /// It has not said. If it drops it, all after a lost frame is to be sent again, once in [`ROUND_INTERVAL`].
    Unknown { round_began: Option<Instant> },
    /// It holds it, and says so.
    Known,
}

impl RetransmitQueue {
    /// An empty queue of a stream of which nothing was sent; it holds `limit` bytes of messages, or one message.
    #[must_use]
    pub(crate) fn new(limit: usize, now: Instant) -> Self {
        Self {
            limit,
            first: 0,
            frames: VecDeque::new(),
            totals: Totals::default(),
            path: Path::new(limit),
            lost_from: 0,
            late_at: None,
            holder: Holder::Unknown { round_began: None },
            quiet_since: now,
        }
    }

    /// Begins another stream, on the same path.
    pub(crate) fn restart(&mut self, now: Instant) {
        drop(self.take_unconfirmed(now));
    }

    /// Begins another stream, on the same path; returns what is not confirmed of this one, oldest first.
    pub(crate) fn take_unconfirmed(&mut self, now: Instant) -> impl Iterator<Item = Bytes> + use<> {
        let frames = std::mem::take(&mut self.frames);
        (self.first, self.lost_from, self.late_at, self.quiet_since) = (0, 0, None, now);
        self.totals = Totals { newest: self.totals.newest, ..Totals::default() };
        frames.into_iter().map(|frame| frame.sealed)
    }

    /// The seq of the oldest message that is not confirmed, or of the next one.
    #[must_use]
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// The seq of the next message.
    fn end(&self) -> u32 {
        self.first.saturating_add(u32::try_from(self.frames.len()).unwrap_or(u32::MAX))
    }

    /// Whether a message of `size` bytes, or a shorter one, may be sent before older ones are confirmed.
    #[must_use]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let Totals { bytes, in_flight, lost, newest, .. } = self.totals;
        let fits = self.frames.is_empty() || bytes + size <= self.limit;
        // It is asked before the message is made; most are as long as the one before.
        fits && lost == 0 && self.path.allows(in_flight, size.min(newest))
    }

    /// Messages that are not confirmed, and bytes of data in them.
    #[must_use]
    pub(crate) fn unconfirmed(&self) -> (usize, usize) {
        (self.frames.len(), self.totals.data_bytes)
    }

    /// The only message that is not confirmed; `None` where there are several or none.
    #[must_use]
    pub(crate) fn last_unconfirmed(&self) -> Option<&Bytes> {
        self.frames.front().filter(|_| self.frames.len() == 1).map(|frame| &frame.sealed)
    }

    /// Keeps a message with `data_len` bytes of data that is sent for the first time now.
    pub(crate) fn push(&mut self, sealed: Bytes, data_len: usize, now: Instant) {
        if self.frames.is_empty() {
            self.quiet_since = now;
        }
        let len = sealed.len();
        self.totals.bytes += len;
        self.totals.in_flight += len;
        self.totals.data_bytes += data_len;
        self.totals.newest = len;
        let state = FrameState::InFlight(self.path.publish(len, now, false));
        self.frames.push_back(Frame { sealed, data_len, state });
    }

    /// The receiver has written every message below `next`; true if that is news. It may have written more than was sent, in the
    /// stream that this one continues.
    pub(crate) fn confirm(&mut self, next: u32, now: Instant) -> bool {
        let next = next.min(self.end());
        let Some(confirmed) = next.checked_sub(self.first).filter(|count| *count > 0) else {
            self.confirm_repeated(next, now);
            return false;
        };
        let confirmed = usize::try_from(confirmed).unwrap_or(usize::MAX);
        let (mut arrivals, in_flight) = (Arrivals::default(), self.totals.in_flight);
        for frame in self.frames.drain(..confirmed) {
            self.totals.remove(&frame);
            if let FrameState::InFlight(publication) = frame.state {
                arrivals.add(publication, frame.sealed.len());
            }
        }
        self.first = next;
        self.lost_from = self.lost_from.max(next);
        self.quiet_since = now;
        self.heard(&arrivals, in_flight, now);
        true
    }

    /// Not news. If the receiver does not hold what came too early, it may lack the oldest.
    fn confirm_repeated(&mut self, next: u32, now: Instant) {
        if let Holder::Unknown { round_began } = self.holder
            && next == self.first
            && !self.frames.is_empty()
            && round_began.is_none_or(|began| now >= began + ROUND_INTERVAL)
        {
            self.holder = Holder::Unknown { round_began: Some(now) };
            self.quiet_since = now;
            self.lose_all();
        }
    }

    /// The receiver has these messages, and has not confirmed them: ranges in order, each of the first one and the one after the
    /// last. What is not among them, and below the highest, it does not have. True if that is news.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] for ranges that are not in order; nothing changes then.
    pub(crate) fn hold(&mut self, ranges: &[(u32, u32)], now: Instant) -> Result<bool, Rejected> {
        let is_ordered =
            ranges.iter().all(|(from, to)| from < to) && ranges.is_sorted_by(|one, other| one.1 <= other.0);
        if !is_ordered {
            return Err(Rejected::Unexpected);
        }
        let end = ranges.last().map_or(0, |(_, to)| *to);
        self.holder = Holder::Known;
        let (mut arrivals, in_flight) = (Arrivals::default(), self.totals.in_flight);
        let mut ranges = ranges.iter().copied().peekable();
        for (seq, frame) in (self.first..end).zip(&mut self.frames) {
            while ranges.next_if(|(_, to)| *to <= seq).is_some() {}
            let is_held = ranges.peek().is_some_and(|(from, _)| *from <= seq);
            match frame.state {
                FrameState::InFlight(publication) if is_held => {
                    arrivals.add(publication, frame.sealed.len());
                    self.totals.in_flight -= frame.sealed.len();
                    frame.state = FrameState::Held(publication);
                }
                // It was late, not lost.
                FrameState::Lost if is_held => {
                    self.totals.lost -= 1;
                    frame.state = FrameState::Held(self.path.publish(frame.sealed.len(), now, true));
                }
                // The receiver has lost it, by a restart or for lack of room.
                FrameState::Held(_) if !is_held => {
                    self.totals.lost += 1;
                    self.lost_from = self.lost_from.min(seq);
                    frame.state = FrameState::Lost;
                }
                _ => {}
            }
        }
        if arrivals.bytes() > 0 {
            self.quiet_since = now;
        }
        self.heard(&arrivals, in_flight, now);
        Ok(arrivals.bytes() > 0)
    }

    /// Draws the conclusions from what arrived, in the order of RFC 9002, appendix A.7.
    fn heard(&mut self, arrivals: &Arrivals, in_flight: usize, now: Instant) {
        self.path.arrived(arrivals, now);
        self.detect_losses(now);
        self.path.grow(arrivals, in_flight);
    }

    /// Finds what is lost, as later ones arrived.
    fn detect_losses(&mut self, now: Instant) {
        self.late_at = None;
        let mut newest_lost = None;
        for (seq, frame) in (self.first..).zip(&mut self.frames) {
            let FrameState::InFlight(publication) = frame.state else { continue };
            match self.path.fate(publication, now) {
                // All after it that were sent once left later, and one that was sent again is after one that is lost.
                Fate::Unknown if !publication.is_repeat => break,
                Fate::Unknown => {}
                Fate::LateAt(at) => self.late_at = Some(self.late_at.map_or(at, |earlier| earlier.min(at))),
                Fate::Lost => {
                    newest_lost = newest_lost.max(Some(publication.number));
                    frame.state = FrameState::Lost;
                    self.totals.in_flight -= frame.sealed.len();
                    self.totals.lost += 1;
                    self.lost_from = self.lost_from.min(seq);
                }
            }
        }
        if let Some(number) = newest_lost {
            self.path.lost(number);
        }
    }

    /// Everything that the receiver does not hold is to be sent again.
    fn lose_all(&mut self) {
        let mut newest_lost = None;
        for frame in &mut self.frames {
            if let FrameState::InFlight(publication) = frame.state {
                newest_lost = newest_lost.max(Some(publication.number));
                frame.state = FrameState::Lost;
                self.totals.in_flight -= frame.sealed.len();
                self.totals.lost += 1;
            }
        }
        (self.lost_from, self.late_at) = (self.first, None);
        if let Some(number) = newest_lost {
            self.path.lost(number);
        }
    }

    /// None of the messages has left: from now on, [`RetransmitQueue::poll`] has them.
    pub(crate) fn resend_all(&mut self, now: Instant) {
        for frame in &mut self.frames {
            frame.state = FrameState::Lost;
        }
        (self.totals.in_flight, self.totals.lost) = (0, self.frames.len());
        (self.lost_from, self.late_at, self.quiet_since) = (self.first, None, now);
    }

    /// Counts the silence from now on: while the way to the broker is not clear, that nothing is confirmed means nothing.
    pub(crate) fn restart_timer(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// The next message to send again at `now`, if there is one. The caller asks until there is none, or stops when it has no
    /// room: the rest then comes with the next call.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Bytes> {
        if self.late_at.is_some_and(|at| now >= at) {
            self.detect_losses(now);
        }
        if self.totals.lost > 0
            && let Some(sealed) = self.poll_lost(now)
        {
            return Some(sealed);
        }
        if now >= self.probe_at()? { self.probe(now) } else { None }
    }

    fn poll_lost(&mut self, now: Instant) -> Option<Bytes> {
        let from = usize::try_from(self.lost_from - self.first).unwrap_or(usize::MAX);
        let is_lost = |frame: &Frame| matches!(frame.state, FrameState::Lost);
        let index = from + self.frames.iter().skip(from).position(is_lost)?;
        let frame = self.frames.get_mut(index)?;
        if !self.path.allows_again(self.totals.in_flight, frame.sealed.len()) {
            return None;
        }
        frame.state = FrameState::InFlight(self.path.publish(frame.sealed.len(), now, true));
        self.totals.in_flight += frame.sealed.len();
        self.totals.lost -= 1;
        self.lost_from = self.first + u32::try_from(index).unwrap_or(u32::MAX - self.first);
        Some(frame.sealed.clone())
    }

    /// The oldest message, as nothing was heard for long. Whether the receiver still holds the others, it has to say again
    /// (RFC 2018, section 8).
    fn probe(&mut self, now: Instant) -> Option<Bytes> {
        self.quiet_since = now;
        self.path.probe();
        for frame in &mut self.frames {
            if let FrameState::Held(publication) = frame.state {
                // When it arrived says nothing of the way any more.
                frame.state = FrameState::InFlight(Publication { is_repeat: true, ..publication });
                self.totals.in_flight += frame.sealed.len();
            }
        }
        let oldest = self.frames.front_mut()?;
        if let FrameState::Lost = oldest.state {
            self.totals.lost -= 1;
            self.totals.in_flight += oldest.sealed.len();
        }
        oldest.state = FrameState::InFlight(self.path.publish(oldest.sealed.len(), now, true));
        Some(oldest.sealed.clone())
    }

    fn probe_at(&self) -> Option<Instant> {
        (!self.frames.is_empty()).then(|| self.quiet_since + self.path.probe_timeout())
    }

    /// How many bytes may be on the way.
    #[cfg(test)]
    pub(super) fn window(&self) -> usize {
        self.path.window()
    }

    /// When a message is due by time, if nothing is heard before. It says nothing of one that is due now, for which the caller
    /// had no room: it calls [`RetransmitQueue::poll`] when there is room again.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.late_at.into_iter().chain(self.probe_at()).min()
    }
}

impl Totals {
    fn remove(&mut self, frame: &Frame) {
        self.bytes -= frame.sealed.len();
        self.data_bytes -= frame.data_len;
        match frame.state {
            FrameState::InFlight(_) => self.in_flight -= frame.sealed.len(),
            FrameState::Held(_) => {}
            FrameState::Lost => self.lost -= 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::congestion::{INITIAL_PROBE_TIMEOUT, INITIAL_WINDOW};

    const LIMIT: usize = 2 << 20;
    /// So many messages fill the first window.
    const WINDOW: u8 = 16;
    const ROUND_TRIP: Duration = Duration::from_millis(10);

    fn message(number: u8) -> Bytes {
        Bytes::from(vec![number; INITIAL_WINDOW / usize::from(WINDOW)])
    }

    fn filled(now: Instant, count: u8) -> RetransmitQueue {
        let mut queue = RetransmitQueue::new(LIMIT, now);
        (0..count).for_each(|number| queue.push(message(number), 10, now));
        queue
    }

    fn sent_again(queue: &mut RetransmitQueue, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| queue.poll(now)).map(|sealed| sealed[0]).collect()
    }

    #[test]
    fn a_confirm_is_cumulative() {
        let now = Instant::now();
        let mut queue = filled(now, 5);
        for ranges in [&[(3, 3)][..], &[(3, 4), (2, 3)]] {
            assert_eq!(queue.hold(ranges, now), Err(Rejected::Unexpected));
        }
        assert!(queue.confirm(3, now) && !queue.confirm(2, now));
        assert_eq!(queue.unconfirmed(), (2, 20));
        assert!(queue.confirm(5, now));
        assert_eq!(queue.deadline(), None);
    }

    /// In the stream that this one continues, the receiver may have had more than a window.
    #[test]
    fn a_confirm_above_what_was_sent_is_of_what_was_sent() {
        let now = Instant::now();
        let mut queue = filled(now, 5);
        assert_eq!(queue.hold(&[(2, 4), (4, u32::MAX)], now), Ok(true));
        assert!(queue.confirm(1000, now) && queue.first() == 5);
        queue.push(message(5), 10, now);
        assert!(queue.confirm(u32::MAX, now) && queue.first() == 6);
    }

    #[test]
    fn room_is_bounded_but_one_message_always_fits() {
        let now = Instant::now();
        let mut queue = RetransmitQueue::new(25, now);
        assert!(queue.has_room(1000));
        queue.push(Bytes::from_static(&[0; 10]), 10, now);
        assert!(queue.has_room(15) && !queue.has_room(16));
    }

    #[test]
    fn the_first_window_is_64_kib_and_doubles_with_each_round_trip() {
        let mut now = Instant::now();
        let (mut queue, mut sent) = (RetransmitQueue::new(LIMIT, now), 0);
        for windows in [1, 2, 4, 8] {
            while queue.has_room(INITIAL_WINDOW) {
                queue.push(message(0), 0, now);
                sent += 1;
            }
            assert_eq!(queue.unconfirmed().0, windows * usize::from(WINDOW));
            now += ROUND_TRIP;
            queue.confirm(sent, now);
        }
    }

    #[test]
    fn only_what_is_missing_is_sent_again_and_the_window_is_halved_once() {
        let start = Instant::now();
        let mut queue = filled(start, WINDOW);
        queue.confirm(2, start + ROUND_TRIP);
        let now = start + 2 * ROUND_TRIP;
        assert_eq!(queue.hold(&[(3, 5), (6, 7), (8, 16)], now), Ok(true));
        let late_at = queue.deadline().unwrap();
        assert!(sent_again(&mut queue, now).is_empty(), "it may only be late");
        assert_eq!(sent_again(&mut queue, late_at), [2, 5, 7]);
        assert_eq!(queue.hold(&[(3, 5), (6, 7), (8, 16)], late_at), Ok(false));
        assert!(sent_again(&mut queue, late_at).is_empty());
        let before = queue.window();
        queue.confirm(16, late_at + ROUND_TRIP);
        assert!(before <= INITIAL_WINDOW && queue.window() < before + INITIAL_WINDOW / 16, "no slow start");
    }

    #[test]
    fn what_is_lost_goes_first() {
        let start = Instant::now();
        let mut queue = filled(start, WINDOW);
        queue.hold(&[(1, 9), (10, 16)], start + ROUND_TRIP).unwrap();
        assert!(queue.has_room(message(0).len()), "it may only be late");
        let late_at = queue.deadline().unwrap();
        assert_eq!(queue.poll(late_at).unwrap()[0], 0);
        assert!(!queue.has_room(0));
        assert_eq!(sent_again(&mut queue, late_at), [9]);
        assert!(queue.has_room(message(0).len()));
    }

    #[test]
    fn one_lost_message_goes_at_once_whatever_else_is_on_the_way() {
        let start = Instant::now();
        let mut queue = RetransmitQueue::new(LIMIT, start);
        (0..4).for_each(|number| queue.push(Bytes::from(vec![number; INITIAL_WINDOW]), 0, start));
        queue.hold(&[(1, 2)], start + ROUND_TRIP).unwrap();
        let late_at = queue.deadline().unwrap();
        assert_eq!(sent_again(&mut queue, late_at), [0]);
    }

    #[test]
    fn a_message_that_is_lost_twice_is_sent_a_third_time() {
        let start = Instant::now();
        let mut queue = filled(start, 6);
        queue.hold(&[(1, 6)], start + ROUND_TRIP).unwrap();
        let now = queue.deadline().unwrap();
        assert_eq!(sent_again(&mut queue, now), [0]);
        queue.push(message(6), 10, now);
        queue.hold(&[(1, 7)], now + ROUND_TRIP).unwrap();
        let late_at = queue.deadline().unwrap();
        assert!(late_at > now + ROUND_TRIP && late_at < now + 2 * ROUND_TRIP);
        assert!(sent_again(&mut queue, now + ROUND_TRIP).is_empty());
        assert_eq!(sent_again(&mut queue, late_at), [0]);
    }

    #[test]
    fn what_is_late_is_not_sent_again() {
        let start = Instant::now();
        let mut queue = filled(start, 3);
        let now = start + ROUND_TRIP;
        queue.hold(&[(1, 3)], now).unwrap();
        queue.confirm(3, now + ROUND_TRIP / 16);
        assert!(sent_again(&mut queue, now + ROUND_TRIP).is_empty() && queue.deadline().is_none());
    }

    #[test]
    fn a_receiver_that_holds_nothing_gets_all_again_once_a_round() {
        let now = Instant::now();
        let mut queue = filled(now, 4);
        queue.confirm(1, now);
        queue.confirm(1, now);
        assert_eq!(sent_again(&mut queue, now), [1, 2, 3]);
        queue.confirm(1, now + ROUND_INTERVAL / 4);
        assert!(sent_again(&mut queue, now + ROUND_INTERVAL / 4).is_empty());
        queue.confirm(1, now + ROUND_INTERVAL);
        assert_eq!(sent_again(&mut queue, now + ROUND_INTERVAL), [1, 2, 3]);
    }

    #[test]
    fn a_receiver_that_holds_gets_nothing_again_for_a_repeated_confirm() {
        let now = Instant::now();
        let mut queue = filled(now, 4);
        queue.hold(&[(1, 2)], now).unwrap();
        for _ in 0..2 {
            queue.confirm(2, now);
            assert!(sent_again(&mut queue, now).is_empty());
        }
    }

    #[test]
    fn silence_sends_the_oldest_again_and_the_rest_once_somebody_is_there() {
        let mut now = Instant::now();
        let mut queue = filled(now, 5);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let due = queue.deadline().unwrap();
            waits.push((due - now).as_millis());
            now = due;
            assert_eq!(sent_again(&mut queue, now), [0]);
        }
        assert_eq!(waits, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        queue.confirm(1, now);
        assert_eq!(sent_again(&mut queue, now), [1, 2, 3, 4]);
        assert_eq!(queue.deadline(), Some(now + INITIAL_PROBE_TIMEOUT), "no round trip was measured");
    }

    #[test]
    fn what_a_receiver_held_when_it_ended_is_sent_again() {
        let start = Instant::now();
        let mut queue = filled(start, 6);
        queue.hold(&[(1, 6)], start + ROUND_TRIP).unwrap();
        let late_at = queue.deadline().unwrap();
        assert_eq!(sent_again(&mut queue, late_at), [0]);
        let due = queue.deadline().unwrap();
        assert_eq!(sent_again(&mut queue, due), [0]);
        queue.confirm(1, due + 2 * ROUND_TRIP);
        assert_eq!(sent_again(&mut queue, due + 2 * ROUND_TRIP), [1, 2, 3, 4, 5]);
        queue.confirm(6, due + 3 * ROUND_TRIP);
        assert_eq!((queue.totals.in_flight, queue.totals.lost, queue.totals.bytes), (0, 0, 0));
    }

    #[test]
    fn what_is_confirmed_meanwhile_is_not_sent_again() {
        let now = Instant::now();
        let mut queue = filled(now, 4);
        queue.confirm(0, now);
        assert_eq!(queue.poll(now).unwrap()[0], 0);
        queue.confirm(2, now);
        assert_eq!(sent_again(&mut queue, now), [2, 3]);
    }

    #[test]
    fn of_another_stream_the_path_is_known() {
        let start = Instant::now();
        let mut queue = filled(start, WINDOW);
        queue.confirm(WINDOW.into(), start + ROUND_TRIP);
        queue.push(message(0), 10, start + ROUND_TRIP);
        assert_eq!(queue.take_unconfirmed(start + ROUND_TRIP).count(), 1);
        assert_eq!((queue.first(), queue.unconfirmed()), (0, (0, 0)));
        let mut fits = 0;
        while queue.has_room(message(0).len()) {
            queue.push(message(0), 0, start);
            fits += 1;
        }
        assert_eq!(fits, 2 * usize::from(WINDOW));
    }
}
