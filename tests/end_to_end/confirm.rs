//! Claim: `sts-send --confirm` exits with 0 if and only if the receiver's output equals the sender's input, whatever
//! fails in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::Signal;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, S2M, readings, settings};
use crate::hostile::{Fate, paired};
use crate::process::{Process, assert_same, wait_until};
use crate::sniffer::Sniffer;

const ENC: u8 = 0x27;
const KILL: u8 = 0x28;
const CONFIRM: &str = "--confirm";
const DELETED: &str = "the other device has deleted the session";

#[test]
fn confirmed_is_written() {
    let broker = Broker::start();
    for suite in ["gcm", "cbc", "ecb"] {
        let pair = Pair::paired(&broker, suite);
        pair.carries(&[CONFIRM], &readings(20_000));
        pair.carries(&[CONFIRM, "--each"], &readings(2000));
        pair.carries(&[CONFIRM], b"no newline at the end");
        pair.carries(&[CONFIRM], b"");
    }
}

#[test]
fn at_every_quality_of_service() {
    for qos in ["qos=0", "qos=2"] {
        let broker = Broker::start();
        let pair = Pair::paired(&broker, "gcm");
        pair.carries(&[CONFIRM, "-o", qos], &readings(5000));
    }
}

#[test]
fn what_overflows_the_brokers_queue_is_sent_again() {
    // mosquitto keeps a thousand messages for an absent client, and silently drops the rest.
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, "--each", LINK]), readings(5000));
    let receiver = pair.slave.listen(&["--once"]);
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&readings(5000));
}

#[test]
fn a_broker_that_queues_little_gets_little_twice_and_nobody_is_warned() {
    let input = readings(40_000);
    for (options, qos, rotates) in [
        (&[][..], "qos=1", false),
        (&[], "qos=0", false),
        (&[], "qos=2", false),
        (&[], "qos=1", true),
        (&["--spool", "spool"], "qos=1", false),
    ] {
        let broker = Broker::with(Options { queue: Queue::Small, ..Options::default() });
        let pair = Pair::paired(&broker, "gcm");
        let before = broker.published_bytes(M2S);
        let receiver = pair.slave.listen(&["--once"]);
        let mut sender = Process::spawn(pair.master.send(&[options, &[CONFIRM, "-o", qos, LINK]].concat()));
        sender.write(&input[..input.len() / 2]);
        if rotates {
            pair.agree();
        }
        sender.write(&input[input.len() / 2..]);
        sender.close_stdin();
        sender.wait().succeeded();
        let ended = receiver.wait().succeeded().wrote(&input);
        assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
        let published = broker.published_bytes(M2S) - before;
        assert!(published < 2 * input.len(), "{published} bytes for {}, {qos} {options:?}", input.len());
    }
}

#[test]
fn a_reader_that_is_down_is_waited_for() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), "patience\n");
    sender.wait_for("waiting for sts-recv");
    let receiver = pair.slave.listen(&["--once"]);
    let sent = sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"patience\n");
    assert_eq!(sent.stderr.matches("waiting for sts-recv").count(), 1, "said once:\n{}", sent.stderr);
}

#[test]
fn a_reader_that_never_comes_is_a_timeout() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let ended = pair.master.send_all(&[CONFIRM, "--timeout", "2"], "nobody\n");
    ended.failed(&[75], &["timed out", "unacknowledged"]);
}

#[test]
fn nosec_has_nobody_to_confirm() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let ended = pair.master.send_all(&[CONFIRM, "-o", "sts_mode=nosec", "-o", "aes=null"], "plain\n");
    ended.failed(&[64], &["--confirm", "nosec"]);
}

#[test]
fn several_senders_at_once_each_have_their_stream() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let inputs: Vec<Vec<u8>> = (0..4)
        .map(|sender| (0..3000).flat_map(|line| format!("sender {sender}, line {line:05}\n").into_bytes()).collect())
        .collect();
    let senders: Vec<_> =
        inputs.iter().map(|input| Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), input.clone())).collect();
    for sender in senders {
        sender.wait().succeeded();
    }
    let all = receiver.stop().stdout;
    for (sender, input) in inputs.iter().enumerate() {
        let prefix = format!("sender {sender},");
        let own: Vec<u8> = all
            .split_inclusive(|&byte| byte == b'\n')
            .filter(|line| line.starts_with(prefix.as_bytes()))
            .flatten()
            .copied()
            .collect();
        assert_same(&own, input, &prefix);
    }
    assert_eq!(all.len(), inputs.iter().map(Vec::len).sum::<usize>());
}

#[test]
fn a_broker_that_forgets_everything_loses_nothing() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let input = readings(60_000);
    let mut sender = Process::spawn_with(pair.master.send(&[CONFIRM, "-o", "max_message=4000", LINK]), input.clone());
    for part in 1..=8 {
        let enough = input.len() / 10 * part;
        wait_until("a part to arrive", || receiver.written() >= enough || !sender.is_running());
        broker.kill();
        broker.start_again();
    }
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
}

#[test]
fn a_broker_killed_a_hundred_times_costs_no_line_of_a_million() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // Without a `clientid`, a run that is disconnected again and again does not suspect another client with its id.
    let port = broker.port().to_string();
    let settings = settings(&port, "slave", "gcm").into_iter().filter(|(key, _)| *key != "clientid");
    pair.slave.configure(&settings.collect::<Vec<_>>());
    let receiver = pair.slave.listen(&["--once"]);
    let input = readings(1_000_000);
    let mut sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), input.clone());
    let mut most = 0;
    for part in 1..=100 {
        let enough = input.len() / 101 * part;
        wait_until("a part to arrive", || receiver.written() >= enough || !sender.is_running());
        assert!(sender.is_running(), "it ended after {} bytes", receiver.written());
        most = most.max(sender.memory()).max(receiver.memory());
        broker.kill();
        broker.start_again();
    }
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&input);
    assert!(most < 32 << 20, "{most} bytes of memory");
}

/// A reader that is killed while it writes may have written what it had no time to record: one write(2) to a pipe, and the
/// message in which that write ended.
const ONE_WRITE: usize = 65_536 + 4000;

#[test]
fn a_reader_killed_at_any_instant_goes_on_where_it_was() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let input = readings(60_000);
    let mut sender = Process::spawn_with(pair.master.send(&[CONFIRM, "-o", "max_message=4000", LINK]), input.clone());
    let mut written = 0;
    for part in 1..=12 {
        let receiver = pair.slave.listen(&[]);
        let enough = input.len() / 15;
        wait_until("a part to arrive", || receiver.written() >= enough || !sender.is_running());
        receiver.signal(Signal::KILL);
        let output = receiver.wait().stdout;
        let again = (0..=ONE_WRITE.min(written)).find(|again| input[written - again..].starts_with(&output));
        let again = again.unwrap_or_else(|| panic!("run {part} did not go on at byte {written}"));
        written = written - again + output.len();
    }
    let receiver = pair.slave.listen(&["--timeout", "10"]);
    sender.wait().succeeded();
    let output = receiver.wait().succeeded().stdout;
    let again = (0..=ONE_WRITE).find(|again| input[written - again..] == output[..]);
    assert!(again.is_some(), "the last run did not write the rest");
}

#[test]
fn a_session_agreed_in_full_flight_costs_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let to_slave = pair.slave.listen(&["--once"]);
    let to_master = pair.master.listen(&["--once"]);
    let mut down = Process::spawn(pair.master.send(&[CONFIRM, LINK]));
    let mut up = Process::spawn(pair.slave.send(&[LINK]));
    let mut sent = Vec::new();
    for round in 0..6 {
        for line in 0..200 {
            let line = format!("round {round}, line {line}\n");
            down.write(&line);
            up.write(&line);
            sent.extend_from_slice(line.as_bytes());
        }
        pair.agree();
        // A sender looks for a new session once a second, if it has something to send.
        to_slave.wait_for_stdout(&sent);
        to_master.wait_for_stdout(&sent);
    }
    down.close_stdin();
    up.close_stdin();
    down.wait().succeeded();
    up.wait().succeeded();
    to_slave.wait().succeeded().wrote(&sent);
    to_master.wait().succeeded().wrote(&sent);
}

#[test]
fn confirms_that_are_old_altered_or_the_senders_own_confirm_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    pair.carries(&[CONFIRM, "--each"], &readings(200));
    let confirms = sniffer.wait_for_type(S2M, ENC, 1);
    let messages = sniffer.wait_for_type(M2S, ENC, 200);

    // There is no receiver now: whatever is replayed, nothing is confirmed.
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, "--timeout", "4", LINK]), "not read\n");
    sniffer.wait_for_type(M2S, ENC, messages.len() + 1);
    for confirm in &confirms {
        broker.publish(S2M, confirm);
        for at in [0, 3, 7, 11, 15, 16, confirm.len() - 1] {
            let mut altered = confirm.clone();
            altered[at] ^= 1;
            broker.publish(S2M, &altered);
        }
    }
    for message in sniffer.wait_for_type(M2S, ENC, messages.len() + 1) {
        broker.publish(S2M, &message);
    }
    sender.wait().failed(&[75], &["unacknowledged"]);
}

#[test]
fn once_follows_no_stream_of_confirms() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let to_master = pair.master.listen(&["--once"]);
    // The slave's sts-recv confirms in a stream of its own, and ends it; the master's sts-recv sees this stream, too.
    pair.carries(&[CONFIRM], b"down\n");
    pair.slave.send_all(&[CONFIRM, "--timeout", "60"], "up\n").succeeded();
    to_master.wait().succeeded().wrote(b"up\n");
}

#[test]
fn a_reader_that_was_killed_leaves_nothing_that_its_peer_would_miss() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let to_slave = pair.slave.listen(&[]);
    pair.master.send_all(&[CONFIRM], "confirmed\n").succeeded();
    to_slave.signal(Signal::KILL);
    to_slave.wait();
    // Its last confirms are not in a stream of data: what the slave sent is complete without them.
    let to_master = pair.master.listen(&[]);
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    to_master.wait().succeeded().wrote(b"");
}

/// The reader's device restarts without the directory of its sessions, while a sender runs and waits.
fn a_reader_that_lost_its_sessions_gets_the_rest(options: &[&str]) {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let to_slave = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[&[CONFIRM, "--each"], options, &[LINK]].concat()));
    sender.write("one\n");
    to_slave.wait_for_stdout(b"one\n");
    to_slave.stop().succeeded();
    pair.slave.lose_runtime_files();
    sender.write("two\nthree\n");
    sender.wait_for("waiting for sts-recv");
    pair.agree();
    let to_slave = pair.slave.listen(&["--once"]);
    sender.wait_for("the other device has lost the session");
    to_slave.wait_for_stdout(b"two\nthree\n");
    sender.write("four\n");
    to_slave.wait_for_stdout(b"two\nthree\nfour\n");
    sender.close_stdin();
    let ended = sender.wait().succeeded();
    assert!(ended.stderr.contains("possibly duplicated: 2 messages"), "{}", ended.stderr);
    to_slave.wait().succeeded().wrote(b"two\nthree\nfour\n");
}

#[test]
fn a_reader_that_lost_its_sessions_gets_the_rest_under_the_new_one() {
    a_reader_that_lost_its_sessions_gets_the_rest(&[]);
}

#[test]
fn a_reader_that_lost_its_sessions_gets_the_rest_of_a_spool() {
    a_reader_that_lost_its_sessions_gets_the_rest(&["--spool", "spool"]);
}

/// The answers to questions whether a session is still there, as the first bytes of their messages.
const RDYACK: u8 = 0x26;
const SESSION_CHECK_LEN: usize = 65;

/// The reader's side ended the session, and had written everything: it has lost nothing, so nothing is sent again.
#[test]
fn a_reader_whose_side_ended_the_session_gets_nothing_again() {
    let (broker, pair) = paired();
    let answers = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&answers);
    broker.filter(move |topic, payload| match payload.first() {
        // Neither a confirm nor the KILL arrives.
        Some(0x27 | 0x28) if topic == S2M => Fate::Drop,
        Some(&RDYACK) if topic == S2M && payload.len() == SESSION_CHECK_LEN => {
            seen.fetch_add(1, Ordering::SeqCst);
            Fate::Pass
        }
        _ => Fate::Pass,
    });
    let to_slave = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", LINK]));
    sender.write("one\n");
    to_slave.wait_for_stdout(b"one\n");
    to_slave.stop().succeeded();
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    pair.agree();
    let to_slave = pair.slave.listen(&[]);
    let ended = sender.wait().failed(&[65], &[DELETED, "(4 bytes)"]);
    assert!(answers.load(Ordering::SeqCst) >= 1 && !ended.stderr.contains("lost the session"), "{}", ended.stderr);
    to_slave.stop().succeeded().wrote(b"");
}

/// No sts-recv runs on the sender's device, which would delete the session.
#[test]
fn a_sender_ends_when_the_readers_side_ends_the_session() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", LINK]));
    sender.write("one\n");
    sender.wait_for("waiting for sts-recv");
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    sender.wait().failed(&[65], &[DELETED, "1 message"]);
    // The next run does not send under it either.
    pair.master.send_all(&[], "two\n").failed(&[75], &["no session for gateway"]);
    pair.agree();
    let to_slave = pair.slave.listen(&["--once"]);
    pair.master.send_all(&[CONFIRM], "three\n").succeeded();
    to_slave.wait().succeeded().wrote(b"three\n");
}

/// Whether the KILL arrives, or only the answer to a question under the next session says that the session was ended.
#[test]
fn a_spool_whose_session_the_readers_side_ended_goes_on_under_the_next_one() {
    for kill in [Fate::Pass, Fate::Drop] {
        let (broker, pair) = paired();
        let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", "--spool", "spool", LINK]));
        sender.write("one\n");
        let to_slave = pair.slave.listen(&[]);
        to_slave.wait_for_stdout(b"one\n");
        to_slave.stop().succeeded();
        sender.write("two\n");
        sender.wait_for("waiting for sts-recv");
        broker.filter(move |_, payload| if payload.first() == Some(&KILL) { kill } else { Fate::Pass });
        Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
        if kill == Fate::Pass {
            sender.wait_for(DELETED);
        }
        pair.agree();
        let to_slave = pair.slave.listen(&[]);
        to_slave.wait_for_stdout(b"two\n");
        sender.write("three\n");
        sender.close_stdin();
        let ended = sender.wait().succeeded();
        assert_eq!(ended.stderr.matches(DELETED).count(), 1, "{}", ended.stderr);
        to_slave.stop().succeeded().wrote(b"two\nthree\n");
    }
}

/// Nobody pairs again, so nothing can be sent: neither what is in the spool nor its end.
#[test]
fn a_spool_without_further_input_is_kept_when_the_readers_side_ends_the_session() {
    const SPOOL: &[&str] = &[CONFIRM, "--spool", "spool"];
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sender = Process::spawn_with(pair.master.send(&[SPOOL, &[LINK]].concat()), b"one\n".to_vec());
    sender.wait_for("waiting for sts-recv");
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    let ended = sender.wait().failed(&[75], &[DELETED, "no session for gateway", "left in the spool", "1 message"]);
    assert_eq!(ended.stderr.matches(DELETED).count(), 1, "{}", ended.stderr);
    pair.agree();
    let to_slave = pair.slave.listen(&["--once"]);
    pair.master.send_all(SPOOL, "").succeeded();
    to_slave.wait().succeeded().wrote(b"one\n");
}

/// The run has no stream yet that could be of the session.
#[test]
fn a_sender_without_input_begins_nothing_under_a_session_that_the_readers_side_has_ended() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let subscribed = broker.times_logged("Sending SUBACK");
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, LINK]));
    broker.wait_for_log("Sending SUBACK", subscribed + 1);
    let before = pair.master.runtime_files();
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    wait_until("the end of the session", || pair.master.runtime_files() != before);
    sender.write("one\n");
    sender.close_stdin();
    sender.wait().failed(&[75], &["no session for gateway"]);
}

/// Frames of the reader's side that it sent before may still wait at the broker, so the keys stay until sts-recv has them.
#[test]
fn what_the_reader_had_sent_before_it_ended_the_session_is_still_received() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.master.listen(&[]).stop().succeeded();
    pair.slave.send_all(&[], "back\n").succeeded();
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", LINK]));
    sender.write("one\n");
    sender.wait_for("waiting for sts-recv");
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
    sender.wait().failed(&[65], &[DELETED]);
    let ended = Process::spawn(pair.master.recv(&[LINK])).wait().succeeded().wrote(b"back\n");
    assert!(ended.stderr.contains("ended the session; its keys were deleted"), "{}", ended.stderr);
}

/// Any tool may answer, also one that receives nothing: it must not say that a session is there of which the state is lost.
#[test]
fn a_service_knows_that_the_state_of_a_session_is_lost() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let to_slave = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", LINK]));
    sender.write("one\n");
    to_slave.wait_for_stdout(b"one\n");
    to_slave.stop().succeeded();
    std::fs::remove_file(pair.slave.runtime_dir().join("gateway@recv")).unwrap();
    sender.write("two\n");
    sender.wait_for("waiting for sts-recv");
    pair.agree();
    let service = Process::spawn(pair.slave.pair(&["--serve", LINK]));
    sender.wait_for("the other device has lost the session");
    service.stop().succeeded();
    let to_slave = pair.slave.listen(&["--once"]);
    sender.close_stdin();
    sender.wait().succeeded();
    to_slave.wait().succeeded().wrote(b"two\n");
}

/// If the sender has reserved a stream number in order to continue, it uses it; otherwise that stream would be missing for
/// ever.
#[test]
fn a_reader_that_lost_its_sessions_misses_no_stream_of_a_spool() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", "--spool", "spool", LINK]));
    sender.write("one\n");
    sender.wait_for("waiting for sts-recv");
    pair.slave.lose_runtime_files();
    pair.agree();
    // By then the sender has looked for new sessions.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sender.write("two\n");
    sender.wait_until_read();
    let to_slave = pair.slave.listen(&[]);
    sender.wait_for("the other device has lost the session");
    to_slave.wait_for_stdout(b"one\ntwo\n");
    sender.close_stdin();
    sender.wait().succeeded();
    let next = pair.master.send_all(&[CONFIRM], "three\n");
    next.succeeded();
    let ended = to_slave.stop().succeeded().wrote(b"one\ntwo\nthree\n");
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
}

#[test]
fn the_end_of_a_stream_goes_under_the_new_session_too() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, "--each", LINK]), readings(3000));
    sender.wait_for("waiting for sts-recv");
    pair.slave.lose_runtime_files();
    pair.agree();
    let to_slave = pair.slave.listen(&["--once"]);
    sender.wait().succeeded();
    to_slave.wait().succeeded().wrote(&readings(3000));
}

/// The broker withholds the KILL, so the peer still has the session that was ended.
#[test]
fn a_spool_whose_session_was_ended_goes_on_under_the_next_one() {
    let (broker, pair) = paired();
    pair.slave.listen(&[]).stop().succeeded();
    broker.filter(|_, payload| if payload.first() == Some(&KILL) { Fate::Drop } else { Fate::Pass });
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--spool", "spool", LINK]));
    sender.write("one\n");
    sender.wait_for("waiting for sts-recv");
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    pair.agree();
    // By then the sender has looked for new sessions.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    sender.write("two\n");
    sender.wait_until_read();
    let to_slave = pair.slave.listen(&[]);
    // The reader has what it wrote, and where that belongs: nothing comes twice.
    sender.wait_for("is gone; resent under the new session: ");
    sender.close_stdin();
    sender.wait().succeeded();
    let ended = to_slave.stop().succeeded();
    assert!(ended.stdout.ends_with(b"one\ntwo\n"), "{}", ended.stdout.escape_ascii());
}

/// The broker answers PINGREQ all the time.
#[test]
fn what_the_broker_swallows_is_sent_again() {
    for qos in ["qos=1", "qos=2"] {
        let (broker, pair) = paired();
        let mut left = 1;
        broker.filter(move |topic, payload| {
            let swallows = left > 0 && topic == M2S && payload.first() == Some(&ENC);
            left -= i32::from(swallows);
            if swallows { Fate::Swallow } else { Fate::Pass }
        });
        let receiver = pair.slave.listen(&["--once"]);
        let args = [CONFIRM, "-o", "keep_alive=1", "-o", qos, LINK];
        let sent = Process::spawn_with(pair.master.send(&args), "one\n").wait().succeeded();
        assert!(sent.stderr.contains("does not acknowledge"), "{}", sent.stderr);
        receiver.wait().succeeded().wrote(b"one\n");
    }
}

/// While the reader has the session, it does not count as lost: silence alone does not make the sender resend anything.
#[test]
fn a_reader_that_has_its_sessions_is_waited_for() {
    let (broker, pair) = paired();
    let to_slave = pair.slave.listen(&[]);
    let confirms = |topic: &str, payload: &[u8]| topic == S2M && payload.first() == Some(&ENC);
    broker.filter(move |topic, payload| if confirms(topic, payload) { Fate::Drop } else { Fate::Pass });
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, "-v", "--timeout", "25", LINK]), "once\n");
    to_slave.wait_for_stdout(b"once\n");
    pair.agree();
    let questions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&questions);
    broker.filter(move |topic, payload| {
        if topic == M2S && payload.first() == Some(&0x25) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        if confirms(topic, payload) { Fate::Drop } else { Fate::Pass }
    });
    let ended = sender.wait().failed(&[75], &["timed out", "1 message"]);
    assert!(!ended.stderr.contains("lost the session"), "{}", ended.stderr);
    assert!(questions.load(Ordering::Relaxed) > 0, "it was asked");
    to_slave.stop().wrote(b"once\n");
}

#[test]
fn a_sender_whose_session_was_deleted_does_not_wait_for_ever() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), "too late\n");
    sender.wait_for("waiting for sts-recv");
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    sender.wait().failed(&[65], &["is gone", "1 message"]);
}

#[test]
fn a_stream_that_ended_long_ago_is_still_confirmed() {
    let (broker, pair) = paired();
    let receiver = pair.slave.listen(&[]);
    // The first sender gets no confirm. Meanwhile, the others send more streams than are remembered one by one.
    broker.filter(|topic, payload| if topic == S2M && payload.first() == Some(&ENC) { Fate::Drop } else { Fate::Pass });
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), "first\n");
    receiver.wait_for_stdout(b"first\n");
    for _ in 0..20 {
        pair.master.send_all(&[], "x\n").succeeded();
    }
    receiver.wait_for_stdout(format!("first\n{}", "x\n".repeat(20)).as_bytes());
    broker.filter(|_, _| Fate::Pass);
    sender.wait().succeeded();
    receiver.stop().succeeded();
}

#[test]
fn a_lost_confirm_is_no_lost_data() {
    let (broker, pair) = paired();
    let mut confirms = 0;
    broker.filter(move |topic, payload| {
        confirms += u32::from(topic == S2M && payload.first() == Some(&ENC));
        if topic == S2M && confirms == 1 { Fate::Drop } else { Fate::Pass }
    });
    let to_master = pair.master.listen(&["--timeout", "10"]);
    let to_slave = pair.slave.listen(&["-n", "2"]);
    let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "--each", LINK]));
    sender.write("one\n");
    to_slave.wait_for_stdout(b"one\n");
    sender.write("two\n");
    sender.close_stdin();
    to_slave.wait().succeeded().wrote(b"one\ntwo\n");
    drop(sender);
    to_master.wait().succeeded().wrote(b"");
}

#[test]
fn a_lost_last_confirm_is_said_again_before_the_reader_leaves() {
    let (broker, pair) = paired();
    // Everything that the reader sends is lost until the sender has asked again twice; by then the reader has written all.
    let mut sent = 0;
    broker.filter(move |topic, payload| {
        let sealed = payload.first() == Some(&ENC);
        sent += u32::from(topic == M2S && sealed);
        if topic == S2M && sealed && sent < 3 { Fate::Drop } else { Fate::Pass }
    });
    let receiver = pair.slave.listen(&["--once"]);
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), "the last line\n");
    sender.wait().succeeded();
    let ended = receiver.wait().succeeded().wrote(b"the last line\n");
    assert!(!ended.stderr.contains("may not have heard"), "{}", ended.stderr);
}

#[test]
fn a_reader_whose_sender_is_gone_leaves_and_says_so() {
    let (broker, pair) = paired();
    broker.filter(|topic, payload| if topic == S2M && payload.first() == Some(&ENC) { Fate::Drop } else { Fate::Pass });
    let receiver = pair.slave.listen(&["--once"]);
    let sender = Process::spawn_with(pair.master.send(&[CONFIRM, LINK]), "the last line\n");
    receiver.wait_for_stdout(b"the last line\n");
    sender.signal(Signal::KILL);
    receiver.wait().succeeded().failed(&[0], &["may not have heard"]).wrote(b"the last line\n");
}

#[test]
fn a_reader_of_so_many_lines_lets_its_sender_go() {
    let broker = Broker::start();
    for options in [&[][..], &["--each"], &["--spool", "spool"], &["--each", "--spool", "spool-each"]] {
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&["-n", "3"]);
        let sent = pair.master.send_all(&[&[CONFIRM], options].concat(), "one\ntwo\nthree\n");
        sent.succeeded();
        receiver.wait().succeeded().wrote(b"one\ntwo\nthree\n");
    }
}

/// The receiver has written all of the data and has exited, so nobody confirms the end.
#[test]
fn a_sender_of_which_everything_is_written_does_not_fail_for_its_end() {
    for options in [&["--each"][..], &["--spool", "spool"]] {
        let (broker, pair) = paired();
        let receiver = pair.slave.listen(&["-n", "2"]);
        let mut sender = Process::spawn(pair.master.send(&[&[CONFIRM, "--timeout", "3"], options, &[LINK]].concat()));
        sender.write("one\ntwo\n");
        receiver.wait().succeeded().wrote(b"one\ntwo\n");
        broker.filter(|topic, _| if topic == M2S { Fate::Drop } else { Fate::Pass });
        sender.close_stdin();
        sender.wait().succeeded();
        broker.filter(|_, _| Fate::Pass);
        // The spool has kept the end, and the next run resends it.
        if options.contains(&"--spool") {
            let receiver = pair.slave.listen(&["--once"]);
            pair.master.send_all(&[&[CONFIRM], options].concat(), "").succeeded();
            receiver.wait().succeeded().wrote(b"");
        }
    }
}

/// If nothing was confirmed, there may have been no receiver at all.
#[test]
fn an_empty_stream_that_nobody_reads_is_not_delivered() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.master.send_all(&[CONFIRM, "--timeout", "2"], "").failed(&[75], &["timed out"]);
}

#[test]
fn once_without_a_stream_is_no_success() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = Process::spawn(pair.slave.recv(&["--once", "--timeout", "1", LINK]));
    receiver.wait().failed(&[75], &["timed out"]).wrote(b"");
}

/// Nobody confirms that the old stream continues in another one, or the end of that one, in which there is nothing else.
#[test]
fn a_sender_of_which_everything_is_written_does_not_fail_for_its_end_under_a_new_session() {
    for receiver_stays in [false, true] {
        let (broker, pair) = paired();
        let receiver = pair.slave.listen(if receiver_stays { &[] } else { &["-n", "1"] });
        let mut sender = Process::spawn(pair.master.send(&[CONFIRM, "-v", "--timeout", "3", LINK]));
        sender.write("one\n");
        receiver.wait_for_stdout(b"one\n");
        let left = if receiver_stays {
            Some(receiver)
        } else {
            receiver.wait().succeeded();
            None
        };
        pair.agree();
        let mut session = None;
        if left.is_some() {
            broker.filter(move |topic, payload| match payload {
                [ENC, tag @ ..] if topic == M2S && tag[..3] != *session.get_or_insert_with(|| tag[..3].to_vec()) => {
                    Fate::Drop
                }
                _ => Fate::Pass,
            });
        }
        // By then the sender looks for new sessions again.
        std::thread::sleep(std::time::Duration::from_millis(1100));
        sender.close_stdin();
        let ended = sender.wait().succeeded();
        assert!(ended.stderr.contains("everything was written"), "{}", ended.stderr);
        match left {
            Some(receiver) => drop(receiver.stop()),
            // It misses nothing.
            None => drop(Process::spawn(pair.slave.recv(&["--timeout", "2", LINK])).wait().succeeded().wrote(b"")),
        }
    }
}
