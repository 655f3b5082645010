//! Keys and the file of pinned keys, as people edit it: what is read is written as it was.

use super::PublicKey;
use super::known_peers::{PeersLine, parse_lines};
use crate::fuzz::input::check_text;
use crate::handshake::Code;

pub(crate) fn known_peers(data: &[u8]) {
    if let Ok(key) = PublicKey::from_der(data) {
        assert_eq!(key.der(), data, "a key has one encoding");
        assert_eq!(PublicKey::from_key_line(&key.key_line()), Ok(key));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match PublicKey::from_key_line(text) {
        Ok(key) => assert_eq!(PublicKey::from_der(key.der()), Ok(key)),
        Err(why) => check_text(&why.to_string()),
    }
    if let Ok(code) = Code::parse(text) {
        assert!(Code::parse(&code.expose()).is_ok_and(|again| *again.expose() == *code.expose()));
    }
    match parse_lines(text) {
        Ok(lines) => {
            let peers = |lines: &[PeersLine]| lines.iter().map(PeersLine::to_string).collect::<Vec<_>>();
            let written = peers(&lines);
            let again = parse_lines(&written.join("\n")).expect("it was just written");
            assert_eq!(peers(&again), written, "{text:?}");
        }
        Err(error) => check_text(&error.to_string()),
    }
}
