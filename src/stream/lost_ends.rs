//! Lost ends: what a device says in a preamble of how its earlier streams ended (`sts-protocol(7)`, "Lost ends").

use super::accept::Opened;
use super::id::StreamId;
use super::preamble::EndedStream;
use super::progress::{Gap, Progress, StreamState};
use super::receiver::Receiver;
use crate::crypto::key_tree::MAX_NUMBER;

impl Receiver {
    /// The streams that this message shows to be used by two devices: they are known with other salts.
    #[must_use]
    pub(crate) fn copies(&self, opened: &Opened) -> Vec<StreamId> {
        let is_copy = |ended: &&EndedStream| {
            let salt = self.streams(ended.stream.session).and_then(|streams| streams.salt(ended.stream.number));
            salt.is_some_and(|salt| salt != ended.salt)
        };
        self.ended(opened).filter(is_copy).map(|ended| ended.stream).collect()
    }

    /// Whether a message shows that two devices use its session.
    pub(super) fn shows_copy(&self, opened: &Opened) -> bool {
        !self.copies(opened).is_empty()
    }

    /// The streams of which this message says that they have ended, and that are not complete here.
    #[must_use]
    pub(crate) fn lost_ends(&self, opened: &Opened) -> Vec<EndedStream> {
        let copies = self.copies(opened);
        let is_lost = |ended: &&EndedStream| !copies.contains(&ended.stream) && self.lost_end(ended).is_some();
        self.ended(opened).filter(is_lost).copied().collect()
    }

    /// Closes a stream that has ended, if it is still not complete; returns what is to be written down, and reported.
    pub(crate) fn close_lost_end(&mut self, ended: &EndedStream) -> Option<(Progress, Gap)> {
        let closed = self.lost_end(ended)?;
        self.apply_over(&closed.0);
        Some(closed)
    }

    fn lost_end(&self, ended: &EndedStream) -> Option<(Progress, Gap)> {
        let EndedStream { stream, salt, count } = *ended;
        let streams = self.streams(stream.session).filter(|streams| !streams.is_over(stream.number))?;
        let known = streams.close_at(stream);
        let lost = count?.checked_sub(known.next).filter(|lost| *lost > 0)?;
        let gap = Gap { stream, first: known.next, last: known.next + (lost - 1) };
        Some((Progress { salt, state: StreamState::Superseded, ..known }, gap))
    }

    /// What a message says of earlier streams of data of its sender, in sessions that are here.
    fn ended<'a>(&'a self, opened: &'a Opened) -> impl Iterator<Item = &'a EndedStream> {
        let said = opened.preamble.iter().flat_map(|preamble| &preamble.ended);
        said.filter(|ended| ended.stream.number <= MAX_NUMBER && self.is_of_same_peer(ended.stream, opened))
    }
}
