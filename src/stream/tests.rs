//! Claim: what is written of a stream is what was sent, in order and once, and what is missing is reported exactly.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::state::{MAX_OPEN, MAX_RANGES};
use super::*;
use crate::Rejected;
use crate::message::{Header, Type};
use crate::secret::Key;
use crate::session::{Session, SessionId, Standing, pair};
use crate::suite::Suite;

const LIMIT: usize = 256;

fn rng() -> StdRng {
    StdRng::seed_from_u64(3)
}

fn sender(session: &Session, stream: u32) -> Sender {
    let [a, b, c, d] = stream.to_be_bytes();
    Sender::new(session, Taken::new(session.id, stream), [d, c, b, a ^ 0x77], LIMIT).unwrap()
}

fn data(sender: &mut Sender, bytes: &[u8]) -> Bytes {
    let mut buffer = sender.buffer(bytes.len());
    buffer.put_slice(bytes);
    sender.data(buffer, &mut rng()).unwrap()
}

fn end(sender: &mut Sender, bytes: &[u8]) -> Bytes {
    let mut buffer = sender.buffer(bytes.len());
    buffer.put_slice(bytes);
    sender.end(buffer, &mut rng()).unwrap()
}

fn receiver(sessions: &[&Session]) -> Receiver {
    let mut receiver = Receiver::new();
    receiver.update(sessions.iter().map(|&session| (session.clone(), Standing::Current)));
    receiver
}

fn receive(receiver: &mut Receiver, message: &[u8]) -> (Opened, Result<Accepted, Refused>, BytesMut) {
    let mut plaintext = BytesMut::new();
    let opened = receiver.open(message, &mut plaintext).unwrap();
    let accepted = receiver.accept(&opened);
    (opened, accepted, plaintext)
}

/// One stream as it was sent: messages in order, the last one its end.
fn stream(session: &Session, number: u32, asks: bool, padding: usize, parts: &[Vec<u8>]) -> Vec<Bytes> {
    let mut sender = sender(session, number).pad(padding).unwrap();
    if asks {
        sender = sender.ask_for_confirms();
    }
    let (last, parts) = parts.split_last().unwrap();
    let mut messages: Vec<_> = parts.iter().map(|part| data(&mut sender, part)).collect();
    messages.push(end(&mut sender, last));
    messages
}

type Parts = Vec<Vec<u8>>;

fn parts() -> impl Strategy<Value = Parts> {
    prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6)
}

/// Three sessions with two peers, two streams each.
fn streams() -> impl Strategy<Value = (Vec<Parts>, usize, Vec<prop::sample::Index>)> {
    (prop::collection::vec(parts(), 6), 1usize..40, prop::collection::vec(any::<prop::sample::Index>(), 0..80))
}

proptest! {
    #[test]
    fn whatever_arrives_is_written_in_order_with_exact_gaps((all, padding, arrivals) in streams()) {
        let ends = Suite::ALL.map(|suite| pair(suite.code(), suite));
        let mut receiver = receiver(&ends.each_ref().map(|(_, slave)| slave));
        let mut sent = Vec::new();
        for (i, parts) in all.iter().enumerate() {
            let (master, _) = &ends[i / 2];
            let number = u32::try_from(i).unwrap();
            for (part, message) in parts.iter().zip(stream(master, number, false, padding, parts)) {
                sent.push((part, message));
            }
        }
        // What was written or reported lost, a stream: from which seq to which, and the bytes.
        let mut seen = BTreeMap::<(SessionId, u32), Vec<(u32, u32, Option<Vec<u8>>)>>::new();
        let mut marked = BTreeMap::<SessionId, Streams>::new();
        for arrival in arrivals {
            let (part, message) = arrival.get(&sent);
            let (opened, accepted, plaintext) = receive(&mut receiver, message);
            prop_assert_eq!(&plaintext[..], &part[..]);
            let Ok(accepted) = accepted else {
                let duplicate = matches!(accepted, Err(Refused::Duplicate { .. }));
                prop_assert!(duplicate, "refused as {:?}", accepted);
                continue;
            };
            let seen = seen.entry((opened.session, opened.stream)).or_default();
            if let Some(gap) = accepted.gap {
                prop_assert_eq!((gap.session, gap.stream), (opened.session, opened.stream));
                seen.push((gap.first, gap.last, None));
            }
            seen.push((opened.seq, opened.seq, Some(plaintext.to_vec())));
            marked.entry(opened.session).or_default().apply(&accepted.mark);
        }
        for ((session, number), seen) in seen {
            let mut next = 0;
            for (first, last, bytes) in seen {
                prop_assert_eq!(first, next, "no seq twice, none out of order, none unaccounted for");
                next = last + 1;
                if let Some(bytes) = bytes {
                    prop_assert_eq!(&bytes, &all[number as usize][first as usize]);
                }
            }
            // What was marked is what is known: a run that begins with it goes on where this one stopped.
            prop_assert_eq!(receiver.streams(&session), marked.get(&session));
        }
    }

    #[test]
    fn a_stream_that_asks_for_confirms_has_no_gaps(parts in parts(), arrivals: Vec<prop::sample::Index>) {
        let (master, slave) = pair(1, Suite::Gcm);
        let mut receiver = receiver(&[&slave]);
        let sent = stream(&master, 0, true, 1, &parts);
        let mut written = Vec::new();
        let mut confirmed = 0;
        let late: Vec<_> = arrivals.iter().map(|at| at.get(&sent)).chain(&sent).collect();
        for message in late {
            let (opened, accepted, plaintext) = receive(&mut receiver, message);
            prop_assert!(opened.asks);
            let next = match accepted {
                Ok(accepted) => {
                    prop_assert_eq!(accepted.gap, None);
                    written.push(plaintext.to_vec());
                    accepted.mark.next
                }
                Err(refused) => refused.confirm().unwrap(),
            };
            prop_assert!(next >= confirmed, "confirms never go back");
            prop_assert_eq!(next as usize, written.len(), "a confirm covers what was written, no more and no less");
            confirmed = next;
        }
        prop_assert_eq!(written, parts);
    }

    #[test]
    fn a_forgery_changes_nothing(bytes in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index, cut: prop::sample::Index) {
        for suite in Suite::ALL {
            let (master, slave) = pair(9, suite);
            let mut receiver = receiver(&[&slave]);
            let mut sender = sender(&master, 4);
            let _ = receive(&mut receiver, &data(&mut sender, b"first"));
            let before = format!("{receiver:?}");
            let message = data(&mut sender, &bytes);
            let mut flipped = message.to_vec();
            let bit = at.index(flipped.len() * 8);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let ours = data(&mut self::sender(&slave, 4), &bytes);
            for forged in [&flipped[..], &message[..cut.index(message.len())], &ours] {
                let mut plaintext = BytesMut::from(&b"old"[..]);
                prop_assert!(receiver.open(forged, &mut plaintext).is_err());
                prop_assert!(plaintext.is_empty());
            }
            prop_assert_eq!(before, format!("{receiver:?}"));
            prop_assert!(receive(&mut receiver, &message).1.is_ok());
        }
    }

    #[test]
    fn ranges_are_sets(inserts in prop::collection::vec((0u32..60, 0u32..5), 0..40), end in 0u32..80) {
        let mut ranges = Ranges::default();
        let mut set = std::collections::BTreeSet::new();
        for (first, more) in inserts {
            ranges.insert(first, first + more);
            set.extend(first..=first + more);
        }
        let missing = ranges.missing_below(end);
        for number in 0..80 {
            prop_assert_eq!(ranges.contains(number), set.contains(&number));
            prop_assert_eq!(missing.contains(number), number < end && !set.contains(&number));
        }
        prop_assert_eq!(ranges.count(), set.len() as u64);
        prop_assert_eq!(ranges.last(), set.last().copied());
        let pairs: Vec<_> = ranges.iter().collect();
        prop_assert!(pairs.windows(2).all(|two| two[0].1 + 1 < two[1].0), "disjoint, in order, not adjacent");
    }

    #[test]
    fn a_message_is_as_long_as_it_may_be(limit in 80usize..600, padding in 1usize..40) {
        for suite in Suite::ALL {
            let (master, slave) = pair(2, suite);
            let sender = Sender::new(&master, Taken::new(master.id, 0), [0; 4], limit).unwrap();
            let Ok(mut sender) = sender.pad(padding) else { continue };
            let room = sender.payload_room();
            let message = data(&mut sender, &vec![7; room]);
            prop_assert!(message.len() <= limit);
            prop_assert!(message.len() + padding.max(16) > limit - 16, "{} of {limit}", message.len());
            let (.., plaintext) = receive(&mut receiver(&[&slave]), &message);
            prop_assert_eq!(plaintext.len(), room);
            let mut buffer = sender.buffer(room + 1);
            buffer.put_bytes(0, room + 1);
            prop_assert!(sender.data(buffer, &mut rng()).is_err());
        }
    }
}

#[test]
fn overhead_is_33_bytes() {
    let (master, _) = pair(1, Suite::Gcm);
    assert_eq!(data(&mut sender(&master, 0), b"a line\n").len(), 7 + 33);
}

#[test]
fn every_kind_crosses() {
    let (master, slave) = pair(1, Suite::Ecb);
    let mut receiver = receiver(&[&slave]);
    let (mut first, second) = (sender(&master, 0).pad(64).unwrap(), sender(&master, 6));
    let message = first.confirm(&[(3, 9), (4, 1)], &mut rng()).unwrap();
    assert_eq!(receive(&mut receiver, &message).0.payload, Payload::Confirm(vec![(3, 9), (4, 1)]));
    let message = first.continued(&second, &mut rng()).unwrap();
    let (opened, accepted, plaintext) = receive(&mut receiver, &message);
    assert_eq!(opened.payload, Payload::Continued { session: master.id, stream: 6 });
    assert_eq!((accepted.unwrap().mark.place, plaintext.is_empty()), (Place::Ended, true));
    let message = sender(&master, 8).kill(9, &mut rng()).unwrap();
    assert_eq!(message[0], Type::Kill.byte());
    let (opened, accepted, _) = receive(&mut receiver, &message);
    assert_eq!(opened.payload, Payload::Kill { next_stream: 9 });
    assert_eq!(accepted.unwrap().mark.place, Place::Ended);
    assert_eq!(receiver.outstanding(&master.id, Some(9)).to_string(), "1-7");
    assert_eq!(receiver.outstanding(&master.id, None).to_string(), "1-7");
}

/// Seals any plaintext as the next message of a stream.
fn raw(session: &Session, frame: Type, seq: u32, plaintext: &[u8]) -> BytesMut {
    let header = Header { kind: frame, tag: session.tag(), stream: 0, salt: [1; 4], seq }.to_bytes();
    let mut message = BytesMut::from(&header[..]);
    message.put_slice(plaintext);
    session.sealer().seal(&mut message, &mut rng());
    message
}

#[test]
fn what_a_newer_peer_says_is_a_gap() {
    let (master, slave) = pair(1, Suite::Gcm);
    let newer: &[&[u8]] = &[
        b"",
        b"\x00",
        b"\x06new",
        b"\x11new flag",
        b"\x21new flag",
        b"\x05\0\0\0\x01",
        b"\x03short",
        b"\x04odd",
        b"\x81no padding\x01",
        b"\x81",
        b"\x80",
        b"\x83\x80",
    ];
    let mut receiver = receiver(&[&slave]);
    for (seq, plaintext) in (0..).zip(newer) {
        let (opened, accepted, written) = receive(&mut receiver, &raw(&master, Type::Enc, seq, plaintext));
        assert_eq!((opened.payload, written.len()), (Payload::Newer, 0), "{plaintext:?}");
        assert_eq!(accepted.unwrap().gap, Some(Gap { session: master.id, stream: 0, first: seq, last: seq }));
    }
    let seq = u32::try_from(newer.len()).unwrap() + 1;
    let (_, accepted, _) = receive(&mut receiver, &raw(&master, Type::Kill, seq, b"\x01data"));
    assert_eq!(accepted.unwrap().gap, Some(Gap { session: master.id, stream: 0, first: seq - 1, last: seq }));
    let (opened, accepted, _) = receive(&mut receiver, &raw(&master, Type::Enc, seq + 1, b"\x46asks"));
    assert!(opened.asks);
    assert_eq!(accepted, Err(Refused::Newer { next: seq + 1 }), "what is not written is not confirmed");
}

#[test]
fn padding_hides_the_length_and_leaves_the_bytes() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 0).pad(64).unwrap();
    for payload in [&b""[..], b"a", b"\x80", b"\x80\0\0", &[0; 62], &[0x80; 63]] {
        let message = data(&mut sender, payload);
        assert_eq!((message.len() - 32) % 64, 0);
        assert_eq!(&receive(&mut receiver, &message).2[..], payload);
    }
}

#[test]
fn the_last_number_of_all_is_nobodys() {
    let (master, slave) = pair(1, Suite::Gcm);
    let receiver = receiver(&[&slave]);
    let message = raw(&master, Type::Enc, u32::MAX, b"\x01data");
    assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::NotAuthentic));
    assert!(receiver.open(&raw(&master, Type::Enc, u32::MAX - 1, b"\x02"), &mut BytesMut::new()).is_ok());
}

#[test]
fn a_number_used_twice_is_noticed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut first = sender(&master, 7);
    let mut copied = Sender::new(&master, Taken::new(master.id, 7), [9; 4], LIMIT).unwrap();
    assert!(receive(&mut receiver, &data(&mut first, b"a")).1.is_ok());
    let before = format!("{receiver:?}");
    assert_eq!(receive(&mut receiver, &data(&mut copied, b"b")).1, Err(Refused::StreamReused));
    assert_eq!(before, format!("{receiver:?}"));
    assert!(receive(&mut receiver, &end(&mut first, b"")).1.is_ok());
    assert_eq!(receive(&mut receiver, &end(&mut copied, b"")).1, Err(Refused::StreamReused), "after its end too");
}

#[test]
fn the_longest_idle_stream_makes_room() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut senders: Vec<_> = (0..u32::try_from(MAX_OPEN).unwrap()).map(|stream| sender(&master, stream)).collect();
    for sender in &mut senders {
        assert_eq!(receive(&mut receiver, &data(sender, b"")).1.unwrap().closed, None);
    }
    assert_eq!(receive(&mut receiver, &data(&mut senders[0], b"")).1.unwrap().closed, None);
    // A stream of one message needs no room.
    assert_eq!(receive(&mut receiver, &end(&mut sender(&master, 5000), b"")).1.unwrap().closed, None);
    let accepted = receive(&mut receiver, &data(&mut sender(&master, 5001), b"")).1.unwrap();
    assert_eq!(accepted.closed.map(|mark| (mark.stream, mark.next, mark.place)), Some((1, 1, Place::Closed)));
    assert_eq!(receive(&mut receiver, &data(&mut senders[1], b"")).1, Err(Refused::Closed));
    assert!(receive(&mut receiver, &data(&mut senders[0], b"")).1.is_ok());
}

#[test]
fn a_peer_cannot_fill_our_memory() {
    let mut streams = Streams::default();
    for stream in (0..10_000).step_by(2) {
        streams.apply(&Mark { session: [0; 8], stream, salt: [0; 4], next: 1, skip: 0, place: Place::Ended });
    }
    assert_eq!(streams.ended().iter().count(), MAX_RANGES);
    assert!(streams.closed().contains(1) && !streams.closed().contains(9_997));
    assert_eq!(streams.check(1, [0; 4], 0, true), Err(Refused::Closed), "given up, not forgotten");
    assert_eq!(streams.missing().count(), MAX_RANGES as u64 - 1);
}

#[test]
fn a_run_goes_on_within_a_message() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut first = receiver(&[&slave]);
    let sent = stream(&master, 0, false, 1, &[b"one\n".to_vec(), b"two\nthree\n".to_vec()]);
    let (.., accepted, _) = receive(&mut first, &sent[0]);
    let mut marked = Streams::default();
    marked.apply(&accepted.unwrap().mark);
    let (.., accepted, _) = receive(&mut first, &sent[1]);
    marked.apply(&accepted.unwrap().mark.partly(4));

    let mut second = receiver(&[&slave]);
    assert!(second.restore(&slave.id, marked));
    assert!(matches!(receive(&mut second, &sent[0]).1, Err(Refused::Duplicate { next: 1 })));
    let (_, accepted, plaintext) = receive(&mut second, &sent[1]);
    let accepted = accepted.unwrap();
    assert_eq!(&plaintext[accepted.skip..], b"three\n");
    assert_eq!((accepted.mark.skip, accepted.mark.place), (0, Place::Ended));
}

#[test]
fn the_first_message_under_pending_promotes_it() {
    let ((_, old), (master, new)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let mut receiver = Receiver::new();
    receiver.add(old.clone(), Standing::Current);
    receiver.add(new.clone(), Standing::Pending);
    let mut sender = sender(&master, 0);
    assert!(receiver.finished(&old.peer).is_empty());
    assert!(receive(&mut receiver, &data(&mut sender, b"")).1.unwrap().promoted);
    assert!(!receive(&mut receiver, &data(&mut sender, b"")).1.unwrap().promoted);
    assert_eq!(receiver.finished(&old.peer), [old.id]);
    assert_eq!(receiver.ended_by(&new.id), [new.id, old.id]);
    assert_eq!(receiver.ended_by(&old.id), [old.id]);
}

#[test]
fn an_old_session_is_finished_when_its_streams_are() {
    let ((old_master, old), (master, new)) = (pair(1, Suite::Gcm), pair(2, Suite::Gcm));
    let mut receiver = Receiver::new();
    receiver.update([(new.clone(), Standing::Current), (old.clone(), Standing::Retired)]);
    let _ = receive(&mut receiver, &end(&mut sender(&master, 0), b""));
    let _ = receive(&mut receiver, &end(&mut sender(&old_master, 1), b""));
    assert!(receiver.finished(&old.peer).is_empty(), "stream 0 may still be on its way");
    let mut last = sender(&old_master, 0);
    let _ = receive(&mut receiver, &data(&mut last, b""));
    assert!(receiver.finished(&old.peer).is_empty());
    let _ = receive(&mut receiver, &end(&mut last, b""));
    assert_eq!(receiver.finished(&old.peer), [old.id]);
}

#[test]
fn a_session_that_comes_back_is_not_replayed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let message = data(&mut sender(&master, 0), b"once");
    let (opened, accepted, _) = receive(&mut receiver, &message);
    assert!(accepted.is_ok());
    receiver.update([]);
    assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::UnknownSession));
    assert_eq!(receiver.accept(&opened), Err(Refused::Gone));
    receiver.add(slave, Standing::Retired);
    assert!(matches!(receive(&mut receiver, &message).1, Err(Refused::Duplicate { .. })));
}

#[test]
fn sessions_with_one_tag_are_all_tried() {
    let (master, slave) = pair(1, Suite::Gcm);
    let (mut other_master, mut other) = pair(2, Suite::Cbc);
    other.id = [1, 2, 3, 0, 0, 0, 0, 0];
    other_master.id = other.id;
    let mut receiver = receiver(&[&slave, &other]);
    for session in [&master, &other_master] {
        let (opened, accepted, _) = receive(&mut receiver, &data(&mut sender(session, 0), b""));
        assert_eq!((opened.session, accepted.is_ok()), (session.id, true));
    }
}

#[test]
fn ten_thousand_peers() {
    let ends = |i: u32| {
        let (mut master, mut slave) = pair(1, Suite::Gcm);
        for session in [&mut master, &mut slave] {
            session.id[..4].copy_from_slice(&i.to_be_bytes());
            session.peer[..4].copy_from_slice(&i.to_be_bytes());
        }
        master.send = Key::generate(32, |key| key[..4].copy_from_slice(&i.to_be_bytes()));
        slave.receive = master.send.clone();
        (master, slave)
    };
    let sessions = (0..10_000).map(|i| (ends(i).1, Standing::Current));
    let mut receiver = Receiver::new();
    receiver.update(sessions.clone());
    for i in [0, 77, 9_999] {
        let (master, slave) = ends(i);
        let (opened, accepted, _) = receive(&mut receiver, &data(&mut sender(&master, 0), b""));
        assert_eq!((opened.session, opened.peer, accepted.is_ok()), (slave.id, slave.peer, true));
    }
    receiver.update(sessions.take(1));
    assert_eq!(receiver.sessions().count(), 1);
}

#[test]
fn a_sender_stops_at_its_limits() {
    let (master, _) = pair(1, Suite::Gcm);
    let mut full = sender(&master, 0);
    full.jump(Sender::MAX_SEQ - 1, 0);
    data(&mut full, b"the last");
    assert!(full.is_full());
    let buffer = full.buffer(0);
    let err = full.data(buffer.clone(), &mut rng()).unwrap_err();
    assert_eq!(err.exit(), crate::Exit::DataLost);
    assert!(err.hint_text().unwrap().contains("sts-pair"), "{err:?}");
    full.end(buffer.clone(), &mut rng()).unwrap();
    assert_eq!(full.next_seq(), u32::MAX);
    assert!(full.end(buffer, &mut rng()).is_err(), "closed");

    let mut spent = sender(&master, 1);
    assert_eq!(spent.wanted(100), 0);
    spent.jump(0, Taken::BLOCKS - 4);
    assert_eq!(spent.wanted(100), Taken::BLOCKS, "as many again as it has had");
    assert!(
        spent
            .data(
                {
                    let mut b = spent.buffer(100);
                    b.put_bytes(0, 100);
                    b
                },
                &mut rng()
            )
            .is_err()
    );
    spent.grant(Taken::BLOCKS);
    assert_eq!(spent.wanted(100), 0);
    data(&mut spent, &[0; 100]);
}

#[test]
fn a_message_limit_that_holds_nothing_is_refused() {
    let (master, _) = pair(1, Suite::Gcm);
    let new = |limit| Sender::new(&master, Taken::new(master.id, 0), [0; 4], limit);
    assert_eq!(new(44).unwrap_err().exit(), crate::Exit::Config);
    assert_eq!(new(45).unwrap().payload_room(), 12);
    assert_eq!(new(100).unwrap().pad(100).unwrap_err().exit(), crate::Exit::Config);
    assert!(Sender::new(&master, Taken::new([0; 8], 0), [0; 4], LIMIT).is_err(), "another session's number");
}
