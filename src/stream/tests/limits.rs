//! Claim: every kind crosses, whatever is unknown is a gap, and nothing goes past its limit.

use super::super::streams::{MAX_OPEN_STREAMS, MAX_RANGES};
use super::*;
use crate::Exit;

#[test]
fn overhead_is_33_bytes() {
    let (master, _) = pair(1, Suite::Gcm);
    assert_eq!(data(&mut sender(&master, 0), b"a line\n").len(), 7 + 33);
}

/// A message of this kind, and what it must say; data is `data`.
fn example(kind: Kind, session: &Session) -> (Bytes, Content) {
    let other = StreamId { session: [9; 8], number: 6 };
    let rng = &mut rng();
    let mut sender = sender(session, 8);
    match kind {
        Kind::Data => (data(&mut sender, b"data"), Content::Data),
        Kind::End => (end(&mut sender, b"data"), Content::End),
        Kind::Continued => (seal_control(&mut sender, &Content::Continued(other)).unwrap(), Content::Continued(other)),
        Kind::Confirm => {
            let streams = vec![(3, 9), (4, 1)];
            let mut confirms = self::sender(session, FIRST_CONFIRM_STREAM);
            (seal_control(&mut confirms, &Content::Confirm(streams.clone())).unwrap(), Content::Confirm(streams))
        }
        Kind::Kill => (sender.kill(rng).unwrap(), Content::Kill { next_stream: 9 }),
        Kind::Settled => {
            end(&mut sender, b"");
            (sender.settled(rng).unwrap(), Content::Settled)
        }
        Kind::Continues => {
            let predecessor = Predecessor { stream: other, end: 77 };
            (seal_control(&mut sender, &Content::Continues(predecessor)).unwrap(), Content::Continues(predecessor))
        }
    }
}

#[test]
fn every_kind_crosses() {
    for (suite, kind, padding) in
        Suite::ALL.into_iter().flat_map(|suite| Kind::ALL.map(|kind| [1, 64].map(|len| (suite, kind, len)))).flatten()
    {
        let (master, slave) = pair(1, suite);
        let mut receiver = receiver(&[&slave]);
        let (message, said) = example(kind, &master);
        let (opened, accepted, plaintext) = receive(&mut receiver, &padded(&master, &message, padding));
        assert_eq!((opened.content.kind(), &opened.content), (Some(kind), &said));
        assert_eq!(plaintext, if kind.carries_data() { &b"data"[..] } else { b"" }, "{kind:?}");
        assert_eq!(opened.stream.is_of_confirms(), kind.is_of_confirms());
        let frame_type = if kind.ends_session() { FrameType::Kill } else { FrameType::Enc };
        assert_eq!(message[0], frame_type.byte(), "{kind:?}");
        let state = if kind.closes_stream() { StreamState::Ended } else { StreamState::Open };
        let expected = kind.is_in_sequence().then_some(state);
        assert_eq!(accepted.ok().map(|accepted| accepted.progress.state), expected, "{kind:?}");
    }
}

#[test]
fn a_kill_tells_which_streams_are_outstanding() {
    let (master, slave) = pair(1, Suite::Ecb);
    let mut receiver = receiver(&[&slave]);
    let (mut first, second) = (sender(&master, 0), sender(&master, 6));
    let continued = seal_control(&mut first, &Content::Continued(second.id())).unwrap();
    assert!(receive(&mut receiver, &continued).1.is_ok());
    assert!(receive(&mut receiver, &sender(&master, 8).kill(&mut rng()).unwrap()).1.is_ok());
    assert_eq!(receiver.outstanding(master.id, Some(9)).to_string(), "1-7");
    assert_eq!(receiver.outstanding(master.id, None).to_string(), "1-7");
}

/// Seals any plaintext as the next message of a stream.
fn raw(session: &Session, frame_type: FrameType, seq: u32, plaintext: &[u8]) -> BytesMut {
    raw_in(0, session, frame_type, seq, plaintext)
}

fn raw_in(stream: u32, session: &Session, frame_type: FrameType, seq: u32, plaintext: &[u8]) -> BytesMut {
    let header = SealedHeader { frame_type, tag: session.tag(), stream, salt: [1; 4], seq };
    seal(session, &header, plaintext)
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
        let (opened, accepted, written) = receive(&mut receiver, &raw(&master, FrameType::Enc, seq, plaintext));
        assert_eq!((opened.content, written.len()), (Content::Newer, 0), "{plaintext:?}");
        assert_eq!(
            accepted.unwrap().gap,
            Some(Gap { stream: StreamId { session: master.id, number: 0 }, first: seq, last: seq })
        );
    }
    let seq = u32::try_from(newer.len()).unwrap() + 1;
    let (_, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Kill, seq, b"\x01data"));
    assert_eq!(
        accepted.unwrap().gap,
        Some(Gap { stream: StreamId { session: master.id, number: 0 }, first: seq - 1, last: seq })
    );
    let (opened, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Enc, seq + 1, b"\x46asks"));
    assert!(opened.wants_confirms);
    assert_eq!(accepted, Err(AcceptError::Newer { next: seq + 1 }), "what is not written is not confirmed");
}

#[test]
fn data_among_confirms_and_confirms_among_data_are_from_a_newer_peer() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (opened, accepted, written) =
        receive(&mut receiver, &raw_in(FIRST_CONFIRM_STREAM, &master, FrameType::Enc, 0, b"\x01data"));
    assert_eq!((opened.content, written.len()), (Content::Newer, 0));
    assert_eq!(accepted, Err(AcceptError::Newer { next: 0 }));
    let (opened, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Enc, 0, b"\x04"));
    assert_eq!(opened.content, Content::Newer);
    assert!(accepted.unwrap().gap.is_some());
}

#[test]
fn padding_hides_the_length_and_leaves_the_bytes() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 0);
    for payload in [&b""[..], b"a", b"\x80", b"\x80\0\0", &[0; 62], &[0x80; 63]] {
        let message = padded(&master, &data(&mut sender, payload), 64);
        assert_eq!((message.len() - 32) % 64, 0);
        assert_eq!(&receive(&mut receiver, &message).2[..], payload);
    }
}

#[test]
fn the_last_number_of_all_is_nobodys() {
    let (master, slave) = pair(1, Suite::Gcm);
    let receiver = receiver(&[&slave]);
    let message = raw(&master, FrameType::Enc, u32::MAX, b"\x01data");
    assert_eq!(receiver.open(&message, &mut BytesMut::new()), Err(Rejected::NotAuthentic));
    assert!(receiver.open(&raw(&master, FrameType::Enc, u32::MAX - 1, b"\x02"), &mut BytesMut::new()).is_ok());
}

#[test]
fn a_number_used_twice_is_noticed() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut first = sender(&master, 7);
    let mut copied = Sender::new(&master, reserved(&master, 7), [9; 4], LIMIT).unwrap();
    assert!(receive(&mut receiver, &data(&mut first, b"a")).1.is_ok());
    let before = format!("{receiver:?}");
    assert_eq!(receive(&mut receiver, &data(&mut copied, b"b")).1, Err(AcceptError::StreamReused));
    assert_eq!(before, format!("{receiver:?}"));
    assert!(receive(&mut receiver, &end(&mut first, b"")).1.is_ok());
    assert_eq!(receive(&mut receiver, &end(&mut copied, b"")).1, Err(AcceptError::StreamReused), "after its end too");
}

#[test]
fn the_longest_idle_stream_makes_room() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut senders: Vec<_> =
        (0..u32::try_from(MAX_OPEN_STREAMS).unwrap()).map(|stream| sender(&master, stream)).collect();
    for sender in &mut senders {
        assert_eq!(receive(&mut receiver, &data(sender, b"")).1.unwrap().closed, None);
    }
    assert_eq!(receive(&mut receiver, &data(&mut senders[0], b"")).1.unwrap().closed, None);
    // A stream of one message needs no room.
    assert_eq!(receive(&mut receiver, &end(&mut sender(&master, 5000), b"")).1.unwrap().closed, None);
    let accepted = receive(&mut receiver, &data(&mut sender(&master, 5001), b"")).1.unwrap();
    assert_eq!(
        accepted.closed.map(|progress| (progress.stream.number, progress.next, progress.state)),
        Some((1, 1, StreamState::Closed))
    );
    assert_eq!(receive(&mut receiver, &data(&mut senders[1], b"")).1, Err(AcceptError::Closed));
    assert!(receive(&mut receiver, &data(&mut senders[0], b"")).1.is_ok());
}

#[test]
fn a_peer_cannot_fill_our_memory() {
    let mut streams = Streams::default();
    for stream in (0..10_000).step_by(2) {
        streams.apply(&Progress {
            stream: StreamId { session: [0; 8], number: stream },
            salt: [0; 4],
            next: 1,
            skip: 0,
            state: StreamState::Ended,
        });
    }
    assert_eq!(streams.ended().iter().count(), MAX_RANGES);
    assert!(streams.closed().contains(1) && !streams.closed().contains(9_997));
    assert_eq!(streams.check(1, [0; 4], 0, true), Err(AcceptError::Closed), "given up, not forgotten");
    assert_eq!(streams.missing().count(), MAX_RANGES as u64 - 1);
}

/// Else a broker could drop a stream whole, hold back a thousand others until it is given up, and let them pass then.
#[test]
fn what_is_given_up_is_told() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let ended = |receiver: &mut Receiver, stream| receive(receiver, &end(&mut sender(&master, stream), b"")).1;
    let most = u32::try_from(MAX_RANGES).unwrap() * 2;
    for stream in (0..most).step_by(2) {
        assert_eq!(ended(&mut receiver, stream).unwrap().given_up, None);
    }
    assert_eq!(ended(&mut receiver, most).unwrap().given_up, Some((1, 1)));
    for stream in (3..most).step_by(2) {
        assert_eq!(ended(&mut receiver, stream).unwrap().given_up, None);
    }
    assert!(receiver.streams(master.id).unwrap().missing().is_empty(), "nothing else would tell");
    assert_eq!(ended(&mut receiver, 1), Err(AcceptError::Closed));
}

#[test]
fn a_sender_stops_at_its_limits() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut full = sender(&master, 0);
    full.jump(Sender::MAX_SEQ - 1, 0);
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
    let opened = receiver(&[&slave]).open(&settled, &mut BytesMut::new()).unwrap();
    assert_eq!((opened.content, opened.seq), (Content::Settled, u32::MAX - 1));

    let mut spent = sender(&master, 1);
    assert_eq!(spent.blocks_to_reserve(Kind::Data, 100), 0);
    spent.jump(0, ReservedStream::BLOCKS - 4);
    assert_eq!(spent.blocks_to_reserve(Kind::Data, 100), ReservedStream::BLOCKS, "as many again as it has had");
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
    let buffer = spent.buffer(0);
    let refused = |_| Err(crate::Error::new(Exit::Failed, "the session has no blocks left"));
    assert_eq!(spent.seal(&Content::Data, buffer.clone(), refused, &mut rng()).unwrap_err().exit(), Exit::Failed);
    assert_eq!(spent.next_seq(), 0);
    let mut reserved = 0;
    let reserve = |blocks| {
        reserved = blocks;
        Ok(())
    };
    spent.seal(&Content::Data, buffer, reserve, &mut rng()).unwrap();
    assert_eq!(reserved, ReservedStream::BLOCKS);
    assert_eq!(spent.blocks_to_reserve(Kind::Data, 100), 0);
    data(&mut spent, &[0; 100]);
}

#[test]
fn what_closes_a_stream_costs_no_blocks_beyond_those_that_it_has() {
    let (master, _) = pair(1, Suite::Gcm);
    let next = StreamId { session: master.id, number: 9 };
    for close in [Content::End, Content::Continued(next)] {
        let mut sender = sender(&master, 0);
        let mut spent = 0;
        while sender.blocks_to_reserve(Kind::Data, 100) == 0 {
            data(&mut sender, &[0; 100]);
            spent += 1;
        }
        assert!(spent > 1000);
        seal_control(&mut sender, &close).unwrap();
        sender.settled(&mut rng()).unwrap();
    }
}

#[test]
fn a_message_limit_that_holds_nothing_is_refused() {
    let (master, _) = pair(1, Suite::Gcm);
    let new = |limit| Sender::new(&master, reserved(&master, 0), [0; 4], limit);
    assert_eq!(new(48).unwrap_err().exit(), Exit::Config);
    assert_eq!(new(49).unwrap().max_data_len(), 16);
    assert!(
        Sender::new(&master, ReservedStream::new(StreamId { session: [0; 8], number: 0 }), [0; 4], LIMIT).is_err(),
        "another session's number"
    );
}
