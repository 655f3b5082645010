//! Why an attempt to connect failed, at each node and address that it tried: one phrase that names them.

use std::net::{IpAddr, SocketAddr};

use crate::mqtt::connection_lost::ConnectionLost;

/// What failed so far, in the order of trying.
#[derive(Debug, Default)]
pub(super) struct Failures(Vec<NodeFailure>);

#[derive(Debug)]
struct NodeFailure {
    /// The node, as messages name it, and its index.
    node: String,
    index: usize,
    address: Option<IpAddr>,
    lost: ConnectionLost,
}

impl Failures {
    /// Adds what failed at `node`; `address` is one of several that it has, else `None`.
    pub(super) fn push(&mut self, (node, index): (&str, usize), address: Option<SocketAddr>, lost: ConnectionLost) {
        self.0.push(NodeFailure { node: node.to_owned(), index, address: address.map(|address| address.ip()), lost });
    }

    /// All of it, as the reason `last` after it: what that suggests to check is what counts.
    pub(super) fn summary(&self) -> Option<ConnectionLost> {
        let last = self.0.last()?;
        let mut nodes: Vec<&str> = Vec::new();
        for failure in &self.0 {
            if !nodes.contains(&failure.node.as_str()) {
                nodes.push(&failure.node);
            }
        }
        let (first, others) = nodes.split_first()?;
        let others = others.iter().map(|node| format!("; {node}: {}", self.at(node)));
        let why = self.at(first) + &others.collect::<String>();
        let finality = self.0.iter().map(|failure| failure.lost.finality()).min()?;
        let hint = self.hints().or_else(|| last.lost.hint_text().map(str::to_owned));
        Some(last.lost.clone().retold(why, finality).hint_if(hint).at_place(first, last.index))
    }

    /// What to do at each node, if that is not the same at all of them.
    fn hints(&self) -> Option<String> {
        let mut hints: Vec<(&str, &str)> = Vec::new();
        for NodeFailure { node, lost, .. } in &self.0 {
            if let Some(hint) = lost.hint_text().filter(|hint| !hints.contains(&(node, hint))) {
                hints.push((node, hint));
            }
        }
        let differ = hints.iter().any(|(_, hint)| *hint != hints[0].1);
        let shown = hints.iter().map(|(node, hint)| format!("{node}: {hint}"));
        differ.then(|| shown.collect::<Vec<_>>().join("; "))
    }

    /// What failed at one node: each reason with the addresses that it is of.
    fn at(&self, node: &str) -> String {
        let mut reasons: Vec<(String, Vec<String>)> = Vec::new();
        for failure in self.0.iter().filter(|failure| failure.node == node) {
            let (why, address) = (failure.lost.to_string(), failure.address.map(|address| address.to_string()));
            match reasons.iter_mut().find(|(known, _)| *known == why) {
                Some((_, addresses)) => addresses.extend(address),
                None => reasons.push((why, address.into_iter().collect())),
            }
        }
        let shown = reasons.into_iter().map(|(why, addresses)| {
            if addresses.is_empty() { why } else { format!("{why} ({})", addresses.join(", ")) }
        });
        shown.collect::<Vec<_>>().join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::connection_lost::{Finality, Obstacle};

    fn shown(failures: &[(&str, Option<&str>, &str)]) -> String {
        let mut all = Failures::default();
        for (node, address, why) in failures {
            let lost = ConnectionLost::at(Obstacle::Refused, *why);
            all.push((node, 0), address.map(|address| address.parse().unwrap()), lost);
        }
        let lost = all.summary().unwrap();
        assert_eq!(lost.obstacle(), Obstacle::Refused);
        format!("{}: {lost}", lost.place().unwrap())
    }

    #[test]
    fn one_failure_is_told_as_it_is() {
        assert!(Failures::default().summary().is_none());
        assert_eq!(shown(&[("a:1", None, "refused")]), "a:1: refused");
    }

    #[test]
    fn all_together_is_no_more_final_than_the_least_of_it() {
        use Finality::{Final, FinalIfRepeated, Passing};
        let mut all = Failures::default();
        for (finality, expected) in [
            (Final, Final),
            (FinalIfRepeated, FinalIfRepeated),
            (Final, FinalIfRepeated),
            (Passing, Passing),
            (Final, Passing),
        ] {
            all.push(("a:1", 0), None, ConnectionLost::new("no").retold("no".to_owned(), finality));
            assert_eq!(all.summary().unwrap().finality(), expected);
        }
    }

    #[test]
    fn hints_name_their_node_unless_they_are_the_same() {
        let mut all = Failures::default();
        for (node, hint, expected) in [
            ("a:1", Some("renew"), Some("renew")),
            ("b:2", Some("renew"), Some("renew")),
            ("c:3", None, None),
            ("d:4", Some("set `host`"), Some("a:1: renew; b:2: renew; d:4: set `host`")),
        ] {
            all.push((node, 0), None, ConnectionLost::new("no").hint_if(hint));
            assert_eq!(all.summary().unwrap().hint_text(), expected);
        }
    }

    #[test]
    fn each_reason_names_the_addresses_and_nodes_that_it_is_of() {
        let both = [("a:1", Some("[::1]:1"), "refused"), ("a:1", Some("127.0.0.1:1"), "refused")];
        assert_eq!(shown(&both), "a:1: refused (::1, 127.0.0.1)");
        let mixed = [both[0], ("a:1", Some("127.0.0.1:1"), "timed out"), ("b:2", None, "refused")];
        assert_eq!(shown(&mixed), "a:1: refused (::1); timed out (127.0.0.1); b:2: refused");
    }
}
