//! Confirms: telling a sender that asks how far standard output took its stream (`sts-protocol(7)`, "Confirms").

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::CryptoRng;

use super::confirm_batch::{Batch, GapReports};
use crate::Result;
use crate::crypto::key_tree::Salt;
use crate::session::{Session, SessionId};
use crate::sessions::LinkSessions;
use crate::stream::{Confirmed, Content, Sender, SideContent, StreamId};

/// How often the sender of a message that is not understood is told so.
const REFUSED_INTERVAL: Duration = Duration::from_secs(1);
/// How long a run that is complete waits for a sender to say that it has heard of the end of its stream.
const SETTLED_TIMEOUT: Duration = Duration::from_secs(30);
/// Most streams whose senders are waited for. Only a run that is complete waits, and that followed one stream, or ended
/// with the last session.
const MAX_UNSETTLED_STREAMS: usize = 256;

/// A stream to confirm, its salt, and the next seq that is wanted of it where nothing of it is remembered any more.
pub(super) type DueConfirm = (StreamId, Salt, u32);

/// What is to be confirmed, and the streams in which that is said: one per session, as confirms are sealed under the
/// session whose streams they name.
#[derive(Default)]
pub(super) struct ConfirmQueue {
    senders: BTreeMap<SessionId, Sender>,
    /// The streams, each with its salt and the next seq that is wanted of it where nothing of it is remembered any
    /// more.
    due: BTreeMap<StreamId, (Salt, u32)>,
    batch: Batch,
    gaps: GapReports,
    /// A stream ended: its sender waits for nothing but the confirm.
    urgent: bool,
    /// Streams that are written to their end, each with the time until which their sender is waited for.
    unsettled: BTreeMap<StreamId, Instant>,
    refused: Unreadable,
}

/// Messages that are not understood, one of each stream.
#[derive(Default)]
struct Unreadable {
    due: BTreeMap<StreamId, (Salt, u32)>,
    /// When the sender of each was told last.
    told: BTreeMap<StreamId, Instant>,
}

impl ConfirmQueue {
    /// Standard output took `bytes` bytes of a stream whose sender asks, the last ones if the stream `ends`.
    pub(super) fn written(&mut self, stream: StreamId, salt: Salt, bytes: usize, ends: bool, now: Instant) {
        self.batch.messages += 1;
        self.batch.bytes += bytes;
        if ends {
            self.urgent = true;
            if self.unsettled.len() >= MAX_UNSETTLED_STREAMS {
                self.unsettled.retain(|_, until| *until > now);
            }
            if self.unsettled.len() < MAX_UNSETTLED_STREAMS {
                self.unsettled.insert(stream, now + SETTLED_TIMEOUT);
            }
        }
        self.repeat(stream, salt, 0, now);
    }

    /// A message came that was too early, or that had come before: its sender lacks our last confirm, of `next`.
    pub(super) fn repeat(&mut self, stream: StreamId, salt: Salt, next: u32, now: Instant) {
        let (known_salt, known) = self.due.entry(stream).or_insert((salt, next));
        (*known_salt, *known) = (salt, next.max(*known));
        self.batch.since.get_or_insert(now);
    }

    /// A stream that is due lacks messages, which is news: one came that is after them. Where nothing is new, the
    /// sender is told as of a duplicate, or anybody who plays messages again could use up the numbers of our side
    /// streams.
    pub(super) fn lacks(&mut self, stream: StreamId, now: Instant) {
        if self.due.contains_key(&stream) {
            self.gaps.note(now);
        }
    }

    /// A message is not understood, which its sender is to be told; false if that was told of its stream within a
    /// second.
    pub(super) fn refuse(&mut self, stream: StreamId, salt: Salt, seq: u32, now: Instant) -> bool {
        self.refused.told.retain(|_, told| now < *told + REFUSED_INTERVAL);
        let Entry::Vacant(entry) = self.refused.told.entry(stream) else { return false };
        entry.insert(now);
        self.refused.due.insert(stream, (salt, seq));
        true
    }

    /// The messages whose senders are to be told now that they are not understood.
    pub(super) fn take_refused(&mut self) -> BTreeMap<StreamId, (Salt, u32)> {
        std::mem::take(&mut self.refused.due)
    }

    /// The sender of a stream has heard that all of it is written.
    pub(super) fn settled(&mut self, stream: StreamId) {
        self.unsettled.remove(&stream);
    }

    /// Until when to stay and confirm again what is written to its end; `None` where all of that is settled.
    pub(super) fn unsettled_until(&self) -> Option<Instant> {
        self.unsettled.values().max().copied()
    }

    /// When [`ConfirmQueue::take_due`] has something, if nothing more happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.batch.deadline().into_iter().chain(self.gaps.due).min()
    }

    /// The streams to confirm at `now`, and whether the confirm must arrive, as the last one of a stream must.
    pub(super) fn take_due(&mut self, all: bool, now: Instant) -> Option<(Vec<DueConfirm>, bool)> {
        let is_late = self.batch.deadline().is_some_and(|deadline| now >= deadline);
        let is_due = all || self.urgent || self.batch.is_full() || is_late || self.gaps.are_due(now);
        if self.due.is_empty() || !is_due {
            return None;
        }
        let must_arrive = all || self.urgent;
        self.urgent = false;
        self.batch.next(is_late);
        self.gaps.due = None;
        let due = std::mem::take(&mut self.due).into_iter().map(|(stream, (salt, next))| (stream, salt, next));
        Some((due.collect(), must_arrive))
    }

    /// Begins another side stream for each session: those that there are may make messages that are too long now.
    pub(super) fn begin_side_streams(&mut self) {
        self.senders.clear();
    }

    /// Forgets sessions that are not `usable` any more, with the keys of their streams of confirms: no confirm can be
    /// sealed.
    pub(super) fn retain_sessions(&mut self, usable: impl Fn(SessionId) -> bool) {
        self.senders.retain(|session, _| usable(*session));
        self.due.retain(|stream, _| usable(stream.session));
        self.unsettled.retain(|stream, _| usable(stream.session));
    }

    /// Whether something is owed under a session.
    pub(super) fn involves(&self, session: SessionId) -> bool {
        let with = |(first, last): (StreamId, StreamId)| first..=last;
        let streams = || with((StreamId { session, number: 0 }, StreamId { session, number: u32::MAX }));
        self.due.range(streams()).next().is_some()
            || self.unsettled.range(streams()).next().is_some()
            || self.refused.due.range(streams()).next().is_some()
    }

    /// Forgets the side stream of a session under which nothing is owed: the next confirm begins another one.
    pub(super) fn forget_session(&mut self, session: SessionId) {
        self.senders.remove(&session);
    }

    /// Seals how far streams of one session are written, after what else is here of some of them.
    ///
    /// # Errors
    /// As [`ConfirmQueue::seal_one`].
    pub(super) fn seal(
        &mut self,
        session: &Session,
        (wanted, mut sacks): (&[Confirmed], Vec<SideContent>),
        max_message: usize,
        sessions: &LinkSessions,
        rng: &mut impl CryptoRng,
    ) -> Result<Vec<Bytes>> {
        let sender = self.sender(session.id, || sessions.begin_side_stream(session, max_message))?;
        let parts = wanted.chunks(sender.max_confirmed_streams());
        for content in &mut sacks {
            if let SideContent::Sack { ranges, .. } = content {
                ranges.truncate(sender.max_sack_ranges());
            }
        }
        let confirms = parts.map(|part| SideContent::Confirm(part.to_vec()));
        let said = sacks.into_iter().chain(confirms).map(Content::Side);
        said.map(|content| sender.seal(&content, None, sender.buffer(0), rng)).collect()
    }

    /// Seals anything that is said in a side stream.
    ///
    /// # Errors
    /// As [`LinkSessions::begin_side_stream`], the first time for a session; as [`Sender::seal`].
    pub(super) fn seal_one(
        &mut self,
        session: &Session,
        said: SideContent,
        max_message: usize,
        sessions: &LinkSessions,
        rng: &mut impl CryptoRng,
    ) -> Result<Bytes> {
        let sender = self.sender(session.id, || sessions.begin_side_stream(session, max_message))?;
        sender.seal(&Content::Side(said), None, sender.buffer(0), rng)
    }

    /// The side stream of a session, where there is none with room for a message: the one that `begin` makes.
    fn sender(&mut self, session: SessionId, begin: impl FnOnce() -> Result<Sender>) -> Result<&mut Sender> {
        Ok(match self.senders.entry(session) {
            Entry::Occupied(mut entry) => {
                if entry.get().is_full() {
                    entry.insert(begin()?);
                }
                entry.into_mut()
            }
            Entry::Vacant(entry) => entry.insert(begin()?),
        })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::super::confirm_batch::{BATCHES_PER_GROWTH, GAP_INTERVAL, MAX_BATCH, MAX_UNCONFIRMED_BYTES};
    use super::*;
    use crate::session::pair;
    use crate::stream::MAX_CONFIRM_DELAY;
    use crate::stream::{FIRST_SIDE_STREAM, ReservedStream};
    use crate::suite::Suite;

    const SALT: Salt = [7; 8];
    const STREAM: StreamId = StreamId { session: [7; 8], number: 3 };

    #[test]
    fn confirms_go_together_but_never_wait_long() {
        let now = Instant::now();
        let mut confirms = ConfirmQueue::default();
        assert_eq!(confirms.take_due(true, now), None);
        let due = Some((vec![(STREAM, SALT, 0)], false));
        for size in 1..=MAX_BATCH {
            for _ in 0..BATCHES_PER_GROWTH {
                for _ in 1..size {
                    confirms.written(STREAM, SALT, 10, false, now);
                    assert_eq!(confirms.take_due(false, now), None);
                }
                confirms.written(STREAM, SALT, 10, false, now);
                assert_eq!(confirms.take_due(false, now), due);
                assert_eq!(confirms.deadline(), None);
            }
        }
        assert_eq!(confirms.batch.size, MAX_BATCH);

        confirms.written(STREAM, SALT, MAX_UNCONFIRMED_BYTES, false, now);
        assert_eq!(confirms.take_due(false, now), Some((vec![(STREAM, SALT, 0)], false)));

        (0..5).for_each(|_| confirms.written(STREAM, SALT, 10, false, now));
        assert_eq!(confirms.take_due(false, now + MAX_CONFIRM_DELAY / 2), None);
        assert_eq!(confirms.take_due(false, now + MAX_CONFIRM_DELAY), due);
        (0..5).for_each(|_| confirms.written(STREAM, SALT, 10, false, now));
        assert_eq!(confirms.take_due(false, now), due, "as many as came at once");

        confirms.repeat(STREAM, SALT, 0, now);
        assert_eq!(confirms.take_due(false, now), None);
        confirms.lacks(STREAM, now);
        assert_eq!(confirms.take_due(false, now), due);
        confirms.repeat(STREAM, SALT, 0, now);
        confirms.lacks(STREAM, now);
        assert_eq!(confirms.take_due(false, now), None);
        assert_eq!(confirms.deadline(), Some(now + GAP_INTERVAL));
        assert_eq!(confirms.take_due(false, now + GAP_INTERVAL), due);
    }

    #[test]
    fn a_stream_that_ended_is_answered_for_until_its_sender_has_heard() {
        let now = Instant::now();
        let mut confirms = ConfirmQueue::default();
        confirms.written(STREAM, SALT, 10, false, now);
        assert_eq!(confirms.unsettled_until(), None);
        confirms.written(STREAM, SALT, 10, true, now);
        confirms.repeat(STREAM, SALT, 0, now + SETTLED_TIMEOUT / 2);
        assert_eq!(confirms.unsettled_until(), Some(now + SETTLED_TIMEOUT), "what is played again keeps nobody");
        confirms.settled(StreamId { number: 4, ..STREAM });
        assert_eq!(confirms.unsettled_until(), Some(now + SETTLED_TIMEOUT));
        confirms.settled(STREAM);
        assert_eq!(confirms.unsettled_until(), None);
    }

    #[test]
    fn streams_that_nobody_settles_are_forgotten() {
        let start = Instant::now();
        let mut confirms = ConfirmQueue::default();
        for tick in 0..10 * u32::try_from(MAX_UNSETTLED_STREAMS).unwrap() {
            confirms.written(
                StreamId { number: tick, ..STREAM },
                SALT,
                0,
                true,
                start + Duration::from_millis(tick.into()),
            );
            assert!(confirms.unsettled.len() <= MAX_UNSETTLED_STREAMS);
        }
        let late = start + Duration::from_secs(60);
        confirms.written(STREAM, SALT, 0, true, late);
        assert_eq!(confirms.unsettled_until(), Some(late + SETTLED_TIMEOUT));
        assert_eq!(confirms.unsettled.len(), 1);
    }

    #[test]
    fn a_side_stream_without_numbers_is_followed_by_another() {
        let (session, _) = pair(1, Suite::Gcm);
        let begin = |count: u32| {
            let side = session.send.side.clone();
            let reserved = ReservedStream::of_side(session.id, FIRST_SIDE_STREAM + count, side);
            Sender::new(&session, reserved, SALT, 256)
        };
        let mut confirms = ConfirmQueue::default();
        let mut rng = StdRng::seed_from_u64(1);
        confirms.sender(session.id, || begin(0)).unwrap().jump(Sender::MAX_SEQ - 1);
        for expected in [0, 1, 1] {
            let sender = confirms.sender(session.id, || begin(1)).unwrap();
            assert_eq!(sender.id().number, FIRST_SIDE_STREAM + expected);
            let confirm = Content::Side(SideContent::Confirm(Vec::new()));
            sender.seal(&confirm, None, sender.buffer(0), &mut rng).unwrap();
        }
    }

    #[test]
    fn with_a_session_go_its_keys_and_what_is_owed_under_it() {
        let now = Instant::now();
        let mut confirms = ConfirmQueue::default();
        for seed in [1, 2] {
            let (session, _) = pair(seed, Suite::Gcm);
            let stream = StreamId { session: session.id, number: 0 };
            let reserved = ReservedStream::of_side(session.id, FIRST_SIDE_STREAM, session.send.side.clone());
            let sender = Sender::new(&session, reserved, [0; 8], 256).unwrap();
            confirms.senders.insert(session.id, sender);
            confirms.written(stream, SALT, 10, true, now);
        }
        let kept = pair(2, Suite::Gcm).0.id;
        confirms.retain_sessions(|id| id == kept);
        assert_eq!(confirms.senders.keys().collect::<Vec<_>>(), [&kept]);
        assert_eq!(confirms.unsettled.len(), 1);
        assert_eq!(confirms.take_due(true, now), Some((vec![(StreamId { session: kept, number: 0 }, SALT, 0)], true)));
        confirms.retain_sessions(|_| false);
        assert!(confirms.senders.is_empty() && confirms.unsettled_until().is_none());
    }

    #[test]
    fn what_is_not_understood_is_told_once_a_second() {
        let now = Instant::now();
        let mut confirms = ConfirmQueue::default();
        let mut told = |seq, after| {
            let is_news = confirms.refuse(STREAM, SALT, seq, now + after);
            let told = confirms.take_refused().into_iter().collect::<Vec<_>>();
            assert_eq!(is_news, !told.is_empty());
            told
        };
        assert_eq!(told(7, Duration::ZERO), [(STREAM, (SALT, 7))]);
        assert_eq!(told(7, REFUSED_INTERVAL / 2), []);
        assert_eq!(told(8, REFUSED_INTERVAL), [(STREAM, (SALT, 8))]);
    }

    #[test]
    fn the_end_of_a_stream_is_confirmed_at_once() {
        let now = Instant::now();
        let mut confirms = ConfirmQueue::default();
        confirms.written(STREAM, SALT, 0, true, now);
        assert_eq!(confirms.take_due(false, now), Some((vec![(STREAM, SALT, 0)], true)));
    }
}
