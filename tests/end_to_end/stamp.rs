//! Claim: with `--stamp`, `sts-recv --json` says when the sender read each message, however long it waited and however it
//! was sent again; nothing else is written.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::process::Signal;
use serde_json::Value;

use crate::broker::{Broker, Options};
use crate::device::{Device, Identity, LINK, Pair, readings, settings};
use crate::process::{Ended, Process, wait_until};

/// Thousandths of a second since 1970: what `--json` has.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// The text of each line, and when it was sent.
fn lines(ended: &Ended) -> Vec<(String, Option<u64>)> {
    let line = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap();
        let millis = |member: &str| {
            // As it is written: a float would be rounded.
            let (_, rest) = line.split_once(&format!("\"{member}\":"))?;
            rest.split([',', '}']).next().unwrap().replace('.', "").parse::<u64>().ok()
        };
        let sent = millis("sent");
        assert!(sent.is_none_or(|sent| sent <= millis("time").unwrap()), "{line}");
        (object["text"].as_str().unwrap().to_owned(), sent)
    };
    ended.text().lines().map(line).collect()
}

fn wait_for_lines(receiver: &Process, count: usize) {
    wait_until("lines", || String::from_utf8(receiver.stdout()).unwrap().matches('\n').count() >= count);
}

fn texts(lines: &[(String, Option<u64>)]) -> Vec<&str> {
    lines.iter().map(|(text, _)| text.as_str()).collect()
}

/// The format of the spool of a device.
fn format(device: &Device) -> String {
    let owner = std::fs::read_to_string(device.path().join("spool/owner")).unwrap();
    owner.lines().nth(1).unwrap().to_owned()
}

#[test]
fn each_line_says_when_it_was_read_and_nothing_without_the_option() {
    let broker = Broker::start();
    for suite in ["gcm", "cbc", "ecb"] {
        let pair = Pair::paired(&broker, suite);
        for args in [
            &["--stamp"][..],
            &["--stamp", "--confirm"],
            &["--stamp", "--pad", "64"],
            &["--stamp", "--spool", "spool"],
            &["--stamp", "--spool", "other", "--confirm"],
            &["--confirm"],
        ] {
            let receiver = pair.slave.listen(&["--json", "--once"]);
            let start = now();
            pair.master.send_all(&[args, &["--each"]].concat(), "one\ntwo\nthree").succeeded();
            let (lines, end) = (lines(&receiver.wait().succeeded()), now());
            assert_eq!(texts(&lines), ["one", "two", "three"], "{args:?}");
            let is_stamped = args[0] == "--stamp";
            for (text, sent) in lines {
                let is_right = sent.map_or(!is_stamped, |sent| is_stamped && (start..=end).contains(&sent));
                assert!(is_right, "{args:?}: {text} at {sent:?}, of {start} to {end}");
            }
        }
    }
}

#[test]
fn without_json_the_same_is_written_as_without_times() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for args in
        [&["--stamp", "--confirm"][..], &["--stamp", "--spool", "spool"], &["--stamp", "-b", "-o", "max_message=512"]]
    {
        for input in [&b""[..], b"no newline", &readings(3000)] {
            pair.carries(args, input);
        }
    }
}

/// What waits for the broker says when it was read, in whatever run, and whatever session it is sent under.
#[test]
fn what_waited_in_a_spool_was_sent_when_it_was_read() {
    let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    let run = |args: &[&str], input: &str| {
        let ended = pair.master.send_all(&[args, &["--spool", "spool", "--timeout", "1"]].concat(), input);
        (ended, now())
    };
    broker.stop();
    // It is in the format that earlier versions read, until times are kept.
    let (ended, _) = run(&[], "without\n");
    ended.failed(&[75], &["left in the spool"]);
    assert_eq!(format(&pair.master), "format = sts-spool-4");
    let start = now();
    let (ended, first) = run(&["--stamp"], "first\n");
    ended.failed(&[75], &["2 messages"]);
    assert_eq!(format(&pair.master), "format = sts-spool-5");
    let (ended, second) = run(&["--stamp", "--each"], "second\nthird\n");
    ended.failed(&[75], &["4 messages"]);
    broker.start_again();
    pair.agree();
    let receiver = pair.slave.listen(&["--json"]);
    let sent = pair.master.send_all(&["--stamp", "--spool", "spool"], "last\n").succeeded();
    assert!(!sent.stderr.contains("duplicated"), "{}", sent.stderr);
    wait_for_lines(&receiver, 5);
    let lines = lines(&receiver.stop().succeeded());
    assert_eq!(texts(&lines), ["without", "first", "second", "third", "last"]);
    let [without, one, two, three, last] = [0, 1, 2, 3, 4].map(|at: usize| lines[at].1);
    assert_eq!(without, None);
    assert!(one.is_some_and(|at| (start..=first).contains(&at)), "{lines:?}, {start}, {first}");
    assert!([two, three].iter().all(|at| at.is_some_and(|at| (first..=second).contains(&at))), "{lines:?}");
    assert!(last >= Some(second), "{lines:?}");
}

#[test]
fn a_run_without_the_option_sends_no_times() {
    let mut broker = Broker::with(Options { persistence: true, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    broker.stop();
    pair.master.send_all(&["--stamp", "--spool", "spool", "--timeout", "1"], "one\n").failed(&[75], &["1 message"]);
    broker.start_again();
    let receiver = pair.slave.listen(&["--json"]);
    pair.master.send_all(&["--spool", "spool"], "two\n").succeeded();
    wait_for_lines(&receiver, 2);
    assert_eq!(lines(&receiver.stop().succeeded()), [("one".to_owned(), None), ("two".to_owned(), None)]);
}

/// What was sealed and not confirmed goes into a stream that continues the first one.
#[test]
fn what_a_killed_run_sent_keeps_its_time_in_the_next_one() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["--stamp", "--each", "--confirm", "--spool", "spool", LINK]));
    sender.write("one\ntwo\n");
    sender.wait_until_read();
    broker.wait_for_log("Received PUBLISH from station-send", 2);
    sender.signal(Signal::KILL);
    sender.wait();
    let killed = now();
    pair.agree();
    let receiver = pair.slave.listen(&["--json"]);
    pair.master.send_all(&["--stamp", "--confirm", "--spool", "spool"], "three\n").succeeded();
    let lines = lines(&receiver.stop().succeeded());
    assert_eq!(texts(&lines), ["one", "two", "three"]);
    let times = [0, 1, 2].map(|at: usize| lines[at].1.unwrap());
    assert!(times[0] <= times[1] && times[1] <= killed && killed <= times[2], "{times:?}, {killed}");
}

/// The receiver has lost the session: what it has not confirmed is sealed again, in smaller messages or not.
#[test]
fn what_is_sealed_again_keeps_its_time() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["--stamp", "--each", "--confirm", LINK]));
    sender.write("one\ntwo\n");
    broker.wait_for_log("Received PUBLISH from station-send", 2);
    let read = now();
    pair.slave.lose_runtime_files();
    pair.agree();
    let receiver = pair.slave.listen(&["--json"]);
    wait_for_lines(&receiver, 2);
    sender.close_stdin();
    let sent = sender.wait().succeeded();
    assert!(sent.stderr.contains("possibly duplicated: 2 messages"), "{}", sent.stderr);
    let lines = lines(&receiver.stop().succeeded());
    assert_eq!(texts(&lines), ["one", "two"]);
    assert!(lines.iter().all(|(_, sent)| sent.is_some_and(|sent| sent <= read)), "{lines:?}, {read}");
}

/// It is opened alone, whatever was received before.
#[test]
fn the_value_that_the_broker_keeps_says_when_it_was_read() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let start = now();
    pair.master.send_all(&["--stamp", "--each", "-o", "retain=1"], "21.5\n22.0\n").succeeded();
    let end = now();
    let last = Process::spawn(pair.slave.recv(&["--last", "--json", LINK])).wait().succeeded();
    let lines = lines(&last);
    assert_eq!(texts(&lines), ["22.0"]);
    assert!(lines[0].1.is_some_and(|sent| (start..=end).contains(&sent)), "{lines:?}");
}

#[test]
fn a_will_has_no_time() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--json", "-n", "2"]);
    let mut sender = Process::spawn(pair.master.send(&["--stamp", "--will", "gone", LINK]));
    sender.write("here\n");
    wait_for_lines(&receiver, 1);
    sender.signal(Signal::KILL);
    sender.wait();
    let lines = lines(&receiver.wait().succeeded());
    assert_eq!(texts(&lines), ["here", "gone"]);
    assert!(lines[0].1.is_some() && lines[1].1.is_none(), "{lines:?}");
}

#[test]
fn a_link_without_encryption_has_no_times() {
    let broker = Broker::start();
    let device = Device::configured(Identity::Station, &settings(&broker.port().to_string(), "nosec", "null"));
    for spool in [&[][..], &["--spool", "spool"]] {
        device.send_all(&[&["--stamp"], spool].concat(), "x\n").failed(&[64], &["--stamp", "not encrypted"]);
    }
    assert!(!device.path().join("spool").exists());
}
