//! Claim: a broker that is unreachable, restarts, hangs or disconnects its clients costs time, but no data is lost
//! without a report.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};
use crate::server::{CONNACK, PINGRESP, Server, carry, read_for, read_once, reset};

/// Keeps its sessions and queues across a clean restart.
const KEEPING: Options = Options {
    login: None,
    deny_subscriptions: false,
    max_packet_size: None,
    message_size_limit: None,
    persistence: true,
    acl: None,
    queue: Queue::Unlimited,
};

#[test]
fn restarts_under_load_lose_and_repeat_nothing() {
    let mut broker = Broker::with(KEEPING);
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let input = readings(100_000);
    // Small messages, so that the broker is restarted under load.
    let mut sender = Process::spawn_with(pair.master.send(&["-o", "max_message=2000", LINK]), input.clone());
    for part in 1..=3 {
        let enough = input.len() / 5 * part;
        wait_until("a part to arrive", || receiver.stdout().len() >= enough || !sender.is_running());
        broker.restart();
    }
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn what_a_forgetful_broker_loses_is_reported() {
    let mut broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once", "--timeout", "5"]);
    let input = readings(50_000);
    let mut sender = Process::spawn_with(pair.master.send(&["-o", "max_message=2000", LINK]), input.clone());
    for part in 1..=3 {
        let enough = input.len() / 10 * part;
        wait_until("a part to arrive", || receiver.stdout().len() >= enough || !sender.is_running());
        broker.kill();
        broker.start_again();
    }
    sender.wait().succeeded();
    let got = receiver.wait();

    // The output is in order, without duplicates, and contains only what was sent; anything missing is reported.
    let mut sent = input.split_inclusive(|&byte| byte == b'\n');
    for line in got.stdout.split_inclusive(|&byte| byte == b'\n') {
        assert!(sent.any(|candidate| candidate == line), "out of order, or repeated: {}", line.escape_ascii());
    }
    if got.stdout == input {
        got.succeeded();
    } else {
        // 75 if the end of the stream is missing, too.
        got.failed(&[65, 75], &["stream"]);
    }
}

#[test]
fn a_broker_that_is_down_at_the_start_is_waited_for() {
    let mut broker = Broker::with(KEEPING);
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    broker.stop();
    let sender = Process::spawn_with(pair.master.send(&[LINK]), "patience\n");
    let port = broker.port().to_string();
    sender.wait_for(&port);
    broker.start_again();
    let sender = sender.wait().succeeded();
    let said = sender.stderr.lines().filter(|line| line.contains(&port)).count();
    assert_eq!(said, 1, "{}", sender.stderr);
    Process::spawn(pair.slave.recv(&["-1", LINK])).wait().succeeded().wrote(b"patience\n");
}

#[test]
fn a_broker_that_stays_down_is_unavailable_in_the_end() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let port = broker.port().to_string();
    let said = [port.as_str(), "no connection to the broker", "refused"];
    for options in [&["--timeout", "1", "-q"][..], &["--timeout", "1", "-n", "3"], &["--timeout", "1", "--once"]] {
        Process::spawn(pair.slave.recv(&[options, &[LINK]].concat())).wait().failed(&[69], &said).wrote(b"");
    }
    pair.master.send_all(&["--timeout", "1"], "lost\n").failed(&[69], &said);
    pair.master.send_all(&["--timeout", "1", "--confirm"], "lost\n").failed(&[69], &said);
    // With a spool nothing is lost: the next run sends it.
    pair.master.send_all(&["--timeout", "1", "--spool", "spool"], "kept\n").failed(&[75], &said);
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[69], &said);
    Process::spawn(pair.slave.pair(&["--timeout", "1", "--code", LINK])).wait().failed(&[69], &said);
    Process::spawn(pair.master.pair(&["--timeout", "1", "--end", LINK])).wait().failed(&[69], &said);
}

#[test]
fn a_broker_that_goes_away_is_unavailable_in_the_end() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--timeout", "5"]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("and then\n");
    receiver.wait_for_stdout(b"and then\n");
    broker.stop();
    receiver.wait().failed(&[69], &["no connection to the broker"]).wrote(b"and then\n");
}

#[test]
fn a_broker_that_accepts_and_says_nothing_is_unavailable() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let pair = Pair::paired(&Broker::start(), "gcm");
    let port = format!("port={}", silent.local_addr().unwrap().port());
    let options = ["--timeout", "1", "-o", &port, LINK];
    let said = ["no connection to the broker", "no answer"];
    Process::spawn(pair.slave.recv(&options)).wait().failed(&[69], &said);
    Process::spawn(pair.master.pair(&options)).wait().failed(&[69], &said);
    Process::spawn_with(pair.master.send(&options), "lost\n").wait().failed(&[69], &said);
}

#[test]
fn a_broker_that_hangs_is_a_timeout() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["--timeout", "2", LINK]));
    sender.write("first\n");
    broker.wait_for_log("Sending PUBACK to station-send-", 1);
    sender.wait_until_acknowledged(6);
    broker.pause();
    sender.write("second\n");
    sender.close_stdin();
    sender.wait().failed(&[75], &[]);
}

#[test]
fn stdin_waits_while_the_broker_does_not_answer() {
    let broker = Broker::with(KEEPING);
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    broker.pause();
    // More than any window: the rest must be left in the pipe, and all of it must arrive later.
    let input = readings(400_000);
    let sender = Process::spawn_with(pair.master.send(&[LINK]), input.clone());
    sender.wait_until_blocked();
    broker.resume();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn thrown_out_by_a_client_with_our_id_we_come_back() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    broker.publish_as("gateway", "elsewhere", b"I have your client id");
    receiver.wait_for_times("listening on", 2);
    pair.master.send_all(&[], "still here\n").succeeded();
    receiver.wait().succeeded().wrote(b"still here\n");
}

/// How long each of the first connections lasts, in milliseconds; later ones do not break.
const SHORT_LIVES: [u64; 5] = [0, 1500, 300, 0, 900];

/// A link to the broker that resets the first connections after CONNACK; `answers_ping` says whether the broker answers
/// PINGREQ before that.
fn flaky_link(broker: &Broker, answers_ping: bool) -> Server {
    let port = broker.port();
    Server::start(move |number, mut stream| match SHORT_LIVES.get(number) {
        None => carry(stream, port),
        Some(millis) => {
            read_once(&mut stream);
            stream.write_all(&CONNACK).unwrap();
            if answers_ping {
                // From the second connection on, the client pings; on the first one, it ignores this unsolicited answer.
                stream.write_all(&PINGRESP).unwrap();
            }
            read_for(&mut stream, Duration::from_millis(*millis));
            reset(stream);
        }
    })
}

#[test]
fn a_link_that_keeps_breaking_is_not_blamed_on_the_message() {
    for answers_ping in [false, true] {
        let broker = Broker::with(KEEPING);
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&["--once"]);
        let link = flaky_link(&broker, answers_ping);
        let port = format!("port={}", link.port());
        pair.master.send_all(&["-o", &port], "a small message\n").succeeded();
        receiver.wait().succeeded().wrote(b"a small message\n");
    }
}

#[test]
fn every_tool_outlives_a_link_that_keeps_breaking() {
    let broker = Broker::with(KEEPING);
    let pair = Pair::enrolled(&broker, "gcm");
    let over = |link: &Server| format!("port={}", link.port());
    let (slave_link, master_link) = (flaky_link(&broker, false), flaky_link(&broker, true));
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "0", "-o", &over(&slave_link), LINK]));
    let master = Process::spawn(pair.master.pair(&["--timeout", "0", "-o", &over(&master_link), LINK]));
    master.wait().succeeded();
    slave.wait().succeeded();
    // Both ends publish: one messages, the other confirms.
    let (slave_link, master_link) = (flaky_link(&broker, true), flaky_link(&broker, true));
    let receiver = pair.slave.listen(&["--once", "-o", &over(&slave_link)]);
    pair.master.send_all(&["--confirm", "-o", &over(&master_link)], "in spite of it\n").succeeded();
    receiver.wait().succeeded().wrote(b"in spite of it\n");
}

#[test]
fn the_last_line_says_what_was_lost_and_what_would_have_kept_it() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let without_client_id = ["--timeout", "2", "-o", "clientid="];
    let receiver = pair.slave.listen(&without_client_id);
    pair.master.send_all(&[], "first\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\n");
    pair.master.send_all(&[], "nobody listens\n").succeeded();
    let subscribed = broker.times_logged("Sending SUBACK");
    // With -q, nothing is printed before the last line.
    let receiver = Process::spawn(pair.slave.recv(&[&["-q"], &without_client_id[..], &[LINK]].concat()));
    broker.wait_for_log("Sending SUBACK", subscribed + 1);
    pair.master.send_all(&[], "third\n").succeeded();
    let ended =
        receiver.wait().failed(&[65], &["data was lost: station, stream 1: message 0 is lost", "set a `clientid`"]);
    assert_eq!(ended.wrote(b"third\n").stderr.lines().count(), 2);
}
