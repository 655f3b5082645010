//! The status as JSON (RFC 8259), one object per peer and line; `sts-pair(1)` lists the fields.

use std::fmt::{Display, Write as _};

use super::survey::Row;
use crate::name::PeerName;
use crate::text::put_json_string;

/// The objects, one per line.
pub(super) fn lines(rows: &[Row<'_>]) -> String {
    let mut text = String::new();
    for row in rows {
        put_line(&mut text, row);
    }
    text
}

/// Appends the object of a row, as a line. Scripts rely on the names: none is removed or changes its meaning.
pub(super) fn put_line(text: &mut String, row: &Row<'_>) {
    let session = row.session();
    let received = row.received();
    let mut object = Object::begin(text);
    object.string("link", row.link.map(|link| link.link.as_str()));
    object.string("peer", row.name.map(PeerName::as_str));
    object.value("fingerprint", format_args!("\"{}\"", row.fingerprint));
    object.string("role", session.map(|session| session.role.name()));
    object.string("suite", session.map(|session| session.suite.name()));
    object.string("standing", session.map(|session| session.standing.name()));
    object.number("age", session.and_then(|session| session.age));
    object.number("if_older", row.link.and_then(|link| link.rotation));
    object.number("next", row.next());
    object.value("sessions", row.sessions.len());
    object.value("streams_sent", row.streams_sent());
    object.value("messages", received.messages);
    object.value("bytes", received.bytes);
    object.value("repeated", received.duplicates);
    object.value("lost", received.lost);
    object.value("gaps", received.gaps);
    object.number("last_message", row.received_ever().last_message);
    object.number("last_pairing", row.last_pairing());
    object.list("latest_gaps", row.latest_gaps(), |gap, item| {
        item.value("stream", gap.stream.number);
        item.value("first", gap.first);
        item.value("last", gap.last);
    });
    object.list("missing_streams", row.missing(), |(first, last), item| {
        item.value("first", first);
        item.value("last", last);
    });
    object.list("open_streams", row.open_streams(), |open, item| {
        item.value("stream", open.stream.number);
        item.value("messages", open.messages);
        item.number("age", open.age);
    });
    let mut rejected = object.object("rejected");
    for (reason, count) in row.link.iter().flat_map(|link| &link.rejected) {
        rejected.value(reason.reason(), count);
    }
    rejected.end();
    object.end_line();
}

/// An object that is appended to a text member by member: for a hundred thousand peers, memory of its own for each of two dozen
/// values takes longer than the values.
pub(super) struct Object<'a> {
    text: &'a mut String,
    is_empty: bool,
}

impl<'a> Object<'a> {
    /// Begins an object.
    pub(super) fn begin(text: &'a mut String) -> Self {
        text.push('{');
        Self { text, is_empty: true }
    }

    /// Ends it.
    fn end(self) {
        self.text.push('}');
    }

    /// Ends it, and the line.
    pub(super) fn end_line(self) {
        self.text.push_str("}\n");
    }

    /// A text; null if there is none.
    pub(super) fn string(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => put_json_string(self.member(name), value),
            None => self.member(name).push_str("null"),
        }
    }

    /// A number; null if there is none.
    pub(super) fn number(&mut self, name: &str, value: Option<u64>) {
        match value {
            Some(value) => self.value(name, value),
            None => self.member(name).push_str("null"),
        }
    }

    /// What displays as JSON.
    pub(super) fn value(&mut self, name: &str, value: impl Display) {
        // Writing to a String does not fail.
        let _ = write!(self.member(name), "{value}");
    }

    fn object(&mut self, name: &str) -> Object<'_> {
        Object::begin(self.member(name))
    }

    /// A list of objects, each filled by `fill`.
    fn list<T>(&mut self, name: &str, items: impl Iterator<Item = T>, fill: impl Fn(T, &mut Object<'_>)) {
        let text = self.member(name);
        text.push('[');
        for (number, item) in items.enumerate() {
            if number > 0 {
                text.push(',');
            }
            let mut object = Object::begin(text);
            fill(item, &mut object);
            object.end();
        }
        text.push(']');
    }

    /// The text, to which the value of a member is to be appended.
    fn member(&mut self, name: &str) -> &mut String {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.text.push(',');
        }
        put_json_string(self.text, name);
        self.text.push(':');
        self.text
    }
}
