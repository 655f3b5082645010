//! Claim: junk from strangers on the topic costs only its transfer: a retained payload of 250 MB is skipped in constant
//! memory and acknowledged, junk never fills the broker's in-flight window, and a client that repeatedly takes over our
//! client id is reported.

use std::fs;

use crate::broker::{Broker, Options, Queue};
use crate::device::{LINK, M2S, Pair, readings};
use crate::process::{Process, wait_until};

/// The most memory that sts-recv may use, in KiB: a tenth of the payload.
const MOST_MEMORY: usize = 24 << 10;

/// The peak resident memory of a process, in KiB: `VmHWM` in proc(5).
fn peak_memory(process: &Process) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("proc(5) has it");
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_retained_payload_of_250_megabytes_is_read_past_and_acknowledged() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let foreign = tempfile::NamedTempFile::new().unwrap();
    foreign.as_file().set_len(250 << 20).unwrap();
    broker.retain(M2S, foreign.path());

    let receiver = pair.slave.listen(&["--once"]);
    broker.wait_for_log("Received PUBACK from gateway", 1);
    receiver.wait_for("dropped a message");
    let peak = peak_memory(&receiver);
    assert!(peak < MOST_MEMORY, "{peak} KiB at its fullest");
    pair.master.send_all(&[], readings(1000)).succeeded();
    receiver.wait().succeeded().wrote(&readings(1000));
    assert_eq!(broker.times_logged(" as gateway "), 1, "one connection for all of it");
}

#[test]
fn forty_pieces_of_junk_in_a_stream_never_stall_it() {
    // More than mosquitto's window of 20: if these were not acknowledged, the stream would stop.
    let broker = Broker::with(Options { queue: Queue::Unlimited, ..Options::default() });
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    let oversize = vec![0xff; (1 << 20) + 1];
    let junk: [&[u8]; 8] = [
        b"",
        b"\x27",
        b"\x27short",
        b"\x27no such session, but long enough to be a message of one",
        b"\x28no such session, but long enough to be the end of one..",
        b"\x26a frame of a handshake that nobody began.............",
        b"plain text",
        &oversize,
    ];
    let mut sent = Vec::new();
    for round in 0..40 {
        let lines = format!("before {round}\nafter {round}\n");
        let (before, after) = lines.split_at(lines.find("after").expect("it is there"));
        sender.write(before);
        broker.publish(M2S, junk[round % junk.len()]);
        sender.write(after);
        sent.extend_from_slice(lines.as_bytes());
        receiver.wait_for_stdout(&sent);
    }
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(&sent);
}

#[test]
fn forty_pieces_of_junk_that_wait_for_the_reader_are_read_past() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    pair.slave.listen(&[]).stop();
    for _ in 0..40 {
        broker.publish(M2S, b"\x27junk that fills the window of a client that keeps it");
    }
    pair.master.send_all(&[], "behind them\n").succeeded();
    Process::spawn(pair.slave.recv(&["--once", LINK])).wait().succeeded().wrote(b"behind them\n");
}

#[test]
fn thrown_out_again_and_again_sts_recv_says_why_that_may_be() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut takeovers = 1;
    wait_until("sts-recv to say so", || {
        receiver.wait_for_times("listening on", takeovers);
        broker.publish_as("gateway", "elsewhere", b"I have your client id");
        takeovers += 1;
        receiver.stderr().contains("does another client use the same client id")
    });
    receiver.wait_for_times("listening on", takeovers);
    pair.master.send_all(&[], "still here\n").succeeded();
    receiver.wait().succeeded().wrote(b"still here\n");
}
