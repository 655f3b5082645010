//! Claim: with `sts_mode = nosec`, the tools and the old program understand each other as they are.

use serde_json::Value;

use crate::broker::Broker;
use crate::device::{Device, LINK};
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

/// What the old program shows of a payload of `sts_mode = nosec`.
fn shown_without_encryption(payload: &[u8]) -> &[u8] {
    let header = payload.iter().take(10).position(|byte| *byte == b':').map_or(0, |at| at + 1);
    payload[header..].split(|byte| *byte == 0).next().unwrap_or_default()
}

#[test]
fn without_encryption_the_two_understand_each_other_as_they_are() {
    let broker = Broker::start();
    let device = Device::bare();
    let port = broker.port().to_string();
    device.configure(&[
        ("mqtt_version", "4"),
        ("ip", "127.0.0.1"),
        ("port", &port),
        ("username", "nosec"),
        ("password", "nosec"),
        ("subtop", "to_us"),
        ("pubtop", "to_old"),
        ("clientid", "test_nosec"),
        ("sts_mode", "nosec"),
        ("aes", "null"),
    ]);
    let receiver = Process::spawn(device.recv(&["-v", "-n", "2", LINK]));
    receiver.wait_for("listening on");
    // As its shell makes them.
    broker.publish("to_us", b"hello world ");
    broker.publish("to_us", b"12:30 lunch ");
    receiver.wait().succeeded().wrote(b"hello world \n12:30 lunch \n");
    let sniffer = Sniffer::start(&broker);
    device.send_all(&["--each"], "21.5\nx:12:30 lunch\n").succeeded();
    wait_until("both payloads", || sniffer.seen().len() == 2);
    let seen = sniffer.seen();
    let shown: Vec<_> = seen.iter().map(|seen| shown_without_encryption(&seen.payload)).collect();
    assert_eq!(shown, [&b"21.5"[..], b"12:30 lunch"]);
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// A session that was captured with the old program, message by message.
fn replay(file: &str, to_old: &str, to_us: &str) {
    let path = format!("{}/tests/legacy/sessions/{file}", env!("CARGO_MANIFEST_DIR"));
    let captured: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let broker = Broker::start();
    let (device, port) = (Device::bare(), broker.port().to_string());
    let settings = [("ip", "127.0.0.1"), ("port", &port), ("subtop", to_us), ("pubtop", to_old), ("sts_mode", "nosec")];
    device.configure(&settings);
    let receiver = device.listen(&[]);
    let sniffer = Sniffer::start(&broker);
    let (mut printed, mut ours) = (Vec::new(), Vec::new());
    for message in captured["messages"].as_array().unwrap() {
        let payload = unhex(message["payload_hex"].as_str().unwrap());
        let is_ours = message["from"] == "ours";
        if is_ours {
            // Each line is a payload as it is, and an empty line an empty one.
            device.send_all(&["--each"], [&payload[..], b"\n"].concat()).succeeded();
            ours.push(payload.clone());
            let sent = || -> Vec<_> {
                sniffer.seen().into_iter().filter(|seen| seen.topic == to_old).map(|seen| seen.payload).collect()
            };
            wait_until("our payload", || sent().ends_with(&ours[ours.len() - 1..]));
        } else {
            broker.publish(to_us, &payload);
        }
        if let Some(shown) = message["c_displayed_text"].as_str() {
            assert_eq!(shown_without_encryption(&payload), shown.as_bytes(), "{message}");
        }
        if !is_ours || to_old == to_us {
            printed.extend_from_slice(&payload);
            printed.push(b'\n');
            receiver.wait_for_stdout(&printed);
        }
    }
    receiver.stop().succeeded().wrote(&printed);
}

#[test]
fn each_captured_session_without_encryption_happens_again() {
    replay("nosec_two-topics.json", "to_old", "to_us");
    replay("nosec_one-topic-echo.json", "one_topic", "one_topic");
}
