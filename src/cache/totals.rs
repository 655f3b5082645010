//! What was received from a peer in all, under sessions that are gone, too: a monitoring system takes a total that falls for
//! one that began anew.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Add;

use super::field_text::{hex, unhex};
use crate::crypto::schedule::Digest;

/// Totals of a peer; see [`Counters`](super::Counters) for what they count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) duplicates: u64,
    pub(crate) gaps: u64,
    pub(crate) lost: u64,
    /// When the last message was received, in seconds since 1970.
    pub(crate) last_message: Option<u64>,
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            gaps: self.gaps.saturating_add(other.gaps),
            lost: self.lost.saturating_add(other.lost),
            last_message: self.last_message.max(other.last_message),
        }
    }
}

/// Appends the totals of a peer as one word.
pub(super) fn put(line: &mut String, peer: &Digest, totals: &Totals) {
    let Totals { messages, bytes, duplicates, gaps, lost, last_message } = totals;
    let last = last_message.map_or_else(|| "-".to_owned(), |at| at.to_string());
    let _ = write!(line, "{}:{messages}:{bytes}:{duplicates}:{gaps}:{lost}:{last} ", hex(peer));
}

/// Adds what [`put`] wrote to the totals.
pub(super) fn parse(word: &str, past: &mut BTreeMap<Digest, Totals>) -> Option<()> {
    let mut parts = word.split(':');
    let peer = unhex(parts.next()?)?;
    let mut number = || parts.next()?.parse().ok();
    let [messages, bytes, duplicates, gaps, lost] = [number()?, number()?, number()?, number()?, number()?];
    let last_message = match parts.next()? {
        "-" => None,
        at => Some(at.parse().ok()?),
    };
    // What a later version counts beside these is of no use here.
    past.insert(peer, Totals { messages, bytes, duplicates, gaps, lost, last_message });
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_later_version_counts_too_is_passed_over() {
        let (peer, totals) = ([7; 32], Totals { messages: 3, last_message: Some(5), ..Totals::default() });
        let mut line = String::new();
        put(&mut line, &peer, &totals);
        for later in ["", ":17", ":17:18"] {
            let mut past = BTreeMap::new();
            assert_eq!(parse(&format!("{}{later}", line.trim_end()), &mut past), Some(()));
            assert_eq!(past, BTreeMap::from([(peer, totals)]));
        }
        assert_eq!(parse(line.trim_end().rsplit_once(':').unwrap().0, &mut BTreeMap::new()), None, "one is missing");
    }
}
