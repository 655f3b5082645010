//! A line of a file that grows: its checksum, a space and its words.

use std::fmt::Write as _;

use super::field_text::hex;
use crate::crypto::schedule::digest;

/// Appends a line, with its end.
pub(super) fn put_line(text: &mut String, line: &str) {
    let line = line.trim_end();
    let _ = writeln!(text, "{} {line}", sum(line));
}

/// The line without its checksum and end; `None` if they are not right.
pub(super) fn checked(line: &[u8]) -> Option<&str> {
    let (checksum, line) = std::str::from_utf8(line).ok()?.strip_suffix('\n')?.split_once(' ')?;
    (checksum == sum(line)).then_some(line)
}

fn sum(line: &str) -> String {
    hex(&digest(&[line.as_bytes()])[..4])
}
