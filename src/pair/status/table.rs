//! The status as a table, and below it what was lost or dropped.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use super::survey::Row;
use crate::cache::status::LinkStatus;
use crate::session::Standing;
use crate::text::{count, numbered};
use crate::units::approximate;

const HEAD: [&str; 10] = ["LINK", "PEER", "KEY", "AGE", "SENT", "RECV", "LAST", "GAPS", "REJECT", "NEXT"];
/// Columns of numbers, which are aligned to the right.
const NUMBERS: [usize; 4] = [4, 5, 7, 8];
/// How much of a fingerprint is shown, in characters of base64: enough to tell keys apart, not to compare them.
const KEY_LEN: usize = 8;
/// Most open streams of a peer that have a line each.
const MAX_OPEN_STREAMS: usize = 16;

const PLAIN: Style = Style::new();
const BOLD: Style = PLAIN.bold();
const RED: Style = AnsiColor::Red.on_default();
const YELLOW: Style = AnsiColor::Yellow.on_default();

/// One cell: its text, and its style if there are colours.
type Cell = (String, Style);

/// The table at `now`, in seconds since 1970: one line per peer, as wide as its content; empty if there are no rows.
pub(super) fn table(rows: &[Row<'_>], now: u64, colours: bool) -> String {
    let mut text = String::new();
    if rows.is_empty() {
        return text;
    }
    let mut lines = vec![HEAD.map(|head| (head.to_owned(), BOLD))];
    lines.extend(rows.iter().map(|row| cells(row, now)));
    let width = |column: usize| lines.iter().map(|line| line[column].0.len()).max().unwrap_or_default();
    let widths: Vec<_> = (0..HEAD.len()).map(width).collect();
    for line in &lines {
        for (column, ((cell, style), width)) in line.iter().zip(&widths).enumerate() {
            let space = " ".repeat(width - cell.len());
            let style = if colours { *style } else { PLAIN };
            let cell = format!("{style}{cell}{style:#}");
            text += if column == 0 { "" } else { "  " };
            text += &if NUMBERS.contains(&column) { space + &cell } else { cell + &space };
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }
    let mut details = String::new();
    for row in rows {
        describe(row, &mut details);
    }
    if !details.is_empty() {
        text.push('\n');
        text += &details;
    }
    text
}

fn cells(row: &Row<'_>, now: u64) -> [Cell; HEAD.len()] {
    let plain = |text: String| (text, PLAIN);
    let trouble = |count: u64| (count.to_string(), if count > 0 { RED } else { PLAIN });
    let fingerprint = row.fingerprint.to_string();
    let key = fingerprint.trim_start_matches("SHA256:").chars().take(KEY_LEN).collect();
    let received = row.received();
    let age = match row.session().map(|session| (session.standing, session.age)) {
        None => ("none".to_owned(), YELLOW),
        Some((Standing::Current, Some(age))) => plain(approximate(age)),
        Some((Standing::Current, None)) => ("future".to_owned(), YELLOW),
        Some((other, _)) => (other.name().to_owned(), YELLOW),
    };
    let last = row.received_ever().last_message.and_then(|at| now.checked_sub(at));
    [
        plain(row.link.map_or_else(|| "*".to_owned(), |link| link.link.to_string())),
        row.name.map_or_else(|| ("(unknown)".to_owned(), YELLOW), |name| plain(name.to_string())),
        plain(key),
        age,
        plain(row.streams_sent().to_string()),
        plain(received.messages.to_string()),
        plain(last.map_or_else(|| "-".to_owned(), approximate)),
        trouble(received.gaps + row.missing_streams()),
        // Which peer a dropped message came from is not known: it is counted for the link.
        if row.first { trouble(row.rejected()) } else { plain(String::new()) },
        match row.next() {
            None => plain("-".to_owned()),
            Some(0) => ("now".to_owned(), YELLOW),
            Some(next) => plain(approximate(next)),
        },
    ]
}

/// A line for each gap, each range of streams that never came, each stream that is open, and each reason for which messages
/// were dropped.
fn describe(row: &Row<'_>, text: &mut String) {
    let Some(LinkStatus { link, rejected, .. }) = row.link else { return };
    let received = row.received();
    let name = row.name.map_or_else(|| row.fingerprint.to_string(), ToString::to_string);
    let mut shown = 0;
    for gap in row.latest_gaps() {
        let _ = writeln!(text, "gap: {link}, {name}, {gap}");
        shown += 1;
    }
    if received.gaps > shown {
        let lost = count(received.lost, "message");
        let _ = writeln!(text, "gap: {link}, {name}: {} in all, {lost} lost", received.gaps);
    }
    for range in row.missing() {
        let streams = numbered("stream", &[range]);
        let _ = writeln!(text, "gap: {link}, {name}: no messages of {streams} were received");
    }
    for open in row.open_streams().take(MAX_OPEN_STREAMS) {
        let _ = writeln!(text, "open: {link}, {name}, {open}");
    }
    let more = row.open_streams().count().saturating_sub(MAX_OPEN_STREAMS);
    if more > 0 {
        let _ = writeln!(text, "open: {link}, {name}: {} more", count(more as u64, "stream"));
    }
    for (reason, count) in rejected.iter().filter(|_| row.first) {
        let _ = writeln!(text, "rejected: {link}: {count} {reason}");
    }
}
