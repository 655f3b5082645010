//! Claim: when a sender changes to a new session, the broker can change neither the order of its messages nor what is
//! reported about lost ones.

use std::thread;
use std::time::Duration;

use crate::device::{LINK, M2S, Pair};
use crate::hostile::{Fate, HostileBroker, paired};
use crate::process::Process;

const ENC: u8 = 0x27;

/// Sends two lines under one session and one under the next. `fate` is what the broker does to all messages of the first
/// session except its first line. Returns the receiver.
fn rotated(pair: &Pair, broker: &HostileBroker, send: &[&str], receive: &[&str], fate: Fate) -> Process {
    pair.agree();
    broker.filter(|_, _| Fate::Pass);
    let receiver = pair.slave.listen(receive);
    let mut sender = Process::spawn(pair.master.send(&[send, &[LINK]].concat()));
    sender.write("under the old session\n");
    receiver.wait_for_stdout(b"under the old session\n");
    let mut sessions = Vec::new();
    broker.filter(move |topic, payload| match place(&mut sessions, topic, payload) {
        Some((0, _)) => fate,
        _ => Fate::Pass,
    });
    sender.write("the last of the old session\n");
    go_over(pair, &mut sender, "under the new session\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver
}

#[test]
fn a_new_stream_that_overtakes_the_old_one_waits_for_it() {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    for options in [&["--each"][..], &["--each", "-o", "qos=0"], &["--each", "--spool", "spool"]] {
        let receiver = rotated(&pair, &broker, options, &["--once"], Fate::Late(Duration::from_secs(2)));
        let all = b"under the old session\nthe last of the old session\nunder the new session\n";
        let ended = receiver.wait().succeeded().wrote(all);
        assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
    }
}

#[test]
fn an_end_that_never_comes_is_a_gap_and_the_new_stream_goes_on() {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    let receiver = rotated(&pair, &broker, &["--each"], &["--once"], Fate::Drop);
    let ended = receiver.wait().failed(&[65], &["stream 0: message 1 is lost", "data was lost"]);
    ended.wrote(b"under the old session\nunder the new session\n");
}

#[test]
fn a_receiver_that_gives_up_on_silence_reports_what_did_not_come() {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    // Shorter than the receiver waits for the end of the old stream, and longer than a pairing takes.
    let receiver = rotated(&pair, &broker, &["--each"], &["--timeout", "8"], Fate::Drop);
    let ended = receiver.wait().failed(&[65], &["stream 0: message 1 is lost", "data was lost"]);
    ended.wrote(b"under the old session\nunder the new session\n");
}

/// The index of a message's session among those of its sender, and its number in the stream.
fn place(sessions: &mut Vec<Vec<u8>>, topic: &str, payload: &[u8]) -> Option<(usize, u32)> {
    if topic != M2S || payload.first() != Some(&ENC) {
        return None;
    }
    let session = payload[1..4].to_vec();
    let at = sessions.iter().position(|other| *other == session).unwrap_or_else(|| {
        sessions.push(session);
        sessions.len() - 1
    });
    Some((at, u32::from_be_bytes(payload[16..20].try_into().unwrap())))
}

/// Agrees on a new session, and sends a line under it.
fn go_over(pair: &Pair, sender: &mut Process, line: &str) {
    sender.wait_until_read();
    pair.agree();
    // A sender looks for new sessions once a second.
    thread::sleep(Duration::from_millis(1100));
    sender.write(line);
}

#[test]
fn a_run_that_follows_one_stream_follows_it_through_sessions_that_come_in_any_order() {
    let (broker, pair) = paired();
    let mut sessions = Vec::new();
    broker.filter(move |topic, payload| match place(&mut sessions, topic, payload) {
        Some((0, 1..)) => Fate::Late(Duration::from_secs(6)),
        Some((1, _)) => Fate::Late(Duration::from_secs(3)),
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&["--once", "--timeout", "12"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    sender.write("two\n");
    go_over(&pair, &mut sender, "three\n");
    go_over(&pair, &mut sender, "four\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\nthree\nfour\n");
}

#[test]
fn a_first_message_that_comes_late_does_not_stop_a_run_that_follows_its_stream() {
    let (broker, pair) = paired();
    let mut sessions = Vec::new();
    broker.filter(move |topic, payload| match place(&mut sessions, topic, payload) {
        Some((0, _)) => Fate::Drop,
        Some((1, 0)) => Fate::Late(Duration::from_millis(500)),
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&["--once", "--timeout", "6"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("one\n");
    go_over(&pair, &mut sender, "two\n");
    receiver.wait_for_stdout(b"two\n");
    thread::sleep(Duration::from_secs(1));
    sender.write("three\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().failed(&[65], &["stream 0: message 0 is lost"]).wrote(b"two\nthree\n");
}

/// If the broker does not keep a message, it must not be lost when the run ends.
#[test]
fn a_receiver_that_is_stopped_writes_what_would_not_come_again() {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    // Without PINGREQs, nothing wakes a receiver that waits without a reason.
    let options = ["-o", "qos=0", "-o", "keep_alive=0"];
    let receiver = rotated(&pair, &broker, &["--each"], &options, Fate::Drop);
    // Another stream, after the waiting messages.
    pair.master.send_all(&[], "of another process\n").succeeded();
    receiver.wait_for_stdout(b"under the old session\nof another process\n");
    let ended = receiver.stop().succeeded();
    assert!(ended.stderr.contains("stream 0: message 1 is lost"), "{}", ended.stderr);
    ended.wrote(b"under the old session\nof another process\nunder the new session\n");
}

#[test]
fn a_stream_whose_first_message_is_lost_is_not_overtaken_by_itself() {
    let (broker, pair) = paired();
    let mut sessions = Vec::new();
    // The messages that link the two streams are lost or late, and the data before them is an incomplete line.
    broker.filter(move |topic, payload| match place(&mut sessions, topic, payload) {
        Some((0, 1)) => Fate::Late(Duration::from_millis(300)),
        Some((1, 0)) => Fate::Drop,
        Some((1, 2..)) => Fate::Late(Duration::from_millis(600)),
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&["--timeout", "5"]);
    let mut sender = Process::spawn(pair.master.send(&["--binary", LINK]));
    sender.write("no line yet, ");
    receiver.wait_for_stdout(b"no line yet, ");
    go_over(&pair, &mut sender, "one\n");
    // Otherwise both would be one message.
    thread::sleep(Duration::from_millis(100));
    sender.write("two\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().failed(&[65], &["stream 0: message 0 is lost"]).wrote(b"no line yet, one\ntwo\n");
}

#[test]
fn a_peer_that_ends_its_sessions_takes_nothing_with_it_that_waits() {
    let (broker, pair) = paired();
    let mut sessions = Vec::new();
    broker.filter(move |topic, payload| match place(&mut sessions, topic, payload) {
        Some((0, _)) => Fate::Drop,
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&["-o", "qos=0"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("one\n");
    go_over(&pair, &mut sender, "two\n");
    sender.close_stdin();
    sender.wait().succeeded();
    // The KILL does not tell anything about the streams of older sessions.
    pair.agree();
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    thread::sleep(Duration::from_secs(1));
    let ended = receiver.stop().succeeded();
    assert!(ended.stderr.contains("stream 0: message 0 is lost"), "{}", ended.stderr);
    ended.wrote(b"two\n");
}
