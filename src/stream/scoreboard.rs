//! The frames of a stream that its receiver has not confirmed: where each of them is, and the sums over them. What RFC 6675,
//! section 3, calls a scoreboard. A state changes in [`Scoreboard::set_state`] only, so that the sums follow.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;

use bytes::Bytes;

use super::congestion::Transmission;

/// Frames in the order of their seqs, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Scoreboard {
    /// The seq of the oldest, or of the next one.
    first: u32,
    frames: VecDeque<SentFrame>,
    /// Bytes of all of them, sealed.
    bytes: usize,
    /// Bytes of data in all of them.
    data_bytes: usize,
    /// Bytes of those that are in flight.
    in_flight: usize,
    /// The seqs of those that are lost.
    lost: BTreeSet<u32>,
}

#[derive(Debug)]
pub(super) struct SentFrame {
    pub(super) sealed: Bytes,
    /// How many bytes of data it carries.
    pub(super) data_len: usize,
    pub(super) state: SentState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SentState {
    InFlight(Transmission),
    /// The receiver has it, and may still lose it, as long as it does not confirm it.
    Sacked(Transmission),
    /// To be sent again.
    Lost,
}

impl Scoreboard {
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The seqs of the frames: it begins with the oldest, and ends with the next one.
    pub(super) fn seqs(&self) -> Range<u32> {
        self.first..self.first.saturating_add(u32::try_from(self.frames.len()).unwrap_or(u32::MAX))
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn data_bytes(&self) -> usize {
        self.data_bytes
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn first_lost(&self) -> Option<u32> {
        self.lost.first().copied()
    }

    /// The sealed bytes of the frame `seq`, which is one of [`Scoreboard::seqs`].
    pub(super) fn sealed(&self, seq: u32) -> &Bytes {
        &self.frames[self.index(seq)].sealed
    }

    /// Where the frame `seq` is, which is one of [`Scoreboard::seqs`].
    pub(super) fn state(&self, seq: u32) -> SentState {
        self.frames[self.index(seq)].state
    }

    pub(super) fn set_state(&mut self, seq: u32, state: SentState) {
        let index = self.index(seq);
        let frame = &mut self.frames[index];
        let (len, old) = (frame.sealed.len(), std::mem::replace(&mut frame.state, state));
        self.subtract(seq, len, old);
        self.add(seq, len, state);
    }

    /// Takes in the next frame.
    pub(super) fn push(&mut self, frame: SentFrame) {
        let (seq, len) = (self.seqs().end, frame.sealed.len());
        self.bytes += len;
        self.data_bytes += frame.data_len;
        self.add(seq, len, frame.state);
        self.frames.push_back(frame);
    }

    /// Gives away the oldest frame.
    pub(super) fn pop(&mut self) -> Option<SentFrame> {
        let frame = self.frames.pop_front()?;
        let len = frame.sealed.len();
        self.bytes -= len;
        self.data_bytes -= frame.data_len;
        self.subtract(self.first, len, frame.state);
        self.first += 1;
        Some(frame)
    }

    fn add(&mut self, seq: u32, len: usize, state: SentState) {
        match state {
            SentState::InFlight(_) => self.in_flight += len,
            SentState::Sacked(_) => {}
            SentState::Lost => {
                self.lost.insert(seq);
            }
        }
    }

    fn subtract(&mut self, seq: u32, len: usize, state: SentState) {
        match state {
            SentState::InFlight(_) => self.in_flight -= len,
            SentState::Sacked(_) => {}
            SentState::Lost => {
                self.lost.remove(&seq);
            }
        }
    }

    /// The place of a frame that is there.
    fn index(&self, seq: u32) -> usize {
        usize::try_from(seq - self.first).unwrap_or(usize::MAX)
    }
}

/// All frames, the oldest first.
impl IntoIterator for Scoreboard {
    type Item = SentFrame;
    type IntoIter = std::collections::vec_deque::IntoIter<SentFrame>;

    fn into_iter(self) -> Self::IntoIter {
        self.frames.into_iter()
    }
}
