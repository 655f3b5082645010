//! Claim: who withholds the first message of one stream silences no other sender: whoever waits for confirms gets them, and
//! what the others lose is named to the message.

use std::thread;
use std::time::Duration;

use rustix::process::Signal;

use crate::device::{LINK, M2S, Pair};
use crate::hostile::{Fate, paired};
use crate::process::Process;

const ENC: u8 = 0x27;

/// The session tag, the stream and the seq of a message from master to slave.
fn header(topic: &str, payload: &[u8]) -> Option<([u8; 3], u32, u32)> {
    let of = |range: std::ops::Range<usize>| u32::from_be_bytes(payload[range].try_into().unwrap());
    (topic == M2S && payload.first() == Some(&ENC)).then(|| (payload[1..4].try_into().unwrap(), of(4..8), of(16..20)))
}

fn sender(pair: &Pair, options: &[&str], line: &str) -> Process {
    let mut sender = Process::spawn(pair.master.send(&[options, &["--each", LINK]].concat()));
    sender.write(line);
    sender
}

/// After a run with a spool was killed, nothing but the first message of the next one says what that continues.
#[test]
fn beside_a_spool_whose_first_message_is_lost_the_others_are_confirmed_or_told() {
    let (broker, pair) = paired();
    let receiver = pair.slave.listen(&[]);
    let mut confirmed = sender(&pair, &["--confirm"], "confirmed 1\n");
    receiver.wait_for_stdout(b"confirmed 1\n");
    let mut other = sender(&pair, &[], "other 1\n");
    receiver.wait_for_stdout(b"confirmed 1\nother 1\n");
    let spooling = sender(&pair, &["--spool", "spool"], "spooled 1\n");
    receiver.wait_for_stdout(b"confirmed 1\nother 1\nspooled 1\n");
    spooling.signal(Signal::KILL);
    spooling.wait();
    broker.filter(|topic, payload| match header(topic, payload) {
        Some((_, 3, 0)) => Fate::Drop,
        _ => Fate::Pass,
    });
    let mut spooling = sender(&pair, &["--spool", "spool"], "spooled 2\n");
    spooling.write("spooled 3\n");
    receiver.wait_for("stream 1: closed before its end");
    confirmed.write("confirmed 2\n");
    confirmed.close_stdin();
    confirmed.wait().succeeded();
    for line in ["other 2\n", "other 3\n"] {
        other.wait_until_read();
        other.write(line);
    }
    other.close_stdin();
    other.wait().succeeded();
    spooling.close_stdin();
    spooling.wait().succeeded();
    pair.master.send_all(&[], "later\n").succeeded();
    receiver.wait_for("stream 1: messages 1-");
    let ended = receiver.stop();
    assert!(ended.text().contains("confirmed 2\n"), "{}", ended.text());
    assert!(!ended.stderr.contains("stream 0"), "{}", ended.stderr);
}

/// The last message of the old stream names the new one, so that no other stream is in doubt.
#[test]
fn beside_a_new_session_whose_first_message_is_lost_no_stream_is_closed() {
    let (broker, pair) = paired();
    let receiver = pair.slave.listen(&[]);
    let mut rotating = sender(&pair, &[], "rotating 1\n");
    receiver.wait_for_stdout(b"rotating 1\n");
    let mut other = sender(&pair, &[], "other 1\n");
    receiver.wait_for_stdout(b"rotating 1\nother 1\n");
    // It notices no new session, and so keeps its stream.
    other.signal(Signal::STOP);
    let mut first = None;
    broker.filter(move |topic, payload| match header(topic, payload) {
        Some((tag, 0, 0)) if *first.get_or_insert(tag) == tag => Fate::Drop,
        _ => Fate::Pass,
    });
    pair.agree();
    thread::sleep(Duration::from_millis(1100));
    for line in ["rotating 2\n", "rotating 3\n"] {
        rotating.write(line);
        rotating.wait_until_read();
    }
    receiver.wait_for("stream 0: message 0 is lost");
    rotating.write("rotating 4\n");
    rotating.close_stdin();
    rotating.wait().succeeded();
    other.signal(Signal::CONT);
    other.write("other 2\n");
    other.close_stdin();
    other.wait().succeeded();
    receiver.wait_for_stdout(b"rotating 1\nother 1\nrotating 3\nrotating 4\nother 2\n");
    let ended = receiver.stop();
    assert!(!ended.stderr.contains("closed before its end"), "{}", ended.stderr);
    assert_eq!(ended.stderr.matches("lost").count(), 1, "{}", ended.stderr);
}
