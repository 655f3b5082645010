//! Durations and sizes as a person writes and reads them; each unit stands once, in the tables here.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::Duration;

/// The units of time, largest first, in seconds.
const TIMES: [(char, u64); 4] = [('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// The units of size, in bytes.
const SIZES: [(char, u64); 4] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10), ('K', 1 << 10)];

/// An age in whole seconds, at least 1, as in `90s`, `30m`, `24h` or `7d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(u64);

impl Age {
    /// The age in seconds, at least 1.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0
    }
}

/// The text is not an [`Age`]; displays the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAge;

impl fmt::Display for BadAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an age is a number above 0 with a unit, `s`, `m`, `h` or `d`: 90s, 30m, 24h, 7d")
    }
}

impl std::error::Error for BadAge {}

impl FromStr for Age {
    type Err = BadAge;

    fn from_str(text: &str) -> Result<Self, BadAge> {
        with_unit(text, &TIMES).filter(|seconds| *seconds > 0).map(Self).ok_or(BadAge)
    }
}

/// In the largest unit that gives a whole number: what is displayed is parsed as the same age.
impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) =
            TIMES.iter().find(|(_, seconds)| self.0.is_multiple_of(*seconds)).expect("1 divides any number");
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

/// A number of bytes, which may be 0; `k`, `M` and `G` after it stand for 2^10, 2^20 and 2^30.
///
/// An option for which 0 has no meaning refuses it itself, as `--spool-max` does with all that is less than two messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(u64);

impl Size {
    /// A size of `bytes`.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        self.0
    }
}

/// The text is not a [`Size`]; displays the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSize;

impl fmt::Display for BadSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size is a number of bytes, or a number with k, M or G after it: 500k, 64M, 2G")
    }
}

impl std::error::Error for BadSize {}

impl FromStr for Size {
    type Err = BadSize;

    fn from_str(text: &str) -> Result<Self, BadSize> {
        with_unit(text, &SIZES).or_else(|| number(text)).map(Self).ok_or(BadSize)
    }
}

/// Seconds in the two largest units that they fill, rounded down, as `3h12m`.
pub(crate) fn approximate(seconds: u64) -> String {
    let largest = TIMES.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(TIMES.len() - 1);
    let mut left = seconds;
    let mut text = String::new();
    for (name, unit) in TIMES.iter().skip(largest).take(2) {
        if left >= *unit || text.is_empty() {
            let _ = write!(text, "{}{name}", left / unit);
        }
        left %= unit;
    }
    text
}

/// The time that is left, in minutes and seconds, rounded up, as `10:00`.
pub(crate) fn countdown(left: Duration) -> String {
    let seconds = left.as_millis().div_ceil(1000);
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

/// The number before one of these units, times what the unit stands for.
fn with_unit(text: &str, units: &[(char, u64)]) -> Option<u64> {
    let (digits, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(*name)?, unit)))?;
    number(digits)?.checked_mul(*unit)
}

/// A number without a sign, which the standard library would allow.
fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_number_and_a_unit() {
        for (text, seconds) in
            [("90s", 90), ("1s", 1), ("30m", 1800), ("24h", 86_400), ("7d", 604_800), ("007d", 604_800)]
        {
            let age: Age = text.parse().unwrap();
            assert_eq!(age.seconds(), seconds);
            assert_eq!(age.to_string().parse(), Ok(age));
        }
        assert_eq!(Age(90).to_string(), "90s");
        assert_eq!(Age(86_400).to_string(), "1d");
        let large = format!("{}d", u64::MAX / 86_400 + 1);
        for bad in ["", "24", "h", "0h", "-1h", "+1h", "1.5h", "1 h", "1h30m", "24H", "1w", "٣h", "1é", &large] {
            assert_eq!(bad.parse::<Age>(), Err(BadAge), "{bad}");
        }
    }

    #[test]
    fn suffixes_are_powers_of_1024() {
        for (text, bytes) in [("0", 0), ("700", 700), ("5k", 5 << 10), ("64M", 64 << 20), ("2G", 2 << 30)] {
            assert_eq!(text.parse(), Ok(Size(bytes)));
        }
        for text in ["", "k", "-1", "+1", "1.5M", "5 M", "5MB", "99999999999999999999", "99999999999G", "1m"] {
            assert_eq!(text.parse::<Size>(), Err(BadSize), "{text}");
        }
    }

    #[test]
    fn ages_are_read_at_a_glance() {
        for (seconds, text) in [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3599, "59m59s"),
            (3600, "1h"),
            (3659, "1h"),
            (86_399, "23h59m"),
            (90_000, "1d1h"),
        ] {
            assert_eq!(approximate(seconds), text);
        }
    }

    #[test]
    fn what_is_left_is_counted_down_to_zero() {
        for (left, text) in [(600_000, "10:00"), (61_001, "1:02"), (1, "0:01"), (0, "0:00")] {
            assert_eq!(countdown(Duration::from_millis(left)), text);
        }
    }
}
