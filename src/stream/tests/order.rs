//! Claim: streams that continue each other carry one sequence, of which each position counts once, in order, with exact
//! gaps; whatever arrives when, and whichever run receives it.

use super::*;

fn opened(receiver: &Receiver, message: &[u8]) -> Opened {
    receiver.open(message, &mut BytesMut::new()).unwrap()
}

fn accept(receiver: &mut Receiver, message: &[u8]) -> Accepted {
    receive(receiver, message).1.unwrap()
}

/// A stream of two messages that goes on in another one of two, under another session.
struct Rotation {
    slaves: [Session; 2],
    origin: StreamId,
    old: Vec<Bytes>,
    new: Vec<Bytes>,
}

fn rotation(wants_confirms: bool) -> Rotation {
    let ((old, old_slave), (new, new_slave)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let (mut one, mut two) = (sender(&old, 4), sender(&new, 4));
    if wants_confirms {
        (one, two) = (one.ask_for_confirms(), two.ask_for_confirms());
    }
    let mut sent = vec![data(&mut one, b"a"), data(&mut one, b"b")];
    sent.push(seal_control(&mut one, &Content::Continued(two.id())).unwrap());
    go_on(&mut two, one.id(), 2);
    let new = vec![data(&mut two, b"c"), end(&mut two, b"d")];
    Rotation { slaves: [old_slave, new_slave], origin: one.id(), old: sent, new }
}

#[test]
fn a_stream_that_goes_on_awaits_what_is_before_it() {
    let Rotation { slaves, origin, old, new } = rotation(false);
    let mut receiver = receiver(&[&slaves[1], &slaves[0]]);
    let continues = Continues { origin: super::origin(origin), position: 2 };
    for (at, message) in old.iter().enumerate() {
        assert_eq!(receiver.awaits(&opened(&receiver, &new[1])), Some(Awaited::First));
        // The last message carries nothing that anybody would miss.
        let awaited = (at < 2).then_some(Awaited::Position(continues));
        assert_eq!(receiver.awaits(&opened(&receiver, &new[0])), awaited, "from message {at} on");
        assert_eq!(accept(&mut receiver, message).gap, None);
    }
    for message in &new {
        assert_eq!(receiver.awaits(&opened(&receiver, message)), None);
        let accepted = accept(&mut receiver, message);
        assert_eq!((accepted.gap, accepted.skip, &accepted.others), (None, 0, &OtherStreams::default()));
    }
    assert!(receiver.streams(slaves[1].id).unwrap().is_over(4));
}

#[test]
fn going_on_without_the_rest_reports_it_and_takes_no_more_of_it() {
    for arrived in 0..=2_u32 {
        let Rotation { slaves, origin, old, new } = rotation(false);
        let mut receiver = receiver(&[&slaves[1], &slaves[0]]);
        for message in &old[..arrived as usize] {
            let _ = accept(&mut receiver, message);
        }
        let others = accept(&mut receiver, &new[0]).others;
        let gap = (arrived < 2).then_some(Gap { stream: origin, first: arrived, last: 1 });
        let over: Vec<_> = others.superseded.iter().map(|over| (over.stream, over.next, over.state)).collect();
        assert_eq!((others.gap, over), (gap, vec![(origin, arrived, StreamState::Superseded)]));
        for message in &old {
            assert_eq!(
                claim(&receiver, message),
                Some(HeaderClaim::Ended { confirm: None }),
                "what was closed is not written"
            );
        }
        assert!(receiver.streams(slaves[0].id).unwrap().outstanding(Some(5)).contains(3));
        assert!(!receiver.streams(slaves[0].id).unwrap().outstanding(Some(5)).contains(4), "told once");
    }
}

/// As a spool does after a run that was killed: it begins again with what it does not know to be delivered.
#[test]
fn what_is_received_counts_and_is_written_once() {
    let (master, slave) = pair(1, Suite::Gcm);
    for wants_confirms in [false, true] {
        for (begins, restarts) in [(0, false), (1, true), (2, false), (3, true)] {
            let ask = |sender: Sender| if wants_confirms { sender.ask_for_confirms() } else { sender };
            let mut receiver = receiver(&[&slave]);
            let (mut one, mut two) = (ask(sender(&master, 0)), ask(sender(&master, 1)));
            for text in [b"a", b"b", b"c"] {
                let _ = accept(&mut receiver, &data(&mut one, text));
            }
            if restarts {
                receiver = restarted(&receiver, &[&slave]);
            }
            go_on(&mut two, one.id(), begins);
            let mut written = Vec::new();
            for text in &[b"a", b"b", b"c", b"d"][usize::try_from(begins).unwrap()..] {
                let (.., accepted, plaintext) = receive(&mut receiver, &data(&mut two, *text));
                match accepted {
                    Ok(accepted) => written.extend_from_slice(&plaintext[accepted.skip.min(plaintext.len())..]),
                    Err(error) => assert_eq!(error.confirm(), Some(3 - u32::try_from(begins).unwrap()), "it counts"),
                }
            }
            assert_eq!(written, b"d");
            assert_eq!(claim(&receiver, &data(&mut one, b"d")), Some(HeaderClaim::Ended { confirm: None }));
            let next = receiver.streams(slave.id).unwrap().next_seq(1);
            assert_eq!(next, Some(4 - u32::try_from(begins).unwrap()));
            assert_eq!(accept(&mut receiver, &end(&mut two, b"")).progress.state, StreamState::Ended);
        }
    }
}

#[test]
fn an_end_that_was_received_ends_the_stream_that_repeats_it() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut one, mut two) = (sender(&master, 0), sender(&master, 1).ask_for_confirms());
    for message in [data(&mut one, b"a"), data(&mut one, b"b"), end(&mut one, b"c")] {
        let _ = accept(&mut receiver, &message);
    }
    go_on(&mut two, one.id(), 1);
    let (first, last) = (data(&mut two, b"b"), end(&mut two, b"c"));
    for (message, state) in [(&first, StreamState::Open), (&last, StreamState::Ended)] {
        let accepted = accept(&mut receiver, message);
        assert_eq!((accepted.skip, accepted.progress.state, accepted.progress.next), (usize::MAX, state, 2));
        assert_eq!((accepted.gap, accepted.others), (None, OtherStreams::default()));
        receiver = restarted(&receiver, &[&slave]);
    }
}

#[test]
fn bytes_of_a_message_that_were_written_are_not_written_again() {
    let (master, slave) = pair(1, Suite::Gcm);
    for begins in 0..2 {
        let mut receiver = receiver(&[&slave]);
        let (mut one, mut two) = (sender(&master, 0), sender(&master, 1));
        let _ = accept(&mut receiver, &data(&mut one, b"first"));
        let cut = accept(&mut receiver, &data(&mut one, b"second")).progress.partly(3);
        let mut streams = receiver.streams(slave.id).unwrap().clone();
        streams.apply(&cut);
        let mut receiver = super::receiver(&[&slave]);
        receiver.restore(slave.id, streams);
        go_on(&mut two, one.id(), begins);
        let mut skips: Vec<_> = (begins..1).map(|_| accept(&mut receiver, &data(&mut two, b"first")).skip).collect();
        receiver = restarted(&receiver, &[&slave]);
        skips.push(accept(&mut receiver, &data(&mut two, b"second")).skip);
        assert_eq!(skips, [usize::MAX, 3][usize::try_from(begins).unwrap()..]);
        assert_eq!(accept(&mut receiver, &data(&mut two, b"third")).skip, 0);
    }
}

/// A message of which only a part was written is wanted once more: its stream has begun.
#[test]
fn a_first_message_that_was_written_in_part_goes_on_where_it_stopped() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut one, mut two) = (sender(&master, 0), sender(&master, 1));
    let _ = accept(&mut receiver, &data(&mut one, b"a"));
    go_on(&mut two, one.id(), 1);
    let message = data(&mut two, b"second");
    let cut = accept(&mut receiver, &message).progress.partly(3);
    let mut streams = receiver.streams(slave.id).unwrap().clone();
    streams.apply(&cut);
    receiver.restore(slave.id, streams);
    assert_eq!(receiver.awaits(&opened(&receiver, &message)), None);
    let again = accept(&mut receiver, &message);
    assert_eq!((again.skip, again.others), (3, OtherStreams::default()));
}

/// What was written of a message that another stream does not carry skips nothing there.
#[test]
fn a_part_of_a_lost_message_is_none_of_the_next() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut one, mut two) = (sender(&master, 0), sender(&master, 1));
    let cut = accept(&mut receiver, &data(&mut one, b"first")).progress.partly(3);
    let mut streams = receiver.streams(slave.id).unwrap().clone();
    streams.apply(&cut);
    receiver.restore(slave.id, streams);
    go_on(&mut two, one.id(), 1);
    let accepted = accept(&mut receiver, &data(&mut two, b"second"));
    assert_eq!((accepted.skip, accepted.others.gap.map(|gap| (gap.first, gap.last))), (0, Some((0, 0))));
}

#[test]
fn only_what_continues_another_stream_and_asks_for_no_confirms_waits() {
    let (master, slave) = pair(1, Suite::Gcm);
    let receiver = receiver(&[&slave]);
    for (continues, asks, waits) in
        [(false, false, false), (false, true, false), (true, false, true), (true, true, false)]
    {
        let mut sender = sender(&master, 5);
        if continues {
            go_on(&mut sender, StreamId { session: slave.id, number: 2 }, 3);
        }
        if asks {
            sender = sender.ask_for_confirms();
        }
        let awaits = |message: &[u8]| receiver.awaits(&opened(&receiver, message));
        let (first, second) = (data(&mut sender, b"a"), end(&mut sender, b"b"));
        assert_eq!((awaits(&first).is_some(), awaits(&second).is_some()), (waits, waits), "{continues} {asks}");
        assert_eq!(awaits(&sender.settled(&mut rng()).unwrap()), None, "it is after the end");
    }
}

#[test]
fn what_is_awaited_has_come_once_the_stream_has_begun_or_is_over() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut begun, mut over, absent] = [1, 2, 3].map(|number| sender(&master, number));
    let _ = accept(&mut receiver, &data(&mut begun, b"a"));
    let _ = accept(&mut receiver, &end(&mut over, b"a"));
    let has_come = |stream, awaited| receiver.has_come(stream, &awaited);
    assert_eq!([&begun, &over, &absent].map(|of| has_come(of.id(), Awaited::First)), [true, true, false]);
    let position = |origin: &Sender, position| Awaited::Position(Continues { origin: origin.origin(), position });
    let later = StreamId { session: slave.id, number: 9 };
    assert!(has_come(later, position(&begun, 1)) && !has_come(later, position(&begun, 2)));
    assert!(has_come(later, position(&absent, 0)) && !has_come(later, position(&absent, 1)));
    assert!(has_come(later, Awaited::Nothing));
}

#[test]
fn of_two_that_wait_one_is_first() {
    let ((old, old_slave), (new, new_slave)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let receiver = receiver(&[&new_slave, &old_slave]);
    let id = |session: &Session, number| StreamId { session: session.id, number };
    let at = |origin, position| Awaited::Position(Continues { origin: super::origin(origin), position });
    let precedes = |one, other| receiver.precedes(one, other);
    let (a, b) = (id(&old, 1), id(&old, 2));
    // Of one sequence the position counts, whatever the number.
    assert!(precedes((b, at(a, 3)), (a, at(a, 4))));
    assert!(!precedes((b, at(a, 4)), (a, at(a, 4))) && !precedes((b, at(a, 5)), (a, at(a, 4))));
    assert!(!precedes((a, at(a, 3)), (b, at(b, 4))), "two sequences do not wait for each other");
    // Where one does not say what it continues, the older one is first.
    for (one, other, expected) in
        [(a, b, true), (b, a, false), (a, a, false), (b, id(&new, 1), true), (id(&new, 1), b, false)]
    {
        assert_eq!(precedes((one, Awaited::First), (other, at(a, 4))), expected, "{one:?} {other:?}");
        assert_eq!(precedes((one, at(a, 4)), (other, Awaited::First)), expected, "{one:?} {other:?}");
    }
}

#[test]
fn a_sequence_of_which_nothing_is_known_begins_where_it_says() {
    let Rotation { slaves, origin, old: _, new } = rotation(false);
    let strangers_session = Session { peer: [9; 32], ..slaves[0].clone() };
    let mut alone = receiver(&[&slaves[1]]);
    assert_eq!(alone.awaits(&opened(&alone, &new[0])), None, "the old session is gone");
    let accepted = accept(&mut alone, &new[0]);
    assert_eq!((accepted.others.unknown, accepted.gap, accepted.others.gap), (Some(2), None, None));

    // From its beginning on, nothing is missing of it.
    for known in [vec![&slaves[1]], vec![&slaves[1], &strangers_session]] {
        let mut from_0 = sender(&pair(2, Suite::Gcm).0, 9);
        go_on(&mut from_0, origin, 0);
        assert_eq!(accept(&mut super::receiver(&known), &data(&mut from_0, b"a")).others.unknown, None);
    }

    // A sequence belongs to one peer.
    let mut strangers = receiver(&[&strangers_session, &slaves[1]]);
    let accepted = accept(&mut strangers, &new[0]);
    assert_eq!((accepted.others.unknown, accepted.others.superseded), (Some(2), vec![]));
    assert_ne!(accepted.progress.sequence.origin.stream, origin);

    // Streams that ended long ago are not remembered with where their sequences go on.
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    for number in 0..20 {
        let _ = accept(&mut receiver, &end(&mut sender(&master, number), b"a"));
    }
    for (origin, position, unknown) in [(0, 1, Some(1)), (1, 0, None), (15, 1, None)] {
        let mut later = sender(&master, 30 + origin);
        go_on(&mut later, sender(&master, origin).id(), position);
        let accepted = accept(&mut receiver, &data(&mut later, b"b"));
        assert_eq!((accepted.others.unknown, accepted.skip), (unknown, 0));
    }
}

#[test]
fn a_stream_does_not_continue_itself_and_no_stream_of_confirms() {
    let (master, slave) = pair(1, Suite::Gcm);
    for stream in [7, FIRST_SIDE_STREAM, u32::MAX] {
        let mut receiver = receiver(&[&slave]);
        let mut lying = sender(&master, 7);
        go_on(&mut lying, StreamId { session: slave.id, number: stream }, 1);
        let message = data(&mut lying, b"");
        assert_eq!(receiver.awaits(&opened(&receiver, &message)), None);
        assert_eq!(accept(&mut receiver, &message).progress.sequence, Sequence::of_origin(lying.origin(), 1));
    }
}

/// Who withholds the message that says what a stream continues must not make it overtake anything.
#[test]
fn without_its_first_message_a_stream_closes_all_that_it_may_continue() {
    let Rotation { slaves, origin, old, new } = rotation(false);
    let master = pair(2, Suite::Gcm).0;
    let mut receiver = receiver(&[&slaves[1], &slaves[0]]);
    let _ = accept(&mut receiver, &old[0]);
    let mut others = [3, 5].map(|number| sender(&master, number));
    for other in &mut others {
        let _ = accept(&mut receiver, &data(other, b"x"));
    }
    let accepted = accept(&mut receiver, &new[1]);
    assert_eq!(accepted.gap, Some(Gap { stream: StreamId { session: slaves[1].id, number: 4 }, first: 0, last: 0 }));
    let closed: Vec<_> = accepted.others.closed.iter().map(|(closed, why)| (closed.stream, *why)).collect();
    assert_eq!(closed, [others[0].id(), origin].map(|stream| (stream, Closing::OrderUnknown)));
    assert_eq!(claim(&receiver, &old[1]), Some(HeaderClaim::Closed));
    assert!(receive(&mut receiver, &data(&mut others[1], b"y")).1.is_ok(), "a newer one is not before it");
}

#[test]
fn what_comes_without_its_first_message_after_a_newer_stream_is_not_written() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
    let _ = accept(&mut receiver, &data(&mut one, b"a"));
    go_on(&mut two, one.id(), 1);
    let withheld = [data(&mut two, b"b"), data(&mut two, b"c")];
    go_on(&mut three, one.id(), 3);
    assert_eq!(accept(&mut receiver, &data(&mut three, b"d")).others.gap.unwrap().last, 2);
    assert_eq!(receive(&mut receiver, &withheld[1]).1, Err(AcceptError::Closed));
    assert_eq!(
        receive(&mut receiver, &withheld[0]).1,
        Err(AcceptError::Closed),
        "reported as lost, and not written late"
    );
    assert!(receive(&mut receiver, &data(&mut three, b"e")).1.is_ok(), "and closes nothing");
}

proptest! {
    /// One sequence in several streams, each of which begins anywhere in what the ones before it sent, as after runs
    /// that were killed; any of the messages arrive, in any order, in any runs of the receiver: no position is written
    /// twice or out of order, and each below the last is written or in a gap.
    #[test]
    fn each_position_counts_once(
        cuts in prop::collection::vec((0_usize..6, 0_usize..6), 1..5),
        arrivals in prop::collection::vec((any::<prop::sample::Index>(), prop::bool::weighted(0.1)), 0..60),
    ) {
        let (master, slave) = pair(1, Suite::Gcm);
        let (mut sent, mut end, mut origin) = (Vec::new(), 0_usize, None);
        for (number, (back, count)) in (0..).zip(cuts) {
            let mut sender = sender(&master, number);
            let begin = end.saturating_sub(back);
            if let Some(origin) = origin {
                go_on(&mut sender, origin, begin as u64);
            }
            origin = origin.or(Some(sender.id()));
            for position in begin..=begin + count {
                sent.push((position as u64, data(&mut sender, &position.to_be_bytes())));
            }
            end = end.max(begin + count + 1);
        }
        let mut receiver = receiver(&[&slave]);
        let mut marked = Streams::default();
        let mut next = 0;
        for (arrival, restarts) in arrivals {
            let (position, message) = arrival.get(&sent);
            if restarts {
                receiver = super::receiver(&[&slave]);
                receiver.restore(slave.id, marked.clone());
            }
            let mut plaintext = BytesMut::new();
            let Ok(opened) = receiver.open(message, &mut plaintext) else { continue };
            // A stream waits for its first message; whether that is given up is tested elsewhere.
            if receiver.awaits(&opened) == Some(Awaited::First) {
                continue;
            }
            let Ok(accepted) = receiver.accept(&opened) else { continue };
            for over in &accepted.others.superseded {
                marked.apply(over);
            }
            marked.apply(&accepted.progress);
            let gaps = accepted.others.gap.into_iter().chain(accepted.gap);
            let lost: u64 = gaps.map(|gap| gap.messages()).sum();
            if accepted.skip == 0 {
                prop_assert_eq!(*position, next + lost, "neither twice nor out of order, and the gap is exact");
                next = position + 1;
            } else {
                prop_assert!(lost == 0 && *position < next);
            }
            prop_assert_eq!(receiver.streams(slave.id).unwrap(), &marked);
        }
    }
}
