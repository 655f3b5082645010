//! The opening handshake of WebSocket (RFC 6455, 4.1), without I/O: a request to send, and what the server answers.

use tungstenite::handshake::client::{Response, generate_key};
use tungstenite::handshake::derive_accept_key;
use tungstenite::handshake::machine::TryParse;

use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::foreign_protocol;
use crate::text::escape;

/// The subprotocol that MQTT registers (MQTT 3.1.1, 6).
const SUBPROTOCOL: &str = "mqtt";

/// Most bytes that the server's answer may have.
const MAX_ANSWER_LEN: usize = 16 << 10;

/// What every answer in HTTP begins with.
const HTTP: &[u8] = b"HTTP/";

/// A request for WebSocket, and the answer as far as it has come.
#[derive(Debug)]
pub(super) struct Upgrade {
    request: Vec<u8>,
    /// What an answer must prove that it was made for this request.
    accept_key: String,
    answer: Vec<u8>,
}

impl Upgrade {
    /// Asks `authority`, a host with its port, for `path`.
    pub(super) fn new(authority: &str, path: &str) -> Self {
        let key = generate_key();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {SUBPROTOCOL}\r\n\r\n"
        );
        Self { request: request.into_bytes(), accept_key: derive_accept_key(key.as_bytes()), answer: Vec::new() }
    }

    /// What is to be sent.
    pub(super) fn request(&self) -> &[u8] {
        &self.request
    }

    /// Takes bytes of the answer. Once it is complete and grants the request, returns what came after it.
    pub(super) fn received(&mut self, bytes: &[u8]) -> Result<Option<Vec<u8>>, ConnectionLost> {
        self.answer.extend_from_slice(bytes);
        let seen = self.answer.len().min(HTTP.len());
        if self.answer[..seen] != HTTP[..seen] {
            return Err(foreign_protocol::recognize(&self.answer).unwrap_or_else(|| malformed("not HTTP")));
        }
        match Response::try_parse(&self.answer) {
            Ok(Some((len, response))) => {
                self.check(&response)?;
                Ok(Some(self.answer.split_off(len)))
            }
            Ok(None) if self.answer.len() <= MAX_ANSWER_LEN => Ok(None),
            Ok(None) => Err(malformed(format_args!("longer than {MAX_ANSWER_LEN} bytes"))),
            Err(error) => Err(malformed(escape(error.to_string().as_bytes()))),
        }
    }

    fn check(&self, response: &Response) -> Result<(), ConnectionLost> {
        let header = |name: &str| response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
        let status = response.status();
        if status.as_u16() != 101 {
            let target = header("Location").filter(|_| status.is_redirection());
            let target = target.map(|url| format!(", elsewhere: {}", escape(url.as_bytes()))).unwrap_or_default();
            let why = format!("the answer to the request for WebSocket is HTTP {status}{target}");
            return Err(ConnectionLost::at(Obstacle::Upgrade(Some(status.as_u16())), why));
        }
        // Proxies add words to `Connection`.
        let says = |name: &str, word: &str| {
            header(name).is_some_and(|list| list.split(',').any(|item| item.trim().eq_ignore_ascii_case(word)))
        };
        if !says("Upgrade", "websocket") || !says("Connection", "upgrade") {
            return Err(malformed("it changes to another protocol"));
        }
        if header("Sec-WebSocket-Accept").is_none_or(|key| key != self.accept_key) {
            return Err(malformed("it is for another request"));
        }
        match header("Sec-WebSocket-Protocol") {
            // Some servers leave it out; what follows shows whether they speak MQTT.
            None => Ok(()),
            Some(name) if name == SUBPROTOCOL => Ok(()),
            Some(name) => {
                Err(malformed(format_args!("the subprotocol is {}, not {SUBPROTOCOL}", escape(name.as_bytes()))))
            }
        }
    }
}

fn malformed(why: impl std::fmt::Display) -> ConnectionLost {
    ConnectionLost::new(format!("invalid answer to the request for WebSocket: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upgrade, and the lines of an answer that grants it.
    fn granted() -> (Upgrade, String) {
        let upgrade = Upgrade::new("broker:8080", "/mqtt");
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n",
            upgrade.accept_key
        );
        (upgrade, answer)
    }

    fn refused(answer: &str) -> ConnectionLost {
        Upgrade::new("broker", "/").received(answer.as_bytes()).unwrap_err()
    }

    #[test]
    fn the_request_names_host_path_and_subprotocol() {
        let (upgrade, _) = granted();
        let request = String::from_utf8(upgrade.request().to_vec()).unwrap();
        assert!(request.starts_with("GET /mqtt HTTP/1.1\r\nHost: broker:8080\r\n"), "{request}");
        assert!(request.contains("\r\nSec-WebSocket-Protocol: mqtt\r\n") && request.ends_with("\r\n\r\n"), "{request}");
    }

    #[test]
    fn an_answer_may_come_in_pieces_and_frames_may_follow_it() {
        let (mut upgrade, answer) = granted();
        for byte in &answer.as_bytes()[..answer.len() - 1] {
            assert_eq!(upgrade.received(&[*byte]).unwrap(), None);
        }
        assert_eq!(upgrade.received(b"\n\x82\x00").unwrap().unwrap(), b"\x82\x00");
    }

    #[test]
    fn an_answer_for_another_request_or_protocol_is_refused() {
        for (from, to, why) in [
            ("websocket", "h2c", "another protocol"),
            ("Accept: ", "Accept: x", "another request"),
            ("Protocol: mqtt", "Protocol: chat", "the subprotocol is chat"),
        ] {
            let (mut upgrade, answer) = granted();
            let answer = answer.replace("WebSocket\r", "websocket\r").replace(from, to);
            let lost = upgrade.received(answer.as_bytes()).unwrap_err().to_string();
            assert!(lost.contains(why), "{lost}");
        }
        let (mut upgrade, answer) = granted();
        let silent = answer.replace("Sec-WebSocket-Protocol: mqtt\r\n", "");
        assert_eq!(upgrade.received(silent.as_bytes()).unwrap(), Some(Vec::new()));
    }

    #[test]
    fn other_answers_are_told_in_words() {
        for (answer, obstacle, why) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", Obstacle::Upgrade(Some(404)), "HTTP 404 Not Found"),
            ("HTTP/1.1 401 Unauthorized\r\n\r\n", Obstacle::Upgrade(Some(401)), "HTTP 401 Unauthorized"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", Obstacle::Upgrade(Some(200)), "HTTP 200 OK"),
            ("HTTP/1.1 301 X\r\nLocation: https://b/\r\n\r\n", Obstacle::Upgrade(Some(301)), "elsewhere: https://b/"),
            ("\x15\x03\x01\x00\x02\x02\x16", Obstacle::Tls, "TLS"),
            ("SSH-2.0-OpenSSH_9.2\r\n", Obstacle::Other, "SSH-2.0"),
            ("\x20\x02\x00\x00", Obstacle::Other, "not HTTP"),
            ("HTTP/1.1 abc\r\n\r\n", Obstacle::Other, "invalid answer"),
        ] {
            let lost = refused(answer);
            assert!(lost.obstacle() == obstacle && lost.to_string().contains(why), "{lost:?}");
        }
        let endless = refused(&format!("HTTP/1.1 101 X\r\nA: {}", "x".repeat(MAX_ANSWER_LEN)));
        assert!(endless.to_string().contains("longer than"), "{endless}");
    }
}
