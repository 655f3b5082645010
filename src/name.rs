//! Names of peers and links: checked where they enter, so that no text made from one needs escaping or quoting.

use std::fmt;
use std::str::FromStr;

use crate::text::nearest;

/// Longest name, in bytes (`sts-protocol(7)`, "Handshake").
pub(crate) const MAX_NAME_LEN: usize = 64;

/// A text that is not a name; displays the rule, `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadName;

impl fmt::Display for BadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a name has 1 to {MAX_NAME_LEN} letters, digits, `.`, `_` or `-`, and begins with a letter or digit")
    }
}

impl std::error::Error for BadName {}

fn checked(text: &str) -> Result<String, BadName> {
    let begins = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let continues = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    if begins && continues && text.len() <= MAX_NAME_LEN { Ok(text.to_owned()) } else { Err(BadName) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text: 1 to 64 bytes of ASCII, safe in a shell command, a path and a terminal.
            #[must_use]
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, BadName> {
                checked(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

name! {
    /// The name under which a peer's key is pinned here; what a peer calls itself counts only while enrolling by code.
    PeerName
}

name! {
    /// The name of one configuration file without `.conf`, which also names this link's files in the runtime directory.
    LinkName
}

/// Names for a message: all of a few, the first of many.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    list_of(&mut names.into_iter())
}

// One copy in the executable, whatever the names come from.
fn list_of(names: &mut dyn Iterator<Item = &str>) -> String {
    const MAX_SHOWN: usize = 20;
    let (mut shown, mut more) = (Vec::new(), 0);
    for name in names {
        if shown.len() < MAX_SHOWN {
            shown.push(name);
        } else {
            more += 1;
        }
    }
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// The question whether another of these names was meant, if one is near enough.
pub(crate) fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(name, known).map(|near| format!("did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_pass() {
        let longest = "x".repeat(MAX_NAME_LEN);
        for good in ["a", "0", "gateway", "node-7.local_2", &longest] {
            assert_eq!(good.parse::<PeerName>().unwrap().as_str(), good);
            assert_eq!(good.parse::<LinkName>().unwrap().to_string(), good);
        }
        let long = "x".repeat(MAX_NAME_LEN + 1);
        for bad in ["", ".", "..", ".hidden", "-o", "_a", "a/b", "a b", "a\n", "a\0", "é", "a\u{1b}", "a;b", &long] {
            assert_eq!(bad.parse::<PeerName>(), Err(BadName), "{bad:?}");
        }
    }
}
