//! Claim: whatever the network and a correct broker do, the session loses nothing, acknowledges nothing that was not
//! taken, keeps the order, and delivers exactly once at QoS 2 while the broker keeps its session.
//!
//! A simulation in virtual time: everything that happens follows from a seed, which each failure names.

#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod broker;
mod dialect;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rumqttc::mqttbytes::QoS;
use sts::mqtt::{ClientOptions, ClientSession, Event, InFlightLimit, Qos, Receipt, Token, Version};

use broker::{Broker, Failure};

/// What happens, at its time.
enum Step {
    Dial,
    /// Bytes arrive at the broker.
    Up(u64, BytesMut),
    /// Bytes arrive at the client.
    Down(u64, BytesMut),
    /// The client learns that its connection is gone.
    Cut(u64),
    /// From now on the connection swallows everything.
    HalfOpen(u64),
    /// The tool has written a message, and acknowledges it.
    Ack(u32, Receipt),
    /// The broker acknowledges and sends.
    Broker,
    /// The broker begins to fail, and drops its connections.
    Fail(Failure),
    /// The broker is well again.
    Recover,
    /// The broker is another one, which takes no longer packets than this.
    Lower(u32),
    /// The tool publishes.
    Publish,
    /// The socket has room again, or a deadline has come.
    Wake,
}

#[expect(clippy::struct_excessive_bools, reason = "a simulation is a heap of independent facts")]
struct World {
    rng: StdRng,
    start: Instant,
    /// Microseconds since the start.
    time: u64,
    steps: BTreeMap<(u64, u64), Step>,
    counter: u64,
    session: ClientSession,
    broker: Broker,

    connection: u64,
    alive: bool,
    half_open: bool,
    /// Nothing more of this connection and those before it reaches the broker.
    lost: u64,
    /// When the last bytes of each direction arrive: those of a stream do not overtake each other.
    last: [u64; 2],
    read_buffer: BytesMut,
    wake_at: Option<u64>,

    keeps_session: bool,
    forgets: f64,
    cuts: f64,
    faults: bool,

    to_publish: u32,
    published: BTreeMap<Token, (u32, Qos)>,
    acknowledged: BTreeSet<u32>,
    received: BTreeMap<(u32, u32), u32>,
    tool_acked: BTreeSet<u32>,
    epoch: u32,
    /// How often a message was wrongly held to be one that the broker does not take.
    refused: u64,
    /// Messages that were withdrawn, as one of them was too long.
    cut: BTreeSet<u32>,
    /// Those that wait for room to be published again, in a shorter form.
    to_repeat: VecDeque<(u32, Qos)>,
}

impl World {
    fn new(version: Version, seed: u64, messages: u32, incoming: u32, faults: bool) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut options = ClientOptions { version, ..ClientOptions::new("sim") };
        options.clean_session = rng.random_bool(0.2);
        options.limits.in_flight = if faults {
            InFlightLimit { messages: rng.random_range(1..40), bytes: rng.random_range(20..4000) }
        } else {
            InFlightLimit { messages: 400, bytes: 1 << 20 }
        };
        let mut broker = Broker::new(seed, level(version));
        for number in 0..incoming {
            broker.queue(number, if rng.random() { QoS::AtLeastOnce } else { QoS::ExactlyOnce });
        }
        let mut world = Self {
            keeps_session: !options.clean_session,
            forgets: if rng.random() { 0.0 } else { rng.random_range(0.0..0.7) },
            cuts: rng.random_range(0.0..0.1),
            session: ClientSession::new(options).unwrap(),
            broker,
            rng,
            start: Instant::now(),
            time: 0,
            steps: BTreeMap::new(),
            counter: 0,
            connection: 0,
            alive: false,
            half_open: false,
            lost: 0,
            last: [0; 2],
            read_buffer: BytesMut::new(),
            wake_at: None,
            faults,
            to_publish: messages,
            published: BTreeMap::new(),
            acknowledged: BTreeSet::new(),
            received: BTreeMap::new(),
            tool_acked: BTreeSet::new(),
            epoch: 0,
            refused: 0,
            cut: BTreeSet::new(),
            to_repeat: VecDeque::new(),
        };
        world.after(0, Step::Dial);
        world.after(0, Step::Publish);
        world.after(0, Step::Broker);
        world
    }

    fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.time)
    }

    fn at(&mut self, time: u64, step: Step) {
        self.counter += 1;
        self.steps.insert((time, self.counter), step);
    }

    fn after(&mut self, micros: u64, step: Step) {
        self.at(self.time + micros, step);
    }

    fn done(&self) -> bool {
        self.to_publish == 0
            && self.to_repeat.is_empty()
            && self.session.unacknowledged().messages == 0
            && self.broker.idle()
    }

    fn run(&mut self) {
        let mut steps = 0;
        while !self.done() {
            let ((time, _), step) = self.steps.pop_first().expect("something always is to come");
            self.time = time;
            self.step(step);
            self.flush();
            self.events();
            self.repeat();
            steps += 1;
            assert!(steps < 2_000_000, "no end in sight");
            // Chaos ends at some time, and everything must be well afterwards.
            self.faults &= steps < 20_000;
        }
        self.verdict();
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Dial => {
                if self.faults && self.rng.random_bool(0.1) {
                    return self.disconnected();
                }
                self.connection += 1;
                (self.alive, self.half_open) = (true, false);
                self.read_buffer.clear();
                self.last = [self.time; 2];
                self.session.transport_opened(self.now());
            }
            Step::Up(connection, _) if connection <= self.lost => {}
            Step::Up(connection, bytes) => {
                let forgets = self.broker.failure.is_some() || (self.faults && self.rng.random_bool(self.forgets));
                let present = self.keeps_session && self.connection > 1 && !forgets;
                self.broker.epoch = self.epoch;
                let answer = self.broker.receive(connection, &bytes, present);
                self.deliver(connection, answer);
                if self.broker.closes && connection == self.connection {
                    let time = self.delay(0);
                    self.at(time, Step::Cut(connection));
                }
                for number in std::mem::take(&mut self.broker.acknowledged) {
                    assert!(self.tool_acked.contains(&number), "{number} was acknowledged before the tool wrote it");
                }
            }
            Step::Down(connection, bytes) => {
                if self.alive && !self.half_open && connection == self.connection {
                    self.read_buffer.extend_from_slice(&bytes);
                    let now = self.now();
                    // A correct broker says only what ends the connection if it is told to.
                    if let Err(lost) = self.session.bytes_received(&mut self.read_buffer, now) {
                        assert!(self.broker.failed > 0, "{lost}");
                        self.lost = self.lost.max(connection);
                        self.disconnected();
                    }
                }
            }
            Step::Cut(connection) => {
                // What was on its way may arrive or not.
                if self.rng.random() {
                    self.lost = self.lost.max(connection);
                }
                if self.alive && connection == self.connection {
                    self.disconnected();
                }
            }
            Step::Fail(failure) => {
                self.broker.failure = Some(failure);
                let connection = self.connection;
                self.after(0, Step::Cut(connection));
            }
            Step::Recover => self.broker.failure = None,
            Step::Lower(len) => {
                self.broker.limit_packets(len);
                let connection = self.connection;
                self.lost = self.lost.max(connection);
                self.after(0, Step::Cut(connection));
            }
            Step::HalfOpen(connection) => self.half_open |= connection == self.connection,
            Step::Ack(number, receipt) => {
                self.tool_acked.insert(number);
                self.session.ack(receipt);
            }
            Step::Broker => {
                let (connection, bytes) = self.broker.work();
                let bytes_sent = !bytes.is_empty();
                self.deliver(connection, bytes);
                // Hours of silence are cheap: where nothing went out, the next look is a long time away.
                let longest = if bytes_sent { 20_000 } else { 2_000_000 };
                let pause = self.rng.random_range(100..longest);
                self.after(pause, Step::Broker);
            }
            Step::Publish => {
                self.publish();
                let pause = self.rng.random_range(0..if self.session.has_room(300) { 5_000 } else { 500_000 });
                if self.to_publish > 0 {
                    self.after(pause, Step::Publish);
                }
            }
            Step::Wake => {
                self.wake_at = None;
                let now = self.now();
                if self.alive && self.session.tick(now).is_err() {
                    self.disconnected();
                }
            }
        }
    }

    fn publish(&mut self) {
        for _ in 0..self.rng.random_range(1..8) {
            let number = self.to_publish;
            let payload = format!("{:<len$}", 1_000_000 - number, len = self.rng.random_range(7..200));
            if number == 0 || !self.to_repeat.is_empty() || !self.session.has_room(3 + payload.len()) {
                return;
            }
            let qos = Qos::from_code(self.rng.random_range(0..3)).unwrap();
            let token = self.session.publish("out", Bytes::from(payload), qos, false).unwrap();
            self.published.insert(token, (1_000_000 - number, qos));
            self.to_publish -= 1;
        }
    }

    /// Takes back what is too long, and what was to come after it: before what was taken back earlier.
    fn cut(&mut self) {
        for (token, _) in self.session.withdraw().into_iter().rev() {
            let (number, qos) = self.published[&token];
            self.to_repeat.push_front((number, qos));
            self.cut.insert(number);
        }
    }

    /// Publishes again what was taken back, in a shorter form.
    fn repeat(&mut self) {
        while let Some((number, qos)) = self.to_repeat.front().copied() {
            let payload = number.to_string();
            if !self.session.has_room(3 + payload.len()) {
                return;
            }
            let token = self.session.publish("out", payload.into(), qos, false).unwrap();
            self.published.insert(token, (number, qos));
            self.to_repeat.pop_front();
        }
    }

    fn disconnected(&mut self) {
        self.alive = false;
        let now = self.now();
        let retry = self.session.transport_lost("cut", now, &mut self.rng) - now;
        self.after(u64::try_from(retry.as_micros()).unwrap(), Step::Dial);
    }

    fn deliver(&mut self, connection: u64, bytes: BytesMut) {
        if !bytes.is_empty() && connection == self.connection {
            let time = self.delay(0);
            self.at(time, Step::Down(connection, bytes));
        }
    }

    fn delay(&mut self, direction: usize) -> u64 {
        self.last[direction] = self.last[direction].max(self.time + self.rng.random_range(50..30_000));
        self.last[direction]
    }

    /// The socket takes some of what there is, and the network does something to it.
    fn flush(&mut self) {
        let waiting = self.session.bytes_to_send().len();
        if self.alive && waiting > 0 {
            let count = self.rng.random_range(1..=waiting);
            let bytes = BytesMut::from(&self.session.bytes_to_send()[..count]);
            let now = self.now();
            self.session.bytes_sent(count, now);
            if !self.half_open {
                let time = self.delay(1);
                self.at(time, Step::Up(self.connection, bytes));
            }
            if self.faults && self.rng.random_bool(self.cuts) {
                let step = if self.rng.random_bool(0.2) { Step::HalfOpen } else { Step::Cut };
                let pause = self.rng.random_range(0..60_000);
                self.after(pause, step(self.connection));
            }
        }
        let room = (!self.session.bytes_to_send().is_empty() && self.alive).then_some(self.time + 200);
        let deadline = self.session.deadline().map(|at| u64::try_from((at - self.start).as_micros()).unwrap() + 1);
        if let Some(wake) = room.into_iter().chain(deadline.filter(|_| self.alive)).min()
            && self.wake_at.is_none_or(|already| wake < already)
        {
            self.wake_at = Some(wake);
            self.at(wake.max(self.time), Step::Wake);
        }
    }

    fn events(&mut self) {
        while let Some(event) = self.session.next_event() {
            match event {
                Event::Acknowledged(token) => {
                    let (number, qos) = self.published[&token];
                    assert!(self.acknowledged.insert(number), "{number} was acknowledged twice");
                    assert!(qos == Qos::AtMostOnce || self.broker.has(number), "{number} was not taken");
                }
                Event::Message(message) => {
                    let number = std::str::from_utf8(&message.payload).unwrap().parse().unwrap();
                    let times = self.received.entry((number, self.epoch)).or_default();
                    *times += 1;
                    assert!(message.qos == Qos::AtLeastOnce || *times == 1, "{number} came twice at QoS 2");
                    let pause = self.rng.random_range(0..400_000);
                    self.after(pause, Step::Ack(number, message.receipt));
                }
                Event::Refused(_) => self.refused += 1,
                Event::TooLong(_) => self.cut(),
                Event::Up { session_present } => self.epoch += u32::from(!session_present),
                _ => {}
            }
        }
    }

    fn verdict(&self) {
        let broker = &self.broker;
        let is_perfect = broker.swallowed + broker.refused == 0;
        assert!(!is_perfect || broker.arrived.is_sorted(), "out of order: {:?}", broker.arrived);
        for (number, qos) in self.published.values() {
            assert!(self.acknowledged.contains(number), "{number} was never acknowledged");
            assert!(*qos == Qos::AtMostOnce || broker.has(*number), "{number} never arrived");
            let is_new = broker.lowers_qos || self.cut.contains(number);
            let may_repeat = *qos == Qos::AtLeastOnce || (*qos == Qos::ExactlyOnce && is_new);
            for times in broker.passed_on.range((*number, 0)..=(*number, u32::MAX)).map(|(_, times)| *times) {
                assert!(may_repeat || times == 1, "{number} was passed on {times} times at QoS {qos}");
            }
        }
        let received: BTreeSet<_> = self.received.keys().map(|(number, _)| *number).collect();
        for number in &self.tool_acked {
            assert!(received.contains(number));
        }
    }
}

/// All versions, by their protocol level.
const VERSIONS: [Version; 3] = [Version::V31, Version::V311, Version::V5];

fn level(version: Version) -> u8 {
    match version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    }
}

fn simulate(version: Version, seed: u64, messages: u32, incoming: u32, faults: bool) -> World {
    simulate_with(version, seed, messages, incoming, faults, |_| {})
}

/// With a broker that is told what else it may do.
fn simulate_with(
    version: Version,
    seed: u64,
    messages: u32,
    incoming: u32,
    faults: bool,
    tell: impl Fn(&mut Broker),
) -> World {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(version, seed, messages, incoming, faults);
        tell(&mut world.broker);
        world.run();
        world
    }));
    result.unwrap_or_else(|_| panic!("MQTT {version}, seed {seed}"))
}

fn nothing_is_lost_in(version: Version, seeds: u64) {
    let mut incoming = 0;
    let mut forgotten = 0;
    let mut connections = 0;
    let mut refused = 0;
    for seed in 0..seeds {
        let world = simulate(version, seed, 60, 30, true);
        let received: BTreeSet<_> = world.received.keys().map(|(number, _)| *number).collect();
        for number in 0..30 {
            assert!(
                received.contains(&number) || world.broker.lost.contains(&number),
                "MQTT {version}, seed {seed}: {number}"
            );
        }
        incoming += received.len();
        forgotten += world.broker.forgotten;
        connections += world.connection;
        refused += world.refused;
    }
    // The simulation would prove little if it were a quiet one.
    assert!(connections * 3 > seeds * 10, "{connections} connections");
    assert!(u64::from(forgotten) * 3 > seeds * 5, "{forgotten} forgotten sessions");
    assert!(incoming as u64 > seeds * 20, "{incoming} messages received");
    // A network that cuts each connection before a slow broker acknowledges looks like a refusal, if it does so long enough.
    // In MQTT 3.1 it does so more often, as a message at QoS 2 has to go through all its steps on one connection.
    let tolerance = if version == Version::V31 { 200 } else { 500 };
    assert!(
        refused * tolerance < connections,
        "{refused} messages wrongly held to be refused, {connections} connections"
    );
}

#[test]
fn nothing_is_lost_whatever_the_network_does() {
    nothing_is_lost_in(Version::V311, 3000);
}

#[test]
fn nothing_is_lost_where_the_broker_cannot_say_whether_it_kept_the_session() {
    nothing_is_lost_in(Version::V31, 1000);
}

#[test]
fn nothing_is_lost_where_the_broker_takes_few_messages_at_a_time() {
    nothing_is_lost_in(Version::V5, 1000);
}

#[test]
fn what_a_broker_swallows_is_sent_again() {
    for version in VERSIONS {
        let mut swallowed = 0;
        for seed in 0..300 {
            for faults in [false, true] {
                let world = simulate_with(version, seed, 60, 0, faults, |broker| broker.may_swallow = 5);
                swallowed += world.broker.swallowed;
            }
        }
        assert!(swallowed > 1500, "{swallowed} packets swallowed");
    }
}

#[test]
fn what_a_broker_refuses_for_now_is_sent_again() {
    let mut refused = 0;
    for seed in 0..300 {
        for faults in [false, true] {
            let world = simulate_with(Version::V5, seed, 60, 0, faults, |broker| broker.may_refuse = 5);
            refused += world.broker.refused;
        }
    }
    assert!(refused > 1500, "{refused} messages refused");
}

#[test]
fn identifiers_go_round_while_acknowledgements_come_out_of_order() {
    for version in VERSIONS {
        // There are 65,280 of them.
        simulate(version, 1, 70_000, 0, false);
    }
}

/// Runs a world whose broker fails so for a quarter of a minute, or longer if it says nothing, soon after the tool had what it
/// asked for.
fn fail_over(version: Version, seed: u64, failure: Failure) -> World {
    let result = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(version, seed, 1500, 30, false);
        let now = world.now();
        world.session.subscribe("in", Qos::AtLeastOnce, now).unwrap();
        world.at(400_000, Step::Fail(failure));
        let recovered = if failure == Failure::MuteAtConnect { 90_000_000 } else { 15_000_000 };
        world.at(recovered, Step::Recover);
        world.run();
        world
    }));
    result.unwrap_or_else(|_| panic!("MQTT {version}, seed {seed}, {failure:?}"))
}

#[test]
fn a_broker_that_fails_over_is_waited_for() {
    let in_all_versions = [
        Failure::ClosesAtConnect,
        Failure::ClosesAtSubscribe,
        Failure::ClosesAtPublish,
        Failure::ClosesAtQos2,
        Failure::MuteAtConnect,
        Failure::RefusesSubscriptions(0x80),
    ];
    for version in VERSIONS {
        for failure in in_all_versions {
            is_waited_for(version, failure);
        }
    }
    for version in [Version::V31, Version::V311] {
        is_waited_for(version, Failure::RefusesConnect(3));
        is_waited_for(version, Failure::RefusesSubscriptions(0x87));
    }
    // No reason given, unavailable, busy, shutting down, quota exceeded, use another server, too many connections.
    for code in [0x80, 0x88, 0x89, 0x8b, 0x97, 0x9c, 0x9f] {
        is_waited_for(Version::V5, Failure::RefusesConnect(code));
        is_waited_for(Version::V5, Failure::Disconnects(code));
    }
    // Not authorized, a filter that is not valid, and what a filter may ask for.
    for code in [0x87, 0x8f, 0x9e, 0xa2, 0x97] {
        is_waited_for(Version::V5, Failure::RefusesSubscriptions(code));
        is_waited_for(Version::V5, Failure::DisconnectsAtSubscribe(code));
    }
}

fn is_waited_for(version: Version, failure: Failure) {
    let mut failed = 0;
    for seed in 0..10 {
        let world = fail_over(version, seed, failure);
        let connections = world.connection;
        assert_eq!(world.refused, 0, "MQTT {version}, seed {seed}, {failure:?}");
        assert!(connections < 40, "MQTT {version}, seed {seed}, {failure:?}: {connections} connections");
        failed += world.broker.failed;
    }
    assert!(failed > 20, "MQTT {version}, {failure:?}: {failed} times");
}

#[test]
fn what_is_too_long_for_the_next_node_is_cut_and_nothing_is_lost() {
    let mut cut = 0;
    for seed in 0..200 {
        for faults in [false, true] {
            let world = catch_unwind(AssertUnwindSafe(|| {
                let mut world = World::new(Version::V5, seed, 200, 30, faults);
                world.at(100_000, Step::Lower(150));
                world.at(200_000, Step::Lower(60));
                world.run();
                world
            }));
            cut += world.unwrap_or_else(|_| panic!("seed {seed}, faults: {faults}")).cut.len();
        }
    }
    assert!(cut > 4_000, "{cut} messages cut");
}

#[test]
fn a_broker_that_takes_qos_2_for_qos_1_gets_everything() {
    for version in VERSIONS {
        for seed in 0..100 {
            simulate_with(version, seed, 60, 0, true, |broker| broker.lowers_qos = true);
        }
    }
}
