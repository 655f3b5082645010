//! Claim: whatever carries MQTT, the tools do what they do over TCP; and where it cannot be reached, the reason says what to
//! change.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::net::UnixListener;

use crate::broker::Broker;
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};
use crate::server::{Server, read_once};

#[test]
fn every_transport_carries_a_pairing_and_a_stream() {
    let broker = Broker::on_all_transports();
    for url in broker.urls() {
        let pair = Pair::enrolled_over(&url, "gcm");
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
    let mut broker = Broker::on_all_transports();
    for url in broker.urls() {
        let pair = Pair::enrolled_over(&url, "gcm");
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
    let broker = Broker::on_all_transports();
    let [plain, web, _] = broker.urls();
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
