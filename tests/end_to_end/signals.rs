//! Claim: SIGTERM, SIGINT and SIGHUP end a tool in good order: sts-send delivers what it has read, and a second signal ends
//! it at once.

use std::process::Command;

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{LINK, M2S, Pair};
use crate::hostile::{Fate, paired};
use crate::process::Process;

#[test]
fn first_signal_delivers_what_was_read() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let receiver = pair.slave.listen(&["--once"]);
        let mut sender = Process::spawn(pair.master.send(&[LINK]));
        sender.write("before\n");
        receiver.wait_for_stdout(b"before\n");
        // Whatever it reads now can be acknowledged only after the signal.
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
    // The text that answers the first signal shows that the second is not merged with it.
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
    receiver.stop().failed(&[0], &["no messages of stream 0 were received"]);
}

#[test]
fn a_hangup_ends_every_tool_in_order() {
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
    // The kernel's, and the shell's.
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
