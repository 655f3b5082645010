//! Claim: whenever the receiver is killed, each message that a device sent is written, or reported as lost with its
//! exact range, once, and no message that was written is reported as lost.
//!
//! One device in virtual time: two processes take turns, with and without a spool and confirms, under two sessions; a broker
//! that loses, repeats and reorders until it is acknowledged; and a receiver whose standard output takes what it accepted in any
//! order that keeps that of each chain. What happens is drawn from a deck. The device tells how a stream ended until one message
//! that tells it is written, as one that goes away then would: what is reported only if it is told again is a failure.

mod device;
mod world;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rand::RngExt;

use self::device::{Device, Mode};
use self::world::World;
use super::*;
use crate::stream::{Origin, ReservedStream};

/// Histories for each claim and pair of modes.
const SEEDS: u64 = 15;

/// What may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    /// The process whose turn it is begins a stream, or sends the next message of the one that it has.
    Send,
    /// It ends in order.
    Finish,
    /// Its stream continues in another one, perhaps under the newer session.
    Rotate,
    /// It is killed.
    KillSender,
    /// The other process takes its turn.
    Switch,
    /// What is not confirmed is sent again.
    Resend,
    /// The broker hands over the next message, or one that overtakes it, or one again.
    Deliver,
    /// The broker loses a message.
    Lose,
    /// Standard output takes a message, and that is written down.
    Write,
    /// Time passes: what was lost is given up.
    Wait,
    /// The receiver is killed, and started with what it wrote down.
    Kill,
}

use Event::{Deliver, Finish, Kill, KillSender, Lose, Resend, Rotate, Send, Switch, Wait, Write};

const USUAL: [Event; 17] = [
    Send, Send, Send, Send, Finish, Rotate, Switch, Resend, Deliver, Deliver, Deliver, Deliver, Lose, Write, Write,
    Wait, Kill,
];

/// Runs histories of a device whose processes are of these modes, with what a deck has, each event as often as it is in there.
fn histories(deck: &[Event], modes: [Mode; 2]) {
    let report = silent();
    let seeds = std::env::var("STS_HISTORIES").map_or(SEEDS, |count| count.parse().unwrap());
    let wrong: Vec<_> = (0..seeds).filter_map(|seed| Some((seed, wrong(&report, deck, modes, seed)?))).collect();
    assert!(wrong.is_empty(), "{modes:?}: {wrong:?}");
}

/// What is wrong with the outcome of a history.
fn wrong(report: &Reporter, deck: &[Event], modes: [Mode; 2], seed: u64) -> Option<String> {
    let mut world = World::new(report, seed, modes);
    for _ in 0..world.rng.random_range(5..80) {
        let event = deck[world.rng.random_range(0..deck.len())];
        world.step(event);
    }
    world.settle();
    let what = [
        (world.silent(), "are lost, and not reported"),
        (world.denied(), "are reported as lost, and were written"),
        (world.repeated(), "are reported as lost twice"),
    ];
    let wrong = what.into_iter().filter(|(which, _)| !which.is_empty());
    wrong.map(|(which, what)| format!("{which:?} {what}")).reduce(|one, other| format!("{one}; {other}"))
}

const PLAIN: Mode = Mode { is_spooled: false, wants_confirms: false };
const SPOOLED: Mode = Mode { is_spooled: true, wants_confirms: false };
const CONFIRMED: Mode = Mode { is_spooled: false, wants_confirms: true };
const BOTH: Mode = Mode { is_spooled: true, wants_confirms: true };

#[test]
fn nothing_is_lost_silently_between_whatever_the_receiver_is_killed() {
    for modes in
        [[PLAIN; 2], [SPOOLED; 2], [CONFIRMED; 2], [BOTH; 2], [PLAIN, CONFIRMED], [SPOOLED, BOTH], [PLAIN, SPOOLED]]
    {
        histories(&USUAL, modes);
    }
}

#[test]
fn of_a_process_that_is_killed_too_nothing_is_lost_silently_but_its_end() {
    let deck = [&USUAL[..], &[KillSender]].concat();
    for modes in [[PLAIN; 2], [SPOOLED; 2], [BOTH; 2], [PLAIN, CONFIRMED]] {
        histories(&deck, modes);
    }
}
