//! What answers in place of a broker: a port is easily mistaken, and each of these servers says what it is in its first bytes.

use super::connection_lost::{ConnectionLost, Obstacle};
use crate::text::escape;

/// CONNACK, which is what a broker says first.
const CONNACK: u8 = 0x20;

/// A TLS record (RFC 8446, 5.1) that holds an alert, and the first byte of its version.
const TLS_ALERT: [u8; 2] = [0x15, 3];

/// Most bytes of a text that are shown.
const MAX_SHOWN: usize = 60;

/// Fewer bytes than this are not taken for text.
const MIN_TEXT: usize = 4;

/// The protocol that `bytes` begin in, if they are the first that came and are not MQTT.
pub(super) fn recognize(bytes: &[u8]) -> Option<ConnectionLost> {
    if bytes.first() == Some(&CONNACK) {
        return None;
    }
    if bytes.starts_with(&TLS_ALERT) {
        return Some(
            ConnectionLost::at(Obstacle::Tls, "the answer is a TLS alert: the broker speaks TLS on this port")
                .final_one(),
        );
    }
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let shown = &line[..line.len().min(MAX_SHOWN)];
    let is_text = shown.len() >= MIN_TEXT && shown.iter().all(|byte| matches!(byte, b' '..=b'~'));
    is_text.then(|| {
        let text = escape(shown);
        if shown.starts_with(b"HTTP/") {
            ConnectionLost::at(Obstacle::Http, format!("the answer is HTTP, not MQTT: {text}"))
        } else {
            ConnectionLost::new(format!("the answer is not MQTT: {text}"))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_is_known_by_its_first_bytes() {
        let found = |bytes: &[u8]| recognize(bytes).map(|lost| (lost.obstacle(), lost.to_string()));
        assert_eq!(found(&[0x20, 2, 0, 0]), None);
        assert_eq!(found(b""), None);
        assert_eq!(found(&[0x30, 1, 0]), None, "for the codec to say");
        assert_eq!(found(&[0x15, 3, 3, 0, 2, 2, 70]).unwrap().0, Obstacle::Tls);
        let (obstacle, why) = found(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n").unwrap();
        assert!(obstacle == Obstacle::Http && why.contains("HTTP/1.1 400 Bad Request"), "{why}");
        let (obstacle, why) = found(b"SSH-2.0-OpenSSH_9.2\r\n").unwrap();
        assert!(obstacle == Obstacle::Other && why.contains("SSH-2.0"), "{why}");
        let (_, why) = found(&[b'x'; 5000]).unwrap();
        assert!(why.len() < 100, "{why}");
    }
}
