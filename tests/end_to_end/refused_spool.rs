//! Claim: what the broker refuses, or the end of the session, does not end a run of sts-send with `--spool` before its input has
//! ended: what a slow program writes later is in the spool, and the exit status says what went wrong.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::broker::{Broker, Options};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};
use crate::server::{Server, carry, read_once, read_packet};
use crate::spool::spooled;

const REFUSED: &str = "the broker refused the connection";
const WAITS: &str = "meanwhile, input waits in the spool";

/// Has the broker accept clients without a login, or refuse them.
fn admit(broker: &mut Broker, clients: bool) {
    let path = broker.dir().join("mosquitto.conf");
    let text = fs::read_to_string(&path).unwrap();
    let (before, now) = (format!("allow_anonymous {}", !clients), format!("allow_anonymous {clients}"));
    assert!(text.contains(&before), "{text}");
    fs::write(&path, text.replace(&before, &now)).unwrap();
    broker.restart();
}

/// Two devices and their broker, which refuses them from now on.
fn refusing() -> (Broker, Pair) {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    admit(&mut broker, false);
    (broker, pair)
}

#[test]
fn a_refused_run_keeps_what_it_is_given_later() {
    let (mut broker, pair) = refusing();
    let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
    sender.wait_for(WAITS);
    broker.wait_for_log("New connection", 3);
    sender.write("one\n");
    let ended =
        sender.wait().failed(&[69], &["left in the spool", "1 message (4 bytes)", "hint: the broker may require"]);
    assert_eq!(ended.stderr.matches(REFUSED).count(), 2, "once while it waits, and at its end: {}", ended.stderr);
    assert!(!ended.stderr.contains("waiting for the broker"), "{}", ended.stderr);

    admit(&mut broker, true);
    let receiver = pair.slave.listen(&["--once"]);
    pair.master.send_all(&["--spool", "spool"], "two\n").succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\n");
}

#[test]
fn a_refusal_that_is_over_is_forgotten() {
    let (mut broker, pair) = refusing();
    let mut sender = Process::spawn(pair.master.send(&spooled(&[])));
    sender.wait_for(WAITS);
    sender.write("one\n");
    sender.wait_until_read();
    admit(&mut broker, true);
    sender.wait_until_acknowledged(4);
    admit(&mut broker, false);
    sender.wait_for_times(WAITS, 2);
    admit(&mut broker, true);
    sender.wait_for_times("connected again", 2);
    sender.write("two\n");
    sender.wait().succeeded();
}

#[test]
fn a_signal_ends_a_refused_run_at_once() {
    let (_broker, pair) = refusing();
    let mut sender = Process::spawn(pair.master.send(&spooled(&["-q"])));
    sender.write("one\n");
    sender.wait_until_read();
    sender.signal(Signal::TERM);
    let ended = sender.wait().failed(&[69], &[REFUSED, "left in the spool", "1 message (4 bytes)"]);
    assert!(!ended.stderr.contains(WAITS), "{}", ended.stderr);
}

#[test]
fn a_full_spool_is_no_reason_to_end_a_refused_run() {
    let (mut broker, pair) = refusing();
    let input = readings(20_000);
    let full = ["--spool-max", "100k", "-o", "max_message=4000"];
    let sender = Process::spawn_with(pair.master.send(&spooled(&full)), input.clone());
    sender.wait_for(WAITS);
    sender.wait_until_blocked();
    admit(&mut broker, true);
    let receiver = pair.slave.listen(&["--once"]);
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn a_full_spool_and_a_timeout_end_a_refused_run() {
    let (_broker, pair) = refusing();
    let full = ["--timeout", "1", "--spool-max", "100k", "-o", "max_message=4000"];
    let sender = Process::spawn_with(pair.master.send(&spooled(&full)), readings(20_000));
    sender.wait().failed(&[65, 69], &[REFUSED, "timed out", "left in the spool"]);
}

/// Its session is deleted while it runs. One that is agreed after that is used by the same run.
#[test]
fn a_run_whose_session_is_gone_keeps_what_it_is_given_later() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&spooled(&["--confirm"])));
    sender.write("first\n");
    receiver.wait_for_stdout(b"first\n");
    sender.wait_until_acknowledged("first\n".len());
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    // To the receiver, the stream has no end.
    receiver.stop().failed(&[0, 65], &[]);
    // Until it has noticed, it sends under the deleted session, which nobody confirms.
    let mut unconfirmed = String::new();
    wait_until("the sender to notice that its session is gone", || {
        let line = format!("{}\n", unconfirmed.len());
        sender.write(&line);
        unconfirmed += &line;
        sender.stderr().contains(WAITS)
    });
    assert!(sender.stderr().contains("no session"), "{}", sender.stderr());
    sender.wait_until_read();
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    receiver.wait_for_stdout(unconfirmed.as_bytes());
    sender.wait_until_acknowledged("first\n".len() + unconfirmed.len());
    sender.wait().succeeded();
    receiver.stop().succeeded().wrote(unconfirmed.as_bytes());
}

#[test]
fn a_run_whose_topic_is_refused_keeps_what_it_is_given_later() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let denying = Broker::with(Options { deny_subscriptions: true, ..Options::default() });
    let port = format!("port={}", denying.port());
    let mut sender = Process::spawn(pair.master.send(&spooled(&["--confirm", "-o", &port])));
    sender.wait_for(WAITS);
    sender.write("one\n");
    sender.wait().failed(&[69], &["the broker refused the subscription", "left in the spool", "1 message (4 bytes)"]);
    // The refused run had come to the end of its input: what the next one reads is another sequence.
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--spool", "spool", "--confirm"], "two\n").succeeded();
    receiver.stop().succeeded().wrote(b"one\ntwo\n");
}

/// The broker refuses the login, and then is away.
#[test]
fn a_refused_run_whose_input_ends_in_an_outage_waits_for_the_broker() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let (attempts, is_back) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (port, counted, back) = (broker.port(), Arc::clone(&attempts), Arc::clone(&is_back));
    let relay = Server::start(move |number, mut stream| {
        counted.store(number + 1, Ordering::SeqCst);
        if number == 0 {
            read_once(&mut stream);
            stream.write_all(&[0x20, 2, 0, 5]).unwrap();
        } else if back.load(Ordering::SeqCst) {
            carry(stream, port);
        }
    });
    let through = format!("port={}", relay.port());
    let mut sender = Process::spawn(pair.master.send(&spooled(&["-o", &through])));
    sender.wait_for(WAITS);
    let wait_for_attempts = |more: usize| {
        let least = attempts.load(Ordering::SeqCst) + more;
        wait_until("attempts to connect", || attempts.load(Ordering::SeqCst) >= least);
    };
    wait_for_attempts(2);
    sender.write("one\n");
    sender.close_stdin();
    wait_for_attempts(2);
    is_back.store(true, Ordering::SeqCst);
    let receiver = pair.slave.listen(&["--once"]);
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"one\n");
}

#[test]
fn a_run_whose_session_is_deleted_ends_once_its_input_has_ended() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&spooled(&["--confirm"])));
    let published = broker.times_logged("Received PUBLISH from station-send");
    sender.write("one\n");
    broker.wait_for_log("Received PUBLISH from station-send", published + 1);
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    sender.close_stdin();
    sender.wait().failed(&[75], &["the session is gone", "left in the spool", "1 message (4 bytes)", "sts-pair"]);
}

/// The receiver leaves after the last line that it wants, and then nobody confirms the end of the input.
#[test]
fn a_refused_run_that_has_delivered_all_succeeds() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["-n", "1"]);
    let mut sender = Process::spawn(pair.master.send(&spooled(&["--confirm"])));
    sender.write("one\n");
    receiver.wait().succeeded().wrote(b"one\n");
    sender.wait_until_acknowledged(4);
    admit(&mut broker, false);
    sender.wait_for(WAITS);
    let ended = sender.wait().succeeded();
    assert!(
        ended.stderr.contains("all that was read was delivered, but not the end of the stream"),
        "{}",
        ended.stderr
    );
}

/// Answers each SUBSCRIBE of a connection of MQTT 5 with DISCONNECT, for its quota; counts them.
fn disconnect_at_subscribe(mut stream: TcpStream, refused: &AtomicUsize) {
    while let Some(first) = read_packet(&mut stream) {
        if first >> 4 == 1 {
            stream.write_all(&[0x20, 3, 0, 0, 0]).unwrap();
        } else if first >> 4 == 8 {
            stream.write_all(&[0xe0, 1, 0x97]).unwrap();
            refused.fetch_add(1, Ordering::SeqCst);
            return;
        }
    }
}

#[test]
fn a_connection_that_ends_at_each_subscription_is_reported_once() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let (refused, grants) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (port, counted, granting) = (broker.port(), Arc::clone(&refused), Arc::clone(&grants));
    let relay = Server::start(move |_, stream| {
        if granting.load(Ordering::SeqCst) {
            carry(stream, port);
        } else {
            disconnect_at_subscribe(stream, &counted);
        }
    });
    let through = format!("port={}", relay.port());
    let options = ["-o", "mqtt_version=5", "-o", &through, "--confirm", LINK];
    let sender = Process::spawn_with(pair.master.send(&options), "one\n");
    wait_until("three refusals", || refused.load(Ordering::SeqCst) >= 3);
    grants.store(true, Ordering::SeqCst);
    let ended = sender.wait().succeeded();
    for once in ["refused the subscription", "hint: check `subtop`", "connected again"] {
        assert!(ended.stderr.matches(once).count() == 1, "{}", ended.stderr);
    }
    receiver.wait().succeeded().wrote(b"one\n");
}
