//! Claim: through a broker that drops, repeats, reorders, delays, disconnects, forgets and lies, a stream with confirms
//! arrives byte for byte. One without confirms arrives in order, without repeats, and with every missing message
//! reported.

mod broker;
mod hub;
mod kills;
mod mischief;

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::thread;
use std::time::Duration;

pub(crate) use self::broker::HostileBroker;
pub(crate) use self::mischief::Fate;
use crate::device::{LINK, Pair, readings};
use crate::process::{Ended, Process};

/// Pairs of devices that run at the same time; most of the time they wait for a broker that does not answer.
const LANES: u64 = 8;
/// Seeds per pair, one after the other.
const SEEDS: u64 = 13;
/// Seeds per pair if each of them waits for a new session.
const ROTATIONS: u64 = 4;

/// A broker that is benign until told otherwise, and two devices that have paired over it.
pub(crate) fn paired() -> (HostileBroker, Pair) {
    let broker = HostileBroker::start();
    let pair = Pair::enrolled_at(broker.port(), "gcm");
    pair.agree();
    (broker, pair)
}

/// Runs `test` once per seed. The devices pair while the broker is benign.
fn with_seeds(first: u64, seeds: u64, test: impl Fn(&Pair, &HostileBroker, u64) + Sync) {
    thread::scope(|scope| {
        for lane in 0..LANES {
            let test = &test;
            scope.spawn(move || {
                let (broker, pair) = paired();
                for seed in (0..seeds).map(|turn| first + turn * LANES + lane) {
                    // A thread of its own, so that a failure names its seed.
                    let named = thread::Builder::new().name(format!("seed {seed}"));
                    thread::scope(|scope| named.spawn_scoped(scope, || test(&pair, &broker, seed)).unwrap().join())
                        .unwrap_or_else(|_| panic!("seed {seed} failed"));
                }
            });
        }
    });
}

/// What else depends on the seed: quality of service, number of messages, number of hostile acts.
fn shape(seed: u64) -> (&'static str, usize, u32) {
    let qos = ["qos=1", "qos=0", "qos=1", "qos=2"][usize::try_from(seed % 4).unwrap()];
    (qos, 20 + usize::try_from(seed * 37 % 180).unwrap(), 10 + u32::try_from(seed % 31).unwrap())
}

#[test]
fn a_confirmed_stream_arrives_byte_for_byte() {
    with_seeds(0, SEEDS, |pair, broker, seed| {
        let (qos, messages, budget) = shape(seed);
        let input = readings(messages);
        broker.arm(seed, budget);
        let receiver = Process::spawn(pair.slave.recv(&["--once", "-o", qos, LINK]));
        let mut sender =
            Process::spawn_with(pair.master.send(&["--confirm", "--each", "-o", qos, LINK]), input.clone());
        receiver.wait().succeeded().wrote(&input);
        // The broker may have acknowledged the last confirm and dropped it: then the next run repeats it.
        if sender.is_running() {
            let next = pair.slave.listen(&["-o", qos]);
            sender.wait().succeeded();
            next.stop().succeeded().wrote(b"");
        } else {
            sender.wait().succeeded();
        }
    });
}

#[test]
fn every_hole_in_a_stream_that_is_not_confirmed_is_reported() {
    with_seeds(1000, SEEDS, |pair, broker, seed| {
        let (qos, messages, budget) = shape(seed);
        let input = readings(messages);
        broker.arm(seed, budget);
        let receiver = pair.slave.listen(&["--once", "--timeout", "8", "-o", qos]);
        pair.master.send_all(&["--each", "-o", qos], input.clone()).succeeded();
        // The pair has a session, under which each run of the sender took a stream.
        check_holes(&input, (seed - 1000) / LANES, &receiver.wait());
    });
}

#[test]
fn order_outlives_a_new_session_in_full_flight() {
    with_seeds(2000, ROTATIONS, |pair, broker, seed| {
        let (qos, messages, budget) = shape(seed);
        let input = readings(messages);
        let lines: Vec<&[u8]> = input.split_inclusive(|&byte| byte == b'\n').collect();
        let (before, after) = lines.split_at(messages / 2);
        broker.arm(seed, 0);
        // What the last seed left is not reported in this one.
        Process::spawn(pair.slave.pair(&["--end", LINK])).wait().succeeded();
        pair.agree();
        let receiver = pair.slave.listen(&["--once", "--timeout", "15", "-o", qos]);
        let mut sender = Process::spawn(pair.master.send(&["--each", "-o", qos, LINK]));
        sender.write(lines[0]);
        receiver.wait_for_stdout(lines[0]);
        pair.agree();
        broker.turn(seed, budget);
        sender.write(before[1..].concat());
        sender.wait_until_read();
        // A sender looks for new sessions once a second.
        thread::sleep(Duration::from_millis(1100));
        sender.write(after.concat());
        sender.close_stdin();
        sender.wait().succeeded();
        check_order(&lines, &receiver.wait());
    });
}

/// Checks that the lines arrived in order and once, and that the reported gaps are as large as what is missing, apart from
/// messages without a line: continued, continues and end.
fn check_order(sent: &[&[u8]], got: &Ended) {
    let said = &got.stderr;
    let mut rest = sent.iter();
    let mut arrived = 0;
    for line in got.stdout.split_inclusive(|&byte| byte == b'\n') {
        assert!(rest.any(|candidate| *candidate == line), "out of order, or twice: {}\n{said}", line.escape_ascii());
        arrived += 1;
    }
    let missing = sent.len() - arrived;
    let named: usize = ranges(said).map(Iterator::count).sum();
    match got.status {
        0 => assert_eq!((missing, named), (0, 0), "exit 0 with a hole:\n{said}"),
        65 => assert!((missing..=missing + 3).contains(&named), "{missing} missing, {named} named:\n{said}"),
        75 => assert!(said.contains("timed out"), "75 for no reason:\n{said}"),
        other => panic!("status {other}:\n{said}"),
    }
}

/// Here each line is a message: of this stream, the receiver must report exactly the numbers of the missing ones. It may report
/// what an earlier stream lacks, too.
fn check_holes(input: &[u8], stream: u64, got: &Ended) {
    let said = &got.stderr;
    let lines = |bytes: &[u8]| bytes.split_inclusive(|&byte| byte == b'\n').map(<[u8]>::to_vec).collect::<Vec<_>>();
    let mut sent = lines(input).into_iter().enumerate();
    let mut arrived = BTreeSet::new();
    for line in lines(&got.stdout) {
        let found = sent.find(|(_, candidate)| *candidate == line);
        arrived.insert(found.unwrap_or_else(|| panic!("out of order, or twice: {}", line.escape_ascii())).0);
    }
    let last = arrived.last().copied();
    let count = lines(input).len();
    let of_stream = format!("stream {stream}: ");
    let of_stream: Vec<_> = said.lines().filter(|line| line.contains(&of_stream)).collect();
    let reported: BTreeSet<_> = ranges(&of_stream.join("\n")).flatten().collect();
    let inner: BTreeSet<_> = (0..last.map_or(0, |last| last + 1)).filter(|number| !arrived.contains(number)).collect();
    let within: BTreeSet<_> =
        reported.iter().copied().filter(|number| last.is_some_and(|last| *number < last)).collect();
    assert_eq!(within, inner, "reported, and missing; status {}:\n{said}", got.status);
    match got.status {
        0 => assert_eq!(arrived.len(), count, "exit 0 with a hole:\n{said}"),
        65 => assert!(ranges(said).next().is_some(), "65 without a gap:\n{said}"),
        75 => assert!(said.contains("timed out"), "75 for no reason:\n{said}"),
        other => panic!("status {other}:\n{said}"),
    }
    if got.status == 65 {
        let missing: BTreeSet<_> = (0..count).filter(|number| !arrived.contains(number)).collect();
        let lines_reported: BTreeSet<_> = reported.into_iter().filter(|number| *number < count).collect();
        assert_eq!(lines_reported, missing, "65 must name all of it:\n{said}");
    }
}

/// The message numbers in `gap: NAME, stream N: message N is lost` and `messages N-N are lost`.
fn ranges(stderr: &str) -> impl Iterator<Item = RangeInclusive<usize>> {
    let gaps = stderr.lines().filter_map(|line| line.split_once("gap: ")?.1.split_once(": messag"));
    let ranges = gaps.filter_map(|(_, what)| what.trim_start_matches("es ").trim_start_matches("e ").split(' ').next());
    let number = |text: &str| text.parse::<usize>().unwrap();
    ranges.map(move |range| match range.split_once('-') {
        Some((first, last)) => number(first)..=number(last),
        None => number(range)..=number(range),
    })
}
