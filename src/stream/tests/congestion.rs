//! Claim: whatever a broker queues, and whatever it drops, a stream that is confirmed arrives whole, in at most three times the
//! time that it takes through a broker that queues everything, and little is sent that had arrived.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use rand::RngExt;

use super::*;

const LIMIT: usize = 2 << 20;
const TURN: Duration = Duration::from_micros(100);

/// A broker, and the ways to it and from it.
#[derive(Clone, Copy, Debug)]
struct Broker {
    /// Most bytes and messages that it queues; the rest it drops.
    max_bytes: usize,
    max_messages: usize,
    /// How many bytes and messages it passes on in a turn.
    rate: usize,
    messages_per_turn: usize,
    /// It passes on a message when the receiver has acknowledged the one before.
    one_in_flight: bool,
    delay: Duration,
    /// How much later than another one a message may arrive that was published before it.
    disorder: Duration,
    /// How many of a thousand messages it drops anyway, confirms too.
    losses: u32,
    /// How often in a thousand turns the receiver ends and starts anew.
    restarts: u32,
}

const UNLIMITED: Broker = Broker {
    max_bytes: usize::MAX,
    max_messages: usize::MAX,
    rate: 64 << 10,
    messages_per_turn: 20,
    one_in_flight: false,
    delay: Duration::from_micros(300),
    disorder: Duration::ZERO,
    losses: 0,
    restarts: 0,
};

/// What the receiver does with messages.
#[derive(Default)]
struct Receiver {
    next: u32,
    /// What came early, unless it is of those that drop it.
    early: BTreeSet<u32>,
    holds: bool,
    confirm_at: Option<Instant>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
struct Course {
    time: Duration,
    sent: usize,
}

/// What a confirm on its way says: the ranges that are sacked, and the next seq.
type Returning = (Vec<(u32, u32)>, u32);

struct World {
    broker: Broker,
    now: Instant,
    net: StdRng,
    queue: VecDeque<u32>,
    queued_bytes: usize,
    /// When the newest message that was passed on is acknowledged.
    acknowledged_at: Instant,
    arriving: BTreeMap<(Instant, u64), u32>,
    returning: BTreeMap<(Instant, u64), Returning>,
    count: u64,
    receiver: Receiver,
}

impl World {
    fn loses(&mut self) -> bool {
        self.net.random_ratio(self.broker.losses, 1000)
    }

    fn arrival(&mut self) -> (Instant, u64) {
        self.count += 1;
        let late = self.net.random_range(0..=self.broker.disorder.as_micros());
        (self.now + self.broker.delay + Duration::from_micros(u64::try_from(late).unwrap()), self.count)
    }

    fn publish(&mut self, sealed: &Bytes) {
        let seq = u32::from_be_bytes(sealed[..4].try_into().unwrap());
        let fits = self.queued_bytes + sealed.len() <= self.broker.max_bytes || self.queue.is_empty();
        if fits && self.queue.len() < self.broker.max_messages && !self.loses() {
            self.queued_bytes += sealed.len();
            self.queue.push_back(seq);
        }
    }

    fn pass_on(&mut self, len: usize) {
        let messages = if self.broker.one_in_flight {
            usize::from(self.now >= self.acknowledged_at)
        } else {
            (self.broker.rate / len).clamp(1, self.broker.messages_per_turn)
        };
        for _ in 0..messages {
            let Some(seq) = self.queue.pop_front() else { return };
            self.queued_bytes -= len;
            self.acknowledged_at = self.now + 2 * self.broker.delay;
            let at = self.arrival();
            self.arriving.insert(at, seq);
        }
    }

    fn receive(&mut self) {
        let Receiver { ref mut next, ref mut early, holds, ref mut confirm_at } = self.receiver;
        let before = *next;
        while let Some(entry) = self.arriving.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let seq = entry.remove();
            if seq == *next {
                *next += 1;
                while early.remove(next) {
                    *next += 1;
                }
            } else if seq > *next && holds {
                early.insert(seq);
            }
            confirm_at.get_or_insert(if seq >= *next { self.now } else { self.now + MAX_CONFIRM_DELAY });
        }
        if *next > before || confirm_at.is_some_and(|at| at <= self.now) {
            *confirm_at = None;
            let mut sacked: Vec<(u32, u32)> = Vec::new();
            for &seq in &*early {
                match sacked.last_mut() {
                    Some((_, end)) if *end == seq => *end += 1,
                    _ => sacked.push((seq, seq + 1)),
                }
            }
            sacked.truncate(MAX_SACK_RANGES);
            let said = (sacked, *next);
            if !self.loses() {
                let at = self.arrival();
                self.returning.insert(at, said);
            }
        }
    }
}

/// Sends `count` messages of `len` bytes.
fn course(broker: Broker, (count, len): (u32, usize), holds: bool, seed: u64) -> Course {
    let start = Instant::now();
    let mut world = World {
        broker,
        now: start,
        net: StdRng::seed_from_u64(seed),
        queue: VecDeque::new(),
        queued_bytes: 0,
        acknowledged_at: start,
        arriving: BTreeMap::new(),
        returning: BTreeMap::new(),
        count: 0,
        receiver: Receiver { holds, ..Receiver::default() },
    };
    let mut queue = RetransmitQueue::new(LIMIT, start);
    let (mut pushed, mut sent) = (0, 0);
    let message = |seq: u32| {
        let mut sealed = seq.to_be_bytes().to_vec();
        sealed.resize(len, 0);
        Bytes::from(sealed)
    };
    while pushed < count || queue.unconfirmed().0 > 0 {
        assert!(world.now < start + Duration::from_secs(600), "{broker:?}: not confirmed, seed {seed}");
        while let Some(again) = queue.poll(world.now) {
            world.publish(&again);
            sent += len;
        }
        while pushed < count && queue.has_room(len) {
            let sealed = message(pushed);
            queue.push(sealed.clone(), len, world.now);
            world.publish(&sealed);
            (pushed, sent) = (pushed + 1, sent + len);
        }
        // Nothing happens before a timer does.
        let is_idle = world.queue.is_empty() && world.arriving.is_empty() && world.returning.is_empty();
        if is_idle && let Some(due) = queue.deadline().into_iter().chain(world.receiver.confirm_at).min() {
            world.now = world.now.max(due);
        }
        assert!(queue.unconfirmed().1 <= LIMIT);
        assert!((1..=LIMIT).contains(&queue.window()));
        world.pass_on(len);
        world.receive();
        if world.net.random_ratio(broker.restarts, 1000) {
            world.receiver.early.clear();
        }
        while let Some(entry) = world.returning.first_entry().filter(|entry| entry.key().0 <= world.now) {
            let (sacked, next) = entry.remove();
            assert!(next <= world.receiver.next);
            if !sacked.is_empty() {
                queue.sack(&sacked, world.now).unwrap();
            }
            queue.confirm(next, world.now);
        }
        world.now += TURN;
    }
    assert_eq!(world.receiver.next, count);
    Course { time: world.now - start, sent }
}

/// Lines of 70 bytes, each by itself; what a run of lines is cut into; files.
const LOADS: [(u32, usize); 3] = [(5000, 70), (1000, 4 << 10), (100, 64 << 10)];

fn all_of((count, len): (u32, usize)) -> usize {
    count as usize * len
}

#[test]
fn a_broker_that_queues_little_takes_at_most_three_times_as_long() {
    let limits =
        [(64 << 10, usize::MAX), (usize::MAX, 100), (usize::MAX, 1000), (256 << 10, usize::MAX), (64 << 10, 20)];
    let delays = [0, 300, 5_000, 40_000].map(Duration::from_micros);
    for (load, delay) in LOADS.into_iter().flat_map(|load| delays.map(|delay| (load, delay))) {
        let (count, len) = load;
        let unlimited = Broker { delay, ..UNLIMITED };
        let fastest = course(unlimited, load, true, 1);
        assert_eq!(fastest.sent, all_of(load));
        for (max_bytes, max_messages) in limits {
            let course = course(Broker { max_bytes, max_messages, ..unlimited }, load, true, 1);
            // No more than the queue holds arrives in a round trip.
            let in_queue = u32::try_from((max_bytes / len).min(max_messages).min(count as usize)).unwrap();
            let longest = 3 * fastest.time.max(count / in_queue * (2 * delay + TURN));
            assert!(
                course.time <= longest,
                "{load:?} {delay:?} {max_bytes} {max_messages}: {course:?}, not {longest:?}"
            );
            assert!(course.sent <= 2 * all_of(load), "{load:?} {delay:?} {max_bytes} {max_messages}: {course:?}");
        }
    }
}

/// Half of what comes while the queue is full is dropped, every other message: the receiver holds more ranges than it can report
/// at once.
#[test]
fn a_broker_that_passes_on_one_message_at_a_time_is_kept_busy() {
    for (load, delay) in LOADS.into_iter().flat_map(|load| [300, 5_000].map(|delay| (load, delay))) {
        let delay = Duration::from_micros(delay);
        let broker = Broker { max_bytes: 64 << 10, one_in_flight: true, delay, ..UNLIMITED };
        let course = course(broker, load, true, 1);
        let least = load.0 * (2 * delay);
        assert!(course.time <= least * 5 / 4, "{load:?} {delay:?}: {course:?}, not {least:?}");
        assert!(course.sent <= 2 * all_of(load), "{load:?} {delay:?}: {course:?}");
    }
}

/// Frames of 64 KiB at 100 kB/s, and at 10: each takes longer than what is waited for while no round trip was measured.
#[test]
fn on_a_path_slower_than_the_first_timeout_few_frames_are_sent_twice() {
    for (frame_time, most) in [(600, 15), (6000, 20)] {
        let frame_time = Duration::from_millis(frame_time);
        let broker = Broker { one_in_flight: true, delay: frame_time / 2, ..UNLIMITED };
        let load = (20, 64 << 10);
        let course = course(broker, load, true, 1);
        assert!(course.sent <= all_of(load) * most / 10, "{frame_time:?}: {course:?}");
    }
}

#[test]
fn what_is_sent_again_is_little_more_than_what_was_lost() {
    for (seed, load, losses) in cases([1, 10, 30]) {
        let broker = Broker { losses, delay: Duration::from_millis(5), ..UNLIMITED };
        let course = course(broker, load, true, seed);
        let most = all_of(load) * (1000 + 8 * losses as usize) / 1000 + 20 * load.1;
        assert!(course.sent <= most, "{load:?} {losses}: {course:?}, seed {seed}");
    }
}

#[test]
fn what_arrives_in_another_order_is_not_lost() {
    for (seed, load, disorder) in cases([1, 10]) {
        let (delay, disorder) = (Duration::from_millis(5), Duration::from_millis(disorder));
        let course = course(Broker { delay, disorder, ..UNLIMITED }, load, true, seed);
        assert!(course.sent <= 2 * all_of(load), "{load:?} {disorder:?}: {course:?}, seed {seed}");
    }
}

#[test]
fn a_receiver_that_drops_what_is_early_or_ends_and_starts_anew_gets_everything() {
    for (seed, load, holds) in cases([false, true]) {
        let broker = Broker { max_bytes: 64 << 10, losses: 10, restarts: 50, ..UNLIMITED };
        let course = course(broker, load, holds, seed);
        assert!(course.sent <= 5 * all_of(load), "{load:?} {holds}: {course:?}, seed {seed}");
    }
}

fn cases<T: Copy, const N: usize>(of: [T; N]) -> impl Iterator<Item = (u64, (u32, usize), T)> {
    (0..3).flat_map(move |seed| LOADS.into_iter().flat_map(move |load| of.map(|one| (seed, load, one))))
}
