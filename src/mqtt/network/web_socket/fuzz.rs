//! Frames and the answer to the request for WebSocket, however they are cut.

use super::frame_decoder::{FrameDecoder, MAX_CONTROL_LEN};
use super::upgrade::Upgrade;
use crate::fuzz::input::{FuzzInput, check_text};

pub(crate) fn web_socket(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let step = 1 + usize::from(input.byte());
    let whole = decode(input.peek(), usize::MAX);
    let in_parts = decode(input.peek(), step);
    assert_eq!(whole, in_parts, "in parts of {step} bytes");

    let mut upgrade = Upgrade::new("broker:8080", "/mqtt");
    for part in input.rest().chunks(step) {
        match upgrade.received(part) {
            Ok(None) => {}
            Ok(Some(early)) => return assert!(early.len() <= data.len()),
            Err(lost) => return check_text(&lost.to_string()),
        }
    }
}

/// The payload, what was to be answered, and why it ended.
fn decode(bytes: &[u8], step: usize) -> (Vec<u8>, Option<Vec<u8>>, Option<String>) {
    let mut decoder = FrameDecoder::default();
    let mut payload = Vec::new();
    let mut failure = None;
    for part in bytes.chunks(step) {
        let mut part = part.to_vec();
        match decoder.decode(&mut part) {
            Ok(kept) => payload.extend_from_slice(&part[..kept]),
            Err(lost) => {
                failure = Some(lost.to_string());
                break;
            }
        }
    }
    if failure.is_some() {
        // What is before the fault is lost with the part that it is in.
        payload.clear();
    }
    let failure = failure.or_else(|| decoder.closed().map(ToString::to_string));
    check_text(failure.as_deref().unwrap_or_default());
    let ping = decoder.take_ping();
    assert!(ping.as_ref().is_none_or(|ping| ping.len() <= MAX_CONTROL_LEN));
    (payload, ping, failure)
}
