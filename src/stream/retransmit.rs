//! What a sender that asks for confirms has sealed and its receiver has not confirmed (`sts-protocol(7)`, "Confirms").
//!
//! The receiver takes the messages of such a stream in order only, and says which one it wants next. So whatever is
//! wanted is sent again from there, as the identical sealed bytes: sealing anew would be a second message under one nonce,
//! or one message under two.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Rejected;
use crate::backoff::Backoff;

/// How long nothing is confirmed before the first unconfirmed message is sent again; doubles while that goes on.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest such wait.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Time between two rounds of sending everything again: longer than a message and its confirm are usually on their way.
const ROUND: Duration = Duration::from_millis(300);

/// The unconfirmed messages of one stream, oldest first.
#[derive(Debug)]
pub struct RetransmitQueue {
    limit: usize,
    /// The seq of the oldest.
    first: u32,
    /// Messages below were sent by an earlier process, whether or not this one sent them again.
    known: u32,
    sealed: VecDeque<Bytes>,
    bytes: usize,
    /// How many of the oldest are to be sent again, and which of them is next.
    again: Option<(usize, usize)>,
    /// When a round of sending again began last.
    round: Option<Instant>,
    /// Only the oldest was sent again, to find out whether anybody is there; the rest goes once it is confirmed.
    probing: bool,
    quiet_since: Instant,
    wait: Backoff,
}

impl RetransmitQueue {
    /// An empty window of a stream whose next message is number `first`; it holds `limit` bytes, or one message.
    #[must_use]
    pub fn new(first: u32, limit: usize, now: Instant) -> Self {
        Self {
            limit,
            first,
            known: first,
            sealed: VecDeque::new(),
            bytes: 0,
            again: None,
            round: None,
            probing: false,
            quiet_since: now,
            wait: Backoff::new(FIRST_WAIT, LONGEST_WAIT),
        }
    }

    /// As [`RetransmitQueue::new`], of a stream of which an earlier process sent every message below `known`.
    #[must_use]
    pub fn resumed(first: u32, known: u32, limit: usize, now: Instant) -> Self {
        Self { known, ..Self::new(first, limit, now) }
    }

    /// The seq of the oldest message that is not confirmed, or of the next one.
    #[must_use]
    pub fn first(&self) -> u32 {
        self.first
    }

    /// Whether a message of `size` bytes may be sent before older ones are confirmed.
    #[must_use]
    pub fn room(&self, size: usize) -> bool {
        self.sealed.is_empty() || self.bytes + size <= self.limit
    }

    /// Messages and bytes that are not confirmed.
    #[must_use]
    pub fn unconfirmed(&self) -> (usize, usize) {
        (self.sealed.len(), self.bytes)
    }

    /// Keeps a message that is sent for the first time now.
    pub fn push(&mut self, sealed: Bytes, now: Instant) {
        if self.sealed.is_empty() {
            self.quiet_since = now;
        }
        self.bytes += sealed.len();
        self.sealed.push_back(sealed);
    }

    /// The receiver has written every message below `next`; true if that is news.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] for a number above what was sent; nothing changes then.
    pub fn confirm(&mut self, next: u32, now: Instant) -> Result<bool, Rejected> {
        let Some(confirmed) = next.checked_sub(self.first).filter(|count| *count > 0) else {
            // Not news: the receiver lacks the oldest, since what came after it was too early, or came twice.
            if next == self.first && !self.sealed.is_empty() {
                self.send_all_again(now);
            }
            return Ok(false);
        };
        let confirmed = usize::try_from(confirmed).unwrap_or(usize::MAX);
        if confirmed > self.sealed.len() && next > self.known {
            return Err(Rejected::Unexpected);
        }
        let confirmed = confirmed.min(self.sealed.len());
        self.bytes -= self.sealed.drain(..confirmed).map(|sealed| sealed.len()).sum::<usize>();
        self.first = next;
        self.again = self.again.and_then(|(count, at)| {
            let count = count.saturating_sub(confirmed);
            (count > 0).then_some((count, at.saturating_sub(confirmed)))
        });
        self.quiet_since = now;
        self.wait.reset();
        if std::mem::take(&mut self.probing) && !self.sealed.is_empty() {
            // Somebody is there again; what was sent while nobody was is lost.
            self.round = None;
            self.send_all_again(now);
        }
        Ok(true)
    }

    /// Those that are not confirmed, oldest first.
    pub fn into_unconfirmed(self) -> impl Iterator<Item = Bytes> {
        self.sealed.into_iter()
    }

    /// [`RetransmitQueue::poll`] has all of them, now.
    pub fn send_all(&mut self, now: Instant) {
        self.round = None;
        self.send_all_again(now);
    }

    fn send_all_again(&mut self, now: Instant) {
        if self.round.is_none_or(|round| now >= round + ROUND) {
            self.round = Some(now);
            self.again = Some((self.sealed.len(), 0));
            self.quiet_since = now;
        }
    }

    /// The way to the broker is not clear: silence means nothing yet.
    pub fn not_yet(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// The next message to send again at `now`, if there is one.
    pub fn poll(&mut self, now: Instant) -> Option<Bytes> {
        if let Some((count, at)) = self.again {
            let next = self.sealed.get(at).filter(|_| at < count).cloned();
            self.again = next.is_some().then_some((count, at + 1));
            if next.is_some() {
                return next;
            }
        }
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.quiet_since = now;
        self.wait.next();
        self.probing = true;
        self.sealed.front().cloned()
    }

    /// When [`RetransmitQueue::poll`] has something if nothing is confirmed before.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (!self.sealed.is_empty()).then(|| self.quiet_since + self.wait.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8) -> Bytes {
        Bytes::from(vec![number; 10])
    }

    fn filled(now: Instant, count: u8) -> RetransmitQueue {
        let mut window = RetransmitQueue::new(0, 1000, now);
        (0..count).for_each(|number| window.push(message(number), now));
        window
    }

    fn sent_again(window: &mut RetransmitQueue, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| window.poll(now)).map(|sealed| sealed[0]).collect()
    }

    #[test]
    fn a_confirm_is_cumulative_and_never_above_what_was_sent() {
        let now = Instant::now();
        let mut window = filled(now, 5);
        assert_eq!(window.confirm(6, now), Err(Rejected::Unexpected));
        assert_eq!(window.unconfirmed(), (5, 50));
        assert_eq!(window.confirm(3, now), Ok(true));
        assert_eq!(window.confirm(2, now), Ok(false));
        assert_eq!(window.unconfirmed(), (2, 20));
        assert_eq!(window.confirm(5, now), Ok(true));
        assert_eq!(window.deadline(), None);
    }

    #[test]
    fn room_is_bounded_but_one_message_always_fits() {
        let now = Instant::now();
        let mut window = RetransmitQueue::new(0, 25, now);
        assert!(window.room(1000));
        window.push(message(0), now);
        assert!(window.room(15) && !window.room(16));
    }

    #[test]
    fn a_confirm_that_is_no_news_sends_all_again_once_a_round() {
        let now = Instant::now();
        let mut window = filled(now, 4);
        window.confirm(1, now).unwrap();
        window.confirm(1, now).unwrap();
        assert_eq!(sent_again(&mut window, now), [1, 2, 3]);
        window.confirm(1, now + ROUND / 2).unwrap();
        assert_eq!(sent_again(&mut window, now + ROUND / 2), []);
        window.confirm(2, now + ROUND).unwrap();
        window.confirm(2, now + ROUND).unwrap();
        assert_eq!(sent_again(&mut window, now + ROUND), [2, 3]);
    }

    #[test]
    fn what_an_earlier_process_sent_may_be_confirmed_before_it_is_sent_again() {
        let now = Instant::now();
        let mut window = RetransmitQueue::resumed(3, 9, 1 << 20, now);
        window.push(message(3), now);
        window.push(message(4), now);
        assert_eq!(window.confirm(10, now), Err(Rejected::Unexpected));
        assert_eq!(window.confirm(8, now), Ok(true));
        assert_eq!((window.first(), window.unconfirmed()), (8, (0, 0)));
        window.push(message(8), now);
        assert_eq!(window.confirm(9, now), Ok(true));
        assert_eq!(window.confirm(10, now), Err(Rejected::Unexpected));
    }

    #[test]
    fn silence_sends_the_oldest_again_and_the_rest_once_somebody_is_there() {
        let mut now = Instant::now();
        let mut window = filled(now, 3);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let due = window.deadline().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            assert_eq!(sent_again(&mut window, now), [0]);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        window.confirm(1, now).unwrap();
        assert_eq!(sent_again(&mut window, now), [1, 2]);
        assert_eq!(window.deadline(), Some(now + FIRST_WAIT));
    }

    #[test]
    fn what_is_confirmed_meanwhile_is_not_sent_again() {
        let now = Instant::now();
        let mut window = filled(now, 4);
        window.confirm(0, now).unwrap();
        assert_eq!(window.poll(now).unwrap()[0], 0);
        window.confirm(2, now).unwrap();
        assert_eq!(sent_again(&mut window, now), [2, 3]);
    }
}
