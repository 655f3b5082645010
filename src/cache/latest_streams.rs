//! The streams that this device sent last, of which a peer is told how they ended (`sts-protocol(7)`, "Lost ends").

use super::StoredSession;
use crate::crypto::key_tree::Salt;
use crate::session::SessionId;
use crate::stream::{Continues, EndedStream, StreamId};

/// Most streams that are listed for a peer; past that, the oldest ones are not listed any more.
const MAX_LISTED: usize = 64;
/// How often the peer is told of a stream, if it is known how many frames that has, and if it is not.
const MAX_TOLD: u8 = 3;
const MAX_TOLD_UNCOUNTED: u8 = 8;

/// A stream of this device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LatestStream {
    /// Its number.
    pub(crate) number: u32,
    /// Its salt.
    pub(crate) salt: Salt,
    /// How it ended, once the run that sent it is over.
    pub(crate) end: Option<StreamEnd>,
    /// How often the peer was told what is known now.
    pub(crate) told: u8,
}

/// How a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamEnd {
    /// How many positions of its sequence it carried.
    pub(crate) count: u32,
    /// What it continued.
    pub(crate) continues: Option<Continues>,
}

/// What is known of a stream once the run that sent it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EndOfStream {
    /// Which one.
    pub(crate) stream: StreamId,
    /// Its salt.
    pub(crate) salt: Salt,
    /// `None` if its peer need not be told, as it has confirmed all of it or lost the session.
    pub(crate) end: Option<StreamEnd>,
}

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

/// The oldest streams of all sessions, at most `max`, for a preamble; what was told often enough is not listed any more.
pub(super) fn tell(sessions: &mut [StoredSession], max: usize) -> Vec<EndedStream> {
    let mut told = Vec::new();
    for stored in sessions.iter_mut().rev() {
        let session = stored.session.id;
        for latest in stored.latest.iter_mut().take(max - told.len()) {
            latest.told += 1;
            let stream = StreamId { session, number: latest.number };
            let (count, continues) = (latest.end.map(|end| end.count), latest.end.and_then(|end| end.continues));
            told.push(EndedStream { stream, salt: latest.salt, count, continues });
        }
        stored.latest.retain(|latest| latest.told < latest.end.map_or(MAX_TOLD_UNCOUNTED, |_| MAX_TOLD));
    }
    told
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
    use super::*;
    use crate::session::{Standing, pair};
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
        assert_eq!(numbers(&tell(&mut sessions, 1)), [(1, 7, None)]);
        assert!(end(&mut sessions, &[old]));
        for _ in 0..3 {
            assert_eq!(numbers(&tell(&mut sessions, 16)), [(1, 7, Some(17)), (2, 0, None)]);
        }
        for _ in 3..8 {
            assert_eq!(numbers(&tell(&mut sessions, 16)), [(2, 0, None)]);
        }
        assert!(tell(&mut sessions, 16).is_empty());
    }

    #[test]
    fn what_ends_after_it_was_told_too_often_is_told_again() {
        let mut sessions = sessions();
        let [first, second] = [0, 1].map(|number| begun(&mut sessions, 0, number));
        for _ in 0..8 {
            assert_eq!(tell(&mut sessions, 16).len(), 2);
        }
        assert!(end(&mut sessions, &[second, first]));
        assert_eq!(numbers(&tell(&mut sessions, 16)), [(2, 0, Some(10)), (2, 1, Some(11))]);
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
