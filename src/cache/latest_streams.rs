//! The streams that this device sent last, of which a peer is told how they ended (`sts-protocol(7)`, "Lost ends").

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::StoredSession;
use super::stream_end::{EndOfStream, LatestStream};
use crate::crypto::key_tree::Salt;
use crate::session::SessionId;
use crate::stream::{EndedStream, can_tell};

/// Most streams that are listed for a peer; past that, the oldest ones are not listed any more.
const MAX_LISTED: usize = 64;
/// How often the peer is told of a stream, if it is known how many frames that has, and if it is not.
const MAX_TOLD: u8 = 3;
const MAX_TOLD_UNCOUNTED: u8 = 8;

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

/// The streams that the preamble of a message of at most `max_message` bytes tells, oldest first; those that were told
/// often enough are no longer listed.
///
/// If there is no room for all, those that were told least often come first, and among these the newest: if the number
/// before the stream that begins now was taken and not used, a receiver that is not told so at once reports it as lost.
pub(super) fn tell(sessions: &mut [StoredSession], max_message: usize) -> Vec<EndedStream> {
    let listed =
        || sessions.iter().rev().flat_map(|stored| stored.latest.iter().map(|latest| (stored.session.id, latest)));
    let mut by_priority: Vec<_> = listed().enumerate().collect();
    by_priority.sort_by_key(|&(age, (_, latest))| (latest.told, Reverse(age)));
    let mut told = BTreeMap::new();
    for (age, (session, latest)) in by_priority {
        told.insert(age, latest.ended(session));
        if !can_tell(&told.values().copied().collect::<Vec<_>>(), max_message) {
            told.remove(&age);
        }
    }
    let latest = sessions.iter_mut().rev().flat_map(|stored| &mut stored.latest);
    latest.enumerate().filter(|(age, _)| told.contains_key(age)).for_each(|(_, latest)| latest.told += 1);
    for stored in sessions {
        stored.latest.retain(|latest| latest.told < latest.end.map_or(MAX_TOLD_UNCOUNTED, |_| MAX_TOLD));
    }
    told.into_values().collect()
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
    use crate::stream::{Continues, Origin, StreamId};
    use crate::suite::Suite;

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
    fn the_oldest_are_told_first_and_each_three_times_once_its_count_is_known() {
        let mut sessions = sessions();
        begun(&mut sessions, 0, 0);
        let old = begun(&mut sessions, 1, 7);
        assert!(end(&mut sessions, &[old]));
        for _ in 0..3 {
            assert_eq!(numbers(&tell(&mut sessions, 8192)), [(1, 7, Some(17)), (2, 0, None)]);
        }
        for _ in 3..8 {
            assert_eq!(numbers(&tell(&mut sessions, 8192)), [(2, 0, None)]);
        }
        assert!(tell(&mut sessions, 8192).is_empty());
    }

    /// A device that begins one stream after another tells each of them three times, as with longer messages.
    #[test]
    fn a_short_message_tells_the_last_three_streams() {
        let mut sessions = sessions();
        for number in 0..9 {
            let told = numbers(&tell(&mut sessions, 256));
            let expected = (number.max(3) - 3..number).map(|number| (2, number, Some(number + 10)));
            assert_eq!(told, expected.collect::<Vec<_>>());
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
        for expected in [2, 1, 0, 2, 1, 0, 2, 1, 0] {
            assert_eq!(numbers(&tell(&mut sessions, 8191)), [(2, expected, Some(0))]);
        }
        assert!(tell(&mut sessions, 8191).is_empty());
    }

    #[test]
    fn what_ends_after_it_was_told_too_often_is_told_again() {
        let mut sessions = sessions();
        let [first, second] = [0, 1].map(|number| begun(&mut sessions, 0, number));
        for _ in 0..8 {
            assert_eq!(tell(&mut sessions, 8192).len(), 2);
        }
        assert!(end(&mut sessions, &[second, first]));
        assert_eq!(numbers(&tell(&mut sessions, 8192)), [(2, 0, Some(10)), (2, 1, Some(11))]);
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
