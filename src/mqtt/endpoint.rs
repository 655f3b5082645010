//! Where the broker is.

use std::fmt;
use std::path::PathBuf;

/// How to reach the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `mqtt://`, a bare host or an address: MQTT over TCP, port 1883.
    Tcp {
        /// Name or address; an IPv6 address without brackets.
        host: String,
        /// TCP port, never 0.
        port: u16,
    },
    /// `mqtts://`: MQTT over TLS, port 8883.
    Tls {
        /// As for TCP; the certificate must name it.
        host: String,
        /// TCP port, never 0.
        port: u16,
        /// Whom we trust, and our own certificate.
        files: TlsFiles,
    },
    /// `ws://` (port 80) and `wss://` (port 443): MQTT in WebSocket frames (RFC 6455).
    WebSocket {
        /// As for TCP.
        host: String,
        /// TCP port, never 0.
        port: u16,
        /// Path and query of the request, beginning with `/`; `/mqtt` where the URL has none.
        path: String,
        /// Present for `wss://`.
        tls: Option<TlsFiles>,
    },
    /// `unix:///path`: MQTT over a Unix socket.
    Unix {
        /// The socket, an absolute path.
        path: PathBuf,
    },
}

impl Endpoint {
    /// The URL's scheme.
    pub(crate) fn scheme(&self) -> &'static str {
        match self {
            Self::Tcp { .. } => "mqtt",
            Self::Tls { .. } => "mqtts",
            Self::WebSocket { tls: None, .. } => "ws",
            Self::WebSocket { tls: Some(_), .. } => "wss",
            Self::Unix { .. } => "unix",
        }
    }

    /// The TCP port.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } | Self::Tls { port, .. } | Self::WebSocket { port, .. } => Some(*port),
            Self::Unix { .. } => None,
        }
    }

    /// MQTT over TCP.
    #[must_use]
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self::Tcp { host: host.into(), port }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path } => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } | Self::Tls { host, port, .. } | Self::WebSocket { host, port, .. } => {
                if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
            }
        }
    }
}

/// Files for TLS, all PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// `ca_file`: the authorities that may sign for the broker; without it, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// `cert_file` and `key_file`.
    pub client: Option<ClientCert>,
}

/// The certificate that we show the broker, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// `cert_file`.
    pub cert: PathBuf,
    /// `key_file`.
    pub key: PathBuf,
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
