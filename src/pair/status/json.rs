//! The status as JSON (RFC 8259), one object per peer and line; `sts-pair(1)` lists the fields.

use std::fmt::Write as _;

use super::survey::Row;
use crate::name::PeerName;
use crate::text::json_string;

/// The objects, one per line.
pub(super) fn lines(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    for row in rows {
        put_line(&mut text, row);
    }
    text
}

/// Appends the object of a row, as a line.
pub(super) fn put_line(text: &mut String, row: &Row<'_>) {
    let mut separator = '{';
    for (name, value) in fields(row) {
        let _ = write!(text, "{separator}\"{name}\":{value}");
        separator = ',';
    }
    text.push_str("}\n");
}

/// The names of the fields with their values as JSON. Scripts rely on the names: none is removed or changes its meaning.
fn fields(row: &Row<'_>) -> [(&'static str, String); 22] {
    let session = row.session();
    let text = |value: Option<&str>| value.map_or_else(null, json_string);
    let received = row.received();
    let gaps = row
        .latest_gaps()
        .map(|gap| format!(r#"{{"stream":{},"first":{},"last":{}}}"#, gap.stream.number, gap.first, gap.last));
    let missing = row.missing().map(|(first, last)| format!(r#"{{"first":{first},"last":{last}}}"#));
    let open = row.open_streams().map(|open| {
        let (stream, messages, age) = (open.stream.number, open.messages, number(open.age));
        format!(r#"{{"stream":{stream},"messages":{messages},"age":{age}}}"#)
    });
    let rejected = row.link.iter().flat_map(|link| &link.rejected);
    let rejected = rejected.map(|(reason, count)| format!("{}:{count}", json_string(reason.reason())));
    [
        ("link", text(row.link.map(|link| link.link.as_str()))),
        ("peer", text(row.name.map(PeerName::as_str))),
        ("fingerprint", json_string(&row.fingerprint.to_string())),
        ("role", text(session.map(|session| session.role.name()))),
        ("suite", text(session.map(|session| session.suite.name()))),
        ("standing", text(session.map(|session| session.standing.name()))),
        ("age", number(session.and_then(|session| session.age))),
        ("if_older", number(row.link.and_then(|link| link.rotation))),
        ("next", number(row.next())),
        ("sessions", row.sessions.len().to_string()),
        ("streams_sent", row.streams_sent().to_string()),
        ("messages", received.messages.to_string()),
        ("bytes", received.bytes.to_string()),
        ("repeated", received.duplicates.to_string()),
        ("lost", received.lost.to_string()),
        ("gaps", received.gaps.to_string()),
        ("last_message", number(row.received_ever().last_message)),
        ("last_pairing", number(row.last_pairing())),
        ("latest_gaps", list(gaps)),
        ("missing_streams", list(missing)),
        ("open_streams", list(open)),
        ("rejected", format!("{{{}}}", rejected.collect::<Vec<_>>().join(","))),
    ]
}

pub(super) fn null() -> String {
    "null".to_owned()
}

pub(super) fn number(value: Option<u64>) -> String {
    value.map_or_else(null, |value| value.to_string())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}
