//! Claim: whatever carries MQTT, the tools do what they do over TCP; and where it cannot be reached, the reason says what to
//! change.

use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use crate::broker::{Broker, Options};
use crate::certificates::{Authority, Kind};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};
use crate::server::{Server, carry, read_once};
use crate::tls;

/// A broker on all transports, and who signed its certificate.
fn broker_and_authority() -> (Broker, Authority) {
    let authority = Authority::new();
    (Broker::on_all_transports(&authority.sign("broker", Kind::Good)), authority)
}

/// Two ends that trust each other, and reach the broker at this URL.
fn pair_over(url: &str, authority: &Authority) -> Pair {
    let pair = Pair::enrolled_over(url, "gcm");
    if url.starts_with("wss:") || url.starts_with("mqtts:") {
        pair.reach(&[("url", url), ("ca_file", tls::text(&authority.file()))], "gcm");
    }
    pair
}

#[test]
fn every_transport_carries_a_pairing_and_a_stream() {
    let (broker, authority) = broker_and_authority();
    for url in broker.urls() {
        let pair = pair_over(&url, &authority);
        pair.agree();
        // Little: over WebSocket, an idle mosquitto 2.0 delivers 4 KiB every tenth of a second.
        pair.carries(&[], &readings(2_000));
        pair.carries(&["-o", "max_message=1000000"], &readings(2_000));
        pair.carries(&["--confirm", "--each"], &readings(300));
        pair.carries(&["--confirm", "-o", "qos=2"], b"twice\n");
        pair.carries(&["-o", "qos=0"], b"at most once\n");
    }
}

#[test]
fn every_transport_reconnects() {
    let (mut broker, authority) = broker_and_authority();
    for url in broker.urls() {
        let pair = pair_over(&url, &authority);
        pair.agree();
        let receiver = pair.slave.listen(&["--once"]);
        let input = readings(2_000);
        let sender = Process::spawn_with(pair.master.send(&["-o", "max_message=500", LINK]), input.clone());
        wait_until("a part to arrive", || receiver.stdout().len() >= input.len() / 4);
        broker.restart();
        sender.wait().succeeded();
        receiver.wait().succeeded().wrote(&input);
    }
}

#[test]
fn a_unix_socket_that_cannot_be_reached_is_told_by_its_reason() {
    let pair = Pair::enrolled_over("unix:///nowhere", "gcm");
    let dir = pair.master.path();
    let left = dir.join("left");
    drop(UnixListener::bind(&left).unwrap());
    std::fs::write(dir.join("file"), "").unwrap();
    for (path, said) in [
        ("absent", &["No such file", "check the path in `url`"][..]),
        ("left", &["refused", "nothing listens on this socket"]),
        ("file", &["refused", "nothing listens on this socket"]),
    ] {
        let url = format!("url=unix://{}", dir.join(path).display());
        let shown = format!("unix://{}", dir.join(path).display());
        let said = [said, &[&shown]].concat();
        Process::spawn(pair.master.pair(&["--timeout", "1", "-o", &url, LINK])).wait().failed(&[69], &said);
    }
}

#[test]
fn what_is_no_web_socket_is_told_with_the_part_of_the_url_to_check() {
    let (broker, _authority) = broker_and_authority();
    let [plain, web, ..] = broker.urls();
    let pair = Pair::enrolled_over(&web, "gcm");
    let fails = |url: &str, said: &[&str]| {
        let url = format!("url={url}");
        Process::spawn(pair.master.pair(&["--timeout", "2", "-o", &url, LINK])).wait().failed(&[69], said);
    };
    fails(&plain.replace("mqtt://", "ws://"), &["without an answer", "port for WebSocket"]);
    fails(&web.replace("ws://", "mqtt://").replace("/mqtt", ""), &["no connection to the broker"]);
    for (status, said) in [
        ("404 Not Found", &["HTTP 404 Not Found", "check the path in `url`", "/here"][..]),
        ("401 Unauthorized", &["HTTP 401", "refuses this device"]),
        ("200 OK", &["HTTP 200 OK", "check host, port and path (/here)"]),
    ] {
        let server = Server::start(move |_, mut stream| {
            read_once(&mut stream);
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        });
        fails(&format!("ws://127.0.0.1:{}/here", server.port()), said);
    }
}

/// A hint says what was found at the port, where the answer shows that, and always what to write.
#[test]
fn each_scheme_at_the_port_of_another_one_is_told_with_the_url_to_write() {
    let authority = Authority::new();
    let files = authority.sign("broker", Kind::Good);
    let broker = Broker::on_all_transports(&files);
    let secure = Broker::with_lines(Options::default(), &tls::with(&files, ""));
    let port = |url: &str| url.split(':').nth(2).unwrap().trim_end_matches("/mqtt").to_owned();
    let [mqtt, ws, _, wss] = broker.urls().map(|url| if url.starts_with("unix") { url } else { port(&url) });
    let mqtts = secure.port().to_string();
    let found_tls = "the broker speaks TLS on this port";
    let cases: [(&str, &str, &[&str]); 12] = [
        ("mqtt", &mqtts, &[found_tls, "for TLS: url = mqtts://localhost:PORT, or wss://localhost:PORT/mqtt if"]),
        ("mqtt", &wss, &[found_tls, "for TLS: url = mqtts://localhost:PORT, or wss://localhost:PORT/mqtt if"]),
        ("mqtt", &ws, &["the answer is HTTP", "url = ws://localhost:PORT/mqtt"]),
        ("mqtts", &mqtt, &["without an answer to the TLS handshake", "if it has none: url = mqtt://localhost:PORT,"]),
        ("mqtts", &wss, &["the answer is HTTP", "url = wss://localhost:PORT/mqtt"]),
        ("mqtts", &ws, &["the answer is HTTP", "WebSocket without TLS: url = ws://localhost:PORT/mqtt,"]),
        ("ws", &mqtt, &["request for WebSocket", "write url = mqtt://localhost:PORT if"]),
        ("ws", &mqtts, &[found_tls, "for TLS: url = wss://localhost:PORT/mqtt, or mqtts://localhost:PORT if"]),
        ("ws", &wss, &[found_tls, "for TLS: url = wss://localhost:PORT/mqtt,"]),
        (
            "wss",
            &mqtt,
            &["without an answer to the TLS", "url = ws://localhost:PORT/mqtt, or mqtt://localhost:PORT if"],
        ),
        ("wss", &mqtts, &["request for WebSocket", "write url = mqtts://localhost:PORT if"]),
        ("wss", &ws, &["the answer is HTTP", "WebSocket without TLS: url = ws://localhost:PORT/mqtt,"]),
    ];
    let (device, ca) = (tls::device(broker.port(), &[]), format!("ca_file={}", tls::text(&authority.file())));
    let running = cases.map(|(scheme, port, said)| {
        let path = if scheme.starts_with("ws") { "/mqtt" } else { "" };
        let url = format!("url={scheme}://localhost:{port}{path}");
        let trust = ["-o", &ca];
        let trust = if matches!(scheme, "mqtts" | "wss") { &trust[..] } else { &[] };
        (
            Process::spawn_with(device.send(&[&["-o", "port=", "-o", &url][..], trust, &[LINK]].concat()), "x\n"),
            port,
            said,
        )
    });
    for (tool, port, said) in running {
        for said in said {
            tool.wait_for(&said.replace("PORT", port));
        }
    }
}

#[test]
fn a_node_that_is_down_or_says_nothing_is_passed() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let hosts = format!("host={closed}, {}, 127.0.0.1:{}", mute.local_addr().unwrap(), broker.port());
    let nodes = ["-o", &hosts, "-o", "port="];
    let receiver = pair.slave.listen(&[&nodes[..], &["--once"]].concat());
    pair.master.send_all(&nodes, "around\n").succeeded();
    receiver.wait().succeeded().wrote(b"around\n");
}

/// As one that leaves its cluster, or lacks the users of the others.
#[test]
fn a_node_that_refuses_the_connection_is_passed_unless_no_other_accepts_it() {
    let refusing = || {
        Server::start(|_, mut stream| {
            read_once(&mut stream);
            let _ = stream.write_all(&[0x20, 2, 0, 5]);
        })
    };
    let (broker, [one, other]) = (Broker::start(), [refusing(), refusing()]);
    let pair = Pair::paired(&broker, "gcm");
    let all = format!("host=127.0.0.1:{}, 127.0.0.1:{}", one.port(), other.port());
    let some = format!("{all}, 127.0.0.1:{}", broker.port());
    let mute = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let none = format!("host=127.0.0.1:{}, {}", one.port(), mute.local_addr().unwrap());
    // Each begins at a random node.
    for _ in 0..8 {
        pair.master.send_all(&["-o", &some, "-o", "port="], "x\n").succeeded();
    }
    for hosts in [&all, &none, &none, &none] {
        pair.master.send_all(&["-o", hosts, "-o", "port="], "x\n").failed(&[69], &["refused"]);
    }
}

#[test]
fn a_cluster_that_is_down_is_named_node_by_node() {
    let closed = [0, 1].map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap());
    let pair = Pair::enrolled_over(&format!("mqtt://{},{}", closed[0], closed[1]), "gcm");
    let said = closed.map(|node| format!("{node}: Connection refused"));
    let said = said.each_ref().map(String::as_str);
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[69], &said);
}

#[test]
fn a_client_moves_to_the_node_that_is_left() {
    let (mut first, mut second) = (Broker::start(), Broker::start());
    let pair = Pair::paired(&first, "gcm");
    let hosts = format!("host=127.0.0.1:{}, 127.0.0.1:{}", first.port(), second.port());
    let receiver = pair.slave.listen(&["-o", &hosts, "-o", "port="]);
    let on_first = receiver.stderr().contains(&format!("connected to 127.0.0.1:{}", first.port()));
    let (used, left) = if on_first { (&mut first, &mut second) } else { (&mut second, &mut first) };
    used.kill();
    receiver.wait_for(&format!("connected to 127.0.0.1:{}", left.port()));
    receiver.wait_for("connected again");
}

/// A link to the broker at `port` that can go mute: what was connected is cut, and what is accepted then hears nothing.
struct Relay {
    server: Server,
    is_mute: Arc<AtomicBool>,
    carried: Arc<Mutex<Vec<TcpStream>>>,
    /// What it leaves without an answer.
    kept: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(port: u16) -> Self {
        let (is_mute, carried, kept) = <(Arc<AtomicBool>, Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>)>::default();
        let (mute, carry_too, keep) = (Arc::clone(&is_mute), Arc::clone(&carried), Arc::clone(&kept));
        let server = Server::start(move |_, stream| {
            if mute.load(Ordering::SeqCst) {
                keep.lock().unwrap().push(stream);
            } else {
                carry_too.lock().unwrap().push(stream.try_clone().unwrap());
                carry(stream, port);
            }
        });
        Self { server, is_mute, carried, kept }
    }

    fn port(&self) -> u16 {
        self.server.port()
    }

    fn go_mute(&self) {
        self.is_mute.store(true, Ordering::SeqCst);
        for stream in self.carried.lock().unwrap().drain(..) {
            // Those of runs that have ended are closed already.
            stream.shutdown(Shutdown::Both).ok();
        }
    }
}

/// How long a connection has to last, and longer, so that its node is tried first after it.
const STABLE: Duration = Duration::from_secs(6);

/// The node that was good is tried first, and is left because it says nothing.
#[test]
fn a_node_that_goes_mute_is_left_over_tls_and_web_socket() {
    let authority = Authority::new();
    let secure = tls::with(&authority.sign("broker", Kind::Good), "");
    let running =
        [("ws://", "protocol websockets\n", "/mqtt"), ("mqtts://", &*secure, "")].map(|(scheme, lines, path)| {
            let broker =
                Broker::listening(Options::default(), |_, [port, _]| format!("listener {port} 127.0.0.1\n{lines}"));
            let relays = [(); 2].map(|()| Relay::start(broker.web_port()));
            let nodes = relays.each_ref().map(|relay| format!("localhost:{}", relay.port()));
            let pair = pair_over(&format!("{scheme}{}{path}", nodes.join(",")), &authority);
            pair.agree();
            let receiver = pair.slave.listen(&["--once"]);
            (broker, relays, nodes, pair, receiver)
        });
    sleep(STABLE);
    let running = running.map(|(broker, relays, nodes, pair, receiver)| {
        let used = usize::from(!receiver.stderr().contains(&format!("connected to {}", nodes[0])));
        relays[used].go_mute();
        (broker, relays, nodes, pair, receiver, used)
    });
    for (_broker, relays, nodes, pair, receiver, used) in running {
        receiver.wait_for(&format!("connected to {}", nodes[1 - used]));
        receiver.wait_for("connected again");
        assert!(!relays[used].kept.lock().unwrap().is_empty(), "it was tried first");
        pair.master.send_all(&[], "around\n").succeeded();
        receiver.wait().succeeded().wrote(b"around\n");
    }
}

#[test]
fn a_node_with_a_certificate_that_expired_is_passed() {
    let authority = Authority::new();
    let brokers = [Kind::Expired, Kind::Good]
        .map(|kind| Broker::with_lines(Options::default(), &tls::with(&authority.sign("broker", kind), "")));
    let nodes = brokers.each_ref().map(|broker| format!("localhost:{}", broker.port()));
    let pair = pair_over(&format!("mqtts://{}", nodes.join(",")), &authority);
    pair.agree();
    // A random node is tried first.
    for _ in 0..6 {
        pair.carries(&[], b"around\n");
    }
    assert_eq!(brokers[0].times_logged("New client connected"), 0);
}

#[test]
fn a_cluster_without_an_acceptable_certificate_is_told_node_by_node_with_what_to_do() {
    let authority = Authority::new();
    let brokers = [Kind::Expired, Kind::Of("other.example")]
        .map(|kind| Broker::with_lines(Options::default(), &tls::with(&authority.sign("broker", kind), "")));
    let [expired, foreign] = brokers.each_ref().map(|broker| format!("localhost:{}", broker.port()));
    let device = tls::device(brokers[0].port(), &[("ca_file", tls::text(&authority.file()))]);
    let said = [
        format!("{expired}: the broker's certificate expired on 2004-05-06"),
        format!("{foreign}: the broker's certificate is for other.example, not for localhost"),
        format!("{expired}: renew the certificate on the broker"),
        format!("{foreign}: set `host`"),
    ];
    let url = format!("url=mqtts://{expired},{foreign}");
    device.send_all(&["-o", "port=", "-o", &url], "x\n").failed(&[69], &said.each_ref().map(String::as_str));
}
