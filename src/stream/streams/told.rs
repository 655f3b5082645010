//! Streams of which the sender told how they ended, and of which something was missing then.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Streams;
use crate::stream::ended_stream::EndedStream;

/// Most of them that are remembered: as many as a device lists. Of more, the highest numbers stay.
const MAX_TOLD: usize = 64;

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ToldEnd {
    /// As its sender told it.
    pub(crate) ended: EndedStream,
    /// How long runs after that waited for what is missing.
    pub(crate) waited: Duration,
}

/// How streams ended, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldEnds(BTreeMap<u32, ToldEnd>);

impl ToldEnds {
    fn insert(&mut self, ended: EndedStream) {
        let told = self.0.entry(ended.stream.number).or_insert(ToldEnd { ended, waited: Duration::ZERO });
        if told.ended != ended {
            *told = ToldEnd { ended, waited: Duration::ZERO };
        }
        if self.0.len() > MAX_TOLD {
            self.0.pop_first();
        }
    }

    /// Forgets all others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.0.retain(|number, _| is_kept(*number));
    }

    /// A stream was received up to this seq: a count below it says nothing, and the rest may follow.
    pub(super) fn received(&mut self, number: u32, next: u32) {
        let Some(told) = self.0.get_mut(&number) else { return };
        told.waited = Duration::ZERO;
        if told.ended.count.is_none_or(|count| count < next) {
            self.0.remove(&number);
        }
    }
}

impl Streams {
    /// Remembers how a stream ended, for a run that begins before it is known whether the rest of it still comes, and for its
    /// messages, should the first one not be among them; a stream that is over is not remembered.
    pub(crate) fn tell(&mut self, ended: EndedStream) {
        if !self.ended.contains(ended.stream.number) {
            self.told.insert(ended);
        }
    }

    /// How a stream ended, if [`Streams::tell`] remembers it.
    pub(in crate::stream) fn told_of(&self, number: u32) -> Option<&EndedStream> {
        self.told.0.get(&number).map(|told| &told.ended)
    }

    /// Notes how long runs waited for what is missing of a stream, if [`Streams::tell`] remembers it.
    pub(crate) fn set_waited(&mut self, number: u32, waited: Duration) {
        if let Some(told) = self.told.0.get_mut(&number) {
            told.waited = waited;
        }
    }

    /// Those of which something may be missing that was not reported, and still can be.
    pub(crate) fn unreported(&self) -> impl Iterator<Item = &ToldEnd> {
        self.told().filter(|ToldEnd { ended, .. }| {
            let number = ended.stream.number;
            let is_theirs = self.salt(number).is_none_or(|known| known == ended.salt);
            ended.count.is_some() && is_theirs && (!self.is_over(number) || self.is_cut(number))
        })
    }

    /// How many messages each of [`Streams::unreported`] lacks, if it lacks any.
    pub(crate) fn unreported_losses(&self) -> impl Iterator<Item = u64> {
        let missing = |ended: &EndedStream| ended.count?.checked_sub(self.close_at(ended.stream).next);
        self.unreported().filter_map(move |told| missing(&told.ended)).filter(|lost| *lost > 0).map(u64::from)
    }

    /// What [`Streams::tell`] remembers, in the order of the numbers.
    pub(crate) fn told(&self) -> impl Iterator<Item = &ToldEnd> {
        self.told.0.values()
    }
}
