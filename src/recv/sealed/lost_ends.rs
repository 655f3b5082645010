//! Streams of which a sender said how they ended, and of which something is missing. It may still be on its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::stall::Stall;
use crate::session::SessionId;
use crate::stream::{EndedStream, StreamId};

/// How long what is missing may still be on its way.
const LOST_END_TIMEOUT: Duration = Duration::from_secs(1);
/// Most streams that wait. An authentic peer may name any.
pub(super) const MAX_WAITING: usize = 4096;

/// The streams that wait, each since it was named first; those that a KILL names, as long as that waits.
#[derive(Debug, Default)]
pub(super) struct LostEnds {
    waiting: BTreeMap<StreamId, (EndedStream, Option<Instant>)>,
    stall: Stall,
}

impl LostEnds {
    /// A sender said how streams ended that are not complete. They wait from `since` on, or until they are given up.
    pub(super) fn note(&mut self, ended: Vec<EndedStream>, since: Option<Instant>) {
        for ended in ended {
            if self.waiting.len() < MAX_WAITING {
                self.waiting.entry(ended.stream).or_insert((ended, since)).0 = ended;
            }
        }
    }

    /// Nothing can come from the broker from now on, or something can again; the time between does not count.
    pub(super) fn set_stalled(&mut self, stalled: bool, now: Instant) {
        if let Some(missed) = self.stall.set(stalled, now) {
            for since in self.waiting.values_mut().filter_map(|(_, since)| since.as_mut()) {
                *since += missed;
            }
        }
    }

    /// Takes out a stream of which nothing more is waited for, as it waited long enough or is given up. One of which
    /// messages are under way waits for those.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        is_given_up: impl Fn(SessionId) -> bool,
        is_under_way: impl Fn(&EndedStream) -> bool,
    ) -> Option<EndedStream> {
        let is_late = |since| self.stall.has_passed(since, LOST_END_TIMEOUT, now);
        let may_go =
            |stream: StreamId, since: Option<Instant>| since.is_some_and(is_late) || is_given_up(stream.session);
        let mut all = self.waiting.iter();
        let due = all.find(|(stream, (ended, since))| may_go(**stream, *since) && !is_under_way(ended));
        let stream = *due?.0;
        self.waiting.remove(&stream).map(|(ended, _)| ended)
    }

    /// When [`LostEnds::take_due`] has something, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.stall.deadline(self.waiting.values().filter_map(|(_, since)| *since).min(), LOST_END_TIMEOUT)
    }

    /// Whether a stream of a session waits.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        self.waiting.keys().any(|stream| stream.session == session)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(number: u32, count: u32) -> EndedStream {
        EndedStream { stream: StreamId { session: [1; 8], number }, salt: [0; 8], count: Some(count), continues: None }
    }

    #[test]
    fn a_second_counts_only_while_something_can_come() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        let due = |ends: &mut LostEnds, now| ends.take_due(now, |_| false, |_| false);
        ends.note(vec![ended(1, 5)], Some(start));
        ends.note(vec![ended(1, 6)], Some(start + LOST_END_TIMEOUT / 2));
        assert_eq!((ends.deadline(), due(&mut ends, start)), (Some(start + LOST_END_TIMEOUT), None));
        ends.set_stalled(true, start + LOST_END_TIMEOUT / 2);
        assert_eq!((ends.deadline(), due(&mut ends, start + 5 * LOST_END_TIMEOUT)), (None, None));
        ends.set_stalled(false, start + 5 * LOST_END_TIMEOUT);
        let late = ends.deadline().unwrap();
        assert_eq!(late, start + 5 * LOST_END_TIMEOUT + LOST_END_TIMEOUT / 2);
        assert_eq!(ends.take_due(late, |_| false, |_| true), None, "what is held comes first");
        assert!(ends.involves([1; 8]) && !ends.involves([2; 8]));
        assert_eq!(due(&mut ends, late), Some(ended(1, 6)));
        assert!(!ends.involves([1; 8]));
    }

    #[test]
    fn the_end_of_a_run_waits_for_nothing() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        ends.note((0..2 * u32::try_from(MAX_WAITING).unwrap()).map(|number| ended(number, 1)).collect(), None);
        assert_eq!((ends.deadline(), ends.take_due(start + 2 * LOST_END_TIMEOUT, |_| false, |_| false)), (None, None));
        let given_up = std::iter::from_fn(|| ends.take_due(start, |session| session == [1; 8], |_| false));
        assert_eq!(given_up.count(), MAX_WAITING);
    }
}
