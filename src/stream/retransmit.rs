//! What a sender that wants confirms has sealed and its receiver has not confirmed (`sts-protocol(7)`, "Confirms").
//!
//! The receiver takes the messages of such a stream in order only, and says which one it wants next. So the messages from
//! there on are sent again, as the identical sealed bytes: sealing anew would be a second message under one nonce, or one
//! message under two.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::Rejected;
use crate::backoff::Backoff;

/// How long nothing is confirmed before the first unconfirmed message is sent again; doubles while that continues.
const MIN_RESEND_DELAY: Duration = Duration::from_secs(1);
/// The longest such delay.
const MAX_RESEND_DELAY: Duration = Duration::from_secs(30);
/// Time between two rounds of sending everything again: longer than a message and its confirm are usually on their way.
const ROUND_INTERVAL: Duration = Duration::from_millis(300);

/// The unconfirmed messages of one stream, oldest first.
#[derive(Debug)]
pub(crate) struct RetransmitQueue {
    limit: usize,
    /// The seq of the oldest.
    first: u32,
    /// Messages below were sent by an earlier process, whether or not this one sent them again.
    known: u32,
    /// Each with how many bytes of data it carries.
    sealed: VecDeque<(Bytes, usize)>,
    bytes: usize,
    data_bytes: usize,
    /// The round of sending again that is not over: how many of the oldest are in it, and which of them is next.
    resending: Option<(usize, usize)>,
    /// When the last round began.
    round_began: Option<Instant>,
    /// Only the oldest was sent again, to find out whether the receiver is there; the rest goes once it is confirmed.
    probing: bool,
    quiet_since: Instant,
    delay: Backoff,
}

impl RetransmitQueue {
    /// An empty queue of a stream whose next message is number `first`; it holds `limit` bytes of messages, or one message.
    #[must_use]
    pub(crate) fn new(first: u32, limit: usize, now: Instant) -> Self {
        Self {
            limit,
            first,
            known: first,
            sealed: VecDeque::new(),
            bytes: 0,
            data_bytes: 0,
            resending: None,
            round_began: None,
            probing: false,
            quiet_since: now,
            delay: Backoff::new(MIN_RESEND_DELAY, MAX_RESEND_DELAY),
        }
    }

    /// The seq of the oldest message that is not confirmed, or of the next one.
    #[must_use]
    pub(crate) fn first(&self) -> u32 {
        self.first
    }

    /// Whether a message of `size` bytes may be sent before older ones are confirmed.
    #[must_use]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        self.sealed.is_empty() || self.bytes + size <= self.limit
    }

    /// Messages that are not confirmed, and bytes of data in them.
    #[must_use]
    pub(crate) fn unconfirmed(&self) -> (usize, usize) {
        (self.sealed.len(), self.data_bytes)
    }

    /// The only message that is not confirmed; `None` where there are several or none.
    #[must_use]
    pub(crate) fn last_unconfirmed(&self) -> Option<&Bytes> {
        self.sealed.front().filter(|_| self.sealed.len() == 1).map(|(sealed, _)| sealed)
    }

    /// Keeps a message with `data_len` bytes of data that is sent for the first time now.
    pub(crate) fn push(&mut self, sealed: Bytes, data_len: usize, now: Instant) {
        if self.sealed.is_empty() {
            self.quiet_since = now;
        }
        self.bytes += sealed.len();
        self.data_bytes += data_len;
        self.sealed.push_back((sealed, data_len));
    }

    /// The receiver has written every message below `next`; true if that is news.
    ///
    /// # Errors
    /// [`Rejected::Unexpected`] for a number above what was sent; nothing changes then.
    pub(crate) fn confirm(&mut self, next: u32, now: Instant) -> Result<bool, Rejected> {
        let Some(confirmed) = next.checked_sub(self.first).filter(|count| *count > 0) else {
            // Not news: the receiver lacks the oldest, since what came after it was too early, or came twice.
            if next == self.first && !self.sealed.is_empty() {
                self.begin_round(now);
            }
            return Ok(false);
        };
        let confirmed = usize::try_from(confirmed).unwrap_or(usize::MAX);
        if confirmed > self.sealed.len() && next > self.known {
            return Err(Rejected::Unexpected);
        }
        let confirmed = confirmed.min(self.sealed.len());
        for (sealed, data_len) in self.sealed.drain(..confirmed) {
            self.bytes -= sealed.len();
            self.data_bytes -= data_len;
        }
        self.first = next;
        self.resending = self.resending.and_then(|(count, at)| {
            let count = count.saturating_sub(confirmed);
            (count > 0).then_some((count, at.saturating_sub(confirmed)))
        });
        self.quiet_since = now;
        self.delay.reset();
        if std::mem::take(&mut self.probing) && !self.sealed.is_empty() {
            // The receiver is there again; what was sent while it was not is lost.
            self.round_began = None;
            self.begin_round(now);
        }
        Ok(true)
    }

    /// The messages that are not confirmed, oldest first.
    pub(crate) fn into_unconfirmed(self) -> impl Iterator<Item = Bytes> {
        self.sealed.into_iter().map(|(sealed, _)| sealed)
    }

    /// From now on, [`RetransmitQueue::poll`] has all of them.
    pub(crate) fn resend_all(&mut self, now: Instant) {
        self.round_began = None;
        self.begin_round(now);
    }

    fn begin_round(&mut self, now: Instant) {
        if self.round_began.is_none_or(|began| now >= began + ROUND_INTERVAL) {
            self.round_began = Some(now);
            self.resending = Some((self.sealed.len(), 0));
            self.quiet_since = now;
        }
    }

    /// Counts the silence from now on: while the way to the broker is not clear, that nothing is confirmed means nothing.
    pub(crate) fn restart_timer(&mut self, now: Instant) {
        self.quiet_since = now;
    }

    /// The next message to send again at `now`, if there is one. The caller asks until there is none, or stops when it has no
    /// room: a round that is not over then continues with the next call.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Bytes> {
        if let Some((count, at)) = self.resending {
            let next = self.sealed.get(at).filter(|_| at < count).map(|(sealed, _)| sealed.clone());
            self.resending = next.is_some().then_some((count, at + 1));
            if next.is_some() {
                return next;
            }
        }
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return None;
        }
        self.quiet_since = now;
        self.delay.next();
        self.probing = true;
        self.sealed.front().map(|(sealed, _)| sealed.clone())
    }

    /// When the oldest message is due because of silence, if nothing is confirmed before. It says nothing of a round that is
    /// not over: the rest of that is due now, and the caller, who had no room for it, calls [`RetransmitQueue::poll`] when
    /// there is room again.
    #[must_use]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.sealed.is_empty()).then(|| self.quiet_since + self.delay.current())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(number: u8) -> Bytes {
        Bytes::from(vec![number; 10])
    }

    fn filled(now: Instant, count: u8) -> RetransmitQueue {
        let mut queue = RetransmitQueue::new(0, 1000, now);
        (0..count).for_each(|number| queue.push(message(number), 10, now));
        queue
    }

    fn sent_again(queue: &mut RetransmitQueue, now: Instant) -> Vec<u8> {
        std::iter::from_fn(|| queue.poll(now)).map(|sealed| sealed[0]).collect()
    }

    #[test]
    fn a_confirm_is_cumulative_and_never_above_what_was_sent() {
        let now = Instant::now();
        let mut queue = filled(now, 5);
        assert_eq!(queue.confirm(6, now), Err(Rejected::Unexpected));
        assert_eq!(queue.unconfirmed(), (5, 50));
        assert_eq!(queue.confirm(3, now), Ok(true));
        assert_eq!(queue.confirm(2, now), Ok(false));
        assert_eq!(queue.unconfirmed(), (2, 20));
        assert_eq!(queue.confirm(5, now), Ok(true));
        assert_eq!(queue.deadline(), None);
    }

    #[test]
    fn room_is_bounded_but_one_message_always_fits() {
        let now = Instant::now();
        let mut queue = RetransmitQueue::new(0, 25, now);
        assert!(queue.has_room(1000));
        queue.push(message(0), 10, now);
        assert!(queue.has_room(15) && !queue.has_room(16));
    }

    #[test]
    fn a_confirm_that_is_no_news_sends_all_again_once_a_round() {
        let now = Instant::now();
        let mut queue = filled(now, 4);
        queue.confirm(1, now).unwrap();
        queue.confirm(1, now).unwrap();
        assert_eq!(sent_again(&mut queue, now), [1, 2, 3]);
        queue.confirm(1, now + ROUND_INTERVAL / 2).unwrap();
        assert!(sent_again(&mut queue, now + ROUND_INTERVAL / 2).is_empty());
        queue.confirm(2, now + ROUND_INTERVAL).unwrap();
        queue.confirm(2, now + ROUND_INTERVAL).unwrap();
        assert_eq!(sent_again(&mut queue, now + ROUND_INTERVAL), [2, 3]);
    }

    #[test]
    fn silence_sends_the_oldest_again_and_the_rest_once_somebody_is_there() {
        let mut now = Instant::now();
        let mut queue = filled(now, 3);
        let mut waits = Vec::new();
        for _ in 0..7 {
            let due = queue.deadline().unwrap();
            waits.push((due - now).as_secs());
            now = due;
            assert_eq!(sent_again(&mut queue, now), [0]);
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        queue.confirm(1, now).unwrap();
        assert_eq!(sent_again(&mut queue, now), [1, 2]);
        assert_eq!(queue.deadline(), Some(now + MIN_RESEND_DELAY));
    }

    #[test]
    fn what_is_confirmed_meanwhile_is_not_sent_again() {
        let now = Instant::now();
        let mut queue = filled(now, 4);
        queue.confirm(0, now).unwrap();
        assert_eq!(queue.poll(now).unwrap()[0], 0);
        queue.confirm(2, now).unwrap();
        assert_eq!(sent_again(&mut queue, now), [2, 3]);
    }
}
