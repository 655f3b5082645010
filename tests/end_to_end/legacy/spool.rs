//! Claim: with `--spool`, lines for the old program are on disk until the socket has taken them, are encrypted when
//! they are sent, and a line that cannot be sent never gets there.

use super::old_program::Role;
use super::{Link, OldProgram};
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::Process;

const SPOOL: [&str; 2] = ["--spool", "spool"];
/// Where no broker is.
const AWAY: [&str; 4] = ["-o", "port=1", "--timeout", "1"];

fn with_spool<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&SPOOL[..], more].concat()
}

fn displayed(old: &OldProgram) -> Vec<String> {
    old.seen().displayed.into_iter().map(|text| String::from_utf8(text).unwrap()).collect()
}

#[test]
fn lines_wait_until_the_broker_is_there_and_are_encrypted_then() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 20);
    let old = link.paired();
    let receiver = link.receiver(&["-n", "1"]);
    let long = "é".repeat(1200);
    for input in [format!("one\n{long}\n"), "no newline".to_owned()] {
        link.device.send_all(&with_spool(&AWAY), input).failed(&[75], &["left in the spool"]);
    }
    // The chain has gone on meanwhile.
    old.send("said meanwhile");
    receiver.wait().succeeded();
    link.device.send_all(&SPOOL, "now\n").succeeded();
    old.wait("all texts", |seen| seen.displayed.len() >= 6);
    let displayed = displayed(&old);
    assert_eq!(displayed[0], "one");
    assert_eq!(displayed[1..4].concat(), long);
    assert_eq!(displayed[4..], ["no newline", "now"]);
    // Nothing of it is left.
    link.device.send_all(&SPOOL, "").succeeded();
    link.device.send_all(&SPOOL, "last\n").succeeded();
    old.wait("the last text", |seen| seen.displayed.len() == 7);
}

#[test]
fn a_line_that_cannot_be_sent_is_not_in_the_spool() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 21);
    let old = link.paired();
    let long = "x".repeat(3000);
    let said = ["line 2 cannot be sent: byte 3001 is a NUL", "the run ends at this line"];
    link.device.send_all(&SPOOL, format!("good\n{long}\0\nnever\n")).failed(&[65], &said);
    let small = with_spool(&["-o", "max_message=2999"]);
    link.device.send_all(&small, format!("good, too\n{long}\n")).failed(&[65], &["line 2", "longer than 2999 bytes"]);
    link.device.send_all(&SPOOL, "end\n").succeeded();
    old.wait("the last text", |seen| seen.displayed.last().is_some_and(|text| text == b"end"));
    assert_eq!(displayed(&old), ["good", "good, too", "end"]);
}

#[test]
fn lines_wait_for_the_first_session_and_for_the_next_one() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 22);
    let mut sender = Process::spawn(link.device.send(&with_spool(&["-v", LINK])));
    sender.write("before any session\n");
    sender.wait_for("no session");
    sender.wait_for("meanwhile, input waits in the spool");
    let old = link.paired();
    old.wait("the first text", |seen| seen.displayed == [b"before any session".to_vec()]);
    old.stop();
    sender.wait_for("the other device ended the session");
    // Its input is open: it waits for the next session.
    sender.write("while there is none\n");
    sender.wait_until_read();
    let old = link.paired();
    old.wait("the second text", |seen| seen.displayed == [b"while there is none".to_vec()]);
    old.stop();
    sender.wait_for_times("the other device ended the session", 2);
    sender.write("before\n");
    let hint = "run sts-pair here, then `start` on the other device";
    sender.wait().failed(&[75], &["left in the spool", hint]);
    link.device.send_all(&with_spool(&["--timeout", "1"]), "between\n").failed(&[75], &["left in the spool"]);
    let old = link.paired();
    link.device.send_all(&SPOOL, "after\n").succeeded();
    old.wait("all texts", |seen| seen.displayed.len() == 3);
    assert_eq!(displayed(&old), ["before", "between", "after"]);
}

#[test]
fn a_signal_ends_a_long_backlog_and_leaves_the_rest_in_the_spool() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, true, 24);
    let old = link.paired();
    // All of it takes half a minute at the rate of the old program, on the fastest machine.
    let backlog: Vec<_> = (0..8_000).map(|number| number.to_string()).collect();
    link.device.send_all(&with_spool(&AWAY), backlog.join("\n")).failed(&[75], &["8000 messages"]);
    let sender = Process::spawn_with(link.device.send(&with_spool(&[LINK])), "");
    old.wait("the first text", |seen| !seen.displayed.is_empty());
    sender.stop().failed(&[75], &["stopped by a signal", "left in the spool"]);
    // What was sent is not in the spool any more.
    let sent = displayed(&old).len();
    let sender = Process::spawn_with(link.device.send(&with_spool(&[LINK])), "");
    old.wait("a text of the next run", |seen| seen.displayed.len() > sent);
    sender.stop().failed(&[75], &["left in the spool"]);
    let texts = displayed(&old);
    assert_eq!(texts, backlog[..texts.len()], "lost or repeated");
}

#[test]
fn runs_share_a_spool_and_none_sends_beside_another() {
    let broker = Broker::start();
    let mut link = Link::new(broker.port(), Role::Slave, false, 23);
    let old = link.paired();
    let mut direct = link.sender();
    let mut first = Process::spawn(link.device.send(&with_spool(&["-v", LINK])));
    // Where two locks are needed, everybody takes them in this order.
    first.write("from the first\n");
    first.wait_for("another sts-send is already running on this link");
    direct.write("from the one without a spool\n");
    direct.close_stdin();
    direct.wait().succeeded();
    old.wait("both texts", |seen| seen.displayed.len() == 2);
    link.device.send_all(&SPOOL, "from the second\n").failed(&[75], &["another sts-send is sending from"]);
    old.wait("the third text", |seen| seen.displayed.len() == 3);
    link.device.send_all(&[], "beside\n").failed(&[75], &["another sts-send is already running"]);
    first.close_stdin();
    first.wait().succeeded();
    assert_eq!(displayed(&old), ["from the one without a spool", "from the first", "from the second"]);
    // It is for the old program, whatever the configuration says later.
    link.device.configure(&[
        ("ip", "127.0.0.1"),
        ("port", &broker.port().to_string()),
        ("subtop", "a"),
        ("pubtop", "b"),
        ("sts_mode", "nosec"),
    ]);
    link.device.send_all(&with_spool(&["-o", "clientid=x"]), "").failed(&[78], &[]);
}
