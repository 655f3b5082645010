//! What people take for a key line: recognized, so that the error can name it.

use std::fmt;

use super::key::KEY_TYPE;

/// What people take for a key line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookalike {
    /// Nothing at all.
    Nothing,
    /// A key line that a terminal or a mail program broke into several.
    BrokenLine,
    /// A line of `known_peers`, where a name stands before the key.
    PinnedLine,
    /// The fingerprint of a key.
    Fingerprint,
    /// A public key of ssh.
    SshKey,
    /// A public key or a certificate in PEM.
    PublicPem,
    /// A private key in PEM.
    PrivatePem,
}

impl Lookalike {
    /// What this text is, if people take it for a key line.
    pub(super) fn of(text: &str) -> Option<Self> {
        let text = text.trim_start();
        let mut words = text.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| first.starts_with(prefix));
        Some(match words.next() {
            None if first.is_empty() => Self::Nothing,
            Some(KEY_TYPE) => Self::PinnedLine,
            Some(_) if first == KEY_TYPE && text.trim_end().contains('\n') => Self::BrokenLine,
            _ if begins(&["SHA256:"]) => Self::Fingerprint,
            _ if begins(&["ssh-", "ecdsa-", "sk-"]) => Self::SshKey,
            _ if begins(&["-----BEGIN"]) && text.lines().next()?.contains("PRIVATE") => Self::PrivatePem,
            _ if begins(&["-----BEGIN"]) => Self::PublicPem,
            _ => return None,
        })
    }
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "it is empty",
            Self::BrokenLine => "that is more than one line: a key is one line, without line breaks",
            Self::PinnedLine => "that is a line of known_peers: leave out the name before the key",
            Self::Fingerprint => "that is a fingerprint, not the key itself",
            Self::SshKey => "that is an SSH key, not an sts key",
            Self::PublicPem => "that is PEM, not a key line",
            Self::PrivatePem => "that is a private key, which must never leave its device",
        })
    }
}
