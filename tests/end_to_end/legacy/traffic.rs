//! Claim: whatever is lost or crosses, every message is read that could be. Of the old program's, only one that follows a lost one
//! is damaged; of ours, only one that follows a lost one, or that crosses one of the old program's. In ECB none is.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use super::old_program::{Logged, OldProgram};
use super::{BOTH, Link, in_all_ways};
use crate::broker::Broker;
use crate::device::LINK;
use crate::process::{Ended, Process};

/// The longest text of one message of ours; the topics are short.
const MAX_TEXT: usize = 1004;

/// What happened in one or more sessions.
#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    /// Messages of ours that were garbled at the old program.
    garbled: usize,
    /// Messages of the old program that were damaged here.
    damaged: usize,
    /// Messages that the network lost.
    lost: usize,
    /// Keys of ours that the old program did not take.
    refused: usize,
}

impl Totals {
    fn add(&mut self, more: Self) {
        self.garbled += more.garbled;
        self.damaged += more.damaged;
        self.lost += more.lost;
        self.refused += more.refused;
    }
}

/// What the two ends can know of each other's chain: the rule of the protocol's description, on whole messages.
#[expect(clippy::struct_excessive_bools, reason = "what each end knows is independent of the rest")]
struct Oracle {
    is_cbc: bool,
    /// The old program's newest message is lost, so nobody here knows what it continues from.
    is_theirs_unknown: bool,
    /// Our newest message is lost, which looks here as if it was still on its way.
    is_ours_missed: bool,
    /// What our next message is made from may not be what the old program has.
    may_be_out_of_step: bool,
}

impl Oracle {
    fn new(is_cbc: bool) -> Self {
        Self { is_cbc, is_theirs_unknown: false, is_ours_missed: false, may_be_out_of_step: false }
    }

    /// What happened at the old program in a round, with at most one text of its own and with `ours` as the messages of
    /// ours, as far as it got them. Returns whether its text can be read, if the broker got that, and how many of ours
    /// were garbled.
    fn round(&mut self, log: &[Logged], ours: &mut VecDeque<Vec<u8>>, has_ours: bool) -> (Option<bool>, usize) {
        let (mut is_read, mut garbled) = (None, 0);
        let (mut has_crossed, mut is_undecided) = (false, false);
        for event in log {
            match event {
                Logged::Sent { lost: true } => (self.is_theirs_unknown, self.may_be_out_of_step) = (true, true),
                Logged::Sent { lost: false } => {
                    let can_be_read = !self.is_theirs_unknown || !self.is_cbc;
                    is_read = Some(can_be_read);
                    self.is_theirs_unknown = false;
                    has_crossed |= has_ours;
                    // Whether a damaged one crossed ours cannot be seen here, so the next of ours may continue from the wrong one.
                    is_undecided |= has_ours && !can_be_read;
                    if !has_ours {
                        self.is_ours_missed &= can_be_read;
                        self.may_be_out_of_step = self.is_ours_missed;
                    }
                }
                Logged::Missed => {
                    ours.pop_front().expect("we sent it");
                    (self.is_ours_missed, self.may_be_out_of_step) = (true, true);
                }
                Logged::Displayed(shown) => {
                    let sent = ours.pop_front().expect("we sent it");
                    if *shown != sent {
                        let had_to = self.is_cbc && (self.may_be_out_of_step || has_crossed || is_undecided);
                        assert!(had_to, "{:.80} instead of {:.80}", shown.escape_ascii(), sent.escape_ascii());
                        // Only its first block; a chance zero in that cuts it off.
                        let rest = sent.get(12..).unwrap_or_default();
                        assert!(shown.ends_with(rest) || shown.len() < 16, "{}", shown.escape_ascii());
                        garbled += 1;
                    }
                    (self.is_theirs_unknown, self.is_ours_missed) = (false, false);
                    (self.may_be_out_of_step, has_crossed) = (false, false);
                }
            }
        }
        self.may_be_out_of_step |= is_undecided;
        (is_read, garbled)
    }
}

/// One session and what came of it so far.
struct Traffic {
    old: OldProgram,
    receiver: Process,
    sender: Process,
    oracle: Oracle,
    printed: Vec<u8>,
    logged: usize,
    totals: Totals,
}

impl Traffic {
    fn begin(link: &mut Link) -> Self {
        let before = link.refused;
        let old = link.paired();
        let (receiver, sender) = (link.receiver(&[]), link.sender());
        let totals = Totals { refused: link.refused - before, ..Totals::default() };
        let oracle = Oracle::new(link.old.is_cbc);
        Self { old, receiver, sender, oracle, printed: Vec::new(), logged: 0, totals }
    }

    /// A text of one end or of both, which then cross; some are lost.
    fn round(&mut self, number: u32, rng: &mut StdRng) {
        let kind = *[0, 1, 2].choose(rng).unwrap();
        let (has_ours, has_theirs) = (kind != 0, kind != 1);
        let mut ours = VecDeque::new();
        if has_ours {
            let line = text("ours", number, 3000, rng);
            ours = line.as_bytes().chunks(MAX_TEXT).map(<[u8]>::to_vec).collect();
            if rng.random_ratio(1, 6) {
                self.old.lose_after(rng.random_range(0..ours.len()));
                self.totals.lost += 1;
            }
            self.sender.write(format!("{line}\n"));
        }
        let theirs = text("theirs", number, MAX_TEXT - 1, rng);
        if has_theirs && rng.random_ratio(1, 6) {
            self.old.send_lost(&theirs);
            self.totals.lost += 1;
        } else if has_theirs {
            self.old.send(&theirs);
        }
        let (begin, end) = (self.logged, self.logged + ours.len() + usize::from(has_theirs));
        self.old.wait("all of a round", |seen| seen.log.len() == end);
        self.logged = end;
        let (is_read, garbled) = self.oracle.round(&self.old.seen().log[begin..], &mut ours, has_ours);
        self.totals.garbled += garbled;
        match is_read {
            Some(true) => self.printed.extend(format!("{theirs}\n").as_bytes()),
            Some(false) => self.totals.damaged += 1,
            None => {}
        }
        self.receiver.wait_for_stdout(&self.printed);
        self.wait_for_damaged();
    }

    fn wait_for_damaged(&self) {
        self.receiver.wait_for_times("dropped a damaged message", self.totals.damaged);
    }

    /// A KILL from either end, to tools that run.
    fn end(mut self, link: &Link, rng: &mut StdRng) -> Totals {
        let is_recognized = !self.oracle.is_theirs_unknown || !self.oracle.is_cbc;
        if rng.random() {
            self.old.stop();
            if is_recognized {
                self.sender.wait_for("ended");
                self.sender.wait().failed(&[75], &[]);
                return Self::check(self.receiver.wait(), &self.printed, self.totals);
            }
            self.totals.damaged += 1;
            self.wait_for_damaged();
        }
        self.sender.close_stdin();
        self.sender.wait().succeeded();
        Process::spawn(link.device.pair(&["--end", LINK])).wait().succeeded();
        self.old.wait("its end", |seen| seen.ended == Some("disconnected"));
        Self::check(self.receiver.wait(), &self.printed, self.totals)
    }

    fn check(receiver: Ended, printed: &[u8], totals: Totals) -> Totals {
        let receiver = receiver.wrote(printed);
        if totals.damaged == 0 {
            receiver.succeeded();
        } else {
            receiver.failed(&[65], &[&format!("damaged: {} message", totals.damaged)]);
        }
        totals
    }
}

/// A text of at most `max` bytes.
fn text(side: &str, number: u32, max: usize, rng: &mut StdRng) -> String {
    let len = if rng.random() { rng.random_range(0..80) } else { rng.random_range(0..max) };
    let words = format!("{side} {number}: {}", "some more words, ".repeat(max / 16));
    words[..len.clamp(12, max)].trim_end().to_owned()
}

/// One session of random traffic.
fn mixed_traffic(link: &mut Link, rounds: u32, rng: &mut StdRng) -> Totals {
    let mut traffic = Traffic::begin(link);
    for number in 0..rounds {
        traffic.round(number, rng);
    }
    traffic.end(link, rng)
}

#[test]
fn mixed_traffic_loses_nothing_that_need_not_be_lost() {
    let totals = Mutex::new(Totals::default());
    let has_both = || totals.lock().is_ok_and(|totals| totals.garbled > 0 && totals.damaged > 0);
    // What crosses is the scheduler's to say: a session in which nothing does is right, and shows too little.
    for seed in [4, 40, 41, 42, 43] {
        if has_both() {
            break;
        }
        in_all_ways(seed, |link| {
            let mut rng = StdRng::seed_from_u64(link.old.seed);
            let of_link = mixed_traffic(link, 30, &mut rng);
            totals.lock().unwrap().add(of_link);
        });
    }
    assert!(has_both(), "nothing crossed, or nothing was lost: {totals:?}");
}

/// `tests/legacy/many`.
#[test]
#[ignore = "minutes: tests/legacy/many"]
#[expect(clippy::print_stderr, reason = "it is a measurement, too")]
fn hundreds_of_sessions() {
    let sessions: u64 = std::env::var("STS_LEGACY_SESSIONS").map_or(300, |text| text.parse().unwrap());
    let totals = sessions_at_once(sessions);
    eprintln!("{sessions} sessions: {totals:?}");
    let Totals { garbled, damaged, lost, refused } = totals;
    assert!(sessions < 100 || [garbled, damaged, lost, refused].iter().all(|count| *count > 0));
}

#[test]
fn dozens_of_sessions() {
    sessions_at_once(24);
}

/// Sessions of random roles, modes, keys, texts and ends, twelve at once.
fn sessions_at_once(sessions: u64) -> Totals {
    let broker = Broker::start();
    let (next, totals) = (AtomicU64::new(0), Mutex::new(Totals::default()));
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
                    let of_session = mixed_traffic(&mut link, 8, &mut rng);
                    totals.lock().unwrap().add(of_session);
                }
            });
        }
    });
    totals.into_inner().unwrap()
}
