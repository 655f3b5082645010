//! Frames of WebSocket to the bytes in them (RFC 6455, 5), without I/O.
//!
//! Payload is passed on as it comes, whatever the length of its frame: the decoder holds one header and one control frame,
//! and never a message.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::text::escape;

/// Longest payload of a control frame, bytes (RFC 6455, 5.5).
pub(super) const MAX_CONTROL_LEN: usize = 125;

/// Status code of a close that has no fault for a reason (RFC 6455, 7.4.1).
pub(super) const NORMAL_CLOSURE: u16 = 1000;

/// What a server's frames are taken apart with.
#[derive(Debug, Default)]
pub(super) struct FrameDecoder {
    /// Bytes of a header that is not complete.
    header: Vec<u8>,
    state: DecoderState,
    /// A message was begun whose last fragment has not come.
    in_message: bool,
    /// The payload of the last ping, until it is answered: of several, the last one only (RFC 6455, 5.5.3).
    ping: Option<Vec<u8>>,
    closed: Option<ConnectionLost>,
}

#[derive(Debug, Default)]
enum DecoderState {
    #[default]
    Header,
    /// So many bytes of payload are still to come.
    Data(u64),
    /// As before, and what has come.
    Control(Control, usize, Vec<u8>),
}

impl FrameDecoder {
    /// Takes bytes as they came in; what is payload is moved to their beginning. Returns how many bytes that is.
    pub(super) fn decode(&mut self, bytes: &mut [u8]) -> Result<usize, ConnectionLost> {
        let (mut taken, mut kept) = (0, 0);
        while taken < bytes.len() && self.closed.is_none() {
            match &mut self.state {
                DecoderState::Header => {
                    self.header.push(bytes[taken]);
                    taken += 1;
                    self.parse_header()?;
                }
                DecoderState::Data(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len() - taken);
                    bytes.copy_within(taken..taken + count, kept);
                    (taken, kept, *left) = (taken + count, kept + count, *left - count as u64);
                    if *left == 0 {
                        self.state = DecoderState::Header;
                    }
                }
                DecoderState::Control(control, len, payload) => {
                    let count = (*len - payload.len()).min(bytes.len() - taken);
                    payload.extend_from_slice(&bytes[taken..taken + count]);
                    taken += count;
                    if payload.len() == *len {
                        let (control, payload) = (*control, std::mem::take(payload));
                        self.control(control, payload);
                    }
                }
            }
        }
        Ok(kept)
    }

    /// The ping that is to be answered.
    pub(super) fn take_ping(&mut self) -> Option<Vec<u8>> {
        self.ping.take()
    }

    /// Whether a ping is to be answered.
    pub(super) fn has_ping(&self) -> bool {
        self.ping.is_some()
    }

    /// Why nothing more will come, once the server has said so.
    pub(super) fn closed(&self) -> Option<&ConnectionLost> {
        self.closed.as_ref()
    }

    fn parse_header(&mut self) -> Result<(), ConnectionLost> {
        let parsed = FrameHeader::parse(&mut Cursor::new(&self.header));
        let Some((header, len)) = parsed.map_err(|error| invalid(error.to_string()))? else { return Ok(()) };
        self.header.clear();
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err(invalid("a frame of an extension"));
        }
        if header.mask.is_some() {
            return Err(invalid("a masked frame"));
        }
        match header.opcode {
            OpCode::Data(data) => {
                if (data == Data::Continue) != self.in_message {
                    return Err(invalid("fragments out of order"));
                }
                // MQTT 3.1.1, 6.
                if data == Data::Text {
                    return Err(invalid("a text frame, where MQTT has binary ones"));
                }
                self.in_message = !header.is_final;
                self.state = if len == 0 { DecoderState::Header } else { DecoderState::Data(len) };
            }
            OpCode::Control(control) => {
                let len = usize::try_from(len).ok().filter(|len| *len <= MAX_CONTROL_LEN && header.is_final);
                match len {
                    None => return Err(invalid("a control frame that is long or in fragments")),
                    Some(0) => self.control(control, Vec::new()),
                    Some(len) => self.state = DecoderState::Control(control, len, Vec::new()),
                }
            }
        }
        Ok(())
    }

    /// A control frame is complete.
    fn control(&mut self, control: Control, payload: Vec<u8>) {
        self.state = DecoderState::Header;
        match control {
            Control::Ping => self.ping = Some(payload),
            Control::Close => self.closed = Some(close_reason(&payload)),
            Control::Pong | Control::Reserved(_) => {}
        }
    }
}

/// What a close frame says (RFC 6455, 7.1.5 and 7.1.6).
fn close_reason(payload: &[u8]) -> ConnectionLost {
    let (code, reason) = match payload {
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        _ => (NORMAL_CLOSURE, &[][..]),
    };
    let code = if code == NORMAL_CLOSURE { String::new() } else { format!(", with WebSocket's code {code}") };
    let colon = if reason.is_empty() { "" } else { ": " };
    let why = format!("the broker closed the connection{code}{colon}{}", escape(reason));
    ConnectionLost::at(Obstacle::Closed, why)
}

fn invalid(what: impl AsRef<str>) -> ConnectionLost {
    ConnectionLost::new(format!("the broker sent invalid WebSocket frames: {}", what.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An unmasked frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(len) if len < 126 => frame.push(u8::try_from(len).unwrap()),
            Ok(len) => frame.extend([&[126], &len.to_be_bytes()[..]].concat()),
            Err(_) => frame.extend([&[127], &(payload.len() as u64).to_be_bytes()[..]].concat()),
        }
        frame.extend_from_slice(payload);
        frame
    }

    /// Decodes in chunks of this length.
    fn decode(decoder: &mut FrameDecoder, bytes: &[u8], chunk: usize) -> Result<Vec<u8>, ConnectionLost> {
        let mut payload = Vec::new();
        for chunk in bytes.chunks(chunk) {
            let mut chunk = chunk.to_vec();
            let kept = decoder.decode(&mut chunk)?;
            payload.extend_from_slice(&chunk[..kept]);
        }
        Ok(payload)
    }

    #[test]
    fn payload_passes_however_it_is_cut() {
        let long = vec![7; 70_000];
        let stream = [
            frame(0x02, b"ab"),
            frame(0x89, b"ping"),
            frame(0x00, b""),
            frame(0x80, b"cd"),
            frame(0x8a, b"unasked pong"),
            frame(0x82, &[9; 300]),
            frame(0x89, b"again"),
            frame(0x82, &long),
        ]
        .concat();
        let expected = [b"abcd".to_vec(), vec![9; 300], long].concat();
        for chunk in [1, 2, 3, 7, 100, 4096, stream.len()] {
            let mut decoder = FrameDecoder::default();
            assert_eq!(decode(&mut decoder, &stream, chunk).unwrap(), expected, "{chunk}");
            assert_eq!(decoder.take_ping().unwrap(), b"again");
            assert!(!decoder.has_ping() && decoder.closed().is_none());
        }
    }

    #[test]
    fn a_close_ends_the_stream_and_says_why() {
        let mut decoder = FrameDecoder::default();
        let stream = [frame(0x82, b"last"), frame(0x88, b"\x03\xf0no\x1b"), frame(0x82, b"more")].concat();
        assert_eq!(decode(&mut decoder, &stream, 3).unwrap(), b"last");
        let lost = decoder.closed().unwrap();
        assert_eq!(lost.to_string(), "the broker closed the connection, with WebSocket's code 1008: no\\x1b");
        assert_eq!(close_reason(b"\x03\xe8").to_string(), "the broker closed the connection");
        assert_eq!(close_reason(b"").obstacle(), Obstacle::Closed);
    }

    #[test]
    fn what_a_server_must_not_send_is_refused() {
        for (bytes, why) in [
            (frame(0xc2, b"x"), "extension"),
            (vec![0x82, 0x81, 0, 0, 0, 0, 1], "masked"),
            (frame(0x81, b"x"), "text"),
            (frame(0x80, b"x"), "out of order"),
            ([frame(0x02, b"x"), frame(0x82, b"x")].concat(), "out of order"),
            (frame(0x09, b"x"), "control frame"),
            (frame(0x89, &[0; 126]), "control frame"),
            (frame(0x83, b"x"), "invalid"),
        ] {
            let lost = decode(&mut FrameDecoder::default(), &bytes, 1).unwrap_err();
            assert!(lost.to_string().contains(why), "{lost}");
        }
    }
}
