//! Where the broker is, as the configuration says it: a host, an address, or a URL.

use std::net::Ipv6Addr;

use super::{Endpoint, TlsOptions};
use crate::secret::Password;
use crate::text::nearest;

/// Longest path of a Unix socket, bytes: what the system's `sockaddr_un` has room for, with its end.
const MAX_SOCKET_PATH: usize = 107;

/// What a URL can begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Mqtt,
    Mqtts,
    Ws,
    Wss,
    Unix,
}

const SCHEMES: [(&str, Scheme, u16); 5] = [
    ("mqtt", Scheme::Mqtt, 1883),
    ("mqtts", Scheme::Mqtts, 8883),
    ("ws", Scheme::Ws, 80),
    ("wss", Scheme::Wss, 443),
    ("unix", Scheme::Unix, 0),
];

impl Scheme {
    pub(super) fn default_port(self) -> u16 {
        SCHEMES.iter().find(|(_, scheme, _)| *scheme == self).map_or(0, |(_, _, port)| *port)
    }

    pub(super) fn is_tls(self) -> bool {
        matches!(self, Self::Mqtts | Self::Wss)
    }

    pub(super) fn is_web_socket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }
}

/// A host, address or URL taken apart; the other keys are not applied yet.
pub(super) struct Address {
    pub(super) scheme: Scheme,
    /// A name or address; a path for `unix`.
    pub(super) host: String,
    pub(super) port: Option<u16>,
    pub(super) login: Option<(String, Option<Password>)>,
    /// For `ws` and `wss`.
    pub(super) path: String,
}

impl Address {
    /// Takes the value apart. The error never repeats the value, which may hold a password.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = value.split_once("://") else {
            return Ok(Self { scheme: Scheme::Mqtt, host: host(value)?, port: None, login: None, path: String::new() });
        };
        let Some((_, scheme, _)) = SCHEMES.into_iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name)) else {
            let scheme = match scheme {
                // As other clients of MQTT have it.
                "tcp" => "mqtt",
                "ssl" | "tls" => "mqtts",
                other => other,
            };
            let meant =
                nearest(scheme, SCHEMES.map(|(name, ..)| name)).map(|name| format!("; did you mean `{name}://`?"));
            let meant = meant.unwrap_or_default();
            return Err(format!("a URL must begin with mqtt://, mqtts://, ws://, wss:// or unix://{meant}"));
        };
        if scheme == Scheme::Unix {
            if !rest.starts_with('/') || rest.ends_with('/') {
                return Err("the path of a Unix socket must be absolute: unix:///run/mosquitto.sock".into());
            }
            if rest.len() > MAX_SOCKET_PATH {
                return Err(format!("the path of a Unix socket can have at most {MAX_SOCKET_PATH} bytes"));
            }
            return Ok(Self { scheme, host: rest.to_owned(), port: None, login: None, path: String::new() });
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, host_and_port) = match authority.rsplit_once('@') {
            Some((login, host_and_port)) => (Some(self::login(login)?), host_and_port),
            None => (None, authority),
        };
        let (name, port) = match host_and_port.rsplit_once(':') {
            // The colons of an IPv6 address in brackets are not the port's.
            Some((name, port)) if !port.ends_with(']') => (name, Some(self::port(port)?)),
            _ => (host_and_port, None),
        };
        if name.contains(':') && !name.starts_with('[') {
            return Err("an IPv6 address in a URL must be in brackets: mqtt://[::1]:1883".into());
        }
        let path = match scheme {
            Scheme::Ws | Scheme::Wss if path.is_empty() => "/mqtt".to_owned(),
            Scheme::Ws | Scheme::Wss if path.starts_with('/') && !path.contains(['#', ' ']) && path.is_ascii() => {
                path.to_owned()
            }
            Scheme::Mqtt | Scheme::Mqtts if path.is_empty() || path == "/" => String::new(),
            _ => return Err("a URL must end after the host and port; only ws:// and wss:// have a path".into()),
        };
        Ok(Self { scheme, host: host(name)?, port, login, path })
    }
}

/// Parses a TCP port; 0 is none.
pub(super) fn port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err("must be a number from 1 to 65535".into()),
    }
}

fn host(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let name = bare.unwrap_or(text);
    let (address, zone) = name.split_once('%').map_or((name, None), |(address, zone)| (address, Some(zone)));
    let zone_ok = zone.is_none_or(|zone| !zone.is_empty() && zone.bytes().all(|b| b.is_ascii_graphic()));
    if address.parse::<Ipv6Addr>().is_ok() && zone_ok && !name.contains(['/', '@', '[', ']']) {
        return Ok(name.to_owned());
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if bare.is_none() && (1..=253).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-') {
        return Ok(text.to_owned());
    }
    let ported = text.rsplit_once(':').is_some_and(|(_, port)| self::port(port).is_ok());
    Err(if ported && bare.is_none() {
        "the port needs a line of its own: `port = 1883`".into()
    } else {
        "must be a host name, an address, or a URL such as mqtt://HOST:PORT".into()
    })
}

fn login(text: &str) -> Result<(String, Option<Password>), String> {
    let (username, password) = text.split_once(':').map_or((text, None), |(name, word)| (name, Some(word)));
    let username = decode(username)?;
    if username.is_empty() {
        return Err("a login in a URL must begin with a name: mqtt://NAME:PASSWORD@HOST".into());
    }
    Ok((username, password.map(|word| decode(word).map(Password::new)).transpose()?))
}

/// Undoes percent-encoding (RFC 3986, 2.1).
fn decode(text: &str) -> Result<String, String> {
    let wrong = || {
        "a `%` in a URL's login must be followed by two hexadecimal digits, for UTF-8 text without control characters"
            .to_owned()
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let [high, low, tail @ ..] = tail else { return Err(wrong()) };
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(wrong()) };
            bytes.push(high << 4 | low);
            rest = tail;
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control)).ok_or_else(wrong)
}

/// How to ask for TLS, if this build has it.
pub(super) fn tls_hint() -> String {
    let mut endpoint = Endpoint::tcp("", 0);
    endpoint.tls = Some(TlsOptions::default());
    match endpoint.missing_layer() {
        None => "TLS is part of the URL: url = mqtts://HOST".to_owned(),
        Some((why, remedy)) => {
            format!("{why}: {remedy}, or remove this line; a link is encrypted end to end without TLS")
        }
    }
}
