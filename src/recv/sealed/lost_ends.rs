//! Streams of which a sender said how they ended, and of which something is missing. It may still be on its way.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::arrival_clock::ArrivalClock;
use super::recalled_wait::RecalledWait;
use super::stall::Stall;
use crate::recv::incoming::{GivenUp, Supply};
use crate::session::SessionId;
use crate::stream::{EndedStream, Progress, StreamId, ToldEnd};

/// How long what is missing may still be on its way.
const LOST_END_TIMEOUT: Duration = Duration::from_secs(1);
/// Most streams that wait. An authentic peer may name any.
const MAX_WAITING: usize = 4096;

/// How long a stream waits.
#[derive(Clone, Copy, Debug)]
enum Wait {
    /// [`LOST_END_TIMEOUT`], since this run was told of it.
    Told(Instant),
    /// As long as the KILL that told of it.
    OfKill,
    /// An earlier run was told of it: the broker may keep what that run did not acknowledge.
    Recalled(RecalledWait),
}

impl Wait {
    /// Since when, if time in which nothing can come is to be added to that.
    fn since_mut(&mut self) -> Option<&mut Instant> {
        match self {
            Self::Told(since) => Some(since),
            Self::Recalled(_) | Self::OfKill => None,
        }
    }

    /// Whether it is cut short with what is given up. The end of a run says nothing of what the broker may keep; once a session
    /// ends, nothing of it is accepted any more.
    fn is_given_up(self, session: SessionId, given_up: GivenUp<'_>) -> bool {
        !matches!((self, given_up), (Self::Recalled(_), GivenUp::All)) && given_up.includes(session)
    }
}

/// The streams that wait.
#[derive(Debug, Default)]
pub(super) struct LostEnds {
    waiting: BTreeMap<StreamId, (EndedStream, Wait)>,
    /// Of those of which this run was told.
    stall: Stall,
    /// Of those of which an earlier one was told.
    clock: ArrivalClock,
    /// More were told than there is room for.
    has_more: bool,
}

impl LostEnds {
    /// A sender said how streams ended that are not complete. They wait from `since` on, or until they are given up.
    pub(super) fn note(&mut self, ended: Vec<EndedStream>, since: Option<Instant>) {
        self.insert(ended, since.map_or(Wait::OfKill, Wait::Told));
    }

    /// An earlier run was told how a stream ended, which waits from [`LostEnds::subscribed`] on. False if there is no room.
    pub(super) fn recall(&mut self, ToldEnd { ended, waited }: ToldEnd, now: Instant) -> bool {
        let wait = RecalledWait::new(waited, self.elapsed(now));
        self.insert(vec![ended], Wait::Recalled(wait));
        self.waiting.contains_key(&ended.stream)
    }

    fn elapsed(&self, now: Instant) -> Duration {
        self.clock.elapsed(now).unwrap_or_default()
    }

    fn insert(&mut self, ended: Vec<EndedStream>, wait: Wait) {
        for ended in ended {
            if self.waiting.len() < MAX_WAITING || self.waiting.contains_key(&ended.stream) {
                self.waiting.entry(ended.stream).or_insert((ended, wait)).0 = ended;
            } else {
                self.has_more = true;
            }
        }
    }

    /// Whether there is room again for more than waited at once: then they are to be recalled.
    pub(super) fn take_more(&mut self) -> bool {
        self.waiting.len() < MAX_WAITING / 2 && std::mem::take(&mut self.has_more)
    }

    fn recalled(&mut self) -> impl Iterator<Item = (&EndedStream, &mut RecalledWait)> {
        self.waiting.values_mut().filter_map(|(ended, wait)| match wait {
            Wait::Recalled(wait) => Some((&*ended, wait)),
            Wait::Told(_) | Wait::OfKill => None,
        })
    }

    /// The broker sends what it keeps from now on.
    pub(super) fn subscribed(&mut self, now: Instant) {
        self.clock.start(now);
    }

    /// A message came for which the broker wants an acknowledgement.
    pub(super) fn arrived(&mut self, now: Instant) {
        self.clock.arrived(now);
    }

    /// A message was accepted: of what an earlier run was told, the rest of its stream may follow, and streams that continue it.
    pub(super) fn received(&mut self, Progress { stream, sequence, .. }: &Progress, now: Instant) {
        let elapsed = self.elapsed(now);
        for (ended, wait) in self.recalled() {
            let is_before = ended.continues.is_some_and(|continues| {
                continues.origin == sequence.origin && sequence.position <= continues.position
            });
            if ended.stream == *stream || is_before {
                wait.restart(elapsed);
            }
        }
    }

    /// A message was left with the broker. What an earlier run was told of the same stream may be lost, and of a later one, which
    /// may continue it: the next run knows.
    pub(super) fn left(&mut self, stream: StreamId) {
        for (ended, wait) in self.recalled() {
            let is_origin = ended.continues.is_some_and(|continues| continues.origin.stream.session == stream.session);
            if is_origin || (ended.stream.session == stream.session && stream.number <= ended.stream.number) {
                wait.left();
            }
        }
    }

    /// A message was accepted that was sent after all of the streams that `is_older` tells.
    pub(super) fn overtaken(&mut self, is_older: impl Fn(StreamId) -> bool, now: Instant) {
        // What comes before SUBACK is sent by a broker that has the subscription.
        self.clock.start(now);
        self.recalled().filter(|(ended, _)| is_older(ended.stream)).for_each(|(_, wait)| wait.overtaken());
    }

    /// How long streams waited of which an earlier run was told, where that is to be written down; where `any` of it is not.
    pub(super) fn take_unrecorded(&mut self, any: bool, now: Instant) -> Vec<(StreamId, Duration)> {
        let elapsed = self.elapsed(now);
        self.recalled().filter_map(|(ended, wait)| Some((ended.stream, wait.take_unrecorded(any, elapsed)?))).collect()
    }

    /// Whether messages can come from the broker from now on.
    pub(super) fn set_supply(&mut self, supply: Supply, now: Instant) {
        self.clock.set_supply(supply, now);
        let waiting = self.waiting.values_mut().filter_map(|(_, wait)| wait.since_mut());
        self.stall.set(supply == Supply::Stalled, now, waiting);
    }

    /// Takes out a stream of which nothing more is waited for, as it waited long enough or is given up. One of which
    /// messages are under way waits for those.
    pub(super) fn take_due(
        &mut self,
        now: Instant,
        given_up: GivenUp<'_>,
        is_under_way: impl Fn(&EndedStream) -> bool,
    ) -> Option<EndedStream> {
        let is_late = |wait: Wait| match wait {
            Wait::Told(since) => self.stall.has_passed(since, LOST_END_TIMEOUT, now),
            Wait::Recalled(wait) => wait.until().is_some_and(|until| self.clock.has_passed(until, now)),
            Wait::OfKill => false,
        };
        let may_go = |stream: StreamId, wait: Wait| is_late(wait) || wait.is_given_up(stream.session, given_up);
        let mut all = self.waiting.iter();
        let due = all.find(|(stream, (ended, wait))| may_go(**stream, *wait) && !is_under_way(ended));
        let stream = *due?.0;
        self.waiting.remove(&stream).map(|(ended, _)| ended)
    }

    /// When [`LostEnds::take_due`] or [`LostEnds::take_unrecorded`] has something, if nothing comes before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let of_wait = |wait: &Wait| match wait {
            Wait::Told(since) => self.stall.deadline(Some(*since), LOST_END_TIMEOUT),
            Wait::Recalled(wait) => wait.next_at().and_then(|at| self.clock.deadline(at)),
            Wait::OfKill => None,
        };
        self.waiting.values().filter_map(|(_, wait)| of_wait(wait)).min()
    }

    /// Whether a stream of a session waits.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        let [first, last] = [0, u32::MAX].map(|number| StreamId { session, number });
        self.waiting.range(first..=last).next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::recalled_wait::RECALLED_TIMEOUT;
    use super::*;
    use crate::stream::{Origin, Sequence, StreamState};

    fn ended(number: u32, count: u32) -> EndedStream {
        EndedStream { stream: StreamId { session: [1; 8], number }, salt: [0; 8], count: Some(count), continues: None }
    }

    const ALL_WRITTEN: fn(&EndedStream) -> bool = |_| false;

    fn take(ends: &mut LostEnds, now: Instant) -> Option<EndedStream> {
        ends.take_due(now, GivenUp::Nothing, ALL_WRITTEN)
    }

    #[test]
    fn a_second_counts_only_while_something_can_come() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        ends.note(vec![ended(1, 5)], Some(start));
        ends.note(vec![ended(1, 6)], Some(start + LOST_END_TIMEOUT / 2));
        assert_eq!((ends.deadline(), take(&mut ends, start)), (Some(start + LOST_END_TIMEOUT), None));
        ends.set_supply(Supply::Stalled, start + LOST_END_TIMEOUT / 2);
        assert_eq!((ends.deadline(), take(&mut ends, start + 5 * LOST_END_TIMEOUT)), (None, None));
        ends.set_supply(Supply::Flowing, start + 5 * LOST_END_TIMEOUT);
        let late = ends.deadline().unwrap();
        assert_eq!(late, start + 5 * LOST_END_TIMEOUT + LOST_END_TIMEOUT / 2);
        assert_eq!(ends.take_due(late, GivenUp::Nothing, |_| true), None, "what is held comes first");
        assert!(ends.involves([1; 8]) && !ends.involves([2; 8]));
        assert_eq!(take(&mut ends, late), Some(ended(1, 6)));
        assert!(!ends.involves([1; 8]));
    }

    /// The message that tells it may come in the same turn of the loop as the new connection.
    #[test]
    fn of_a_stall_only_the_time_counts_in_which_a_stream_waited() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        ends.set_supply(Supply::Stalled, start);
        ends.note(vec![ended(1, 5)], Some(start + 60 * LOST_END_TIMEOUT));
        ends.set_supply(Supply::Flowing, start + 60 * LOST_END_TIMEOUT);
        assert_eq!(ends.deadline(), Some(start + 61 * LOST_END_TIMEOUT));
    }

    #[test]
    fn the_end_of_a_run_waits_for_nothing() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        ends.note((0..2 * u32::try_from(MAX_WAITING).unwrap()).map(|number| ended(number, 1)).collect(), None);
        assert_eq!((ends.deadline(), take(&mut ends, start + 2 * LOST_END_TIMEOUT)), (None, None));
        let given_up = std::iter::from_fn(|| ends.take_due(start, GivenUp::Sessions(&[[1; 8]]), ALL_WRITTEN));
        assert_eq!(given_up.count(), MAX_WAITING);
    }

    fn recalled(number: u32) -> ToldEnd {
        ToldEnd { ended: ended(number, 5), waited: Duration::ZERO }
    }

    /// Else what the broker has of them would be taken for repeated later.
    #[test]
    fn what_an_earlier_run_was_told_of_waits_for_the_broker_and_longer_whatever_ends_the_run() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        assert!([1, 2].map(recalled).into_iter().all(|told| ends.recall(told, start)));
        let at_end = |ends: &mut LostEnds, now| ends.take_due(now, GivenUp::All, ALL_WRITTEN);
        let subscribed = start + 3 * RECALLED_TIMEOUT;
        assert_eq!((ends.deadline(), at_end(&mut ends, subscribed)), (None, None));
        ends.subscribed(subscribed);
        ends.note(vec![ended(1, 6)], Some(subscribed));
        let late = subscribed + RECALLED_TIMEOUT / 2;
        ends.subscribed(late);
        assert_eq!(at_end(&mut ends, late), None);
        let salt = [0; 8];
        let sequence = Sequence::of_origin(Origin { stream: ended(1, 5).stream, salt }, 2);
        let progress = Progress {
            stream: ended(1, 5).stream,
            salt,
            next: 2,
            skip: 0,
            wants_confirms: false,
            state: StreamState::Open,
            sequence,
        };
        ends.received(&progress, late);
        assert_eq!(at_end(&mut ends, subscribed + RECALLED_TIMEOUT), Some(ended(2, 5)));
        assert_eq!(take(&mut ends, subscribed + RECALLED_TIMEOUT), None);
        assert_eq!(take(&mut ends, late + RECALLED_TIMEOUT), Some(ended(1, 6)));
    }

    /// A run that is killed between would wait in vain; and a stall is no wait.
    #[test]
    fn how_long_a_recalled_end_waited_is_written_down_each_second() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut ends = LostEnds::default();
        assert!([1, 2].map(recalled).into_iter().all(|told| ends.recall(told, start)));
        ends.subscribed(start);
        let streams = [1, 2].map(|number| ended(number, 5).stream);
        let both = |time| streams.map(|stream| (stream, time)).to_vec();
        assert_eq!((ends.deadline(), ends.take_unrecorded(false, start)), (Some(start + second), Vec::new()));
        assert_eq!(ends.take_unrecorded(false, start + 2 * second), both(2 * second));
        assert_eq!(
            (ends.deadline(), ends.take_unrecorded(false, start + 5 * second / 2)),
            (Some(start + 3 * second), Vec::new())
        );
        ends.set_supply(Supply::Stalled, start + 5 * second / 2);
        assert_eq!(ends.take_unrecorded(false, start + 60 * second), Vec::new());
        assert_eq!(ends.take_unrecorded(true, start + 60 * second), both(5 * second / 2));
        ends.set_supply(Supply::Flowing, start + 60 * second);
        ends.left(streams[0]);
        assert_eq!(
            ends.take_unrecorded(false, start + 60 * second),
            both(Duration::ZERO),
            "one may continue the other"
        );
        assert_eq!((ends.deadline(), take(&mut ends, start + 600 * second)), (None, None));
    }

    /// A run that goes on would not hear of them again.
    #[test]
    fn what_there_is_no_room_for_is_recalled_later() {
        let start = Instant::now();
        let mut ends = LostEnds::default();
        let count = u32::try_from(MAX_WAITING).unwrap();
        ends.note((0..count).map(|number| ended(number, 1)).collect(), Some(start));
        assert!(!ends.take_more());
        assert!(ends.recall(recalled(0), start) && !ends.recall(recalled(count), start));
        ends.note(vec![ended(0, 2), ended(count, 1)], Some(start));
        assert!(!ends.take_more(), "there is no room yet");
        ends.subscribed(start);
        let late = start + LOST_END_TIMEOUT;
        assert_eq!(std::iter::from_fn(|| take(&mut ends, late)).count(), MAX_WAITING);
        assert!(ends.take_more() && !ends.take_more());
        assert!(ends.recall(recalled(count), late));
        assert_eq!(take(&mut ends, late + RECALLED_TIMEOUT), Some(ended(count, 5)));
    }

    #[test]
    fn what_an_earlier_run_was_told_of_a_session_that_ends_is_not_waited_for() {
        let mut ends = LostEnds::default();
        assert!(ends.recall(recalled(1), Instant::now()));
        let given_up = GivenUp::Sessions(&[[1; 8]]);
        assert_eq!(ends.take_due(Instant::now(), given_up, ALL_WRITTEN), Some(ended(1, 5)));
    }
}
