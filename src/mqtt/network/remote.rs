//! The other end of a connection.

use std::fmt;
use std::net::SocketAddr;

use super::node_order::Destination;

/// The node to which a connection leads; it is displayed as messages name it.
#[derive(Clone, Debug, Default)]
pub(in crate::mqtt) struct Remote {
    pub(super) shown: String,
    /// The index of the node.
    pub(in crate::mqtt) index: usize,
    /// Whether it has more than one address.
    pub(super) has_several: bool,
    /// `None` for a Unix socket, and as long as there is no connection.
    pub(super) destination: Option<Destination>,
}

impl Remote {
    /// The same at this address.
    pub(super) fn at(&self, address: Option<SocketAddr>, has_others: bool) -> Self {
        let shown = match address.filter(|_| self.has_several) {
            Some(address) => format!("{} ({})", self.shown, address.ip()),
            None => self.shown.clone(),
        };
        let destination = address.map(|address| Destination { node: self.index, address, has_others });
        Self { shown, destination, ..self.clone() }
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}
