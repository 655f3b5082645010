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
/// Senders at the end. Their first messages tell how the others ended, at distances of up to 48 streams: a receiver that is
/// killed before it waited long enough for what is missing forgets that it was told.
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

/// Checks that no more lines are missing than were reported.
fn check(runs: &[Ended]) {
    let written: String = runs.iter().map(|run| String::from_utf8_lossy(&run.stdout).into_owned()).collect();
    let said: String = runs.iter().map(|run| run.stderr.clone()).collect();
    let mut times: BTreeMap<String, usize> = BTreeMap::new();
    for turn in 0..KILLS {
        for (number, line) in (0..SENDERS).flat_map(|number| (0..LINES).map(move |line| (number, line))) {
            let line = format!("[{turn}-{number}-{line}]");
            let count = written.matches(&line).count();
            times.insert(line, count);
        }
    }
    let missing: Vec<_> = times.iter().filter(|(_, count)| **count == 0).map(|(line, _)| line).collect();
    let named: BTreeSet<(&str, usize)> = said
        .lines()
        .filter_map(|line| Some((line.split_once(", stream ")?.1.split(':').next()?, line)))
        .flat_map(|(stream, line)| ranges(line).flatten().map(move |seq| (stream, seq)))
        .collect();
    let unheard: usize = said.lines().filter(|line| line.contains("no messages of stream")).count();
    let reported = named.len() + unheard * SENDERS * LINES;
    assert!(missing.len() <= reported, "{missing:?} missing, {named:?} reported:\n{written}\n{said}");
    // A write that a kill kept from being recorded comes again.
    let most = times.values().max().copied().unwrap_or_default();
    assert!(most <= 1 + KILLS, "{times:?}");
}
