//! What is said to a SOCKS5 proxy (RFC 1928, with the login of RFC 1929), without I/O. The proxy looks the name up.

use std::net::IpAddr;

use super::{Dialogue, ProxyReply};
use crate::mqtt::Login;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::Node;

const VERSION: u8 = 5;
const NO_LOGIN: u8 = 0;
const PASSWORD_LOGIN: u8 = 2;
const NONE_ACCEPTED: u8 = 0xff;
/// The version of the login's own messages.
const LOGIN_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Longest name, login and password, bytes: each has one byte for its length.
pub(crate) const MAX_FIELD_LEN: usize = 255;

/// How far the dialogue has come: what the next answer is to.
enum AwaitedReply {
    Methods,
    Login,
    Connect,
}

/// The dialogue with one proxy.
pub(super) struct Socks5 {
    awaited: AwaitedReply,
    login: Option<Login>,
    node: Node,
}

impl Socks5 {
    pub(super) fn new(node: Node, login: Option<Login>) -> Self {
        Self { awaited: AwaitedReply::Methods, login, node }
    }

    /// The request to connect to the node.
    fn request(&mut self) -> Vec<u8> {
        self.awaited = AwaitedReply::Connect;
        let mut request = vec![VERSION, CONNECT, 0];
        match self.node.host.parse() {
            Ok(IpAddr::V4(address)) => {
                request.push(IPV4);
                request.extend(address.octets());
            }
            Ok(IpAddr::V6(address)) => {
                request.push(IPV6);
                request.extend(address.octets());
            }
            Err(_) => {
                request.push(NAME);
                push_field(&mut request, self.node.host.as_bytes());
            }
        }
        request.extend(self.node.port.to_be_bytes());
        request
    }

    fn login_request(&mut self) -> Option<Vec<u8>> {
        self.awaited = AwaitedReply::Login;
        let login = self.login.as_ref()?;
        // Room for all of it at once: a buffer that grew would leave copies of a password behind.
        let mut request = Vec::with_capacity(3 + 2 * MAX_FIELD_LEN);
        request.push(LOGIN_VERSION);
        push_field(&mut request, login.username.as_bytes());
        push_field(&mut request, login.password.as_ref().map_or(&[][..], |password| password.expose().as_bytes()));
        Some(request)
    }
}

impl Dialogue for Socks5 {
    fn begin(&mut self) -> Vec<u8> {
        if self.login.is_some() { vec![VERSION, 2, NO_LOGIN, PASSWORD_LOGIN] } else { vec![VERSION, 1, NO_LOGIN] }
    }

    fn answer(&mut self, bytes: &[u8]) -> Result<ProxyReply, ConnectionLost> {
        let expected = if matches!(self.awaited, AwaitedReply::Login) { LOGIN_VERSION } else { VERSION };
        if bytes.first().is_some_and(|version| *version != expected) {
            return Err(ConnectionLost::at(Obstacle::Proxy, "the proxy does not speak SOCKS5"));
        }
        match (&self.awaited, bytes) {
            (AwaitedReply::Methods, [_, NO_LOGIN]) | (AwaitedReply::Login, [_, 0]) => {
                Ok(ProxyReply::Say(self.request()))
            }
            (AwaitedReply::Methods, [_, PASSWORD_LOGIN]) => match self.login_request() {
                Some(request) => Ok(ProxyReply::Say(request)),
                None => Err(no_login()),
            },
            (AwaitedReply::Methods, [_, NONE_ACCEPTED]) => Err(no_login()),
            (AwaitedReply::Methods, [_, _, ..]) => {
                Err(ConnectionLost::at(Obstacle::Proxy, "the proxy chose an unknown login method"))
            }
            (AwaitedReply::Login, [_, _, ..]) => {
                Err(ConnectionLost::at(Obstacle::ProxyLogin, "the proxy refused the login"))
            }
            (AwaitedReply::Connect, [_, code, ..]) if *code != 0 => Err(refusal(*code)),
            (AwaitedReply::Connect, [_, _, _, kind, first, ..]) => {
                let address = match *kind {
                    IPV4 => 4,
                    IPV6 => 16,
                    _ => 1 + usize::from(*first),
                };
                Ok(if bytes.len() < 4 + address + 2 {
                    ProxyReply::Incomplete
                } else {
                    ProxyReply::Done(4 + address + 2)
                })
            }
            _ => Ok(ProxyReply::Incomplete),
        }
    }
}

/// Appends a field with its length; the configuration allows none that is longer.
fn push_field(request: &mut Vec<u8>, field: &[u8]) {
    let field = &field[..field.len().min(MAX_FIELD_LEN)];
    request.push(u8::try_from(field.len()).unwrap_or(u8::MAX));
    request.extend(field);
}

fn no_login() -> ConnectionLost {
    ConnectionLost::at(Obstacle::ProxyLogin, "the proxy wants a login")
}

/// A code other than 0 (RFC 1928, 6).
fn refusal(code: u8) -> ConnectionLost {
    let (obstacle, why) = match code {
        2 => (Obstacle::ProxyPolicy, "the proxy does not allow this connection"),
        3 => (Obstacle::ProxyTarget, "the proxy has no route to the broker's network"),
        4 => (Obstacle::ProxyTarget, "the proxy cannot reach the broker, or look up its name"),
        5 => (Obstacle::ProxyTarget, "the broker refused the proxy's connection"),
        6 => (Obstacle::ProxyTarget, "the proxy's connection to the broker timed out"),
        8 => (Obstacle::ProxyTarget, "the proxy does not support this kind of address"),
        _ => (Obstacle::ProxyTarget, "the proxy could not connect to the broker"),
    };
    ConnectionLost::at(obstacle, why)
}
