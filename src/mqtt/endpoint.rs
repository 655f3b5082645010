//! Where the broker is, and what is spoken below MQTT on the way to it.
//!
//! Each question has one field. The dialer asks [`Endpoint::address`] for the socket, then puts the layers on it in this
//! order: [`Endpoint::proxy`], [`Endpoint::tls`], [`Endpoint::web_socket`]. A layer that is absent is not spoken.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::Login;
use super::tls_options::TlsOptions;
use crate::sandbox::Needs;
use crate::secret::Password;

/// The port that is registered for MQTT without TLS.
pub(crate) const MQTT_PORT: u16 = 1883;

/// The one for MQTT over TLS.
pub(crate) const MQTTS_PORT: u16 = 8883;

/// The path that most brokers have WebSocket at.
pub(crate) const DEFAULT_PATH: &str = "/mqtt";

/// How to reach the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// What the socket is connected to.
    pub address: BrokerAddress,
    /// TLS on that socket: `mqtts://` and `wss://`.
    pub tls: Option<TlsOptions>,
    /// WebSocket frames (RFC 6455) above that, `ws://` and `wss://`: path and query of the request, beginning with `/`.
    pub web_socket: Option<String>,
    /// What TCP connections go through.
    pub proxy: Option<Proxy>,
    /// The local address of TCP sockets, where the system is not to choose it.
    pub bind_address: Option<IpAddr>,
}

/// What a socket is connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BrokerAddress {
    /// TCP: the nodes of a cluster, at least one, each of which will do.
    Tcp(Vec<Node>),
    /// A Unix socket: an absolute path.
    Unix(PathBuf),
}

/// A broker, or one of those that make up a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Name or address; an IPv6 address without brackets. A certificate must name it.
    pub host: String,
    /// TCP port, never 0.
    pub port: u16,
}

/// A proxy, which connects to a node by its name.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// What it speaks.
    pub kind: ProxyKind,
    /// Where it is.
    pub node: Node,
    /// What it wants to know.
    pub login: Option<Login>,
}

/// What a proxy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// SOCKS5 (RFC 1928).
    Socks5,
    /// HTTP, by CONNECT (RFC 9110, 9.3.6).
    Http,
}

impl Proxy {
    /// Whether it has a password.
    pub(crate) fn has_password(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.password.is_some())
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        fn login(proxy: &Proxy) -> Option<(&str, Option<&str>)> {
            let login = proxy.login.as_ref()?;
            Some((&login.username, login.password.as_ref().map(Password::expose)))
        }
        (self.kind, &self.node, login(self)) == (other.kind, &other.node, login(other))
    }
}

impl Eq for Proxy {}

impl Endpoint {
    /// MQTT over TCP: `mqtt://`, a bare host or an address.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::new(BrokerAddress::Tcp(vec![Node { host: host.into(), port }]))
    }

    /// MQTT over a socket, with nothing in between.
    #[must_use]
    pub fn new(address: BrokerAddress) -> Self {
        Self { address, tls: None, web_socket: None, proxy: None, bind_address: None }
    }

    /// The URL's scheme.
    pub(crate) fn scheme(&self) -> &'static str {
        match (&self.address, &self.tls, &self.web_socket) {
            (BrokerAddress::Unix(_), ..) => "unix",
            (_, None, None) => "mqtt",
            (_, Some(_), None) => "mqtts",
            (_, None, Some(_)) => "ws",
            (_, Some(_), Some(_)) => "wss",
        }
    }

    /// What a run needs to connect, today and after years.
    pub(crate) fn needs(&self, needs: &mut Needs) {
        let nodes = match (&self.address, &self.proxy) {
            (BrokerAddress::Unix(_), _) => &[][..],
            (BrokerAddress::Tcp(_), Some(proxy)) => std::slice::from_ref(&proxy.node),
            (BrokerAddress::Tcp(nodes), None) => nodes,
        };
        for Node { host, port } in nodes {
            needs.connect(*port, host.parse::<IpAddr>().is_err());
        }
        if matches!(self.address, BrokerAddress::Unix(_)) {
            needs.connect_to_unix_socket();
        }
        if self.bind_address.is_some() {
            needs.bind();
        }
        if let Some(tls) = &self.tls {
            tls.needs(needs);
        }
    }

    /// The same with this node alone, if it has one with this index.
    pub(super) fn at_node(&self, index: usize) -> Self {
        let mut endpoint = self.clone();
        if let BrokerAddress::Tcp(nodes) = &mut endpoint.address
            && index < nodes.len()
        {
            *nodes = vec![nodes.swap_remove(index)];
        }
        endpoint
    }

    /// The TCP port of the first node.
    pub(crate) fn port(&self) -> Option<u16> {
        match &self.address {
            BrokerAddress::Tcp(nodes) => nodes.first().map(|node| node.port),
            BrokerAddress::Unix(_) => None,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            BrokerAddress::Unix(path) => write!(f, "unix://{}", path.display()),
            BrokerAddress::Tcp(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{node}")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_with_colons_is_shown_in_brackets() {
        for (host, shown) in [("127.0.0.1", "127.0.0.1:1"), ("::1", "[::1]:1"), ("broker.example", "broker.example:1")]
        {
            assert_eq!(Endpoint::tcp(host, 1).to_string(), shown);
        }
    }
}
