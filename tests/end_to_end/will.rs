//! Claim: what `sts-send --will` leaves with the broker, the receiver writes once if the run dies, and never if it ends in order.

use rustix::process::Signal;

use crate::broker::{Broker, Options};
use crate::device::{Device, LINK, M2S, Pair, settings};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

const WILL: u8 = 0x29;
const TEXT: [&str; 2] = ["--will", "station is gone"];
const LINE: &str = "station is gone\n";
const CONNECTED: &str = "connected to";

/// A sender that is connected.
fn start(device: &Device, options: &[&str]) -> Process {
    let sender = Process::spawn(device.send(&[&["-v"], &TEXT[..], options, &[LINK]].concat()));
    sender.wait_for(CONNECTED);
    sender
}

fn kill(sender: Process) {
    sender.signal(Signal::KILL);
    assert_eq!(sender.wait().status, 128 + 9);
}

#[test]
fn a_sender_that_is_killed_is_missed_once() {
    let broker = Broker::start();
    for options in [&[][..], &["--confirm"], &["--spool", "spool"], &["-o", "qos=0"], &["-o", "qos=2", "--pad", "64"]] {
        let pair = Pair::paired(&broker, "gcm");
        let receiver = pair.slave.listen(&[]);
        let mut sender = start(&pair.master, options);
        sender.write("one\n");
        receiver.wait_for_stdout(b"one\n");
        kill(sender);
        let mut expected = format!("one\n{LINE}");
        receiver.wait_for_stdout(expected.as_bytes());
        // With a spool, what was not acknowledged to its end comes first, and was written.
        pair.master.send_all(&[&TEXT[..], options].concat(), "two\n").succeeded();
        expected += "two\n";
        receiver.wait_for_stdout(expected.as_bytes());
        receiver.stop().succeeded().wrote(expected.as_bytes());
    }
}

#[test]
fn a_sender_that_had_nothing_to_say_is_missed_too() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--json"]);
    kill(start(&pair.master, &[]));
    wait_until("the will to be written", || receiver.stdout().ends_with(b"\n"));
    let ended = receiver.stop();
    let text = ended.text();
    assert!(text.starts_with("{\"peer\":\"station\",\"stream\":0,\"seq\":0,\"will\":true,"), "{text}");
    assert!(text.contains("\"text\":\"station is gone\""), "{text}");
    assert!(!ended.stderr.contains("warning"), "{}", ended.stderr);
}

#[test]
fn a_sender_that_ends_in_order_is_not_missed() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    for options in [&[][..], &["--confirm"], &["--spool", "spool"]] {
        pair.master.send_all(&[&TEXT[..], options].concat(), "").succeeded();
        pair.master.send_all(&[&TEXT[..], options].concat(), "line\n").succeeded();
        let sender = start(&pair.master, options);
        sender.stop().succeeded();
    }
    pair.master.send_all(&["--confirm"], "last\n").succeeded();
    receiver.stop().succeeded().wrote(b"line\nline\nline\nlast\n");
    assert!(sniffer.seen_of_type(M2S, WILL).is_empty());
}

#[test]
fn each_connection_has_a_will_of_its_own_and_a_replay_is_none() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let sniffer = Sniffer::start(&broker);
    let receiver = pair.slave.listen(&[]);
    let mut sender = start(&pair.master, &["-o", "keep_alive=1"]);
    sender.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    // The broker misses it, and is right for as long as it does not go on.
    sender.signal(Signal::STOP);
    let mut expected = format!("one\n{LINE}");
    receiver.wait_for_stdout(expected.as_bytes());
    sender.signal(Signal::CONT);
    sender.wait_for_times(CONNECTED, 2);
    sender.write("two\n");
    expected += "two\n";
    receiver.wait_for_stdout(expected.as_bytes());
    kill(sender);
    expected += LINE;
    receiver.wait_for_stdout(expected.as_bytes());

    let wills = sniffer.wait_for_type(M2S, WILL, 2);
    assert!(!wills.iter().any(|will| will.windows(4).any(|part| part == b"gone")), "sealed");
    for will in wills {
        broker.publish(M2S, &will);
    }
    pair.master.send_all(&["--confirm"], "last\n").succeeded();
    expected += "last\n";
    receiver.stop().succeeded().wrote(expected.as_bytes());
}

#[test]
fn after_a_new_session_the_will_is_of_that() {
    let broker = Broker::start();
    for options in [&[][..], &["--confirm"], &["--spool", "spool"]] {
        for is_used in [true, false] {
            let pair = Pair::paired(&broker, "gcm");
            let receiver = pair.slave.listen(&[]);
            let mut sender = start(&pair.master, options);
            let mut expected = String::new();
            if is_used {
                sender.write("before\n");
                expected += "before\n";
                receiver.wait_for_stdout(expected.as_bytes());
            }
            pair.agree();
            // It looks for a new session once a second when it has something to send, and now and then before.
            wait_until("the sender to connect anew", || {
                if is_used {
                    sender.write("after\n");
                    expected += "after\n";
                }
                sender.stderr().matches(CONNECTED).count() >= 2
            });
            receiver.wait_for_stdout(expected.as_bytes());
            kill(sender);
            expected += LINE;
            receiver.wait_for_stdout(expected.as_bytes());
            let ended = receiver.stop().succeeded().wrote(expected.as_bytes());
            assert!(!ended.stderr.contains("warning"), "{options:?}: {}", ended.stderr);
        }
    }
}

#[test]
fn the_will_waits_for_the_first_session() {
    let broker = Broker::start();
    let pair = Pair::enrolled(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&[&["-v", "--spool", "spool"], &TEXT[..], &[LINK]].concat()));
    sender.write("kept\n");
    sender.wait_for("input waits in the spool");
    pair.agree();
    let receiver = pair.slave.listen(&[]);
    receiver.wait_for_stdout(b"kept\n");
    kill(sender);
    receiver.wait_for_stdout(format!("kept\n{LINE}").as_bytes());
}

/// As Home Assistant and others expect of `availability_topic`.
#[test]
fn without_encryption_the_will_is_the_text_and_retained_if_asked() {
    let broker = Broker::start();
    let port = broker.port().to_string();
    let device = Device::bare();
    device.configure(&settings(&port, "nosec", "null"));
    let options = ["-o", "will_topic=home/station/available", "-o", "retain=1"];
    let available = ["-o", "subtop=home/station/available"];
    device.send_all(&["-o", "pubtop=home/station/available", "-o", "retain=1"], "online\n").succeeded();
    let last = || Process::spawn(device.recv(&[&available[..], &["--last", LINK]].concat())).wait().succeeded();
    last().wrote(b"online\n");
    let sender = Process::spawn(device.send(&[&["-v", "--will", "offline"], &options[..], &[LINK]].concat()));
    sender.wait_for(CONNECTED);
    let listener = device.listen(&available);
    kill(sender);
    listener.wait_for_stdout(b"online\noffline\n");
    last().wrote(b"offline\n");
}

#[test]
fn a_will_that_cannot_be_is_refused_before_anything_is_sent() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let long = "x".repeat(300);
    pair.master.send_all(&["--will", ""], "line\n").failed(&[64], &["--will"]);
    pair.master
        .send_all(&["--will", &long, "-o", "max_message=256"], "line\n")
        .failed(&[64], &["300 bytes", "hint: shorten the text"]);
    pair.master.send_all(&["-o", "will_topic=t"], "line\n").failed(&[64], &["only with `sts_mode = nosec`", "pubtop"]);
}

#[test]
fn a_broker_with_a_lower_qos_gets_the_will_all_the_same() {
    let broker = Broker::with_lines(Options::default(), "max_qos 1\n");
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let sender = start(&pair.master, &["-o", "qos=2", "-o", "mqtt_version=5"]);
    sender.wait_for("the will is sent with QoS 1 instead of 2");
    kill(sender);
    receiver.wait_for_stdout(LINE.as_bytes());
    receiver.stop().succeeded();
}
