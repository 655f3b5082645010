//! How a stream ended, as its sender told it, as one word of the receive state.

use std::fmt::Write as _;

use super::field_text::{hex, unhex};
use super::stream_end::{parse_continues, put_continues};
use crate::session::SessionId;
use crate::stream::{EndedStream, StreamId};

/// Appends what was told of a stream; nothing where its count is not known, as then nothing follows from it.
pub(super) fn put(line: &mut String, name: &str, ended: &EndedStream) {
    let EndedStream { stream, salt, count: Some(count), continues } = ended else { return };
    // Writing to a String does not fail.
    let _ = write!(line, "{name}{}:{}:{count}", stream.number, hex(salt));
    put_continues(line, *continues);
    line.push(' ');
}

/// What [`put`] wrote of a stream of this session.
pub(super) fn parse(session: SessionId, word: &str) -> Option<EndedStream> {
    let mut parts = word.split(':');
    let stream = StreamId { session, number: parts.next()?.parse().ok()? };
    let (salt, count) = (unhex(parts.next()?)?, Some(parts.next()?.parse().ok()?));
    let continues = parse_continues(&mut parts)?;
    // What a later version adds is of no use here.
    Some(EndedStream { stream, salt, count, continues })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::{Continues, Origin};

    #[test]
    fn what_was_told_is_read_as_it_was_written_and_not_from_a_part_of_it() {
        let stream = StreamId { session: [1; 8], number: 7 };
        let origin = Origin { stream: StreamId { session: [2; 8], number: 3 }, salt: [4; 8] };
        for continues in [None, Some(Continues { origin, position: u64::MAX })] {
            let ended = EndedStream { stream, salt: [9; 8], count: Some(5), continues };
            let mut line = String::new();
            put(&mut line, "+told=", &ended);
            let word = line.strip_prefix("+told=").and_then(|word| word.strip_suffix(' ')).unwrap();
            assert_eq!(parse([1; 8], word), Some(ended));
            let whole = word.matches(':').count();
            for (colons, (at, _)) in word.match_indices(':').enumerate() {
                let is_whole = parse([1; 8], &word[..at]).is_some();
                assert_eq!(is_whole, colons == 2 && whole > 2, "{}", &word[..at]);
            }
        }
        let mut line = String::new();
        put(&mut line, "+told=", &EndedStream { stream, salt: [9; 8], count: None, continues: None });
        assert_eq!(line, "");
    }
}
