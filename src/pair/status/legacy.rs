//! The sessions with the old program (`sts_version = 1`) in the status: they have neither peer nor stream, so they stand below
//! the table, with a line that says how weak they are.

use std::fmt::Write as _;
use std::path::Path;

use super::json::Object;
use super::metrics::{LEGACY_METRICS, Text};
use crate::cache::Cache;
use crate::cache::status::LinkStatus;
use crate::legacy::{self, LegacySessionStatus};
use crate::session::Standing;
use crate::text::count;
use crate::units::approximate;

/// The session of one link.
#[derive(Debug)]
pub(super) struct LegacyRow {
    link: String,
    session: LegacySessionStatus,
    /// After how many seconds cron replaces it, if it does.
    rotation: Option<u64>,
}

/// The sessions of these links, the current one of each first. A file that cannot be read is added to those of its link.
pub(super) fn sessions(runtime: &Path, links: &mut [LinkStatus], now: u64) -> Vec<LegacyRow> {
    let mut sessions = Vec::new();
    for link in links {
        let of_link = Cache::look(runtime, &link.link).and_then(|cache| legacy::status(&cache, now));
        match of_link {
            Ok(of_link) => sessions.extend(of_link.into_iter().map(|session| LegacyRow {
                link: link.link.to_string(),
                session,
                rotation: link.rotation,
            })),
            Err(error) if error.exit() == crate::Exit::TryAgain => {}
            Err(error) => link.broken.push(error),
        }
    }
    sessions
}

/// A line for each, and a second if something was damaged; then one that says how weak all of them are, since a gateway may have
/// many such links.
pub(super) fn lines(sessions: &[LegacyRow], now: u64) -> String {
    let mut text = String::new();
    for LegacyRow { link, session, .. } in sessions {
        let LegacySessionStatus { standing, age, counters, aes, .. } = session;
        let age = age.map_or_else(|| "future".to_owned(), approximate);
        let state = if *standing == Standing::Current { format!("age {age}") } else { standing.name().to_owned() };
        let (sent, received) = (count(counters.sent, "text"), count(counters.received, "text"));
        let last = counters.last_text.and_then(|at| now.checked_sub(at));
        let last = last.map_or_else(String::new, |ago| format!(", the last one {} ago", approximate(ago)));
        // Writing to a String does not fail.
        let _ = writeln!(text, "old program: {link}: {aes}, {state}, sent {sent}, received {received}{last}");
        if counters.damaged > 0 {
            let _ = writeln!(text, "damaged: {link}: {}", count(counters.damaged, "message"));
        }
    }
    // The sessions of a link stand together.
    let mut links: Vec<_> = sessions.iter().map(|row| row.link.as_str()).collect();
    links.dedup();
    if !links.is_empty() {
        let _ = writeln!(text, "weak: {}: {}", links.join(", "), legacy::WEAKNESS);
    }
    text
}

/// A JSON object per line, whose fields mean what they do in those of other sessions.
pub(super) fn json_lines(sessions: &[LegacyRow]) -> String {
    let mut text = String::new();
    for LegacyRow { link, session, rotation } in sessions {
        let LegacySessionStatus { role, standing, created, age, counters, aes } = session;
        let rotation_of = rotation.filter(|_| *standing == Standing::Current);
        let next = rotation_of.map(|rotation| age.map_or(0, |age| rotation.saturating_sub(age)));
        let mut object = Object::begin(&mut text);
        object.string("link", Some(link));
        object.string("peer", None);
        object.string("fingerprint", None);
        object.string("role", Some(role.name()));
        object.string("suite", Some(aes));
        object.string("standing", Some(standing.name()));
        object.number("age", *age);
        object.number("if_older", *rotation);
        object.number("next", next);
        object.value("messages", counters.received);
        object.value("messages_sent", counters.sent);
        object.value("damaged", counters.damaged);
        object.number("last_message", counters.last_text);
        object.value("last_pairing", created);
        object.value("sts_version", 1);
        object.string("weak", Some(legacy::WEAKNESS));
        object.end_line();
    }
    text
}

/// The metrics of the current sessions.
pub(super) fn put_metrics(sessions: &[LegacyRow], text: &mut Text) {
    let current: Vec<_> = sessions.iter().filter(|row| row.session.standing == Standing::Current).collect();
    if current.is_empty() {
        return;
    }
    for metric in &LEGACY_METRICS {
        text.family(metric.name, metric.kind, metric.help);
        for LegacyRow { link, session, .. } in &current {
            if let Some(value) = (metric.value)(session) {
                text.sample(metric.name, &[("link", link)], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::TextCounts;
    use crate::role::Role;

    #[test]
    fn the_weakness_is_said_and_nothing_secret() {
        let counters = TextCounts { sent: 4, received: 1, damaged: 2, last_text: Some(1000) };
        let session = |standing, age| LegacySessionStatus {
            role: Role::Slave,
            aes: "cbc",
            standing,
            created: 940,
            age,
            counters,
        };
        let of = |session| LegacyRow { link: "pump".into(), session, rotation: Some(100) };
        let sessions = [of(session(Standing::Current, Some(60))), of(session(Standing::Pending, None))];
        let texts = "sent 4 texts, received 1 text, the last one 5m ago\ndamaged: pump: 2 messages\n";
        let weak = legacy::WEAKNESS;
        let of_pump = format!("old program: pump: cbc, age 1m, {texts}old program: pump: cbc, pending, {texts}");
        assert_eq!(lines(&sessions, 1300), format!("{of_pump}weak: pump: {weak}\n"));
        assert_eq!(lines(&[], 1300), "");
        // It is said once, however many links there are.
        let of_gate = LegacyRow { link: "gate".into(), ..of(session(Standing::Current, Some(60))) };
        let said = lines(&[of(session(Standing::Current, None)), of_gate], 1300);
        assert!(said.ends_with(&format!("messages\nweak: pump, gate: {weak}\n")), "{said}");
        assert_eq!(said.matches("weak").count(), 1, "{said}");
        let fields = format!(
            r#""messages":1,"messages_sent":4,"damaged":2,"last_message":1000,"last_pairing":940,"sts_version":1,"weak":"{}"}}"#,
            legacy::WEAKNESS
        );
        let begin = r#"{"link":"pump","peer":null,"fingerprint":null,"role":"slave","suite":"cbc","standing":"#;
        assert_eq!(
            json_lines(&sessions),
            format!(
                "{begin}\"current\",\"age\":60,\"if_older\":100,\"next\":40,{fields}\n\
                 {begin}\"pending\",\"age\":null,\"if_older\":100,\"next\":null,{fields}\n"
            )
        );
        let mut text = Text::default();
        put_metrics(&sessions, &mut text);
        for line in [
            "# TYPE sts_legacy_received_messages_total counter",
            "sts_legacy_received_messages_total{link=\"pump\"} 1",
            "sts_legacy_sent_messages_total{link=\"pump\"} 4",
            "sts_legacy_damaged_messages_total{link=\"pump\"} 2",
            "sts_legacy_session_created_timestamp_seconds{link=\"pump\"} 940",
            "sts_legacy_last_message_timestamp_seconds{link=\"pump\"} 1000",
        ] {
            assert_eq!(text.0.lines().filter(|it| *it == line).count(), 1, "{line} in {}", text.0);
        }
    }
}
