//! Claim: if a third of the messages cross, every message of the old program is read, and only those of ours that cross
//! one of its messages are garbled.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::{BOTH, Link, in_all_ways};
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::Process;

/// One session of random traffic; a third of it crosses. Returns how many of our messages were garbled at the other end.
fn mixed_traffic(link: &mut Link, rounds: u32, rng: &mut StdRng) -> usize {
    let old = link.paired();
    let receiver = link.receiver(&[]);
    let mut sender = link.sender();
    let (mut printed, mut sent, mut garbled) = (String::new(), Vec::new(), 0);
    for round in 0..rounds {
        let text = |side: &str, rng: &mut StdRng| {
            format!("{side} {round}: {}", "some more words, ".repeat(rng.random_range(0..8)))
        };
        let kind = *[0, 1, 2].choose(rng).unwrap();
        if kind != 0 {
            let ours = text("ours", rng).trim_end().to_owned();
            sender.write(format!("{ours}\n"));
            sent.push(ours);
        }
        if kind != 1 {
            let theirs = text("theirs", rng).trim_end().to_owned();
            old.send(&theirs);
            printed.extend([&*theirs, "\n"]);
        }
        // Every one of theirs is read.
        receiver.wait_for_stdout(printed.as_bytes());
        old.wait("our text", |seen| seen.displayed.len() == sent.len());
        if kind != 0 {
            let (displayed, ours) = (old.seen().displayed, sent.last().unwrap());
            let is_whole = displayed.last().unwrap() == ours.as_bytes();
            // Nobody but the old program could avoid that, if its message crossed ours.
            assert!(is_whole || (link.old.is_cbc && kind == 2), "{ours}: {displayed:?}");
            garbled += usize::from(!is_whole);
        }
    }
    sender.close_stdin();
    sender.wait().succeeded();
    if rng.random() {
        old.stop();
        receiver.wait().succeeded().wrote(printed.as_bytes());
    } else {
        receiver.stop().succeeded().wrote(printed.as_bytes());
        Process::spawn(link.device.pair(&["--end", LINK])).wait().succeeded();
    }
    old.wait("its end", |seen| seen.ended == Some("disconnected"));
    garbled
}

#[test]
fn mixed_traffic_loses_nothing_that_need_not_be_lost() {
    let crossed = AtomicUsize::new(0);
    in_all_ways(4, |link| {
        let mut rng = StdRng::seed_from_u64(link.old.seed);
        crossed.fetch_add(mixed_traffic(link, 30, &mut rng), Ordering::Relaxed);
    });
    assert!(crossed.into_inner() > 0, "nothing crossed");
}

/// `tests/legacy/many`.
#[test]
#[ignore = "minutes: tests/legacy/many"]
#[expect(clippy::print_stderr, reason = "it is a measurement, too")]
fn hundreds_of_sessions() {
    let sessions: u64 = std::env::var("STS_LEGACY_SESSIONS").map_or(300, |text| text.parse().unwrap());
    let garbled = sessions_at_once(sessions);
    eprintln!("{sessions} sessions; ours garbled at the old program by crossing: {garbled}");
}

#[test]
fn dozens_of_sessions() {
    sessions_at_once(24);
}

/// Sessions of random roles, modes, keys, texts and ends, twelve at once. Returns how many of our messages were garbled.
fn sessions_at_once(sessions: u64) -> u64 {
    let broker = Broker::start();
    let (next, garbled) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= sessions {
                        return;
                    }
                    let mut rng = StdRng::seed_from_u64(number);
                    let (role, is_cbc) = *BOTH.choose(&mut rng).unwrap();
                    let mut link = Link::new(broker.port(), role, is_cbc, number);
                    let count = mixed_traffic(&mut link, 8, &mut rng);
                    garbled.fetch_add(count as u64, Ordering::Relaxed);
                }
            });
        }
    });
    garbled.into_inner()
}
