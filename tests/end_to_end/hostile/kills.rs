//! Claim: through a hostile broker, and whenever its receiver is killed, each line of several senders is written, or is among
//! what is reported as lost.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rustix::process::Signal;

use super::{ranges, with_seeds};
use crate::device::{LINK, Pair};
use crate::process::{Ended, Process, wait_until};

/// Seeds per pair.
const SEEDS: u64 = 2;
/// Receivers of a seed that are killed.
const KILLS: usize = 4;
/// Senders at the end. Their first messages tell how the others ended, at distances of up to 48 streams.
const TELLERS: usize = 50;
/// Senders at the same time that send whole lines, and their lines.
const SENDERS: usize = 3;
const LINES: usize = 5;

#[test]
fn what_a_killed_receiver_does_not_write_is_reported() {
    with_seeds(3000, SEEDS, |pair, broker, seed| {
        let mut random = StdRng::seed_from_u64(seed);
        let args: &[&str] = if seed % 2 == 0 { &["--json"] } else { &[] };
        pair.slave.listen(args).stop().succeeded();
        broker.turn(seed, 40);
        let mut runs = Vec::new();
        for turn in 0..KILLS {
            let receiver = Process::spawn(pair.slave.recv(&[args, &[LINK]].concat()));
            send_beside_an_unfinished_line(pair, turn, || {
                thread::sleep(Duration::from_millis(random.random_range(0..1500)));
                receiver.signal(Signal::KILL);
            });
            runs.push(receiver.wait());
        }
        broker.turn(seed, 0);
        let receiver = pair.slave.listen(args);
        // Its first message tells how the others ended.
        for last in 0..TELLERS {
            let text = if last + 1 == TELLERS { "very last\n" } else { "last\n" };
            pair.master.send_all(&["--each"], text).succeeded();
        }
        wait_until("the last line", || String::from_utf8_lossy(&receiver.stdout()).contains("very last"));
        // For what an earlier run was told of, it waits until the broker could send it.
        let (written, said) = texts(&runs);
        wait_until("the report of what is missing", || {
            let written = written.clone() + &String::from_utf8_lossy(&receiver.stdout());
            unreported(&written, &(said.clone() + &receiver.stderr())).is_none()
        });
        runs.push(receiver.stop());
        check(&runs);
    });
}

/// While one sender has written a part of a line, the lines of the others wait. Meanwhile, does this.
fn send_beside_an_unfinished_line(pair: &Pair, turn: usize, meanwhile: impl FnOnce()) {
    let mut unfinished = Process::spawn(pair.master.send(&[LINK]));
    unfinished.write("begun ");
    unfinished.wait_until_read();
    let line = |number, line| format!("[{turn}-{number}-{line}]\n");
    let others = (0..SENDERS).map(|number| {
        let lines: String = (0..LINES).map(|count| line(number, count)).collect();
        Process::spawn_with(pair.master.send(&["--each", LINK]), lines)
    });
    let others: Vec<_> = others.collect();
    meanwhile();
    unfinished.write("ended\n");
    for sender in others.into_iter().chain([unfinished]) {
        sender.wait().succeeded();
    }
}

/// All that runs wrote, and all that they said.
fn texts(runs: &[Ended]) -> (String, String) {
    let written = runs.iter().map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).collect();
    (written, runs.iter().map(|run| run.stderr.clone()).collect())
}

/// How often each line was written.
fn times(written: &str) -> BTreeMap<String, usize> {
    let lines = (0..KILLS).flat_map(|turn| (0..SENDERS).map(move |number| (turn, number)));
    let lines = lines.flat_map(|(turn, number)| (0..LINES).map(move |line| format!("[{turn}-{number}-{line}]")));
    lines.map(|line| (line.clone(), written.matches(&line).count())).collect()
}

/// What is wrong, if more lines are missing than were reported.
fn unreported(written: &str, said: &str) -> Option<String> {
    let times = times(written);
    let missing: Vec<_> = times.iter().filter(|(_, count)| **count == 0).map(|(line, _)| line).collect();
    let named: BTreeSet<(&str, usize)> = said
        .lines()
        .filter_map(|line| Some((line.split_once(", stream ")?.1.split(':').next()?, line)))
        .flat_map(|(stream, line)| ranges(line).flatten().map(move |seq| (stream, seq)))
        .collect();
    let unheard: usize = said.lines().filter(|line| line.contains("no messages of stream")).count();
    let reported = named.len() + unheard * SENDERS * LINES;
    (missing.len() > reported).then(|| format!("{missing:?} missing, {named:?} reported:\n{written}\n{said}"))
}

fn check(runs: &[Ended]) {
    let (written, said) = texts(runs);
    assert_eq!(unreported(&written, &said), None);
    let times = times(&written);
    // A write that a kill kept from being recorded comes again.
    let most = times.values().max().copied().unwrap_or_default();
    assert!(most <= 1 + KILLS, "{times:?}");
}
