//! The streams that a run is not done with, for its exit status.

use std::collections::{HashMap, HashSet};

use crate::session::SessionId;
use crate::stream::StreamId;

/// Most streams of a session that are expected because another one says that they continue it. As many may be open; so an
/// authentic peer that makes promises and keeps none takes no more memory than one that opens streams.
const MAX_EXPECTED_STREAMS: usize = 1024;
/// Most streams of deleted sessions that are remembered as not complete, for the error of a run that times out.
const MAX_GONE_STREAMS: usize = 16;

/// The streams that this run saw, or that others say continue them, and that are not complete.
#[derive(Default)]
pub(super) struct IncompleteStreams(HashMap<SessionId, HashSet<u32>>);

impl IncompleteStreams {
    /// More is to come of a stream. The receiver bounds how many are open.
    pub(super) fn insert(&mut self, StreamId { session, number }: StreamId) {
        self.0.entry(session).or_default().insert(number);
    }

    /// Another stream says that this one continues it; false where too many are incomplete already, and it is not expected.
    pub(super) fn expect(&mut self, StreamId { session, number }: StreamId) -> bool {
        let of_session = self.0.entry(session).or_default();
        let is_expected = of_session.len() < MAX_EXPECTED_STREAMS || of_session.contains(&number);
        if is_expected {
            of_session.insert(number);
        }
        is_expected
    }

    pub(super) fn contains(&self, StreamId { session, number }: StreamId) -> bool {
        self.0.get(&session).is_some_and(|numbers| numbers.contains(&number))
    }

    /// Nothing more is to come of a stream, or will be accepted.
    pub(super) fn remove(&mut self, StreamId { session, number }: StreamId) {
        if let Some(numbers) = self.0.get_mut(&session) {
            numbers.remove(&number);
        }
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = StreamId> {
        self.0.iter().flat_map(|(&session, numbers)| numbers.iter().map(move |&number| StreamId { session, number }))
    }

    /// Nothing more will come of any stream of a session.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.0.remove(&session);
    }

    /// Forgets most of the streams of sessions that are not `usable` any more: that one is not complete is all that the end of
    /// a run depends on.
    pub(super) fn retain_sessions(&mut self, usable: impl Fn(SessionId) -> bool) {
        self.0.retain(|_, numbers| !numbers.is_empty());
        let mut gone: Vec<_> = self.iter().filter(|stream| !usable(stream.session)).collect();
        if gone.len() > MAX_GONE_STREAMS {
            gone.sort_unstable_by_key(|stream| (stream.number, stream.session));
            for stream in &gone[MAX_GONE_STREAMS..] {
                self.remove(*stream);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_sessions_that_are_deleted_few_streams_are_remembered() {
        let mut streams = IncompleteStreams::default();
        let (usable, deleted) = ([1; 8], [2; 8]);
        for session in [usable, deleted] {
            (0..100).for_each(|number| streams.insert(StreamId { session, number }));
        }
        streams.retain_sessions(|session| session == usable);
        assert_eq!(streams.iter().count(), 100 + MAX_GONE_STREAMS);
        streams.retain_sessions(|_| false);
        let mut left: Vec<_> = streams.iter().map(|stream| stream.number).collect();
        left.sort_unstable();
        assert_eq!((left.len(), left[0]), (MAX_GONE_STREAMS, 0));
    }

    #[test]
    fn what_is_promised_without_end_takes_no_memory_without_end() {
        let mut streams = IncompleteStreams::default();
        let stream = |number| StreamId { session: [1; 8], number };
        let expected = (0..10_000).filter(|number| streams.expect(stream(*number))).count();
        assert_eq!((expected, streams.iter().count()), (MAX_EXPECTED_STREAMS, MAX_EXPECTED_STREAMS));
        assert!(streams.expect(stream(0)) && !streams.expect(stream(10_000)));
        streams.insert(stream(10_000));
        assert!(streams.contains(stream(10_000)), "one of which something came is never left out");
        streams.remove(stream(0));
        streams.remove(stream(10_000));
        assert!(streams.expect(stream(10_001)) && streams.expect(StreamId { session: [2; 8], number: 0 }));
    }
}
