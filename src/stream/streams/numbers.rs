//! The numbers of a session's streams: which of them are over, and which are missing.

use super::Streams;
use crate::stream::ranges::Ranges;

/// Most ranges that ended stream numbers are kept as; past that, the lowest numbers missing between them are given up.
pub(in crate::stream) const MAX_RANGES: usize = 1024;

impl Streams {
    /// The numbers of streams that ended.
    #[must_use]
    pub(crate) fn ended(&self) -> &Ranges {
        &self.ended
    }

    /// The numbers of streams that were closed to make room, or given up.
    #[must_use]
    pub(crate) fn closed(&self) -> &Ranges {
        &self.closed
    }

    /// The number after the highest of which anything came or is known; 0 if nothing ever came.
    #[must_use]
    pub(crate) fn known_end(&self) -> u32 {
        let highest = self.ended.last().max(self.closed.last()).max(self.open.numbers().next_back());
        highest.map_or(0, |highest| highest.saturating_add(1))
    }

    /// Numbers below the highest of which nothing came.
    #[must_use]
    pub(crate) fn missing(&self) -> Ranges {
        let mut seen = self.ended.clone();
        for (first, last) in self.closed.iter().chain(self.open.numbers().map(|stream| (stream, stream))) {
            seen.insert(first, last);
        }
        seen.missing_below(seen.last().unwrap_or(0))
    }

    /// Numbers of streams that are not complete: open, closed, or of which nothing came; those below `end`, or without
    /// one below the highest that is known; and those of which a loss was told that is not reported.
    #[must_use]
    pub(crate) fn outstanding(&self, end: Option<u32>) -> Ranges {
        let end = end.unwrap_or_else(|| self.known_end());
        let mut outstanding = self.ended.missing_below(end);
        for (first, last) in self.closed.iter().filter(|&(first, _)| first < end) {
            outstanding.insert(first, last.min(end - 1));
        }
        for number in self.unreported().map(|told| told.ended.stream.number) {
            outstanding.insert(number, number);
        }
        outstanding
    }

    /// True if nothing ever came.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.ended.is_empty() && self.closed.is_empty()
    }

    /// True if every stream that is known of is over: none is open, none is missing, and of none a loss was told that is not
    /// reported.
    #[must_use]
    pub(crate) fn are_over(&self) -> bool {
        self.open.is_empty() && self.missing().is_empty() && self.unreported().next().is_none()
    }

    /// Restores ended numbers; returns as [`Streams::apply`].
    pub(crate) fn insert_ended(&mut self, first: u32, last: u32) -> Option<(u32, u32)> {
        self.ended.insert(first, last);
        let mut given_up = None;
        // An authentic peer that skips every second number must not fill our memory.
        while self.ended.ranges() > MAX_RANGES
            && let Some((first, last)) = self.ended.first_hole()
        {
            self.ended.insert(first, last);
            self.insert_closed(first, last);
            if self.open.numbers().filter(|number| (first..=last).contains(number)).count() as u64
                <= u64::from(last - first)
            {
                given_up = Some((first, last));
            }
        }
        self.told.retain(|number| !self.ended.contains(number));
        given_up
    }

    /// Restores closed numbers.
    pub(crate) fn insert_closed(&mut self, first: u32, last: u32) {
        self.closed.insert(first, last);
        while self.closed.ranges() > MAX_RANGES
            && let Some((first, last)) = self.closed.first_hole()
        {
            self.closed.insert(first, last);
        }
    }
}
