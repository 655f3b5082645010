//! Claim: a message that comes back or comes again is not taken for a new one, and two devices that encrypt in different ways are
//! told so.

use super::Link;
use super::old_program::{OldProgram, Role};
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::{Process, wait_until};
use crate::sniffer::Sniffer;

/// A link on which this device pairs, and then uses the other value of `aes`.
fn in_different_modes(broker: &Broker, is_old_in_cbc: bool) -> Link {
    let link = Link::new(broker.port(), Role::Slave, is_old_in_cbc, 50);
    let (old, ours) = if is_old_in_cbc { ("= cbc\n", "= ecb\n") } else { ("= ecb\n", "= cbc\n") };
    let before = std::fs::read_to_string(link.device.config_dir().join("gateway.conf")).unwrap();
    let after = before.replace(old, ours);
    assert_ne!(before, after);
    link.device.write("gateway.conf", after, 0o600);
    link
}

#[test]
fn a_device_with_another_aes_is_named() {
    for is_old_in_cbc in [true, false] {
        let broker = Broker::start();
        let mut link = in_different_modes(&broker, is_old_in_cbc);
        // No message of a pairing says how the messages after it are encrypted.
        let old = link.paired();
        let receiver = link.receiver(&[]);
        let sender = link.sender();
        old.send("the first text");
        let said = "the other device encrypts with another `aes`";
        receiver.wait_for(&format!("dropped a damaged message: {said}; set the same `aes` on both devices"));
        // All of what it sends would be displayed as noise.
        sender.wait().failed(&[78], &[said, "set the same `aes` on both devices, and pair again"]);
        Process::spawn(link.device.pair(&["--end", LINK])).wait().succeeded();
        receiver.wait().failed(&[65], &["damaged: 1 message", "`aes` may differ"]).wrote(b"");
    }
}

#[test]
fn a_message_that_comes_back_or_again_is_not_written() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 51);
    let old = link.paired();
    let sniffer = Sniffer::start(&broker);
    let receiver = link.receiver(&[]);
    // The same text is not the same message.
    for _ in 0..3 {
        old.send("21.5");
    }
    receiver.wait_for_stdout(b"21.5\n21.5\n21.5\n");
    link.device.send_all(&[], "21.5\n").succeeded();
    old.wait("our text", |seen| seen.displayed == [b"21.5".to_vec()]);
    wait_until("all messages", || sniffer.seen().len() == 4);
    for message in sniffer.seen() {
        broker.publish(&link.old.publish, &message.payload);
    }
    old.send("after them");
    receiver.wait_for_stdout(b"21.5\n21.5\n21.5\nafter them\n");
    receiver.wait_for("dropped, as received before or sent by this device: 1 message");
    // Neither end has lost its place.
    link.device.send_all(&[], "and back\n").succeeded();
    old.wait("our text", |seen| seen.displayed.last().unwrap() == b"and back");
    let status = Process::spawn(link.device.pair(&["--status", "--json"])).wait().succeeded();
    assert!(status.text().contains(r#""messages":4,"messages_sent":2,"damaged":0"#), "{}", status.text());
    assert!(status.text().contains(r#""sts_version":1,"weak":"sts_version = 1 proves neither"#), "{}", status.text());
    receiver.stop().succeeded();
    Process::spawn(link.device.pair(&["--end", LINK])).wait().succeeded();
}

/// It comes again with each subscription.
#[test]
fn a_message_that_the_broker_keeps_is_nobodys() {
    let broker = Broker::start();
    for role in [Role::Slave, Role::Master] {
        let link = Link::new(broker.port(), role, true, 52);
        let keep = |payload: &[u8]| {
            let content = link.device.path().join("kept");
            std::fs::write(&content, payload).unwrap();
            broker.retain(&link.old.publish, &content);
        };
        // A pairing that took it for the other device's would wait for what follows.
        let clear = if role == Role::Slave { b"INITACK:".to_vec() } else { [&b"INITREQ:"[..], &[b'x'; 62]].concat() };
        let mut masked: Vec<u8> = clear.iter().map(|byte| byte.reverse_bits()).collect();
        masked[0] ^= 1;
        keep(&masked);
        let pairing = Process::spawn(link.device.pair(&["-v", LINK]));
        pairing.wait_for("ignored a retained message");
        let old = OldProgram::start(link.old.clone());
        pairing.wait().succeeded();
        old.wait("encryption on", |seen| seen.is_on);
        // A tool that followed it would be out of step.
        keep(&[0x5a; 16]);
        let mut sender = link.sender();
        broker.wait_for_log(&format!("Sending PUBLISH to {}-send", link.client_id()), 1);
        sender.write("in step\n");
        sender.close_stdin();
        sender.wait().succeeded();
        old.wait("the text", |seen| seen.displayed == [b"in step".to_vec()]);
        Process::spawn(link.device.pair(&["--end", LINK])).wait().failed(&[0], &["deleted the session"]);
        old.wait("its end", |seen| seen.ended == Some("disconnected"));
        assert_eq!(old.seen().displayed.len(), 1, "its first KILL was in step, too");
    }
}
