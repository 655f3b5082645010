//! Claim: with `retain = 1`, `sts-recv --last` prints the newest message that the broker keeps, as often as it is run, and
//! never an older one than was received. No other run misses or repeats anything because of it.

use std::fs;
use std::path::PathBuf;

use crate::broker::{Broker, Options, Queue};
use crate::device::{Device, LINK, M2S, Pair, readings, settings};
use crate::fleet::Fleet;
use crate::process::{Ended, Process};
use crate::sniffer::Sniffer;

const ENC: u8 = 0x27;
const RETAIN: [&str; 2] = ["-o", "retain=1"];

fn last(device: &Device, options: &[&str]) -> Ended {
    Process::spawn(device.recv(&[&["--last"], options, &[LINK]].concat())).wait()
}

/// Sends with `retain = 1`.
fn publish(device: &Device, options: &[&str], input: &str) {
    device.send_all(&[&RETAIN, options].concat(), input).succeeded();
}

/// Replaces the message that the broker keeps.
fn play_back(broker: &Broker, device: &Device, topic: &str, payload: &[u8]) {
    let file = device.path().join("payload");
    fs::write(&file, payload).unwrap();
    broker.retain(topic, &file);
}

fn state(device: &Device) -> Vec<(PathBuf, Vec<u8>)> {
    device.runtime_files()
}

#[test]
fn the_last_value_is_printed_as_often_as_it_is_asked_for() {
    let broker = Broker::start();
    for suite in ["gcm", "cbc", "ecb"] {
        let pair = Pair::paired(&broker, suite);
        publish(&pair.master, &[], "21.5\n");
        let before = state(&pair.slave);
        for _ in 0..2 {
            last(&pair.slave, &[]).succeeded().wrote(b"21.5\n");
        }
        assert_eq!(state(&pair.slave), before, "{suite}: looking leaves no trace");
        publish(&pair.master, &["--each"], "22.0\n22.5\n");
        last(&pair.slave, &["--prefix"]).succeeded().wrote(b"station: 22.5\n");
    }
}

#[test]
fn what_a_service_has_received_is_printed_beside_it() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let service = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[&RETAIN[..], &["--each", LINK]].concat()));
    let mut written = String::new();
    for value in ["one\n", "two\n", "three\n"] {
        sender.write(value);
        written.push_str(value);
        service.wait_for_stdout(written.as_bytes());
        last(&pair.slave, &[]).succeeded().wrote(value.as_bytes());
    }
    // The message that ends the stream is not a value.
    sender.wait().succeeded();
    last(&pair.slave, &[]).succeeded().wrote(b"three\n");
    for options in [&["--each", "--confirm"][..], &["--each", "--spool", "spool"], &["--confirm", "--spool", "other"]] {
        let value = format!("{}\n", options.join(" "));
        publish(&pair.master, options, &format!("older\n{value}"));
        written.extend(["older\n", &value]);
        service.wait_for_stdout(written.as_bytes());
        let printed = last(&pair.slave, &[]).succeeded();
        assert!(printed.text().ends_with(&value), "{options:?}: {printed:?}");
    }
    let ended = service.stop().succeeded().wrote(written.as_bytes());
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
}

#[test]
fn a_broker_that_plays_back_an_older_one_is_refused() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let service = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[&RETAIN[..], &["--each", LINK]].concat()));
    let mut written = String::new();
    let mut sealed = Vec::new();
    for value in ["one\n", "two\n"] {
        sender.write(value);
        written.push_str(value);
        service.wait_for_stdout(written.as_bytes());
        sealed = sniffer.wait_for_type(M2S, ENC, sealed.len() + 1);
    }
    let refused = || last(&pair.slave, &[]).failed(&[75], &["older than what was received", "stream 0, message 0"]);
    // Older in a stream that is open, and in one that has ended.
    play_back(&broker, &pair.slave, M2S, &sealed[0]);
    refused().wrote(b"");
    play_back(&broker, &pair.slave, M2S, &sealed[1]);
    last(&pair.slave, &[]).succeeded().wrote(b"two\n");
    sender.wait().succeeded();
    last(&pair.slave, &[]).succeeded().wrote(b"two\n");
    play_back(&broker, &pair.slave, M2S, &sealed[0]);
    refused().wrote(b"");
    // From an older stream.
    publish(&pair.master, &[], "three\n");
    written.push_str("three\n");
    service.wait_for_stdout(written.as_bytes());
    last(&pair.slave, &[]).succeeded().wrote(b"three\n");
    play_back(&broker, &pair.slave, M2S, &sealed[1]);
    last(&pair.slave, &[]).failed(&[75], &["older than what was received", "stream 0, message 1"]).wrote(b"");
    // From the previous session: accepted until something was received under the new one.
    publish(&pair.master, &[], "four\n");
    written.push_str("four\n");
    service.wait_for_stdout(written.as_bytes());
    let sealed = sniffer.seen_of_type(M2S, ENC);
    let four = &sealed[sealed.len() - 2];
    pair.agree();
    last(&pair.slave, &[]).succeeded().wrote(b"four\n");
    publish(&pair.master, &[], "five\n");
    written.push_str("five\n");
    service.wait_for_stdout(written.as_bytes());
    last(&pair.slave, &[]).succeeded().wrote(b"five\n");
    play_back(&broker, &pair.slave, M2S, four);
    last(&pair.slave, &[]).failed(&[75], &["older than what was received"]).wrote(b"");
    // A message of a deleted session cannot be opened, and junk is not a value.
    service.stop().succeeded();
    Process::spawn(pair.slave.pair(&["--end", LINK])).wait();
    pair.agree();
    last(&pair.slave, &[]).failed(&[75], &["unknown session"]).wrote(b"");
    let service = pair.slave.listen(&[]);
    service.wait_for("skipped a retained message of a deleted session");
    let ended = service.stop().succeeded();
    assert!(!ended.stderr.contains("dropped"), "{}", ended.stderr);
    play_back(&broker, &pair.slave, M2S, b"junk");
    last(&pair.slave, &[]).failed(&[75], &["not an STS/2 message"]).wrote(b"");
}

#[test]
fn lost_receive_state_opens_the_way_to_no_old_value() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let service = pair.slave.listen(&[]);
    publish(&pair.master, &[], "one\n");
    service.wait_for_stdout(b"one\n");
    service.stop().succeeded();
    fs::remove_file(pair.slave.runtime_dir().join(format!("{LINK}@recv"))).unwrap();
    last(&pair.slave, &[]).failed(&[75], &["is lost"]).wrote(b"");
    // Under a new session, the message of the lost one is still refused.
    pair.agree();
    last(&pair.slave, &[]).failed(&[75], &["older"]).wrote(b"");
}

#[test]
fn without_a_retained_message_it_says_so_and_why() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let waiting = pair.slave.listen(&["--last", "--timeout", "3"]);
    // A message that is not retained is not a last value.
    pair.master.send_all(&[], "live\n").succeeded();
    waiting.wait().failed(&[75], &["no retained message", "retain = 1"]).wrote(b"");
    broker.stop();
    last(&pair.slave, &["--timeout", "1"]).failed(&[69], &["connection"]).wrote(b"");
    for other in ["--once", "--lines=1"] {
        last(&pair.slave, &[other]).failed(&[64], &["--last"]);
    }
}

#[test]
fn a_late_reader_is_told_of_no_gap() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for value in ["one\n", "two\n", "three\n"] {
        publish(&pair.master, &["--each"], value);
    }
    // From a later stream, and from the middle of a stream.
    let mut sender = Process::spawn(pair.master.send(&[&RETAIN[..], &["--each", LINK]].concat()));
    let sniffer = Sniffer::start(&broker);
    sender.write("four\nfive\n");
    sniffer.wait_for_type(M2S, ENC, 2);
    for _ in 0..2 {
        let reader = pair.slave.listen(&[]);
        reader.wait_for("skipped a retained message");
        let ended = reader.stop().succeeded().wrote(b"");
        assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
    }
    last(&pair.slave, &[]).succeeded().wrote(b"five\n");
    // A live message shows what this device has missed, as always.
    let reader = pair.slave.listen(&[]);
    sender.write("six\n");
    reader.wait_for_stdout(b"six\n");
    reader.wait_for("gap");
    sender.wait().succeeded();
    reader.stop().succeeded().wrote(b"six\n");
}

#[test]
fn a_service_gets_all_that_was_queued_whatever_is_retained() {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop().succeeded();
    // More than the broker sends without an acknowledgement: the retained message may arrive before the rest.
    let input = readings(200);
    let text = std::str::from_utf8(&input).unwrap();
    publish(&pair.master, &["--each"], text);
    let newest = text.split_inclusive('\n').next_back().unwrap();
    for _ in 0..2 {
        last(&pair.slave, &[]).succeeded().wrote(newest.as_bytes());
    }
    let service = pair.slave.listen(&[]);
    service.wait_for_stdout(&input);
    // Each start subscribes again, and gets the retained message again.
    service.stop().succeeded().wrote(&input);
    let again = pair.slave.listen(&[]);
    publish(&pair.master, &[], "one more\n");
    again.wait_for_stdout(b"one more\n");
    let ended = again.stop().succeeded().wrote(b"one more\n");
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
}

#[test]
fn messages_that_come_after_the_one_that_was_kept_are_written() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let input = "one\ntwo\nthree\nfour\n";
    publish(&pair.master, &["--each"], input);
    let sealed = sniffer.wait_for_type(M2S, ENC, 5);
    // MQTT does not say whether a broker sends the retained message or its queue first; here the queue is last.
    let reader = pair.slave.listen(&["-o", "clientid="]);
    reader.wait_for("skipped a retained message");
    for message in &sealed {
        broker.publish(M2S, message);
    }
    reader.wait_for_stdout(input.as_bytes());
    let ended = reader.stop().succeeded().wrote(input.as_bytes());
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
}

#[test]
fn a_retained_message_that_is_the_next_one_fills_the_hole() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    // Without a `clientid`, nothing is queued for the reader.
    let reader = || pair.slave.listen(&["-o", "clientid="]);
    let mut sender = Process::spawn(pair.master.send(&[&RETAIN[..], &["--each", LINK]].concat()));
    let first = reader();
    sender.write("one\n");
    first.wait_for_stdout(b"one\n");
    first.stop().succeeded();
    sender.write("two\n");
    sniffer.wait_for_type(M2S, ENC, 2);
    let second = reader();
    second.wait_for_stdout(b"two\n");
    sender.write("three\n");
    second.wait_for_stdout(b"two\nthree\n");
    let ended = second.stop().succeeded().wrote(b"two\nthree\n");
    assert!(!ended.stderr.contains("gap"), "{}", ended.stderr);
    sender.wait().succeeded();
}

#[test]
fn of_many_peers_the_newest_of_each_is_printed() {
    let broker = Broker::start();
    let fleet = Fleet::paired(&broker, "plant", 0..4);
    let sniffer = Sniffer::start(&broker);
    let service = fleet.gateway.listen(&["--prefix"]);
    let mut written = String::new();
    for value in ["old", "new"] {
        for (number, sensor) in fleet.sensors.iter().enumerate().take(3) {
            let value = format!("{value} {number}\n");
            publish(sensor, &[], &value);
            written.extend([&format!("s{number}: "), &value[..]]);
            service.wait_for_stdout(written.as_bytes());
        }
    }
    let print = |options: &[&str]| last(&fleet.gateway, &[&["--timeout", "5"], options].concat());
    print(&["--prefix"]).succeeded().wrote(b"s0: new 0\ns1: new 1\ns2: new 2\n");
    let ended = print(&["-v"]).succeeded().wrote(b"new 0\nnew 1\nnew 2\n");
    assert!(ended.stderr.contains("no retained message of s3"), "{}", ended.stderr);
    // A replayed message does not affect the others, whatever its topic.
    let old = sniffer.wait_for_type("plant/s1/up", ENC, 4).remove(0);
    play_back(&broker, &fleet.gateway, "plant/s3/up", &old);
    print(&[]).succeeded().wrote(b"new 0\nnew 1\nnew 2\n");
    play_back(&broker, &fleet.gateway, "plant/s1/up", &old);
    let ended = print(&[]).succeeded().wrote(b"new 0\nnew 2\n");
    assert!(ended.stderr.contains("older than what was received: s1, stream 0, message 0"), "{}", ended.stderr);
    service.stop().succeeded();
}

#[test]
fn without_encryption_it_is_what_the_broker_keeps() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let device = Device::bare();
    device.configure(&settings(&port, "nosec", "null"));
    last(&device, &["--timeout", "1"]).failed(&[75], &["no retained message"]).wrote(b"");
    play_back(&broker, &device, M2S, b"21.5");
    play_back(&broker, &device, "other", b"ON\n");
    let topic = |topic: &'static str, options: &[&'static str]| {
        let subtop = format!("subtop={topic}");
        last(&device, &[&["-o", &subtop, "--timeout", "5"], options].concat())
    };
    for _ in 0..2 {
        topic(M2S, &[]).succeeded().wrote(b"21.5\n");
        topic(M2S, &["-b"]).succeeded().wrote(b"21.5");
        topic("$share/group/m2s", &[]).succeeded().wrote(b"21.5\n");
    }
    let mut all: Vec<String> = topic("#", &["--prefix"]).succeeded().text().lines().map(str::to_owned).collect();
    all.sort();
    assert_eq!(all, ["m2s: 21.5", "other: ON"]);
}
