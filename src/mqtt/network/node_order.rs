//! Which node of a cluster, and which of its addresses, to try first: what the attempts so far have shown.
//!
//! Nodes are tried in turn. The one that accepted a connection last stays first, so that a short loss leads back to it; one that
//! was of no use goes to the end. Of a node's addresses, those that accepted a connection and were of no use come last, until
//! some broker accepts one (`race.rs`).

use std::net::SocketAddr;

/// The order of the nodes, by their index, and what failed since the last success.
#[derive(Debug)]
pub(super) struct NodeOrder {
    /// The next one to try first.
    order: Vec<usize>,
    /// Addresses that were of no use, the latest last.
    failed: Vec<SocketAddr>,
    /// How many times in a row a node went to the end.
    moves: usize,
}

/// What a connection is with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// The node's index.
    pub(super) node: usize,
    pub(super) address: SocketAddr,
    /// Whether the node has another address that may be of more use.
    pub(super) has_others: bool,
}

impl NodeOrder {
    /// `count` nodes in turn, beginning with the one that `first` falls on.
    pub(super) fn new(count: usize, first: usize) -> Self {
        let mut order: Vec<usize> = (0..count).collect();
        order.rotate_left(first % count.max(1));
        Self { order, failed: Vec::new(), moves: 0 }
    }

    /// The nodes in the order to try them in.
    pub(super) fn nodes(&self) -> &[usize] {
        &self.order
    }

    /// The addresses to try last.
    pub(super) fn failed(&self) -> &[SocketAddr] {
        &self.failed
    }

    /// The broker accepted a connection.
    pub(super) fn accepted(&mut self, destination: Destination) {
        self.failed.clear();
        self.moves = 0;
        if let Some(position) = self.order.iter().position(|node| *node == destination.node) {
            self.order[..=position].rotate_right(1);
        }
    }

    /// A connection was of no use.
    pub(super) fn failed_at(&mut self, destination: Destination) {
        self.failed.retain(|address| *address != destination.address);
        self.failed.push(destination.address);
        if !destination.has_others
            && let Some(position) = self.order.iter().position(|node| *node == destination.node)
        {
            self.order[position..].rotate_left(1);
            self.moves += 1;
        }
    }

    /// Whether something is left after this failure that was not tried since the last success: then there is no reason to wait.
    pub(super) fn has_untried(&self, destination: Destination) -> bool {
        destination.has_others || !self.moves.is_multiple_of(self.order.len().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(node: usize, address: &str, has_others: bool) -> Destination {
        Destination { node, address: address.parse().unwrap(), has_others }
    }

    #[test]
    fn nodes_are_tried_in_turn_from_any_one() {
        let mut order = NodeOrder::new(3, 4);
        assert_eq!(order.nodes(), [1, 2, 0]);
        for (node, after, untried) in [(1, [2, 0, 1], true), (2, [0, 1, 2], true), (0, [1, 2, 0], false)] {
            let destination = destination(node, "127.0.0.1:1", false);
            order.failed_at(destination);
            assert_eq!((order.nodes(), order.has_untried(destination)), (&after[..], untried));
        }
    }

    #[test]
    fn the_last_good_node_is_tried_first() {
        let mut order = NodeOrder::new(3, 0);
        // The attempt went past the first node, which refused.
        order.accepted(destination(1, "127.0.0.1:1", false));
        assert_eq!(order.nodes(), [1, 0, 2]);
        order.accepted(destination(2, "127.0.0.1:1", false));
        assert_eq!(order.nodes(), [2, 1, 0]);
    }

    #[test]
    fn the_addresses_of_a_node_are_tried_before_the_next_node() {
        let mut order = NodeOrder::new(2, 0);
        let (first, second) = (destination(0, "127.0.0.1:1", true), destination(0, "127.0.0.2:1", false));
        order.failed_at(first);
        assert_eq!((order.nodes(), order.has_untried(first)), (&[0, 1][..], true));
        order.failed_at(second);
        assert_eq!((order.nodes(), order.has_untried(second)), (&[1, 0][..], true));
        assert_eq!(order.failed(), [first.address, second.address]);
        order.accepted(destination(1, "127.0.0.3:1", false));
        assert!(order.failed().is_empty());
    }

    #[test]
    fn a_single_broker_leaves_nothing_to_hurry_for() {
        let mut order = NodeOrder::new(1, 7);
        let only = destination(0, "127.0.0.1:1", false);
        order.failed_at(only);
        assert_eq!((order.nodes(), order.has_untried(only)), (&[0][..], false));
    }
}
