//! How long a text for the old program can be, and how a longer line is split.

use super::session::TEXT_HEADER;
use crate::crypto::legacy::BLOCK_LEN;

/// What the old program has room for, in bytes: a whole MQTT packet, less its fixed header of five bytes and the length
/// of the topic. A longer one ends its session.
const MAX_PACKET_ROOM: usize = 1024 - 5;

/// The longest payload of one message, in bytes: neither device can send a longer one.
pub(super) const MAX_PAYLOAD: usize = MAX_PACKET_ROOM - MAX_PACKET_ROOM % BLOCK_LEN;

/// The longest text of one message on a topic of this length, in bytes, where payloads have at most `max_message` bytes.
pub(crate) fn max_text_len(topic_len: usize, max_message: usize) -> usize {
    let room = MAX_PACKET_ROOM.saturating_sub(topic_len).min(max_message);
    (room - room % BLOCK_LEN).saturating_sub(TEXT_HEADER.len())
}

/// The payload of a text of this length, in bytes.
pub(crate) fn max_payload_len(text_len: usize) -> usize {
    (TEXT_HEADER.len() + text_len).next_multiple_of(BLOCK_LEN)
}

/// Whether these bytes are what a person can read; of noise, hardly a block is.
pub(crate) fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| !text.is_empty() && !text.contains(char::is_control))
}

/// The parts of a line that are a message each: of `max_len` bytes at most, and between two characters where it is UTF-8. An
/// empty line is a message, too.
pub(crate) fn pieces(line: &[u8], max_len: usize) -> Vec<&[u8]> {
    let (mut pieces, mut rest) = (Vec::new(), line);
    while rest.len() > max_len {
        // A character has four bytes at most; what continues it begins with the bits 10.
        let begins_character = |at: &usize| rest[*at] & 0xc0 != 0x80;
        let at = (max_len.saturating_sub(3).max(1)..=max_len).rev().find(begins_character).unwrap_or(max_len);
        let (piece, left) = rest.split_at(at);
        pieces.push(piece);
        rest = left;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_are_as_long_as_was_measured() {
        for (topic, len) in [(3, 1004), (5, 1004), (11, 1004), (12, 988), (27, 988), (28, 972)] {
            assert_eq!(max_text_len(topic, 65_536), len);
        }
        assert_eq!((max_text_len(3, 256), max_text_len(3, 271)), (252, 252));
        assert_eq!(max_text_len(2000, 65_536), 0);
    }

    #[test]
    fn a_line_is_cut_between_characters() {
        assert_eq!(pieces(b"", 4), [b""]);
        assert_eq!(pieces(b"four", 4), [b"four"]);
        assert_eq!(pieces(b"fours", 4), [b"four".as_slice(), b"s"]);
        assert_eq!(pieces("abé".as_bytes(), 3), [b"ab".as_slice(), "é".as_bytes()]);
        assert_eq!(pieces("ab😀".as_bytes(), 5), [b"ab".as_slice(), "😀".as_bytes()]);
    }

    proptest! {
        #[test]
        fn no_byte_is_lost_and_no_piece_is_too_long(line in prop::collection::vec(any::<u8>(), 0..100), max in 4usize..40) {
            let pieces = pieces(&line, max);
            prop_assert!(pieces.iter().all(|piece| piece.len() <= max));
            prop_assert!(pieces.len() == 1 || pieces.iter().all(|piece| !piece.is_empty()));
            prop_assert_eq!(pieces.concat(), line);
        }

        #[test]
        fn text_stays_text(line in "\\PC{0,60}", max in 4usize..40) {
            prop_assert!(pieces(line.as_bytes(), max).iter().all(|piece| std::str::from_utf8(piece).is_ok()));
        }
    }
}
