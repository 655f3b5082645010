//! Where standard input is split into messages.

/// How much of what was read becomes the next message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// At the last newline that was read: lines stay whole, and a backlog becomes large messages.
    Lines,
    /// After each newline: one message per line.
    Each,
    /// Anywhere: do not wait for newlines.
    Binary,
}

impl Split {
    /// The length of the next message, at the beginning of `read` and of at most `max_len` bytes; `None` to wait for more.
    ///
    /// A line longer than a message is split. At the end of input what is left is a message, with or without a newline.
    ///
    /// With [`Split::Each`] no newline is ever a message of its own after a part of its line: without it, it would be an
    /// empty line. So a line is split one byte earlier, which is 0 bytes where `max_len` is 1.
    #[must_use]
    pub fn next(self, read: &[u8], max_len: usize, at_end: bool) -> Option<usize> {
        let fits = &read[..read.len().min(max_len)];
        let newline = match self {
            Self::Lines => fits.iter().rposition(|byte| *byte == b'\n'),
            Self::Each => fits.iter().position(|byte| *byte == b'\n'),
            Self::Binary => None,
        };
        match newline {
            Some(at) => Some(at + 1),
            None if fits.is_empty() => None,
            None if self == Self::Each && fits.len() == max_len => Some(max_len - 1),
            None => (at_end || self == Self::Binary || fits.len() == max_len).then_some(fits.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_stay_together_and_long_ones_are_split() {
        assert_eq!(Split::Lines.next(b"one\ntwo\nthr", 100, false), Some(8));
        assert_eq!(Split::Each.next(b"one\ntwo\nthr", 100, false), Some(4));
        assert_eq!(Split::Binary.next(b"one\ntwo\nthr", 100, false), Some(11));
        assert_eq!(Split::Lines.next(b"thr", 100, false), None);
        assert_eq!(Split::Lines.next(b"thr", 100, true), Some(3));
        assert_eq!(Split::Lines.next(b"three", 4, false), Some(4));
        assert_eq!(Split::Lines.next(b"", 4, true), None);
    }

    #[test]
    fn no_newline_is_a_message_after_a_part_of_its_line() {
        assert_eq!(Split::Each.next(b"one\n", 4, false), Some(4));
        assert_eq!(Split::Each.next(b"four", 4, false), Some(3));
        assert_eq!(Split::Each.next(b"thr", 4, false), None);
        assert_eq!(Split::Each.next(b"thr", 4, true), Some(3));
        // The part that was written of the message is ended as it is.
        assert_eq!((Split::Each.next(b"x", 1, false), Split::Each.next(b"\n", 1, false)), (Some(0), Some(1)));
    }

    proptest! {
        #[test]
        fn every_byte_is_in_one_message(read in prop::collection::vec(0u8..20, 0..200), max_len in 2usize..50) {
            for split in [Split::Lines, Split::Each, Split::Binary] {
                let mut rest = &read[..];
                while let Some(len) = split.next(rest, max_len, true) {
                    prop_assert!((1..=max_len).contains(&len));
                    rest = &rest[len..];
                }
                prop_assert!(rest.is_empty());
            }
        }
    }
}
