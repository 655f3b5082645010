//! The streams of which more is to come, and which of them are idle longest.

use std::collections::BTreeMap;

use crate::crypto::key_tree::Salt;
use crate::stream::progress::Sequence;

/// How far an open stream was received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StreamProgress {
    pub(super) salt: Salt,
    pub(super) next: u32,
    pub(super) skip: u32,
    pub(super) wants_confirms: bool,
    pub(super) sequence: Sequence,
    /// The lowest number of a will that is accepted.
    pub(super) next_will: u32,
}

/// The open streams by number.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenStreams {
    /// Each with when something of it last came; a counter, not a time.
    streams: BTreeMap<u32, (StreamProgress, u64)>,
    /// Their numbers, longest idle first.
    idle: BTreeMap<u64, u32>,
    touches: u64,
}

impl OpenStreams {
    /// Something of a stream, which is not here, came.
    pub(super) fn insert(&mut self, stream: u32, progress: StreamProgress) {
        self.touches += 1;
        self.streams.insert(stream, (progress, self.touches));
        self.idle.insert(self.touches, stream);
    }

    pub(super) fn remove(&mut self, stream: u32) -> Option<StreamProgress> {
        let (progress, touched) = self.streams.remove(&stream)?;
        self.idle.remove(&touched);
        Some(progress)
    }

    pub(super) fn get(&self, stream: u32) -> Option<&StreamProgress> {
        self.streams.get(&stream).map(|(progress, _)| progress)
    }

    pub(super) fn get_mut(&mut self, stream: u32) -> Option<&mut StreamProgress> {
        self.streams.get_mut(&stream).map(|(progress, _)| progress)
    }

    pub(super) fn contains(&self, stream: u32) -> bool {
        self.streams.contains_key(&stream)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.streams.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// All of them, in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &StreamProgress)> {
        self.streams.iter().map(|(&number, (progress, _))| (number, progress))
    }

    /// Their numbers, in order.
    pub(super) fn numbers(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.streams.keys().copied()
    }

    /// Their numbers, longest idle first.
    pub(super) fn longest_idle(&self) -> impl Iterator<Item = u32> {
        self.idle.values().copied()
    }
}
