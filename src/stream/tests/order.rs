//! Claim: a receiver can tell that a stream goes on from one of which the end has not come, and exactly what of that is
//! lost if it goes on without it.

use super::*;

/// A stream of two messages that goes on in another one of one message.
struct Rotation {
    slaves: [Session; 2],
    old: Vec<Bytes>,
    new: Vec<Bytes>,
}

fn rotation(wants_confirms: bool) -> Rotation {
    let ((old, old_slave), (new, new_slave)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let (mut one, mut two) = (sender(&old, 4), sender(&new, 0));
    if wants_confirms {
        (one, two) = (one.ask_for_confirms(), two.ask_for_confirms());
    }
    let old = vec![
        data(&mut one, b"a"),
        data(&mut one, b"b"),
        seal_control(&mut one, &Content::Continued(two.id())).unwrap(),
    ];
    assert_eq!(one.as_predecessor(), Predecessor { stream: StreamId { session: one.id().session, number: 4 }, end: 3 });
    let new = vec![continues(&mut two, one.as_predecessor()), data(&mut two, b"c"), end(&mut two, b"d")];
    Rotation { slaves: [old_slave, new_slave], old, new }
}

fn opened(receiver: &Receiver, message: &[u8]) -> Opened {
    receiver.open(message, &mut BytesMut::new()).unwrap()
}

#[test]
fn a_stream_that_goes_on_awaits_the_end_of_the_one_before() {
    let Rotation { slaves, old, new } = rotation(false);
    let mut receiver = receiver(&slaves.each_ref());
    let first = opened(&receiver, &new[0]);
    let predecessor = Predecessor { stream: StreamId { session: slaves[0].id, number: 4 }, end: 3 };
    for (at, message) in old.iter().enumerate() {
        // The last message carries nothing that anybody would miss.
        let awaited = (at < 2).then_some(predecessor);
        assert_eq!(
            (receiver.awaits(&first), receiver.is_complete(&predecessor)),
            (awaited, at == 2),
            "of message {at} on"
        );
        assert_eq!(receive(&mut receiver, message).1.unwrap().gap, None);
    }
    assert_eq!((receiver.awaits(&first), receiver.predecessor(&first)), (None, Some(predecessor)));
    for message in &new {
        let accepted = receive(&mut receiver, message).1.unwrap();
        assert_eq!((accepted.gap, accepted.predecessor), (None, None));
        assert_eq!(receiver.awaits(&opened(&receiver, &new[1])), None, "only the first message tells");
    }
    assert!(receiver.streams(slaves[1].id).unwrap().is_over(0));
}

/// Numbers begin anew with each session, so two streams of a rotation often have the same one.
#[test]
fn a_predecessor_may_have_the_same_number_in_another_session() {
    let ((old, old_slave), (new, new_slave)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let (mut one, mut two) = (sender(&old, 0), sender(&new, 0));
    data(&mut one, b"a");
    seal_control(&mut one, &Content::Continued(two.id())).unwrap();
    let first = continues(&mut two, one.as_predecessor());
    let receiver = receiver(&[&old_slave, &new_slave]);
    assert_eq!(receiver.awaits(&opened(&receiver, &first)), Some(one.as_predecessor()));

    // But a stream is never its own predecessor.
    let mut three = sender(&new, 1);
    let itself = Predecessor { stream: three.id(), end: 1 };
    let lie = continues(&mut three, itself);
    assert_eq!(receiver.predecessor(&opened(&receiver, &lie)), None);
}

#[test]
fn going_on_without_the_rest_reports_it_and_takes_no_more_of_it() {
    for arrived in 0..2 {
        let Rotation { slaves, old, new } = rotation(false);
        let mut receiver = receiver(&slaves.each_ref());
        for message in &old[..arrived] {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let next = u32::try_from(arrived).unwrap();
        let accepted = receive(&mut receiver, &new[0]).1.unwrap();
        let (progress, gap) = accepted.predecessor.unwrap();
        let gap = gap.unwrap();
        assert_eq!((progress.stream.number, progress.next, progress.state), (4, next, StreamState::Closed));
        assert_eq!(gap, Gap { stream: StreamId { session: slaves[0].id, number: 4 }, first: next, last: 2 });
        assert_eq!(claim(&receiver, &old[arrived]), Some(Claim::Closed));
        assert_eq!(receive(&mut receiver, &new[0]).1, Err(AcceptError::Duplicate { next: 1 }));
        assert!(receiver.streams(slaves[0].id).unwrap().outstanding(Some(5)).contains(4), "a KILL names it, too");
    }
}

#[test]
fn going_on_without_the_last_word_loses_nothing() {
    let Rotation { slaves, old, new } = rotation(false);
    let mut receiver = receiver(&slaves.each_ref());
    for message in &old[..2] {
        assert!(receive(&mut receiver, message).1.is_ok());
    }
    let accepted = receive(&mut receiver, &new[0]).1.unwrap();
    let (progress, gap) = accepted.predecessor.unwrap();
    assert_eq!((progress.stream.number, progress.next, progress.state, gap), (4, 3, StreamState::Ended, None));
    assert_eq!(receive(&mut receiver, &old[2]).1, Err(AcceptError::Duplicate { next: 3 }));
    assert!(receiver.streams(slaves[0].id).unwrap().open(slaves[0].id).is_empty());
}

#[test]
fn nothing_is_awaited_of_what_is_not_known_or_not_the_peers_own() {
    let Rotation { slaves: [old, new], old: _, new: sent } = rotation(false);
    let alone = receiver(&[&new]);
    let first = opened(&alone, &sent[0]);
    assert_eq!((alone.awaits(&first), alone.predecessor(&first)), (None, None), "the old session is gone");

    let strangers = receiver(&[&Session { peer: [9; 32], ..old }, &new]);
    assert_eq!(strangers.predecessor(&opened(&strangers, &sent[0])), None);

    let Rotation { slaves, new, .. } = rotation(true);
    let mut confirmed = receiver(&slaves.each_ref());
    assert_eq!(confirmed.awaits(&opened(&confirmed, &new[0])), None, "it began once all before it was confirmed");
    assert_eq!(receive(&mut confirmed, &new[0]).1.unwrap().predecessor, None);
}

#[test]
fn a_stream_does_not_await_itself_and_no_stream_of_confirms() {
    let (master, slave) = pair(1, Suite::Gcm);
    for stream in [7, FIRST_CONFIRM_STREAM, u32::MAX] {
        let mut receiver = receiver(&[&slave]);
        let lie = Predecessor { stream: StreamId { session: slave.id, number: stream }, end: 1 };
        let message = continues(&mut sender(&master, 7), lie);
        let first = opened(&receiver, &message);
        assert_eq!((receiver.awaits(&first), receiver.predecessor(&first)), (None, None));
        assert_eq!(receive(&mut receiver, &message).1.unwrap().predecessor, None);
    }
    // An end that is below what came, or above any seq.
    for end in [0, 1, u32::MAX] {
        let mut receiver = receiver(&[&slave]);
        for message in stream(&master, 3, false, 1, &[vec![1], vec![2], vec![3]]).iter().take(2) {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let lie = Predecessor { stream: StreamId { session: slave.id, number: 3 }, end };
        let accepted = receive(&mut receiver, &continues(&mut sender(&master, 7), lie)).1.unwrap();
        let gap = accepted.predecessor.unwrap().1.unwrap();
        assert_eq!((gap.first, gap.last), (2, end.saturating_sub(1).max(2)));
    }
}
