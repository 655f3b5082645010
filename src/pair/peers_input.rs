//! What `sts-pair --trust` and `--forget` read from standard input: a key line, or a list of peers.

use std::io::{IsTerminal, Read};
use std::str::FromStr;

use crate::identity::{FormerPeer, MAX_KNOWN_PEERS_LEN, NewPeer, PeerName, PeersLine, PublicKey};
use crate::name::BadName;
use crate::report::Reporter;
use crate::text::{line_number, utf8};
use crate::{Error, Exit, Result};

/// Longest standard input that is read for a key line, in bytes.
const MAX_KEY_INPUT_LEN: u64 = 64 << 10;

/// In place of a name: the peers are a list on standard input.
const LIST: &str = "-";

/// Which peers a change of the trusted keys is for.
#[derive(Clone, Debug)]
pub enum PeersArgument {
    /// The one of this name.
    One(PeerName),
    /// Those of the list on standard input, one line per peer.
    List,
}

impl FromStr for PeersArgument {
    type Err = BadName;

    fn from_str(text: &str) -> std::result::Result<Self, BadName> {
        if text == LIST { Ok(Self::List) } else { text.parse().map(Self::One) }
    }
}

/// Why standard input is not what it should be.
#[derive(Debug, PartialEq, Eq)]
struct BadInput {
    /// The number of the line that is wrong, if it is one line.
    line: Option<usize>,
    why: String,
}

impl BadInput {
    fn into_error(self, hint: &str) -> Error {
        let place = self.line.map_or_else(|| "stdin".to_owned(), |line| format!("stdin, line {line}"));
        Error::new(Exit::DataLost, place).because(self.why).hint(hint)
    }
}

/// Reads the key line of the peer of this name.
///
/// # Errors
/// [`Exit::DataLost`] if standard input is not a key line, [`Exit::Failed`] if it cannot be read.
pub(super) fn read_key(name: &PeerName, report: &Reporter) -> Result<PublicKey> {
    let input = read("key line", MAX_KEY_INPUT_LEN, report)?;
    let key = text_of(&input, MAX_KEY_INPUT_LEN)
        .and_then(|text| PublicKey::from_key_line(text).map_err(|err| BadInput { line: None, why: err.to_string() }));
    key.map_err(|bad| {
        bad.into_error(&format!(
            "pipe in the line that sts-pair --key prints on the other device: … | sts-pair --trust {name}"
        ))
    })
}

/// Reads a list of peers to trust: the lines of `known_peers`, without the fields for links.
///
/// # Errors
/// [`Exit::DataLost`] with the number of a line that is wrong, [`Exit::Failed`] if standard input cannot be read.
pub(super) fn read_new_peers(report: &Reporter) -> Result<Vec<NewPeer>> {
    let input = read("list", MAX_KNOWN_PEERS_LEN, report)?;
    new_peers(&input).map_err(|bad| {
        bad.into_error(
            "nothing was changed; each line is a name and the line that sts-pair --key prints on that device",
        )
    })
}

fn new_peers(input: &[u8]) -> std::result::Result<Vec<NewPeer>, BadInput> {
    each_line(text_of(input, MAX_KNOWN_PEERS_LEN)?, |number, line| {
        let parsed = PeersLine::parse_new(line)?;
        Ok(parsed.map(|(name, key)| NewPeer { name, key, line_number: Some(number) }))
    })
}

/// Reads a list of peers to forget: the first word of each line is a name.
///
/// # Errors
/// As [`read_new_peers`].
pub(super) fn read_former_peers(report: &Reporter) -> Result<Vec<FormerPeer>> {
    let input = read("list", MAX_KNOWN_PEERS_LEN, report)?;
    former_peers(&input).map_err(|bad| {
        bad.into_error("nothing was changed; each line is a name, or a line that sts-pair --peers has printed")
    })
}

fn former_peers(input: &[u8]) -> std::result::Result<Vec<FormerPeer>, BadInput> {
    let text = text_of(input, MAX_KNOWN_PEERS_LEN)?;
    // A name that is cut may be another peer's.
    if !text.is_empty() && !text.ends_with('\n') {
        let why = "it does not end with a newline, so the list may be cut short".to_owned();
        return Err(BadInput { line: Some(text.lines().count()), why });
    }
    each_line(text, |number, line| {
        let word = line.split_ascii_whitespace().next().filter(|word| !word.starts_with('#'));
        let name = word.map(str::parse).transpose().map_err(|why: BadName| why.to_string())?;
        Ok(name.map(|name| FormerPeer { name, line_number: Some(number) }))
    })
}

/// Reads standard input, a `thing`, up to a byte more than it may have.
fn read(thing: &str, max: u64, report: &Reporter) -> Result<Vec<u8>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        report.info(format_args!("reading the {thing} from the terminal; press Ctrl-D to end the input"));
    }
    let mut input = Vec::new();
    stdin
        .take(max + 1)
        .read_to_end(&mut input)
        .map_err(|err| Error::new(Exit::Failed, "cannot read stdin").because(err))?;
    Ok(input)
}

/// The text of standard input. In `known_peers`, zeros are what a power failure leaves of a line; here, a line with one is
/// wrong as a whole: it is nothing that a device printed, and a peer would be missing without a word.
fn text_of(input: &[u8], max: u64) -> std::result::Result<&str, BadInput> {
    if input.len() as u64 > max {
        return Err(BadInput { line: None, why: format!("longer than {max} bytes") });
    }
    let bad = |line, why: &str| BadInput { line: Some(line), why: why.to_owned() };
    let zero = input.iter().position(|byte| *byte == 0).map(|at| line_number(input, at));
    match (utf8(input), zero) {
        (Ok(text), None) => Ok(text),
        (Err(line), zero) if zero.is_none_or(|zero| line < zero) => {
            Err(bad(line, "it contains bytes that are not UTF-8"))
        }
        (_, zero) => Err(bad(zero.unwrap_or_default(), "it contains a NUL byte")),
    }
}

/// What the lines of a text parse to; nothing of those that are empty or remarks.
fn each_line<T>(
    text: &str,
    parse: impl Fn(usize, &str) -> std::result::Result<Option<T>, String>,
) -> std::result::Result<Vec<T>, BadInput> {
    let mut all = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        all.extend(parse(number, line).map_err(|why| BadInput { line: Some(number), why })?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::stranger;

    fn listed(number: u32) -> String {
        stranger(number).to_line(&format!("p{number}").parse().unwrap())
    }

    #[test]
    fn a_list_has_one_peer_per_line_and_remarks() {
        let (one, two) = (listed(1), listed(2));
        let peers = new_peers(format!("# ours: Gerät\r\n\n{one}\r\n  {two}").as_bytes()).unwrap();
        let found: Vec<_> = peers.iter().map(|peer| (peer.key.to_line(&peer.name), peer.line_number)).collect();
        assert_eq!(found, [(one, Some(3)), (two, Some(4))]);
        assert!(new_peers(b"").unwrap().is_empty());
    }

    #[test]
    fn a_list_of_names_may_have_keys_after_them() {
        let peers = former_peers(format!("# moved\np7\n\n {} link=a\r\np7 \n#p8\n", listed(1)).as_bytes()).unwrap();
        let found: Vec<_> = peers.iter().map(|peer| (peer.name.as_str(), peer.line_number)).collect();
        assert_eq!(found, [("p7", Some(2)), ("p1", Some(4)), ("p7", Some(5))]);
        for bad in
            [&b"p1\n-\n"[..], b"p1\n../x\n", b"p1\n\xef\xbb\xbfp1\n", b"p1\n\0\0p2\n", b"p1\n# \xe4\n", b"p2\np1"]
        {
            assert_eq!(former_peers(bad).err().and_then(|bad| bad.line), Some(2), "{bad:?}");
        }
    }

    #[test]
    fn a_byte_that_is_no_text_is_named_by_its_line_and_hides_no_peer() {
        let (one, two) = (listed(1), listed(2));
        let nul = "it contains a NUL byte";
        let not_utf8 = "it contains bytes that are not UTF-8";
        let list = |second: &[u8]| [one.as_bytes(), b"\n", second, two.as_bytes(), b"\n"].concat();
        for (second, why) in [
            (&b"\0\0"[..], nul),
            (b"\0\n", nul),
            (b"# Ger\xe4t\n", not_utf8),
            (b"Ger\xe4t ", not_utf8),
            (b"\xe4\n\0", not_utf8),
            (b"\0\n\xe4", nul),
            (b"\xff\xfes\0", nul),
        ] {
            let Err(bad) = new_peers(&list(second)) else { panic!("{second:?} is accepted") };
            assert_eq!(bad, BadInput { line: Some(2), why: why.into() }, "{second:?}");
        }
        assert_eq!(text_of(b"12\xc3", 2), Err(BadInput { line: None, why: "longer than 2 bytes".into() }));
        assert_eq!(text_of(b"12", 2), Ok("12"));
    }
}
