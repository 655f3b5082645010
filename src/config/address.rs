//! Where the broker is, as the configuration says it: a host, an address, or a URL.

use std::net::Ipv6Addr;

use super::{Endpoint, TlsOptions};
use crate::mqtt::{DEFAULT_PATH, MQTT_PORT, MQTTS_PORT};
use crate::secret::Password;
use crate::text::nearest;

/// Longest path of a Unix socket, bytes: what the system's `sockaddr_un` has room for, with its end.
const MAX_SOCKET_PATH: usize = 107;

/// Most nodes of a cluster.
const MAX_NODES: usize = 32;

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
    ("mqtt", Scheme::Mqtt, MQTT_PORT),
    ("mqtts", Scheme::Mqtts, MQTTS_PORT),
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
    /// The nodes, at least one: a name or address, and its port if it has one. For `unix` a path.
    pub(super) hosts: Vec<(String, Option<u16>)>,
    pub(super) login: Option<(String, Option<Password>)>,
    /// For `ws` and `wss`.
    pub(super) path: String,
}

impl Address {
    /// Where the broker is if the configuration does not say it.
    pub(super) fn local() -> Self {
        Self { scheme: Scheme::Mqtt, hosts: vec![("localhost".into(), None)], login: None, path: String::new() }
    }

    /// Takes the value apart. The error never repeats the value, which may hold a password.
    pub(super) fn parse(value: &str) -> Result<Self, String> {
        if let Some(scheme) = repeated_scheme(value) {
            return Err(format!(
                "the nodes of a cluster have one scheme, which is written once: {scheme}://HOST1,HOST2"
            ));
        }
        let Some((scheme, rest)) = value.split_once("://") else {
            return Ok(Self { scheme: Scheme::Mqtt, hosts: hosts(value)?, login: None, path: String::new() });
        };
        let Some((_, scheme, _)) = SCHEMES.into_iter().find(|(name, ..)| scheme.eq_ignore_ascii_case(name)) else {
            return Err(unknown_scheme(scheme));
        };
        if scheme == Scheme::Unix {
            if !rest.starts_with('/') || rest.ends_with('/') {
                return Err("the path of a Unix socket must be absolute: unix:///run/mosquitto.sock".into());
            }
            if rest.len() > MAX_SOCKET_PATH {
                return Err(format!("the path of a Unix socket can have at most {MAX_SOCKET_PATH} bytes"));
            }
            return Ok(Self { scheme, hosts: vec![(rest.to_owned(), None)], login: None, path: String::new() });
        }
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let (login, nodes) = match authority.rsplit_once('@') {
            Some((login, nodes)) => (Some(self::login(login)?), nodes),
            None => (None, authority),
        };
        let is_bare_v6 = |node: &str| node.matches(':').count() > 1 && !node.contains('[');
        if nodes.split(',').any(is_bare_v6) {
            return Err("an IPv6 address in a URL must be in brackets: mqtt://[::1]:1883".into());
        }
        Ok(Self { scheme, hosts: hosts(nodes)?, login, path: url_path(scheme, path)? })
    }
}

/// The first scheme in a list in which a node after the first has one, too.
fn repeated_scheme(value: &str) -> Option<&'static str> {
    let scheme_of = |node: &str| {
        let (scheme, _) = node.trim().split_once("://")?;
        SCHEMES.into_iter().map(|(name, ..)| name).find(|name| scheme.eq_ignore_ascii_case(name))
    };
    let mut nodes = value.split(',');
    let first = scheme_of(nodes.next()?);
    nodes.find_map(scheme_of).map(|other| first.unwrap_or(other))
}

/// What to say of a scheme that is none of ours, without the rest of the URL.
fn unknown_scheme(scheme: &str) -> String {
    let scheme = match scheme {
        // As other clients of MQTT have it.
        "tcp" => "mqtt",
        "ssl" | "tls" => "mqtts",
        other => other,
    };
    let meant = nearest(scheme, SCHEMES.map(|(name, ..)| name)).map(|name| format!("; did you mean `{name}://`?"));
    let meant = meant.unwrap_or_default();
    format!("a URL must begin with mqtt://, mqtts://, ws://, wss:// or unix://{meant}")
}

/// The path of a URL for TCP, with what follows it.
fn url_path(scheme: Scheme, path: &str) -> Result<String, String> {
    let is_path = || path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    match scheme {
        Scheme::Ws | Scheme::Wss if path.is_empty() => Ok(DEFAULT_PATH.to_owned()),
        Scheme::Ws | Scheme::Wss if is_path() => Ok(path.to_owned()),
        Scheme::Mqtt | Scheme::Mqtts if path.is_empty() || path == "/" => Ok(String::new()),
        _ => Err("a URL must end after the host and port; only ws:// and wss:// have a path".into()),
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

/// The nodes of a cluster, separated by commas.
fn hosts(list: &str) -> Result<Vec<(String, Option<u16>)>, String> {
    let hosts = list.split(',').map(|item| host_and_port(item.trim())).collect::<Result<Vec<_>, _>>()?;
    if hosts.len() > MAX_NODES {
        return Err(format!("there can be at most {MAX_NODES} nodes"));
    }
    Ok(hosts)
}

/// `HOST`, `HOST:PORT`, an IPv6 address as it is, or in brackets with or without a port.
pub(super) fn host_and_port(text: &str) -> Result<(String, Option<u16>), String> {
    match text.rsplit_once(':') {
        // The colons of an IPv6 address are not the port's.
        Some((name, port)) if !port.ends_with(']') && (!name.contains(':') || name.ends_with(']')) => {
            Ok((host(name)?, Some(self::port(port).map_err(|why| format!("a port {why}"))?)))
        }
        _ => Ok((host(text)?, None)),
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
    Err("must be a host name, an address, or a URL such as mqtt://HOST:PORT".into())
}

/// `NAME` or `NAME:PASSWORD`.
pub(super) fn login(text: &str) -> Result<(String, Option<Password>), String> {
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
