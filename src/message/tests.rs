//! Claim: no payload panics a parser, and what is made is read back.

use proptest::prelude::*;

use super::*;
use crate::Rejected;

/// Every parser, on one payload; what it says beyond "no panic" is in the tests below.
fn parse_all(payload: &[u8]) {
    let _ = (FrameType::of(payload), InitReq::parse(payload), InitAck::parse(payload), AuthReq::parse(payload));
    let _ = (AuthAck::parse(payload), Proof::parse(payload), Credentials::parse(payload), SealedHeader::parse(payload));
    let _ = (Ready::parse(payload, FrameType::RdyReq), Ready::parse(payload, FrameType::RdyAck));
    let _ =
        (SessionCheckFrame::parse(payload, FrameType::RdyReq), SessionCheckFrame::parse(payload, FrameType::RdyAck));
}

proptest! {
    #[test]
    fn no_payload_panics(byte in 0u8..=255, mut payload in prop::collection::vec(any::<u8>(), 0..3000)) {
        parse_all(&payload);
        for first in [byte, 0x20 | byte & 0x0f] {
            if let Some(byte) = payload.first_mut() {
                *byte = first;
            }
            parse_all(&payload);
        }
    }

    #[test]
    fn a_header_leads_back(tag: [u8; 3], stream: u32, salt: [u8; 8], seq: u32) {
        for frame_type in [FrameType::Enc, FrameType::Kill, FrameType::Will] {
            let header = SealedHeader { frame_type, tag, stream, salt, seq };
            prop_assert_eq!(SealedHeader::parse(&header.to_bytes()), Ok(header));
        }
    }

    #[test]
    fn a_proof_leads_back(features: [u8; 4], path in prop::collection::vec(any::<[u8; 32]>(), 0..20)) {
        let credentials = Credentials { name: b"name", key: b"key", signature: b"signature" };
        let proof = Proof { features, path: &path, credentials };
        let mut bytes = Vec::new();
        proof.put(&mut bytes);
        let expected = if path.len() <= 16 { Ok(proof) } else { Err(Rejected::Length) };
        prop_assert_eq!(Proof::parse(&bytes), expected);
        for len in 0..bytes.len() {
            prop_assert_eq!(Proof::parse(&bytes[..len]), Err(Rejected::Length));
        }
        bytes.push(0);
        prop_assert_eq!(Proof::parse(&bytes), Err(Rejected::Length));
    }

    #[test]
    fn credentials_lead_back(
        name in prop::collection::vec(any::<u8>(), 0..70),
        key in prop::collection::vec(any::<u8>(), 0..600),
        signature in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let credentials = Credentials { name: &name, key: &key, signature: &signature };
        let mut bytes = Vec::new();
        credentials.put(&mut bytes);
        prop_assert_eq!(Credentials::parse(&bytes), Ok(credentials));
        prop_assert_eq!(Credentials::parse(&bytes[..bytes.len() - 1]), Err(Rejected::Length));
        bytes.push(0);
        prop_assert_eq!(Credentials::parse(&bytes), Err(Rejected::Length));
    }
}

#[test]
fn first_bytes_are_the_protocols() {
    let bytes: Vec<u8> = FrameType::ALL.map(FrameType::byte).to_vec();
    assert_eq!(bytes, [0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29]);
    for first in 0..=u8::MAX {
        assert_eq!(FrameType::of(&[first]).is_ok(), bytes.contains(&first));
    }
    assert_eq!(FrameType::of(&[]), Err(Rejected::Foreign));
    let names = ["INITREQ", "INITACK", "AUTHREQ", "AUTHACK", "RDYREQ", "RDYACK", "ENC", "KILL", "WILL"];
    assert_eq!(FrameType::ALL.map(FrameType::name), names);
}

#[test]
fn frames_of_a_later_version_are_told_from_text() {
    for first in 0..=u8::MAX {
        let frame = [&[first][..], &[0x80; 48]].concat();
        let expected = first >> 4 >= 3 && (1..=9).contains(&(first & 0x0f));
        assert_eq!(FrameType::is_of_later_version(&frame), expected, "{first:#04x}");
        let text = [&[first][..], &[b'0'; 48]].concat();
        assert_eq!(FrameType::is_of_later_version(&text), expected && !first.is_ascii(), "{first:#04x}");
    }
    assert!(!FrameType::is_of_later_version(&[]));
}

#[test]
fn frames_have_one_length() {
    let init_req = InitReq::frame(&[1; 16], 1, &[2; 32], &[3; 1184], None);
    let init_ack = InitAck::frame(&[1; 16], &[9; 16], &[2; 32], &[3; 1088], None);
    let ready = Ready::frame(FrameType::RdyReq, &[1; 16], &[2; 32]);
    assert_eq!((init_req.len(), init_ack.len(), ready.len()), (1234, 1153, 49));
    assert_eq!((InitReq::LEN, InitAck::LEN, Ready::LEN), (1234, 1153, 49));
    for (frame, parse) in [
        (&init_req, (|bytes| InitReq::parse(bytes).map(drop)) as fn(&[u8]) -> Result<(), Rejected>),
        (&init_ack, |bytes| InitAck::parse(bytes).map(drop)),
        (&ready, |bytes| Ready::parse(bytes, FrameType::RdyReq).map(drop)),
    ] {
        assert_eq!(parse(frame), Ok(()));
        for len in 1..frame.len() {
            assert_eq!(parse(&frame[..len]), Err(Rejected::Length));
        }
        assert_eq!(parse(&[frame, &[0][..]].concat()), Err(Rejected::Length));
    }
    assert!(Ready::parse(&ready, FrameType::RdyAck).is_err(), "a confirmation is of one type");
}

#[test]
fn a_share_is_there_as_a_whole_or_not_at_all() {
    let init_req = InitReq::frame(&[1; 16], 1, &[2; 32], &[3; 1184], Some(&[4; 32]));
    let init_ack = InitAck::frame(&[1; 16], &[9; 16], &[2; 32], &[3; 1088], Some(&[4; 32]));
    assert_eq!((init_req.len(), init_ack.len()), (1266, 1185));
    assert_eq!((InitReq::CODED_LEN, InitAck::CODED_LEN), (1266, 1185));
    assert_eq!(InitReq::parse(&init_req).unwrap().share, Some(&[4; 32]));
    assert_eq!(InitAck::parse(&init_ack).unwrap().share, Some(&[4; 32]));
    for len in 1..=32 {
        let bare = len == 32;
        assert_eq!(InitReq::parse(&init_req[..1266 - len]).map(|parsed| parsed.share).is_ok(), bare);
        assert_eq!(InitAck::parse(&init_ack[..1185 - len]).map(|parsed| parsed.share).is_ok(), bare);
    }
    assert_eq!(InitReq::parse(&init_req[..1234]).unwrap().share, None);
    assert_eq!(InitReq::parse(&[&init_req[..], &[0]].concat()).err(), Some(Rejected::Length));
    assert_eq!(InitAck::parse(&[&init_ack[..], &[0]].concat()).err(), Some(Rejected::Length));
}

#[test]
fn an_answer_is_longer_than_a_refusal() {
    let clear = AuthAck::clear(&[7; 16]);
    let refusal = [&clear[..], &[2], &[8; 32]].concat();
    let Ok(AuthAck::Refusal { attempt, clear, reason, mac }) = AuthAck::parse(&refusal) else { unreachable!() };
    assert_eq!((attempt, clear, reason, mac), (&[7; 16], &refusal[..18], 2, &[8; 32]));
    let answer = [&refusal[..], &[0]].concat();
    let Ok(AuthAck::Answer { attempt, clear, sealed }) = AuthAck::parse(&answer) else { unreachable!() };
    assert_eq!((attempt, clear, sealed), (&[7; 16], &answer[..17], &answer[17..]));
    assert_eq!(AuthAck::parse(&refusal[..49]).err(), Some(Rejected::Length));
}

/// At the limit itself, which random lengths seldom are.
#[test]
fn a_path_has_16_hashes_at_most() {
    let credentials = Credentials { name: b"name", key: b"key", signature: b"signature" };
    let hashes = [[7; 32]; 17];
    for (len, fits) in [(16, true), (17, false)] {
        let mut bytes = Vec::new();
        Proof { features: [0; 4], path: &hashes[..len], credentials }.put(&mut bytes);
        assert_eq!(Proof::parse(&bytes).is_ok(), fits, "{len}");
    }
}

#[test]
fn frames_that_anyone_may_make_longer_have_a_limit() {
    let init_req = InitReq::frame(&[1; 16], 1, &[2; 32], &[3; 1184], None);
    let mut auth_req = AuthReq::clear(&[7; 16], &[8; 16], &init_req);
    assert_eq!(AuthReq::parse(&auth_req).map(|parsed| *parsed.cookie), Ok([8; 16]));
    let mut auth_ack = AuthAck::clear(&[7; 16]);
    for (len, fits) in [(8192, true), (8193, false)] {
        auth_req.resize(len, 0);
        auth_ack.resize(len, 0);
        assert_eq!((AuthReq::parse(&auth_req).is_ok(), AuthAck::parse(&auth_ack).is_ok()), (fits, fits), "{len}");
    }
}
