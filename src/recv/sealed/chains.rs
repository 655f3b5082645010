//! Chains: streams that continue each other, which are one stream to standard output (`sts-protocol(7)`, "The
//! receiver").
//!
//! A chain is known by its head, the first of its streams. There are two ways to be in one. A stream that carries on a
//! sequence is in the chain of the sequence's origin: the receiver knows that, of every session, from the state file. A
//! stream in which another one is [continued](crate::stream::Content::Continued) begins a sequence of its own; that it
//! is of the same chain is known here only, in this run.

use std::collections::HashMap;

use crate::session::SessionId;
use crate::stream::StreamId;

/// Entries from which on it is time to forget streams that are over.
const MIN_CROWD: usize = 1024;
/// Most entries of a session: as many as streams can be open, held and expected, and some that are over. Any other
/// stream is a chain of its own.
const MAX_LINKS: usize = 4096;

/// The streams that continue others. All streams of a chain are of one peer.
pub(super) struct Chains {
    /// Of each stream that continues another, the head of its chain: the first stream.
    heads: HashMap<StreamId, StreamId>,
    /// The same the other way round, so that a link costs nothing for the streams of other chains.
    followers: HashMap<StreamId, Vec<StreamId>>,
    /// How many entries a session has.
    counts: HashMap<SessionId, usize>,
    /// How many entries are a crowd.
    crowd: usize,
}

impl Chains {
    pub(super) fn new() -> Self {
        Self { heads: HashMap::new(), followers: HashMap::new(), counts: HashMap::new(), crowd: MIN_CROWD }
    }

    /// The head of the chain that a stream is in: the stream itself, if it continues no other.
    pub(super) fn head_of(&self, stream: StreamId) -> StreamId {
        self.heads.get(&stream).copied().unwrap_or(stream)
    }

    /// A stream continues another one, and so do the streams that are known to continue it. The first link of a stream
    /// counts.
    pub(super) fn link(&mut self, stream: StreamId, predecessor: StreamId) {
        let head = self.head_of(predecessor);
        let count = self.counts.entry(stream.session).or_default();
        if head == stream || self.heads.contains_key(&stream) || *count >= MAX_LINKS {
            return;
        }
        *count += 1;
        let mut moved = self.followers.remove(&stream).unwrap_or_default();
        moved.push(stream);
        for follower in &moved {
            self.heads.insert(*follower, head);
        }
        self.followers.entry(head).or_default().append(&mut moved);
    }

    /// Whether there are so many entries that those of streams that are over are to be forgotten. What is kept doubles
    /// the crowd, so that looking through all costs each link no more than a few steps.
    pub(super) fn is_crowded(&self) -> bool {
        self.heads.len() >= self.crowd
    }

    /// Forgets the streams that are not `needed` any more.
    pub(super) fn retain(&mut self, needed: impl Fn(StreamId) -> bool) {
        self.heads.retain(|stream, _| needed(*stream));
        self.followers.clear();
        self.counts.clear();
        for (stream, head) in &self.heads {
            *self.counts.entry(stream.session).or_default() += 1;
            self.followers.entry(*head).or_default().push(*stream);
        }
        self.crowd = MIN_CROWD.max(2 * self.heads.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: u32) -> StreamId {
        StreamId { session: [1; 8], number }
    }

    #[test]
    fn a_chain_has_one_head_in_whatever_order_its_links_become_known() {
        for links in [[(1, 0), (2, 1), (3, 2)], [(3, 2), (2, 1), (1, 0)], [(2, 1), (1, 0), (3, 2)]] {
            let mut chains = Chains::new();
            for (next, previous) in links {
                chains.link(stream(next), stream(previous));
            }
            assert!((0..4).all(|number| chains.head_of(stream(number)) == stream(0)), "{links:?}");
            chains.link(stream(0), stream(3));
            chains.link(stream(3), stream(9));
            assert_eq!(chains.head_of(stream(3)), stream(0), "neither a ring nor a second predecessor");
        }
    }

    #[test]
    fn streams_that_are_over_are_forgotten_before_they_are_many() {
        let mut chains = Chains::new();
        for number in 1..20_000 {
            chains.link(stream(number), stream(number - 1));
            if chains.is_crowded() {
                chains.retain(|of| of == stream(number));
            }
            assert_eq!(chains.head_of(stream(number)), stream(0));
            assert!(chains.heads.len() <= MIN_CROWD);
        }
        chains.retain(|_| false);
        assert!(chains.heads.is_empty() && chains.followers.is_empty() && chains.counts.is_empty());
    }

    #[test]
    fn a_session_whose_streams_are_never_over_has_so_many_links_and_no_more() {
        let mut chains = Chains::new();
        for number in 0..20_000 {
            chains.link(stream(2 * number + 1), stream(2 * number));
            if chains.is_crowded() {
                chains.retain(|_| true);
            }
        }
        assert_eq!(chains.heads.len(), MAX_LINKS);
        let (other, before) = (StreamId { session: [2; 8], number: 1 }, StreamId { session: [2; 8], number: 0 });
        chains.link(other, before);
        assert_eq!(chains.head_of(other), before, "another session has links of its own");
    }
}
