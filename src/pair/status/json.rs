//! The status as JSON (RFC 8259), one object per peer and line; `sts-pair(1)` lists the fields.

use std::fmt::Write as _;

use super::Row;
use crate::text::json_string;

/// The objects, one per line.
pub(super) fn lines(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    for row in rows {
        let members = fields(row).map(|(name, value)| format!("{}:{value}", json_string(name)));
        let _ = writeln!(text, "{{{}}}", members.join(","));
    }
    text
}

/// The names of the fields with their values as JSON. Scripts rely on the names: none is removed or changes its meaning.
fn fields(row: &Row<'_>) -> [(&'static str, String); 20] {
    let session = row.session;
    let gaps = row
        .latest_gaps()
        .map(|gap| format!(r#"{{"stream":{},"first":{},"last":{}}}"#, gap.stream.number, gap.first, gap.last));
    let missing = row.missing().map(|(first, last)| format!(r#"{{"first":{first},"last":{last}}}"#));
    let open = row.open_streams().map(|open| {
        let (stream, messages, age) = (open.stream.number, open.messages, number(open.age));
        format!(r#"{{"stream":{stream},"messages":{messages},"age":{age}}}"#)
    });
    let rejected = row.link.rejected.iter();
    let rejected = rejected.map(|(reason, count)| format!("{}:{count}", json_string(reason.reason())));
    [
        ("link", json_string(row.link.link.as_str())),
        ("peer", row.name.map_or_else(null, |name| json_string(name.as_str()))),
        ("fingerprint", json_string(&row.fingerprint.to_string())),
        ("role", json_string(session.role.name())),
        ("suite", json_string(&session.suite.to_string())),
        ("standing", json_string(session.standing.name())),
        ("age", number(session.age)),
        ("if_older", number(row.link.rotation)),
        ("next", number(row.next())),
        ("sessions", row.sessions.len().to_string()),
        ("streams_sent", row.sum(|session| session.streams_reserved).to_string()),
        ("messages", row.sum(|session| session.received.messages).to_string()),
        ("bytes", row.sum(|session| session.received.bytes).to_string()),
        ("repeated", row.sum(|session| session.received.duplicates).to_string()),
        ("lost", row.sum(|session| session.received.lost).to_string()),
        ("gaps", row.gaps().to_string()),
        ("latest_gaps", list(gaps)),
        ("missing_streams", list(missing)),
        ("open_streams", list(open)),
        ("rejected", format!("{{{}}}", rejected.collect::<Vec<_>>().join(","))),
    ]
}

fn null() -> String {
    "null".to_owned()
}

fn number(value: Option<u64>) -> String {
    value.map_or_else(null, |value| value.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}
