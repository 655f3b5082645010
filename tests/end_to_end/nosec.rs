//! Claim: with `sts_mode = nosec`, the tools are plain MQTT filters; without it, nothing is ever sent in plaintext.

use std::process::Command;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, M2S, Pair, settings};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

#[test]
fn other_programs_read_what_we_send() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let sniffer = Sniffer::start(&broker);
    device.send_all(&["--each"], "21.5\n22.0\n").succeeded();
    sniffer.wait_for_type("one_topic", b'2', 2);
    let seen: Vec<u8> = sniffer.seen().into_iter().flat_map(|seen| seen.payload).collect();
    let text = String::from_utf8(seen).unwrap();
    assert_eq!(text.replace('\n', ""), "21.522.0");
}

#[test]
fn we_read_what_other_programs_send() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let receiver = device.listen(&["-n", "2"]);
    for line in ["from mosquitto_pub\n", "and again\n"] {
        broker.publish("one_topic", line.as_bytes());
    }
    receiver.wait().succeeded().wrote(b"from mosquitto_pub\nand again\n");
}

#[test]
fn a_device_hears_itself_on_one_topic() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let receiver = device.listen(&["-n", "1"]);
    device.send_all(&[], "echo\n").succeeded();
    receiver.wait().succeeded().wrote(b"echo\n");
}

#[test]
fn mosquitto_sub_prints_our_lines() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let mut subscriber = Command::new("mosquitto_sub");
    let port = broker.port().to_string();
    subscriber.args(["-p", &port, "-i", "reader", "-q", "1", "-t", "one_topic", "-C", "1", "-N"]);
    let subscriber = Process::spawn(subscriber);
    broker.wait_for_log("Sending SUBACK to reader", 1);
    device.send_all(&[], "one line\n").succeeded();
    subscriber.wait().succeeded().wrote(b"one line\n");
}

#[test]
fn an_encrypted_link_never_writes_plaintext_it_receives() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    broker.publish(M2S, b"rm -rf everything\n");
    let plain = ["-o", "sts_mode=nosec", "-o", "aes=null", "-o", "clientid=plain"];
    pair.master.send_all(&plain, "sent in the clear\n").succeeded();
    pair.master.send_all(&[], "sealed\n").succeeded();
    receiver.wait().succeeded().wrote(b"sealed\n");
}

#[test]
fn pairing_a_plain_link_is_refused() {
    let broker = Broker::start();
    let device = Device::configured(Identity::Station, &settings(&broker.port().to_string(), "nosec", "null"));
    Process::spawn(device.pair(&["--timeout", "1", LINK])).wait().failed(&[64, 78], &["nosec"]);
}

#[test]
fn a_message_of_another_client_is_a_line() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    for options in [&[][..], &["--prefix"], &["--json"]] {
        let receiver = device.listen(&[options, &["-n", "5"]].concat());
        for payload in ["21.5", "", "with a newline\n", "two\nlines"] {
            broker.publish("one_topic", payload.as_bytes());
        }
        let printed = receiver.wait().succeeded();
        let lines: Vec<&str> = printed.text().lines().collect();
        assert_eq!(lines.len(), 5, "{lines:?}");
        match options {
            [] => assert_eq!(printed.text(), "21.5\n\nwith a newline\ntwo\nlines\n"),
            ["--prefix"] => assert_eq!(lines[..2], ["one_topic: 21.5", "one_topic: "]),
            _ => assert!(lines.iter().all(|line| !line.contains("newline\":")), "{lines:?}"),
        }
    }
}

#[test]
fn binary_payloads_are_written_as_they_are() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let receiver = device.listen(&["-b"]);
    for payload in [&b"\x00\xff"[..], b"", b"abc", b"\n"] {
        broker.publish("one_topic", payload);
    }
    receiver.wait_for_stdout(b"\x00\xffabc\n");
    receiver.stop().succeeded().wrote(b"\x00\xffabc\n");
}

#[test]
fn each_publishes_lines_without_their_newline() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    let sniffer = Sniffer::start(&broker);
    let longest = "x".repeat(256);
    for (options, input, expected) in [
        (&["--each"][..], "ON\n\nOFF".to_owned(), vec!["ON".to_owned(), String::new(), "OFF".to_owned()]),
        (&["--each", "--spool", "spool"], "ON\n\nOFF\n".to_owned(), vec!["ON".into(), String::new(), "OFF".into()]),
        // A line that fits into a message only without its newline becomes two messages, neither of which is empty.
        (
            &["--each", "-o", "max_message=256"],
            format!("{longest}\nend\n"),
            vec!["x".repeat(255), "x".into(), "end".into()],
        ),
        (&["-b"], "ON\n".into(), vec!["ON\n".into()]),
        (&[], "ON\n".into(), vec!["ON\n".into()]),
    ] {
        let before = sniffer.seen().len();
        device.send_all(options, input).succeeded();
        wait_until("all messages to be seen", || sniffer.seen().len() >= before + expected.len());
        let seen = sniffer.seen();
        let seen: Vec<_> = seen[before..].iter().map(|seen| String::from_utf8(seen.payload.clone()).unwrap()).collect();
        assert_eq!(seen, expected, "{options:?}");
    }
}

#[test]
fn lines_of_each_arrive_as_they_were_read() {
    let broker = Broker::start();
    let device = Device::plain(&broker);
    for options in [&["--each"][..], &["--each", "--spool", "spool"]] {
        let receiver = device.listen(&["-n", "3"]);
        device.send_all(options, "one\n\nthree\n").succeeded();
        receiver.wait().succeeded().wrote(b"one\n\nthree\n");
    }
}
