//! Claim: a broker that is unreachable, restarts, hangs or disconnects its clients costs time, but no data is lost
//! without a report.

use crate::broker::{Broker, Options};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, wait_until};

/// Keeps its sessions and queues over an orderly restart.
const KEEPING: Options = Options {
    login: None,
    deny_subscriptions: false,
    max_packet_size: None,
    message_size_limit: None,
    persistence: true,
    unlimited_queue: true,
};

#[test]
fn restarts_under_load_lose_and_repeat_nothing() {
    let mut broker = Broker::with(KEEPING);
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let input = readings(100_000);
    // Small messages, so that there is a load to restart under.
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
    let mut broker = Broker::with(Options { unlimited_queue: true, ..Options::default() });
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

    // In order, nothing twice, nothing that was not sent; and if anything is missing, it is said.
    let mut sent = input.split_inclusive(|&byte| byte == b'\n');
    for line in got.stdout.split_inclusive(|&byte| byte == b'\n') {
        assert!(sent.any(|candidate| candidate == line), "out of order, or repeated: {}", line.escape_ascii());
    }
    if got.stdout == input {
        got.succeeded();
    } else {
        // 75: the end of the stream is among what is missing, and never came.
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
fn a_broker_that_stays_down_is_a_failure_in_the_end() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    let port = broker.port().to_string();
    Process::spawn_with(pair.master.send(&["--timeout", "1", LINK]), "lost\n").wait().failed(&[69, 75], &[&port]);
    Process::spawn(pair.master.pair(&["--timeout", "1", LINK])).wait().failed(&[69, 75], &[&port]);
}

#[test]
fn a_broker_that_hangs_is_a_timeout() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["--timeout", "2", LINK]));
    sender.write("first\n");
    broker.wait_for_log("Sending PUBACK to", 1);
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
    // More than any window: it must be left in the pipe, and all of it must arrive later.
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
    // With -q nothing is said before the last line.
    let receiver = Process::spawn(pair.slave.recv(&[&["-q"], &without_client_id[..], &[LINK]].concat()));
    broker.wait_for_log("Sending SUBACK", subscribed + 1);
    pair.master.send_all(&[], "third\n").succeeded();
    let ended = receiver.wait().failed(&[65], &["data was lost: no messages of stream 1 ", "with a `clientid`"]);
    assert_eq!(ended.wrote(b"third\n").stderr.lines().count(), 2);
}
