//! Where the broker is.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What carries MQTT to the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// A TCP connection, `mqtt://`.
    #[default]
    Tcp,
}

impl Scheme {
    /// The port where brokers listen for this, by IANA's registry.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Tcp => 1883,
        }
    }
}

/// Where the broker is; displays as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// What carries MQTT there.
    pub scheme: Scheme,
    /// A name, an IPv4 address, or an IPv6 address with or without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Endpoint {
    /// A broker on TCP.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { scheme: Scheme::Tcp, host: host.into(), port }
    }

    /// The address, where `host` is one and need not be looked up.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let bare = self.host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&self.host);
        bare.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, self.port))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.parse::<Ipv6Addr>().is_ok() {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host.escape_debug(), self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_need_no_look_up() {
        for (host, shown) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("[::1]", "[::1]:1")] {
            let endpoint = Endpoint::tcp(host, 1);
            assert!(endpoint.address().is_some(), "{host}");
            assert_eq!(endpoint.to_string(), shown);
        }
        assert_eq!(Endpoint::tcp("broker.example", 1883).address(), None);
    }
}
