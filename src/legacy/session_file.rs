//! The text of `LINK@sts1`: the sessions of one link, strict to read.
//!
//! The fields have a fixed order, and the last line is a sum over all others.

use std::cmp::Ordering;
use std::fmt::Write as _;

use base16ct::HexDisplay;
use zeroize::Zeroizing;

use super::chain::{Chain, ChainValue, MAX_RECENT, Origin, no_values};
use super::session::{LegacySession, Mode, TextCounts};
use crate::cache::field_text::{put, sum, unhex, yes_or_no};
use crate::crypto::legacy::{BLOCK_LEN, KEY_LEN};
use crate::role::Role;
use crate::secret::Key;
use crate::session::Standing;

const FIRST_LINE: &str = "# Keys of a session of sts_version 1: made by sts-pair; not to be edited, copied to another machine or restored.\n";
const FORMAT_NAME: &str = "sts1-sessions-";
const FORMAT_NUMBER: u32 = 3;

/// The sessions of a link: there is one device at its other end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sessions {
    /// Encrypts what is sent, and decrypts.
    pub(super) current: Option<LegacySession>,
    /// The other device may use it, and is not known to receive under it: it decrypts.
    pub(super) pending: Option<LegacySession>,
}

impl Sessions {
    pub(super) fn is_empty(&self) -> bool {
        self.current.is_none() && self.pending.is_none()
    }
}

/// Why a file cannot be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is damaged, or of another link.
    Malformed,
    /// An earlier version wrote it.
    Earlier,
    /// A later version wrote it.
    Later,
}

/// The file of a link's sessions.
pub(super) fn encode(link: &str, sessions: &Sessions) -> Zeroizing<String> {
    // Room for all of it at once: a buffer that grew would leave copies of the keys behind.
    let mut text = Zeroizing::new(String::with_capacity(max_len(sessions)));
    text.push_str(FIRST_LINE);
    put(&mut text, "format", format_args!("{FORMAT_NAME}{FORMAT_NUMBER}"));
    put(&mut text, "link", link);
    for (standing, session) in [(Standing::Current, &sessions.current), (Standing::Pending, &sessions.pending)] {
        if let Some(session) = session {
            put_session(&mut text, standing, session);
        }
    }
    let sum = sum(&text);
    put(&mut text, "sum", sum);
    text
}

/// More than [`encode`] makes of these sessions, in bytes.
fn max_len(sessions: &Sessions) -> usize {
    let values = |session: &LegacySession| match &session.mode {
        Mode::Cbc(chain) => chain.recent.len(),
        Mode::Ecb => 0,
    };
    let all: usize = [&sessions.current, &sessions.pending].into_iter().flatten().map(values).sum();
    4096 + all * (2 + 2 * BLOCK_LEN)
}

fn put_session(text: &mut String, standing: Standing, session: &LegacySession) {
    let TextCounts { sent, received, damaged, last_text } = session.counters;
    put(text, "standing", standing.name());
    put(text, "id", format_args!("{:x}", HexDisplay(&session.id)));
    put(text, "role", session.role);
    put(text, "aes", session.mode_name());
    put(text, "created", session.created);
    put(text, "texts_sent", sent);
    put(text, "texts_received", received);
    put(text, "damaged", damaged);
    put(text, "last_text", last_text.map_or_else(|| "none".to_owned(), |at| at.to_string()));
    put(text, "key", format_args!("{:x}", HexDisplay(session.key.expose())));
    if let Mode::Cbc(chain) = &session.mode {
        put(text, "next", format_args!("{:x}", HexDisplay(&*chain.next)));
        put(text, "unanswered", yes_or_no(chain.is_unanswered));
        put(text, "added", chain.added);
        put(text, "since", chain.since);
        text.push_str("recent =");
        for ChainValue { block, origin } in chain.recent.iter() {
            // Writing to a String does not fail.
            let _ = write!(text, " {}{:x}", letter(*origin), HexDisplay(block));
        }
        text.push('\n');
    }
}

/// How an origin is written, before the block.
fn letter(origin: Origin) -> char {
    match origin {
        Origin::Start => 'k',
        Origin::Sent => 's',
        Origin::Followed => 'f',
        Origin::Read => 'r',
    }
}

fn chain_value(text: &str) -> Option<ChainValue> {
    let mut digits = text.chars();
    let first = digits.next()?;
    let origins = [Origin::Start, Origin::Sent, Origin::Followed, Origin::Read];
    let origin = origins.into_iter().find(|origin| letter(*origin) == first)?;
    Some(ChainValue { block: unhex(digits.as_str())?, origin })
}

/// Reads what [`encode`] made for this link.
///
/// # Errors
/// Why it is anything else.
pub(super) fn parse(link: &str, bytes: &[u8]) -> Result<Sessions, Unreadable> {
    let mut fields = checked_lines(bytes).ok_or(Unreadable::Malformed)?;
    let number = fields.next("format").and_then(|format| format.strip_prefix(FORMAT_NAME)?.parse::<u32>().ok());
    match number.ok_or(Unreadable::Malformed)?.cmp(&FORMAT_NUMBER) {
        Ordering::Less => Err(Unreadable::Earlier),
        Ordering::Equal => sessions(link, fields).ok_or(Unreadable::Malformed),
        Ordering::Greater => Err(Unreadable::Later),
    }
}

/// The lines between the first one and the sum; `None` where the sum is another one.
fn checked_lines(bytes: &[u8]) -> Option<KeyedLines<'_>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (body, last) = text.split_at(text.rfind("sum = ")?);
    let has_sum = last.strip_prefix("sum = ")?.strip_suffix('\n')? == sum(body);
    has_sum.then_some(KeyedLines(body.strip_prefix(FIRST_LINE)?.lines()))
}

fn sessions(link: &str, mut fields: KeyedLines<'_>) -> Option<Sessions> {
    if fields.next("link")? != link {
        return None;
    }
    let mut sessions = Sessions::default();
    while let Some(standing) = fields.0.next() {
        let place = match standing.strip_prefix("standing = ")? {
            "current" => &mut sessions.current,
            "pending" => &mut sessions.pending,
            _ => return None,
        };
        if place.replace(session(&mut fields)?).is_some() {
            return None;
        }
    }
    Some(sessions)
}

fn session(fields: &mut KeyedLines<'_>) -> Option<LegacySession> {
    let id = unhex(fields.next("id")?)?;
    let role = Role::from_name(fields.next("role")?)?;
    let aes = fields.next("aes")?;
    let created = fields.next("created")?.parse().ok()?;
    let mut count = |name| fields.next(name)?.parse::<u64>().ok();
    let (sent, received, damaged) = (count("texts_sent")?, count("texts_received")?, count("damaged")?);
    let last_text = match fields.next("last_text")? {
        "none" => None,
        at => Some(at.parse().ok()?),
    };
    let counters = TextCounts { sent, received, damaged, last_text };
    let bytes = Zeroizing::new(unhex::<KEY_LEN>(fields.next("key")?)?);
    let key = Key::generate(KEY_LEN, |key| key.copy_from_slice(&bytes[..]));
    let mode = match aes {
        "ecb" => Mode::Ecb,
        "cbc" => Mode::Cbc(chain(fields)?),
        _ => return None,
    };
    Some(LegacySession { id, role, created, key, mode, counters })
}

fn chain(fields: &mut KeyedLines<'_>) -> Option<Chain> {
    let next = Zeroizing::new(unhex(fields.next("next")?)?);
    let is_unanswered = match fields.next("unanswered")? {
        "yes" => true,
        "no" => false,
        _ => return None,
    };
    let (added, since) = (fields.next("added")?.parse().ok()?, fields.next("since")?.parse().ok()?);
    let mut recent = no_values();
    for value in fields.next("recent")?.split(' ') {
        if recent.len() == MAX_RECENT {
            return None;
        }
        recent.push(chain_value(value)?);
    }
    Some(Chain { next, is_unanswered, recent, added, since })
}

struct KeyedLines<'a>(std::str::Lines<'a>);

impl<'a> KeyedLines<'a> {
    /// The value of the next line, which must be of this key.
    fn next(&mut self, key: &str) -> Option<&'a str> {
        self.0.next()?.strip_prefix(key)?.strip_prefix(" = ")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::session::Reading;
    use super::super::session::tests::session;
    use super::*;

    /// Nothing, one session, and two with all that they can have; made once, as it takes long.
    static ALL: LazyLock<[Sessions; 3]> = LazyLock::new(|| {
        let [mut used, mut other] = [(); 2].map(|()| session(true));
        for number in 0..MAX_RECENT {
            let payload = used.seal(format!("text {number}").as_bytes());
            let reading = if number % 2 == 0 { Reading::Follow } else { Reading::Write };
            let _ = other.open(&payload, reading);
        }
        [
            Sessions::default(),
            Sessions { current: Some(session(false)), pending: None },
            Sessions { current: Some(used), pending: Some(other) },
        ]
    });

    #[test]
    fn what_is_written_is_read() {
        for sessions in &*ALL {
            let text = encode("gateway", sessions);
            assert!(text.len() < max_len(sessions), "it does not grow");
            assert_eq!(parse("gateway", text.as_bytes()).as_ref(), Ok(sessions));
            assert_eq!(parse("other", text.as_bytes()), Err(Unreadable::Malformed));
        }
    }

    #[test]
    fn a_file_of_another_version_is_told_from_a_damaged_one() {
        let text = encode("gateway", &ALL[1]);
        let (body, _) = text.split_once("sum = ").unwrap();
        for (number, expected) in [(2, Unreadable::Earlier), (4, Unreadable::Later), (10, Unreadable::Later)] {
            let body = body.replace("format = sts1-sessions-3\n", &format!("format = sts1-sessions-{number}\n"));
            // Of its fields nothing is known.
            let body = body.replace("last_text = ", "other = ");
            let text = format!("{body}sum = {}\n", sum(&body));
            assert_eq!(parse("gateway", text.as_bytes()), Err(expected), "{number}");
            assert_eq!(parse("gateway", text.replace("role", "rule").as_bytes()), Err(Unreadable::Malformed));
        }
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_noticed(at in 0usize..40_000, bit in 0u32..8) {
            for sessions in &*ALL {
                let mut bytes = encode("gateway", sessions).as_bytes().to_vec();
                let at = at % bytes.len();
                bytes[at] ^= 1 << bit;
                prop_assert_eq!(parse("gateway", &bytes), Err(Unreadable::Malformed));
            }
        }

        #[test]
        fn any_bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            prop_assert_eq!(parse("gateway", &bytes), Err(Unreadable::Malformed));
        }
    }
}
