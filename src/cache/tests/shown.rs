//! Claim: what is shown of a link is what was received, as far as it can be read.

use std::convert::Infallible;

use super::super::checked_line::put_line;
use super::super::status::StatusReader;
use super::*;
use crate::stream::Gap;

#[test]
fn all_gaps_are_counted_and_the_latest_ones_are_kept_one_by_one() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let stream = StreamId { session: session(1).id, number: 0 };
    let gap = |at: u32| Gap { stream, first: 10 * at, last: 10 * at + 1 };
    let (mut journal, _) = receive(&cache).unwrap();
    for at in 0..40 {
        journal.record_and_mark(&cache, &[JournalEntry::Lost(gap(at))], NOW).unwrap();
    }
    drop(journal);
    let received = &status(&cache, NOW).sessions[0].received;
    assert_eq!((received.gaps, received.lost), (40, 80));
    assert!(received.latest.iter().copied().eq((24..40).map(gap)), "{:?}", received.latest);
}

/// A file in which a session has no peer is whole.
#[test]
fn a_peer_that_the_state_does_not_name_has_its_total_when_its_session_is_gone() {
    let (_home, cache) = cache();
    let Session { id, peer, .. } = session(1);
    cache.store_current(&session(1), NOW).unwrap();
    let mut text = String::new();
    put_line(&mut text, "sts-receive-state-3 gateway");
    put_line(&mut text, &format!("n {} w 2 30", hex(&id)));
    let path = cache.dir().join("gateway@recv");
    fs::write(&path, text).unwrap();
    chmod(&path, 0o600);
    drop(receive(&cache).unwrap());
    assert_eq!(cache.delete(&peer, &[id]).unwrap(), 1);
    drop(receive(&cache).unwrap());
    let totals = Totals { messages: 2, bytes: 30, ..Totals::default() };
    assert_eq!(status(&cache, NOW).past, [(peer, totals)].into());
}

/// A session may be deleted after the directory was read.
#[test]
fn a_peer_whose_file_is_gone_is_not_shown() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let peers = vec![[9; 16], peer_key(&session(1).peer), [0xff; 16]];
    let status = super::super::status::status(&cache, peers, NOW);
    assert_eq!((status.sessions.len(), status.broken.len()), (1, 0));
}

#[test]
fn no_more_peers_are_read_than_are_wanted() {
    let (_home, cache) = cache();
    for seed in 1..=3 {
        cache.store_current(&Session { peer: [seed; 32], ..session(seed) }, NOW).unwrap();
    }
    for wanted in 1..=3 {
        let (mut status, reader) = StatusReader::open(&cache, cache.peers().unwrap(), NOW);
        let mut seen = 0;
        let Ok(()) = reader.each(&mut status, |_, _| {
            seen += 1;
            Ok::<_, Infallible>(seen < wanted)
        });
        assert_eq!(seen, wanted);
    }
}
