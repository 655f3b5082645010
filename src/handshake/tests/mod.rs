//! Claim: two devices that trust each other's key pair in eight frames, and neither keeps or repeats more than it must;
//! where they do not pair, both say why.

use std::sync::{Arc, OnceLock};

use rand::SeedableRng;
use rand::rngs::StdRng;

mod answers;
mod enrolment;
mod flood;
mod hostile;
mod man_in_the_middle;
mod many_devices;
mod one_signature;
mod refused;
mod repeated;
mod vectors;

use super::*;
use crate::crypto::exchange::encapsulate;
use crate::role::Role;
use crate::suite::Suite;

fn identities() -> &'static [Arc<Identity>; 3] {
    static KEYS: OnceLock<[Arc<Identity>; 3]> = OnceLock::new();
    KEYS.get_or_init(|| {
        [1, 2, 3].map(|seed| Arc::new(Identity::generate_bits(&mut StdRng::seed_from_u64(seed), 2048).unwrap()))
    })
}

fn peer_of(index: usize) -> Peer {
    let name = ["master", "slave", "stranger"][index].parse().unwrap();
    Peer { name, key: identities()[index].public().clone() }
}

fn party(own: usize, suite: Suite, peers: &[usize]) -> Party {
    Party {
        identity: identities()[own].clone(),
        name: peer_of(own).name,
        suite,
        trust: Trust::Pinned(peers.iter().map(|&peer| peer_of(peer)).collect()),
    }
}

/// A master that has begun.
fn begun(party: Party, topics: Topics, now: Instant, rng: &mut StdRng) -> Master {
    let mut master = Master::new(party, topics, now);
    master.begin(now, rng);
    master
}

fn topics() -> Topics {
    Topics { master_to_slave: "m2s".into(), slave_to_master: "s2m".into() }
}

/// Two devices and everything they stored and were told.
struct World {
    start: Instant,
    now: Instant,
    rng: StdRng,
    master: Master,
    slave: Slave,
    /// Those on which the slave hears the master.
    topics: Topics,
    /// What the master stored as current.
    current: Option<Established>,
    /// What the slave stored as pending, newest last, and made current.
    pending: Vec<Established>,
    promoted: Option<Established>,
    differs: Vec<u8>,
    claims: Vec<Claim>,
    wrong_codes: Vec<(To, bool)>,
    conflicts: Vec<(To, Option<EnrolmentConflict>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Master,
    Slave,
}

impl World {
    fn new(seed: u64, master: Party, slave: Party) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let now = Instant::now();
        let (master, slave) = (begun(master, topics(), now, &mut rng), Slave::new(slave, now, &mut rng));
        Self {
            start: now,
            now,
            rng,
            master,
            slave,
            topics: topics(),
            current: None,
            pending: Vec::new(),
            promoted: None,
            differs: Vec::new(),
            claims: Vec::new(),
            wrong_codes: Vec::new(),
            conflicts: Vec::new(),
        }
    }

    fn usual(seed: u64) -> Self {
        Self::new(seed, party(0, Suite::Gcm, &[1]), party(1, Suite::Gcm, &[0]))
    }

    /// Hands a frame over, does what the machine asks for, and returns what it sends.
    fn deliver(&mut self, to: To, frame: &[u8]) -> Result<Option<Vec<u8>>, Rejected> {
        let action = match to {
            To::Master => self.master.accept(frame, self.now, &mut self.rng)?,
            To::Slave => self.slave.accept(&self.topics, frame, self.now, &mut self.rng)?,
        };
        // No other frame waits, so the slave is polled.
        let signed = match (to, &action) {
            (To::Slave, Action::Wait) => self.slave.poll(self.now, &mut self.rng).map(|(_, action)| action),
            _ => None,
        };
        Ok(self.perform(to, signed.unwrap_or(action)))
    }

    /// Does what a machine asks for; returns the frame to send.
    fn perform(&mut self, to: To, action: Action) -> Option<Vec<u8>> {
        match (to, action) {
            (To::Master, Action::Finished(session)) => {
                assert_eq!(self.current, Some(*session));
                None
            }
            (_, Action::Wait) => None,
            (_, Action::Send(frame)) | (To::Slave, Action::MasterAuthenticated(frame)) => Some(frame),
            (To::Master, Action::StoreCurrent(session, frame)) => {
                assert!(self.pending.iter().any(|stored| stored.keys == session.keys), "the slave stored it first");
                assert_eq!(self.current.replace(*session), None, "a master stores one session");
                Some(frame)
            }
            (To::Slave, Action::StorePending(session, frame)) => {
                assert!(!self.pending.contains(&session), "a repeat stores nothing");
                self.pending.push(*session);
                Some(frame)
            }
            (To::Slave, Action::Promote(session, frame)) => {
                assert_eq!(
                    self.current.as_ref().map(|stored| &stored.keys),
                    Some(&session.keys),
                    "the master stored it first"
                );
                self.promoted = Some(*session);
                Some(frame)
            }
            (_, Action::Fail(HandshakeFailure::SuiteDiffers { theirs, .. }, frame)) => {
                self.differs.push(theirs);
                frame
            }
            (To::Slave, Action::WrongCode { left, frame }) => {
                assert_eq!(left, enrolment::left(self.slave.party()));
                self.wrong_codes.push((to, false));
                Some(frame)
            }
            (To::Master, Action::CodeRejected { .. }) => {
                self.wrong_codes.push((to, false));
                None
            }
            (_, Action::Fail(HandshakeFailure::CodeErased(role), frame)) => {
                assert_eq!(role == Role::Slave, to == To::Slave);
                self.wrong_codes.push((to, true));
                frame
            }
            (_, Action::Fail(HandshakeFailure::EnrolmentConflict { conflict, .. }, frame)) => {
                self.conflicts.push((to, conflict));
                frame
            }
            (_, Action::Claim(claim, frame)) => {
                self.claims.push(claim);
                frame
            }
            (to, other) => unreachable!("{to:?}: {other:?}"),
        }
    }

    fn poll(&mut self) -> Vec<(To, Vec<u8>)> {
        let mut due = Vec::new();
        while let Some(frame) = self.master.poll(self.now, &mut self.rng) {
            due.push((To::Slave, frame));
        }
        while let Some((_, action)) = self.slave.poll(self.now, &mut self.rng) {
            due.extend(self.perform(To::Slave, action).map(|frame| (To::Master, frame)));
        }
        due
    }

    /// Debug shows every part of the two machines' state that is no secret.
    fn state(&self) -> String {
        format!("{:?} {:?}", self.master, self.slave)
    }

    /// Moves the clock to whatever is due next.
    fn sleep(&mut self) {
        let next = self.master.deadline().into_iter().chain(self.slave.deadline()).min();
        self.now = next.unwrap_or(self.now).max(self.now + Duration::from_millis(1));
    }

    /// Runs over a perfect network until nothing is left to do; returns every frame in order.
    fn run(&mut self) -> Vec<(To, Vec<u8>)> {
        let mut sent = Vec::new();
        for _ in 0..40 {
            let mut queue = self.poll();
            while let Some((to, frame)) = queue.pop() {
                sent.push((to, frame.clone()));
                let answer = self.deliver(to, &frame).unwrap_or(None);
                queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
            }
            if self.master.is_finished() {
                break;
            }
            self.sleep();
        }
        sent
    }

    fn assert_paired(&self) {
        let current = self.current.as_ref().expect("the master stored a session");
        let promoted = self.promoted.as_ref().expect("the slave made it current");
        assert_eq!(current.keys, promoted.keys);
        assert_eq!((current.peer.name.as_str(), promoted.peer.name.as_str()), ("slave", "master"));
    }
}

#[test]
fn eight_frames_pair_two_devices_in_each_suite() {
    for suite in Suite::ALL {
        let mut world = World::new(1, party(0, suite, &[1]), party(1, suite, &[0, 2]));
        let start = world.now;
        let kinds: Vec<_> = world.run().iter().map(|(_, frame)| FrameType::of(frame).unwrap()).collect();
        assert_eq!(
            kinds,
            [
                FrameType::InitReq,
                FrameType::InitAck,
                FrameType::AuthReq,
                FrameType::AuthAck,
                FrameType::RdyReq,
                FrameType::RdyAck,
                FrameType::RdyAck,
                FrameType::RdyAck
            ]
        );
        assert_eq!(world.now, start, "no timer is part of a pairing that loses nothing");
        world.assert_paired();
    }
}

/// The steps to the first frame to `to` for which `until` is true; returns that frame, which is not delivered.
fn frame_to(world: &mut World, until: impl Fn(To, FrameType) -> bool) -> Vec<u8> {
    let mut queue = world.poll();
    loop {
        let (to, frame) = queue.pop().unwrap();
        if until(to, FrameType::of(&frame).unwrap()) {
            return frame;
        }
        let answer = world.deliver(to, &frame).unwrap();
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
}

/// A peer that starts at the same moment may not listen yet; one that is away for longer is asked less and less often.
#[test]
fn the_first_message_is_sent_at_a_steady_pace_and_then_ever_less() {
    let mut world = World::usual(1);
    let mut waits = Vec::new();
    for _ in 0..22 {
        assert_eq!(world.master.deadline(), Some(world.now));
        assert_eq!(world.master.poll(world.now, &mut world.rng).map(|frame| frame[0]), Some(FrameType::InitReq.byte()));
        assert_eq!(world.master.poll(world.now, &mut world.rng), None, "once");
        let due = world.master.deadline().unwrap();
        let before = world.now + (due - world.now).mul_f64(0.999);
        assert_eq!(world.master.poll(before, &mut world.rng), None, "not before");
        waits.push(due - world.now);
        world.now = due;
    }
    let longest = [125; 16].into_iter().chain([1_000, 2_000, 4_000, 8_000, 8_000, 8_000]).map(Duration::from_millis);
    for (wait, longest) in waits.iter().zip(longest) {
        assert!(*wait <= longest && *wait >= longest * 4 / 5, "{waits:?}");
    }
}

#[test]
fn a_master_that_has_not_begun_takes_no_frame() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    world.master = Master::new(party(0, Suite::Gcm, &[1]), topics(), world.now);
    assert_eq!(world.master.deadline(), None);
    assert_eq!(world.deliver(To::Master, &init_req), Err(Rejected::Unexpected));
}

/// A slave that answered no RDYREQ was started anew, and has forgotten the attempt.
#[test]
fn a_master_begins_again_after_three_rdy_reqs_without_an_answer() {
    let mut world = World::usual(1);
    frame_to(&mut world, |_, kind| kind == FrameType::RdyReq);
    let mut sent = Vec::new();
    for _ in 0..3 {
        world.now = world.master.deadline().unwrap();
        let frame = world.master.poll(world.now, &mut world.rng).unwrap();
        sent.push(FrameType::of(&frame).unwrap());
        assert_eq!(world.master.poll(world.now, &mut world.rng), None);
    }
    assert_eq!(sent, [FrameType::RdyReq, FrameType::RdyReq, FrameType::InitReq]);
}

fn sent(action: Result<Action, Rejected>) -> Vec<u8> {
    let Ok(Action::Send(frame)) = action else { unreachable!("{action:?}") };
    frame
}

/// Whatever is asked of a [`Handshake`], the machine that it is answers.
#[test]
fn a_handshake_is_the_machine_of_its_side() {
    let (mut rng, now, on) = (StdRng::seed_from_u64(1), Instant::now(), topics());
    let mut master = Handshake::master(party(0, Suite::Cbc, &[2]), topics(), now);
    let mut slave = Handshake::slave(party(1, Suite::Gcm, &[2]), now, &mut rng);
    assert_eq!((master.deadline(), master.poll(now, &mut rng).is_some()), (None, false));
    assert_eq!(slave.deadline(), Some(now + Duration::from_secs(60)));
    // Both ends accept each other only from now on.
    master.set_party(party(0, Suite::Gcm, &[2]));
    master.set_peers([peer_of(1)].into_iter().collect());
    slave.set_party(party(1, Suite::Gcm, &[]));
    slave.set_peers([peer_of(0)].into_iter().collect());
    slave.begin(now, &mut rng);
    master.begin(now, &mut rng);
    assert_eq!(master.deadline(), Some(now));

    let (first_on, action) = master.poll(now, &mut rng).unwrap();
    let init_req = sent(Ok(action));
    assert_eq!((first_on, init_req[1 + NONCE_LEN]), (topics(), Suite::Gcm.code()));
    assert_eq!(slave.key_exchange(&on, &init_req), Ok(Some(KeyExchange::InitReq)));
    assert_eq!(master.key_exchange(&on, &init_req), Ok(None));
    let init_ack = sent(slave.accept(&on, &init_req, now, &mut rng));
    let auth_req = sent(master.accept(&on, &init_ack, now, &mut rng));
    assert!(!slave.has_unsigned_answers() && matches!(slave.accept(&on, &auth_req, now, &mut rng), Ok(Action::Wait)));
    assert!(slave.has_unsigned_answers() && !master.has_unsigned_answers());
    assert!(format!("{slave:?}").contains("unsigned: [UnsignedAnswer { id: "), "{slave:?}");
    let Some((_, Action::MasterAuthenticated(auth_ack))) = slave.poll(now, &mut rng) else { unreachable!() };
    let rdy_req = sent(master.accept(&on, &auth_ack, now, &mut rng));
    let Ok(Action::StorePending(session, ready)) = slave.accept(&on, &rdy_req, now, &mut rng) else { unreachable!() };
    assert_eq!((slave.pending().collect::<Vec<_>>(), master.pending().count()), (vec![&*session], 0));
    let Ok(Action::StoreCurrent(_, ready)) = master.accept(&on, &ready, now, &mut rng) else { unreachable!() };
    let id = session.keys.id;
    assert_eq!((master.mark_proved(id), slave.mark_proved(id), slave.mark_proved(id)), (None, Some(*session), None));
    let done = sent(slave.accept(&on, &ready, now, &mut rng));
    assert!(!master.is_finished() && matches!(master.accept(&on, &done, now, &mut rng), Ok(Action::Finished(_))));
    assert_eq!((master.is_finished(), slave.is_finished()), (true, false));
    assert!(!master.is_code_used_up() && !slave.is_code_used_up());
}

/// Tests compare states by what Debug shows.
#[test]
fn debug_tells_states_apart() {
    let (mut world, mut states) = (World::usual(1), Vec::new());
    let mut queue = world.poll();
    let reference = format!("{:?}", init_req_reference(&queue[0].1));
    while let Some((to, frame)) = queue.pop() {
        states.push(world.state());
        let answer = world.deliver(to, &frame).unwrap();
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
    assert!(states[0].contains(&reference) && states[1] == states[0], "the slave keeps nothing of step 1");
    assert!(states[1..].windows(2).all(|two| two[0] != two[1]), "{states:?}");
    assert!(states[0].contains("recent: RecentAttempts"), "and not which: nothing depends on that");
    assert!(states[2].contains("AnswerEach { unsigned: [], signed: [("), "{}", states[2]);
}

#[test]
fn topics_are_part_of_what_is_agreed() {
    let mut world = World::usual(1);
    world.topics.slave_to_master.push('2');
    world.run();
    assert!(world.pending.is_empty() && world.current.is_none());
}

#[test]
fn an_attempt_stays_on_its_topics() {
    let mut world = World::usual(1);
    let sent = world.run();
    world.assert_paired();
    let before = world.state();
    world.topics.slave_to_master.push('2');
    for (_, frame) in
        sent.iter().filter(|(to, frame)| *to == To::Slave && FrameType::of(frame) != Ok(FrameType::InitReq))
    {
        assert!(world.deliver(To::Slave, frame).is_err(), "{:?}", FrameType::of(frame));
    }
    assert_eq!(world.state(), before);
}
