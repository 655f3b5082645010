//! Whether a record can be sent at all. This is checked before any of it is sent or spooled: it would stay in the spool
//! forever.

use super::source::Amount;
use crate::config::Protection;
use crate::link::Link;
use crate::spool::Pending;
use crate::text::count;
use crate::{Error, Exit, Result};

/// What the records of a run must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RecordCheck {
    /// Any bytes.
    AnyBytes,
    /// Lines of at most this many bytes without their newline, and without a NUL: texts for the old program.
    Lines { max_len: usize },
}

impl RecordCheck {
    /// The check of a link's records.
    pub(super) fn of(link: &Link) -> Self {
        match link.config.protection {
            Protection::Legacy(_) => Self::Lines { max_len: link.config.mqtt.max_message },
            Protection::None | Protection::Sealed(_) => Self::AnyBytes,
        }
    }

    /// How much of the input is not delivered, in words.
    pub(super) fn tell_undelivered(self, pending: Pending) -> String {
        match self {
            Self::AnyBytes => format!("unacknowledged: {}", Amount(pending)),
            // The old program acknowledges nothing, and it is no matter how many messages a line is.
            Self::Lines { .. } => format!("not sent: {}", count(pending.bytes, "byte")),
        }
    }

    /// Checks the record of this number, counted from 1; `ends` says that no input follows it.
    ///
    /// # Errors
    /// [`Exit::DataLost`] naming the line.
    pub(super) fn check(self, record: &[u8], ends: bool, number: u64) -> Result<()> {
        let Self::Lines { max_len } = self else { return Ok(()) };
        let unsendable = |why: String| Error::new(Exit::DataLost, format!("line {number} cannot be sent")).because(why);
        let text = record.strip_suffix(b"\n");
        let is_whole = text.is_some() || ends;
        let text = text.unwrap_or(record);
        if !is_whole || text.len() > max_len {
            return Err(
                unsendable(format!("it is longer than {max_len} bytes")).hint("split it, or set a larger max_message")
            );
        }
        match text.iter().position(|byte| *byte == 0) {
            None => Ok(()),
            Some(at) => Err(unsendable(format!("byte {} is a NUL, where the old program would cut the line", at + 1))
                .hint("remove it: the old program takes text only")),
        }
    }
}

/// The longest record, in bytes, into which [`Split::Each`] puts a line that [`RecordCheck::Lines`] accepts, and one byte more, so
/// that a longer line is noticed.
///
/// [`Split::Each`]: crate::stdio::Split::Each
pub(super) fn max_line_record_len(max_len: usize) -> usize {
    // The newline, and the byte before which a line is split that has no room.
    max_len + 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stdio::Split;

    /// What becomes of the first line of this input.
    fn first(input: &[u8], max_len: usize) -> Result<()> {
        let len = Split::Each.next(input, max_line_record_len(max_len), true).unwrap();
        RecordCheck::Lines { max_len }.check(&input[..len], len == input.len(), 7)
    }

    #[test]
    fn a_line_is_checked_as_a_whole() {
        for input in [&b"four\n"[..], b"four", b"\n", b"four\nand a longer one\n"] {
            assert!(first(input, 4).is_ok(), "{}", input.escape_ascii());
        }
        for input in [&b"fours\n"[..], b"fours", b"a line that is much longer\n"] {
            let error = first(input, 4).unwrap_err();
            assert_eq!(error.to_string(), "line 7 cannot be sent: it is longer than 4 bytes");
        }
        let error = first(b"a\0b\n", 4).unwrap_err();
        assert_eq!(error.exit(), Exit::DataLost);
        assert_eq!(
            error.to_string(),
            "line 7 cannot be sent: byte 2 is a NUL, where the old program would cut the line"
        );
        assert!(RecordCheck::AnyBytes.check(b"a\0b", false, 1).is_ok());
    }
}
