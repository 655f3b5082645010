//! Claim: nothing goes past its limit.

use super::super::keys::MAX_NODES;
use super::super::streams::{MAX_OPEN_STREAMS, MAX_RANGES};
use super::*;
use crate::Exit;

#[test]
fn overhead_is_37_bytes() {
    let (master, _) = pair(1, Suite::Gcm);
    assert_eq!(data(&mut sender(&master, 0), b"a line\n").len(), 7 + 37);
}

/// Or a message would be the last one and wanted for ever. The receiver has come near enough to open it otherwise.
#[test]
fn the_last_number_of_all_is_nobodys() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    for part in (0..4096).step_by(63) {
        assert!(receive(&mut receiver, &raw(&master, FrameType::Enc, part << 20, b"\x01data")).1.is_ok(), "{part}");
    }
    let message = raw(&master, FrameType::Enc, u32::MAX, b"\x01data");
    assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::NotAuthentic));
    assert!(receive(&mut receiver, &raw(&master, FrameType::Enc, u32::MAX - 1, b"\x01data")).1.is_ok());
}

/// A peer has the key of all side streams, so it can seal them.
#[test]
fn the_last_side_stream_is_nobodys_and_none_has_a_kill() {
    let (master, slave) = pair(1, Suite::Gcm);
    let receiver = receiver(&[&slave]);
    let opens = |stream, frame_type, plaintext: &[u8]| {
        receiver.open(&raw_in(stream, &master, frame_type, 0, plaintext), &mut BytesMut::new()).map(drop)
    };
    assert_eq!(opens(u32::MAX - 1, FrameType::Enc, b"\x04"), Ok(()));
    assert_eq!(opens(u32::MAX, FrameType::Enc, b"\x04"), Err(Rejected::NotAuthentic));
    assert_eq!(opens(FIRST_SIDE_STREAM, FrameType::Kill, b"\x05\0\0\0\0"), Err(Rejected::NotAuthentic));
}

/// Two copies of a runtime directory take the same number, and never the same salt.
#[test]
fn of_a_number_that_was_taken_twice_one_opens_and_the_other_is_noticed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut first = sender(&master, 7);
    let mut copied = Sender::new(&master, reserved(&master, 7), [9; 8], LIMIT).unwrap();
    assert!(receive(&mut receiver, &data(&mut first, b"a")).1.is_ok());
    let before = format!("{receiver:?}");
    assert_eq!(claim(&receiver, &data(&mut copied, b"b")), Some(HeaderClaim::Copied));
    assert_eq!(before, format!("{receiver:?}"));
    assert!(receive(&mut receiver, &end(&mut first, b"")).1.is_ok());
    assert_eq!(claim(&receiver, &end(&mut copied, b"")), Some(HeaderClaim::Copied), "after its end too");
}

#[test]
fn the_longest_idle_stream_makes_room() {
    let closed = |accepted: Result<Accepted, AcceptError>| {
        let of = |(closed, why): &(Progress, Closing)| (closed.stream.number, closed.next, closed.state, *why);
        accepted.unwrap().others.closed.iter().map(of).collect::<Vec<_>>()
    };
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut senders: Vec<_> =
        (0..u32::try_from(MAX_OPEN_STREAMS).unwrap()).map(|stream| sender(&master, stream)).collect();
    for sender in &mut senders {
        assert_eq!(closed(receive(&mut receiver, &data(sender, b"")).1), []);
    }
    assert_eq!(closed(receive(&mut receiver, &data(&mut senders[0], b"")).1), []);
    // A stream of one message needs no room.
    assert_eq!(closed(receive(&mut receiver, &end(&mut sender(&master, 5000), b"")).1), []);
    let closed = closed(receive(&mut receiver, &data(&mut sender(&master, 5001), b"")).1);
    assert_eq!(closed, [(1, 1, StreamState::Closed, Closing::NoRoom)]);
    assert_eq!(claim(&receiver, &data(&mut senders[1], b"")), Some(HeaderClaim::Closed));
    assert!(receive(&mut receiver, &data(&mut senders[0], b"")).1.is_ok());
    // A will opens its stream, too.
    let will = sender(&master, 5002).will(0, b"gone", &mut rng()).unwrap();
    let opened = receiver.open(&will, &mut BytesMut::new()).unwrap();
    let closed = receiver.accept_will(&opened).unwrap().accepted.others.closed;
    assert_eq!(
        closed.iter().map(|(closed, why)| (closed.stream.number, *why)).collect::<Vec<_>>(),
        [(2, Closing::NoRoom)]
    );
    assert_eq!(claim(&receiver, &data(&mut senders[2], b"")), Some(HeaderClaim::Closed));
}

/// Of the streams below this number, the even ones have ended.
fn every_second_ended(below: u32) -> Streams {
    let mut streams = Streams::default();
    for number in (0..below).step_by(2) {
        let stream = StreamId { session: [0; 8], number };
        streams.apply(&Progress {
            stream,
            salt: [0; 8],
            next: 1,
            skip: 0,
            wants_confirms: false,
            state: StreamState::Ended,
            sequence: Sequence::of_origin(origin(stream), 1),
        });
    }
    streams
}

#[test]
fn a_peer_cannot_fill_our_memory() {
    let streams = every_second_ended(10_000);
    assert_eq!(streams.ended().iter().count(), MAX_RANGES);
    assert!(streams.closed().contains(1) && !streams.closed().contains(9_997));
    assert_eq!(streams.check(1, [0; 8], 0, true), Err(AcceptError::Closed), "given up, not forgotten");
    assert_eq!(streams.missing().count(), MAX_RANGES as u64 - 1);
}

#[test]
fn only_what_is_missing_is_given_up() {
    let most = u32::try_from(MAX_RANGES).unwrap();
    assert!(every_second_ended(2 * most).closed().is_empty());
    let given_up: Vec<_> = (1..20).step_by(2).map(|number| (number, number)).collect();
    assert_eq!(every_second_ended(2 * most + 20).closed().iter().collect::<Vec<_>>(), given_up);
}

/// Else a broker could drop a stream whole, hold back a thousand others until it is given up, and let them pass then.
#[test]
fn what_is_given_up_is_told() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let ended = |receiver: &mut Receiver, stream| receive(receiver, &end(&mut sender(&master, stream), b"")).1;
    let most = u32::try_from(MAX_NODES).unwrap() * 2 + 80;
    let given_up = |stream: u32| (stream, ended(&mut receiver, stream).unwrap().given_up);
    let (until, lost) = (0..most).step_by(2).map(given_up).find(|(_, given_up)| !given_up.is_empty()).unwrap();
    assert_eq!(lost[0], (1, 1), "the lowest ones");
    assert_eq!(receiver.sessions[&slave.id].session.receive.tree.len(), MAX_NODES, "and no more of them than that");
    assert!(until > most - 160, "{until}");
    let missing = receiver.streams(master.id).unwrap().missing();
    let is_lost = |stream: u32| lost.iter().any(|&(first, last)| (first..=last).contains(&stream));
    for stream in (1..until).step_by(2) {
        assert_ne!(missing.contains(stream), is_lost(stream), "told now, or later: {stream}");
        if is_lost(stream) {
            assert_eq!(claim(&receiver, &end(&mut sender(&master, stream), b"")), Some(HeaderClaim::Closed));
        } else {
            assert_eq!(ended(&mut receiver, stream).unwrap().given_up, []);
        }
    }
    assert!(receiver.streams(master.id).unwrap().missing().is_empty(), "nothing else would tell");
}

#[test]
fn a_kill_refuses_streams_that_it_does_not_know() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (mut known, mut open, mut late) = (sender(&master, 6), sender(&master, 9), sender(&master, 10));
    let wills = [&known, &open, &late].map(|of| of.will(0, b"gone", &mut rng()).unwrap());
    for sender in [&mut known, &mut open] {
        assert!(receive(&mut receiver, &data(sender, b"a")).1.is_ok());
    }
    // A side stream that is known is opened past the parts that one which begins may be ahead.
    let side = |part: u32| raw_in(FIRST_SIDE_STREAM, &master, FrameType::Enc, part << 20, b"\x04");
    for part in [0, 64] {
        assert!(receive(&mut receiver, &side(part)).1.is_ok());
    }
    assert!(receive(&mut receiver, &sender(&master, 8).kill(&mut rng()).unwrap()).1.is_ok());
    for message in [data(&mut open, b"b"), data(&mut late, b"c")] {
        assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::NotAuthentic));
    }
    let opens = |message: &[u8]| receiver.open(message, &mut BytesMut::new()).is_ok();
    assert_eq!(wills.each_ref().map(|will| opens(will)), [true, false, false]);
    assert!(opens(&side(65)));
    assert!(receive(&mut receiver, &data(&mut known, b"d")).1.is_ok());
    assert!(receive(&mut receiver, &data(&mut sender(&master, 7), b"e")).1.is_ok());
}

/// It is the only message of its stream, whose number is taken.
#[test]
fn a_kill_refuses_no_stream_before_its_own() {
    let (master, slave) = pair(1, Suite::Gcm);
    let said = |next_stream: u8| {
        let message = raw_in(7, &master, FrameType::Kill, 0, &[5, 0, 0, 0, next_stream]);
        receiver(&[&slave]).open(&message, &mut BytesMut::new()).unwrap().head.content
    };
    assert_eq!([6, 7, 8].map(said), [Content::Unreadable, Content::Unreadable, Content::Kill { next_stream: 8 }]);
}

/// Two copies of a runtime directory, of which each confirms what it received.
#[test]
fn of_a_side_stream_that_was_taken_twice_the_other_is_noticed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    for stream in [FIRST_SIDE_STREAM, FIRST_SIDE_STREAM + 1] {
        let confirm = |salt| {
            let mut sender = Sender::new(&master, reserved(&master, stream), salt, LIMIT).unwrap();
            seal_control(&mut sender, &Content::Side(SideContent::Confirm(Vec::new()))).unwrap()
        };
        assert!(receive(&mut receiver, &confirm([1; 8])).1.is_ok());
        assert_eq!(receive(&mut receiver, &confirm([2; 8])).1, Err(AcceptError::StreamReused), "{stream}");
    }
}

#[test]
fn a_sender_stops_at_its_limits() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut full = sender(&master, 0);
    full.jump(Sender::MAX_SEQ - 1);
    data(&mut full, b"the last");
    assert!(full.is_full());
    let buffer = full.buffer(0);
    let err = full.data(buffer.clone(), &mut rng()).unwrap_err();
    assert_eq!(err.exit(), Exit::DataLost);
    assert!(err.hint_text().unwrap().contains("sts-pair"), "{err:?}");
    full.end(buffer.clone(), &mut rng()).unwrap();
    assert_eq!(full.next_seq(), u32::MAX - 1);
    assert!(full.end(buffer, &mut rng()).is_err(), "closed");
    let settled = full.settled(&mut rng()).unwrap();
    let header = SealedHeader::parse(&settled).unwrap();
    assert!(cipher(&master, &header).open(&settled, &mut BytesMut::new()).is_ok());
    assert_eq!(header.seq, u32::MAX - 1);
    assert!(receiver(&[&slave]).open(&settled, &mut BytesMut::new()).is_err(), "too far ahead of what is kept");
}

#[test]
fn a_message_limit_that_holds_nothing_is_refused() {
    let (master, _) = pair(1, Suite::Gcm);
    let new = |limit| Sender::new(&master, reserved(&master, 0), [0; 8], limit);
    assert_eq!(new(61).unwrap_err().exit(), Exit::Config);
    assert_eq!(new(62).unwrap().max_data_len(), 25);
    let (other, _) = pair(2, Suite::Gcm);
    assert!(Sender::new(&master, reserved(&other, 0), [0; 8], LIMIT).is_err(), "another session's number");
}

/// A record is cut before it is known which session seals it: in a spool it stays as long as it was cut.
#[test]
fn a_record_fits_every_session_and_is_as_long_as_ever() {
    assert_eq!(max_record_len(8192, None), 8192 - 96 - (36 + 16 * 55));
    assert_eq!(max_record_len(8191, None), 8191 - 96 - (36 + 59));
    assert_eq!(max_record_len(256, Some(16)), 256 - 96 - 2 - (36 + 59));
    assert_eq!(max_record_len(0, None), 0);
    for (suite, pad) in Suite::ALL.into_iter().flat_map(|suite| [None, Some(16), Some(100)].map(|pad| (suite, pad))) {
        for limit in (256..700).chain(8187..8197) {
            let sender =
                Sender::new(&pair(1, suite).0, reserved(&pair(1, suite).0, 0), [0; 8], limit).unwrap().pad_to(pad);
            assert!(max_record_len(limit, pad) <= sender.max_record_len(), "{suite} {pad:?} {limit}");
        }
    }
}

/// The stream was begun for a broker that bears more: what it was to tell of others makes room for the first record.
#[test]
fn a_stream_that_is_limited_has_room_for_its_first_record() {
    const LONGEST: usize = 10_000;
    let (master, slave) = pair(1, Suite::Gcm);
    for limit in [256, 8191, 8192, LONGEST + 1] {
        let mut sender = Sender::new(&master, reserved(&master, 30), [5; 8], LONGEST).unwrap();
        let others: Vec<_> = (0..16).map(|number| super::sender(&master, number)).collect();
        tell(&mut sender, &others.iter().map(|other| (other, Some(0))).collect::<Vec<_>>());
        sender.continue_sequence(Continues { origin: others[0].origin(), position: 3 });
        sender.limit_messages(limit);
        let longest = vec![b'x'; sender.max_record_len()];
        let message = data(&mut sender, &longest);
        let limit = limit.min(LONGEST);
        assert!(message.len() <= limit, "{limit}");
        let opened = receiver(&[&slave]).open(&message, &mut BytesMut::new()).unwrap();
        let told: Vec<_> = opened.head.preamble.unwrap().ended.iter().map(|ended| ended.stream.number).collect();
        let all: Vec<_> = (0..16).collect();
        assert_eq!(told, if limit < 8192 { &all[11..] } else { &all });
        assert_eq!(sender.max_data_len(), limit - 37, "later messages, too");
    }
}

#[test]
fn a_sender_says_where_it_is_and_no_key() {
    let mut sender = sender(&pair(0xa7, Suite::Gcm).0, 3);
    let message = data(&mut sender, b"123");
    assert_eq!(format!("{sender:?}"), format!("Sender {{ id: {:?}, seq: 1, .. }}", sender.id()));
    assert!(!sender.is_closed());
    let mut buffer = sender.buffer(5);
    assert_eq!(sender.data_len(&buffer), 0);
    buffer.put_slice(b"12345");
    assert_eq!(sender.data_len(&buffer), 5);
    assert_eq!(sender.data_len(&message[..10]), 0);
    end(&mut sender, b"");
    assert!(sender.is_closed());
}

#[test]
fn a_confirm_names_as_many_streams_as_fit() {
    let mut sender = sender(&pair(1, Suite::Gcm).0, FIRST_SIDE_STREAM);
    let most = sender.max_confirmed_streams();
    assert_eq!(most, sender.max_data_len() / 16);
    let streams =
        |count| Content::Side(SideContent::Confirm(vec![Confirmed { stream: 1, salt: [1; 8], next: 1 }; count]));
    assert!(seal_control(&mut sender, &streams(most)).is_ok());
    assert!(seal_control(&mut sender, &streams(most + 1)).is_err());
}

#[test]
fn every_plaintext_is_padded_to_a_multiple_and_by_one_byte_at_least() {
    for suite in Suite::ALL {
        let (master, slave) = pair(1, suite);
        for pad in [2, 16, 100, 160] {
            let mut receiver = receiver(&[&slave]);
            let mut sender = sender(&master, 0).pad_to(Some(pad));
            let ended = EndedStream {
                stream: StreamId { session: [9; 8], number: 3 },
                salt: [2; 8],
                count: Some(4),
                continues: None,
            };
            sender.begin_with(Preamble { ended: vec![ended], kept: true, ..Preamble::default() });
            let longest = sender.max_record_len();
            assert!(longest > 0 && longest >= max_record_len(LIMIT, Some(pad)));
            for len in [longest, 0, 1, pad - 2, pad - 1, pad, longest, sender.max_data_len()] {
                let bytes = vec![0x80; len.min(sender.max_data_len())];
                let message = data(&mut sender, &bytes);
                let header = SealedHeader::parse(&message).unwrap();
                let mut plaintext = BytesMut::new();
                cipher(&master, &header).open(&message, &mut plaintext).unwrap();
                assert!(plaintext.len().is_multiple_of(pad) && message.len() <= LIMIT);
                let (opened, _, written) = receive(&mut receiver, &message);
                assert_eq!((opened.head.content, &written[..]), (Content::Data, &bytes[..]));
            }
            let mut buffer = sender.buffer(0);
            buffer.put_bytes(0, sender.max_data_len() + 1);
            assert!(sender.data(buffer, &mut rng()).is_err());
        }
    }
}

#[test]
fn a_message_keeps_its_position_in_the_stream_that_continues_its_own() {
    let (master, _) = pair(1, Suite::Gcm);
    let mut first = sender(&master, 4);
    data(&mut first, b"0");
    let origin = first.origin();
    assert_eq!(first.position_of(1), Continues { origin, position: 1 });
    let mut second = sender(&master, 5);
    second.continue_sequence(first.position_of(1));
    assert_eq!(second.position_of(2), Continues { origin, position: 3 });
    let mut third = sender(&master, 6);
    third.begin_with(Preamble { kept: true, ..Preamble::default() });
    third.continue_sequence(second.position_of(2));
    assert_eq!(third.position_of(0), Continues { origin, position: 3 });
}

#[test]
fn a_sack_names_as_many_ranges_as_a_message_has_room_for() {
    let (_, slave) = pair(1, Suite::Gcm);
    for limit in [128, 256, 1000] {
        let new = || Sender::new(&slave, reserved(&slave, FIRST_SIDE_STREAM), [0; 8], limit).unwrap();
        let most = u32::try_from(new().max_sack_ranges()).unwrap();
        for (count, fits) in [(most, true), (most + 1, false)] {
            let ranges = (0..count).map(|number| (2 * number, 2 * number + 1)).collect();
            let sack = Content::Side(SideContent::Sack { stream: 7, salt: [5; 8], ranges });
            assert_eq!(seal_control(&mut new(), &sack).is_ok(), fits, "{count} in {limit} bytes");
        }
    }
}
