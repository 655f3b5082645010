//! Claim: of all nodes and addresses, the first one of use is found without waiting for the others, or not for long, and what
//! failed is named.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, Timespec, poll};
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};

use super::connector::Connector;
use super::dialer::Dialer;
use super::remote::Remote;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::{BrokerAddress, Endpoint, Node, Proxy, ProxyKind};
#[cfg(feature = "tls")]
use crate::mqtt::tls_options::TlsOptions;

/// After this long without progress a test fails.
const HANG_TIMEOUT: Duration = Duration::from_secs(60);

/// What names resolve to, for all tests: each has names of its own.
static HOSTS: Mutex<BTreeMap<String, Vec<SocketAddr>>> = Mutex::new(BTreeMap::new());

fn lookup(host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
    let hosts = HOSTS.lock().unwrap();
    hosts.get(host).cloned().ok_or_else(|| io::Error::other("no such name"))
}

/// Lets `name` have these addresses.
fn name(name: &str, addresses: &[SocketAddr]) {
    HOSTS.lock().unwrap().insert(name.to_owned(), addresses.to_vec());
}

/// A dialer that begins with the first of these nodes.
fn dialer(hosts: &[&str]) -> Dialer {
    Dialer::new(cluster(hosts), 0).unwrap().with_lookup(lookup)
}

/// Makes one attempt, to its end.
fn attempt(dialer: &Dialer) -> Result<(Box<dyn Transport>, Remote), ConnectionLost> {
    let begin = Instant::now();
    let mut connector = Connector::new(dialer);
    loop {
        let now = Instant::now();
        if let Poll::Ready(outcome) = connector.drive(dialer, now) {
            return outcome;
        }
        assert!(begin.elapsed() < HANG_TIMEOUT, "{connector:?}");
        let left = connector.deadline().unwrap().saturating_duration_since(now);
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        connector.interest(&mut fds);
        poll(&mut fds, Some(&Timespec::try_from(left).unwrap())).unwrap();
    }
}

fn listener(address: &str) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nothing listens.
fn closed(address: &str) -> SocketAddr {
    listener(address).1
}

/// An address that answers no request to connect, as one behind a firewall, as long as what is returned lives.
fn silent(address: &str) -> (impl Drop, SocketAddr) {
    let fd = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&fd, &SocketAddr::new(address.parse().unwrap(), 0)).unwrap();
    listen(&fd, 0).unwrap();
    let listener = TcpListener::from(fd);
    let address = listener.local_addr().unwrap();
    // The queue has room for one; what comes then is dropped.
    let mut queue = vec![TcpStream::connect(address).unwrap()];
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        queue.push(stream);
    }
    (Held { _listener: listener, _queue: queue }, address)
}

struct Held {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl Drop for Held {
    fn drop(&mut self) {}
}

#[test]
fn an_address_that_does_not_answer_delays_the_next_one_by_a_moment() {
    let ((_held, black_hole), (open, address)) = (silent("127.0.0.2"), listener("127.0.0.3"));
    name("hole", &[black_hole, address]);
    let (mut transport, remote) = attempt(&dialer(&["hole"])).unwrap();
    assert_eq!(remote.to_string(), "hole:1 (127.0.0.3)");
    // It may win later, so it counts as another address.
    assert!(remote.destination.unwrap().has_others);
    transport.write_all(b"x").unwrap();
    let mut byte = [0];
    open.accept().unwrap().0.read_exact(&mut byte).unwrap();
    assert_eq!(&byte, b"x");
}

#[test]
fn an_address_that_refuses_is_passed_at_once() {
    let (_open, address) = listener("127.0.0.3");
    name("half", &[closed("127.0.0.2"), address]);
    let (_, remote) = attempt(&dialer(&["half"])).unwrap();
    assert_eq!((remote.to_string(), remote.destination.unwrap().has_others), ("half:1 (127.0.0.3)".to_owned(), false));
}

/// How long an attempt waits at each node or address where nothing comes any more, and what it fails with; that time does not
/// pass.
fn waits_in_vain(dialer: &Dialer) -> (Vec<Duration>, ConnectionLost) {
    let (begin, mut now, mut waits) = (Instant::now(), Instant::now(), Vec::new());
    let mut connector = Connector::new(dialer);
    loop {
        if let Poll::Ready(outcome) = connector.drive(dialer, now) {
            return (waits, outcome.expect_err("nothing answers"));
        }
        assert!(begin.elapsed() < HANG_TIMEOUT, "{connector:?}");
        let mut fds: Vec<PollFd<'_>> = Vec::new();
        connector.interest(&mut fds);
        // Whatever is still to come comes at once.
        if poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 })).unwrap() == 0 {
            let due = connector.deadline().unwrap();
            waits.push(due - now);
            now = due;
        }
    }
}

/// An endpoint with a node for each of these names.
fn cluster(hosts: &[&str]) -> Endpoint {
    let nodes = hosts.iter().map(|host| Node { host: (*host).to_owned(), port: 1 }).collect();
    Endpoint::new(BrokerAddress::Tcp(nodes))
}

#[test]
fn a_node_or_address_that_accepts_and_is_mute_is_left_sooner_than_the_last_one() {
    let (_open, mute): (Vec<_>, Vec<_>) = ["127.0.0.2", "127.0.0.3", "127.0.0.4"].map(listener).into_iter().unzip();
    name("mute", &mute[..1]);
    name("mutes", &mute[1..]);
    name("proxy", &mute[..1]);
    let proxy = |kind| Some(Proxy { kind, node: Node { host: "proxy".to_owned(), port: 1 }, login: None });
    let nodes = || cluster(&["mute", "mutes"]);
    let mut cases = vec![
        (Endpoint { proxy: proxy(ProxyKind::Socks5), ..nodes() }, &[10, 15][..]),
        (Endpoint { proxy: proxy(ProxyKind::Http), ..nodes() }, &[10, 15]),
    ];
    #[cfg(feature = "tls")]
    {
        let pin = format!("SHA256:{}=", "A".repeat(43)).parse().ok();
        cases.push((Endpoint { tls: Some(TlsOptions { pin, ..TlsOptions::default() }), ..nodes() }, &[10, 10, 15]));
    }
    if cfg!(feature = "websocket") {
        cases.push((Endpoint { web_socket: Some("/mqtt".to_owned()), ..nodes() }, &[10, 10, 15]));
    }
    for (endpoint, expected) in cases {
        let dialer = Dialer::new(endpoint, 0).unwrap().with_lookup(lookup);
        let (waits, lost) = waits_in_vain(&dialer);
        assert_eq!(waits, expected.iter().copied().map(Duration::from_secs).collect::<Vec<_>>(), "{lost}");
        assert_eq!(lost.obstacle(), Obstacle::Silence);
        assert!(lost.to_string().contains("; mutes:1"), "both are named: {lost}");
    }
}

#[test]
fn a_lookup_without_an_answer_is_left_sooner_than_the_last_one() {
    /// As with a server of names that is down.
    fn stuck(_host: &str, _port: u16) -> io::Result<Vec<SocketAddr>> {
        loop {
            std::thread::park();
        }
    }
    let (waits, lost) = waits_in_vain(&dialer(&["one", "other"]).with_lookup(stuck));
    assert_eq!((waits, lost.obstacle()), ([10, 15].map(Duration::from_secs).to_vec(), Obstacle::Lookup));
}

#[test]
fn nodes_are_tried_in_turn_and_all_failures_are_named() {
    name("down", &[closed("127.0.0.2"), closed("127.0.0.3")]);
    name("empty", &[]);
    let lost = attempt(&dialer(&["down", "empty", "no-name", "127.0.0.4"])).unwrap_err();
    let refused = "Connection refused (os error 111)";
    let expected = format!(
        "down:1: {refused} (127.0.0.2, 127.0.0.3); empty:1: the host name has no address; \
         no-name:1: no such name; 127.0.0.4:1: {refused}"
    );
    assert_eq!((format!("{}: {lost}", lost.place().unwrap()), lost.obstacle()), (expected, Obstacle::Refused));

    let (_open, address) = listener("127.0.0.3");
    name("up", &[address]);
    let mut dialer = dialer(&["down", "up"]);
    let (_, remote) = attempt(&dialer).unwrap();
    assert_eq!(remote.to_string(), "up:1");
    dialer.accepted(&remote);
    name("down", &[address]);
    assert_eq!(attempt(&dialer).unwrap().1.to_string(), "up:1", "the last good one first");
    assert!(dialer.failed(&remote));
    assert_eq!(attempt(&dialer).unwrap().1.to_string(), "down:1");
}

#[test]
fn an_address_of_no_use_comes_last_until_a_broker_accepts_one() {
    let ((_one, first), (_two, second)) = (listener("127.0.0.2"), listener("127.0.0.3"));
    name("twins", &[first, second]);
    let mut dialer = dialer(&["twins"]);
    let (_, remote) = attempt(&dialer).unwrap();
    assert!(dialer.has_alternative(&remote) && dialer.failed(&remote), "the other one, at once");
    let (_, other) = attempt(&dialer).unwrap();
    assert_eq!(other.to_string(), "twins:1 (127.0.0.3)");
    assert!(!dialer.failed(&other), "both were of no use");
    assert_eq!(attempt(&dialer).unwrap().1.to_string(), "twins:1 (127.0.0.2)", "the one that failed earlier");
    dialer.accepted(&other);
    assert_eq!(attempt(&dialer).unwrap().1.to_string(), "twins:1 (127.0.0.2)", "as the resolver has them");
}

#[test]
fn the_local_address_can_be_chosen() {
    let (open, address) = listener("127.0.0.1");
    name("bound", &[address]);
    let endpoint = Endpoint { bind_address: Some("127.0.0.9".parse().unwrap()), ..Endpoint::tcp("bound", 1) };
    let from = |endpoint| attempt(&Dialer::new(endpoint, 0).unwrap().with_lookup(lookup));
    let _transport = from(endpoint.clone()).unwrap();
    assert_eq!(open.accept().unwrap().1.ip(), "127.0.0.9".parse::<std::net::IpAddr>().unwrap());
    for (local, why) in [("::1", "another family"), ("192.0.2.1", "cannot use 192.0.2.1 as local address")] {
        let lost = from(Endpoint { bind_address: Some(local.parse().unwrap()), ..endpoint.clone() }).unwrap_err();
        assert!(lost.obstacle() == Obstacle::LocalAddress && lost.to_string().contains(why), "{lost}");
    }
}
