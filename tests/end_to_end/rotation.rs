//! Claim: a failed pairing has no effect, messages from an old queue can still be opened, and the end of a session
//! truncates nothing.

use std::fmt::Write as _;
use std::net::Shutdown;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, S2M, readings};
use crate::hostile::{Fate, HostileBroker, paired};
use crate::process::{Process, wait_until};
use crate::server::{Server, carry};
use crate::sniffer::Sniffer;
use crate::versions::swallow;

/// First bytes of messages, `sts-protocol(7)`, "Header".
const RDYACK: u8 = 0x26;
const ENC: u8 = 0x27;
const KILL: u8 = 0x28;

/// Sends in both directions.
fn carries_both_ways(pair: &Pair, text: &str) {
    let to_slave = pair.slave.listen(&["--once"]);
    let to_master = pair.master.listen(&["--once"]);
    pair.master.send_all(&["--confirm"], text).succeeded();
    pair.slave.send_all(&["--confirm"], text).succeeded();
    to_slave.wait().succeeded().wrote(text.as_bytes());
    to_master.wait().succeeded().wrote(text.as_bytes());
}

/// Pairs once, which may fail; returns the exit statuses of master and slave.
fn attempt(pair: &Pair) -> (i32, i32) {
    let slave = Process::spawn(pair.slave.pair(&["--timeout", "10", LINK]));
    let master = Process::spawn(pair.master.pair(&["--timeout", "10", LINK]));
    (master.wait().status, slave.wait().status)
}

#[test]
fn pairings_whose_last_words_are_lost_push_nothing_out() {
    let (broker, pair) = paired();
    carries_both_ways(&pair, "before\n");

    // Without step 6, the master has no new session, and the slave's one stays pending.
    broker.filter(|_, payload| if payload.first() == Some(&RDYACK) { Fate::Drop } else { Fate::Pass });
    for round in 0..2 {
        assert_eq!(attempt(&pair), (75, 75));
        carries_both_ways(&pair, &format!("without step 6, {round}\n"));
    }

    // Without step 7, the master uses the new session, and its first message makes the slave switch.
    broker.filter(
        |topic, payload| {
            if topic == M2S && payload.first() == Some(&RDYACK) { Fate::Drop } else { Fate::Pass }
        },
    );
    for round in 0..2 {
        assert_eq!(attempt(&pair), (0, 75));
        let to_master = pair.master.listen(&["--once"]);
        pair.slave.send_all(&["--confirm"], "under the old one\n").succeeded();
        to_master.wait().succeeded().wrote(b"under the old one\n");
        carries_both_ways(&pair, &format!("without step 7, {round}\n"));
    }
}

#[test]
fn what_was_queued_three_pairings_ago_still_opens() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    let mut sent = Vec::new();
    for round in 0..4 {
        let lines = [format!("queued before {} pairings\n", 3 - round).into_bytes(), readings(10)].concat();
        pair.master.send_all(&[], lines.clone()).succeeded();
        sent.extend(lines);
        if round < 3 {
            pair.agree();
        }
    }
    let receiver = Process::spawn(pair.slave.recv(&["-n", "44", LINK]));
    receiver.wait().succeeded().wrote(&sent);
}

fn has_no_session(pair: &Pair) {
    for device in [&pair.master, &pair.slave] {
        Process::spawn(device.recv(&[LINK])).wait().failed(&[75], &["no session"]);
        device.send_all(&[], "x\n").failed(&[75], &["no session"]);
    }
}

#[test]
fn an_end_right_behind_data_truncates_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&[], readings(20_000)).succeeded();
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().succeeded().wrote(&readings(20_000));
    has_no_session(&pair);

    // Under new keys, the old KILL is a stranger's message.
    let kill = sniffer.wait_for_type(M2S, KILL, 1).remove(0);
    pair.agree();
    let receiver = pair.slave.listen(&["--once"]);
    broker.publish(M2S, &kill);
    broker.publish(S2M, &kill);
    pair.master.send_all(&["--confirm"], "still paired\n").succeeded();
    receiver.wait().succeeded().wrote(b"still paired\n");
    pair.carries(&[], b"and again\n");
}

/// How each kind of sender ends that is cut off with this exit status of the cause, and what it says.
fn cut_off(cause: i32) -> [(&'static [&'static str], i32, &'static str); 3] {
    [
        (&[], 65, "unacknowledged: "),
        (&["--confirm"], 65, "unacknowledged: "),
        (&["--spool", "spool"], cause, "left in the spool"),
    ]
}

#[test]
fn a_sender_whose_session_ends_says_what_is_lost() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for (args, status, left) in cut_off(75) {
        // It has more to send, as far as this machine is fast enough.
        let mut feed = Command::new("seq").arg("100000000").stdout(Stdio::piped()).spawn().unwrap();
        let receiver = pair.slave.listen(&[]);
        let mut sender = pair.master.send(&[args, &["-v", "-o", "max_message=4000", LINK]].concat());
        sender.stdin(feed.stdout.take().unwrap()).stderr(Stdio::piped());
        let sender = Process::started(sender);
        // What arrives may be of the one before, and this one may not have looked for a session yet.
        sender.wait_for("connected to");
        wait_until("something to arrive", || receiver.written() > 0);
        Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
        if args.contains(&"--spool") {
            sender.wait_for("meanwhile, input waits in the spool");
            feed.kill().unwrap();
        }
        // Which of the two it notices first is a matter of timing, and whether anything waits just then, too.
        let ended = sender.wait().failed(&[status, 75], &["session", "run sts-pair"]);
        assert!(ended.status != status || ended.stderr.contains(left), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("no session") || ended.stderr.contains("the session is gone"),
            "{}",
            ended.stderr
        );
        feed.kill().ok();
        feed.wait().unwrap();
        pair.agree();
    }
}

#[test]
fn a_sender_whose_peer_is_forgotten_says_what_is_lost() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for (args, status, left) in cut_off(77) {
        let receiver = pair.slave.listen(&[]);
        let mut sender = Process::spawn(pair.master.send(&[args, &[LINK]].concat()));
        sender.write("first\n");
        receiver.wait_for_stdout(b"first\n");
        Process::spawn(pair.master.pair(&["--forget", "gateway"])).wait().succeeded();
        sender.write("later\n");
        sender.wait().failed(&[status], &["no peer is trusted", left]);
        pair.master.trust("gateway", &pair.slave);
        pair.agree();
    }
}

#[test]
fn an_end_that_overtakes_the_data_waits_for_it() {
    let (broker, pair) = paired();
    let late = Fate::Late(Duration::from_secs(2));
    broker.filter(move |_, payload| if payload.first() == Some(&ENC) { late } else { Fate::Pass });
    let receiver = pair.slave.listen(&[]);
    pair.master.send_all(&["--each"], readings(50)).succeeded();
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().succeeded().wrote(&readings(50));
    has_no_session(&pair);
}

#[test]
fn a_sender_that_has_said_nothing_yet_begins_under_the_session_of_now() {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    for options in [&["-v"][..], &["-v", "--confirm"], &["-v", "--spool", "spool"]] {
        pair.agree();
        let mut sender = Process::spawn(pair.master.send(&[options, &[LINK]].concat()));
        sender.wait_for("connected");
        Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
        pair.agree();
        // A sender looks for new sessions once a second.
        thread::sleep(Duration::from_millis(1100));
        let receiver = pair.slave.listen(&["--once"]);
        sender.write("under the new session\n");
        sender.close_stdin();
        sender.wait().succeeded();
        receiver.wait().succeeded().wrote(b"under the new session\n");
    }
}

#[test]
fn keys_agreed_again_and_again_under_traffic_cost_nothing() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let to_slave = pair.slave.listen(&["--once"]);
    let to_master = pair.master.listen(&["--once"]);
    let mut down = Process::spawn(pair.master.send(&["--confirm", LINK]));
    let mut up = Process::spawn(pair.slave.send(&["--each", LINK]));
    let (mut sent, mut line) = (Vec::new(), 0);
    for _ in 0..60 {
        let mut pairings = [&pair.slave, &pair.master].map(|device| Process::spawn(device.pair(&[LINK])));
        while pairings.iter_mut().any(Process::is_running) {
            let mut lines = String::new();
            for number in line..line + 20 {
                writeln!(lines, "line {number} of all").unwrap();
            }
            line += 20;
            sent.extend_from_slice(lines.as_bytes());
            for sender in [&mut down, &mut up] {
                sender.write(&lines);
                sender.wait_until_read();
            }
        }
        for pairing in pairings {
            pairing.wait().succeeded();
        }
    }
    for (mut sender, receiver) in [(down, to_slave), (up, to_master)] {
        sender.close_stdin();
        sender.wait().succeeded();
        receiver.wait().succeeded().wrote(&sent);
    }
}

/// How long a run may use the sessions that it knows, and longer.
pub(crate) const LONGER_THAN_REFRESH: Duration = Duration::from_millis(1500);

/// A new session is used while messages of the old one are unacknowledged: the next connection bears only shorter ones.
#[test]
fn what_is_under_way_is_cut_again_though_a_newer_session_is_used_by_then() {
    let broker = Broker::with(Options { max_packet_size: Some(4000), queue: Queue::Unlimited, ..Options::default() });
    let port = broker.port();
    for options in [&[][..], &["--spool", "spool"]] {
        let pair = Pair::paired(&broker, "gcm");
        let (end, ended) = mpsc::channel();
        let relay = Server::start(move |number, stream| {
            if number > 0 {
                return carry(stream, port);
            }
            let reading = stream.try_clone().unwrap();
            thread::spawn(move || swallow(reading, usize::MAX, &[]));
            ended.recv().unwrap();
            stream.shutdown(Shutdown::Both).unwrap();
        });
        let receiver = pair.slave.listen(&[]);
        let through = format!("port={}", relay.port());
        let each = ["--each", "-o", "mqtt_version=5", "-o", "max_message=6000", "-o", &through, LINK];
        let mut sender = Process::spawn(pair.master.send(&[options, &each].concat()));
        let lines = format!("{}\n", "x".repeat(5000)).repeat(2);
        sender.write(&lines);
        sender.wait_until_read();
        pair.agree();
        thread::sleep(LONGER_THAN_REFRESH);
        sender.write("last\n");
        sender.wait_until_read();
        end.send(()).unwrap();
        sender.close_stdin();
        sender.wait().succeeded();
        let expected = format!("{lines}last\n");
        receiver.wait_for_stdout(expected.as_bytes());
        let ended = receiver.stop().succeeded().wrote(expected.as_bytes());
        assert!(!ended.stderr.contains("gap") && !ended.stderr.contains("lost"), "{}", ended.stderr);
    }
}
