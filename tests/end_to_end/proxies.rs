//! Claim: the tools work through a proxy, which looks the broker's name up; a refusal says whose it is, and no password is shown.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use crate::broker::{Broker, Options};
use crate::certificates::{Authority, Kind};
use crate::device::{Device, Identity, LINK, Pair, readings};
use crate::process::Process;
use crate::server::{Server, carry};

/// The only login that the proxies of this file accept.
pub(crate) const LOGIN: &str = "carrier:pigeon";

/// A proxy for SOCKS5 that knows one name, `broker.inside`, and wants a login.
pub(crate) fn socks5(port: u16) -> Server {
    Server::start(move |_, mut stream| {
        let mut take = |count: usize| {
            let mut bytes = vec![0; count];
            stream.read_exact(&mut bytes).map(|()| bytes)
        };
        let Ok(head) = take(2) else { return };
        let methods = take(head[1].into()).unwrap();
        if !methods.contains(&2) {
            let _ = stream.write_all(&[5, 0xff]);
            return;
        }
        stream.write_all(&[5, 2]).unwrap();
        let field = |stream: &mut TcpStream| {
            let mut len = [0];
            stream.read_exact(&mut len).unwrap();
            let mut field = vec![0; len[0].into()];
            stream.read_exact(&mut field).unwrap();
            String::from_utf8(field).unwrap()
        };
        stream.read_exact(&mut [0]).unwrap();
        let login = format!("{}:{}", field(&mut stream), field(&mut stream));
        stream.write_all(&[1, u8::from(login != LOGIN)]).unwrap();
        if login != LOGIN {
            return;
        }
        let mut request = [0; 4];
        stream.read_exact(&mut request).unwrap();
        assert_eq!(request, [5, 1, 0, 3], "a name");
        let known = field(&mut stream) == "broker.inside";
        stream.read_exact(&mut [0; 2]).unwrap();
        stream.write_all(&[5, if known { 0 } else { 4 }, 0, 1, 0, 0, 0, 0, 0, 0]).unwrap();
        if known {
            carry(stream, port);
        }
    })
}

/// The same for HTTP.
pub(crate) fn http(port: u16) -> Server {
    Server::start(move |_, mut stream| {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            request.extend(byte);
        }
        let request = String::from_utf8(request).unwrap();
        let status = if !request.contains("Proxy-Authorization: Basic Y2FycmllcjpwaWdlb24=\r\n") {
            "407 Proxy Authentication Required"
        } else if request.starts_with("CONNECT broker.inside:1883 HTTP/1.1\r\n") {
            "200 OK"
        } else {
            "502 Bad Gateway"
        };
        let _ = write!(stream, "HTTP/1.1 {status}\r\n\r\n");
        if status == "200 OK" {
            carry(stream, port);
        }
    })
}

/// Has both ends reach the broker through this proxy.
fn behind(pair: &Pair, proxy: &str, host: &str) {
    pair.reach(&[("host", host), ("proxy", proxy)], "gcm");
}

#[test]
fn a_pairing_and_a_stream_pass_each_kind_of_proxy() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    for (scheme, proxy) in [("socks5", socks5(broker.port())), ("http", http(broker.port()))] {
        behind(&pair, &format!("{scheme}://{LOGIN}@127.0.0.1:{}", proxy.port()), "broker.inside");
        pair.agree();
        pair.carries(&[], &readings(3_000));
    }
}

#[test]
fn web_socket_is_with_the_broker_through_the_proxy() {
    let broker = Broker::listening(Options::default(), |_, [port, _]| {
        format!("listener {port} 127.0.0.1\nprotocol websockets\n")
    });
    let pair = Pair::enrolled(&broker, "gcm");
    for (scheme, proxy) in [("socks5", socks5(broker.web_port())), ("http", http(broker.web_port()))] {
        let proxy = format!("{scheme}://{LOGIN}@127.0.0.1:{}", proxy.port());
        pair.reach(&[("url", "ws://broker.inside:1883/mqtt"), ("proxy", &proxy)], "gcm");
        pair.agree();
        pair.carries(&["--confirm"], &readings(1_000));
    }
}

#[test]
fn tls_is_with_the_broker_through_the_proxy() {
    let authority = Authority::new();
    let files = authority.sign("broker", Kind::Of("broker.inside"));
    let lines = format!("certfile {}\nkeyfile {}\n", files.cert.display(), files.key.display());
    let broker = Broker::with_lines(Options::default(), &lines);
    let proxy = socks5(broker.port());
    let place = format!("socks5://{LOGIN}@127.0.0.1:{}", proxy.port());
    let ca = authority.file();
    let lines = [("sts_mode", "nosec"), ("subtop", "t"), ("pubtop", "t"), ("url", "mqtts://broker.inside:8883")];
    let more = [("proxy", place.as_str()), ("ca_file", ca.to_str().unwrap())];
    let device = Device::configured(Identity::Station, &[&lines[..], &more].concat());
    let receiver = device.listen(&["-n", "1"]);
    device.send_all(&[], "named by the certificate\n").succeeded();
    receiver.wait().succeeded().wrote(b"named by the certificate\n");
}

#[test]
fn what_a_proxy_refuses_is_told_without_the_password() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let fails = |proxy: &str, host: &str, said: &[&str]| {
        behind(&pair, proxy, host);
        let ended = Process::spawn(pair.master.pair(&["-v", "--timeout", "1", LINK])).wait().failed(&[69], said);
        assert!(!ended.stderr.contains("pigeon") && !ended.stderr.contains("hawk"), "{}", ended.stderr);
    };
    for (scheme, proxy) in [("socks5", socks5(broker.port())), ("http", http(broker.port()))] {
        let place = format!("127.0.0.1:{}", proxy.port());
        let through = format!("broker.inside:1883 through 127.0.0.1:{}: the proxy", proxy.port());
        fails(&format!("{scheme}://{place}"), "broker.inside", &[&through, "login", "check the login in `proxy`"]);
        fails(&format!("{scheme}://carrier:hawk@{place}"), "broker.inside", &[&through, "check the login in `proxy`"]);
        fails(&format!("{scheme}://{LOGIN}@{place}"), "outside", &["outside:1883", "check `host` and `port`"]);
    }
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let said = ["no connection to the proxy: Connection refused", "check `proxy`"];
    fails(&format!("socks5://{LOGIN}@{closed}"), "broker.inside", &said);
}

#[test]
fn a_proxys_password_is_treated_as_the_brokers() {
    let pair = Pair::enrolled_at(1, "gcm");
    let option = format!("proxy=socks5://{LOGIN}@127.0.0.1:1");
    let ended = Process::spawn(pair.master.pair(&["-o", &option, LINK])).wait();
    let ended = ended.failed(&[64], &["every user of this machine can see command lines"]);
    assert!(!ended.stderr.contains("pigeon"), "{}", ended.stderr);
    behind(&pair, &format!("socks5://{LOGIN}@127.0.0.1:1"), "b");
    let text = std::fs::read(pair.master.config_dir().join("gateway.conf")).unwrap();
    pair.master.write("gateway.conf", text, 0o644);
    let said = ["other users can read the password"];
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[69], &said);
}

#[test]
fn the_broker_sees_the_local_address_that_was_chosen() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.master.send_all(&["-o", "bind_address=127.0.0.9"], "from elsewhere\n").succeeded();
    broker.wait_for_log("New client connected from 127.0.0.9:", 1);
}
