//! Claim: who withholds the first message of a stream, which says what that continues, has nothing written out of order,
//! silences nobody who waits for confirms, and what is lost by it is named to the message.

use super::*;

fn accept(receiver: &mut Receiver, message: &[u8]) -> Accepted {
    receive(receiver, message).1.unwrap()
}

fn range(gap: Option<Gap>) -> Option<(u32, u32, u32)> {
    gap.map(|gap| (gap.stream.number, gap.first, gap.last))
}

/// The last message of a stream names the next one: that is known to continue it, and no other stream is in doubt.
#[test]
fn a_stream_that_the_one_before_named_is_put_after_it_and_closes_nobody() {
    let ((old, old_slave), (new, new_slave)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let mut receiver = receiver(&[&new_slave, &old_slave]);
    let (mut one, mut bystander, mut two, mut three) =
        (sender(&old, 0), sender(&old, 1), sender(&new, 0), sender(&new, 1));
    for message in [data(&mut one, b"a"), data(&mut one, b"b"), data(&mut bystander, b"x")] {
        let _ = accept(&mut receiver, &message);
    }
    let continued = seal_control(&mut one, &Content::Continued(two.id())).unwrap();
    let _ = accept(&mut receiver, &continued);
    go_on(&mut two, one.id(), 2);
    let _withheld = [b"c", b"d"].map(|text| data(&mut two, text));
    let accepted = accept(&mut receiver, &data(&mut two, b"e"));
    assert_eq!((range(accepted.gap), &accepted.others), (Some((0, 0, 1)), &OtherStreams::default()));
    assert_eq!(accepted.progress.sequence, Sequence { origin: one.origin(), position: 5 });
    assert_eq!(accept(&mut receiver, &data(&mut bystander, b"y")).gap, None);
    // What continues both is wanted at the next position.
    let place = Some(two.position_of(3));
    three.begin_with(Preamble { continues: place, ended: vec![ended_stream(&two, Some(3))], kept: false });
    let accepted = accept(&mut receiver, &data(&mut three, b"f"));
    assert_eq!((accepted.gap, accepted.others.gap, accepted.others.moved), (None, None, vec![]));
}

/// Also where the one before was accepted without its own first message: it is over, wherever it was.
#[test]
fn a_stream_that_one_of_unknown_place_named_closes_nobody_and_is_put_where_it_was_later() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut bystander, mut three, mut teller] =
        [0, 1, 2, 3, 4].map(|number| sender(&master, number));
    let _ = accept(&mut receiver, &data(&mut one, b"a"));
    go_on(&mut two, one.id(), 1);
    let _withheld = data(&mut two, b"b");
    assert_eq!(accept(&mut receiver, &data(&mut two, b"c")).others.closed.len(), 1);
    let _ = accept(&mut receiver, &data(&mut bystander, b"x"));
    let _ = accept(&mut receiver, &seal_control(&mut two, &Content::Continued(three.id())).unwrap());
    go_on(&mut three, one.id(), 3);
    let _withheld = data(&mut three, b"d");
    let accepted = accept(&mut receiver, &data(&mut three, b"e"));
    assert_eq!((range(accepted.gap), &accepted.others), (Some((3, 0, 0)), &OtherStreams::default()));
    let ended = vec![ended_stream(&two, Some(2)), ended_stream(&three, Some(2))];
    teller.begin_with(Preamble { ended, ..Preamble::default() });
    let moved = accept(&mut receiver, &data(&mut teller, b"")).others.moved;
    let places: Vec<_> = moved.iter().map(|told| (told.progress.sequence, range(told.others.gap))).collect();
    let at = |position| Sequence { origin: one.origin(), position };
    assert_eq!(places, [(at(3), None), (at(5), None)]);
}

/// Only who sends the stream that ends can name the next one, and what it names must be newer and its own.
#[test]
fn what_names_an_older_stream_or_one_of_another_device_announces_nothing() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (other, mut others) = pair(2, Suite::Gcm);
    others.peer = [9; 32];
    for (named, number) in [(sender(&master, 1).id(), 3), (sender(&other, 5).id(), 3), (sender(&master, 1).id(), 1)] {
        let mut receiver = receiver(&[&slave, &others]);
        let (mut bystander, mut liar) = (sender(&master, 0), sender(&master, 2));
        let _ = accept(&mut receiver, &data(&mut bystander, b"x"));
        let _ = accept(&mut receiver, &seal_control(&mut liar, &Content::Continued(named)).unwrap());
        let mut next = sender(&master, number);
        go_on(&mut next, liar.id(), 0);
        let _withheld = data(&mut next, b"a");
        let closed = accept(&mut receiver, &data(&mut next, b"b")).others.closed;
        assert_eq!(closed.len(), 1, "{named:?} {number}");
    }
}

/// Its sender waits until all is confirmed: nothing of it may be refused without a word.
#[test]
fn a_stream_that_asks_for_confirms_is_not_closed_for_the_order() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut asks, mut other, mut next) =
        (sender(&master, 0).ask_for_confirms(), sender(&master, 1), sender(&master, 2));
    for message in [data(&mut asks, b"a"), data(&mut other, b"x")] {
        let _ = accept(&mut receiver, &message);
    }
    go_on(&mut next, other.id(), 1);
    let _withheld = data(&mut next, b"y");
    let closed = accept(&mut receiver, &data(&mut next, b"z")).others.closed;
    let closed: Vec<_> = closed.iter().map(|(closed, _)| closed.stream).collect();
    assert_eq!(closed, [other.id()]);
    assert_eq!(accept(&mut receiver, &end(&mut asks, b"b")).progress.state, StreamState::Ended);
}

/// A bystander that was closed loses what it sends until it ends, and that is named once, by whatever tells it: also in
/// the next run, and whatever continues it.
#[test]
fn what_a_closed_stream_lost_is_told_with_its_count() {
    let (master, slave) = pair(1, Suite::Gcm);
    for restarts in [false, true] {
        for carried_on in [false, true] {
            let mut receiver = receiver(&[&slave]);
            let [mut bystander, mut cause, mut teller, mut again, mut heir] =
                [0, 1, 7, 8, 6].map(|number| sender(&master, number));
            let _ = accept(&mut receiver, &data(&mut bystander, b"x"));
            go_on(&mut cause, StreamId { session: slave.id, number: 5 }, 0);
            let _withheld = data(&mut cause, b"a");
            assert_eq!(accept(&mut receiver, &data(&mut cause, b"b")).others.closed.len(), 1);
            let refused = data(&mut bystander, b"y");
            assert_eq!(claim(&receiver, &refused), Some(HeaderClaim::Closed));
            let mut streams = receiver.streams(slave.id).unwrap().clone();
            assert!(streams.outstanding(None).contains(0));
            if restarts {
                receiver = super::receiver(&[&slave]);
                receiver.restore(slave.id, std::mem::take(&mut streams));
            }
            if carried_on {
                go_on(&mut heir, bystander.id(), 4);
                let others = accept(&mut receiver, &data(&mut heir, b"z")).others;
                assert_eq!(range(others.gap), Some((0, 1, 3)));
                assert_eq!(others.superseded.iter().map(|over| over.stream).collect::<Vec<_>>(), [bystander.id()]);
            }
            for teller in [&mut teller, &mut again] {
                tell(teller, &[(&bystander, Some(4))]);
                let opened = receive(&mut receiver, &data(teller, b"")).0;
                let lost = receiver.lost_ends(&opened);
                let told = lost.iter().find_map(|ended| receiver.close_lost_end(ended));
                let is_first = !carried_on && teller.id().number == 7;
                assert_eq!(told.map(|told| range(told.gap)), is_first.then_some(Some((0, 1, 3))));
            }
            let streams = receiver.streams(slave.id).unwrap();
            assert!(!streams.outstanding(None).contains(0) && streams.is_over(0), "told once");
        }
    }
}

/// What another device tells of its own stream says nothing of this one.
#[test]
fn a_count_of_another_salt_says_nothing_of_a_closed_stream() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut bystander, mut cause) = (sender(&master, 0), sender(&master, 1));
    let _ = accept(&mut receiver, &data(&mut bystander, b"x"));
    go_on(&mut cause, StreamId { session: slave.id, number: 5 }, 0);
    let _withheld = data(&mut cause, b"a");
    let _ = accept(&mut receiver, &data(&mut cause, b"b"));
    let ended = EndedStream { salt: [9; 8], ..ended_stream(&bystander, Some(4)) };
    assert_eq!(receiver.lost_end(&ended), None);
    assert!(receiver.lost_end(&ended_stream(&bystander, Some(4))).is_some());
}

/// Where a stream begins below the place that the one before it announced, and its first message is withheld, a later
/// stream tells where it began: what that one carries is new.
#[test]
fn a_stream_that_began_below_its_announced_place_costs_the_next_one_nothing() {
    let (master, slave) = pair(1, Suite::Gcm);
    for (begins, gap, restarts) in [
        (5, None, false),
        (10, None, false),
        (13, Some((0, 10, 12)), false),
        (5, None, true),
        (9, None, true),
        (10, None, true),
    ] {
        let mut receiver = receiver(&[&slave]);
        let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
        for _ in 0..10 {
            let _ = accept(&mut receiver, &data(&mut one, b"a"));
        }
        let _ = accept(&mut receiver, &seal_control(&mut one, &Content::Continued(two.id())).unwrap());
        go_on(&mut two, one.id(), begins);
        let _withheld = data(&mut two, b"b");
        for _ in 1..10 {
            let _ = accept(&mut receiver, &data(&mut two, b"b"));
        }
        if restarts {
            receiver = restarted(&receiver, &[&slave]);
        }
        let ended = vec![ended_stream(&two, Some(10))];
        three.begin_with(Preamble { continues: Some(two.position_of(10)), ended, kept: false });
        let accepted = accept(&mut receiver, &data(&mut three, b"c"));
        assert_eq!((accepted.skip, accepted.gap, accepted.others.gap), (0, None, None), "{begins}");
        assert_eq!(accepted.others.moved.iter().find_map(|told| range(told.others.gap)), gap);
        let position = begins + 11;
        assert_eq!(accepted.progress.sequence, Sequence { origin: one.origin(), position });
        assert_eq!(accept(&mut receiver, &data(&mut three, b"d")).progress.sequence.position, position + 1);
    }
}

/// Also where the first message of the later stream is withheld, too: both are told by the one after it.
#[test]
fn streams_that_began_below_their_announced_places_are_told_together() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut three, mut four] = [0, 1, 2, 3].map(|number| sender(&master, number));
    for _ in 0..10 {
        let _ = accept(&mut receiver, &data(&mut one, b"a"));
    }
    let _ = accept(&mut receiver, &seal_control(&mut one, &Content::Continued(two.id())).unwrap());
    go_on(&mut two, one.id(), 5);
    go_on(&mut three, one.id(), 15);
    let _withheld = [data(&mut two, b"b"), data(&mut three, b"c")];
    for _ in 1..10 {
        let _ = accept(&mut receiver, &data(&mut two, b"b"));
    }
    let _ = accept(&mut receiver, &seal_control(&mut two, &Content::Continued(three.id())).unwrap());
    let _ = accept(&mut receiver, &data(&mut three, b"c"));
    let ended = vec![ended_stream(&two, Some(10)), ended_stream(&three, Some(2))];
    four.begin_with(Preamble { continues: Some(three.position_of(2)), ended, kept: false });
    let accepted = accept(&mut receiver, &data(&mut four, b"d"));
    assert_eq!((accepted.skip, accepted.gap, accepted.others.gap), (0, None, None));
    assert_eq!(accepted.progress.sequence, Sequence { origin: one.origin(), position: 18 });
}
