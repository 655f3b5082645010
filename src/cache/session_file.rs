//! The text of a session file: strict to read, so that whatever is not ours from beginning to end is refused.
//!
//! The fields have a fixed order, and one that is unknown or absent makes the file malformed: a file with other fields needs
//! another format number, and older versions refuse it until the next pairing.

use std::fmt::Write as _;
use std::str::{FromStr, Lines};

use base16ct::HexDisplay;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{PeerSessions, StoredSession};
use crate::crypto::schedule::{Digest, Topics, digest};
use crate::role::Role;
use crate::secret::{Key, KeyPurpose};
use crate::session::{Session, SessionId, Standing};
use crate::suite::Suite;

const FIRST_LINE: &str =
    "# Keys of a session: made by sts-pair; not to be edited, copied to another machine or restored.\n";
const SESSIONS_FORMAT: &str = "sts-sessions-3";

/// What a file should have had instead, for the error.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

/// The file of one peer's sessions.
pub(super) fn encode(link: &str, PeerSessions { sessions, deleted }: &PeerSessions) -> Zeroizing<String> {
    // Room for all of it at once: a buffer that grew would leave copies of the keys behind.
    let topics: usize = sessions.iter().map(|stored| topics_len(&stored.session.topics)).sum();
    let mut text = Zeroizing::new(String::with_capacity(512 + deleted.len() * 17 + sessions.len() * 1024 + topics));
    text.push_str(FIRST_LINE);
    put(&mut text, "format", SESSIONS_FORMAT);
    put(&mut text, "link", link);
    put(&mut text, "past", deleted.iter().map(|id| hex(id)).collect::<Vec<_>>().join(" "));
    for stored in sessions {
        let session = &stored.session;
        text.push('\n');
        put(&mut text, "standing", stored.standing.name());
        put(&mut text, "id", hex(&session.id));
        put(&mut text, "role", session.role);
        put(&mut text, "suite", session.suite);
        put_bytes(&mut text, "own", &session.own);
        put_bytes(&mut text, "peer", &session.peer);
        put(&mut text, "master_to_slave", &session.topics.master_to_slave);
        put(&mut text, "slave_to_master", &session.topics.slave_to_master);
        put(&mut text, "created", session.created);
        put(&mut text, "retired", stored.retired);
        put(&mut text, "streams", stored.streams);
        put(&mut text, "confirms", stored.confirms);
        put(&mut text, "blocks", stored.blocks);
        put(&mut text, "received", yes_or_no(stored.received));
        put(&mut text, "proven", yes_or_no(stored.proven));
        put_bytes(&mut text, "send", session.send.expose());
        put_bytes(&mut text, "receive", session.receive.expose());
        put_bytes(&mut text, "confirm", session.confirm.expose());
    }
    text.push('\n');
    let sum = sum(&text);
    put(&mut text, "sum", sum);
    text
}

/// Reads what [`encode`] made for this link.
pub(super) fn parse(link: &str, bytes: &[u8]) -> Result<PeerSessions, Malformed> {
    let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text"))?;
    let end = text.rfind("sum = ").ok_or(Malformed("`sum` at its end"))?;
    let (body, last) = text.split_at(end);
    if last.strip_prefix("sum = ").and_then(|rest| rest.strip_suffix('\n')) != Some(&sum(body)) {
        return Err(Malformed("the right `sum`"));
    }
    let mut fields = FieldLines(body.strip_prefix(FIRST_LINE).ok_or(Malformed("its first line"))?.lines());
    if fields.text("format")? != SESSIONS_FORMAT {
        return Err(Malformed("the `format` of this version"));
    }
    if fields.text("link")? != link {
        return Err(Malformed("this link's name"));
    }
    let deleted =
        fields.text("past")?.split_ascii_whitespace().map(unhex).collect::<Option<_>>().ok_or(Malformed("past"))?;
    let mut sessions = Vec::new();
    fields.blank()?;
    while let Some(standing) = fields.next_block()? {
        sessions.push(fields.session(standing)?);
        fields.blank()?;
    }
    Ok(PeerSessions { sessions, deleted })
}

/// True if topics can be written as a line: a control character could pass for another field.
pub(super) fn can_hold(topics: &Topics) -> bool {
    ![&topics.master_to_slave, &topics.slave_to_master].into_iter().any(|topic| topic.contains(char::is_control))
}

/// Bytes as lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    format!("{:x}", HexDisplay(bytes))
}

/// `N` bytes from exactly twice as many hexadecimal digits, all lower case.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_whole = base16ct::lower::decode(text, &mut bytes).is_ok_and(|decoded| decoded.len() == N);
    is_whole.then_some(bytes)
}

struct FieldLines<'a>(Lines<'a>);

impl<'a> FieldLines<'a> {
    fn text(&mut self, key: &'static str) -> Result<&'a str, Malformed> {
        let line = self.0.next().ok_or(Malformed(key))?;
        line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = ")).ok_or(Malformed(key))
    }

    fn number<T: FromStr>(&mut self, key: &'static str) -> Result<T, Malformed> {
        self.text(key)?.parse().map_err(|_| Malformed(key))
    }

    fn flag(&mut self, key: &'static str) -> Result<bool, Malformed> {
        match self.text(key)? {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(Malformed(key)),
        }
    }

    fn bytes<const N: usize>(&mut self, key: &'static str) -> Result<[u8; N], Malformed> {
        let mut bytes = [0; N];
        if STANDARD.decode_slice(self.text(key)?, &mut bytes) == Ok(N) { Ok(bytes) } else { Err(Malformed(key)) }
    }

    fn key<P: KeyPurpose>(&mut self, key: &'static str, len: usize) -> Result<Key<P>, Malformed> {
        let text = self.text(key)?;
        let mut whole = false;
        let decoded = Key::generate(len, |bytes| whole = STANDARD.decode_slice(text, bytes) == Ok(len));
        if whole { Ok(decoded) } else { Err(Malformed(key)) }
    }

    fn blank(&mut self) -> Result<(), Malformed> {
        if self.0.next() == Some("") { Ok(()) } else { Err(Malformed("an empty line")) }
    }

    fn next_block(&mut self) -> Result<Option<Standing>, Malformed> {
        if self.0.clone().next().is_none() {
            return Ok(None);
        }
        Standing::from_name(self.text("standing")?).map(Some).ok_or(Malformed("standing"))
    }

    fn session(&mut self, standing: Standing) -> Result<StoredSession, Malformed> {
        let id: SessionId = unhex(self.text("id")?).ok_or(Malformed("id"))?;
        let role = Role::from_name(self.text("role")?).ok_or(Malformed("role"))?;
        let suite = Suite::from_name(self.text("suite")?).ok_or(Malformed("suite"))?;
        let own: Digest = self.bytes("own")?;
        let peer: Digest = self.bytes("peer")?;
        let topics = Topics {
            master_to_slave: self.text("master_to_slave")?.to_owned(),
            slave_to_master: self.text("slave_to_master")?.to_owned(),
        };
        let created = self.number("created")?;
        let retired = self.number("retired")?;
        let streams = self.number("streams")?;
        let confirms = self.number("confirms")?;
        let blocks = self.number("blocks")?;
        let received = self.flag("received")?;
        let proven = self.flag("proven")?;
        let send = self.key("send", suite.key_len())?;
        let receive = self.key("receive", suite.key_len())?;
        let confirm = self.key("confirm", 32)?;
        let session = Session { id, suite, role, own, peer, topics, created, send, receive, confirm };
        Ok(StoredSession { session, standing, retired, streams, confirms, blocks, received, proven })
    }
}

fn put(text: &mut String, key: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "{key} = {value}");
}

fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

fn put_bytes(text: &mut String, key: &str, bytes: &[u8]) {
    text.push_str(key);
    text.push_str(" = ");
    STANDARD.encode_string(bytes, text);
    text.push('\n');
}

fn sum(text: &str) -> String {
    hex(&digest(&[text.as_bytes()])[..8])
}

fn topics_len(topics: &Topics) -> usize {
    topics.master_to_slave.len() + topics.slave_to_master.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_lower_case_and_of_the_right_length() {
        assert_eq!(hex(&[0x00, 0x9a, 0xff]), "009aff");
        assert_eq!(unhex("009aff"), Some([0x00, 0x9a, 0xff]));
        for bad in ["", "009af", "009a", "009aff00", "009aFf", "+09aff", "009a f", "009afg", "009a\u{e9}"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }
}
