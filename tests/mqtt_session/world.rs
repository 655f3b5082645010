//! The world of the simulation: what happens in it and when, between a session, a network and a broker.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rumqttc::mqttbytes::QoS;
use sts::mqtt::{ClientOptions, ClientSession, Event, InFlightLimit, Qos, Receipt, Token, Version};

use super::broker::{Broker, Failure};

/// What happens, at its time.
pub(crate) enum Step {
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
pub(crate) struct World {
    rng: StdRng,
    start: Instant,
    /// Microseconds since the start.
    time: u64,
    steps: BTreeMap<(u64, u64), Step>,
    counter: u64,
    pub(crate) session: ClientSession,
    pub(crate) broker: Broker,

    pub(crate) connection: u64,
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
    pub(crate) received: BTreeMap<(u32, u32), u32>,
    tool_acked: BTreeSet<u32>,
    epoch: u32,
    /// How often a message was wrongly held to be one that the broker does not take.
    pub(crate) refused: u64,
    /// Messages that were withdrawn, as one of them was too long.
    pub(crate) cut: BTreeSet<u32>,
    /// Those that wait for room to be published again, in a shorter form.
    to_repeat: VecDeque<(u32, Qos)>,
}

impl World {
    pub(crate) fn new(version: Version, seed: u64, messages: u32, incoming: u32, faults: bool) -> Self {
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

    pub(crate) fn now(&self) -> Instant {
        self.start + Duration::from_micros(self.time)
    }

    pub(crate) fn at(&mut self, time: u64, step: Step) {
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

    pub(crate) fn run(&mut self) {
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

fn level(version: Version) -> u8 {
    match version {
        Version::V31 => 3,
        Version::V311 => 4,
        Version::V5 => 5,
    }
}
