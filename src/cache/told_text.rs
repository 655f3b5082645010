//! How a stream ended, as its sender told it, and how long was waited for what it lacks, as words of the receive state.

use std::fmt::{self, Write as _};
use std::time::Duration;

use super::field_text::{hex, unhex};
use super::receive_state::JournalEntry;
use super::stream_end::{parse_continues, put_continues};
use crate::session::SessionId;
use crate::stream::{EndedStream, StreamId, ToldEnd};

/// A version that ignores this reports what is missing of the stream when that is told again.
const TOLD: &str = "+told=";
/// In milliseconds. A version that ignores this waits anew.
const WAITED: &str = "+waited=";

/// Whether [`parse`] reads a word.
pub(super) fn is_told(word: &str) -> bool {
    [TOLD, WAITED].iter().any(|name| word.starts_with(name))
}

/// Appends what was told of a stream; nothing where its count is not known, as then nothing follows from it.
pub(super) fn put(line: &mut String, ended: &EndedStream) {
    let EndedStream { stream, salt, count: Some(count), continues } = ended else { return };
    // Writing to a String does not fail.
    let _ = write!(line, "{TOLD}{}:{}:{count}", stream.number, hex(salt));
    put_continues(line, *continues);
    line.push(' ');
}

/// Appends how long was waited for what a stream lacks; this does not fail.
pub(super) fn put_waited(line: &mut String, stream: StreamId, time: Duration) -> fmt::Result {
    write!(line, "{WAITED}{}:{} ", stream.number, time.as_millis())
}

/// Appends all that is known of how a stream ended.
pub(super) fn put_end(line: &mut String, ToldEnd { ended, waited }: &ToldEnd) {
    put(line, ended);
    if !waited.is_zero() {
        let _ = put_waited(line, ended.stream, *waited);
    }
}

/// What a word says of a stream of this session.
pub(super) fn parse(session: SessionId, word: &str) -> Option<JournalEntry> {
    if let Some(waited) = word.strip_prefix(WAITED) {
        let (number, millis) = waited.split_once(':')?;
        let stream = StreamId { session, number: number.parse().ok()? };
        return Some(JournalEntry::Waited { stream, time: Duration::from_millis(millis.parse().ok()?) });
    }
    let mut parts = word.strip_prefix(TOLD)?.split(':');
    let stream = StreamId { session, number: parts.next()?.parse().ok()? };
    let (salt, count) = (unhex(parts.next()?)?, Some(parts.next()?.parse().ok()?));
    let continues = parse_continues(&mut parts)?;
    // What a later version adds is of no use here.
    Some(JournalEntry::Told(EndedStream { stream, salt, count, continues }))
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
            put(&mut line, &ended);
            let word = line.strip_suffix(' ').unwrap();
            assert!(is_told(word));
            assert_eq!(parse([1; 8], word), Some(JournalEntry::Told(ended)));
            let whole = word.matches(':').count();
            for (colons, (at, _)) in word.match_indices(':').enumerate() {
                let is_whole = parse([1; 8], &word[..at]).is_some();
                assert_eq!(is_whole, colons == 2 && whole > 2, "{}", &word[..at]);
            }
        }
        let mut line = String::new();
        put(&mut line, &EndedStream { stream, salt: [9; 8], count: None, continues: None });
        assert_eq!(line, "");
    }
}
