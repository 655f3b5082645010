//! Keys, and the two files with them, as people edit and restore them: what is read is written as it was.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::known_peers::{PeersLine, parse_lines};
use super::{Identity, PublicKey, public_from_pem};
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

/// A file with this device's key; or the key in it, since few changes to a text in base 64 leave one.
pub(crate) fn identity_file(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        identity_pem(text);
    } else {
        let lines: String = data.chunks(48).map(|line| STANDARD.encode(line) + "\n").collect();
        identity_pem(&format!("-----BEGIN PRIVATE KEY-----\n{lines}-----END PRIVATE KEY-----\n"));
    }
}

fn identity_pem(pem: &str) {
    let public = public_from_pem(pem);
    match Identity::from_pem(pem) {
        Ok(identity) => {
            assert_eq!(public.ok().as_ref(), Some(identity.public()), "a key has one public half");
            let written = identity.to_pem().expect("it is a key");
            let again = Identity::from_pem(&written).unwrap_or_else(|why| panic!("it was just written: {why}"));
            assert_eq!(again.public(), identity.public());
            assert_eq!(again.to_pem().expect("it is a key"), written);
        }
        Err(why) => check_text(&why.to_string()),
    }
}
