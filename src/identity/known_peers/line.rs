//! One line of `known_peers`: a peer, and where in the file it is.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use super::index::Subject;
use crate::identity::{Binding, PeerName, PublicKey};

/// A peer in `known_peers`: `NAME sts-rsa BASE64` and a [`Binding`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PeersLine {
    /// The name, which no other key has.
    pub(crate) name: PeerName,
    /// The key, which has no other name.
    pub(crate) key: PublicKey,
    /// The links that the key is for.
    pub(crate) binding: Binding,
    /// Which bytes of the file it is, with its newline.
    pub(super) place: Range<u64>,
}

impl PeersLine {
    /// Parses a line that begins at this place; `None` where it is empty or a remark. After a power failure, a line that was
    /// being appended may have zeros in place of bytes that had not reached the disk: its end if all before it had, and
    /// otherwise its beginning (see `files::append_line`).
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(line: &str, at: u64) -> Result<Option<Self>, String> {
        let text = line.trim_end_matches(|end: char| end == '\0' || end.is_whitespace()).trim_start();
        if text.is_empty() || text.starts_with(['#', '\0']) {
            return Ok(None);
        }
        let (name, key, fields) = if let Some(parsed) = parse_written(text) {
            parsed
        } else {
            let mut words = text.split_ascii_whitespace();
            let pinned: Vec<_> = words.by_ref().take(3).collect();
            let (name, key) = PublicKey::from_line(&pinned.join(" ")).map_err(|why| why.to_string())?;
            (name, key, words.collect::<Vec<_>>().join(" ").into())
        };
        let binding = Binding::parse(fields.split_ascii_whitespace())?;
        Ok(Some(Self { name, key, binding, place: at..at + line.len() as u64 }))
    }

    /// Parses a line of a list of peers to trust, without zeros: a name and a key; `None` where it is empty or a remark.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse_new(line: &str) -> Result<Option<(PeerName, PublicKey)>, String> {
        match Self::parse(line, 0)? {
            Some(Self { name, key, binding, .. }) if binding == Binding::default() => Ok(Some((name, key))),
            Some(_) => Err("a list has no fields for links; give the link as an argument".to_owned()),
            None => Ok(None),
        }
    }

    /// Whether a subject leads to it.
    pub(super) fn is_of(&self, subject: Subject<'_>) -> bool {
        match subject {
            Subject::Name(name) => self.name == *name,
            Subject::Key(fingerprint) => self.key.fingerprint().as_bytes().starts_with(fingerprint),
            Subject::Link(link) => self.binding.names(link) || self.binding.has_paired(link),
        }
    }

    /// Why it cannot be in one file with another line; `None` if it can.
    pub(super) fn conflict(&self, known: &Self) -> Option<String> {
        if self.key == known.key {
            Some(format!("this key is already known as `{}`", known.name))
        } else if self.name == known.name {
            Some(format!("`{}` is already known with another key, {}", known.name, known.key.fingerprint()))
        } else {
            None
        }
    }

    /// A line for a peer that is not in the file yet.
    pub(super) fn new(name: &PeerName, key: &PublicKey, binding: Binding) -> Self {
        Self { name: name.clone(), key: key.clone(), binding, place: 0..0 }
    }
}

/// The name, the key and the fields of a line with one blank after each word, as these tools write it; `None` for any other line,
/// and for one that is wrong. Of a hundred thousand lines, most take this way, which looks at each byte of a key once.
fn parse_written(text: &str) -> Option<(PeerName, PublicKey, Cow<'_, str>)> {
    let (name, rest) = text.split_once(' ')?;
    let (kind, rest) = rest.split_once(' ')?;
    let (key, fields) = rest.split_once(' ').unwrap_or((rest, ""));
    Some((name.parse().ok()?, PublicKey::of_kind(kind, key).ok()?, fields.into()))
}

/// The line without its newline.
impl fmt::Display for PeersLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.key.to_line(&self.name), self.binding)
    }
}
