//! Claim: no message counts as delivered that an MQTT 5 broker refused while it accepted later ones, unless the receiver takes
//! messages in any order, however the run ends.

use std::thread::sleep;

use crate::broker::Broker;
use crate::device::{Device, LINK, Pair};
use crate::process::{Ended, Process};
use crate::rotation::LONGER_THAN_REFRESH;
use crate::server::{Refusal, Server, carry_refusing};
use crate::versions::swallow;

const LINES: &str = "one\ntwo\nthree\n";
const LATER_ACCEPTED: &str = "the broker refused a message and accepted later ones";
const SPOOL: [&str; 2] = ["--spool", "spool"];
const QUOTA_EXCEEDED: u8 = 0x97;
const NOT_AUTHORIZED: u8 = 0x87;

/// A relay that has one message of a connection refused, usually the second one, and the options that lead through it.
struct Refusing {
    broker: Broker,
    _relay: Server,
    port: String,
}

impl Refusing {
    fn start(code: u8, withholds_answers: bool) -> Self {
        Self::of(Refusal { number: 1, code, withholds_answers })
    }

    fn of(refusal: Refusal) -> Self {
        let broker = Broker::start();
        let port = broker.port();
        let relay = Server::start(move |_, stream| carry_refusing(stream, port, refusal));
        let port = format!("port={}", relay.port());
        Self { broker, _relay: relay, port }
    }

    fn options<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["-o", "mqtt_version=5", "-o", &*self.port, "--each"], more].concat()
    }
}

/// For its quota.
fn refusing_one() -> (Refusing, Pair) {
    let refusing = Refusing::start(QUOTA_EXCEEDED, false);
    let pair = Pair::paired(&refusing.broker, "gcm");
    (refusing, pair)
}

#[test]
fn what_later_messages_have_overtaken_is_sent_again_from_the_spool_with_all_that_follows() {
    let (refusing, pair) = refusing_one();
    let receiver = pair.slave.listen(&["-n", "4"]);
    let sent = pair.master.send_all(&refusing.options(&SPOOL), LINES).succeeded();
    assert!(sent.stderr.contains(LATER_ACCEPTED), "{}", sent.stderr);
    // The refused one was sent again as it is, before the run knew that a later one was accepted.
    assert!(sent.stderr.contains("possibly duplicated: 2 messages"), "{}", sent.stderr);
    receiver.wait().failed(&[65], &["gap"]).wrote(b"one\nthree\ntwo\nthree\n");
}

#[test]
fn a_run_without_a_spool_ends_where_later_messages_have_overtaken_a_refused_one() {
    let (refusing, pair) = refusing_one();
    let sent = pair.master.send_all(&refusing.options(&[]), LINES);
    sent.failed(&[69], &[LATER_ACCEPTED, "(4 bytes)", "--spool"]);
}

#[test]
fn a_refused_message_is_confirmed_in_its_place() {
    let (refusing, pair) = refusing_one();
    let receiver = pair.slave.listen(&["--once"]);
    pair.master.send_all(&refusing.options(&["--confirm"]), LINES).succeeded();
    receiver.wait().succeeded().wrote(LINES.as_bytes());
}

#[test]
fn without_encryption_a_refused_message_arrives_later_and_nothing_is_lost() {
    for spool in [&[][..], &SPOOL] {
        let refusing = Refusing::start(QUOTA_EXCEEDED, false);
        let device = Device::plain(&refusing.broker);
        let receiver = device.listen(&["-n", "3"]);
        let sent = device.send_all(&refusing.options(spool), LINES).succeeded();
        assert!(!sent.stderr.contains(LATER_ACCEPTED), "{}", sent.stderr);
        receiver.wait().succeeded().wrote(b"one\nthree\ntwo\n");
    }
}

/// A run whose second message is refused, and the next run, which must not give that message its old position.
fn sent_by_the_next_run(refusing: &Refusing, run: impl FnOnce(&Pair) -> Ended) {
    let pair = Pair::paired(&refusing.broker, "gcm");
    let receiver = pair.slave.listen(&["-n", "4"]);
    run(&pair);
    pair.master.send_all(&["--each", "--spool", "spool"], "").succeeded();
    receiver.wait().failed(&[65], &["gap"]).wrote(b"one\nthree\ntwo\nthree\n");
}

#[test]
fn what_a_run_leaves_that_ends_for_the_refusal_is_not_lost() {
    let refusing = Refusing::start(NOT_AUTHORIZED, false);
    let left = [LATER_ACCEPTED, "not authorized", "left in the spool"];
    sent_by_the_next_run(&refusing, |pair| pair.master.send_all(&refusing.options(&SPOOL), LINES).failed(&[69], &left));
}

#[test]
fn what_a_run_leaves_that_times_out_before_the_answers_come_is_not_lost() {
    let refusing = Refusing::start(QUOTA_EXCEEDED, true);
    let options = refusing.options(&["--spool", "spool", "--timeout", "2"]);
    let left = [LATER_ACCEPTED, "timed out", "left in the spool"];
    sent_by_the_next_run(&refusing, |pair| pair.master.send_all(&options, LINES).failed(&[75], &left));
}

/// With a spool, the stream of the second run continues that of the first one, of which the receiver has nothing.
#[test]
fn a_run_whose_stream_continues_another_one_sends_all_again_that_is_refused_at_its_first_message() {
    let refusing = Refusing::of(Refusal { number: 0, code: QUOTA_EXCEEDED, withholds_answers: false });
    let pair = Pair::paired(&refusing.broker, "gcm");
    let mute = Server::start(|_, stream| swallow(stream, usize::MAX, &[]));
    let receiver = pair.slave.listen(&[]);
    let options = ["--spool", "spool", "--confirm"];
    let to_mute = format!("port={}", mute.port());
    let first = [&options[..], &["-o", "mqtt_version=5", "-o", &to_mute, "--each", "--timeout", "1"]].concat();
    pair.master.send_all(&first, "one\n").failed(&[75], &["left in the spool"]);
    pair.master.send_all(&refusing.options(&options), "two\nthree\n").succeeded();
    receiver.wait_for_stdout(LINES.as_bytes());
    receiver.stop().succeeded().wrote(LINES.as_bytes());
}

#[test]
fn a_run_without_a_spool_ends_where_the_first_message_of_its_next_stream_is_refused() {
    // After the first line, and what names the next stream.
    let refusing = Refusing::of(Refusal { number: 2, code: QUOTA_EXCEEDED, withholds_answers: false });
    let pair = Pair::paired(&refusing.broker, "gcm");
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&[&refusing.options(&[])[..], &[LINK]].concat()));
    sender.write("one\n");
    receiver.wait_for_stdout(b"one\n");
    pair.agree();
    sleep(LONGER_THAN_REFRESH);
    sender.write("two\nthree\n");
    sender.wait().failed(&[69], &[LATER_ACCEPTED, "--spool"]);
}
