//! Claim: sts-recv ends when its options say so, its exit status is correct, and the rest is left for the next run.

use std::fs::{self, File};
use std::process::{Command, Stdio};

use crate::broker::Broker;
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, assert_same};

/// 50 lines of two digits.
fn numbers() -> Vec<String> {
    (10..60).map(|number| format!("{number}\n")).collect()
}

#[test]
fn once_follows_the_first_stream_and_leaves_the_next() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["-1"]);
    pair.master.send_all(&[], "first\n").succeeded();
    pair.master.send_all(&[], "second\n").succeeded();
    receiver.wait().succeeded().wrote(b"first\n");
    Process::spawn(pair.slave.recv(&["-1", LINK])).wait().succeeded().wrote(b"second\n");
}

/// The broker sends only so many messages without an acknowledgement, for all streams together.
#[test]
fn a_run_whose_stream_is_stuck_after_others_says_so_and_loses_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["-1"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    sender.write("first\n");
    receiver.wait_for_stdout(b"first\n");
    let others: String = numbers().concat();
    pair.master.send_all(&["--each"], others.clone()).succeeded();
    sender.write("second\n");
    sender.close_stdin();
    sender.wait().succeeded();
    let said =
        ["nothing more came from the broker", "--once leaves", "max_inflight_messages", "open: station, stream 0"];
    receiver.wait().failed(&[75], &said).wrote(b"first\n");
    let rest = pair.slave.listen(&["-n", "51"]).wait().succeeded();
    rest.wrote((others + "second\n").as_bytes());
}

#[test]
fn lines_are_counted_and_the_rest_waits() {
    let broker = Broker::start();
    for args in [&["--each"][..], &[]] {
        let pair = Pair::paired(&broker, "gcm");
        let lines = numbers();
        let receiver = pair.slave.listen(&["-n", "3"]);
        pair.master.send_all(args, lines.concat()).succeeded();
        receiver.wait().succeeded().wrote(lines[..3].concat().as_bytes());
        let next = Process::spawn(pair.slave.recv(&["-n", "7", LINK])).wait();
        next.succeeded().wrote(lines[3..10].concat().as_bytes());
        let rest = Process::spawn(pair.slave.recv(&["--once", LINK])).wait();
        rest.succeeded().wrote(lines[10..].concat().as_bytes());
    }
}

#[test]
fn timeout_is_success_when_nothing_is_open() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--timeout", "5"]);
    pair.master.send_all(&[], "complete\n").succeeded();
    receiver.wait().succeeded().wrote(b"complete\n");
    Process::spawn(pair.slave.recv(&["--timeout", "1", LINK])).wait().succeeded().wrote(b"");
}

#[test]
fn timeout_names_the_stream_that_is_open() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--timeout", "5"]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("and then\n");
    let said = ["stream 0 is incomplete", "1 message so far, the last "];
    receiver.wait().failed(&[75], &said).wrote(b"and then\n");
}

#[test]
fn fewer_lines_than_were_asked_for_are_no_success() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["-n", "3", "--timeout", "5"]);
    pair.master.send_all(&[], "one\ntwo\n").succeeded();
    receiver.wait().failed(&[75], &["timed out", "2 of 3 lines"]).wrote(b"one\ntwo\n");
    // With -1, a complete stream of fewer lines is enough.
    let receiver = pair.slave.listen(&["-1", "-n", "3"]);
    pair.master.send_all(&[], "one\ntwo\n").succeeded();
    receiver.wait().succeeded().wrote(b"one\ntwo\n");
    // The peer ends the session, so no more lines can follow.
    let receiver = pair.slave.listen(&["-n", "3"]);
    pair.master.send_all(&[], "one\n").succeeded();
    receiver.wait_for_stdout(b"one\n");
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().failed(&[75], &["ended the session", "1 of 3 lines"]).wrote(b"one\n");
}

#[test]
fn a_stream_that_never_began_is_no_success() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    Process::spawn(pair.slave.recv(&["-1", "--timeout", "1", LINK])).wait().failed(&[75], &["no stream"]);
    let receiver = pair.slave.listen(&["-1"]);
    Process::spawn(pair.master.pair(&["--end", LINK])).wait().succeeded();
    receiver.wait().failed(&[75], &["ended the session", "no stream"]);
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "clientid=plain", "--timeout", "1", LINK];
    Process::spawn(pair.slave.recv(&[&["-1"][..], &plain].concat())).wait().failed(&[75], &["no message"]);
    Process::spawn(pair.slave.recv(&[&["-n", "1"][..], &plain].concat())).wait().failed(&[75], &["0 of 1 line"]);
    Process::spawn(pair.slave.recv(&plain)).wait().succeeded();
}

#[test]
fn closed_stdout_is_a_quiet_success() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut command = pair.slave.recv(&[LINK]);
    let (reader, writer) = std::io::pipe().unwrap();
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let receiver = Process::started(command);
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    drop(reader);
    pair.master.send_all(&[], "nobody reads this\n").succeeded();
    let ended = receiver.wait().succeeded();
    assert_eq!(ended.stderr, "");
    // Nothing was acknowledged, so the next run gets it.
    Process::spawn(pair.slave.recv(&["-1", LINK])).wait().succeeded().wrote(b"nobody reads this\n");
}

#[test]
fn full_stdout_is_an_error_and_loses_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut command = pair.slave.recv(&[LINK]);
    command.stdin(Stdio::null()).stdout(File::create("/dev/full").unwrap()).stderr(Stdio::piped());
    let receiver = Process::started(command);
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    let input = readings(100);
    pair.master.send_all(&[], input.clone()).succeeded();
    receiver.wait().failed(&[1], &["stdout", "No space left on device", "the broker resends it"]);
    Process::spawn(pair.slave.recv(&["-1", LINK])).wait().succeeded().wrote(&input);
}

#[test]
fn full_stdout_promises_nothing_where_the_broker_keeps_nothing() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut command = pair.slave.recv(&["-o", "qos=0", LINK]);
    command.stdin(Stdio::null()).stdout(File::create("/dev/full").unwrap()).stderr(Stdio::piped());
    let receiver = Process::started(command);
    broker.wait_for_log("Sending SUBACK to gateway\n", 1);
    pair.master.send_all(&[], "lost\n").succeeded();
    let ended = receiver.wait().failed(&[1], &["stdout", "No space left on device"]);
    assert!(!ended.stderr.contains("resends"), "{}", ended.stderr);
}

/// Receives a stream into a file with run after run, on a disk that is full again after each KiB.
fn receive_on_full_disks(pair: &Pair, options: &[&str]) -> Vec<u8> {
    let file = pair.slave.path().join("received");
    for fills in 1..=100 {
        // A limit on file length ends a write as a full disk does: in the middle.
        let mut command = Command::new("sh");
        let blocks = 2 * fills;
        command.args(["-c", &format!("ulimit -f {blocks}; exec \"$0\" \"$@\" >>received")]);
        let recv = pair.slave.recv(&[options, &[LINK]].concat());
        command.arg(recv.get_program()).args(recv.get_args()).current_dir(pair.slave.path());
        command.env("STS_CONFIG_DIR", pair.slave.config_dir()).env("STS_RUNTIME_DIR", pair.slave.runtime_dir());
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let ended = Process::started(command).wait();
        if ended.status == 0 {
            assert!(fills > 10, "the disk was full {fills} times");
            return fs::read(file).unwrap();
        }
        let ended = ended.failed(&[1], &["stdout", "File too large"]);
        let len = fs::metadata(&file).unwrap().len();
        // Plain output continues at the same byte; a line with a prefix, or of JSON, is written again as a whole.
        let least = if options == ["-1"] { 1024 * fills } else { 1024 * (fills - 1) };
        assert!((least..=1024 * fills).contains(&len), "{len} bytes on disk {fills}: {}", ended.stderr);
    }
    panic!("it never comes to an end");
}

#[test]
fn a_full_disk_tears_no_line() {
    let broker = Broker::start();
    for options in [&[][..], &["--each"], &["-o", "max_message=2000"]] {
        let pair = Pair::paired(&broker, "gcm");
        pair.slave.listen(&[]).stop();
        let input = readings(200);
        pair.master.send_all(options, input.clone()).succeeded();
        assert_same(&receive_on_full_disks(&pair, &["-1"]), &input, "");
    }
}

/// On a plain link no stream state is recorded: the broker sends the whole message again.
#[test]
fn a_full_disk_tears_no_line_of_a_plain_link() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "clientid=plain"];
    pair.slave.listen(&plain).stop();
    let input = readings(200);
    pair.master.send_all(&[&["--each"], &plain[..]].concat(), input.clone()).succeeded();
    let options = [&plain[..], &["--timeout", "5"]].concat();
    assert_same(&receive_on_full_disks(&pair, &options), &input, "");
}

#[test]
fn a_full_disk_tears_no_line_that_has_something_in_front() {
    let broker = Broker::start();
    for option in ["--prefix", "--json"] {
        let pair = Pair::paired(&broker, "gcm");
        pair.slave.listen(&[]).stop();
        let input = readings(200);
        pair.master.send_all(&["--each"], input.clone()).succeeded();
        let received = String::from_utf8(receive_on_full_disks(&pair, &["-1", option])).unwrap();
        let lines: Vec<_> = std::str::from_utf8(&input).unwrap().lines().collect();
        assert_eq!(received.lines().count(), lines.len(), "{received}");
        for (got, line) in received.lines().zip(lines) {
            if option == "--prefix" {
                assert_eq!(got, format!("station: {line}"));
            } else {
                let text = format!(r#""text":"{}"}}"#, line.replace('"', r#"\""#));
                assert!(got.starts_with(r#"{"peer":"station","#) && got.ends_with(&text), "{got}");
            }
        }
    }
}

#[test]
fn a_second_receiver_on_the_link_says_so() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let first = pair.slave.listen(&["--once"]);
    Process::spawn(pair.slave.recv(&[LINK])).wait().failed(&[75], &["already"]);
    pair.master.send_all(&[], "to the first\n").succeeded();
    first.wait().succeeded().wrote(b"to the first\n");
}
