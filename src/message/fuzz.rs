//! What is parsed is what was on the wire: a frame that is taken is made of its fields again, byte by byte.

use super::{
    AuthAck, AuthReq, Credentials, FrameType, InitAck, InitReq, Proof, Ready, SealedHeader, SessionCheckFrame,
};

/// Any payload that a broker can deliver, and any plaintext of the handshake.
pub(crate) fn frames(data: &[u8]) {
    let _ = FrameType::is_of_later_version(data);
    let Ok(frame_type) = FrameType::of(data) else { return plaintexts(data) };
    assert_eq!(frame_type.byte(), data[0]);
    match frame_type {
        FrameType::InitReq => {
            let Ok(InitReq { frame, suite, x25519, encapsulation_key, share }) = InitReq::parse(data) else { return };
            assert_eq!(frame, data);
            let random = data[1..].first_chunk().expect("it is as long as an INITREQ");
            assert_eq!(InitReq::frame(random, suite, x25519, encapsulation_key, share), data);
        }
        FrameType::InitAck => {
            let Ok(InitAck { answers, cookie, x25519, ciphertext, share }) = InitAck::parse(data) else { return };
            assert_eq!(InitAck::frame(answers, cookie, x25519, ciphertext, share), data);
        }
        FrameType::AuthReq => {
            let Ok(AuthReq { attempt, cookie, init_req, clear, sealed }) = AuthReq::parse(data) else { return };
            assert_eq!([clear, sealed].concat(), data);
            assert_eq!(AuthReq::clear(attempt, cookie, init_req.frame), clear);
        }
        FrameType::AuthAck => {
            let _ = AuthAck::parse(data);
        }
        FrameType::RdyReq | FrameType::RdyAck => {
            if let Ok(Ready { attempt, mac }) = Ready::parse(data, frame_type) {
                assert_eq!(Ready::frame(frame_type, attempt, mac), data);
            }
            if let Ok(check) = SessionCheckFrame::parse(data, frame_type) {
                assert_eq!(check.frame(frame_type), data);
            }
        }
        FrameType::Enc | FrameType::Kill | FrameType::Will => {
            let Ok(header) = SealedHeader::parse(data) else { return };
            assert!(data.starts_with(&header.to_bytes()));
        }
    }
}

/// What a frame of the handshake seals, which only its maker decides on.
fn plaintexts(data: &[u8]) {
    let mut again = Vec::new();
    if let Ok(proof) = Proof::parse(data) {
        proof.put(&mut again);
        assert_eq!(again, data);
    }
    again.clear();
    if let Ok(credentials) = Credentials::parse(data) {
        credentials.put(&mut again);
        assert_eq!(again, data);
    }
}
