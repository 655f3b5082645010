//! What the lines of all session files are made of: `key = value`, and a sum over all of them.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::crypto::schedule::digest;

/// The length of the longest key, of 64 bytes, in base64.
const MAX_BASE64_LEN: usize = 88;

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(2 * bytes.len());
    put_hex(&mut digits, bytes);
    digits
}

/// Appends bytes as [`hex`] has them.
pub(crate) fn put_hex(text: &mut String, bytes: &[u8]) {
    let mut buffer = [0; 64];
    for part in bytes.chunks(buffer.len() / 2) {
        text.push_str(
            base16ct::lower::encode_str(part, &mut buffer).expect("it has room for both digits of each byte"),
        );
    }
}

/// `N` bytes from exactly twice as many hexadecimal digits, all lower case.
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let is_whole = base16ct::lower::decode(text, &mut bytes).is_ok_and(|decoded| decoded.len() == N);
    is_whole.then_some(bytes)
}

/// Appends a line.
pub(crate) fn put(text: &mut String, key: &str, value: impl std::fmt::Display) {
    // Writing to a String does not fail.
    let _ = writeln!(text, "{key} = {value}");
}

/// Appends a line whose value is bytes in base64.
pub(super) fn put_bytes(text: &mut String, key: &str, bytes: &[u8]) {
    text.push_str(key);
    text.push_str(" = ");
    put_base64(text, bytes);
    text.push('\n');
}

/// Appends bytes in base64. What the library appends to a text, it leaves on the stack, too.
pub(super) fn put_base64(text: &mut String, bytes: &[u8]) {
    let mut digits = Zeroizing::new([0; MAX_BASE64_LEN]);
    let len = STANDARD.encode_slice(bytes, &mut *digits).expect("no field is longer than a key");
    text.push_str(std::str::from_utf8(&digits[..len]).expect("base64 is ASCII"));
}

/// A flag as the value of a line.
pub(crate) fn yes_or_no(flag: bool) -> &'static str {
    if flag { "yes" } else { "no" }
}

/// What ends a file whose other lines are `text`.
pub(crate) fn sum(text: &str) -> String {
    hex(&digest(&[text.as_bytes()])[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_lower_case_and_of_the_right_length() {
        assert_eq!(hex(&[0x00, 0x9a, 0xff]), "009aff");
        assert_eq!(hex(&[0xab; 65]), "ab".repeat(65));
        assert_eq!(unhex("009aff"), Some([0x00, 0x9a, 0xff]));
        for bad in ["", "009af", "009a", "009aff00", "009aFf", "+09aff", "009a f", "009afg", "009a\u{e9}"] {
            assert_eq!(unhex::<3>(bad), None, "{bad}");
        }
    }
}
