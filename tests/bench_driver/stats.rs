//! Figures: their units, medians and percentiles.

/// The unit of a figure.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    LinesPerSecond,
    BytesPerSecond,
    Seconds,
    Bytes,
    /// Bytes, shown without a prefix.
    Octets,
    Count,
}

impl Unit {
    /// The value for a table.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::LinesPerSecond if value >= 1e6 => format!("{:.2} M lines/s", value / 1e6),
            Self::LinesPerSecond => format!("{:.0} k lines/s", value / 1e3),
            Self::BytesPerSecond => format!("{:.0} MB/s", value / 1e6),
            Self::Seconds if value < 1e-4 => format!("{:.1} us", value * 1e6),
            Self::Seconds if value < 1e-3 => format!("{:.0} us", value * 1e6),
            Self::Seconds => format!("{:.1} ms", value * 1e3),
            Self::Bytes => format!("{:.2} MB", value / 1e6),
            Self::Octets => format!("{value:.0} bytes"),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// The name of the unit for a spreadsheet.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::LinesPerSecond => "lines/s",
            Self::BytesPerSecond => "bytes/s",
            Self::Seconds => "s",
            Self::Bytes | Self::Octets => "bytes",
            Self::Count => "",
        }
    }
}

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// The median of several runs.
pub(crate) fn median(runs: &[f64]) -> f64 {
    percentile(runs, 0.5)
}

/// The value that the given part of all values does not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length is one")]
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (real(sorted.len() as u64) * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
