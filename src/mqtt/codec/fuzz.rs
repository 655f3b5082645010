//! What a broker sends is decoded the same however it is cut, in each version of MQTT.

use bytes::BytesMut;

use super::{Codec, Packet};
use crate::fuzz::input::{FuzzInput, check_text};
use crate::mqtt::{ClientOptions, Version, foreign_protocol};

/// Largest PUBLISH that is taken in: small, so that an input reaches beyond it.
const LIMIT: usize = 300;

pub(crate) fn codec(data: &[u8]) {
    let mut input = FuzzInput::new(data);
    let version = Version::ALL[input.below(Version::ALL.len())];
    let step = 1 + usize::from(input.byte());
    let bytes = input.rest();
    if let Some(lost) = foreign_protocol::recognize(bytes) {
        check_text(&lost.to_string());
    }
    let mut options = ClientOptions { version, ..ClientOptions::new("me") };
    options.limits.max_receive = LIMIT;
    let mut codec = Codec::new(&options);
    let whole = decode(&mut codec, bytes, usize::MAX);
    codec.reset();
    assert_eq!(decode(&mut codec, bytes, step), whole, "MQTT {version} in parts of {step} bytes");
}

/// The packets, and why the bytes cannot be read further.
fn decode(codec: &mut Codec, bytes: &[u8], step: usize) -> (Vec<Packet>, Option<String>) {
    let mut packets = Vec::new();
    let mut buffer = BytesMut::new();
    for part in bytes.chunks(step) {
        buffer.extend_from_slice(part);
        loop {
            match codec.decode(&mut buffer) {
                Ok(Some(packet)) => packets.push(packet),
                Ok(None) => break,
                Err(lost) => {
                    let text = lost.to_string();
                    check_text(&text);
                    return (packets, Some(text));
                }
            }
        }
    }
    (packets, None)
}
