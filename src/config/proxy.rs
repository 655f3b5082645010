//! `proxy`: what a URL of a proxy can be.

use super::address::{host_and_port, login};
use crate::mqtt::{Login, MAX_SOCKS_FIELD_LEN, Node, Proxy, ProxyKind};
use crate::text::nearest;

/// The schemes; `socks5h` is what others call it, since the proxy looks the name up.
const SCHEMES: [(&str, ProxyKind); 3] =
    [("socks5", ProxyKind::Socks5), ("socks5h", ProxyKind::Socks5), ("http", ProxyKind::Http)];

/// The port that is registered for SOCKS; HTTP proxies have none.
const SOCKS_PORT: u16 = 1080;

/// Takes the value apart. The error never repeats the value, which may hold a password.
pub(super) fn parse(value: &str) -> Result<Proxy, String> {
    let Some((scheme, rest)) = value.split_once("://") else {
        return Err("must be a URL: socks5://HOST:PORT or http://HOST:PORT".into());
    };
    let Some((_, kind)) = SCHEMES.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name)) else {
        let meant = nearest(scheme, SCHEMES.map(|(name, _)| name)).map(|name| format!("; did you mean `{name}://`?"));
        return Err(format!("a proxy's URL must begin with socks5:// or http://{}", meant.unwrap_or_default()));
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, place) = match rest.rsplit_once('@') {
        Some((login, place)) => (Some(self::login(login)?), place),
        None => (None, rest),
    };
    if place.matches(':').count() > 1 && !place.starts_with('[') {
        return Err("an IPv6 address in a URL must be in brackets: socks5://[::1]:1080".into());
    }
    let (host, port) = host_and_port(place)?;
    let port = match (port, kind) {
        (Some(port), _) => port,
        (None, ProxyKind::Socks5) => SOCKS_PORT,
        (None, ProxyKind::Http) => return Err("must have a port: http://HOST:PORT".into()),
    };
    let login = login.map(|(username, password)| Login { username, password });
    check_login(kind, login.as_ref())?;
    Ok(Proxy { kind, node: Node { host, port }, login })
}

/// What the protocol has room for.
fn check_login(kind: ProxyKind, login: Option<&Login>) -> Result<(), String> {
    let Some(login) = login else { return Ok(()) };
    let password = login.password.as_ref().map_or("", |password| password.expose());
    match kind {
        ProxyKind::Socks5 if login.username.len().max(password.len()) > MAX_SOCKS_FIELD_LEN => {
            Err(format!("a name and a password can have at most {MAX_SOCKS_FIELD_LEN} bytes"))
        }
        // RFC 1929 has no message for a name alone.
        ProxyKind::Socks5 if password.is_empty() => {
            Err("a login must have a password: socks5://NAME:PASSWORD@HOST".into())
        }
        // RFC 7617, 2.
        ProxyKind::Http if login.username.contains(':') => Err("a login's name cannot contain a colon".into()),
        ProxyKind::Socks5 | ProxyKind::Http => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_a_url() {
        let proxy = |value: &str| {
            let Proxy { kind, node, login } = parse(value).unwrap();
            let login = login.map(|login| {
                let password = login.password.map(|password| password.expose().to_owned());
                format!("{}:{}", login.username, password.unwrap_or_default())
            });
            (kind, node.to_string(), login.unwrap_or_default())
        };
        let socks = |place: &str, login: &str| (ProxyKind::Socks5, place.to_owned(), login.to_owned());
        assert_eq!(proxy("socks5://p"), socks("p:1080", ""));
        assert_eq!(proxy("SOCKS5H://u%40:w%3A@[::1]:9/"), socks("[::1]:9", "u@:w:"));
        assert_eq!(proxy("http://u@p:3128"), (ProxyKind::Http, "p:3128".to_owned(), "u:".to_owned()));
        for (value, why) in [
            ("p:1080", "must be a URL"),
            ("socks4://p", "did you mean `socks5://`?"),
            ("https://p:1", "must begin with socks5:// or http://"),
            ("http://p", "must have a port"),
            ("socks5://p:0", "a port must be"),
            ("socks5://::1", "in brackets"),
            ("socks5://u@p", "must have a password"),
            ("http://u%3A:w@p:1", "cannot contain a colon"),
            ("socks5://p/x", "must be a host name"),
        ] {
            let error = parse(value).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
        let long = "x".repeat(256);
        assert!(parse(&format!("socks5://{long}:w@p")).unwrap_err().contains("at most 255 bytes"));
    }
}
