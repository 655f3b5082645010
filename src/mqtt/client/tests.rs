use std::collections::BTreeSet;
use std::net::TcpListener;

use super::*;
use crate::mqtt::{BrokerAddress, Node};

fn idle() -> Client {
    Client::new(Endpoint::tcp("127.0.0.1", 1), ClientOptions::new("idle")).unwrap()
}

/// A client of two nodes that accept connections and say nothing, as long as the listeners live.
fn with_mute_nodes() -> ([TcpListener; 2], [Node; 2], Client) {
    let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let nodes = listeners
        .each_ref()
        .map(|listener| Node { host: "127.0.0.1".to_owned(), port: listener.local_addr().unwrap().port() });
    let endpoint = Endpoint::new(BrokerAddress::Tcp(nodes.to_vec()));
    let client = Client::new(endpoint, ClientOptions::new("mute")).unwrap();
    (listeners, nodes, client)
}

fn is_polled(client: &Client) -> bool {
    let mut fds = Vec::new();
    client.interest(&mut fds);
    !fds.is_empty()
}

#[test]
fn a_client_does_nothing_until_it_is_told_to_connect() {
    let mut client = idle();
    let now = Instant::now();
    client.subscribe("t", Qos::AtLeastOnce, now).unwrap();
    client.publish("t", Bytes::new(), Qos::AtLeastOnce, false).unwrap();
    client.drive(now + Duration::from_secs(60), PollFlags::empty());
    assert!(!is_polled(&client) && client.deadline().is_none());
    assert!(client.next_event().is_none() && !client.is_closed());
    client.connect(now);
    assert_eq!(client.deadline(), Some(now));
    client.drive(now, PollFlags::empty());
    // Refused at once, or still on its way: it is under way in any case.
    assert!(is_polled(&client) || matches!(client.next_event(), Some(Event::Down { .. })));
}

#[test]
fn a_node_that_says_nothing_is_left_for_the_other_one() {
    let (_listeners, nodes, mut client) = with_mute_nodes();
    let mut now = Instant::now();
    client.connect(now);
    let mut outages = Vec::new();
    for round in 0..4 {
        while !matches!(client.phase, ConnectionPhase::Open(..)) {
            client.drive(now, PollFlags::empty());
        }
        assert_eq!(client.deadline(), Some(now + CONNACK_TIMEOUT));
        now += CONNACK_TIMEOUT;
        client.drive(now, PollFlags::empty());
        let down = std::iter::from_fn(|| client.next_event()).find_map(|event| match event {
            Event::Down { outage, .. } => Some(outage),
            _ => None,
        });
        outages.push(down.expect("an outage").to_string());
        let next = client.deadline().unwrap();
        assert_eq!(next > now, round % 2 == 1, "no reason to wait before the other one was tried");
        now = next;
    }
    let said = |node: &Node| format!("{node}: no CONNACK from the broker");
    outages[..2].sort();
    let mut both = nodes.each_ref().map(said);
    both.sort();
    assert_eq!(outages[..2], both);
    assert_ne!(outages[2], outages[3]);
}

#[test]
fn no_answer_is_late_while_reading_is_paused() {
    let (_listeners, _, mut client) = with_mute_nodes();
    let mut now = Instant::now();
    client.connect(now);
    client.pause_reading(true, now);
    while !matches!(client.phase, ConnectionPhase::Open(..)) {
        client.drive(now, PollFlags::empty());
    }
    assert_eq!(client.deadline(), None, "nothing to do");
    now += CONNACK_TIMEOUT;
    client.drive(now, PollFlags::empty());
    client.pause_reading(false, now);
    assert_eq!(client.deadline(), Some(now + CONNACK_TIMEOUT));
    assert!(client.next_event().is_none());
}

#[test]
fn an_idle_client_disconnects_at_once() {
    let mut client = idle();
    client.disconnect();
    assert!(matches!(client.next_event(), Some(Event::Closed)) && client.is_closed());
    client.connect(Instant::now());
    assert!(client.is_closed());
}

/// So that the clients of a cluster are spread over its nodes.
#[test]
fn a_client_of_a_cluster_begins_with_any_of_its_nodes() {
    let nodes = [1, 2, 3].map(|port| Node { host: "127.0.0.1".to_owned(), port });
    let endpoint = Endpoint::new(BrokerAddress::Tcp(nodes.to_vec()));
    let first = |_| Client::new(endpoint.clone(), ClientOptions::new("any")).unwrap().dialer.nodes()[0];
    assert_eq!((0..200).map(first).collect::<BTreeSet<usize>>(), BTreeSet::from([0, 1, 2]));
}
