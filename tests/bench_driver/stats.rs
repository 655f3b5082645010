//! Medians and percentiles.

/// A count as a real number.
#[expect(clippy::cast_precision_loss, reason = "no count here comes near 2^53")]
pub(crate) fn real(count: u64) -> f64 {
    count as f64
}

/// The middle one of several runs.
pub(crate) fn median(runs: &[f64]) -> f64 {
    percentile(runs, 0.5)
}

/// The value that the given part of all values do not exceed.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a length is one")]
pub(crate) fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (real(sorted.len() as u64) * part).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
}
