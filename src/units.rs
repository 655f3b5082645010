//! Durations and sizes as a person writes and reads them; each unit stands once, in the tables here.

use std::fmt::{self, Write as _};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The units of time, largest first, in seconds. Weeks are read, and never written.
const TIMES: [(char, u64); 5] = [('w', 604_800), ('d', 86_400), ('h', 3600), ('m', 60), ('s', 1)];
/// Those in which times are written.
const SHOWN_TIMES: &[(char, u64)] = TIMES.split_at(1).1;
/// The units of size, in bytes.
const SIZES: [(char, u64); 4] = [('G', 1 << 30), ('M', 1 << 20), ('k', 1 << 10), ('K', 1 << 10)];

/// Longest time, in seconds: 136 years, which no clock leaves the range of.
const MAX_TIME: u64 = u32::MAX as u64;

/// A time in whole seconds, as in `90`, `90s`, `30m`, `1h30m` or `7d`: the one form of a time in all options.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds(u64);

impl Seconds {
    /// A time of this many seconds.
    #[must_use]
    pub const fn new(seconds: u32) -> Self {
        Self(seconds as u64)
    }

    /// The time in seconds.
    #[must_use]
    pub fn count(self) -> u64 {
        self.0
    }

    /// The time as a limit, where 0 stands for none.
    #[must_use]
    pub fn limit(self) -> Option<Duration> {
        (self.0 > 0).then(|| Duration::from_secs(self.0))
    }
}

/// The text is not a time; displays the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTime;

impl fmt::Display for BadTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a time is a number of seconds, or numbers with the units `w`, `d`, `h`, `m` or `s`: 90, 90s, 1h30m, 7d",
        )
    }
}

impl std::error::Error for BadTime {}

impl FromStr for Seconds {
    type Err = BadTime;

    fn from_str(text: &str) -> Result<Self, BadTime> {
        let seconds = number(text).or_else(|| sum_of_units(text)).filter(|seconds| *seconds <= MAX_TIME);
        seconds.map(Self).ok_or(BadTime)
    }
}

/// An age in whole seconds, at least 1, in the form of [`Seconds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Age(Seconds);

impl Age {
    /// The age in seconds, at least 1.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.0.count()
    }
}

/// The text is not an [`Age`]; displays the form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAge {
    /// Not a time.
    Time,
    /// No time at all.
    Zero,
}

impl fmt::Display for BadAge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => BadTime.fmt(f),
            Self::Zero => f.write_str("a time of at least 1 second is needed: 90, 90s, 1h30m, 7d"),
        }
    }
}

impl std::error::Error for BadAge {}

impl FromStr for Age {
    type Err = BadAge;

    fn from_str(text: &str) -> Result<Self, BadAge> {
        let seconds: Seconds = text.parse().map_err(|BadTime| BadAge::Time)?;
        if seconds.count() > 0 { Ok(Self(seconds)) } else { Err(BadAge::Zero) }
    }
}

/// In the largest unit that gives a whole number: what is displayed is parsed as the same age.
impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, seconds) =
            SHOWN_TIMES.iter().find(|(_, unit)| self.seconds().is_multiple_of(*unit)).expect("1 divides any number");
        write!(f, "{}{unit}", self.seconds() / seconds)
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
    let largest = SHOWN_TIMES.iter().position(|(_, unit)| seconds >= *unit).unwrap_or(SHOWN_TIMES.len() - 1);
    let mut left = seconds;
    let mut text = String::new();
    for (name, unit) in SHOWN_TIMES.iter().skip(largest).take(2) {
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

/// A time in seconds since 1970, as a date and time of day.
pub(crate) fn utc(secs: u64) -> String {
    let (days, second) = (secs / 86_400, secs % 86_400);
    // Days since 1 March of the year 0, in cycles of 400 years (a leap day then ends each year).
    let day = days + 719_468;
    let (cycle, day) = (day / 146_097, day % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day_of_month = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    let year = cycle * 400 + year;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// A time as RFC 3339 has it, in UTC, with thousandths of a second.
pub(crate) fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let shown = utc(since.as_secs());
    let (date, time) = shown.trim_end_matches(" UTC").split_once(' ').unwrap_or_default();
    format!("{date}T{time}.{:03}Z", since.subsec_millis())
}

/// A number of bytes in the largest of the units that [`Size`] has, with a tenth: `1.2M`; below those, `12B`.
pub(crate) fn short_size(bytes: u64) -> String {
    match SIZES.iter().find(|(_, unit)| bytes >= *unit) {
        Some((name, unit)) => format!("{}.{}{name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes}B"),
    }
}

/// The sum of numbers with units of time, each unit once at most and the larger ones first.
fn sum_of_units(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut sum = 0_u64;
    for (name, unit) in TIMES {
        if let Some((digits, after)) = rest.split_once(name) {
            sum = sum.checked_add(number(digits)?.checked_mul(unit)?)?;
            rest = after;
        }
    }
    (rest.is_empty() && !text.is_empty()).then_some(sum)
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
    fn a_time_is_a_number_of_seconds_or_numbers_with_units() {
        for (text, seconds) in [
            ("0", 0),
            ("90", 90),
            ("90s", 90),
            ("0s", 0),
            ("30m", 1800),
            ("24h", 86_400),
            ("7d", 604_800),
            ("007d", 604_800),
            ("1w", 604_800),
            ("1h30m", 5400),
            ("1w2d3h4m5s", 604_800 + 2 * 86_400 + 3 * 3600 + 4 * 60 + 5),
            ("4294967295", MAX_TIME),
        ] {
            assert_eq!(text.parse(), Ok(Seconds(seconds)), "{text}");
        }
        let large = format!("{}d", u64::MAX / 86_400 + 1);
        for bad in [
            "",
            "h",
            "-1h",
            "+1",
            "1.5h",
            "1 h",
            "1h ",
            "1h30",
            "30m1h",
            "1h1h",
            "1hm",
            "24H",
            "1y",
            "٣h",
            "1é",
            "4294967296",
            "7102w",
            &large,
        ] {
            assert_eq!(bad.parse::<Seconds>(), Err(BadTime), "{bad}");
        }
        assert_eq!((Seconds::new(0).limit(), Seconds::new(5).limit()), (None, Some(Duration::from_secs(5))));
    }

    #[test]
    fn an_age_is_a_time_above_0_and_is_read_as_it_is_written() {
        for (text, seconds, written) in
            [("90", 90, "90s"), ("24h", 86_400, "1d"), ("1h30m", 5400, "90m"), ("2w", 1_209_600, "14d")]
        {
            let age: Age = text.parse().unwrap();
            assert_eq!((age.seconds(), age.to_string().as_str()), (seconds, written));
            assert_eq!(age.to_string().parse(), Ok(age));
        }
        assert_eq!("0h".parse::<Age>(), Err(BadAge::Zero));
        assert_eq!("daily".parse::<Age>(), Err(BadAge::Time));
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
    fn a_date_is_that_of_the_calendar() {
        for (secs, shown) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_704_067_199, "2023-12-31 23:59:59 UTC"),
            (1_709_210_096, "2024-02-29 12:34:56 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
            (253_402_300_799, "9999-12-31 23:59:59 UTC"),
        ] {
            assert_eq!(utc(secs), shown);
        }
        assert!(utc(u64::MAX).ends_with("UTC"));
    }

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, shown) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0k"),
            (1_992_294, "1.8M"),
            (5 << 30, "5.0G"),
            (u64::MAX, "17179869183.9G"),
        ] {
            assert_eq!(short_size(bytes), shown);
        }
    }

    #[test]
    fn what_is_left_is_counted_down_to_zero() {
        for (left, text) in [(600_000, "10:00"), (61_001, "1:02"), (1, "0:01"), (0, "0:00")] {
            assert_eq!(countdown(Duration::from_millis(left)), text);
        }
    }
}
