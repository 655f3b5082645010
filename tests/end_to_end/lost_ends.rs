//! Claim: the end of a stream that a broker loses is named by what the same device sends next, and so is a runtime directory
//! that two devices use.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::broker::Broker;
use crate::device::{Device, Identity, LINK, M2S, Pair, settings};
use crate::hostile::{Fate, paired};
use crate::process::{Process, wait_until};

const ENC: u8 = 0x27;

/// The stream and the seq of a message from master to slave.
fn number(topic: &str, payload: &[u8]) -> Option<(u32, u32)> {
    let of = |range: std::ops::Range<usize>| u32::from_be_bytes(payload[range].try_into().unwrap());
    (topic == M2S && payload.first() == Some(&ENC)).then(|| (of(4..8), of(16..20)))
}

#[test]
fn what_a_broker_lost_of_a_stream_is_named_by_the_next_one() {
    let (broker, pair) = paired();
    // As its queue overflows: of the first stream, the end, and all of the second one.
    broker.filter(|topic, payload| match number(topic, payload) {
        Some((0, 2..) | (1, _)) => Fate::Drop,
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&[]);
    for text in ["1\n2\n3\n4\n5\n", "a\nb\n", "later\n"] {
        pair.master.send_all(&["--each"], text).succeeded();
    }
    receiver.wait_for("stream 0: messages 2-");
    receiver.wait_for("stream 1: messages 0-");
    receiver.wait_for_stdout(b"1\n2\nlater\n");
    let ended = receiver.stop();
    assert!(!ended.stderr.contains("no messages of"), "{}", ended.stderr);
    let status = Process::spawn(pair.slave.pair(&["--status", "--json"])).wait().succeeded();
    assert!(status.text().contains(r#""gaps":2"#), "{}", status.text());
}

/// However long the broker's queue overflows: what it dropped is told again, at distances that grow.
#[test]
fn an_end_that_is_lost_with_all_of_the_next_three_runs_is_named() {
    let (broker, pair) = paired();
    broker.filter(|topic, payload| match number(topic, payload) {
        Some((0, 1..) | (1..=3, _)) => Fate::Drop,
        _ => Fate::Pass,
    });
    let receiver = pair.slave.listen(&[]);
    for run in 0..7 {
        pair.master.send_all(&["--each"], format!("{run}\nlast of {run}\n")).succeeded();
    }
    receiver.wait_for("stream 0: message");
    receiver.wait_for("stream 3: messages 0-");
    let ended = receiver.stop();
    assert_eq!(ended.stderr.matches("gap: ").count(), 4, "{}", ended.stderr);
}

/// Three sessions carry one sequence, and nothing arrives of the second one. What another stream tells of that, and what the third
/// one says with its position, is one loss.
#[test]
fn what_is_lost_between_two_sessions_is_counted_once() {
    let (broker, pair) = paired();
    // The sessions that are used, in order, and how many messages of the second one were dropped.
    let seen = Arc::new(Mutex::new((Vec::<Vec<u8>>::new(), 0_u64)));
    let filtered = Arc::clone(&seen);
    broker.filter(move |topic, payload| {
        let (sessions, dropped) = &mut *filtered.lock().unwrap();
        if number(topic, payload).is_none() {
            return Fate::Pass;
        }
        if sessions.iter().all(|session| *session != payload[1..4]) {
            sessions.push(payload[1..4].to_vec());
        }
        let is_second = sessions.get(1).is_some_and(|second| *second == payload[1..4]);
        *dropped += u64::from(is_second);
        if is_second { Fate::Drop } else { Fate::Pass }
    });
    let receiver = pair.slave.listen(&[]);
    let mut sender = Process::spawn(pair.master.send(&["--each", LINK]));
    for sessions in 1..=3 {
        let mut lines = 0;
        // The sender notices a new session at the latest a second after it is there.
        wait_until("the session to be used", || {
            lines += 1;
            sender.write(format!("{sessions}:{lines}\n"));
            thread::sleep(Duration::from_millis(20));
            seen.lock().unwrap().0.len() == sessions
        });
        if sessions < 3 {
            pair.agree();
        }
    }
    sender.close_stdin();
    sender.wait().succeeded();
    pair.master.send_all(&[], "another\n").succeeded();
    receiver.wait_for("lost");
    wait_until("all to be written", || {
        let written = receiver.stdout();
        let has = |text: &[u8]| written.windows(text.len()).any(|part| part == text);
        has(b"1:1\n") && has(b"another\n") && has(b"\n3:")
    });
    receiver.stop().succeeded();
    let status = Process::spawn(pair.slave.pair(&["--status", "--json"])).wait().succeeded();
    // One of them says only where the sequence goes on.
    let lost = format!(r#""lost":{},"gaps":1"#, seen.lock().unwrap().1 - 1);
    assert!(status.text().contains(&lost), "{lost} in {}", status.text());
}

#[test]
fn the_end_of_a_run_waits_no_second_for_what_is_lost() {
    let (broker, pair) = paired();
    broker.filter(
        |topic, payload| if matches!(number(topic, payload), Some((0, 1..))) { Fate::Drop } else { Fate::Pass },
    );
    let receiver = pair.slave.listen(&["-n", "2"]);
    for text in ["1\n2\n", "later\n"] {
        pair.master.send_all(&["--each"], text).succeeded();
    }
    receiver.wait().failed(&[65], &["stream 0: message", "data was lost"]).wrote(b"1\nlater\n");
}

/// The broker may have what a run with `--once` left there: a run that has the broker for a moment cannot know.
#[test]
fn what_a_run_that_follows_one_stream_was_told_is_reported_by_one_that_waited_for_the_broker() {
    let (broker, pair) = paired();
    broker
        .filter(|topic, payload| if matches!(number(topic, payload), Some((0, _))) { Fate::Drop } else { Fate::Pass });
    pair.master.send_all(&["--each"], "1\n2\n").succeeded();
    let receiver = pair.slave.listen(&["--once"]);
    pair.master.send_all(&[], "followed\n").succeeded();
    receiver.wait().succeeded().wrote(b"followed\n");
    let hasty = pair.slave.listen(&["--timeout", "1"]).wait().succeeded();
    assert!(!hasty.stderr.contains("lost"), "{}", hasty.stderr);
    let receiver = pair.slave.listen(&[]);
    receiver.wait_for("stream 0: messages 0-");
    receiver.stop().succeeded();
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn a_runtime_directory_that_two_devices_use_is_told() {
    let broker = Broker::start();
    let pair = Pair::paired(&broker, "gcm");
    let port = broker.port().to_string();
    let clone = Device::configured(Identity::Station, &settings(&port, "master", "gcm"));
    copy(&pair.master.config_dir(), &clone.config_dir());
    copy(&pair.master.runtime_dir(), &clone.runtime_dir());
    let receiver = pair.slave.listen(&["--timeout", "3"]);
    pair.master.send_all(&[], "of one\n").succeeded();
    receiver.wait_for_stdout(b"of one\n");
    // The number is taken, so this is refused; what comes next says so.
    clone.send_all(&[], "refused\n").succeeded();
    clone.send_all(&[], "of the other\n").succeeded();
    let ended = receiver.wait().failed(&[65], &["two devices use this session", "stream 0", "data was lost"]);
    ended.wrote(b"of one\nof the other\n");
}
