//! What outlives one attempt to connect: the endpoint with its layers, and which nodes and addresses were of use.

use std::net::SocketAddr;

use super::layers::Layers;
use super::node_order::NodeOrder;
use super::remote::Remote;
use super::resolver::{Lookup, system_lookup};
use crate::mqtt::Endpoint;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::{BrokerAddress, Node};
use crate::{Error, Exit, Result};

/// Starts one attempt after the other to connect to an endpoint.
#[derive(Debug)]
pub(in crate::mqtt) struct Dialer {
    endpoint: Endpoint,
    layers: Layers,
    order: NodeOrder,
    lookup: Lookup,
}

impl Dialer {
    /// A dialer that begins with any node: the one that `first`, a random number, falls on.
    ///
    /// # Errors
    /// [`Exit::Config`] for an endpoint that this build has no layer for, or whose files cannot be used.
    pub(in crate::mqtt) fn new(endpoint: Endpoint, first: usize) -> Result<Self> {
        if let Some((why, remedy)) = endpoint.missing_layer() {
            let error = Error::new(Exit::Config, format!("{}://", endpoint.scheme()));
            return Err(error.because(why).hint(remedy));
        }
        let count = match &endpoint.address {
            BrokerAddress::Tcp(nodes) => nodes.len(),
            BrokerAddress::Unix(_) => 1,
        };
        let order = NodeOrder::new(count, first);
        Ok(Self { layers: Layers::new(&endpoint)?, endpoint, order, lookup: system_lookup })
    }

    /// The same with another resolver.
    #[cfg(test)]
    pub(super) fn with_lookup(self, lookup: Lookup) -> Self {
        Self { lookup, ..self }
    }

    /// Where the broker is.
    pub(in crate::mqtt) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// The indices of the nodes, in the order in which they are tried.
    pub(in crate::mqtt) fn nodes(&self) -> &[usize] {
        self.order.nodes()
    }

    /// The broker accepted a connection: the next attempt begins there.
    pub(in crate::mqtt) fn accepted(&mut self, remote: &Remote) {
        if let Some(destination) = remote.destination {
            self.order.accepted(destination);
        }
    }

    /// A connection was of no use: the next attempt begins elsewhere. Returns whether there is something that was not tried
    /// since the last success, so that there is no reason to wait.
    pub(in crate::mqtt) fn failed(&mut self, remote: &Remote) -> bool {
        let Some(destination) = remote.destination else { return false };
        self.order.failed_at(destination);
        self.order.has_untried(destination)
    }

    /// The broker closed a connection without a word, and never accepted one.
    pub(in crate::mqtt) fn closed_without_answer(&self) {
        self.layers.closed_without_answer();
    }

    /// Whether there is something else to try than this connection.
    pub(in crate::mqtt) fn has_alternative(&self, remote: &Remote) -> bool {
        self.order.nodes().len() > 1 || remote.destination.is_some_and(|destination| destination.has_others)
    }

    /// What is spoken on a connected socket.
    pub(super) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// The addresses to try last.
    pub(super) fn failed_addresses(&self) -> &[SocketAddr] {
        self.order.failed()
    }

    /// What looks names up.
    pub(super) fn lookup(&self) -> Lookup {
        self.lookup
    }

    /// The node with this index; `None` for a Unix socket.
    pub(super) fn node(&self, index: usize) -> Option<&Node> {
        match &self.endpoint.address {
            BrokerAddress::Tcp(nodes) => nodes.get(index),
            BrokerAddress::Unix(_) => None,
        }
    }

    /// The host and port to connect to for a node: its own, or the proxy's.
    pub(super) fn target(&self, index: usize) -> (&str, u16) {
        let node = self.endpoint.proxy.as_ref().map(|proxy| &proxy.node).or_else(|| self.node(index));
        node.map_or(("", 0), |node| (&node.host, node.port))
    }

    /// The node as messages name it.
    pub(super) fn shown(&self, index: usize) -> String {
        match (self.node(index), &self.endpoint.proxy) {
            (Some(node), Some(proxy)) => format!("{node} through {}", proxy.node),
            (Some(node), None) => node.to_string(),
            (None, _) => self.endpoint.to_string(),
        }
    }

    /// What a connection that could not be made failed on: it is the proxy's where there is one.
    pub(super) fn unreachable(&self, lost: ConnectionLost) -> ConnectionLost {
        match &self.endpoint.proxy {
            Some(_) if lost.obstacle() != Obstacle::LocalAddress => {
                let hint = lost.hint_text().map(str::to_owned);
                ConnectionLost::at(Obstacle::Proxy, format!("no connection to the proxy: {lost}")).hint_if(hint)
            }
            _ => lost,
        }
    }
}
