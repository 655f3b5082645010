//! Claim: a run that waited in vain says for what, even with `-q`: what listens at the broker's port, if anything; whether
//! the broker or the receiver was silent; or that permissions may be missing. Each error says what to check.

use std::io::Write;
use std::net::TcpStream;

use crate::broker::{Broker, Options};
use crate::device::{LINK, M2S, Pair, S2M};
use crate::process::{Ended, Process};
use crate::server::{CONNACK, PINGRESP, Server, read_once, read_packet};

/// Runs each tool with `-q` against what listens on this port, until its timeout.
fn each_tool(port: u16, timeout: &str) -> [Ended; 3] {
    let pair = Pair::enrolled_at(port, "gcm");
    let quiet = ["-q", "--timeout", timeout];
    let plain = [&quiet[..], &["-o", "sts_mode=nosec", "-o", "aes=null", LINK]].concat();
    [
        Process::spawn_with(pair.master.send(&plain), "x\n"),
        Process::spawn(pair.slave.recv(&plain)),
        Process::spawn(pair.master.pair(&[&quiet[..], &[LINK]].concat())),
    ]
    .map(Process::wait)
}

/// A server that reads what the client sends first, answers, and closes the connection.
fn answering(answer: &'static [u8]) -> Server {
    Server::start(move |_, mut stream| {
        read_once(&mut stream);
        stream.write_all(answer).ok();
    })
}

#[test]
fn what_is_no_broker_is_named() {
    let cases: [(&[u8], &[&str]); 5] = [
        (b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", &["HTTP", "400 Bad Request", "web server", "1883"]),
        (&[0x15, 3, 3, 0, 2, 2, 70], &["TLS alert", "url = mqtts://127.0.0.1:"]),
        (b"SSH-2.0-OpenSSH_9.2\r\n", &["SSH-2.0-OpenSSH_9.2"]),
        (b"", &["without an answer to CONNECT", "1883"]),
        // A broker that is unavailable: the only one of these that refuses.
        (&[0x20, 2, 0, 3], &["CONNACK 3"]),
    ];
    for (answer, said) in cases {
        let server = answering(answer);
        for ended in each_tool(server.port(), "3") {
            let ended = ended.failed(&[69], said).failed(&[69], &["no connection to the broker", "127.0.0.1:"]);
            assert!(!ended.stderr.contains("did not accept"), "{}", ended.stderr);
            let lines: Vec<_> = ended.stderr.lines().collect();
            assert!(lines.len() == 1 || (lines.len() == 2 && lines[1].contains(": hint: ")), "{}", ended.stderr);
        }
    }
}

#[test]
fn what_a_broker_closes_the_connection_at_is_named() {
    let at_connect = answering(b"");
    let pair = Pair::enrolled_at(at_connect.port(), "gcm");
    let options = ["--timeout", "5", "-o", "username=sensor", LINK];
    let ended = Process::spawn(pair.master.pair(&options)).wait();
    ended.failed(&[69], &["3 times in a row at CONNECT", "\"sensor\"", "`password`", "waiting for the broker"]);

    let at_subscribe = Server::start(move |_, mut stream| {
        read_once(&mut stream);
        stream.write_all(&CONNACK).ok();
        read_once(&mut stream);
    });
    let pair = Pair::enrolled_at(at_subscribe.port(), "gcm");
    let ended = Process::spawn(pair.master.pair(&["--timeout", "5", LINK])).wait();
    let said = [&format!("3 times in a row when {S2M:?} was subscribed"), "check `subtop`", "a connection that lasts"];
    let ended = ended.failed(&[69], &said);
    assert!(ended.stderr.matches("connected again").count() < 3, "{}", ended.stderr);
}

/// As the broker of AWS does, which ends the connection where others refuse.
#[test]
fn a_topic_for_which_the_broker_ends_the_connection_ends_the_run_and_is_named() {
    let server = || {
        Server::start(|_, mut stream| {
            while let Some(first) = read_packet(&mut stream) {
                let answer: &[u8] = match first {
                    0x10 => &[0x20, 3, 0, 0, 0],
                    0x82 => &[0xe0, 1, 0x87],
                    _ => &PINGRESP,
                };
                if stream.write_all(answer).is_err() || first == 0x82 {
                    return;
                }
            }
        })
    };
    let servers = [(); 2].map(|()| server());
    let [master, slave] = servers.each_ref().map(|server| Pair::enrolled_at(server.port(), "gcm"));
    let options = ["-o", "mqtt_version=5", "--timeout", "60", LINK];
    let plain = [&["-o", "sts_mode=nosec", "-o", "aes=null"], &options[..]].concat();
    let tools = [(Process::spawn(master.master.pair(&options)), S2M), (Process::spawn(slave.slave.recv(&plain)), M2S)];
    for (tool, topic) in tools {
        let refused = format!("the broker refused the subscription to {topic:?}: not authorized (DISCONNECT 0x87)");
        let ended = tool.wait().failed(&[69], &[&refused, "hint: check `subtop`"]);
        // At the first time, and as the reason of the end.
        assert_eq!(ended.stderr.matches(&refused).count(), 2, "{}", ended.stderr);
        assert!(!ended.stderr.contains("waiting for"), "{}", ended.stderr);
    }
}

#[test]
fn what_says_nothing_is_named() {
    let mut kept: Vec<TcpStream> = Vec::new();
    let server = Server::start(move |_, stream| kept.push(stream));
    for ended in each_tool(server.port(), "1") {
        ended.failed(&[69], &["connected, but no answer yet to CONNECT", "1883"]);
    }
    // And what is spoken below MQTT.
    let port = server.port();
    let pair = Pair::enrolled_over("mqtt://broker.example", "gcm");
    for (options, said) in [
        (vec![format!("url=mqtts://localhost:{port}")], format!("localhost:{port}: ")),
        (vec![format!("url=ws://127.0.0.1:{port}/mqtt")], format!("127.0.0.1:{port}: ")),
        (vec![format!("url=wss://localhost:{port}/mqtt")], format!("localhost:{port}: ")),
        (vec![format!("proxy=socks5://127.0.0.1:{port}")], format!("broker.example:1883 through 127.0.0.1:{port}: ")),
        (vec![format!("proxy=http://127.0.0.1:{port}")], format!("broker.example:1883 through 127.0.0.1:{port}: ")),
    ] {
        let options: Vec<_> = options.iter().flat_map(|option| ["-o", option]).collect();
        let ended =
            Process::spawn(pair.master.pair(&[&["-q", "--timeout", "1"], &options[..], &[LINK]].concat())).wait();
        ended.failed(&[69], &[&format!("{said}connected, but no answer yet"), "hint: "]);
    }
}

#[test]
fn a_name_that_is_none_is_named() {
    let pair = Pair::enrolled_at(1, "gcm");
    let options = ["-q", "--timeout", "2", "-o", "ip=no-such-host.invalid", LINK];
    let ended = Process::spawn(pair.master.pair(&options)).wait();
    ended.failed(&[69], &["no-such-host.invalid:1: ", "lookup", "check `host`"]);
}

#[test]
fn a_connection_that_is_stopped_says_what_it_waited_for() {
    let server = answering(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    let pair = Pair::enrolled_at(server.port(), "gcm");
    let tool = Process::spawn(pair.master.pair(&[LINK]));
    tool.wait_for("waiting for the broker");
    tool.stop().failed(&[75], &["stopped by a signal", "no connection to the broker", "HTTP"]);
}

#[test]
fn a_timeout_of_confirm_says_who_was_missing() {
    let confirm = ["-q", "--confirm", "--timeout", "2"];
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let said = ["timed out", "1 message", "sts-recv on gateway does not confirm anything"];

    // There is no receiver.
    pair.master.send_all(&confirm, "x\n").failed(&[75], &said).failed(&[75], &["hint: run sts-recv on gateway"]);
    // The same with a spool, where the error names the spool. With -q it would say nothing, as nothing is lost.
    let spool = [&confirm[1..], &["--spool", "spool"]].concat();
    pair.master.send_all(&spool, "x\n").failed(&[75], &said).failed(&[75], &["left in the spool"]);

    // This broker acknowledges what we are not allowed to publish, and drops it.
    let strict = Broker::with(Options { acl: Some("topic read m2s\ntopic readwrite s2m"), ..Options::default() });
    let port = format!("port={}", strict.port());
    let receiver = pair.slave.listen(&["-o", &port]);
    let ended = pair.master.send_all(&[&confirm[..], &["-o", &port]].concat(), "x\n").failed(&[75], &said);
    ended.failed(&[75], &["permissions", "publish on m2s", "receive on s2m"]);
    receiver.stop();

    // The receiver has confirmed something, so no permissions are missing.
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--confirm", "--timeout", "4", LINK]));
    sender.write("first\n");
    receiver.wait_for_stdout(b"first\n");
    receiver.stop();
    sender.write("second\n");
    sender.close_stdin();
    let ended = sender.wait().failed(&[75], &["sts-recv on gateway", "has stopped"]);
    assert!(!ended.stderr.contains("permissions"), "{}", ended.stderr);
}

#[test]
fn a_broker_that_hangs_is_who_was_missing() {
    for options in [&["--timeout", "2"][..], &["--confirm", "--timeout", "2"]] {
        let broker = Broker::start();
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&[]);
        let mut sender = Process::spawn(pair.master.send(&[options, &[LINK]].concat()));
        sender.write("first\n");
        receiver.wait_for_stdout(b"first\n");
        broker.pause();
        sender.write("second\n");
        sender.close_stdin();
        sender.wait().failed(&[75], &["the broker at 127.0.0.1:", "does not acknowledge anything"]);
    }
}

/// The keys are deleted all the same, and the next run says what is left to do.
#[test]
fn an_end_that_is_not_told_says_what_is_wrong_with_the_broker() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let server = answering(b"HTTP/1.0 400 Bad Request\r\n\r\n");
    let elsewhere = format!("port={}", server.port());
    let end = || Process::spawn(pair.master.pair(&["-q", "--timeout", "3", "-o", &elsewhere, "--end", LINK])).wait();
    end().failed(&[69], &["HTTP", "hint: ", "web server", "1883"]);
    end().failed(&[75], &["no session", "hint: the other device may not know"]);
}
