//! Claim: what was acknowledged is never accepted again, and without proof of it nothing is accepted at all.

use super::super::checked_line::put_line;
use super::super::journal::MIN_COMPACT_LEN;
use super::super::receive_file::{self, UnusableState};
use super::*;
use crate::Rejected;
use crate::stream::{Gap, KeptStream, Origin, Progress, Sequence, StreamId, StreamState};

#[test]
fn an_open_stream_keeps_the_time_of_its_last_message() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let (mut journal, _) = receive(&cache).unwrap();
    for (number, next, state, at) in [
        (0, 1, StreamState::Open, NOW),
        (1, 5, StreamState::Open, NOW + 10),
        (2, 1, StreamState::Open, NOW + 20),
        (0, 2, StreamState::Open, NOW + 30),
        (2, 2, StreamState::Ended, NOW + 40),
    ] {
        journal.record_and_mark(&cache, &[progress(id, number, next, state)], at).unwrap();
    }
    drop(journal);
    // Once from the lines, once from the snapshot that the next run makes of them.
    for _ in 0..2 {
        let open: Vec<_> = status(&cache, NOW + 100).sessions[0]
            .open
            .iter()
            .map(|open| (open.stream.number, open.messages, open.age))
            .collect();
        assert_eq!(open, [(1, 5, Some(90)), (0, 2, Some(70))], "the longest idle first");
        drop(receive(&cache).unwrap());
    }
}

/// A monitoring system takes a falling total for a counter that was reset.
#[test]
fn what_was_received_under_a_session_that_is_gone_stays_in_the_total_of_its_peer() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let (id, peer) = (session(1).id, session(1).peer);
    let (mut journal, _) = receive(&cache).unwrap();
    let written = |messages, bytes| JournalEntry::Written { session: id, messages, bytes };
    journal.record_and_mark(&cache, &[progress(id, 0, 1, StreamState::Ended), written(2, 30)], NOW + 5).unwrap();
    journal.record_and_mark(&cache, &[written(0, 4)], NOW + 9).unwrap();
    drop(journal);
    let counted = status(&cache, NOW + 10);
    assert_eq!(counted.sessions[0].received.last_message, Some(NOW + 5), "nothing was a message after that");
    assert!(counted.past.is_empty());
    assert_eq!(cache.delete(&peer, &[id]).unwrap(), 1);
    let totals = Totals { messages: 2, bytes: 34, last_message: Some(NOW + 5), ..Totals::default() };
    // Once as the next run finds it, then from what that one wrote.
    for _ in 0..3 {
        drop(receive(&cache).unwrap());
        let status = status(&cache, NOW + 10);
        assert_eq!(status.past.get(&peer), Some(&totals));
    }
}

/// How the file grows: what a later version adds with a plus sign is no damage to this one.
#[test]
fn a_word_with_a_plus_sign_may_be_ignored_and_no_other() {
    let id = hex(&session(1).id);
    for (words, unusable) in [
        ("+new=1,2 +at=5 +new", None),
        ("new 1", Some(UnusableState::Later)),
        ("+at=x", Some(UnusableState::Malformed(2))),
        ("g 3 7", Some(UnusableState::Malformed(2))),
    ] {
        let mut text = String::new();
        put_line(&mut text, "sts-receive-state-3 gateway");
        put_line(&mut text, &format!("+new=0 n {id} {words} m 3 0000000000000000 7 0 o +newer"));
        let parsed = receive_file::parse("gateway", text.as_bytes());
        assert_eq!(parsed.as_ref().err(), unusable.as_ref(), "{words}");
        if let Ok(state) = parsed {
            let open = state.open_streams(session(1).id, 15);
            assert_eq!((open[0].stream.number, open[0].messages, open[0].age), (3, 7, Some(10)));
        }
    }
}

#[test]
fn a_stream_without_a_time_takes_none_from_the_one_before_it() {
    let id = hex(&session(1).id);
    let mut text = String::new();
    put_line(&mut text, "sts-receive-state-3 gateway");
    let open = |number| format!("m {number} 0000000000000000 1 0 o");
    put_line(&mut text, &format!("n {id} {} +at=5 {}", open(9), open(1)));
    put_line(&mut text, &format!("n {id} {}", open(2)));
    let state = receive_file::parse("gateway", text.as_bytes()).unwrap();
    let again = receive_file::encode(&state, "gateway");
    assert_eq!(receive_file::parse("gateway", again.as_bytes()), Ok(state), "{again}");
}

/// A file that is whole may still say anything.
#[test]
fn counters_that_are_as_high_as_they_can_be_stay_so() {
    let id = hex(&session(1).id);
    let mut text = String::new();
    put_line(&mut text, "sts-receive-state-3 gateway");
    let max = u64::MAX;
    put_line(&mut text, &format!("x 0 {max} n {id} t {max} {max} {max} {max} {max} d 1 w 1 1 g 3 1 2 x 0 1"));
    let state = receive_file::parse("gateway", text.as_bytes()).unwrap();
    let (_, counters) = state.session(session(1).id).unwrap();
    let Counters { messages, bytes, duplicates, gaps, lost, .. } = counters;
    assert_eq!([messages, bytes, duplicates, gaps, lost], [&max; 5]);
    assert_eq!(state.rejected().next().unwrap().1, max);
}

#[test]
fn receive_state_of_a_later_version_is_left_as_it_is() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let path = cache.dir().join("gateway@recv");
    for head in ["sts-receive-state-3 gateway", "sts-receive-state-4 gateway"] {
        let mut text = String::new();
        put_line(&mut text, head);
        put_line(&mut text, &format!("n {} new 1", hex(&session(1).id)));
        fs::write(&path, &text).unwrap();
        chmod(&path, 0o600);
        let err = receive(&cache).map(|_| ()).unwrap_err();
        assert_eq!(err.exit(), Exit::Protocol, "{err}");
        assert_eq!(fs::read(&path).unwrap(), text.as_bytes());
    }
}

#[test]
fn what_was_marked_is_known_to_the_next_run() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    cache.store_current(&session(2), NOW).unwrap();
    let (old, new) = (session(1).id, session(2).id);
    let (mut journal, lost) = receive(&cache).unwrap();
    assert!(lost.is_empty());
    let err = Journal::open(&cache, &listed(&cache)).map(|_| ()).unwrap_err();
    assert_eq!(err.exit(), Exit::TryAgain);
    assert!(err.to_string().contains("another sts-recv"), "{err}");

    let before = fs::read(cache.dir().join("gateway@recv")).unwrap();
    journal.count_rejected(Rejected::NotAuthentic);
    journal.count_duplicate(new);
    assert_eq!(fs::read(cache.dir().join("gateway@recv")).unwrap(), before, "a forgery touches no file");
    assert!(!cache.load().unwrap()[0].received);
    let gap = Gap { stream: StreamId { session: new, number: 0 }, first: 3, last: 5 };
    let skipping = Progress {
        stream: StreamId { session: new, number: 4 },
        salt: [9; 8],
        next: 7,
        skip: 12,
        wants_confirms: true,
        state: StreamState::Open,
        sequence: Sequence {
            origin: Origin { stream: StreamId { session: old, number: 2 }, salt: [8; 8] },
            position: 1 << 40,
        },
    };
    journal
        .record_and_mark(
            &cache,
            &[
                JournalEntry::Lost(gap),
                progress(new, 0, 7, StreamState::Ended),
                JournalEntry::Written { session: new, messages: 4, bytes: 99 },
                progress(old, 2, 1, StreamState::Open),
                progress(new, 3, 1, StreamState::Closed),
                JournalEntry::Progress(skipping),
            ],
            NOW,
        )
        .unwrap();
    let received: Vec<bool> = cache.load().unwrap().iter().map(|stored| stored.received).collect();
    assert_eq!(received, [true, true]);
    let state = journal.state().clone();
    drop(journal);

    // Twice: the first reads the lines, the second the picture that the first made of them.
    for _ in 0..2 {
        let (journal, lost) = receive(&cache).unwrap();
        assert!(lost.is_empty());
        assert_eq!(journal.state(), &state);
    }
    let (streams, counters) = state.session(new).unwrap();
    assert_eq!(streams.open(new), [skipping]);
    assert_eq!((streams.ended().to_string(), streams.missing().to_string()), ("0".into(), "1-2".into()));
    assert_eq!(
        (counters.messages, counters.bytes, counters.duplicates, counters.gaps, counters.lost),
        (4, 99, 1, 1, 3)
    );
    assert_eq!(counters.latest, [gap]);

    let status = status(&cache, NOW);
    assert_eq!(status.rejected, [(Rejected::NotAuthentic, 1)]);
    assert_eq!(status.sessions[0].received.lost, 3);
    assert_eq!((status.sessions[0].missing.to_string(), status.sessions[0].age), ("1-2".into(), Some(NOW - 1000)));
    assert!(!format!("{status:?}").contains("Key("), "not even a key's name");
    cache.delete(&session(1).peer, &[old]).unwrap();
    let (journal, _) = receive(&cache).unwrap();
    assert_eq!(journal.state().session(old), None, "state goes with its session");
}

#[test]
fn a_cut_line_is_dropped_and_a_torn_one_is_refused() {
    let (_home, cache) = cache();
    let id = session(1).id;
    cache.store_current(&session(1), NOW).unwrap();
    let (mut journal, _) = receive(&cache).unwrap();
    journal.record_and_mark(&cache, &[progress(id, 0, 1, StreamState::Open)], NOW).unwrap();
    let first = journal.state().clone();
    let path = cache.dir().join("gateway@recv");
    let start = fs::read(&path).unwrap().len();
    journal.record_and_mark(&cache, &[progress(id, 0, 2, StreamState::Open)], NOW).unwrap();
    let second = journal.state().clone();
    drop(journal);
    let whole = fs::read(&path).unwrap();
    for len in start..whole.len() {
        fs::write(&path, &whole[..len]).unwrap();
        assert_eq!(
            ReceiveState::read(&cache).unwrap(),
            Some(first.clone()),
            "the write that was cut was not acknowledged"
        );
        let (mut journal, _) = receive(&cache).unwrap();
        journal.record_and_mark(&cache, &[progress(id, 0, 2, StreamState::Open)], NOW).unwrap();
        assert_eq!(ReceiveState::read(&cache).unwrap(), Some(second.clone()), "and is not in the way");
    }
    let mut torn: Vec<_> = (0..whole.len() - 1)
        .map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        })
        .collect();
    torn.push(Vec::new());
    for bytes in torn {
        fs::write(&path, &bytes).unwrap();
        let err = receive(&cache).map(|_| ()).unwrap_err();
        assert!(err.to_string().contains("gateway@recv") && err.hint_text().unwrap().contains("sts-pair gateway"));
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn without_its_state_a_session_is_not_used_until_the_next_pairing() {
    let (_home, cache) = cache();
    let (old, new) = (session(1).id, session(2).id);
    cache.store_current(&session(1), NOW).unwrap();
    let (mut journal, _) = receive(&cache).unwrap();
    journal.record_and_mark(&cache, &[progress(old, 0, 1, StreamState::Open)], NOW).unwrap();
    drop(journal);
    let path = cache.dir().join("gateway@recv");
    let whole = fs::read(&path).unwrap();
    let refused = || receive(&cache).map(|_| ()).unwrap_err();
    fs::remove_file(&path).unwrap();
    assert_eq!(
        (refused().exit(), refused().hint_text()),
        (Exit::TryAgain, Some("agree on new keys: sts-pair gateway"))
    );
    fs::write(&path, [&whole[..], b"torn\n"].concat()).unwrap();
    chmod(&path, 0o600);
    assert_eq!((refused().exit(), refused().hint_text()), (Exit::Failed, Some("agree on new keys: sts-pair gateway")));
    cache.store_pending(&session(2), NOW).unwrap();
    let (mut journal, lost) = receive(&cache).unwrap();
    assert_eq!(lost, [old]);
    journal.record_and_mark(&cache, &[progress(new, 0, 1, StreamState::Open)], NOW).unwrap();
    assert_eq!(journal.adopt(&listed(&cache)), [old]);
}

#[test]
fn the_journal_is_written_anew_before_it_is_long() {
    let (_home, cache) = cache();
    let id = session(1).id;
    cache.store_current(&session(1), NOW).unwrap();
    let gone = Session { peer: [7; 32], ..session(2) };
    cache.store_current(&gone, NOW).unwrap();
    let (mut journal, _) = receive(&cache).unwrap();
    let written = JournalEntry::Written { session: gone.id, messages: 1, bytes: 2 };
    journal.record_and_mark(&cache, &[written], NOW).unwrap();
    journal.forget(&[gone.id]);
    journal.record_and_mark(&cache, &[progress(id, 5, 3, StreamState::Ended)], NOW).unwrap();
    let mut longest = 0;
    for next in 1..9_000 {
        journal.record_and_mark(&cache, &[progress(id, 0, next, StreamState::Open)], NOW).unwrap();
        longest = longest.max(fs::metadata(cache.dir().join("gateway@recv")).unwrap().len());
    }
    assert!((MIN_COMPACT_LEN - 100..MIN_COMPACT_LEN + 100).contains(&longest), "{longest}");
    let state = ReceiveState::read(&cache).unwrap().unwrap();
    assert_eq!(&state, journal.state());
    assert_eq!(state.open_streams(id, NOW)[0].messages, 8_999, "what was received is still known");
    assert!(state.session(id).unwrap().0.is_over(5), "also of a stream of which nothing came since");
    assert_eq!((state.session(gone.id), state.past()[&gone.peer].bytes), (None, 2));
}

#[test]
fn a_tool_that_receives_nothing_knows_of_which_sessions_the_state_is_lost() {
    let (_home, cache) = cache();
    for seed in [1, 2] {
        cache.store_current(&session(seed), NOW).unwrap();
    }
    let lost = || cache.lost_sessions(listed(&cache).into_iter());
    let (mut journal, _) = receive(&cache).unwrap();
    assert!(lost().is_empty(), "nothing was received");
    journal.record_and_mark(&cache, &[progress(session(1).id, 0, 1, StreamState::Open)], NOW).unwrap();
    assert!(lost().is_empty());
    let path = cache.dir().join("gateway@recv");
    let state = fs::read(&path).unwrap();
    fs::write(&path, [&state[..], b"torn\n"].concat()).unwrap();
    assert_eq!(lost(), [session(1).id]);
    fs::write(&path, String::from_utf8(state).unwrap().replace("state-3", "state-4")).unwrap();
    assert_eq!(lost(), [session(1).id], "no checksum is right");
    let mut later = String::new();
    put_line(&mut later, "sts-receive-state-4 gateway");
    fs::write(&path, later).unwrap();
    assert!(lost().is_empty(), "what a later version has is not lost");
    fs::remove_file(&path).unwrap();
    assert_eq!(lost(), [session(1).id]);
}

#[test]
fn where_sequences_are_and_which_wills_came_is_kept() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let (mut journal, _) = receive(&cache).unwrap();
    let origin = Origin { stream: StreamId { session: session(2).id, number: 9 }, salt: [6; 8] };
    let moved = |stream, next, state, position| match progress(id, stream, next, state) {
        JournalEntry::Progress(progress) => {
            JournalEntry::Progress(Progress { sequence: Sequence { origin, position }, ..progress })
        }
        other => other,
    };
    let entries = [
        moved(0, 4, StreamState::Ended, 13),
        moved(1, 5, StreamState::Superseded, 12),
        moved(2, 0, StreamState::Closed, 11),
        moved(3, 6, StreamState::Open, u64::MAX),
        progress(id, 4, 0, StreamState::Open),
        JournalEntry::Will { stream: StreamId { session: id, number: 4 }, next: 3 },
    ];
    journal.record_and_mark(&cache, &entries, NOW).unwrap();
    let state = journal.state().clone();
    drop(journal);
    assert_eq!(ReceiveState::read(&cache).unwrap(), Some(state.clone()));
    // And as a snapshot.
    let (journal, _) = receive(&cache).unwrap();
    assert_eq!((journal.state(), ReceiveState::read(&cache).unwrap()), (&state, Some(state.clone())));
    let (streams, _) = state.session(id).unwrap();
    assert_eq!((streams.next_will(4), streams.left().count(), streams.recently_ended().count()), (3, 2, 1));
    assert!(streams.is_over(1) && streams.missing().is_empty());
}

/// Of streams that are over, too, and of what is kept: without it, a message would be written twice.
#[test]
fn what_asked_for_confirms_and_what_is_kept_is_known_to_the_next_run() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let asking = |entry| match entry {
        JournalEntry::Progress(progress) => JournalEntry::Progress(Progress { wants_confirms: true, ..progress }),
        entry => entry,
    };
    let (mut journal, _) = receive(&cache).unwrap();
    let entries = [
        asking(progress(id, 0, 3, StreamState::Ended)),
        asking(progress(id, 1, 2, StreamState::Open)),
        progress(id, 2, 4, StreamState::Ended),
        JournalEntry::Kept { session: id, stream: KeptStream { number: 1, value_end: None } },
        JournalEntry::Kept { session: id, stream: KeptStream { number: 2, value_end: Some(3) } },
    ];
    journal.record_and_mark(&cache, &entries, NOW).unwrap();
    let state = journal.state().clone();
    drop(journal);
    for _ in 0..2 {
        let (journal, lost) = receive(&cache).unwrap();
        assert_eq!((journal.state(), lost), (&state, vec![]));
    }
}

/// Else a state that was copied from another link, or is of an earlier version, would have messages written again.
#[test]
fn only_the_state_of_this_link_and_version_is_read() {
    for (head, unusable) in [
        ("sts-receive-state-3 gateway", None),
        ("sts-receive-state-3 other", Some(UnusableState::Malformed(1))),
        ("sts-receive-state-2 gateway", Some(UnusableState::Malformed(1))),
        ("sts-receive-state-4 gateway", Some(UnusableState::Later)),
        ("sts-receive-state-x gateway", Some(UnusableState::Malformed(1))),
    ] {
        let mut text = String::new();
        put_line(&mut text, head);
        assert_eq!(receive_file::parse("gateway", text.as_bytes()).err(), unusable, "{head}");
    }
}
