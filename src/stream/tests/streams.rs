//! Claim: what is remembered of a session's streams is exact, has a limit, and tells what an old message is.

use super::super::streams::MAX_RANGES;
use super::*;

const SESSION: SessionId = [7; 8];

fn id(number: u32) -> StreamId {
    StreamId { session: SESSION, number }
}

/// A stream as it was received below `next`.
fn progress(number: u32, next: u32, state: StreamState) -> Progress {
    let sequence = Sequence::of_origin(origin(id(number)), next);
    Progress { stream: id(number), salt: salt(number), next, skip: 0, wants_confirms: false, state, sequence }
}

/// Stream 1 is open, 2 has ended with 3 messages and 4 was closed.
fn usual() -> Streams {
    let mut streams = Streams::default();
    for (number, next, state) in [(1, 5, StreamState::Open), (2, 3, StreamState::Ended), (4, 6, StreamState::Closed)] {
        assert_eq!(streams.apply(&progress(number, next, state)), None);
    }
    streams
}

/// A receiver compares them to tell whether anything is to be written down.
#[test]
fn any_difference_makes_two_states_unequal() {
    let differences: [fn(&mut Streams); 8] = [
        |streams| assert_eq!(streams.apply(&progress(1, 6, StreamState::Open)), None),
        |streams| assert_eq!(streams.apply(&progress(0, 1, StreamState::Open)), None),
        |streams| streams.set_next_will(1, 1),
        |streams| {
            let recent = streams.recently_ended().next();
            streams.insert_recent(RecentStream { end: 4, ..recent.unwrap() });
        },
        |streams| assert_eq!(streams.insert_ended(9, 9), None),
        |streams| streams.insert_closed(9, 9),
        |streams| streams.insert_left(left(9, 0)),
        |streams| streams.keep(KeptStream { number: 1, value_end: None }),
    ];
    for (at, differ) in differences.iter().enumerate() {
        let mut other = usual();
        assert_eq!(other, usual());
        differ(&mut other);
        assert_ne!(other, usual(), "{at}");
    }
    let mut touched = usual();
    touched.apply(&progress(1, 5, StreamState::Open));
    assert_eq!(touched, usual(), "how often is no difference");
}

#[test]
fn open_streams_are_told_longest_idle_first() {
    let mut streams = usual();
    for (number, next) in [(9, 2), (1, 6), (0, 1)] {
        assert_eq!(streams.apply(&progress(number, next, StreamState::Open)), None);
    }
    let expected = [(9, 2), (1, 6), (0, 1)].map(|(number, next)| progress(number, next, StreamState::Open));
    assert_eq!(streams.open(SESSION), expected);
}

#[test]
fn what_is_outstanding_is_exact_at_every_end() {
    let mut streams = Streams::default();
    streams.insert_ended(0, 2);
    streams.insert_closed(5, 9);
    let outstanding = |end| streams.outstanding(end).to_string();
    let ends = [Some(0), Some(3), Some(4), Some(5), Some(6), Some(12), None].map(outstanding);
    assert_eq!(ends, ["", "", "3", "3-4", "3-5", "3-11", "3-9"]);
    streams.insert_ended(3, 4);
    let outstanding = |end| streams.outstanding(end);
    assert!(outstanding(Some(5)).is_empty());
    assert_eq!(outstanding(Some(6)).to_string(), "5");
}

#[test]
fn sixteen_streams_that_ended_are_remembered_of_those_that_ask_for_confirms_and_of_the_others() {
    let mut streams = Streams::default();
    for number in 0..40 {
        let wants_confirms = number % 2 == 1;
        streams.apply(&Progress { wants_confirms, ..progress(number, 1, StreamState::Ended) });
        let known = streams.recently_ended().filter(|recent| recent.wants_confirms == wants_confirms);
        let known: Vec<_> = known.map(|recent| recent.number).collect();
        let expected: Vec<_> = (0..=number).filter(|other| other % 2 == number % 2).collect();
        assert_eq!(known, expected[expected.len().saturating_sub(16)..]);
    }
    assert_eq!(streams.recently_ended().count(), 32);
    // One that none asks for pushes none out that is asked for.
    streams.apply(&progress(50, 1, StreamState::Ended));
    assert!(streams.recently_ended().any(|recent| recent.number == 9));
}

/// A stream that began a sequence, of which this position is the next.
fn left(number: u32, next: u32) -> LeftStream {
    let origin = origin(id(number));
    LeftStream { number, salt: origin.salt, sequence: Sequence::of_origin(origin, next), next }
}

#[test]
fn sixteen_sequences_are_remembered_of_streams_that_were_closed_and_of_those_that_others_continue() {
    let mut streams = Streams::default();
    let numbers = |streams: &Streams| streams.left().map(|left| left.number).collect::<Vec<_>>();
    for number in 0..16 {
        streams.apply(&progress(number, 1, StreamState::Closed));
    }
    assert_eq!(numbers(&streams), (0..16).collect::<Vec<_>>());
    streams.insert_left(left(0, 7));
    assert_eq!(numbers(&streams), (1..16).chain([0]).collect::<Vec<_>>(), "each once, the latest last");
    assert_eq!(streams.left().last(), Some(left(0, 7)));
    streams.apply(&progress(16, 1, StreamState::Superseded));
    assert_eq!(numbers(&streams), (1..16).chain([0, 16]).collect::<Vec<_>>(), "what may be reported is not pushed out");
    streams.apply(&progress(17, 1, StreamState::Closed));
    assert_eq!(numbers(&streams), (2..16).chain([0, 16, 17]).collect::<Vec<_>>());
    for number in 18..40 {
        streams.apply(&progress(number, 1, StreamState::Superseded));
    }
    assert_eq!(numbers(&streams), (2..16).chain([0, 17]).chain(24..40).collect::<Vec<_>>());
    assert_eq!(streams.left().count(), 32, "all of them are written down");
}

/// What came of an open stream is counted and reported with it: only of the others is nothing known.
#[test]
fn a_stream_that_is_open_is_not_given_up_unheard() {
    let mut streams = Streams::default();
    let most = u32::try_from(MAX_RANGES).unwrap();
    for number in (0..2 * most - 6).step_by(2).chain([2 * most - 3, 2 * most, 2 * most + 3]) {
        assert_eq!(streams.apply(&progress(number, 1, StreamState::Ended)), None);
    }
    assert_eq!(streams.ended().iter().count(), MAX_RANGES);
    for number in [1, 2 * most - 5] {
        assert_eq!(streams.apply(&progress(number, 1, StreamState::Open)), None);
    }
    assert_eq!(streams.apply(&progress(3 * most, 1, StreamState::Ended)), None, "1 is open");
    assert!(streams.closed().contains(1));
    assert_eq!(streams.apply(&progress(3 * most + 2, 1, StreamState::Ended)), Some((3, 3)));
    // Of the two below the last three but one, only one is open.
    let mut lost = None;
    for number in (3 * most + 4..).step_by(2).take(MAX_RANGES) {
        lost = streams.apply(&progress(number, 1, StreamState::Ended));
        if lost.is_some_and(|(first, _)| first >= 2 * most - 7) {
            break;
        }
    }
    assert_eq!(lost, Some((2 * most - 7, 2 * most - 4)));
}

#[test]
fn closed_numbers_are_kept_as_so_many_ranges_and_no_more() {
    let mut streams = Streams::default();
    let most = u32::try_from(MAX_RANGES).unwrap();
    for number in (0..2 * most).step_by(2) {
        streams.insert_closed(number, number);
    }
    assert_eq!((streams.closed().iter().count(), streams.closed().contains(1)), (MAX_RANGES, false));
    streams.insert_closed(2 * most, 2 * most);
    assert_eq!((streams.closed().iter().count(), streams.closed().contains(1)), (MAX_RANGES, true));
    assert!(!streams.closed().contains(3));
}

/// What nobody can open any more says what it is by its clear header.
#[test]
fn a_claim_is_what_the_stream_was_received_to() {
    let mut streams = usual();
    streams.apply(&Progress { wants_confirms: true, ..progress(6, 3, StreamState::Ended) });
    streams.insert_ended(7, 7);
    let ended = Some(HeaderClaim::Ended { confirm: None });
    let claims = |number| [0, 2, 3, 4].map(|seq| streams.claim(number, salt(number), seq));
    assert_eq!(claims(2), [ended, ended, Some(HeaderClaim::Settled), None]);
    let confirmed = Some(HeaderClaim::Ended { confirm: Some((salt(6), 3)) });
    assert_eq!(claims(6), [confirmed, confirmed, Some(HeaderClaim::Settled), None]);
    assert_eq!(claims(1), [None; 4], "its keys are here: it is a forgery");
    assert_eq!(claims(4), [Some(HeaderClaim::Closed); 4]);
    assert_eq!(claims(7), [Some(HeaderClaim::EndedBefore), ended, ended, ended]);
    assert_eq!(claims(3), [None; 4]);
    for number in [1, 2, 6] {
        assert_eq!(streams.claim(number, [0; 8], 0), Some(HeaderClaim::Copied));
    }
}

#[test]
fn a_word_after_the_end_is_told_from_one_of_another_stream() {
    let mut streams = usual();
    streams.insert_ended(7, 7);
    let check = |number, seq| streams.check_settled(number, salt(number), seq);
    assert_eq!(
        [2, 3, 4].map(|seq| check(2, seq)),
        [AcceptError::StreamReused, AcceptError::Settled, AcceptError::StreamReused]
    );
    assert_eq!(streams.check_settled(2, [0; 8], 3), AcceptError::StreamReused);
    assert_eq!(check(1, 5), AcceptError::Ahead { next: 5 }, "its end is still to come");
    assert_eq!(check(3, 5), AcceptError::Ahead { next: 0 });
    assert_eq!(check(4, 6), AcceptError::Closed);
    assert_eq!(check(7, 9), AcceptError::Settled, "how it ended is forgotten");
}

/// A sender seals nothing after the end: one that did has used the number a second time.
#[test]
fn what_comes_after_the_end_is_of_another_stream() {
    let streams = usual();
    assert_eq!(streams.check(2, salt(2), 2, true), Err(AcceptError::Duplicate { next: 3 }));
    for (salt, seq) in [(salt(2), 3), (salt(2), 4), ([0; 8], 0), ([0; 8], 3)] {
        assert_eq!(streams.check(2, salt, seq, true), Err(AcceptError::StreamReused));
    }
    assert_eq!(streams.check(1, [0; 8], 5, true), Err(AcceptError::StreamReused));
}

#[test]
fn wills_are_listed_of_the_open_streams_that_had_one() {
    let mut streams = usual();
    assert_eq!(streams.wills().collect::<Vec<_>>(), []);
    streams.apply(&progress(3, 0, StreamState::Open));
    streams.set_next_will(3, 2);
    assert_eq!(streams.wills().collect::<Vec<_>>(), [(3, 2)]);
}

#[test]
fn gaps_and_ranges_are_shown_as_numbers() {
    let gap = |first, last| Gap { stream: id(3), first, last }.to_string();
    assert_eq!(gap(5, 9), "stream 3: messages 5-9 are lost");
    assert_eq!(gap(5, 5), "stream 3: message 5 is lost");
    let mut ranges = Ranges::default();
    ranges.insert(7, 9);
    ranges.insert(3, 3);
    assert_eq!(ranges.to_string(), "3, 7-9");
    assert_eq!(ranges.into_vec(), [(3, 3), (7, 9)]);
}

#[test]
fn an_older_stream_is_not_kept_in_the_place_of_a_newer_one() {
    let mut streams = Streams::default();
    for (stream, expected) in [((2, None), (2, None)), ((1, Some(5)), (2, None)), ((2, Some(4)), (2, Some(4)))] {
        let [stream, expected] = [stream, expected].map(|(number, value_end)| KeptStream { number, value_end });
        streams.keep(stream);
        assert_eq!(streams.kept(), Some(expected));
        assert!(streams.is_kept(2) && !streams.is_kept(1));
    }
}
