//! Claim: a run knows of which lost ends the one before it was told, and of no others.

use std::collections::BTreeSet;

use super::*;

/// Else what a killed run was told of a lost end would be lost in silence.
#[test]
fn how_streams_ended_is_known_to_the_next_run_until_they_are_over() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let (mut journal, _) = receive(&cache).unwrap();
    let told = |number, count| EndedStream {
        stream: StreamId { session: id, number },
        salt: [1, 2, 3, 4, 5, 6, 7, 0xff],
        count: Some(count),
        continues: (number == 1).then_some(Continues {
            origin: Origin { stream: StreamId { session: id, number: 0 }, salt: [6; 8] },
            position: 5,
        }),
    };
    let mut entries: Vec<_> = (0..6).map(|number| JournalEntry::Told(told(number, 3))).collect();
    entries.push(progress(id, 6, 1, StreamState::Ended));
    journal.record_and_mark(&cache, &entries, NOW).unwrap();
    let received = [
        progress(id, 1, 3, StreamState::Open),
        progress(id, 2, 4, StreamState::Open),
        progress(id, 3, 4, StreamState::Ended),
        progress(id, 4, 2, StreamState::Closed),
        progress(id, 5, 3, StreamState::Superseded),
        JournalEntry::Told(told(3, 9)),
    ];
    journal.record_and_mark(&cache, &received, NOW).unwrap();
    drop(journal);
    // Once from the lines, once from the snapshot that the next run makes of them.
    for _ in 0..2 {
        let state = ReceiveState::read(&cache).unwrap().unwrap();
        assert_eq!(state.told().map(|told| told.ended).collect::<Vec<_>>(), [told(0, 3), told(1, 3), told(4, 3)]);
        drop(receive(&cache).unwrap());
    }
}

/// Else, once the receive state is lost, a session that was never used would be refused as one of which the record is lost.
#[test]
fn what_is_told_of_a_session_under_which_nothing_came_is_known_to_the_next_run_and_does_not_show_that_it_was_used() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    cache.store_current(&session(2), NOW).unwrap();
    let told = |seed| {
        let stream = StreamId { session: session(seed).id, number: 0 };
        JournalEntry::Told(EndedStream { stream, salt: [7; 8], count: Some(1), continues: None })
    };
    let (mut journal, _) = receive(&cache).unwrap();
    let came = progress(session(2).id, 1, 1, StreamState::Open);
    journal.record_and_mark(&cache, &[told(1), told(2), came], NOW).unwrap();
    drop(journal);
    let told_of = || {
        let state = ReceiveState::read(&cache).unwrap().unwrap();
        state.told().map(|told| told.ended.stream.session).collect::<BTreeSet<_>>()
    };
    let received = || {
        let received = listed(&cache).into_iter().filter(|listed| listed.received);
        received.map(|listed| listed.id).collect::<BTreeSet<_>>()
    };
    assert_eq!((told_of(), received()), ([1, 2].map(|seed| session(seed).id).into(), [session(2).id].into()));
    // Once something comes, its record must be there.
    let (mut journal, _) = receive(&cache).unwrap();
    journal.record_and_mark(&cache, &[progress(session(1).id, 0, 1, StreamState::Ended)], NOW).unwrap();
    drop(journal);
    assert_eq!((told_of(), received()), ([session(2).id].into(), [1, 2].map(|seed| session(seed).id).into()));
}

/// Else no run but one that lasts long enough would ever report what is missing.
#[test]
fn how_long_was_waited_is_known_to_the_next_run_until_more_comes_of_the_stream() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let stream = |number| StreamId { session: id, number };
    let told = |number, count| {
        JournalEntry::Told(EndedStream { stream: stream(number), salt: [7; 8], count: Some(count), continues: None })
    };
    let waited = || {
        // As lines first, then as a snapshot.
        let read = || ReceiveState::read(&cache).unwrap().unwrap().told().map(|told| told.waited.as_millis()).collect();
        let lines: Vec<_> = read();
        drop(receive(&cache).unwrap());
        assert_eq!(read(), lines);
        lines
    };
    let record = |entries: &[JournalEntry]| {
        receive(&cache).unwrap().0.record_and_mark(&cache, entries, NOW).unwrap();
    };
    let time = Duration::from_micros(2_500_900);
    record(&[told(0, 3), told(1, 3), JournalEntry::Waited { stream: stream(0), time }]);
    record(&[told(0, 3), told(1, 3), JournalEntry::Waited { stream: stream(9), time }]);
    assert_eq!(waited(), [2500, 0]);
    record(&[told(0, 4)]);
    assert_eq!(waited(), [0, 0], "it is told anew");
    record(&[0, 1].map(|number| JournalEntry::Waited { stream: stream(number), time }));
    let JournalEntry::Progress(mut came) = progress(id, 1, 1, StreamState::Open) else { unreachable!() };
    came.salt = [7; 8];
    record(&[JournalEntry::Progress(came)]);
    assert_eq!(waited(), [2500, 0]);
}

/// As when they are pushed out by newer ones, or deleted by their user.
#[test]
fn what_was_told_of_a_session_that_is_gone_counts_as_lost() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    cache.store_current(&session(2), NOW).unwrap();
    let id = session(1).id;
    let told = |number, count| {
        let stream = StreamId { session: id, number };
        let salt = [1, 2, 3, 4, 5, 6, 7, 0xff];
        JournalEntry::Told(EndedStream { stream, salt, count: Some(count), continues: None })
    };
    let (mut journal, _) = receive(&cache).unwrap();
    let open = progress(id, 0, 2, StreamState::Open);
    journal.record_and_mark(&cache, &[open, told(0, 5), told(1, 4), told(2, 0)], NOW).unwrap();
    drop(journal);
    assert_eq!(cache.delete(&session(1).peer, &[id]).unwrap(), 1);
    drop(receive(&cache).unwrap());
    let state = ReceiveState::read(&cache).unwrap().unwrap();
    let past = state.past()[&session(1).peer];
    assert_eq!((past.gaps, past.lost), (2, 3 + 4));
}

/// Else old messages would be accepted as new ones.
#[test]
fn what_is_told_of_a_session_that_has_lost_its_record_does_not_hide_that() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    cache.store_current(&session(2), NOW).unwrap();
    let (mut journal, _) = receive(&cache).unwrap();
    let lost = session(1).id;
    cache.set_received(&session(1).peer, &[lost]).unwrap();
    assert_eq!(journal.adopt(&listed(&cache)), [lost]);
    let stream = StreamId { session: lost, number: 0 };
    let told = JournalEntry::Told(EndedStream { stream, salt: [7; 8], count: Some(1), continues: None });
    let came = progress(session(2).id, 1, 1, StreamState::Open);
    journal.record_and_mark(&cache, &[told, came], NOW).unwrap();
    drop(journal);
    assert_eq!(receive(&cache).unwrap().1, [lost]);
}

/// A peer that tells of any number of streams does not make the file grow.
#[test]
fn of_many_streams_that_were_told_the_newest_are_remembered() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let id = session(1).id;
    let (mut journal, _) = receive(&cache).unwrap();
    journal.record_and_mark(&cache, &[progress(id, 200, 1, StreamState::Open)], NOW).unwrap();
    for number in 0..200 {
        let ended =
            EndedStream { stream: StreamId { session: id, number }, salt: [7; 8], count: Some(1), continues: None };
        journal.record_and_mark(&cache, &[JournalEntry::Told(ended)], NOW).unwrap();
    }
    let told: Vec<_> = journal.state().told().map(|told| told.ended.stream.number).collect();
    assert_eq!(told, (136..200).collect::<Vec<_>>());
}

/// Else what one of the devices tells would move what the other sent, and new messages would be taken for repeated ones.
#[test]
fn that_two_devices_use_a_session_is_known_to_the_next_run() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let (id, other) = (session(1).id, session(2).id);
    let (mut journal, _) = receive(&cache).unwrap();
    let entries = [
        progress(id, 0, 1, StreamState::Open),
        JournalEntry::Copied { session: id },
        progress(other, 0, 1, StreamState::Open),
    ];
    journal.record_and_mark(&cache, &entries, NOW).unwrap();
    drop(journal);
    let is_copied = |id| ReceiveState::read(&cache).unwrap().unwrap().session(id).unwrap().0.is_copied();
    assert!(is_copied(id) && !is_copied(other));
    // And as a snapshot.
    drop(receive(&cache).unwrap());
    assert!(is_copied(id));
}
