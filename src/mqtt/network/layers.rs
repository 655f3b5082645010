//! What is spoken on a connected socket: the layers of an endpoint, made in one place.

#[cfg(feature = "tls")]
use std::cell::Cell;

use crate::Result;
use crate::mqtt::connection_lost::ConnectionLost;
#[cfg(feature = "tls")]
use crate::mqtt::connection_lost::MIN_CLOSED;
use crate::mqtt::endpoint::{Endpoint, Node, Proxy};

use super::proxy::ProxyConnection;
#[cfg(feature = "tls")]
use super::tls::{TlsLayer, TlsProbe};
use super::transport::Transport;
#[cfg(feature = "websocket")]
use super::web_socket::WebSocket;

/// Whether this program speaks TLS.
const HAS_TLS: bool = cfg!(feature = "tls");

/// Whether this program speaks WebSocket.
const HAS_WEB_SOCKET: bool = cfg!(feature = "websocket");

/// The layers of an endpoint, with what they share from one connection to the next.
#[derive(Debug)]
pub(super) struct Layers {
    proxy: Option<Proxy>,
    /// The path of the request, for WebSocket.
    #[cfg(feature = "websocket")]
    web_socket: Option<String>,
    #[cfg(feature = "websocket")]
    is_tls: bool,
    #[cfg(feature = "tls")]
    tls: Option<TlsLayer>,
    /// Connections that the broker closed without a word, before it ever accepted one.
    #[cfg(feature = "tls")]
    closed: Cell<u32>,
}

impl Layers {
    /// Prepares what the connections need.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] where a file that the endpoint names cannot be used.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "layers that read files can fail"))]
    pub(super) fn new(endpoint: &Endpoint) -> Result<Self> {
        Ok(Self {
            proxy: endpoint.proxy.clone(),
            #[cfg(feature = "tls")]
            tls: match endpoint.tls.clone() {
                Some(options) => Some(TlsLayer::new(options)?.below_web_socket(endpoint.web_socket.clone())),
                None => None,
            },
            #[cfg(feature = "websocket")]
            web_socket: endpoint.web_socket.clone(),
            #[cfg(feature = "websocket")]
            is_tls: endpoint.tls.is_some(),
            #[cfg(feature = "tls")]
            closed: Cell::new(0),
        })
    }

    /// The broker closed a connection without a word, and never accepted one.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unused_self, reason = "without TLS nothing is to be found out"))]
    pub(super) fn closed_without_answer(&self) {
        #[cfg(feature = "tls")]
        self.closed.set(self.closed.get().saturating_add(1));
    }

    /// Puts the layers on a connected socket; their handshakes follow. `node` is whom it is connected to, `None` for a Unix
    /// socket.
    #[cfg_attr(not(feature = "tls"), expect(clippy::unnecessary_wraps, reason = "layers can refuse a node"))]
    pub(super) fn open(
        &self,
        socket: Box<dyn Transport>,
        node: Option<&Node>,
    ) -> std::result::Result<Box<dyn Transport>, ConnectionLost> {
        let transport = match (&self.proxy, node) {
            (Some(proxy), Some(node)) => Box::new(ProxyConnection::new(socket, proxy, node)),
            _ => socket,
        };
        #[cfg(feature = "tls")]
        let transport = match (&self.tls, node) {
            (Some(tls), Some(node)) => tls.open(transport, node)?,
            (None, Some(node)) if self.closed.get() == MIN_CLOSED => {
                // One is spent to find out whether the port is for TLS, whatever becomes of it.
                self.closed_without_answer();
                Box::new(TlsProbe::new(transport, node)?)
            }
            _ => transport,
        };
        #[cfg(feature = "websocket")]
        if let (Some(path), Some(node)) = (&self.web_socket, node) {
            return Ok(Box::new(WebSocket::new(transport, &authority(node, self.is_tls), path)));
        }
        Ok(transport)
    }
}

/// A node as HTTP names it: without the port that the scheme means.
#[cfg(feature = "websocket")]
fn authority(node: &Node, is_tls: bool) -> String {
    let shown = node.to_string();
    let default = if is_tls { ":443" } else { ":80" };
    shown.strip_suffix(default).map_or_else(|| shown.clone(), str::to_owned)
}

impl Endpoint {
    /// What this build lacks for it: the reason, and what to do.
    pub(crate) fn missing_layer(&self) -> Option<(&'static str, &'static str)> {
        if self.tls.is_some() && !HAS_TLS {
            Some(("this build has no TLS", "build it with --features tls"))
        } else if self.web_socket.is_some() && !HAS_WEB_SOCKET {
            Some(("this build has no WebSocket", "build it with --features websocket"))
        } else {
            None
        }
    }
}
