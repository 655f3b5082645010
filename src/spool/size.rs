//! How many bytes, as a person writes it.

use std::fmt;
use std::str::FromStr;

/// A number of bytes; `k`, `M` and `G` behind it stand for 2^10, 2^20 and 2^30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

/// A text that is no [`Size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSize;

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size is a number of bytes, or one with k, M or G behind it: 500k, 64M, 2G")
    }
}

impl std::error::Error for BadSize {}

impl Size {
    /// So many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        let (digits, shift) = match text.as_bytes().last().ok_or(BadSize)? {
            b'k' | b'K' => (&text[..text.len() - 1], 10),
            b'M' => (&text[..text.len() - 1], 20),
            b'G' => (&text[..text.len() - 1], 30),
            _ => (text, 0),
        };
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(BadSize);
        }
        let number: u64 = digits.parse().map_err(|_| BadSize)?;
        number.checked_mul(1 << shift).map(Self).ok_or(BadSize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("700", 700), ("5k", 5 << 10), ("64M", 64 << 20), ("2G", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for text in ["", "k", "-1", "+1", "1.5M", "5 M", "5MB", "99999999999999999999", "99999999999G", "1m"] {
            assert_eq!(text.parse::<Size>(), Err(BadSize), "{text}");
        }
    }
}
