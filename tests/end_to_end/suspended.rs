//! Claim: a reader that stops reading stops the data but not the connection, and nothing is lost in the meantime.

use std::io::Read;
use std::process::Stdio;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, Pair, readings};
use crate::process::{Process, assert_same};

/// The pipe is not read for far longer than the broker waits for a silent client: one and a half times the keep-alive.
fn while_nobody_reads(args: &[&str]) {
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    // More than the pipe, sts-recv and the socket can hold.
    let input = readings(200_000);
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut receive = pair.slave.recv(&["-v", "--once", "-o", "keep_alive=2", LINK]);
    receive.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let receiver = Process::started(receive);
    receiver.wait_for("listening on");
    let sender = Process::spawn_with(pair.master.send(&[args, &[LINK]].concat()), input.clone());
    broker.wait_for_log("Received PINGREQ from gateway", 4);

    let mut output = Vec::new();
    reader.read_to_end(&mut output).unwrap();
    sender.wait().succeeded();
    let ended = receiver.wait().succeeded();
    assert_same(&output, &input, &ended.stderr);
    assert!(!ended.stderr.contains("waiting for the broker"), "{}", ended.stderr);
    assert_eq!(broker.times_logged(" as gateway "), 1, "one connection for all of it");
}

#[test]
fn a_suspended_reader_keeps_the_connection() {
    while_nobody_reads(&[]);
}

#[test]
fn a_suspended_reader_holds_a_sender_that_asks_for_confirms() {
    while_nobody_reads(&["--confirm"]);
}
