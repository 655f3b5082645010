//! What is spoken on a connected socket: the layers of an endpoint, made in one place.

use crate::Result;
use crate::mqtt::connection_lost::ConnectionLost;
use crate::mqtt::endpoint::{Endpoint, Node};

use super::transport::Transport;

/// Whether this program speaks TLS.
const HAS_TLS: bool = false;

/// Whether this program speaks WebSocket.
const HAS_WEB_SOCKET: bool = false;

/// The layers of an endpoint, with what they share from one connection to the next.
#[derive(Debug)]
pub(super) struct Layers;

impl Layers {
    /// Prepares what the connections need.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] where a file that the endpoint names cannot be used.
    #[expect(clippy::unnecessary_wraps, reason = "layers that read files can fail")]
    pub(super) fn new(_endpoint: &Endpoint) -> Result<Self> {
        Ok(Self)
    }

    /// Puts the layers on a connected socket; their handshakes follow. `node` is whom it is connected to, `None` for a Unix
    /// socket.
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "layers that have a state, and can fail")]
    pub(super) fn open(
        &self,
        socket: Box<dyn Transport>,
        _node: Option<&Node>,
    ) -> std::result::Result<Box<dyn Transport>, ConnectionLost> {
        Ok(socket)
    }
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
