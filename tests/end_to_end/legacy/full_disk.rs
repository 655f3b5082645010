//! Claim: a full disk costs time and no text. sts-recv keeps what it cannot record, and writes it once it can, or when
//! it is stopped; sts-send sends nothing that it cannot record, and then nothing out of step; sts-pair --serve goes on.

use std::fs;

use super::old_program::{OldProgram, Role};
use super::{BOTH, Link};
use crate::broker::Broker;
use crate::device::LINK;
use crate::full_disk::{assert_waited, stop, without_space, without_space_for};
use crate::process::Process;

/// The session file as it is written, before it has its name.
const SESSION_FILE: &str = "gateway@sts1.new";
const FULL: &str = "the disk is full";

fn receiver_without_space(link: &Link, writes: &str) -> Process {
    let receiver = without_space(&link.device, &link.device.recv(&["-v", LINK]), SESSION_FILE, writes);
    receiver.wait_for("listening on");
    receiver
}

/// A sender that hears the old program, too.
fn sender_without_space(link: &Link, args: &[&str], writes: &str) -> Process {
    let tool = link.device.send(&[&["-v"], args, &[LINK]].concat());
    let sender = without_space(&link.device, &tool, SESSION_FILE, writes);
    sender.wait_for("connected to");
    sender
}

#[test]
fn what_was_received_is_written_once_there_is_space() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 60);
    let old = link.paired();
    let receiver = receiver_without_space(&link, "2..3");
    for text in ["one", "two, without space", "three"] {
        old.send(text);
    }
    receiver.wait_for_stdout(b"one\ntwo, without space\nthree\n");
    assert_waited(&receiver.stderr(), "what was received");
    stop(receiver).succeeded();
    // Nothing of the chain is lost.
    let receiver = link.receiver(&["-n", "1"]);
    old.send("four");
    receiver.wait().succeeded().wrote(b"four\n");
}

#[test]
fn a_run_that_is_stopped_without_space_writes_what_it_received() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 61);
    let old = link.paired();
    let receiver = receiver_without_space(&link, "1+");
    old.send("the text");
    receiver.wait_for(FULL);
    assert_eq!(receiver.written(), 0);
    stop(receiver).failed(&[0], &["is written but not recorded: the next message may be damaged"]).wrote(b"the text\n");
}

/// How many messages wait depends on how soon the session is noticed: those that come after it are not read.
#[test]
fn what_came_before_a_session_was_there_is_written_by_a_run_that_is_stopped_without_space() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 68);
    let old = link.paired();
    let [file, hidden] = ["gateway@sts1", "hidden"].map(|name| link.device.runtime_dir().join(name));
    fs::rename(&file, &hidden).unwrap();
    let receiver = without_space(&link.device, &link.device.recv(&["-v", "--wait", LINK]), SESSION_FILE, "1+");
    let client = link.client_id();
    broker.wait_for_log(&format!("Sending SUBACK to {client}\n"), 1);
    for text in ["one", "two", "three"] {
        old.send(text);
    }
    broker.wait_for_log(&format!("Sending PUBLISH to {client} "), 3);
    fs::rename(&hidden, &file).unwrap();
    receiver.wait_for(FULL);
    let ended = stop(receiver).failed(&[0], &["is written but not recorded: the next message may be damaged"]);
    assert!(!ended.stderr.contains("damaged message"), "{}", ended.stderr);
    let written = ended.text();
    assert!(!written.is_empty() && "one\ntwo\nthree\n".starts_with(written), "{written:?}");
}

#[test]
fn what_is_sent_leaves_once_there_is_space_and_in_step() {
    let broker = Broker::start();
    for (number, (role, is_cbc)) in BOTH.into_iter().enumerate() {
        let mut link = Link::new(broker.port(), role, is_cbc, 63);
        let old = link.paired();
        let spool: &[&str] = if number % 2 == 0 { &[] } else { &["--spool", "spool"] };
        // The first text finds space. The next one waits, and so does what the old program says meanwhile.
        let mut sender = sender_without_space(&link, spool, "2..4");
        sender.write("one\n");
        old.wait("the first text", |seen| seen.displayed.len() == 1);
        let long = "long ".repeat(400);
        sender.write(format!("two\n{long}\n"));
        sender.wait_for(FULL);
        old.send("said meanwhile");
        sender.write("three\n");
        sender.close_stdin();
        old.wait("all texts", |seen| seen.displayed.len() == 5);
        let ended = sender.wait();
        assert_waited(&ended.stderr, "what is sent");
        ended.succeeded();
        let displayed = old.seen().displayed;
        assert_eq!([&displayed[0][..], &displayed[1], &displayed[4]], [&b"one"[..], b"two", b"three"]);
        assert_eq!(displayed[2..4].concat(), long.as_bytes());
        // And back.
        let receiver = link.receiver(&["-n", "1"]);
        old.send("read");
        receiver.wait().succeeded().wrote(b"read\n");
    }
}

#[test]
fn a_sender_that_finds_no_space_in_time_says_what_it_leaves() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 64);
    let old = link.paired();
    let full = "the disk with the runtime directory is full";
    for (args, left) in [
        (&["--timeout", "1"][..], "timed out: not sent: 5 bytes"),
        (&["--timeout", "1", "--spool", "spool"], "timed out: left in the spool spool: 1 message (5 bytes)"),
    ] {
        let mut sender = sender_without_space(&link, args, "1+");
        sender.write("line\n");
        sender.close_stdin();
        sender.wait().failed(&[75], &[FULL, &format!("{left}; {full}")]);
    }
    link.device.send_all(&["--spool", "spool"], "next\n").succeeded();
    old.wait("what was kept", |seen| seen.displayed == [b"line".to_vec(), b"next".to_vec()]);
}

#[test]
fn what_may_be_recorded_is_not_recorded_once_more() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 67);
    let old = link.paired();
    // The session file has its name when the directory is synchronized.
    let (tool, dir) = (link.device.send(&["-v", LINK]), link.device.runtime_dir());
    let mut sender = without_space_for("fsync", &link.device, &tool, &dir, "2");
    sender.wait_for("connected to");
    sender.write("one\ntwo\n");
    let ended = sender.wait().failed(&[65], &["No space left on device"]);
    assert!(!ended.stderr.contains(FULL), "{}", ended.stderr);
    old.wait("the first text", |seen| seen.displayed == [b"one".to_vec()]);
}

#[test]
fn a_sender_without_space_ends_with_the_session() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 65);
    let old = link.paired();
    let mut sender = sender_without_space(&link, &["--spool", "spool"], "1..2");
    sender.write("line\n");
    sender.wait_for(FULL);
    old.send("a text");
    old.stop();
    sender.wait().failed(&[75], &["the other device ended the session", "left in the spool"]);
}

#[test]
fn a_service_without_space_pairs_the_next_time() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Master, true, 66);
    let tool = link.device.pair(&["-v", "--serve", LINK]);
    let service = without_space(&link.device, &tool, SESSION_FILE, "1");
    service.wait_for("listening on");
    let first = OldProgram::start(link.old.clone());
    service.wait_for("No space left on device");
    first.switch_off();
    assert!(!first.seen().is_agreed);
    link.old.seed += 1 << 40;
    let second = OldProgram::start(link.old.clone());
    second.wait("encryption on", |seen| seen.is_on);
    service.wait_for("paired with the master");
    link.device.send_all(&[], "under the second key\n").succeeded();
    second.wait("the text", |seen| seen.displayed == [b"under the second key".to_vec()]);
    stop(service).succeeded();
}
