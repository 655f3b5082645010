//! Streams that were closed before their end, of which something may be missing that was not reported.

use super::{MAX_RECENT_STREAMS, Streams};
use crate::crypto::key_tree::Salt;
use crate::stream::progress::Sequence;

/// A stream that was closed before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeftStream {
    /// Its number.
    pub(crate) number: u32,
    /// Its salt.
    pub(crate) salt: Salt,
    /// Where its sequence goes on.
    pub(crate) sequence: Sequence,
    /// The next seq that was wanted; `u32::MAX` where that is not known.
    pub(crate) next: u32,
}

impl Streams {
    /// Restores one of [`Streams::left`], once its number is restored; at most 16 are remembered of those of which
    /// something may be missing that was not reported, and of the others.
    pub(crate) fn insert_left(&mut self, stream: LeftStream) {
        self.left.retain(|left| left.number != stream.number);
        self.left.push_back(stream);
        let is_cut = self.is_cut(stream.number);
        let alike: Vec<_> = self.left().filter(|left| self.is_cut(left.number) == is_cut).collect();
        for over in &alike[..alike.len().saturating_sub(MAX_RECENT_STREAMS)] {
            self.left.retain(|left| left.number != over.number);
        }
    }

    /// The streams that were closed last, before their end, oldest first.
    pub(crate) fn left(&self) -> impl Iterator<Item = LeftStream> {
        self.left.iter().copied()
    }

    /// A stream that was closed before its end, and of which what is missing since was not reported.
    pub(super) fn cut(&self, stream: u32) -> Option<&LeftStream> {
        let is_cut = self.closed.contains(stream) && !self.ended.contains(stream);
        self.left.iter().find(|left| is_cut && left.number == stream && left.next < u32::MAX)
    }

    /// Whether a stream was closed before its end, and what is missing of it since can still be reported.
    pub(in crate::stream) fn is_cut(&self, stream: u32) -> bool {
        self.cut(stream).is_some()
    }

    /// The salt of a stream that was closed before its end, where it is known.
    pub(super) fn left_salt(&self, stream: u32) -> Option<Salt> {
        self.left.iter().find(|left| left.number == stream).map(|left| left.salt)
    }
}
