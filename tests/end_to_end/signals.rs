//! Claim: SIGTERM and SIGINT end a tool in good order: sts-send delivers what it has read, and a second signal ends it
//! at once.

use rustix::process::Signal;

use crate::broker::Broker;
use crate::device::{LINK, M2S, Pair};
use crate::hostile::{Fate, paired};
use crate::process::Process;

#[test]
fn first_signal_delivers_what_was_read() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    for signal in [Signal::TERM, Signal::INT] {
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

/// The end of a stream may be lost, and nothing comes after it that shows it.
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

    // A run that did not see it says so, and is not to blame for it.
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
    receiver.stop().failed(&[0], &["no messages of stream 0 were received"]);
}
