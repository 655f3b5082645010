//! Text for a person's eyes: untrusted bytes made harmless, numbers with their nouns, and the word that was probably meant.

use std::fmt::Write;
use std::io::BufRead as _;
use std::path::Path;

use strsim::osa_distance;

/// Shows bytes that did not come from this machine as printable ASCII, on one line.
///
/// Everything else becomes `\n`, `\r`, `\t` or `\xNN`, and a backslash is doubled: what is shown leads back to the bytes,
/// and no byte of it steers a terminal (`sts-protocol(7)`, "Text from elsewhere").
#[must_use]
pub fn escape(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().escape_ascii().to_string().replace("\\'", "'").replace("\\\"", "\"")
}

/// Makes text of our own safe to print: letters of any script stay, what steers a terminal or turns a line does not.
pub(crate) fn tame(text: &str) -> String {
    let mut tamed = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            let _ = write!(tamed, "{}", c.escape_unicode());
        } else {
            tamed.push(c);
        }
    }
    tamed
}

/// The first line of a text with its newline, if it has one, and the rest. In files of a hundred thousand peers, this finds the
/// newlines several times as fast as [`str::lines`], since readers search as the C library does.
pub(crate) fn split_line(text: &str) -> (&str, &str) {
    let len = text.as_bytes().skip_until(b'\n').expect("reading from memory does not fail");
    text.split_at(len)
}

/// Bytes as text.
///
/// # Errors
/// The number of the line with the first byte that is not UTF-8.
pub(crate) fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    std::str::from_utf8(bytes).map_err(|err| line_number(bytes, err.valid_up_to()))
}

/// The number of the line in which the byte at this place is; the first line is 1.
pub(crate) fn line_number(text: &[u8], at: usize) -> usize {
    text[..at].split(|byte| *byte == b'\n').count()
}

/// Text as a JSON string (RFC 8259, 7), quotes and all; what steers a terminal or turns a line is escaped, too.
pub(crate) fn json_string(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    put_json_string(&mut json, text);
    json
}

/// Appends text as [`json_string`] has it.
pub(crate) fn put_json_string(json: &mut String, text: &str) {
    json.push('"');
    // Names and most other texts are as they are.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\')) {
        json.push_str(text);
    } else {
        put_escaped(json, text);
    }
    json.push('"');
}

fn put_escaped(json: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            '\n' => json.push_str("\\n"),
            '\r' => json.push_str("\\r"),
            '\t' => json.push_str("\\t"),
            // All of them are below U+10000: one escape each.
            c if steers(c) => {
                let _ = write!(json, "\\u{:04x}", u32::from(c));
            }
            c => json.push(c),
        }
    }
}

/// Whether a character is a control. Bidirectional ones are none to `char`, but reorder what a reader sees.
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A number of things: `1 message`, `2 messages`.
pub(crate) fn count(number: u64, thing: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {thing}{plural}")
}

/// Things that have numbers, as inclusive ranges: `message 3`, `messages 3-9`, `streams 3, 7-9`.
pub(crate) fn numbered(thing: &str, numbers: &[(u32, u32)]) -> String {
    let plural = if matches!(numbers, [(first, last)] if first == last) { "" } else { "s" };
    format!("{thing}{plural} {}", ranges(numbers))
}

/// Inclusive ranges of numbers: `3, 7-9`.
pub(crate) fn ranges(numbers: &[(u32, u32)]) -> String {
    let range = |&(first, last): &(u32, u32)| if first == last { first.to_string() } else { format!("{first}-{last}") };
    numbers.iter().map(range).collect::<Vec<_>>().join(", ")
}

/// The verb for a number of things: `is` or `are`.
pub(crate) fn is_or_are(number: u64) -> &'static str {
    if number == 1 { "is" } else { "are" }
}

/// Shows a path in a message: it may hold anything but NUL.
pub(crate) fn show(path: &Path) -> String {
    tame(&path.to_string_lossy())
}

/// Shows a path as a word that a shell reads back as this path, for a command that someone pastes.
pub(crate) fn quote(path: &Path) -> String {
    let text = show(path);
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+@%,:=".contains(&b)) && !text.is_empty() {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// The one of `known` that `word` was probably meant to be, if any is near enough.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_of(word, &mut known.into_iter())
}

// One copy in the executable, whatever the words come from.
fn nearest_of<'a>(word: &str, known: &mut dyn Iterator<Item = &'a str>) -> Option<&'a str> {
    // Beyond this no two words are near, and hostile ones would cost the product of their lengths.
    const MAX_WORD_LEN: usize = 64;
    let word = word.to_ascii_lowercase();
    let distance = |candidate: &str| {
        // A part of a key, as in `user` or `mode`, is as good as a slip of one finger.
        if word.len() >= 3 && candidate.contains(&word) {
            1
        } else if word.len().max(candidate.len()) > MAX_WORD_LEN {
            usize::MAX
        } else {
            osa_distance(&word, candidate)
        }
    };
    let allowed = (word.len() / 3).clamp(1, 3);
    known
        .map(|candidate| (distance(candidate), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escaped_steers_a_terminal() {
        assert_eq!(escape("plain 'text' \"here\""), "plain 'text' \"here\"");
        assert_eq!(escape(b"a\\b\n\t\r\0\x1b[31m\x7f\x9b\xff"), r"a\\b\n\t\r\x00\x1b[31m\x7f\x9b\xff");
        assert_eq!(escape("é"), r"\xc3\xa9");
        let all: Vec<u8> = (0..=255).collect();
        assert!(escape(all).bytes().all(|b| (0x20..0x7f).contains(&b)));
    }

    #[test]
    fn our_own_text_keeps_its_letters() {
        assert_eq!(tame("/home/élise/ключ"), "/home/élise/ключ");
        assert_eq!(tame("a\u{1b}\n\u{202e}b"), r"a\u{1b}\u{a}\u{202e}b");
    }

    #[test]
    fn a_text_is_split_after_its_first_line() {
        for (text, line, rest) in
            [("", "", ""), ("a", "a", ""), ("a\n", "a\n", ""), ("\n\nb", "\n", "\nb"), ("é\r\nb\nc", "é\r\n", "b\nc")]
        {
            assert_eq!(split_line(text), (line, rest), "{text:?}");
        }
    }

    #[test]
    fn what_is_not_text_is_found_by_its_line() {
        assert_eq!(utf8("a\né\n".as_bytes()), Ok("a\né\n"));
        for (bytes, line) in [(&b"\xff"[..], 1), (b"a\n\xe4\n", 2), (b"a\n\n\n# \xc3", 4)] {
            assert_eq!(utf8(bytes), Err(line), "{bytes:?}");
        }
        assert_eq!([0, 1, 2, 3].map(|at| line_number(b"a\n\nb", at)), [1, 1, 2, 3]);
    }

    #[test]
    fn json_strings_hold_any_text_on_one_line() {
        assert_eq!(json_string("a\"b\\c\n\r\t/é😀"), "\"a\\\"b\\\\c\\n\\r\\t/é😀\"");
        assert_eq!(
            json_string("\0\u{1b}\u{7f}\u{9b}\u{2028}\u{2029}\u{202e}"),
            r#""\u0000\u001b\u007f\u009b\u2028\u2029\u202e""#
        );
        let all: String = (0..=0xffff).filter_map(char::from_u32).collect();
        assert!(!json_string(&all).chars().any(steers));
    }

    #[test]
    fn a_shell_reads_a_path_back() {
        assert_eq!(quote(Path::new("/run/sts-1/a.conf")), "/run/sts-1/a.conf");
        assert_eq!(quote(Path::new("it's $HOME")), r"'it'\''s $HOME'");
        assert_eq!(quote(Path::new("")), "''");
    }

    #[test]
    fn words_agree_with_numbers() {
        assert_eq!([0, 1, 2].map(|number| count(number, "byte")), ["0 bytes", "1 byte", "2 bytes"]);
        assert_eq!([0, 1, 2].map(is_or_are), ["are", "is", "are"]);
        for (ranges, text) in
            [(&[(3, 3)][..], "stream 3"), (&[(3, 9)], "streams 3-9"), (&[(3, 3), (7, 9)], "streams 3, 7-9")]
        {
            assert_eq!(numbered("stream", ranges), text);
        }
    }

    #[test]
    fn slips_find_their_word() {
        let known = ["username", "password", "sts_mode", "subtop", "pubtop", "qos"];
        for (slip, meant) in [
            ("usrname", Some("username")),
            ("Username", Some("username")),
            ("user", Some("username")),
            ("pasword", Some("password")),
            ("mode", Some("sts_mode")),
            ("subtpo", Some("subtop")),
            ("qso", Some("qos")),
            ("colour", None),
            ("", None),
            ("é", None),
        ] {
            assert_eq!(nearest(slip, known), meant, "{slip}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), known), None);
    }
}
