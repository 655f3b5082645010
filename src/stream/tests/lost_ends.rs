//! Claim: what a device says of how its earlier streams ended shows exactly what of them is lost, and that two devices
//! use one session.

use super::*;

/// A message of stream 9 that says how others ended; each with its count.
fn told(master: &Session, ended: &[(&Sender, Option<u32>)]) -> Bytes {
    let mut teller = sender(master, 9);
    tell(&mut teller, ended);
    data(&mut teller, b"later")
}

/// What is lost of the streams that a message tells, once nothing more is waited for.
fn lost(receiver: &mut Receiver, message: &[u8]) -> Vec<(u32, u32, u32)> {
    let opened = receive(receiver, message).0;
    let ended = receiver.lost_ends(&opened);
    let closed: Vec<_> = ended.iter().filter_map(|ended| receiver.close_lost_end(ended)).collect();
    assert!(ended.iter().all(|ended| receiver.close_lost_end(ended).is_none()), "once");
    assert!(closed.iter().flat_map(ToldStream::closed).all(|closed| closed.state == StreamState::Superseded));
    let gaps = closed.iter().flat_map(|lost| lost.others.gap.into_iter().chain(lost.gap));
    gaps.map(|gap| (gap.stream.number, gap.first, gap.last)).collect()
}

#[test]
fn the_exact_range_of_a_lost_end_is_known() {
    let (master, slave) = pair(1, Suite::Gcm);
    let [mut cut, absent, mut whole, mut open] = [0, 1, 2, 3].map(|number| sender(&master, number));
    let mut receiver = receiver(&[&slave]);
    for message in [data(&mut cut, b"a"), data(&mut cut, b"b"), end(&mut whole, b"c"), data(&mut open, b"d")] {
        assert!(receive(&mut receiver, &message).1.is_ok());
    }
    let rest = data(&mut cut, b"too late");
    let ended = [(&cut, Some(3000)), (&absent, Some(2)), (&whole, Some(1)), (&open, None)];
    assert_eq!(lost(&mut receiver, &told(&master, &ended)), [(0, 2, 2999), (1, 0, 1)]);
    assert_eq!(claim(&receiver, &rest), Some(HeaderClaim::Ended { confirm: None }));
    assert!(receiver.outstanding(slave.id, Some(3)).is_empty(), "told once");
    assert_eq!(receiver.streams(slave.id).unwrap().missing().count(), 5, "only those that nothing was said of: 4 to 8");
    assert!(receive(&mut receiver, &data(&mut open, b"e")).1.is_ok());
}

#[test]
fn what_arrives_meanwhile_is_not_lost() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut cut = sender(&master, 0);
    let sent = [data(&mut cut, b"a"), data(&mut cut, b"b"), end(&mut cut, b"c")];
    for arrived in 0..=3 {
        let mut receiver = receiver(&[&slave]);
        let opened = receive(&mut receiver, &told(&master, &[(&cut, Some(3))])).0;
        let ended = receiver.lost_ends(&opened);
        assert_eq!(ended.len(), 1);
        for message in &sent[..arrived] {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let gap = receiver.close_lost_end(&ended[0]).and_then(|lost| lost.gap).map(|gap| (gap.first, gap.last));
        assert_eq!(gap, (arrived < 3).then_some((u32::try_from(arrived).unwrap(), 2)));
    }
}

#[test]
fn a_count_below_what_was_received_says_nothing() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut ahead = sender(&master, 0);
    let mut receiver = receiver(&[&slave]);
    for text in [b"a", b"b"] {
        assert!(receive(&mut receiver, &data(&mut ahead, text)).1.is_ok());
    }
    for (number, count) in (9..).zip(0..2) {
        let mut teller = sender(&master, number);
        tell(&mut teller, &[(&ahead, Some(count))]);
        assert_eq!(lost(&mut receiver, &data(&mut teller, b"")), []);
    }
    assert!(receive(&mut receiver, &data(&mut ahead, b"c")).1.is_ok());
}

/// Only the frame is lost that says where it continues, which carries nothing. With confirms, its sender still waits.
#[test]
fn a_stream_of_which_all_was_received_is_over_without_a_gap() {
    let (master, slave) = pair(1, Suite::Gcm);
    for wants_confirms in [false, true] {
        let mut receiver = receiver(&[&slave]);
        let mut one = sender(&master, 0);
        one = if wants_confirms { one.ask_for_confirms() } else { one };
        assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
        let continued = seal_control(&mut one, &Content::Continued(sender(&master, 1).id())).unwrap();
        assert_eq!(lost(&mut receiver, &told(&master, &[(&one, Some(1))])), []);
        assert_eq!(receiver.streams(slave.id).unwrap().is_over(0), !wants_confirms);
        assert!(!wants_confirms || receive(&mut receiver, &continued).1.is_ok());
    }
}

#[test]
fn streams_of_others_and_of_confirms_are_none_of_its_own() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (other, mut others) = pair(2, Suite::Gcm);
    others.peer = [9; 32];
    let mut receiver = receiver(&[&slave, &others]);
    let (side, unknown) = (sender(&master, FIRST_SIDE_STREAM), pair(3, Suite::Gcm).0);
    let (foreign, gone) = (sender(&other, 0), sender(&unknown, 0));
    let ended = [(&side, Some(2)), (&foreign, Some(2)), (&gone, Some(2))];
    assert_eq!(lost(&mut receiver, &told(&master, &ended)), []);
}

/// A runtime directory that was cloned, whichever clone is heard first: what is lost by it is never silent.
#[test]
fn a_copy_shows_by_its_salt() {
    let (master, slave) = pair(1, Suite::Gcm);
    let new = |number, salt| Sender::new(&master, reserved(&master, number), salt, LIMIT).unwrap();
    for ends in [false, true] {
        for count in [None, Some(7)] {
            let (mut ours, mut theirs, mut next) = (new(0, [1; 8]), new(0, [2; 8]), new(1, [3; 8]));
            let mut receiver = receiver(&[&slave]);
            let first = if ends { end(&mut ours, b"a") } else { data(&mut ours, b"a") };
            assert!(receive(&mut receiver, &first).1.is_ok());
            assert_eq!(claim(&receiver, &data(&mut theirs, b"b")), Some(HeaderClaim::Copied));
            // The clone whose stream was refused says what became of it, and continues it.
            let continues = Some(Continues { origin: theirs.origin(), position: 1 });
            let ended = vec![ended_stream(&theirs, count)];
            next.begin_with(Preamble { continues, ended, kept: false });
            let message = data(&mut next, b"c");
            let opened = receiver.open(&message, &mut BytesMut::new()).unwrap();
            assert_eq!((receiver.copies(&opened), receiver.lost_ends(&opened)), (vec![theirs.id()], vec![]));
            assert_eq!((receiver.awaits(&opened), receiver.continued(&opened)), (None, None));
            let accepted = receiver.accept(&opened).unwrap();
            assert_eq!((accepted.gap, accepted.skip, &accepted.others), (None, 0, &OtherStreams::default()));
            assert_eq!(accepted.progress.sequence, Sequence::of_origin(next.origin(), 1), "a sequence of its own");
            assert!(ends || receive(&mut receiver, &data(&mut ours, b"d")).1.is_ok(), "the other one goes on");
        }
    }
}

proptest! {
    /// Whatever is lost of streams whose ends are told, with confirms or without: each message is written, or reported
    /// lost.
    #[test]
    fn what_is_lost_is_told_to_the_message(
        streams in prop::collection::vec((prop::collection::vec(any::<bool>(), 1..8), any::<bool>()), 1..8),
    ) {
        let (master, slave) = pair(1, Suite::Gcm);
        let mut receiver = receiver(&[&slave]);
        let mut ended = Vec::new();
        let mut expected = 0;
        for (number, (arrives, wants_confirms)) in (0..).zip(&streams) {
            let mut sender = sender(&master, number);
            if *wants_confirms {
                sender = sender.ask_for_confirms();
            }
            for arrives in arrives {
                let message = data(&mut sender, b"x");
                if *arrives {
                    let _ = receive(&mut receiver, &message);
                }
            }
            expected += arrives.len() as u64;
            ended.push(sender);
        }
        let mut written_or_lost = 0;
        for sender in &ended {
            written_or_lost += u64::from(receiver.streams(slave.id).unwrap().next_seq(sender.id().number).unwrap_or(0));
        }
        let told: Vec<_> = ended.iter().map(|sender| (sender, Some(sender.next_seq()))).collect();
        let mut teller = sender(&master, 100);
        tell(&mut teller, &told);
        let lost = lost(&mut receiver, &data(&mut teller, b""));
        written_or_lost += lost.iter().map(|(_, first, last)| u64::from(last - first) + 1).sum::<u64>();
        prop_assert_eq!(written_or_lost, expected, "gaps below the next seq were told before");
    }
}

/// A copy that says nothing of the stream but that it continues it shows itself by the salt, too.
#[test]
fn a_sequence_of_a_copy_is_another_sequence() {
    let (master, slave) = pair(1, Suite::Gcm);
    let new = |number, salt| Sender::new(&master, reserved(&master, number), salt, LIMIT).unwrap();
    let (mut ours, theirs, mut next) = (new(0, [1; 8]), new(0, [2; 8]), new(1, [3; 8]));
    let mut receiver = receiver(&[&slave]);
    assert!(receive(&mut receiver, &data(&mut ours, b"a")).1.is_ok());
    let continues = Some(Continues { origin: theirs.origin(), position: 0 });
    next.begin_with(Preamble { continues, ..Preamble::default() });
    let opened = receiver.open(&data(&mut next, b"b"), &mut BytesMut::new()).unwrap();
    assert_eq!((receiver.copies(&opened), receiver.continued(&opened)), (vec![theirs.id()], None));
    let accepted = receiver.accept(&opened).unwrap();
    assert_eq!((accepted.gap, accepted.skip), (None, 0), "nothing of it counts as received");
    assert!(receive(&mut receiver, &data(&mut ours, b"c")).1.is_ok(), "the other one goes on");
}

/// Three streams that carry one sequence, of two messages each; the second one is lost whole. Whether the third one
/// arrives before or after another stream tells how they ended: each message is lost once.
#[test]
fn a_stream_that_is_lost_in_the_middle_of_a_sequence_is_counted_once() {
    let (master, slave) = pair(1, Suite::Gcm);
    for told_first in [false, true] {
        let mut receiver = receiver(&[&slave]);
        let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
        for text in [b"a", b"b"] {
            assert!(receive(&mut receiver, &data(&mut one, text)).1.is_ok());
        }
        go_on(&mut two, one.id(), 2);
        let _ = [b"c", b"d"].map(|text| data(&mut two, text));
        go_on(&mut three, one.id(), 4);
        let last = [data(&mut three, b"e"), end(&mut three, b"f")];
        let mut teller = sender(&master, 3);
        tell(&mut teller, &[(&one, Some(2)), (&two, Some(2))]);
        let told = data(&mut teller, b"");
        let mut by_position = 0;
        let mut by_count = Vec::new();
        if told_first {
            by_count = lost(&mut receiver, &told);
        }
        for message in &last {
            let accepted = receive(&mut receiver, message).1.unwrap();
            by_position += accepted.others.gap.into_iter().chain(accepted.gap).map(|gap| gap.messages()).sum::<u64>();
            assert_eq!(accepted.skip, 0);
        }
        if !told_first {
            by_count = lost(&mut receiver, &told);
        }
        let by_count = by_count.iter().map(|(_, first, last)| u64::from(last - first) + 1).sum::<u64>();
        assert_eq!((by_position, by_count), if told_first { (0, 2) } else { (2, 0) });
        assert!(receiver.streams(slave.id).unwrap().missing().is_empty());
    }
}

/// Its first message is lost, and what is missing of it was reported when the rest was accepted: what the next stream
/// says with its position is not another loss, if it also tells where the one before it was.
#[test]
fn a_stream_without_its_first_message_is_put_where_it_was() {
    let (master, slave) = pair(1, Suite::Gcm);
    for (is_copied, restarts) in [(false, false), (true, false), (true, true)] {
        let mut receiver = receiver(&[&slave]);
        let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
        assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
        go_on(&mut two, one.id(), 1);
        let _lost = data(&mut two, b"b");
        let accepted = receive(&mut receiver, &data(&mut two, b"c")).1.unwrap();
        assert_eq!(accepted.gap.map(|gap| gap.messages()), Some(1));
        if is_copied {
            // Another device tells of the first stream as its own.
            let theirs = Sender::new(&master, reserved(&master, 0), [9; 8], LIMIT).unwrap();
            let mut teller = sender(&master, 7);
            tell(&mut teller, &[(&theirs, None)]);
            let opened = receive(&mut receiver, &data(&mut teller, b"d")).0;
            assert_eq!(receiver.copies(&opened), [one.id()]);
        }
        // What was seen of the copy must not be forgotten: what this one tells may be true of the other device only.
        if restarts {
            receiver = restarted(&receiver, &[&slave]);
        }
        let continues = Some(two.position_of(2));
        let ended = vec![ended_stream(&two, Some(2))];
        three.begin_with(Preamble { continues, ended, kept: false });
        let OtherStreams { moved, gap, .. } = receive(&mut receiver, &data(&mut three, b"e")).1.unwrap().others;
        let moved: Vec<_> = moved.iter().map(|moved| moved.progress.sequence).collect();
        if is_copied {
            assert_eq!((moved, gap.map(|gap| gap.messages())), (vec![], Some(2)));
        } else {
            assert_eq!((moved, gap), (vec![Sequence { origin: one.origin(), position: 3 }], None));
        }
    }
}

/// What is told of a stream of which nothing came may come before the rest of it, without its first message: otherwise what was
/// written of both would be reported as lost.
#[test]
fn a_stream_that_begins_without_its_first_message_after_it_was_told_is_put_where_it_was() {
    let (master, slave) = pair(1, Suite::Gcm);
    for (is_copied, restarts) in [(false, false), (false, true), (true, false)] {
        let mut receiver = receiver(&[&slave]);
        let [mut one, mut two, mut teller] = [0, 1, 3].map(|number| sender(&master, number));
        assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
        let _lost = data(&mut one, b"b");
        go_on(&mut two, one.id(), 0);
        let _lost = data(&mut two, b"a");
        let second = data(&mut two, b"b");
        if is_copied {
            receiver.entry_mut(slave.id).unwrap().streams.mark_copied();
        }
        tell(&mut teller, &[(&one, Some(2)), (&two, Some(2))]);
        let opened = receive(&mut receiver, &data(&mut teller, b"later")).0;
        let ended = receiver.lost_ends(&opened);
        assert_eq!(ended.len(), 2);
        if restarts {
            receiver = restarted(&receiver, &[&slave]);
        }
        let Accepted { gap, others, .. } = receive(&mut receiver, &second).1.unwrap();
        let closed = others.closed.iter().map(|(closed, _)| closed.stream).collect::<Vec<_>>();
        if is_copied {
            assert_eq!((gap.map(|gap| gap.messages()), closed), (Some(1), vec![one.id()]));
        } else {
            assert_eq!((gap, closed), (None, vec![]));
            let lost: Vec<_> = ended.iter().filter_map(|ended| receiver.close_lost_end(ended)).collect();
            assert!(lost.iter().all(|lost| lost.gap.is_none() && lost.others.gap.is_none()), "{lost:?}");
        }
    }
}

/// A broker that delays a stream must not have it close the one that carries its sequence now.
#[test]
fn a_stream_that_comes_after_a_newer_one_of_its_sequence_closes_nothing() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
    assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
    go_on(&mut two, one.id(), 1);
    let late = data(&mut two, b"b");
    go_on(&mut three, one.id(), 2);
    assert!(receive(&mut receiver, &data(&mut three, b"c")).1.is_ok());
    assert_eq!(receive(&mut receiver, &late).1, Err(AcceptError::Closed));
    assert_eq!(lost(&mut receiver, &told(&master, &[(&two, Some(1))])), [], "it was reported with the newer one");
    let accepted = receive(&mut receiver, &data(&mut three, b"d")).1.unwrap();
    assert_eq!((accepted.gap, accepted.skip), (None, 0));
}

/// Whatever stream tells it, and whatever it says it continued: a device moves its own streams, into sequences that it named.
#[test]
fn only_the_streams_of_its_own_device_are_moved() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (other, mut others) = pair(2, Suite::Gcm);
    others.peer = [9; 32];
    for case in 0..5 {
        let mut receiver = receiver(&[&slave, &others]);
        let [mut one, mut two, mut ours] = [0, 1, 7].map(|number| sender(&master, number));
        let [mut their_first, mut theirs] = [0, 7].map(|number| sender(&other, number));
        assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
        assert!(receive(&mut receiver, &data(&mut their_first, b"a")).1.is_ok());
        go_on(&mut two, one.id(), 1);
        let _lost = data(&mut two, b"b");
        assert!(receive(&mut receiver, &data(&mut two, b"c")).1.is_ok());
        let (teller, named) = match case {
            0 => (&mut ours, one.origin()),
            1 => (&mut theirs, one.origin()),
            2 => (&mut ours, their_first.origin()),
            3 => (&mut ours, two.origin()),
            _ => (&mut ours, origin(StreamId { number: 7, ..two.id() })),
        };
        let continues = Some(Continues { origin: named, position: 1 });
        let ended = vec![EndedStream { continues, ..ended_stream(&two, Some(2)) }];
        teller.begin_with(Preamble { ended, ..Preamble::default() });
        let is_moved = case == 0;
        let message = data(teller, b"d");
        let moved = receive(&mut receiver, &message).1.unwrap().others.moved;
        assert_eq!(moved.len(), usize::from(is_moved), "{case}");
        let known = receiver.streams(slave.id).unwrap().known(two.id(), two.salt()).unwrap();
        assert_eq!(known.sequence.origin.stream != two.id(), is_moved, "{case}: else it is as it was");
        assert!(receive(&mut receiver, &data(&mut their_first, b"e")).1.is_ok(), "{case}: theirs goes on");
        assert!(receive(&mut receiver, &data(&mut two, b"f")).1.is_ok(), "{case}: so does this one, wherever it is");
    }
}

/// Of a stream of which nothing came: what it is said to continue counts if it is another one of its device's data.
#[test]
fn a_lost_stream_continues_another_one_of_its_own_device_or_none() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (other, mut others) = pair(2, Suite::Gcm);
    others.peer = [9; 32];
    let (foreign, side, absent) = (sender(&other, 0), sender(&master, FIRST_SIDE_STREAM), sender(&master, 4));
    let unknown = sender(&pair(3, Suite::Gcm).0, 0);
    for continued in [foreign.origin(), side.origin(), absent.origin(), unknown.origin()] {
        let mut receiver = receiver(&[&slave, &others]);
        assert!(receive(&mut receiver, &data(&mut sender(&other, 0), b"theirs")).1.is_ok());
        let continues = Some(Continues { origin: continued, position: 3 });
        let ended = EndedStream { continues, ..ended_stream(&absent, Some(2)) };
        let mut teller = sender(&master, 9);
        teller.begin_with(Preamble { ended: vec![ended], ..Preamble::default() });
        let opened = receive(&mut receiver, &data(&mut teller, b"")).0;
        assert_eq!(receiver.lost_ends(&opened), [ended]);
        let told = receiver.close_lost_end(&ended).unwrap();
        assert_eq!(told.others, OtherStreams::default(), "{continued:?}");
        assert_eq!(told.gap, Some(Gap { stream: absent.id(), first: 0, last: 1 }), "{continued:?}");
        assert_eq!(told.progress.sequence, Sequence::of_origin(absent.origin(), 2), "{continued:?}");
        assert_eq!(receiver.streams(others.id).unwrap().next_seq(0), Some(1));
    }
}

/// What is written down of a stream that is closed: it ends where its sender said, and nothing of it is skipped.
#[test]
fn a_stream_that_is_closed_by_its_end_is_written_down_with_that_end() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut three] = [0, 1, 2].map(|number| sender(&master, number));
    // The third of its messages was written in part: what continues it skips that.
    let _rest = [b"a", b"b"].map(|text| receive(&mut receiver, &data(&mut one, text)));
    let stream = one.id();
    let cut = Progress { skip: 5, ..receiver.streams(slave.id).unwrap().close_at(stream) };
    let mut streams = receiver.streams(slave.id).unwrap().clone();
    streams.apply(&Progress { state: StreamState::Open, ..cut });
    receiver.restore(slave.id, streams);
    let told = receiver.lost_end(&ended_stream(&one, Some(9))).unwrap();
    assert_eq!((told.progress.next, told.progress.skip), (9, 0));
    assert_eq!(told.gap, Some(Gap { stream, first: 2, last: 8 }));

    // A newer stream carries the sequence: of an older one that did not come, nothing is lost that was not reported.
    go_on(&mut two, one.id(), 2);
    go_on(&mut three, one.id(), 3);
    assert!(receive(&mut receiver, &data(&mut three, b"d")).1.is_ok());
    let told = receiver.lost_end(&ended_stream(&two, Some(1))).unwrap();
    assert_eq!((told.gap, told.progress.sequence), (None, Sequence { origin: one.origin(), position: 0 }));
}

/// Else what it carried would be missing once more where it was.
#[test]
fn a_stream_that_is_over_is_put_where_it_was_as_well() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let [mut one, mut two, mut teller, mut later] = [0, 1, 7, 8].map(|number| sender(&master, number));
    assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
    go_on(&mut two, one.id(), 1);
    let _lost = data(&mut two, b"b");
    assert!(receive(&mut receiver, &data(&mut two, b"c")).1.is_ok());
    let ended = ended_stream(&two, Some(3));
    teller.begin_with(Preamble { ended: vec![EndedStream { continues: None, ..ended }], ..Preamble::default() });
    assert_eq!(lost(&mut receiver, &data(&mut teller, b"d")), [(1, 2, 2)]);
    later.begin_with(Preamble { ended: vec![ended], ..Preamble::default() });
    let moved = receive(&mut receiver, &data(&mut later, b"e")).1.unwrap().others.moved;
    let moved: Vec<_> = moved.iter().map(|moved| (moved.progress.stream, moved.progress.sequence)).collect();
    assert_eq!(moved, [(two.id(), Sequence { origin: one.origin(), position: 4 })]);
}
