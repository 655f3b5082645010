//! Sets of stream numbers.

use std::fmt;

use crate::text::ranges;

/// Numbers as disjoint inclusive ranges, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u32, u32)>);

impl Ranges {
    /// Adds all numbers from `first` to `last`.
    pub(crate) fn insert(&mut self, first: u32, last: u32) {
        let from = self.0.partition_point(|&(_, end)| end.saturating_add(1) < first);
        let to = self.0.partition_point(|&(start, _)| start <= last.saturating_add(1));
        let (mut start, mut end) = (first, last);
        if from < to {
            start = start.min(self.0[from].0);
            end = end.max(self.0[to - 1].1);
        }
        self.0.splice(from..to, [(start, end)]);
    }

    /// Takes one number out.
    pub(super) fn remove(&mut self, number: u32) {
        let at = self.0.partition_point(|&(_, end)| end < number);
        let Some(&(start, end)) = self.0.get(at).filter(|&&(start, _)| start <= number) else { return };
        let below = number.checked_sub(1).filter(|below| start <= *below).map(|below| (start, below));
        let above = number.checked_add(1).filter(|above| *above <= end).map(|above| (above, end));
        self.0.splice(at..=at, below.into_iter().chain(above));
    }

    /// True if `number` is among them.
    #[must_use]
    pub(crate) fn contains(&self, number: u32) -> bool {
        let at = self.0.partition_point(|&(_, end)| end < number);
        self.0.get(at).is_some_and(|&(start, _)| start <= number)
    }

    /// The ranges, each as its first and last number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.0.iter().copied()
    }

    /// The same, to be kept.
    pub(crate) fn into_vec(self) -> Vec<(u32, u32)> {
        self.0
    }

    /// How many numbers there are.
    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.iter().map(|(first, last)| u64::from(last - first) + 1).sum()
    }

    /// True if there are none.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The highest number.
    #[must_use]
    pub(crate) fn last(&self) -> Option<u32> {
        self.0.last().map(|&(_, last)| last)
    }

    /// The numbers below `end` that are not among these.
    #[must_use]
    pub(crate) fn missing_below(&self, end: u32) -> Self {
        let mut missing = Vec::new();
        let mut next = 0;
        for (first, last) in self.iter().take_while(|&(first, _)| first < end) {
            if first > next {
                missing.push((next, first - 1));
            }
            next = last.saturating_add(1);
        }
        if next < end {
            missing.push((next, end - 1));
        }
        Self(missing)
    }

    /// How many ranges they are kept as.
    pub(super) fn ranges(&self) -> usize {
        self.0.len()
    }

    /// The lowest numbers that are missing between two ranges.
    pub(super) fn first_hole(&self) -> Option<(u32, u32)> {
        let [(_, below), (above, _), ..] = self.0[..] else { return None };
        Some((below + 1, above - 1))
    }
}

/// As `3, 7-9`.
impl fmt::Display for Ranges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&ranges(&self.0))
    }
}
