//! Claim: a run knows of which lost ends the one before it was told, and of no others.

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
        salt: [7; 8],
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
        assert_eq!(state.told().copied().collect::<Vec<_>>(), [told(0, 3), told(1, 3), told(4, 3)]);
        drop(receive(&cache).unwrap());
    }
}

/// Else, once the receive state is lost, a session that was never used would be refused as one of which the record is lost.
#[test]
fn what_is_told_of_a_session_under_which_nothing_came_is_not_written_down() {
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
    let state = ReceiveState::read(&cache).unwrap().unwrap();
    assert_eq!(state.ids().collect::<Vec<_>>(), [session(2).id]);
    assert_eq!(state.told().map(|ended| ended.stream.session).collect::<Vec<_>>(), [session(2).id]);
    let received: Vec<_> =
        listed(&cache).into_iter().filter(|listed| listed.received).map(|listed| listed.id).collect();
    assert_eq!(received, [session(2).id]);
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
    let told: Vec<_> = journal.state().told().map(|ended| ended.stream.number).collect();
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
