//! Claim: a fleet that begins to pair with one service at the same moment is paired, whatever is lost or late: no device
//! starves, no session is stored twice, and what the service keeps is bounded.
//!
//! In virtual time, with the real handshakes and the service's real queues. `STS_STORM_DEVICES` says how many devices there are.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::incoming::TIME_SLICE;
use super::key_exchange_queue::KeyExchangeQueues;
use crate::crypto::schedule::Topics;
use crate::handshake::{AcceptedPeers, Action, Handshake, KeyExchange, Party, Peer, Trust};
use crate::identity::{Identity, siblings};
use crate::message::FrameType;
use crate::session::SessionId;
use crate::suite::Suite;

/// Devices of a run that says nothing else.
const DEVICES: usize = 200;
/// Messages that mosquitto keeps for a client by default (mosquitto.conf(5), `max_queued_messages`); it drops the others.
const BROKER_QUEUE: usize = 1000;

// What a service on a small server spends.
const READ_COST: Duration = Duration::from_micros(5);
const INIT_REQ_COST: Duration = Duration::from_micros(150);
const AUTH_REQ_COST: Duration = Duration::from_micros(400);
const SIGNATURE_COST: Duration = Duration::from_millis(4);
const STORE_COST: Duration = Duration::from_micros(200);
/// What a device takes at most to answer a frame, in milliseconds: it is small, and signs.
const MAX_DEVICE_DELAY: u64 = 200;

/// Time between two INITREQs of a device at most (sts-protocol(7), "Handshake").
const MAX_WAIT: Duration = Duration::from_secs(8);

/// What the network does to a frame.
#[derive(Clone, Copy)]
struct Weather {
    /// The chance that it is lost.
    loss: f64,
    /// How late it comes at most, in milliseconds, at least 2.
    max_delay: u64,
}

enum Event {
    ToService(usize, Vec<u8>),
    ToDevice(usize, Vec<u8>),
    /// A device has something to do by its clock.
    Wake(usize),
}

struct Device {
    master: Handshake,
    wake: Option<Instant>,
    /// When it stored its session, and which.
    stored: Option<(Instant, SessionId)>,
}

/// What has not happened yet, in order.
struct Network {
    weather: Weather,
    events: BTreeMap<(Instant, usize), Event>,
    sent: usize,
}

#[derive(Default)]
struct Figures {
    /// What the service stored as pending, and made current.
    pending: HashSet<SessionId>,
    promoted: HashSet<SessionId>,
    authenticated: usize,
    signatures: usize,
    peak_attempts: usize,
    dropped_by_broker: usize,
}

struct Storm {
    /// The time at the service.
    now: Instant,
    rng: StdRng,
    service: Handshake,
    waiting: KeyExchangeQueues,
    /// What the broker keeps for the service.
    queue: VecDeque<(usize, Vec<u8>)>,
    network: Network,
    devices: Vec<Device>,
    figures: Figures,
}

fn topics(device: usize) -> Topics {
    Topics { master_to_slave: format!("{device}/up"), slave_to_master: format!("{device}/down") }
}

fn device_of(topics: &Topics) -> usize {
    topics.master_to_slave.trim_end_matches("/up").parse().unwrap()
}

fn peer(name: &str, identity: &Identity) -> Peer {
    Peer { name: name.parse().unwrap(), key: identity.public().clone() }
}

impl Network {
    fn at(&mut self, when: Instant, event: Event) {
        self.sent += 1;
        self.events.insert((when, self.sent), event);
    }

    fn send(&mut self, now: Instant, event: Event, rng: &mut StdRng) {
        if !rng.random_bool(self.weather.loss) {
            self.at(now + Duration::from_millis(rng.random_range(1..self.weather.max_delay)), event);
        }
    }
}

impl Storm {
    fn new(count: usize, weather: Weather, seed: u64) -> Self {
        let (now, mut rng) = (Instant::now(), StdRng::seed_from_u64(seed));
        let mut identities = siblings().map(Arc::new);
        let own = identities.next().unwrap();
        let party = |identity: Arc<Identity>, accepted: AcceptedPeers| Party {
            identity,
            name: "sts".parse().unwrap(),
            suite: Suite::Gcm,
            trust: Trust::Pinned(accepted),
        };
        let accepted: AcceptedPeers = [peer("service", &own)].into_iter().collect();
        let mut network = Network { weather, events: BTreeMap::new(), sent: 0 };
        let (mut devices, mut peers) = (Vec::new(), Vec::new());
        for (number, identity) in identities.take(count).enumerate() {
            peers.push(peer(&format!("d{number}"), &identity));
            let mut master = Handshake::master(party(identity, accepted.clone()), topics(number), now);
            master.begin(now, &mut rng);
            let wake = now + Duration::from_millis(rng.random_range(0..50));
            network.at(wake, Event::Wake(number));
            devices.push(Device { master, wake: Some(wake), stored: None });
        }
        let service = Handshake::slave(party(own, peers.into_iter().collect()), now, &mut rng);
        let (waiting, queue, figures) = (KeyExchangeQueues::default(), VecDeque::new(), Figures::default());
        Self { now, rng, service, waiting, queue, network, devices, figures }
    }

    /// Everything happens that does until `now`.
    fn arrive(&mut self) {
        while let Some(entry) = self.network.events.first_entry()
            && entry.key().0 <= self.now
        {
            let ((at, _), event) = entry.remove_entry();
            match event {
                Event::ToService(..) if self.queue.len() >= BROKER_QUEUE => self.figures.dropped_by_broker += 1,
                Event::ToService(device, frame) => self.queue.push_back((device, frame)),
                Event::ToDevice(device, frame) => {
                    let result = self.devices[device].master.accept(&topics(device), &frame, at, &mut self.rng);
                    if let Ok(action) = result {
                        self.perform_at_device(device, action, at);
                    }
                    self.poll_device(device, at);
                }
                Event::Wake(device) if self.devices[device].wake == Some(at) => self.poll_device(device, at),
                Event::Wake(_) => {}
            }
        }
    }

    fn poll_device(&mut self, device: usize, at: Instant) {
        while let Some((_, action)) = self.devices[device].master.poll(at, &mut self.rng) {
            self.perform_at_device(device, action, at);
        }
        let Device { master, wake, .. } = &mut self.devices[device];
        let due = master.deadline().map(|due| due.max(at + Duration::from_micros(1)));
        if due != *wake {
            *wake = due;
            if let Some(due) = due {
                self.network.at(due, Event::Wake(device));
            }
        }
    }

    fn perform_at_device(&mut self, device: usize, action: Action, at: Instant) {
        let frame = match action {
            Action::Send(frame) => frame,
            Action::StoreCurrent(session, frame) => {
                let id = session.keys.id;
                assert!(self.figures.pending.contains(&id), "the service stored it first");
                assert_eq!(self.devices[device].stored.replace((at, id)), None, "a device stores one session");
                frame
            }
            Action::Wait | Action::Finished(_) => return,
            other => unreachable!("{other:?}"),
        };
        // Sending INITREQ again takes no thought.
        let delay = if FrameType::of(&frame) == Ok(FrameType::InitReq) { 1 } else { MAX_DEVICE_DELAY };
        let sent = at + Duration::from_millis(self.rng.random_range(0..delay));
        self.network.send(sent, Event::ToService(device, frame), &mut self.rng);
    }

    /// The service works for this long; the world goes on.
    fn spend(&mut self, cost: Duration) {
        self.now += cost;
        self.arrive();
    }

    /// As `PairRun::accept`.
    fn accept(&mut self, topics: &Topics, frame: &[u8]) {
        let had_unsigned = self.service.has_unsigned_answers();
        let result = self.service.accept(topics, frame, self.now, &mut self.rng);
        self.count_signature(had_unsigned);
        if let Ok(action) = result {
            self.perform(topics, action);
        }
    }

    fn count_signature(&mut self, had_unsigned: bool) {
        if had_unsigned && !self.service.has_unsigned_answers() {
            self.figures.signatures += 1;
            self.spend(SIGNATURE_COST);
        }
    }

    fn perform(&mut self, topics: &Topics, action: Action) {
        let frame = match action {
            Action::Wait => return,
            Action::Send(frame) => frame,
            Action::MasterAuthenticated(frame) => {
                self.figures.authenticated += 1;
                frame
            }
            Action::StorePending(session, frame) => {
                assert!(self.figures.pending.insert(session.keys.id), "no session is stored twice");
                self.spend(STORE_COST);
                frame
            }
            Action::Promote(session, frame) => {
                assert!(self.figures.promoted.insert(session.keys.id), "no session is made current twice");
                self.spend(STORE_COST);
                frame
            }
            other => unreachable!("{other:?}"),
        };
        self.network.send(self.now, Event::ToDevice(device_of(topics), frame), &mut self.rng);
    }

    /// As `PairRun::take_events`.
    fn take_events(&mut self) {
        let begun = self.now;
        while let Some((device, frame)) = self.queue.pop_front() {
            self.spend(READ_COST);
            let topics = topics(device);
            match self.service.key_exchange(&topics, &frame) {
                Ok(Some(kind)) => self.waiting.of(kind).push(topics, &frame, &mut self.rng),
                Ok(None) => self.accept(&topics, &frame),
                Err(_) => {}
            }
            if self.now >= begun + TIME_SLICE {
                return;
            }
        }
    }

    /// As `PairRun::exchange_keys`.
    fn exchange_keys(&mut self) {
        for (kind, cost) in [(KeyExchange::InitReq, INIT_REQ_COST), (KeyExchange::AuthReq, AUTH_REQ_COST)] {
            let begun = self.now;
            while self.now < begun + TIME_SLICE
                && let Some((topics, frame)) = self.waiting.of(kind).pop(&mut self.rng)
            {
                self.spend(cost);
                self.accept(&topics, &frame);
            }
        }
    }

    /// As `PairRun::run`, one turn.
    fn turn(&mut self) {
        self.take_events();
        self.exchange_keys();
        loop {
            let had_unsigned = self.service.has_unsigned_answers();
            let Some((topics, action)) = self.service.poll(self.now, &mut self.rng) else { break };
            self.count_signature(had_unsigned);
            self.perform(&topics, action);
        }
        self.figures.peak_attempts = self.figures.peak_attempts.max(self.service.kept_attempts());
        let deadline = self.service.deadline();
        if self.queue.is_empty() && self.waiting.is_empty() {
            let next = self.network.events.first_key_value().map(|((at, _), _)| *at);
            let wake = next.into_iter().chain(deadline).min().unwrap();
            self.spend(wake.saturating_duration_since(self.now));
        }
    }

    /// Runs until all devices are paired; says after which time the median and the last one were.
    #[expect(clippy::print_stderr, reason = "figures for CONTRIBUTING and README")]
    fn run(mut self) -> [Duration; 2] {
        let (begun, count) = (self.now, self.devices.len());
        let until = begun + Duration::from_secs(3600);
        let mut unpaired: Vec<usize> = (0..count).collect();
        while !unpaired.is_empty() {
            assert!(self.now < until, "{} of {count} devices starve", unpaired.len());
            for _ in 0..16 {
                self.turn();
            }
            unpaired.retain(|device| self.devices[*device].stored.is_none());
        }
        let stored = self.devices.iter().map(|device| device.stored.unwrap());
        let (mut times, sessions): (Vec<_>, HashSet<_>) = stored.map(|(at, id)| (at - begun, id)).unzip();
        times.sort_unstable();
        let figures = &self.figures;
        assert!(sessions.is_subset(&figures.pending) && sessions.len() == count, "the service has each of them");
        let [median, last] = [times[count / 2], times[count - 1]];
        eprintln!(
            "{count} devices: median {median:.1?}, last {last:.1?}; {} answers under {} signatures, {} sessions; at most {} \
             attempts kept; {} frames dropped by the broker",
            figures.authenticated,
            figures.signatures,
            figures.pending.len(),
            figures.peak_attempts,
            figures.dropped_by_broker,
        );
        assert!(figures.peak_attempts <= 4 * count);
        [median, last]
    }
}

fn devices() -> usize {
    std::env::var("STS_STORM_DEVICES").map_or(DEVICES, |count| count.parse().unwrap())
}

#[test]
fn a_storm_is_over_soon_for_everybody() {
    let [median, last] = Storm::new(devices(), Weather { loss: 0.0, max_delay: 50 }, 1).run();
    // At a constant rate the last one is as late as twice the median, and then it may have to wait for its next INITREQ.
    assert!(last <= 2 * median + MAX_WAIT, "{last:?} is too late");
}

#[test]
fn in_a_storm_with_losses_and_delays_nobody_starves() {
    Storm::new(devices(), Weather { loss: 0.2, max_delay: 3000 }, 2).run();
}
