//! Claim: a message that stands alone is never taken for more than it is: it leaves no gap, and is not older than what was
//! received.

use super::*;

fn opened(receiver: &Receiver, message: &[u8]) -> Opened {
    receiver.open(message, &mut BytesMut::new()).unwrap()
}

#[test]
fn only_the_next_message_of_an_open_stream_is_expected() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 0);
    let sent: Vec<_> = (0..5).map(|_| data(&mut sender, b"x")).collect();
    let expects =
        |receiver: &Receiver| sent.iter().map(|one| receiver.expects(&opened(receiver, one))).collect::<Vec<_>>();
    assert_eq!(expects(&receiver), [false; 5], "it begins no stream");
    for message in &sent[..2] {
        assert!(receive(&mut receiver, message).1.is_ok());
    }
    assert_eq!(expects(&receiver), [true, true, true, false, false], "repeats are refused as ever");
    let confirmed = stream(&master, 1, true, 1, &[b"a".to_vec(), b"b".to_vec()]);
    assert!(confirmed.iter().all(|message| !receiver.expects(&opened(&receiver, message))));
    assert!(receive(&mut receiver, &confirmed[0]).1.is_ok());
    assert!(receiver.expects(&opened(&receiver, &confirmed[1])));
}

#[test]
fn a_message_is_outdated_once_anything_later_was_received() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut first = sender(&master, 3);
    first.begin_with(Preamble { kept: true, ..Preamble::default() });
    let mut sent: Vec<_> = (0..3).map(|_| data(&mut first, b"x")).collect();
    sent.push(end(&mut first, b""));
    let later = stream(&master, 4, false, 1, &[b"y".to_vec()]);
    let mut receiver = receiver(&[&slave]);
    let outdated =
        |receiver: &Receiver| sent.iter().map(|one| receiver.is_outdated(&opened(receiver, one))).collect::<Vec<_>>();
    assert_eq!(outdated(&receiver), [false; 4]);
    for (message, expected) in sent.iter().zip([
        [false, false, false, false],
        [true, false, false, false],
        [true, true, false, false],
        // The end carries no bytes: what is before it is the last value.
        [true, true, false, false],
    ]) {
        assert!(receive(&mut receiver, message).1.is_ok());
        assert_eq!(outdated(&receiver), expected);
    }
    assert!(!receiver.is_outdated(&opened(&receiver, &later[0])));
    assert!(receive(&mut receiver, &later[0]).1.is_ok());
    assert_eq!(outdated(&receiver), [true; 4]);
    assert!(!receiver.is_outdated(&opened(&receiver, &later[0])));
}

/// Kinds without data may be sent by time, for as long as there is no other value: it is wanted for as long.
#[test]
fn a_message_without_data_outdates_no_value_of_its_stream() {
    let (master, slave) = pair(1, Suite::Gcm);
    let said: [&[u8]; 8] = [
        b"\x21\x00\x03\x03\x00\x00old",
        b"\x01new",
        b"\x0flater kind",
        b"\x0f",
        b"\x01newer",
        b"\x0f",
        b"\x00?",
        b"\x02",
    ];
    let sent: Vec<_> = (0..).zip(said).map(|(seq, said)| raw(&master, FrameType::Enc, seq, said)).collect();
    // Whether each of these was received, and how many of the messages are outdated then.
    for (received, outdated) in [
        ([true, true, false, false, false, false, false, false], 1),
        ([true, true, true, true, false, false, false, false], 1),
        ([true, true, true, true, true, false, false, false], 4),
        ([true, true, true, true, true, true, false, false], 4),
        ([true, true, true, true, true, true, false, true], 6),
        ([true, true, true, false, true, true, true, true], 6),
        // What is lost may have been a newer value.
        ([true, true, false, true, false, false, false, false], 2),
        ([true, true, true, true, false, true, false, false], 4),
    ] {
        let mut receiver = receiver(&[&slave]);
        let values: Vec<_> = sent.iter().map(|one| opened(&receiver, one)).collect();
        for (message, _) in sent.iter().zip(received).filter(|(_, received)| *received) {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let count = values.iter().take_while(|value| receiver.is_outdated(value)).count();
        assert_eq!(count, outdated, "{received:?}");
    }
}

#[test]
fn the_value_before_an_end_with_data_is_outdated() {
    let (master, slave) = pair(1, Suite::Gcm);
    let sent = stream(&master, 0, false, 1, &[b"old".to_vec(), b"new".to_vec()]);
    let mut receiver = receiver(&[&slave]);
    let outdated = |receiver: &Receiver| [0, 1].map(|seq: usize| receiver.is_outdated(&opened(receiver, &sent[seq])));
    assert!(receive(&mut receiver, &sent[0]).1.is_ok());
    assert_eq!(outdated(&receiver), [false, false]);
    assert!(receive(&mut receiver, &sent[1]).1.is_ok());
    assert_eq!(outdated(&receiver), [true, false]);
}

#[test]
fn a_newer_session_outdates_once_something_came_under_it() {
    let (old, new) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let value = stream(&old.0, 7, false, 1, &[b"old".to_vec()]).remove(0);
    let next = stream(&new.0, 0, false, 1, &[b"new".to_vec()]).remove(0);
    let mut receiver = receiver(&[&new.1, &old.1]);
    assert!(!receiver.is_outdated(&opened(&receiver, &value)));
    assert!(receiver.is_later(&opened(&receiver, &next), &opened(&receiver, &value)));
    assert!(!receiver.is_later(&opened(&receiver, &value), &opened(&receiver, &next)));
    assert!(!receiver.is_later(&opened(&receiver, &value), &opened(&receiver, &value)), "nor than itself");
    assert!(receive(&mut receiver, &next).1.is_ok());
    assert!(receiver.is_outdated(&opened(&receiver, &value)));
    assert!(!receiver.is_outdated(&opened(&receiver, &next)));
}

#[test]
fn the_value_before_one_that_was_written_in_part_is_outdated() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut sender = sender(&master, 0);
    let sent = [0, 1].map(|_| data(&mut sender, b"value"));
    let mut receiver = receiver(&[&slave]);
    for (message, written) in sent.iter().zip([5, 2]) {
        let accepted = receive(&mut receiver, message).1.unwrap();
        if written < 5 {
            let mut streams = receiver.streams(slave.id).unwrap().clone();
            streams.apply(&accepted.progress.partly(written));
            receiver.restore(slave.id, streams);
        }
    }
    assert_eq!(sent.map(|message| receiver.is_outdated(&opened(&receiver, &message))), [true, false]);
}

/// Which of the two was sent later, nobody knows.
#[test]
fn of_a_number_that_was_taken_twice_the_other_is_outdated() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut copied = Sender::new(&master, reserved(&master, 0), [9; 8], LIMIT).unwrap();
    let values = [0, 1, 2].map(|_| opened(&receiver, &data(&mut copied, b"of the copy")));
    assert!(values.iter().all(|value| !receiver.is_outdated(value)));
    assert!(receive(&mut receiver, &data(&mut sender(&master, 0), b"x")).1.is_ok());
    assert!(values.iter().all(|value| receiver.is_outdated(value)));
}

#[test]
fn what_was_given_up_has_no_last_value() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let value = opened(&receiver, &data(&mut sender(&master, 0), b"x"));
    let mut all = Streams::default();
    all.insert_closed(0, u32::MAX);
    receiver.restore(slave.id, all);
    assert!(receiver.is_outdated(&value));
}
