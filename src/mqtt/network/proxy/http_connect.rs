//! What is said to an HTTP proxy (RFC 9110, 9.3.6), without I/O. The proxy looks the name up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::{Dialogue, ProxyReply};
use crate::mqtt::Login;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::Node;
use crate::text::escape;

/// Most bytes that the proxy's answer may have.
const MAX_ANSWER_LEN: usize = 16 << 10;

/// Most characters of a reason that are shown.
const MAX_SHOWN: usize = 60;

/// The dialogue with one proxy.
pub(super) struct HttpConnect {
    login: Option<Login>,
    node: Node,
}

/// Begins the header with a login (RFC 7617).
const AUTHORIZATION: &str = "Proxy-Authorization: Basic ";

/// Name and password as that header has them.
fn credentials(login: &Login) -> Zeroizing<String> {
    let password = login.password.as_ref().map_or("", |password| password.expose());
    let word = Zeroizing::new([login.username.as_bytes(), b":", password.as_bytes()].concat());
    Zeroizing::new(STANDARD.encode(&*word))
}

impl HttpConnect {
    pub(super) fn new(node: Node, login: Option<Login>) -> Self {
        Self { login, node }
    }
}

impl Dialogue for HttpConnect {
    fn begin(&mut self) -> Vec<u8> {
        let node = &self.node;
        let begin = format!("CONNECT {node} HTTP/1.1\r\nHost: {node}\r\n");
        let word = self.login.as_ref().map(credentials);
        let word_len = word.as_ref().map_or(0, |word| AUTHORIZATION.len() + word.len() + 2);
        // Room for all of it at once: a buffer that grew would leave copies of a password behind.
        let mut request = Vec::with_capacity(begin.len() + word_len + 2);
        request.extend(begin.as_bytes());
        if let Some(word) = word {
            request.extend(AUTHORIZATION.as_bytes());
            request.extend(word.as_bytes());
            request.extend(b"\r\n");
        }
        request.extend(b"\r\n");
        request
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<ProxyReply, ConnectionLost> {
        const HTTP: &[u8] = b"HTTP/1.";
        let seen = bytes.len().min(HTTP.len());
        if bytes[..seen] != HTTP[..seen] {
            return Err(ConnectionLost::at(Obstacle::Proxy, "the proxy does not speak HTTP"));
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            let too_long = || ConnectionLost::at(Obstacle::Proxy, "the proxy's answer is too long");
            return if bytes.len() > MAX_ANSWER_LEN { Err(too_long()) } else { Ok(ProxyReply::Incomplete) };
        };
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status = line.get(HTTP.len() + 1..).unwrap_or_default().trim_ascii();
        match status.get(..3).and_then(|code| str::from_utf8(code).ok()?.parse::<u16>().ok()) {
            Some(200..=299) => Ok(ProxyReply::Done(end + 4)),
            code => Err(refusal(code, &escape(&status[..status.len().min(MAX_SHOWN)]))),
        }
    }
}

fn refusal(code: Option<u16>, shown: &str) -> ConnectionLost {
    let (obstacle, why) = match code {
        Some(407) => (Obstacle::ProxyLogin, "the proxy wants another login"),
        Some(403 | 405) => (Obstacle::ProxyPolicy, "the proxy does not allow this connection"),
        Some(500..=599) => (Obstacle::ProxyTarget, "the proxy could not connect to the broker"),
        _ => (Obstacle::Proxy, "the proxy did not connect"),
    };
    ConnectionLost::at(obstacle, format!("{why} (HTTP {shown})"))
}
