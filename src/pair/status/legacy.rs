//! The sessions with the old program (`sts_version = 1`) in the status: they have neither peer nor stream, so they stand below
//! the table, with a line that says how weak they are.

use std::fmt::Write as _;
use std::path::Path;

use super::json;
use crate::cache::Cache;
use crate::cache::status::LinkStatus;
use crate::legacy::{self, LegacySessionStatus};
use crate::report::Reporter;
use crate::session::Standing;
use crate::text::{count, json_string};
use crate::units::approximate;

/// The session of one link.
#[derive(Debug)]
pub(super) struct LegacyRow {
    link: String,
    session: LegacySessionStatus,
    /// After how many seconds cron replaces it, if it does.
    rotation: Option<u64>,
}

/// The sessions of these links, the current one of each first. A file that cannot be read is reported.
pub(super) fn sessions(runtime: &Path, links: &[LinkStatus], now: u64, report: &Reporter) -> Vec<LegacyRow> {
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
            Err(error) => report.warn(&error),
        }
    }
    sessions
}

/// Two lines for each, and a third if something was damaged.
pub(super) fn lines(sessions: &[LegacyRow]) -> String {
    let mut text = String::new();
    for LegacyRow { link, session, .. } in sessions {
        let LegacySessionStatus { standing, age, counters, aes, .. } = session;
        let age = age.map_or_else(|| "future".to_owned(), approximate);
        let state = if *standing == Standing::Current { format!("age {age}") } else { standing.name().to_owned() };
        let (sent, received) = (count(counters.sent, "text"), count(counters.received, "text"));
        // Writing to a String does not fail.
        let _ = writeln!(text, "old program: {link}: {aes}, {state}, sent {sent}, received {received}");
        if counters.damaged > 0 {
            let _ = writeln!(text, "damaged: {link}: {}", count(counters.damaged, "message"));
        }
        let _ = writeln!(text, "weak: {link}: {}", legacy::WEAKNESS);
    }
    text
}

/// A JSON object per line, whose fields mean what they do in those of other sessions.
pub(super) fn json_lines(sessions: &[LegacyRow]) -> String {
    let mut text = String::new();
    for LegacyRow { link, session, rotation } in sessions {
        let LegacySessionStatus { role, standing, age, counters, aes } = session;
        let rotation_of = rotation.filter(|_| *standing == Standing::Current);
        let next = rotation_of.map(|rotation| age.map_or(0, |age| rotation.saturating_sub(age)));
        let fields = [
            ("link", json_string(link)),
            ("peer", json::null()),
            ("fingerprint", json::null()),
            ("role", json_string(role.name())),
            ("suite", json_string(aes)),
            ("standing", json_string(standing.name())),
            ("age", json::number(*age)),
            ("if_older", json::number(*rotation)),
            ("next", json::number(next)),
            ("messages", counters.received.to_string()),
            ("messages_sent", counters.sent.to_string()),
            ("damaged", counters.damaged.to_string()),
            ("sts_version", "1".to_owned()),
        ];
        let members = fields.map(|(name, value)| format!("{}:{value}", json_string(name)));
        let _ = writeln!(text, "{{{}}}", members.join(","));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::legacy::TextCounts;
    use crate::role::Role;

    #[test]
    fn the_weakness_is_said_and_nothing_secret() {
        let counters = TextCounts { sent: 4, received: 1, damaged: 2 };
        let session = |standing, age| LegacySessionStatus { role: Role::Slave, aes: "cbc", standing, age, counters };
        let of = |session| LegacyRow { link: "pump".into(), session, rotation: Some(100) };
        let sessions = [of(session(Standing::Current, Some(60))), of(session(Standing::Pending, None))];
        let weak = format!("damaged: pump: 2 messages\nweak: pump: {}\n", legacy::WEAKNESS);
        assert_eq!(
            lines(&sessions),
            format!(
                "old program: pump: cbc, age 1m, sent 4 texts, received 1 text\n{weak}\
                 old program: pump: cbc, pending, sent 4 texts, received 1 text\n{weak}"
            )
        );
        let fields = r#""messages":1,"messages_sent":4,"damaged":2,"sts_version":1}"#;
        let begin = r#"{"link":"pump","peer":null,"fingerprint":null,"role":"slave","suite":"cbc","standing":"#;
        assert_eq!(
            json_lines(&sessions),
            format!(
                "{begin}\"current\",\"age\":60,\"if_older\":100,\"next\":40,{fields}\n\
                 {begin}\"pending\",\"age\":null,\"if_older\":100,\"next\":null,{fields}\n"
            )
        );
    }
}
