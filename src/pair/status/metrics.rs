//! The status for a monitoring system: the text format of Prometheus, which the textfile collector of its node exporter reads.
//!
//! `sts-pair(1)` lists the metrics. Each is one line of a table here: its name, its type, what it says, and its value.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use super::print;
use super::survey::{Row, Survey};
use crate::config::Environment;
#[cfg(feature = "legacy")]
use crate::legacy::LegacySessionStatus;
#[cfg(feature = "legacy")]
use crate::link::unix_time;
use crate::report::Reporter;
use crate::session::Standing;
use crate::{Result, files, spool};

/// A metric, and how to get its value. For Prometheus, a value that may fall is a gauge.
pub(super) struct Metric<F> {
    pub(super) name: &'static str,
    pub(super) kind: &'static str,
    pub(super) help: &'static str,
    pub(super) value: F,
}

/// Of each peer of each link.
type PeerMetric = Metric<fn(&Row<'_>) -> Option<u64>>;

/// Of a session with the old program.
#[cfg(feature = "legacy")]
pub(super) type LegacyMetric = Metric<fn(&LegacySessionStatus) -> Option<u64>>;

const fn gauge<F: Copy>(name: &'static str, help: &'static str, value: F) -> Metric<F> {
    Metric { name, kind: "gauge", help, value }
}

const fn counter<F: Copy>(name: &'static str, help: &'static str, value: F) -> Metric<F> {
    Metric { name, kind: "counter", help, value }
}

const PEER_METRICS: [PeerMetric; 12] = [
    gauge("sts_sessions", "Sessions that are kept; 0 if the peer has not paired.", |row| {
        Some(row.sessions.len() as u64)
    }),
    gauge("sts_session_created_timestamp_seconds", "When the session in use was agreed on.", |row| {
        row.session().filter(|session| session.standing == Standing::Current).map(|session| session.created)
    }),
    gauge("sts_last_pairing_timestamp_seconds", "When the last session was agreed on, in use or not.", |row| {
        row.last_pairing()
    }),
    gauge("sts_last_message_timestamp_seconds", "When the last message was received.", |row| {
        row.received_ever().last_message
    }),
    counter("sts_received_messages_total", "Messages received.", |row| Some(row.received_ever().messages)),
    counter("sts_received_bytes_total", "Bytes received.", |row| Some(row.received_ever().bytes)),
    counter("sts_repeated_messages_total", "Messages that arrived again, and were not written again.", |row| {
        Some(row.received_ever().duplicates)
    }),
    counter("sts_gaps_total", "Gaps in what was received.", |row| Some(row.received_ever().gaps)),
    counter("sts_lost_messages_total", "Messages lost in gaps.", |row| Some(row.received_ever().lost)),
    gauge("sts_missing_streams", "Streams of which no messages were received.", |row| Some(row.missing_streams())),
    gauge("sts_open_streams", "Streams that have not ended, or whose end was lost.", |row| {
        Some(row.open_streams().count() as u64)
    }),
    gauge("sts_sent_streams", "Runs of sts-send that sent something under a session that is kept.", |row| {
        Some(row.streams_sent())
    }),
];

/// Of the session in use with the old program, if the link has one. The counters start at 0 with each session.
#[cfg(feature = "legacy")]
pub(super) const LEGACY_METRICS: [LegacyMetric; 5] = [
    gauge(
        "sts_legacy_session_created_timestamp_seconds",
        "When the session with the old program was agreed on.",
        |of| Some(of.created),
    ),
    gauge("sts_legacy_last_message_timestamp_seconds", "When the old program's last message was received.", |of| {
        of.counters.last_text
    }),
    counter("sts_legacy_received_messages_total", "Messages received from the old program.", |of| {
        Some(of.counters.received)
    }),
    counter("sts_legacy_sent_messages_total", "Messages sent to the old program.", |of| Some(of.counters.sent)),
    counter("sts_legacy_damaged_messages_total", "Messages of the old program that could not be read.", |of| {
        Some(of.counters.damaged)
    }),
];

/// Prints the metrics of all links and of these spools, or has them in `file`, which is replaced as a whole.
///
/// # Errors
/// As [`super::run`]; [`crate::Exit::Failed`] if the file or standard output cannot be written.
pub fn run(env: &Environment, file: Option<&Path>, spools: &[PathBuf], report: &Reporter) -> Result<()> {
    #[cfg_attr(not(feature = "legacy"), expect(unused_mut, reason = "the old program's links may lack files, too"))]
    let mut survey = Survey::take(env, None)?;
    #[cfg(feature = "legacy")]
    let legacy = super::legacy::sessions(&env.runtime_dir(), &mut survey.links, unix_time());
    let mut text = text(&survey);
    #[cfg(feature = "legacy")]
    super::legacy::put_metrics(&legacy, &mut text);
    put_spools(spools, &mut text, report);
    match file {
        Some(path) => files::publish(path, text.0.as_bytes())?,
        None => drop(print(&text.0)?),
    }
    survey.report_unread(report)
}

pub(super) fn text(survey: &Survey) -> Text {
    let mut text = Text::default();
    text.family("sts_build_info", "gauge", "The version of sts-pair; always 1.");
    text.sample("sts_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    let rows = survey.rows();
    for Metric { name, kind, help, value } in &PEER_METRICS {
        text.family(name, kind, help);
        for row in &rows {
            let Some(value) = value(row) else { continue };
            let link = row.link.map_or("*", |link| link.link.as_str());
            let fingerprint = row.fingerprint.to_string();
            let peer = row.name.map_or("", |name| name.as_str());
            text.sample(name, &[("link", link), ("peer", peer), ("fingerprint", &fingerprint)], value);
        }
    }
    text.family("sts_rejected_messages_total", "counter", "Messages dropped on the link, from any sender.");
    for link in &survey.links {
        for (reason, count) in &link.rejected {
            let labels = [("link", link.link.as_str()), ("reason", reason.reason())];
            text.sample("sts_rejected_messages_total", &labels, *count);
        }
    }
    text.family("sts_renewal_interval_seconds", "gauge", "The age at which a session is replaced.");
    for (link, interval) in survey.links.iter().filter_map(|link| Some((link, link.rotation?))) {
        text.sample("sts_renewal_interval_seconds", &[("link", link.link.as_str())], interval);
    }
    text.family("sts_unreadable_files", "gauge", "Files of the link that cannot be read.");
    for link in &survey.links {
        text.sample("sts_unreadable_files", &[("link", link.link.as_str())], link.broken.len() as u64);
    }
    text
}

fn put_spools(spools: &[PathBuf], text: &mut Text, report: &Reporter) {
    let look = |dir: &PathBuf| match spool::size_on_disk(dir) {
        Ok(bytes) => Some((dir.to_string_lossy().into_owned(), bytes)),
        Err(error) => {
            report.warn(&error);
            None
        }
    };
    let sizes: Vec<_> = spools.iter().filter_map(look).collect();
    if !sizes.is_empty() {
        text.family("sts_spool_bytes", "gauge", "Size on disk of what a spool holds.");
    }
    for (dir, bytes) in &sizes {
        text.sample("sts_spool_bytes", &[("spool", dir)], *bytes);
    }
}

/// Lines of the text format.
#[derive(Default)]
pub(super) struct Text(pub(super) String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        let labels: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", Escaped(value))).collect();
        let _ = writeln!(self.0, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// The value of a label, as the format has it.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '\\' => f.write_str(r"\\"),
            '"' => f.write_str("\\\""),
            '\n' => f.write_str(r"\n"),
            c => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.sample("sts_spool_bytes", &[("spool", "a\\b\"c\nd é")], 3);
        assert_eq!(text.0, "sts_spool_bytes{spool=\"a\\\\b\\\"c\\nd é\"} 3\n");
    }
}
