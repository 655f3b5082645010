//! The text of a session file: strict to read, so that whatever is not ours from beginning to end is refused.
//!
//! The fields have a fixed order. A line whose key begins with `+` is ignored; any other unknown key, and a later format, make
//! the file one of a later version, which is left as it is.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::field_text::{hex, put, put_base64, put_bytes, sum, unhex, yes_or_no};
use super::stream_end::{LatestStream, StreamEnd, parse_continues, put_continues};
use super::{PeerSessions, SessionOutline, StoredSession};
use crate::crypto::key_tree::{KeyTree, StreamKey, TREE_KEY_LEN};
use crate::crypto::schedule::{Digest, Topics};
use crate::role::Role;
use crate::secret::{Key, KeyPurpose};
use crate::session::{OpenStreamKeys, ReceiveKeys, SendKeys, Session, SessionId, Standing};
use crate::suite::Suite;
use crate::text::split_line;

const FIRST_LINE: &str =
    "# Keys of a session: made by sts-pair; not to be edited, copied to another machine or restored.\n";
const FORMAT_NAME: &str = "sts-sessions-";
const FORMAT_NUMBER: u32 = 5;
/// Of a session, in this order.
const SESSION_KEYS: [&str; 21] = [
    "standing",
    "id",
    "role",
    "suite",
    "own",
    "peer",
    "master_to_slave",
    "slave_to_master",
    "created",
    "retired",
    "streams",
    "confirms",
    "received",
    "proven",
    "latest",
    "send_tree",
    "send_side",
    "receive_tree",
    "receive_open",
    "receive_side",
    "confirm",
];
/// Of the whole file, in this order; the last one ends it.
const FILE_KEYS: [&str; 4] = ["format", "link", "past", "sum"];
/// The length of a node or of an open stream as text, at most.
const MAX_NODE_LEN: usize = 64 + 48;
const MAX_OPEN_LEN: usize = 160;
/// The length of one of the latest streams as text, at most.
const MAX_LATEST_LEN: usize = 112;

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unusable {
    /// What it should have had instead.
    Malformed(&'static str),
    /// It is of a later version.
    Later,
}

use Unusable::{Later, Malformed};

/// The file of one peer's sessions.
pub(super) fn encode(link: &str, of_peer: &PeerSessions) -> Zeroizing<String> {
    let PeerSessions { sessions, deleted } = of_peer;
    let mut text = Zeroizing::new(String::with_capacity(room(of_peer)));
    text.push_str(FIRST_LINE);
    put(&mut text, "format", format_args!("{FORMAT_NAME}{FORMAT_NUMBER}"));
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
        put(&mut text, "received", yes_or_no(stored.received));
        put(&mut text, "proven", yes_or_no(stored.proven));
        put_latest(&mut text, &stored.latest);
        put_tree(&mut text, "send_tree", &session.send.tree);
        put_bytes(&mut text, "send_side", session.send.side.expose());
        put_tree(&mut text, "receive_tree", &session.receive.tree);
        put_open(&mut text, &session.receive.open);
        put_bytes(&mut text, "receive_side", session.receive.side.expose());
        put_bytes(&mut text, "confirm", session.confirm.expose());
    }
    text.push('\n');
    let sum = sum(&text);
    put(&mut text, "sum", sum);
    text
}

/// Reads what [`encode`] made for this link.
pub(super) fn parse(link: &str, bytes: &[u8]) -> Result<PeerSessions, Unusable> {
    let mut fields = FieldLines::of(link, bytes)?;
    let deleted =
        fields.text("past")?.split_ascii_whitespace().map(unhex).collect::<Option<_>>().ok_or(Malformed("past"))?;
    Ok(PeerSessions { sessions: fields.sessions(FieldLines::session)?, deleted })
}

/// Reads what [`encode`] made for this link, but for the keys, which stay where they are: of those, only that there are such
/// lines is checked.
pub(super) fn outline(link: &str, bytes: &[u8]) -> Result<Vec<SessionOutline>, Unusable> {
    let mut fields = FieldLines::of(link, bytes)?;
    fields.text("past")?;
    fields.sessions(FieldLines::outline)
}

/// True if topics can be written as a line: a control character could pass for another field.
pub(super) fn can_hold(topics: &Topics) -> bool {
    ![&topics.master_to_slave, &topics.slave_to_master].into_iter().any(|topic| topic.contains(char::is_control))
}

/// The lines that were not read yet.
#[derive(Clone)]
struct FieldLines<'a>(&'a str);

impl<'a> FieldLines<'a> {
    /// The lines after the name of this link, of a file that is whole.
    fn of(link: &str, bytes: &'a [u8]) -> Result<Self, Unusable> {
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("text"))?;
        let end = text.rfind("sum = ").ok_or(Malformed("`sum` at its end"))?;
        let (body, last) = text.split_at(end);
        if last.strip_prefix("sum = ").and_then(|rest| rest.strip_suffix('\n')) != Some(&sum(body)) {
            return Err(Malformed("the right `sum`"));
        }
        let mut fields = Self(body.strip_prefix(FIRST_LINE).ok_or(Malformed("its first line"))?);
        fields.format()?;
        if fields.text("link")? == link { Ok(fields) } else { Err(Malformed("this link's name")) }
    }

    /// All sessions, each by `read` from the line after its standing.
    fn sessions<T>(&mut self, read: impl Fn(&mut Self, Standing) -> Result<T, Unusable>) -> Result<Vec<T>, Unusable> {
        let mut sessions = Vec::new();
        self.blank()?;
        while let Some(standing) = self.next_block()? {
            sessions.push(read(self, standing)?);
            self.blank()?;
        }
        Ok(sessions)
    }

    /// The next line, without those that a version which does not know them may ignore.
    fn line(&mut self) -> Option<&'a str> {
        while !self.0.is_empty() {
            let line;
            (line, self.0) = split_line(self.0);
            if !line.starts_with('+') {
                return Some(line.strip_suffix('\n').unwrap_or(line));
            }
        }
        None
    }

    fn text(&mut self, key: &'static str) -> Result<&'a str, Unusable> {
        let line = self.line().ok_or(Malformed(key))?;
        // Of a hundred thousand files, nearly all lines are the expected ones.
        if let Some(value) = line.strip_prefix(key).and_then(|rest| rest.strip_prefix(" = ")) {
            return Ok(value);
        }
        match line.split_once(" = ") {
            Some((found, _)) if !SESSION_KEYS.contains(&found) && !FILE_KEYS.contains(&found) => Err(Later),
            _ => Err(Malformed(key)),
        }
    }

    fn format(&mut self) -> Result<(), Unusable> {
        let number = self.text("format")?.strip_prefix(FORMAT_NAME).and_then(|number| number.parse::<u32>().ok());
        match number.ok_or(Malformed("format"))? {
            FORMAT_NUMBER => Ok(()),
            number if number > FORMAT_NUMBER => Err(Later),
            _ => Err(Malformed("the `format` of this version")),
        }
    }

    /// The nodes of a tree: each its path, and its key after a colon.
    fn tree(&mut self, key: &'static str) -> Result<KeyTree, Unusable> {
        let node = |text: &str| {
            let (path, node) = text.split_once(':')?;
            Some((path.parse().ok()?, decode_key(node)?))
        };
        let nodes: Option<Vec<_>> = self.text(key)?.split_ascii_whitespace().map(node).collect();
        nodes.and_then(KeyTree::from_nodes).ok_or(Malformed(key))
    }

    /// The keys of open streams: each the number, the salt, the part, the key and the will key, with colons between them.
    fn open(&mut self) -> Result<BTreeMap<u32, OpenStreamKeys>, Unusable> {
        let open = |text: &str| {
            let mut parts = text.split(':');
            let (number, salt, part) =
                (parts.next()?.parse().ok()?, unhex(parts.next()?)?, parts.next()?.parse().ok()?);
            let key = StreamKey::new(part, decode_key(parts.next()?)?);
            let keys = OpenStreamKeys { salt, key, will: decode_key(parts.next()?)? };
            parts.next().is_none().then_some((number, keys))
        };
        let all: Option<BTreeMap<_, _>> = self.text("receive_open")?.split_ascii_whitespace().map(open).collect();
        all.ok_or(Malformed("receive_open"))
    }

    /// The latest streams: each the number, the salt, the count or a dash, how often it was told, and the session, number, salt
    /// and position of what it continues, if anything, with colons between them.
    fn latest(&mut self) -> Result<Vec<LatestStream>, Unusable> {
        let latest = |text: &str| {
            let mut parts = text.split(':');
            let (number, salt) = (parts.next()?.parse().ok()?, unhex(parts.next()?)?);
            let count = match parts.next()? {
                "-" => None,
                count => Some(count.parse().ok()?),
            };
            let told = parts.next()?.parse().ok()?;
            let continues = parse_continues(&mut parts)?;
            let end = count.map(|count| StreamEnd { count, continues });
            let is_whole = parts.next().is_none() && (end.is_some() || continues.is_none());
            is_whole.then_some(LatestStream { number, salt, end, told })
        };
        let all: Option<Vec<_>> = self.text("latest")?.split_ascii_whitespace().map(latest).collect();
        all.filter(|all| all.is_sorted_by(|one, next| one.number < next.number)).ok_or(Malformed("latest"))
    }

    fn number<T: FromStr>(&mut self, key: &'static str) -> Result<T, Unusable> {
        self.text(key)?.parse().map_err(|_| Malformed(key))
    }

    fn flag(&mut self, key: &'static str) -> Result<bool, Unusable> {
        match self.text(key)? {
            "yes" => Ok(true),
            "no" => Ok(false),
            _ => Err(Malformed(key)),
        }
    }

    fn bytes<const N: usize>(&mut self, key: &'static str) -> Result<[u8; N], Unusable> {
        let mut bytes = [0; N];
        if STANDARD.decode_slice(self.text(key)?, &mut bytes) == Ok(N) { Ok(bytes) } else { Err(Malformed(key)) }
    }

    fn key<P: KeyPurpose>(&mut self, key: &'static str) -> Result<Key<P>, Unusable> {
        decode_key(self.text(key)?).ok_or(Malformed(key))
    }

    fn blank(&mut self) -> Result<(), Unusable> {
        match self.line() {
            Some("") => Ok(()),
            Some(line) if line.split_once(" = ").is_some_and(|(key, _)| !SESSION_KEYS.contains(&key)) => Err(Later),
            _ => Err(Malformed("an empty line")),
        }
    }

    fn next_block(&mut self) -> Result<Option<Standing>, Unusable> {
        if self.clone().line().is_none() {
            return Ok(None);
        }
        Standing::from_name(self.text("standing")?).map(Some).ok_or(Malformed("standing"))
    }

    fn outline(&mut self, standing: Standing) -> Result<SessionOutline, Unusable> {
        let mut outline = SessionOutline {
            id: unhex(self.text("id")?).ok_or(Malformed("id"))?,
            standing,
            role: Role::from_name(self.text("role")?).ok_or(Malformed("role"))?,
            suite: Suite::from_name(self.text("suite")?).ok_or(Malformed("suite"))?,
            peer: Digest::default(),
            created: 0,
            streams: 0,
            received: false,
        };
        // All others in their order, so that what lacks one is as malformed as for those who read it.
        for key in &SESSION_KEYS[4..] {
            match *key {
                "peer" => outline.peer = self.bytes(key)?,
                "created" => outline.created = self.number(key)?,
                "streams" => outline.streams = self.number(key)?,
                "received" => outline.received = self.flag(key)?,
                _ => drop(self.text(key)?),
            }
        }
        Ok(outline)
    }

    fn session(&mut self, standing: Standing) -> Result<StoredSession, Unusable> {
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
        let received = self.flag("received")?;
        let proven = self.flag("proven")?;
        let latest = self.latest()?;
        let send = SendKeys { tree: self.tree("send_tree")?, side: self.key("send_side")? };
        let (tree, open) = (self.tree("receive_tree")?, self.open()?);
        let receive = ReceiveKeys { tree, open, side: self.key("receive_side")? };
        let confirm = self.key("confirm")?;
        // The lowest number that the tree leads to is the next one; of none, all are taken.
        if send.tree.lowest().is_some_and(|lowest| u64::from(lowest) != streams) {
            return Err(Malformed("send_tree"));
        }
        let session = Session { id, suite, role, own, peer, topics, created, send, receive, confirm };
        Ok(StoredSession { session, standing, retired, streams, confirms, received, proven, latest })
    }
}

fn decode_key<P: KeyPurpose>(text: &str) -> Option<Key<P>> {
    let mut whole = false;
    let decoded = Key::generate(TREE_KEY_LEN, |bytes| whole = STANDARD.decode_slice(text, bytes) == Ok(TREE_KEY_LEN));
    whole.then_some(decoded)
}

fn put_tree(text: &mut String, key: &str, tree: &KeyTree) {
    let _ = write!(text, "{key} =");
    for (path, node) in tree.nodes() {
        let _ = write!(text, " {path}:");
        put_base64(text, node.expose());
    }
    put_end(text, tree.is_empty());
}

fn put_open(text: &mut String, open: &BTreeMap<u32, OpenStreamKeys>) {
    text.push_str("receive_open =");
    for (number, OpenStreamKeys { salt, key, will }) in open {
        let _ = write!(text, " {number}:{}:{}:", hex(salt), key.part());
        put_base64(text, key.key().expose());
        text.push(':');
        put_base64(text, will.expose());
    }
    put_end(text, open.is_empty());
}

fn put_latest(text: &mut String, latest: &[LatestStream]) {
    text.push_str("latest =");
    for LatestStream { number, salt, end, told } in latest {
        let count = end.map_or_else(|| "-".to_owned(), |end| end.count.to_string());
        let _ = write!(text, " {number}:{}:{count}:{told}", hex(salt));
        put_continues(text, end.and_then(|end| end.continues));
    }
    put_end(text, latest.is_empty());
}

/// Ends a list; an empty one has the blank that is before each value, too.
fn put_end(text: &mut String, is_empty: bool) {
    text.push_str(if is_empty { " \n" } else { "\n" });
}

/// Room for all of the text at once: a buffer that grew would leave copies of the keys behind.
pub(super) fn room(PeerSessions { sessions, deleted }: &PeerSessions) -> usize {
    let of_sessions: usize = sessions.iter().map(|stored| 1024 + variable_len(stored)).sum();
    512 + deleted.len() * 17 + of_sessions
}

/// The length of those fields of a session that have any length, as text, at most.
fn variable_len(StoredSession { session, latest, .. }: &StoredSession) -> usize {
    let nodes = session.send.tree.len() + session.receive.tree.len();
    let topics = session.topics.master_to_slave.len() + session.topics.slave_to_master.len();
    topics + nodes * MAX_NODE_LEN + session.receive.open.len() * MAX_OPEN_LEN + latest.len() * MAX_LATEST_LEN
}
