//! What is said to an HTTP proxy (RFC 9110, 9.3.6), without I/O. The proxy looks the name up.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Answer, Dialogue};
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

impl HttpConnect {
    pub(super) fn new(node: Node, login: Option<Login>) -> Self {
        Self { login, node }
    }
}

impl Dialogue for HttpConnect {
    fn begin(&mut self) -> Vec<u8> {
        let node = &self.node;
        let mut request = format!("CONNECT {node} HTTP/1.1\r\nHost: {node}\r\n").into_bytes();
        if let Some(login) = &self.login {
            let password = login.password.as_ref().map_or("", |password| password.expose());
            let word = STANDARD.encode(format!("{}:{password}", login.username));
            request.extend(format!("Proxy-Authorization: Basic {word}\r\n").into_bytes());
        }
        request.extend(b"\r\n");
        request
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<Answer, ConnectionLost> {
        const HTTP: &[u8] = b"HTTP/1.";
        let seen = bytes.len().min(HTTP.len());
        if bytes[..seen] != HTTP[..seen] {
            return Err(ConnectionLost::at(Obstacle::Proxy, "the proxy does not speak HTTP"));
        }
        let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
            let too_long = || ConnectionLost::at(Obstacle::Proxy, "the proxy's answer is too long");
            return if bytes.len() > MAX_ANSWER_LEN { Err(too_long()) } else { Ok(Answer::Incomplete) };
        };
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let status = line.get(HTTP.len() + 1..).unwrap_or_default().trim_ascii();
        match status.get(..3).and_then(|code| str::from_utf8(code).ok()?.parse::<u16>().ok()) {
            Some(200..=299) => Ok(Answer::Done(end + 4)),
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
