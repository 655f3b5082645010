//! Claim: when a message was read crosses with it, in any message that carries data, and changes nothing else.

use super::*;

fn sealed_at(sender: &mut Sender, content: &Content, sent: Option<SentTime>, bytes: &[u8]) -> crate::Result<Bytes> {
    let mut buffer = sender.buffer(bytes.len());
    buffer.put_slice(bytes);
    sender.seal(content, sent, buffer, &mut rng())
}

fn at(micros: u64) -> SentTime {
    SentTime::from_bytes(micros.to_be_bytes())
}

#[test]
fn a_time_crosses_with_its_message_and_alone() {
    for (suite, pad) in Suite::ALL.into_iter().flat_map(|suite| [(suite, None), (suite, Some(64))]) {
        let (master, slave) = pair(1, suite);
        for kept in [false, true] {
            let mut receiver = receiver(&[&slave]);
            let mut sender = sender(&master, 2).pad_to(pad);
            let preamble = Preamble { kept, ..Preamble::default() };
            sender.begin_with(preamble.clone());
            let times = [Some(at(0)), None, Some(at(u64::MAX)), Some(at(1_795_642_707_023_456))];
            for (seq, sent) in times.into_iter().enumerate() {
                let content = if seq == times.len() - 1 { Content::End } else { Content::Data };
                let message = sealed_at(&mut sender, &content, sent, b"line\n").unwrap();
                assert_eq!(
                    sender.read_back(&message).unwrap(),
                    (content.clone(), sent, BytesMut::from(&b"line\n"[..]))
                );
                let (opened, accepted, data) = receive(&mut receiver, &message);
                assert_eq!((opened.head.content, opened.head.sent, &data[..]), (content, sent, &b"line\n"[..]));
                let said = opened.head.preamble.map(|preamble| *preamble);
                let is_said = seq == 0 && (kept || sent.is_some());
                assert_eq!(said, is_said.then(|| preamble.clone()), "a later message says nothing of its stream");
                assert!(accepted.is_ok_and(|accepted| accepted.gap.is_none()));
            }
        }
    }
}

#[test]
fn a_time_takes_its_room_and_a_message_without_one_is_as_long_as_ever() {
    let (master, _) = pair(1, Suite::Gcm);
    let mut sender = sender(&master, 2);
    let len = |sender: &mut Sender, sent| sealed_at(sender, &Content::Data, sent, b"x").unwrap().len();
    let (plain, first) = (len(&mut self::sender(&master, 3), None), len(&mut sender, Some(at(1))));
    assert_eq!((first - plain, len(&mut sender, Some(at(1))) - plain, len(&mut sender, None) - plain), (13, 13, 0));
    let longest = vec![7; sender.max_record_len() - SentTime::ITEM_LEN];
    sender.begin_with(Preamble { kept: true, ..Preamble::default() });
    assert!(sealed_at(&mut sender, &Content::Data, Some(at(1)), &longest).unwrap().len() <= LIMIT);
    let too_long = vec![7; sender.max_data_len() - 12];
    assert!(sealed_at(&mut sender, &Content::Data, Some(at(1)), &too_long).is_err());
    assert!(sealed_at(&mut sender, &Content::Data, Some(at(1)), &too_long[1..]).is_ok());
}

/// It is opened without any message before it, as with `sts-recv --last`, or after a first one that was lost.
#[test]
fn a_message_alone_says_when_it_was_read() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut sender = sender(&master, 2);
    sealed_at(&mut sender, &Content::Data, Some(at(1)), b"lost").unwrap();
    let message = sealed_at(&mut sender, &Content::Data, Some(at(2)), b"kept").unwrap();
    let mut data = BytesMut::new();
    let opened = receiver(&[&slave]).open(&message, &mut data).unwrap();
    assert_eq!((opened.head.sent, &data[..]), (Some(at(2)), &b"kept"[..]));
}

#[test]
fn a_later_message_says_nothing_of_its_stream() {
    let (master, slave) = pair(1, Suite::Gcm);
    // An empty list, a time, an item that may be ignored; then what only the first message says.
    let cases: [(&[u8], bool); 9] = [
        (&[0x21, 0, 0], true),
        (&[0x21, 0, 11, 6, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9], true),
        (&[0x21, 0, 3, 128, 0, 0], true),
        (&[0x21, 0, 3, 3, 0, 0], false),
        (&[0x21, 0, 11, 2, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9], false),
        (&[0x21, 0, 10, 6, 0, 7, 0, 0, 0, 0, 0, 0, 9], false),
        (&[0x21, 0, 13, 5, 0, 10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2], false),
        (&[0x21, 0, 3, 5, 0, 0], false),
        (&[0x21, 0, 3, 7, 0, 0], false),
    ];
    for (plaintext, is_read) in cases {
        let message = raw(&master, FrameType::Enc, 4, &[plaintext, b"data"].concat());
        let mut data = BytesMut::new();
        let opened = receiver(&[&slave]).open(&message, &mut data).unwrap();
        let expected = if is_read { (Content::Data, &b"data"[..]) } else { (Content::Unreadable, &b""[..]) };
        assert_eq!((opened.head.content, &data[..]), expected, "{plaintext:?}");
        assert_eq!((opened.head.preamble, opened.head.sent.is_some()), (None, is_read && plaintext.len() == 14));
    }
}

/// Between two streams, nobody reads the input.
#[test]
fn the_time_of_a_message_without_data_means_nothing() {
    let (master, slave) = pair(1, Suite::Gcm);
    let mut first = sender(&master, 0);
    let next = sender(&master, 1).id();
    let message = sealed_at(&mut first, &Content::Continued(next), Some(at(5)), b"").unwrap();
    let (opened, accepted, _) = receive(&mut receiver(&[&slave]), &message);
    assert_eq!(opened.head.content, Content::Continued(next));
    assert!(accepted.is_ok());
}
