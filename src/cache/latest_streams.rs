//! The streams that this device sent last, of which a peer is told how they ended (`sts-protocol(7)`, "Lost ends").

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::StoredSession;
use super::stream_end::{EndOfStream, LatestStream};
use crate::crypto::key_tree::Salt;
use crate::session::SessionId;
use crate::stream::{EndedStream, StreamId, can_tell};

/// Most streams that are listed for a peer; past that, the oldest ones are not listed any more.
const MAX_LISTED: usize = 64;
/// How often the peer is told of a stream of which it is not known how many frames it has.
const MAX_TOLD_UNCOUNTED: u8 = 8;
/// The streams that tell of one whose count is known follow it at these distances; from the last of them on, the distance
/// doubles each time. So it is told until it leaves the list, however many messages in a row are lost. There are only
/// six distances up to [`MAX_LISTED`], because the first message of each run carries what is told at all of them.
const FIRST_DISTANCES: [usize; 3] = [1, 2, 6];

/// Writes down how streams ended; false where that changes nothing.
pub(super) fn end(sessions: &mut [StoredSession], ends: &[EndOfStream]) -> bool {
    let mut changed = false;
    for EndOfStream { stream, salt, end } in ends {
        let Some(stored) = sessions.iter_mut().find(|stored| stored.session.id == stream.session) else { continue };
        let before = stored.latest.len();
        stored.latest.retain(|latest| latest.number != stream.number);
        changed |= end.is_some() || stored.latest.len() < before;
        // Even one that was told too often without: what is known now is news.
        let latest = end.map(|_| LatestStream { number: stream.number, salt: *salt, end: *end, told: 0 });
        let at = stored.latest.partition_point(|other| other.number < stream.number);
        stored.latest.splice(at..at, latest);
    }
    limit(sessions);
    changed
}

/// Lists a stream that begins.
pub(super) fn begin(sessions: &mut [StoredSession], session: SessionId, number: u32, salt: Salt) {
    if let Some(stored) = sessions.iter_mut().find(|stored| stored.session.id == session) {
        stored.latest.push(LatestStream { number, salt, end: None, told: 0 });
    }
    limit(sessions);
}

/// The streams that the preamble of `teller`, in a message of at most `max_message` bytes, tells, oldest first, of those
/// whose time has come.
///
/// If there is no room for all, those that were told least often come first, and among these the newest: if the number
/// before the stream that begins now was taken and not used, a receiver that is not told so at once reports it as lost.
pub(super) fn tell(sessions: &mut [StoredSession], teller: StreamId, max_message: usize) -> Vec<EndedStream> {
    let listed =
        || sessions.iter().rev().flat_map(|stored| stored.latest.iter().map(|latest| (stored.session.id, latest)));
    let count = listed().count();
    let is_due = |age: usize, latest: &LatestStream| latest.end.is_none() || count - age >= distance(latest.told);
    let mut by_priority: Vec<_> = listed().enumerate().filter(|&(age, (_, latest))| is_due(age, latest)).collect();
    by_priority.sort_by_key(|&(age, (_, latest))| (latest.told, Reverse(age)));
    let mut told = BTreeMap::new();
    for (age, (session, latest)) in by_priority {
        told.insert(age, latest.ended(session));
        if !can_tell(&told.values().copied().collect::<Vec<_>>(), teller, max_message) {
            told.remove(&age);
        }
    }
    let latest = sessions.iter_mut().rev().flat_map(|stored| &mut stored.latest);
    latest.enumerate().filter(|(age, _)| told.contains_key(age)).for_each(|(_, latest)| latest.told += 1);
    for stored in sessions {
        stored.latest.retain(|latest| latest.end.is_some() || latest.told < MAX_TOLD_UNCOUNTED);
    }
    told.into_values().collect()
}

/// How many streams must be listed after one, with the one that begins, before that is told again.
fn distance(told: u8) -> usize {
    let last = FIRST_DISTANCES.len() - 1;
    match FIRST_DISTANCES.get(usize::from(told)) {
        Some(distance) => *distance,
        None => FIRST_DISTANCES[last].saturating_mul(1 << (usize::from(told) - last).min(32)),
    }
}

/// Sessions are newest first, their streams oldest first.
fn limit(sessions: &mut [StoredSession]) {
    let listed: usize = sessions.iter().map(|stored| stored.latest.len()).sum();
    let mut excess = listed.saturating_sub(MAX_LISTED);
    for stored in sessions.iter_mut().rev() {
        let dropped = excess.min(stored.latest.len());
        stored.latest.drain(..dropped);
        excess -= dropped;
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream_end::StreamEnd;
    use super::*;
    use crate::session::{Standing, pair};
    use crate::stream::{Continues, Origin};
    use crate::suite::Suite;

    /// A stream of a session of its own.
    const TELLER: StreamId = StreamId { session: [3; 8], number: 1 };

    fn sessions() -> Vec<StoredSession> {
        [2, 1].map(|seed| StoredSession::new(&pair(seed, Suite::Gcm).0, Standing::Current)).into()
    }

    fn numbers(told: &[EndedStream]) -> Vec<(u8, u32, Option<u32>)> {
        told.iter().map(|told| (told.stream.session[0], told.stream.number, told.count)).collect()
    }

    fn begun(sessions: &mut [StoredSession], at: usize, number: u32) -> EndOfStream {
        let (session, salt) = (sessions[at].session.id, [9; 8]);
        begin(sessions, session, number, salt);
        let end = Some(StreamEnd { count: number + 10, continues: None });
        EndOfStream { stream: StreamId { session, number }, salt, end }
    }

    #[test]
    fn the_oldest_are_told_first_and_one_without_a_count_eight_times() {
        let mut sessions = sessions();
        begun(&mut sessions, 0, 0);
        let old = begun(&mut sessions, 1, 7);
        assert!(end(&mut sessions, &[old]));
        for _ in 0..2 {
            assert_eq!(numbers(&tell(&mut sessions, TELLER, 8192)), [(1, 7, Some(17)), (2, 0, None)]);
        }
        for _ in 2..8 {
            assert_eq!(numbers(&tell(&mut sessions, TELLER, 8192)), [(2, 0, None)]);
        }
        assert!(tell(&mut sessions, TELLER, 8192).is_empty());
    }

    /// However many messages in a row a broker's queue drops, a later one tells it.
    #[test]
    fn one_with_a_count_is_told_at_distances_that_grow_until_it_leaves_the_list() {
        let mut sessions = sessions();
        let first = begun(&mut sessions, 0, 0);
        assert!(end(&mut sessions, &[first]));
        let mut told_to = Vec::new();
        for number in 1..200 {
            let told = tell(&mut sessions, TELLER, 1 << 20);
            told_to.extend(told.iter().any(|told| told.stream.number == 0).then_some(number));
            let ended = begun(&mut sessions, 0, number);
            assert!(end(&mut sessions, &[ended]));
        }
        assert_eq!(told_to, [1, 2, 6, 12, 24, 48]);
        assert_eq!([0, 1, 2, 3, 4, 255].map(distance), [1, 2, 6, 12, 24, 6 << 32]);
    }

    /// A device that begins one stream after another in a session tells each of them at six distances; a short message
    /// has no room for the farthest one.
    #[test]
    fn a_short_message_has_room_for_five_streams_of_its_session() {
        let mut sessions = sessions();
        let session = sessions[0].session.id;
        for number in 0..60 {
            let told = numbers(&tell(&mut sessions, StreamId { session, number }, 256));
            let due = [24, 12, 6, 2, 1].into_iter().filter_map(|distance| number.checked_sub(distance));
            assert_eq!(told, due.map(|number| (2, number, Some(number + 10))).collect::<Vec<_>>());
            let ended = begun(&mut sessions, 0, number);
            assert!(end(&mut sessions, &[ended]));
        }
    }

    /// If the receiver is not told that the newest carried nothing, it reports that one as lost.
    #[test]
    fn what_was_not_told_comes_before_what_was_and_the_newest_before_older_ones() {
        let mut sessions = sessions();
        let origin = Origin { stream: StreamId { session: sessions[0].session.id, number: 0 }, salt: [9; 8] };
        for number in 0..3 {
            let mut ended = begun(&mut sessions, 0, number);
            ended.end = Some(StreamEnd { count: 0, continues: Some(Continues { origin, position: 5 }) });
            assert!(end(&mut sessions, &[ended]));
        }
        // There is room for one that continued another one.
        for expected in [2, 1, 0, 1, 0] {
            assert_eq!(numbers(&tell(&mut sessions, TELLER, 8191)), [(2, expected, Some(0))]);
        }
        assert!(tell(&mut sessions, TELLER, 8191).is_empty());
    }

    #[test]
    fn what_ends_after_it_was_told_too_often_is_told_again() {
        let mut sessions = sessions();
        let [first, second] = [0, 1].map(|number| begun(&mut sessions, 0, number));
        for _ in 0..8 {
            assert_eq!(tell(&mut sessions, TELLER, 8192).len(), 2);
        }
        assert!(end(&mut sessions, &[second, first]));
        assert_eq!(numbers(&tell(&mut sessions, TELLER, 8192)), [(2, 0, Some(10)), (2, 1, Some(11))]);
    }

    #[test]
    fn what_is_confirmed_or_lost_is_not_told_and_the_rest_is_bounded() {
        let mut sessions = sessions();
        let ends: Vec<_> = (0..80).map(|number| begun(&mut sessions, usize::from(number < 40), number)).collect();
        let listed = |sessions: &[StoredSession]| sessions.iter().map(|stored| stored.latest.len()).collect::<Vec<_>>();
        assert_eq!(listed(&sessions), [40, 24]);
        let settled: Vec<_> = ends.iter().map(|end| EndOfStream { end: None, ..*end }).collect();
        assert!(end(&mut sessions, &settled[20..]));
        assert_eq!(listed(&sessions), [0, 4]);
        assert!(!end(&mut sessions, &settled[20..]));
        let foreign = EndOfStream { stream: StreamId { session: [7; 8], number: 1 }, ..ends[0] };
        assert!(!end(&mut sessions, &[foreign]), "its session is gone");
    }
}
