//! Streams of which the sender told how they ended, and of which something was missing then.

use std::collections::BTreeMap;

use super::Streams;
use crate::stream::ended_stream::EndedStream;

/// Most of them that are remembered: as many as a device lists. Of more, the highest numbers stay.
const MAX_TOLD: usize = 64;

/// How streams ended, by number.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldEnds(BTreeMap<u32, EndedStream>);

impl ToldEnds {
    fn insert(&mut self, ended: EndedStream) {
        self.0.insert(ended.stream.number, ended);
        if self.0.len() > MAX_TOLD {
            self.0.pop_first();
        }
    }

    /// Forgets all others.
    pub(super) fn retain(&mut self, is_kept: impl Fn(u32) -> bool) {
        self.0.retain(|number, _| is_kept(*number));
    }

    /// A stream was received up to this seq: a count below it says nothing.
    pub(super) fn received(&mut self, number: u32, next: u32) {
        if self.0.get(&number).is_some_and(|ended| ended.count.is_none_or(|count| count < next)) {
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
        self.told.0.get(&number)
    }

    /// What [`Streams::tell`] remembers, in the order of the numbers.
    pub(crate) fn told(&self) -> impl Iterator<Item = &EndedStream> {
        self.told.0.values()
    }
}
