//! What a sender that wants confirms has sealed and its receiver has not confirmed (`sts-protocol(7)`, "Confirms").
//!
//! The receiver says which message it wants next, and which ones it holds that came too early. What is missing is sent again as
//! the identical sealed bytes: sealing anew would be a second message under one nonce, or one message under two. Where each
//! message is stands in `scoreboard`; how much may be on the way, and when something counts as missing, is in `congestion`.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::congestion::{Arrivals, Fate, Path, Transmission};
use super::scoreboard::{Scoreboard, SentFrame, SentState};
use crate::Rejected;

/// Time between two rounds of sending everything again to a receiver that does not say what it holds: longer than a message
/// and its confirm are usually on their way.
pub(super) const ROUND_INTERVAL: Duration = Duration::from_millis(300);

/// The unconfirmed messages of one stream, oldest first.
#[derive(Debug)]
pub(crate) struct RetransmitQueue {
    limit: usize,
    frames: Scoreboard,
    /// The size of the newest one: the next one is expected to have it, too.
    newest_len: usize,
    path: Path,
    /// When a frame counts as lost, if it does not arrive before.
    late_at: Option<Instant>,
    holder: Holder,
    quiet_since: Instant,
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
            frames: Scoreboard::default(),
            newest_len: 0,
            path: Path::new(limit),
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
        (self.late_at, self.quiet_since) = (None, now);
        std::mem::take(&mut self.frames).into_iter().map(|frame| frame.sealed)
    }

    /// The seq of the oldest message that is not confirmed, or of the next one.
    #[must_use]
    pub(crate) fn first(&self) -> u32 {
        self.frames.seqs().start
    }

    /// Whether a message of `size` bytes, or a shorter one, may be sent before older ones are confirmed.
    #[must_use]
    pub(crate) fn has_room(&self, size: usize) -> bool {
        let fits = self.frames.is_empty() || self.frames.bytes() + size <= self.limit;
        // It is asked before the message is made; most are as long as the one before.
        let expected = size.min(self.newest_len);
        fits && self.frames.first_lost().is_none() && self.path.allows(self.frames.in_flight(), expected)
    }

    /// Messages that are not confirmed, and bytes of data in them.
    #[must_use]
    pub(crate) fn unconfirmed(&self) -> (usize, usize) {
        (self.frames.len(), self.frames.data_bytes())
    }

    /// Whether there are messages that are not confirmed, and none of them carries data.
    #[must_use]
    pub(crate) fn is_without_data(&self) -> bool {
        !self.frames.is_empty() && self.frames.data_bytes() == 0
    }

    /// Keeps a message with `data_len` bytes of data that is sent for the first time now.
    pub(crate) fn push(&mut self, sealed: Bytes, data_len: usize, now: Instant) {
        if self.frames.is_empty() {
            self.quiet_since = now;
        }
        self.newest_len = sealed.len();
        let state = SentState::InFlight(self.path.transmit(sealed.len(), now, false));
        self.frames.push(SentFrame { sealed, data_len, state });
    }

    /// The receiver has written every message below `next`; true if that is news. It may have written more than was sent, in the
    /// stream that this one continues.
    pub(crate) fn confirm(&mut self, next: u32, now: Instant) -> bool {
        if next <= self.first() || self.frames.is_empty() {
            self.confirm_repeated(next, now);
            return false;
        }
        let (mut arrivals, in_flight) = (Arrivals::default(), self.frames.in_flight());
        while self.first() < next
            && let Some(frame) = self.frames.pop()
        {
            if let SentState::InFlight(transmission) = frame.state {
                arrivals.add(transmission, frame.sealed.len());
            }
        }
        self.quiet_since = now;
        self.heard(&arrivals, in_flight, now);
        true
    }

    /// Not news. If the receiver does not hold what came too early, it may lack the oldest. If there is nothing but the oldest,
    /// what came was a repetition of an earlier one.
    fn confirm_repeated(&mut self, next: u32, now: Instant) {
        if let Holder::Unknown { round_began } = self.holder
            && next == self.first()
            && self.frames.len() > 1
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
    pub(crate) fn sack(&mut self, ranges: &[(u32, u32)], now: Instant) -> Result<bool, Rejected> {
        let is_ordered =
            ranges.iter().all(|(from, to)| from < to) && ranges.is_sorted_by(|one, other| one.1 <= other.0);
        if !is_ordered {
            return Err(Rejected::Unexpected);
        }
        let end = ranges.last().map_or(0, |(_, to)| *to);
        self.holder = Holder::Known;
        let (mut arrivals, in_flight) = (Arrivals::default(), self.frames.in_flight());
        let mut ranges = ranges.iter().copied().peekable();
        for seq in self.frames.seqs().take_while(|seq| *seq < end) {
            while ranges.next_if(|(_, to)| *to <= seq).is_some() {}
            let is_sacked = ranges.peek().is_some_and(|(from, _)| *from <= seq);
            let len = self.frames.sealed(seq).len();
            match self.frames.state(seq) {
                SentState::InFlight(transmission) if is_sacked => {
                    arrivals.add(transmission, len);
                    self.frames.set_state(seq, SentState::Sacked(transmission));
                }
                // It was late, not lost.
                SentState::Lost if is_sacked => {
                    self.frames.set_state(seq, SentState::Sacked(self.path.transmit(len, now, true)));
                }
                // The receiver has lost it, by a restart or for lack of room.
                SentState::Sacked(_) if !is_sacked => self.frames.set_state(seq, SentState::Lost),
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
        for seq in self.frames.seqs() {
            let SentState::InFlight(transmission) = self.frames.state(seq) else { continue };
            match self.path.fate(transmission, now) {
                // All after it that were sent once left later, and one that was sent again is after one that is lost.
                Fate::Unknown if !transmission.is_repeat => break,
                Fate::Unknown => {}
                Fate::LateAt(at) => self.late_at = Some(self.late_at.map_or(at, |earlier| earlier.min(at))),
                Fate::Lost => {
                    newest_lost = newest_lost.max(Some(transmission.number));
                    self.frames.set_state(seq, SentState::Lost);
                }
            }
        }
        if let Some(number) = newest_lost {
            self.path.lost(number);
        }
    }

    /// Everything that the receiver does not hold is to be sent again.
    fn lose_all(&mut self) {
        self.late_at = None;
        let mut newest_lost = None;
        for seq in self.frames.seqs() {
            if let SentState::InFlight(transmission) = self.frames.state(seq) {
                newest_lost = newest_lost.max(Some(transmission.number));
                self.frames.set_state(seq, SentState::Lost);
            }
        }
        if let Some(number) = newest_lost {
            self.path.lost(number);
        }
    }

    /// None of the messages has left: from now on, [`RetransmitQueue::poll`] has them.
    pub(crate) fn resend_all(&mut self, now: Instant) {
        for seq in self.frames.seqs() {
            self.frames.set_state(seq, SentState::Lost);
        }
        (self.late_at, self.quiet_since) = (None, now);
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
        if let Some(sealed) = self.poll_lost(now) {
            return Some(sealed);
        }
        (now >= self.probe_at()?).then(|| self.probe(now))
    }

    fn poll_lost(&mut self, now: Instant) -> Option<Bytes> {
        let seq = self.frames.first_lost()?;
        let may_leave = self.path.allows_again(self.frames.in_flight(), self.frames.sealed(seq).len());
        may_leave.then(|| self.transmit_again(seq, now))
    }

    /// The oldest message, as nothing was heard for long. Whether the receiver still holds the others, it has to say again
    /// (RFC 2018, section 8).
    fn probe(&mut self, now: Instant) -> Bytes {
        self.quiet_since = now;
        self.path.probe();
        for seq in self.frames.seqs() {
            if let SentState::Sacked(transmission) = self.frames.state(seq) {
                // When it arrived says nothing of the way any more.
                self.frames.set_state(seq, SentState::InFlight(Transmission { is_repeat: true, ..transmission }));
            }
        }
        self.transmit_again(self.first(), now)
    }

    fn transmit_again(&mut self, seq: u32, now: Instant) -> Bytes {
        let sealed = self.frames.sealed(seq).clone();
        self.frames.set_state(seq, SentState::InFlight(self.path.transmit(sealed.len(), now, true)));
        sealed
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
