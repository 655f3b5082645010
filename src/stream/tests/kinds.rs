//! Claim: every kind crosses as what it is, and whatever is unknown is a gap.

use super::super::content::SKIPPED_KINDS;
use super::*;

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
            let streams = [(3, 9), (4, 1)].map(|(stream, next)| Confirmed { stream, salt: [5; 8], next }).to_vec();
            side_example(session, SideContent::Confirm(streams))
        }
        Kind::Kill => (sender.kill(rng).unwrap(), Content::Kill { next_stream: 9 }),
        Kind::Settled => {
            end(&mut sender, b"");
            (sender.settled(rng).unwrap(), Content::Settled)
        }
        Kind::Will => (raw_in(8, session, FrameType::Will, 3, b"\x07data").freeze(), Content::Will),
        Kind::Refused => side_example(session, SideContent::Refused { stream: 7, salt: [5; 8], seq: 9 }),
        Kind::Sack => {
            side_example(session, SideContent::Sack { stream: 7, salt: [5; 8], ranges: vec![(3, 5), (9, 10)] })
        }
    }
}

fn side_example(session: &Session, said: SideContent) -> (Bytes, Content) {
    let content = Content::Side(said);
    (seal_control(&mut sender(session, FIRST_SIDE_STREAM), &content).unwrap(), content)
}

/// What is not understood may be anything that counts in its stream: nothing ends with it.
#[test]
fn a_message_is_what_its_kind_is_and_ends_nothing_if_it_is_not_understood() {
    type Is = (fn(&Content) -> bool, fn(Kind) -> bool, bool);
    let predicates: [Is; 7] = [
        (Content::carries_data, Kind::carries_data, false),
        (Content::closes_stream, Kind::closes_stream, false),
        (Content::ends_chain, Kind::ends_chain, false),
        (Content::ends_session, Kind::ends_session, false),
        (Content::stays_with_stream, Kind::stays_with_stream, true),
        (Content::is_in_sequence, Kind::is_in_sequence, true),
        (Content::has_position, Kind::has_position, true),
    ];
    let session = pair(1, Suite::Gcm).0;
    for (at, (of_content, of_kind, otherwise)) in predicates.into_iter().enumerate() {
        for kind in Kind::ALL {
            assert_eq!(of_content(&example(kind, &session).1), of_kind(kind), "{kind:?}, {at}");
        }
        assert_eq!([Content::Skipped, Content::Unreadable].map(|content| of_content(&content)), [otherwise; 2], "{at}");
    }
}

/// A receiver that has written all that it wanted takes such a message, so that its sender need not wait.
#[test]
fn nothing_is_written_of_a_message_without_data_unless_it_is_not_understood() {
    let session = pair(1, Suite::Gcm).0;
    let known = Kind::ALL.map(|kind| example(kind, &session).1);
    for content in known.iter().chain([&Content::Skipped]) {
        assert!(content.is_without_data(b"") && !content.is_without_data(b"data"), "{content:?}");
    }
    assert!(!Content::Unreadable.is_without_data(b""));
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
        assert_eq!((opened.head.content.kind(), &opened.head.content), (Some(kind), &said));
        assert_eq!(plaintext, if kind.carries_data() { &b"data"[..] } else { b"" }, "{kind:?}");
        assert_eq!(opened.stream.is_side_stream(), kind.is_of_side_stream());
        assert_eq!(message[0], kind.frame_type().byte(), "{kind:?}");
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

#[test]
fn what_cannot_be_read_is_a_gap() {
    let (master, slave) = pair(1, Suite::Gcm);
    let unreadable: &[&[u8]] = &[
        b"\x11continues what?",
        b"",
        b"\x00",
        b"\x06new",
        b"\x08new",
        b"\x21preamble in the middle",
        b"\x29\0\0",
        b"\x05\0\0\0\x01",
        b"\x07will",
        b"\x03short",
        b"\x04odd",
        b"\x81no padding\x01",
        b"\x81",
        b"\x80",
        b"\x83\x80",
    ];
    let mut receiver = receiver(&[&slave]);
    for (seq, plaintext) in (0..).zip(unreadable) {
        let (opened, accepted, written) = receive(&mut receiver, &raw(&master, FrameType::Enc, seq, plaintext));
        assert_eq!((opened.head.content, written.len()), (Content::Unreadable, 0), "{plaintext:?}");
        assert_eq!(
            accepted.unwrap().gap,
            Some(Gap { stream: StreamId { session: master.id, number: 0 }, first: seq, last: seq })
        );
    }
    let seq = u32::try_from(unreadable.len()).unwrap() + 1;
    let (_, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Kill, seq, b"\x01data"));
    assert_eq!(
        accepted.unwrap().gap,
        Some(Gap { stream: StreamId { session: master.id, number: 0 }, first: seq - 1, last: seq })
    );
    let (opened, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Enc, seq + 1, b"\x46asks"));
    assert!(opened.head.wants_confirms);
    assert_eq!(accepted, Err(AcceptError::Unreadable), "what is not written is neither confirmed nor a gap");
    assert_eq!(AcceptError::Unreadable.confirm(), None);
}

/// A peer of a later version sends kinds that this one does not know.
#[test]
fn kinds_of_a_later_version_count_as_received() {
    for (kind, flags) in SKIPPED_KINDS.flat_map(|kind| [(kind, 0), (kind, 0x40), (kind, 0x80)]) {
        let (master, slave) = pair(1, Suite::Gcm);
        let mut receiver = receiver(&[&slave]);
        let plaintext = [&[kind | flags][..], b"of a later version\x80"].concat();
        let (opened, accepted, written) = receive(&mut receiver, &raw(&master, FrameType::Enc, 0, &plaintext));
        assert_eq!((opened.head.content, written.len()), (Content::Skipped, 0), "{kind}");
        let accepted = accepted.unwrap();
        assert_eq!((accepted.gap, accepted.progress.next, accepted.progress.state), (None, 1, StreamState::Open));
        let (opened, ..) = receive(&mut receiver, &raw(&master, FrameType::Kill, 1, &plaintext));
        assert_eq!(opened.head.content, Content::Unreadable, "not in a KILL");
    }
}

/// A peer of a later version says more in a preamble.
#[test]
fn a_preamble_of_a_later_version_is_read_where_it_may_be() {
    for (item, content) in [(127, Content::Unreadable), (128, Content::Data)] {
        let (master, slave) = pair(1, Suite::Gcm);
        let mut receiver = receiver(&[&slave]);
        let plaintext = [&[0x21, 0, 4, item, 0, 1, 7][..], b"data"].concat();
        let (opened, _, written) = receive(&mut receiver, &raw(&master, FrameType::Enc, 0, &plaintext));
        let expected: &[u8] = if content == Content::Data { b"data" } else { b"" };
        assert_eq!((opened.head.content, &written[..]), (content, expected));
    }
}

#[test]
fn a_preamble_crosses_and_only_the_first_message_has_it() {
    let (master, slave) = pair(1, Suite::Cbc);
    let mut receiver = receiver(&[&slave]);
    let continues = Some(Continues { origin: origin(StreamId { session: [9; 8], number: 3 }), position: 1 << 40 });
    let preamble = Preamble { continues, kept: true, ..Preamble::default() };
    let mut sender = sender(&master, 2);
    sender.begin_with(preamble.clone());
    let room = sender.max_data_len() - preamble.before(sender.id(), 0, None).len();
    let mut buffer = sender.buffer(room + 1);
    buffer.put_bytes(7, room + 1);
    assert!(sender.data(buffer, &mut rng()).is_err(), "the preamble takes its room");
    let messages = [data(&mut sender, &vec![7; room]), data(&mut sender, b"more"), end(&mut sender, b"")];
    for (seq, message) in messages.iter().enumerate() {
        assert!(message.len() <= LIMIT);
        let (opened, accepted, _) = receive(&mut receiver, message);
        let said = opened.head.preamble.map(|preamble| *preamble);
        assert_eq!((opened.head.continues, said), (true, (seq == 0).then(|| preamble.clone())));
        assert_eq!(accepted.unwrap().kept.is_some(), seq == 0);
    }
    assert_eq!(receiver.streams(slave.id).unwrap().kept(), Some(KeptStream { number: 2, value_end: None }));
}

#[test]
fn data_in_a_side_stream_and_confirms_elsewhere_are_unreadable() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let (opened, accepted, written) =
        receive(&mut receiver, &raw_in(FIRST_SIDE_STREAM, &master, FrameType::Enc, 0, b"\x01data"));
    assert_eq!((opened.head.content, written.len()), (Content::Unreadable, 0));
    assert_eq!(accepted, Err(AcceptError::Unreadable));
    let (opened, accepted, _) = receive(&mut receiver, &raw(&master, FrameType::Enc, 0, b"\x04"));
    assert_eq!(opened.head.content, Content::Unreadable);
    assert!(accepted.unwrap().gap.is_some());
}

#[test]
fn padding_hides_the_length_and_leaves_the_bytes() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut receiver = receiver(&[&slave]);
    let mut sender = sender(&master, 0);
    for payload in [&b""[..], b"a", b"\x80", b"\x80\0\0", &[0; 62], &[0x80; 63]] {
        let message = padded(&master, &data(&mut sender, payload), 64);
        assert_eq!((message.len() - 36) % 64, 0);
        assert_eq!(&receive(&mut receiver, &message).2[..], payload);
    }
}
