//! Claim: what was received to its end opens no more, whatever is taken afterwards; what is still to come opens.

use super::super::keys::erases_part;
use super::*;
use crate::crypto::key_tree::MAX_NUMBER;
use crate::session::ReceiveKeys;

/// A session as its file has it, once what was received is written down there.
fn reduced(slave: &Session, received: &Receiver) -> Session {
    let mut session = slave.clone();
    session.receive.reduce(received.streams(slave.id).unwrap());
    session
}

/// What opens with the keys of a session alone, whatever was received: the thief's receiver.
fn opens(stolen: &Session, message: &[u8]) -> bool {
    let mut plaintext = BytesMut::new();
    receiver(&[stolen]).open(message, &mut plaintext).is_ok()
}

/// What is resent after the first message of a part is read back under the key of the one before.
#[test]
fn a_sender_reads_back_what_it_sealed_in_the_part_before() {
    for part in [1, 2] {
        let mut sender = sender(&pair(1, Suite::Gcm).0, 0);
        sender.jump((part << 20) - 1);
        let sent = [data(&mut sender, b"a"), data(&mut sender, b"b")];
        for (message, bytes) in sent.iter().zip([b"a", b"b"]) {
            let (content, sent, read) = sender.read_back(message).unwrap();
            assert_eq!((content, sent, &read[..]), (Content::Data, None, &bytes[..]));
        }
    }
}

/// The broker acknowledged one of them before an earlier one: what is sealed again without it would hide that it is lost.
#[test]
fn a_tail_of_a_stream_has_no_hole() {
    let (session, _) = pair(1, Suite::Gcm);
    let mut sender = sender(&session, 0);
    let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| data(&mut sender, bytes));
    let other = data(&mut self::sender(&session, 1), b"c");
    let tail =
        |messages: &[&Bytes]| sender.tail_from(&messages.iter().map(|&message| message.clone()).collect::<Vec<_>>());
    assert_eq!(tail(&[&a, &b, &c]), Some(0));
    assert_eq!(tail(&[&b, &c]), Some(1));
    assert_eq!(tail(&[&c]), Some(2));
    for hole in [&[&a, &c][..], &[&a, &b], &[&b, &a, &c], &[&a, &b, &other], &[&a, &b, &c, &c], &[]] {
        assert_eq!(tail(hole), None);
    }
}

fn open(receiver: &Receiver, message: &[u8]) -> Result<Opened, Rejected> {
    receiver.open(message, &mut BytesMut::new())
}

/// The session's file is written again when keys go from it, and only then.
#[test]
fn what_goes_from_the_keys_of_a_session_is_told() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut file = slave.clone();
    let mut has_changed = |receiver: &mut Receiver, message: &[u8]| {
        assert!(receive(receiver, message).1.is_ok());
        let streams = receiver.streams(slave.id).unwrap();
        let has_changed = file.receive.reduce(streams);
        let reduced = file.receive.clone();
        assert!(!file.receive.reduce(streams), "once is enough");
        assert_eq!(file.receive, reduced);
        has_changed
    };
    let mut one = sender(&master, 2);
    assert!(has_changed(&mut receiver, &data(&mut one, b"it begins")));
    assert!(!has_changed(&mut receiver, &data(&mut one, b"more")));
    one.jump((1 << 20) + (1 << 16) - 2);
    assert!(!has_changed(&mut receiver, &data(&mut one, b"part 0 may come again")));
    assert!(has_changed(&mut receiver, &data(&mut one, b"and no more")));
    assert!(has_changed(&mut receiver, &end(&mut one, b"it ends")));
    assert!(has_changed(&mut receiver, &end(&mut sender(&master, 5), b"of one message")));
}

#[test]
fn a_stolen_session_opens_nothing_that_was_received_to_its_end() {
    for suite in Suite::ALL {
        let (master, slave) = pair(1, suite);
        let mut receiver = receiver(&[&slave]);
        let over: Vec<_> = (0..40)
            .filter(|number| number % 3 > 0)
            .map(|number| stream(&master, number, number % 2 == 0, 1, &[b"a".to_vec(), b"b".to_vec()]))
            .collect();
        let mut open = sender(&master, 6);
        let begun = data(&mut open, b"first");
        for message in over.iter().flatten().chain([&begun]) {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let stolen = reduced(&slave, &receiver);
        assert!(over.iter().flatten().all(|message| !opens(&stolen, message)));
        // Of those it says what they are, for a run that gets them again.
        let mut next = super::receiver(&[&stolen]);
        next.restore(slave.id, receiver.streams(slave.id).unwrap().clone());
        let claims: Vec<_> = over.iter().flatten().map(|message| claim(&next, message)).collect();
        assert!(claims.iter().all(|claim| matches!(claim, Some(HeaderClaim::Ended { .. }))), "{claims:?}");
        assert!(
            claims.iter().any(|claim| matches!(claim, Some(HeaderClaim::Ended { confirm: Some((_, 2)) })))
                && claims.contains(&Some(HeaderClaim::Ended { confirm: None }))
        );
        // What is still to come opens, and only that.
        assert!(opens(&stolen, &data(&mut open, b"second")) && opens(&stolen, &begun));
        for number in [0, 3, 39, 40, 1_000_000] {
            assert!(opens(&stolen, &data(&mut sender(&master, number), b"later")), "{number}");
        }
        assert_eq!(stolen.receive.open.keys().collect::<Vec<_>>(), [&6]);
        assert!(!stolen.receive.clone().reduce(receiver.streams(slave.id).unwrap()), "once is enough");
        assert_eq!(receiver.session(slave.id).unwrap().receive, stolen.receive, "no more in memory");
    }
}

#[test]
fn a_sender_that_is_robbed_has_no_key_of_what_it_sent() {
    let (mut master, slave) = pair(1, Suite::Gcm);
    let whole = master.clone();
    let (number, leaf) = master.send.tree.take_lowest().unwrap();
    let taken = ReservedStream::of_data(master.id, number, leaf);
    let mut sender = Sender::new(&master, taken, [5; 8], LIMIT).unwrap();
    let message = data(&mut sender, b"secret");
    let thief = |keys: &Session| {
        let receive = ReceiveKeys { tree: keys.send.tree.clone(), ..slave.receive.clone() };
        opens(&Session { receive, ..slave.clone() }, &message)
    };
    assert!(thief(&whole) && !thief(&master));
}

#[test]
fn a_message_that_is_not_authentic_moves_no_key() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let message = data(&mut sender(&master, 3), b"a");
    let mut forged = message.to_vec();
    *forged.last_mut().unwrap() ^= 1;
    for _ in 0..3 {
        assert_eq!(claim(&receiver, &forged), None);
    }
    assert!(receive(&mut receiver, &message).1.is_ok());
}

#[test]
fn a_long_stream_steps_its_key_and_old_parts_close() {
    const PART: u32 = 1 << 20;
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 0);
    let mut sent = Vec::new();
    for seq in [0, 1, PART - 1, PART, PART + 5, PART + (1 << 16) + 1, 3 * PART, 3 * PART + (1 << 16)] {
        sender.jump(seq);
        sent.push((seq, data(&mut sender, b"x")));
    }
    let (_, last) = sent.last().unwrap();
    assert_eq!(sender.read_back(last).unwrap().0, Content::Data);
    assert_eq!(sender.read_back(&sent[5].1).unwrap_err().exit(), crate::Exit::Failed, "two parts before");
    for (at, (seq, message)) in sent.iter().enumerate() {
        assert!(receive(&mut receiver, message).1.is_ok(), "{seq}");
        // What may come again opens, in this run and in the next.
        let stolen = reduced(&slave, &receiver);
        assert_eq!(receiver.session(slave.id).unwrap().receive, stolen.receive, "no more in memory after {seq}");
        for (other, message) in &sent[..=at] {
            let may_come_again = StreamKey::part_of(*other) >= StreamKey::part_of((seq + 1).saturating_sub(1 << 16));
            assert_eq!(opens(&stolen, message), may_come_again, "{other} after {seq}");
            assert_eq!(open(&receiver, message).is_ok(), may_come_again, "{other} after {seq}, in this run");
        }
        // One cipher a part, and none of what is over.
        let mut parts: Vec<_> = sent[..=at].iter().map(|(other, _)| StreamKey::part_of(*other)).collect();
        parts.dedup();
        parts.retain(|part| *part >= StreamKey::part_of(seq.saturating_sub(1 << 16)));
        assert_eq!(receiver.sessions[&slave.id].keys.kept_parts(0), parts, "after {seq}");
    }
    assert!(!erases_part(PART, PART + (1 << 16) - 1) && erases_part(PART, PART + (1 << 16)));

    // A way of 3, 15, 17 and 61 bits.
    for (number, most) in [(1, 64), (254, 64), (255, 63), (MAX_NUMBER, 19), (FIRST_SIDE_STREAM, 64)] {
        let opens = |part: u32| {
            let message = raw_in(number, &master, FrameType::Enc, part * PART, b"\x01");
            open(&receiver, &message).is_ok()
        };
        assert_eq!([most, most + 1].map(opens), [true, false], "{number}: a forgery must cost little");
    }
    // The way to a stream that is known was gone once.
    assert!(receive(&mut receiver, &raw_in(MAX_NUMBER, &master, FrameType::Enc, 0, b"\x01")).1.is_ok());
    let opens = |part: u32| open(&receiver, &raw_in(MAX_NUMBER, &master, FrameType::Enc, part * PART, b"\x01")).is_ok();
    assert_eq!([64, 65].map(opens), [true, false]);
}

#[test]
fn the_newest_stream_that_the_broker_keeps_still_opens_after_its_end() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut values = Vec::new();
    for number in 0..3 {
        let mut sender = sender(&master, number);
        sender.begin_with(Preamble { kept: true, ..Preamble::default() });
        values.push(data(&mut sender, b"value"));
        for message in [values.last().unwrap(), &end(&mut sender, b"")] {
            assert!(receive(&mut receiver, message).1.is_ok());
        }
        let stolen = reduced(&slave, &receiver);
        let opened: Vec<_> = values.iter().map(|value| opens(&stolen, value)).collect();
        let newest = values.len() - 1;
        assert_eq!(opened, (0..values.len()).map(|value| value == newest).collect::<Vec<_>>());
    }
    // Also where the keys are written only once the others are gone.
    let mut stolen = reduced(&slave, &receiver);
    let before = stolen.receive.clone();
    stolen.receive.reduce(receiver.streams(slave.id).unwrap());
    assert_eq!(stolen.receive, before);
}

#[test]
fn wills_have_a_key_of_their_own_until_the_stream_ends() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut sender = sender(&master, 0);
    let ours = sender.will(2, b"gone", &mut rng()).unwrap();
    let other =
        Sender::new(&master, reserved(&master, 0), [9; 8], LIMIT).unwrap().will(2, b"gone", &mut rng()).unwrap();
    let mut receiver = receiver(&[&slave]);
    assert!(open(&receiver, &ours).is_ok());
    assert!(receive(&mut receiver, &data(&mut sender, b"a")).1.is_ok());
    assert!(open(&receiver, &ours).is_ok() && open(&receiver, &other).is_err());
    assert!(receive(&mut receiver, &end(&mut sender, b"")).1.is_ok());
    assert!(open(&receiver, &ours).is_err(), "it ended in order");
    assert_eq!(claim(&receiver, &ours), Some(HeaderClaim::Settled), "the broker may say it all the same");
    assert!(self::sender(&master, FIRST_SIDE_STREAM).will(0, b"", &mut rng()).is_err());
    let longest = vec![7; self::sender(&master, 1).max_data_len()];
    let will = self::sender(&master, 1).will(0, &longest, &mut rng()).unwrap();
    assert!(will.len() <= LIMIT && open(&receiver, &will).is_ok());
    assert!(sender.will(0, &[&longest[..], &[7]].concat(), &mut rng()).is_err(), "too long");
}

/// It has a number of its own, so it says nothing of messages, whether or not a confirm is owed.
#[test]
fn a_will_that_does_not_open_says_only_that_its_stream_is_over() {
    let (master, slave) = pair(1, Suite::Gcm);
    for asks in [false, true] {
        let mut sender = sender(&master, 0);
        sender = if asks { sender.ask_for_confirms() } else { sender };
        let will = sender.will(0, b"gone", &mut rng()).unwrap();
        let other = Sender::new(&master, reserved(&master, 0), [9; 8], LIMIT).unwrap();
        let other = other.will(0, b"gone", &mut rng()).unwrap();
        let mut receiver = receiver(&[&slave]);
        assert!(receive(&mut receiver, &data(&mut sender, b"a")).1.is_ok());
        assert_eq!(claim(&receiver, &other), None, "of a stream that is open");
        assert!(receive(&mut receiver, &end(&mut sender, b"")).1.is_ok());
        assert_eq!(claim(&receiver, &will), Some(HeaderClaim::Settled));
    }
}

/// Each connection of a sender gives the broker one, of a number above those before it.
#[test]
fn a_will_comes_at_most_once_for_each_connection_and_is_no_gap() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 3);
    let wills: Vec<_> = (0..5).map(|number| sender.will(number, b"gone", &mut rng()).unwrap()).collect();
    let will = |receiver: &mut Receiver, at: usize| {
        let opened = open(receiver, &wills[at]).unwrap();
        assert_eq!((&opened.head.content, opened.seq), (&Content::Will, u32::try_from(at).unwrap()));
        receiver.accept_will(&opened).map(|will| (will.next, will.accepted.progress.next, will.accepted.given_up))
    };
    assert_eq!(will(&mut receiver, 1), Ok((2, 0, vec![])), "it opens its stream");
    assert_eq!(receive(&mut receiver, &data(&mut sender, b"a")).1.unwrap().gap, None);
    assert_eq!(will(&mut receiver, 1), Err(AcceptError::Duplicate { next: 1 }));
    assert_eq!(will(&mut receiver, 3), Ok((4, 1, vec![])));
    // The next run knows the numbers, too.
    let mut next = super::receiver(&[&slave]);
    next.restore(slave.id, receiver.streams(slave.id).unwrap().clone());
    for at in 0..4 {
        assert_eq!(will(&mut next, at), Err(AcceptError::Duplicate { next: 1 }));
    }
    assert_eq!(will(&mut next, 4), Ok((5, 1, vec![])));
    let accepted = receive(&mut next, &data(&mut sender, b"b")).1.unwrap();
    assert_eq!((accepted.gap, accepted.progress.next), (None, 2));
    assert_eq!(next.streams(slave.id).unwrap().next_will(3), 5, "data changes nothing of that");
}

#[test]
fn a_stream_that_a_will_opened_still_says_what_it_continues() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut one, mut two) = (sender(&master, 0), sender(&master, 1));
    assert!(receive(&mut receiver, &data(&mut one, b"a")).1.is_ok());
    go_on(&mut two, one.id(), 1);
    let will = open(&receiver, &two.will(0, b"gone", &mut rng()).unwrap()).unwrap();
    assert!(receiver.accept_will(&will).is_ok());
    let (first, second) = (data(&mut two, b"b"), data(&mut two, b"c"));
    assert_eq!(receiver.awaits(&open(&receiver, &second).unwrap()), Some(Awaited::First));
    let accepted = receive(&mut receiver, &first).1.unwrap();
    assert_eq!(accepted.progress.sequence, Sequence { origin: one.origin(), position: 2 });
    assert_eq!(accepted.others.superseded.len(), 1);
}

proptest! {
    /// Two clones of a runtime directory, and a spool on each: whatever they send, no key seals with a nonce twice.
    #[test]
    fn clones_never_share_key_and_nonce(salts: [[u8; 8]; 2], counts in prop::collection::vec((0_usize..4, 0_usize..4), 1..6)) {
        prop_assume!(salts[0] != salts[1]);
        let (master, _) = pair(1, Suite::Gcm);
        let mut clones = [master.clone(), master];
        let mut used = std::collections::HashSet::new();
        for counts in counts {
            for (clone, (salt, count)) in clones.iter_mut().zip(salts.iter().zip([counts.0, counts.1])) {
                let (number, leaf) = clone.send.tree.take_lowest().unwrap();
                let first = leaf.first_key(*salt);
                let mut sender = Sender::new(clone, ReservedStream::of_data(clone.id, number, leaf), *salt, LIMIT).unwrap();
                for _ in 0..count {
                    let message = data(&mut sender, b"x");
                    let header = SealedHeader::parse(&message).unwrap();
                    let key = (first.key().expose().to_vec(), StreamKey::part_of(header.seq));
                    prop_assert!(used.insert((key, header.seq)));
                }
            }
        }
    }
}
