//! Claim: SIGTERM, SIGINT and SIGHUP end a tool cleanly: sts-send delivers what it has read, and a second signal ends it at
//! once. One signal is enough, whatever is missing: a broker, a receiver, a reader of standard output.

use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{LINK, M2S, Pair};
use crate::hostile::{Fate, paired};
use crate::process::{Process, wait_until};

#[test]
fn first_signal_delivers_what_was_read() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let receiver = pair.slave.listen(&["--once"]);
        let mut sender = Process::spawn(pair.master.send(&[LINK]));
        sender.write("before\n");
        receiver.wait_for_stdout(b"before\n");
        // What it reads now can be acknowledged only after the signal.
        broker.pause();
        sender.write("read, not yet delivered\nwithout a newline");
        sender.wait_until_read();
        sender.signal(signal);
        broker.resume();
        sender.wait().succeeded();
        receiver.wait().succeeded().wrote(b"before\nread, not yet delivered\nwithout a newline");
    }
}

#[test]
fn second_signal_says_how_much_is_left() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    broker.pause();
    sender.write("never delivered\n");
    sender.wait_until_read();
    sender.signal(Signal::TERM);
    // Once the tool has reported the first signal, the second one cannot be merged with it.
    sender.wait_for("sts-send: ");
    sender.signal(Signal::TERM);
    sender.wait().failed(&[65], &["unacknowledged"]);
}

#[test]
fn receiver_stops_in_order_and_goes_on_where_it_was() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    for line in ["one\n", "two\n", "three\n"] {
        let receiver = pair.slave.listen(&[]);
        sender.write(line);
        receiver.wait_for_stdout(line.as_bytes());
        receiver.stop().wrote(line.as_bytes());
    }
    let receiver = pair.slave.listen(&["--once"]);
    sender.write("four\n");
    sender.close_stdin();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"four\n");
}

/// If the end of a stream is lost, nothing may follow that shows it.
#[test]
fn a_receiver_that_is_stopped_says_how_far_open_streams_came() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    for (written, line) in ["one\n", "one\ntwo\n"].iter().zip(["one\n", "two\n"]) {
        sender.write(line);
        receiver.wait_for_stdout(written.as_bytes());
    }
    sender.signal(Signal::KILL);
    sender.wait();
    pair.master.send_all(&[], "complete\n").succeeded();
    receiver.wait_for_stdout(b"one\ntwo\ncomplete\n");
    let open = "station, stream 0: 2 messages so far, the last ";
    receiver.stop().failed(&[0], &[&format!("open: {open}")]);

    let status = |arguments: &[&str]| Process::spawn(pair.slave.pair(arguments)).wait().succeeded();
    let table = status(&["--status"]);
    assert!(table.text().contains(&format!("\nopen: gateway, {open}")), "{}", table.text());
    let json = status(&["--status", "--json"]);
    assert!(json.text().contains(r#""open_streams":[{"stream":0,"messages":2,"age":"#), "{}", json.text());

    // A run that received nothing of that stream reports it, too, but does not fail because of it.
    let ended = Process::spawn(pair.slave.recv(&["--timeout", "1", LINK])).wait();
    ended.failed(&[0], &[&format!("open: {open}")]);
    pair.agree();
}

#[test]
fn a_receiver_that_is_stopped_names_a_stream_that_was_lost_whole() {
    let (broker, pair) = paired();
    let receiver = pair.slave.listen(&[]);
    broker
        .filter(|topic, payload| if topic == M2S && payload.first() == Some(&0x27) { Fate::Drop } else { Fate::Pass });
    pair.master.send_all(&[], "lost\n").succeeded();
    broker.filter(|_, _| Fate::Pass);
    pair.master.send_all(&[], "arrives\n").succeeded();
    receiver.wait_for_stdout(b"arrives\n");
    receiver.stop().failed(&[0], &["stream 0: message 0 is lost"]);
}

/// Whether nohup started the tests: then the tools ignore a hangup, too, as
/// [`a_tool_that_nohup_started_ignores_a_hangup`] shows.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("Linux tells it");
    u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 != 0
}

#[test]
fn a_hangup_ends_every_tool_in_order() {
    if is_hangup_ignored() {
        return;
    }
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    receiver.signal(Signal::HUP);
    receiver.wait().succeeded();
    let subscribed = broker.times_logged("Sending SUBACK");
    let pairing = Process::spawn(pair.slave.pair(&["--timeout", "0", LINK]));
    broker.wait_for_log("Sending SUBACK", subscribed + 1);
    pairing.signal(Signal::HUP);
    pairing.wait().failed(&[75], &["stopped by a signal"]);
}

#[test]
fn a_hangup_is_no_second_signal() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&["--once"]);
    let mut sender = Process::spawn(pair.master.send(&[LINK]));
    sender.write("before\n");
    receiver.wait_for_stdout(b"before\n");
    broker.pause();
    sender.write("after\n");
    sender.wait_until_read();
    // The kernel and the shell may each send one.
    sender.signal(Signal::TERM);
    sender.wait_for("stopping");
    sender.signal(Signal::HUP);
    broker.resume();
    sender.wait().succeeded();
    receiver.wait().succeeded().wrote(b"before\nafter\n");
}

#[test]
fn a_tool_that_nohup_started_ignores_a_hangup() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let tool = pair.slave.recv(&["-v", LINK]);
    let mut command = Command::new("nohup");
    command.arg(tool.get_program()).args(tool.get_args()).current_dir(pair.slave.path());
    command.env("STS_CONFIG_DIR", pair.slave.config_dir()).env("STS_RUNTIME_DIR", pair.slave.runtime_dir());
    let receiver = Process::spawn(command);
    receiver.wait_for("listening on");
    receiver.signal(Signal::HUP);
    pair.master.send_all(&[], "still there\n").succeeded();
    receiver.wait_for_stdout(b"still there\n");
    receiver.stop().succeeded();
}

#[test]
fn one_signal_ends_a_run_without_a_broker() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    broker.stop();
    for (args, input, status, said) in [
        (&[][..], "one\nhalf", 65, "unacknowledged"),
        (&["--confirm"], "one\n", 65, "unacknowledged"),
        (&[], "", 75, "nothing was read"),
        (&["--spool", "spool"], "one\n", 75, "1 message (4 bytes)"),
    ] {
        let mut sender = Process::spawn(pair.master.send(&[args, &["-v", LINK]].concat()));
        sender.write(input);
        sender.wait_until_read();
        sender.wait_for("waiting for the broker");
        sender.signal(Signal::TERM);
        sender.wait_for("stopping");
        sender.wait().failed(&[status], &["stopped by a signal", said]);
    }
    let ending = Process::spawn(pair.slave.pair(&["--end", "--timeout", "0", LINK]));
    ending.wait_for("waiting for the broker");
    ending.signal(Signal::TERM);
    ending.wait().failed(&[69], &["the peer was not told", "check `host`", "run sts-pair --end there, too"]);
    broker.start_again();
    let pair = Pair::paired(&broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--spool", "spool", LINK]));
    sender.write("all of it\n");
    receiver.wait_for_stdout(b"all of it\n");
    broker.wait_for_log("Sending PUBACK to", 1);
    broker.stop();
    sender.wait_for("waiting for the broker");
    sender.signal(Signal::TERM);
    // Only the end of the stream was not sent; the next run sends it.
    sender.wait().succeeded();
}

/// Data is what is lost, and nothing else: a message without any, such as the end of a stream, is not.
#[test]
fn a_stopped_run_of_which_only_the_end_is_not_delivered_lost_nothing() {
    let mut broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let mut sender = Process::spawn(pair.master.send(&["-v", LINK]));
    sender.write("all of it\n");
    broker.wait_for_log("Sending PUBACK to station-send-", 1);
    sender.wait_until_acknowledged(10);
    broker.stop();
    sender.wait_for("waiting for the broker");
    sender.signal(Signal::TERM);
    let said = "stopped by a signal: all that was read was delivered, but not the end of the stream";
    sender.wait().failed(&[75], &[said]);
}

#[test]
fn one_signal_ends_a_receiver_whose_output_is_not_read() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    // This pipe is neither read nor closed.
    let (reader, writer) = std::io::pipe().unwrap();
    let mut command = pair.slave.recv(&["-v", LINK]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let receiver = Process::started(command);
    receiver.wait_for("listening on");
    // One message, longer than any pipe.
    let line = "x".repeat(200_000) + "\n";
    pair.master.send_all(&["--each", "-o", "max_message=300000"], line).succeeded();
    wait_until("some of it to be written", || rustix::io::ioctl_fionread(&reader).unwrap() > 0);
    receiver.signal(Signal::TERM);
    receiver.wait().failed(&[1], &["stopped by a signal", "not acknowledged"]);
}
