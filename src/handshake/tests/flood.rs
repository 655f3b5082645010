//! Claim: no flood of forged messages keeps two devices from each other, costs a code, or leaves anything behind.

use std::collections::{BTreeMap, BTreeSet};

use super::enrolment::{codes, left, newcomer, world};
use super::*;
use crate::crypto::pake::Spake2Half;
use crate::crypto::schedule::{Schedule, open_once, signed_by_master};
use crate::handshake::merkle::{MAX_LEAVES, root_over};
use crate::message::{AuthReq, InitAck, InitReq, Proof};

/// A device that answers an INITREQ and is not the slave; it can open the AUTHREQs that answer it, and does.
struct Forger {
    init_req: Vec<u8>,
    schedules: BTreeMap<AttemptId, Schedule>,
    signatures: BTreeSet<Vec<u8>>,
}

impl Forger {
    fn new(init_req: Vec<u8>) -> Self {
        Self { init_req, schedules: BTreeMap::new(), signatures: BTreeSet::new() }
    }

    fn init_ack(&mut self, rng: &mut StdRng) -> Vec<u8> {
        let parsed = InitReq::parse(&self.init_req).unwrap();
        let forged = encapsulate(parsed.x25519, parsed.encapsulation_key, rng).unwrap();
        let frame =
            InitAck::frame(&init_req_reference(&self.init_req), &[0; 16], &forged.x25519, &forged.ciphertext, None);
        let schedule = Schedule::new(&topics(), &self.init_req, &frame, &forged.shared, None);
        self.schedules.insert(schedule.attempt(), schedule);
        frame
    }

    /// Notes the signature in an AUTHREQ for one of its INITACKs, which is good for that one; false where it is the slave's.
    fn opens(&mut self, auth_req: &[u8]) -> bool {
        let parsed = AuthReq::parse(auth_req).unwrap();
        let Some(schedule) = self.schedules.get(parsed.attempt) else { return false };
        let plaintext = open_once(&schedule.hs_m(), parsed.clear, parsed.sealed).unwrap();
        let Proof { features, path, credentials } = Proof::parse(&plaintext).unwrap();
        let leaf = schedule.master_leaf(&features, std::str::from_utf8(credentials.name).unwrap(), credentials.key);
        let signed = signed_by_master(&root_over(&leaf, path));
        identities()[0].public().verify(&signed, credentials.signature).unwrap();
        self.signatures.insert(credentials.signature.to_vec());
        true
    }
}

/// A world whose master has sent INITREQ so often that the next time is a second away, and the INITREQ.
fn later_on() -> (World, Vec<u8>) {
    let mut world = World::usual(1);
    let init_req = world.poll().remove(0).1;
    while world.master.deadline().unwrap() < world.now + Duration::from_millis(700) {
        world.now = world.master.deadline().unwrap();
        assert!(world.master.poll(world.now, &mut world.rng).is_some());
    }
    (world, init_req)
}

/// An INITACK that costs its maker nothing, and the master a key exchange once it is signed.
fn junk(init_req: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut frame = InitAck::frame(&init_req_reference(init_req), &[0; 16], &[0; 32], &[0; 1088], None);
    rng.fill(&mut frame[17..]);
    frame
}

/// What is signed together goes out as fast as the caller takes it, and each AUTHREQ answers its own INITACK.
#[test]
fn answers_that_share_a_signature_follow_each_other() {
    let (mut world, init_req) = later_on();
    let mut forger = Forger::new(init_req);
    let repeats = world.master.deadline();
    let init_acks = [0; 5].map(|_| forger.init_ack(&mut world.rng));
    let at_once = [0, 1].map(|at| world.deliver(To::Master, &init_acks[at]).unwrap().unwrap());
    for init_ack in &init_acks[2..] {
        assert_eq!(world.deliver(To::Master, init_ack), Ok(None));
        assert_eq!(world.master.poll(world.now, &mut world.rng), None);
    }
    assert_eq!(world.master.deadline(), Some(world.now + Duration::from_millis(250)));
    world.now += Duration::from_millis(250);
    let mut auth_reqs = at_once.to_vec();
    for _ in 0..3 {
        assert!(world.master.deadline().unwrap() <= world.now, "at once");
        auth_reqs.extend(world.master.poll(world.now, &mut world.rng));
    }
    assert_eq!((world.master.poll(world.now, &mut world.rng), world.master.deadline()), (None, repeats));
    assert!(auth_reqs.iter().all(|auth_req| forger.opens(auth_req)));
    assert_eq!(forger.signatures.len(), 3, "the last three are under one");
    // Each comes again once INITREQ was sent again, and as it was.
    for init_ack in &init_acks {
        assert_eq!(world.deliver(To::Master, init_ack), Err(Rejected::Duplicate));
    }
    world.now = repeats.unwrap();
    assert!(world.master.poll(world.now, &mut world.rng).is_some());
    for (init_ack, auth_req) in init_acks.iter().zip(&auth_reqs) {
        assert_eq!(world.deliver(To::Master, init_ack).unwrap().as_ref(), Some(auth_req));
        assert_eq!(world.deliver(To::Master, init_ack), Err(Rejected::Duplicate));
    }
}

/// More than one signature covers: chance decides, and INITREQ asks the genuine slave once more.
#[test]
fn in_a_crowd_init_req_is_sent_again_after_ten_milliseconds() {
    let (mut world, init_req) = later_on();
    let spent = [0, 1].map(|_| junk(&init_req, &mut world.rng));
    assert!(spent.iter().all(|init_ack| world.deliver(To::Master, init_ack).unwrap().is_some()));
    let sign_at = world.now + Duration::from_millis(250);
    for _ in 0..MAX_LEAVES {
        let init_ack = junk(&init_req, &mut world.rng);
        assert_eq!(world.deliver(To::Master, &init_ack), Ok(None));
        assert_eq!(world.master.deadline(), Some(sign_at), "there is room for it");
    }
    let mut turned_away = 0;
    for _ in 0..2 {
        for _ in 0..MAX_LEAVES {
            let init_ack = junk(&init_req, &mut world.rng);
            turned_away += usize::from(world.deliver(To::Master, &init_ack) == Err(Rejected::Unexpected));
        }
        let again_at = world.now + Duration::from_millis(10);
        assert_eq!(world.master.deadline(), Some(again_at));
        assert_eq!(world.master.poll(world.now + Duration::from_micros(9_999), &mut world.rng), None);
        world.now = again_at;
        assert_eq!(world.master.poll(world.now, &mut world.rng).as_ref(), Some(&init_req));
        assert_eq!(world.master.poll(world.now, &mut world.rng), None, "once");
        assert_eq!(world.deliver(To::Master, &spent[0]), Err(Rejected::Duplicate), "it is not counted");
    }
    // Of the first 256 past the limit half find no room, of the next 256 two thirds.
    assert!((200..400).contains(&turned_away), "{turned_away}");
    world.now = sign_at;
    let auth_reqs = std::iter::from_fn(|| world.master.poll(world.now, &mut world.rng)).count();
    assert_eq!(auth_reqs, MAX_LEAVES);
}

#[test]
fn a_thousand_forged_init_acks_a_second_stop_nothing() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let mut forger = Forger::new(init_req.clone());
    // For most of a second nothing but forgeries; the slave's first six answers were lost.
    let mut answered = 0;
    let mut genuine = None;
    let mut step = |world: &mut World, forger: &mut Forger, from_slave: Option<Vec<u8>>| {
        let mut auth_reqs = Vec::new();
        for frame in from_slave.into_iter().chain([forger.init_ack(&mut world.rng)]) {
            auth_reqs.extend(world.deliver(To::Master, &frame).unwrap_or(None));
        }
        world.now += Duration::from_millis(1);
        let mut repeated = None;
        for (_, frame) in world.poll() {
            if FrameType::of(&frame) == Ok(FrameType::InitReq) { repeated = Some(frame) } else { auth_reqs.push(frame) }
        }
        for auth_req in auth_reqs {
            answered += 1;
            if !forger.opens(&auth_req) {
                genuine = Some(auth_req);
            }
        }
        (repeated, genuine.take())
    };
    let (mut steps, mut repeats) = (0, Vec::new());
    while repeats.len() < 6 {
        steps += 1;
        repeats.extend(step(&mut world, &mut forger, None).0);
    }
    assert!((600..=750).contains(&steps), "{steps}");
    assert!(repeats.iter().all(|repeated| *repeated == init_req));

    // The next retransmission gets through, in time and by its own attempt.
    let init_ack = world.deliver(To::Slave, &repeats[5]).unwrap();
    let (mut steps, mut from_slave) = (0, init_ack);
    let auth_req = loop {
        steps += 1;
        assert!(steps <= 300, "the genuine INITACK was not answered");
        if let (_, Some(auth_req)) = step(&mut world, &mut forger, from_slave.take()) {
            break auth_req;
        }
    };
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let rdy_req = world.deliver(To::Master, &auth_ack).unwrap().unwrap();
    assert_eq!(FrameType::of(&rdy_req), Ok(FrameType::RdyReq));
    assert!(forger.signatures.len() <= 2 + 4 * 2, "{} signatures in 1.3 seconds", forger.signatures.len());
    assert!(answered > 600, "{answered} were answered");
    world.run();
    world.assert_paired();
}

/// Each signature covers 256 of 2,500, so the genuine INITACK needs more chances than INITREQ has repeats.
#[test]
fn ten_thousand_forged_init_acks_a_second_are_outlasted_in_two_seconds() {
    for seed in 0..4 {
        let mut world = World::usual(seed);
        let mut from_slave: Vec<Vec<u8>> = Vec::new();
        let mut init_reqs = 0;
        let mut init_req = Vec::new();
        while world.promoted.is_none() {
            assert!(world.now < world.start + Duration::from_secs(2), "seed {seed}: {init_reqs} INITREQs");
            let mut to_slave: Vec<_> = world.poll().into_iter().map(|(_, frame)| frame).collect();
            for _ in 0..10 {
                if FrameType::of(&init_req) == Ok(FrameType::InitReq) {
                    let mut forged = vec![FrameType::InitAck.byte(); InitAck::LEN];
                    world.rng.fill(&mut forged[1..]);
                    forged[1..=NONCE_LEN].copy_from_slice(&init_req_reference(&init_req));
                    to_slave.extend(world.deliver(To::Master, &forged).unwrap_or(None));
                }
                if let Some(frame) = from_slave.pop() {
                    to_slave.extend(world.deliver(To::Master, &frame).unwrap_or(None));
                }
            }
            for frame in to_slave {
                if FrameType::of(&frame) == Ok(FrameType::InitReq) {
                    init_reqs += 1;
                    init_req.clone_from(&frame);
                    // The slave is slow at first.
                    if world.now < world.start + Duration::from_millis(300) {
                        continue;
                    }
                }
                from_slave.extend(world.deliver(To::Slave, &frame).unwrap_or(None));
            }
            world.now += Duration::from_millis(1);
        }
        world.assert_paired();
        assert!((4..200).contains(&init_reqs), "{init_reqs}");
    }
}

#[test]
fn past_what_a_signature_covers_chance_decides_and_memory_is_bounded() {
    let mut world = World::usual(2);
    let (_, init_req) = world.poll().remove(0);
    let mut forger = Forger::new(init_req.clone());
    let genuine = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let flood: Vec<_> = (0..2 * MAX_LEAVES).map(|_| forger.init_ack(&mut world.rng)).collect();
    let mut taken = 0;
    for round in 0..6 {
        world.master = begun(party(0, Suite::Gcm, &[1]), topics(), world.now, &mut StdRng::seed_from_u64(2));
        // The same INITREQ as before, from the same randomness: the flood is for it.
        let _ = world.poll();
        for (at, frame) in flood.iter().enumerate() {
            if at == 80 * round {
                drop(world.deliver(To::Master, &genuine));
            }
            drop(world.deliver(To::Master, frame));
        }
        world.now += Duration::from_secs(1);
        let sent = world.poll();
        let auth_reqs: Vec<_> =
            sent.iter().filter(|(_, frame)| FrameType::of(frame) == Ok(FrameType::AuthReq)).collect();
        assert!(auth_reqs.len() <= MAX_LEAVES + 2);
        taken += usize::from(auth_reqs.iter().any(|(_, frame)| !forger.opens(frame)));
    }
    assert!((1..=5).contains(&taken), "{taken} of 6, where half is to be expected");
}

#[test]
fn strangers_leave_nothing_behind_and_get_no_signature() {
    let mut world = World::usual(1);
    let before = world.state();
    let mut rng = StdRng::seed_from_u64(9);
    for _ in 0..50 {
        let mut stranger = begun(party(2, Suite::Gcm, &[1]), topics(), world.now, &mut rng);
        let init_req = stranger.poll(world.now, &mut rng).unwrap();
        let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
        let Ok(Action::Send(auth_req)) = stranger.accept(&init_ack, world.now, &mut rng) else { panic!("no AUTHREQ") };
        let refusal = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
        assert_eq!(refusal.len(), 50, "a refusal is a MAC");
        world.deliver(To::Slave, &[&[FrameType::InitReq.byte()][..], &[7; 1233]].concat()).unwrap_or(None);
    }
    assert_eq!(world.state(), before);
    world.run();
    world.assert_paired();
}

/// Strangers without the code, with one of their own, and with the whole of their keys, in the middle of an enrolment.
#[test]
fn strangers_cost_a_slave_with_a_code_no_guess_until_they_guess() {
    let mut world = world(1);
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    let mut rng = StdRng::seed_from_u64(9);
    let before = world.state();
    for _ in 0..100 {
        // Without a code: told, not answered.
        let mut uncoded = begun(party(2, Suite::Gcm, &[1]), topics(), world.now, &mut rng);
        let init_req = uncoded.poll(world.now, &mut rng).unwrap();
        assert_eq!(world.deliver(To::Slave, &init_req), Ok(None));
        // With another code: answered, as an answer confirms nothing; but they do not go on.
        let mut coded = begun(newcomer(2, &codes()[1]), topics(), world.now, &mut rng);
        let init_req = coded.poll(world.now, &mut rng).unwrap();
        assert!(world.deliver(To::Slave, &init_req).unwrap().is_some());
    }
    assert_eq!(world.state(), before);
    // What an honest master with the code says to those who answer in the slave's place is nobody's guess either.
    for seed in 0..100 {
        let mut other = self::world(seed + 100);
        let (_, init_req) = other.poll().remove(0);
        assert!(world.deliver(To::Slave, &init_req).unwrap().is_some());
        let forged = super::enrolment::init_ack(&init_req, &codes()[1], &mut rng);
        let auth_req = other.deliver(To::Master, &forged).unwrap().unwrap();
        for _ in 0..2 {
            assert_eq!(world.deliver(To::Slave, &auth_req), Err(Rejected::Unexpected));
        }
    }
    assert_eq!((left(world.slave.party()), world.wrong_codes.len()), (MAX_CODE_ATTEMPTS, 0));

    // A guess is counted once, though its INITREQ is known by then, and the genuine attempt still goes on.
    let mut guessing = begun(newcomer(2, &codes()[1]), topics(), world.now, &mut rng);
    let init_req = guessing.poll(world.now, &mut rng).unwrap();
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let Ok(Action::Send(guess)) = guessing.accept(&init_ack, world.now, &mut rng) else { panic!("no AUTHREQ") };
    for _ in 0..5 {
        assert!(world.deliver(To::Slave, &guess).unwrap().is_some(), "each gets its refusal");
    }
    assert_eq!((left(world.slave.party()), world.wrong_codes.len()), (MAX_CODE_ATTEMPTS - 1, 1));
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let rdy_req = world.deliver(To::Master, &auth_ack).unwrap().unwrap();
    world.deliver(To::Slave, &rdy_req).unwrap();
    world.run();
    world.assert_paired();
}

/// The guesses are the code's, not a topic's.
#[test]
fn guesses_on_different_topics_count_together() {
    let mut world = world(1);
    for attempt in 1..=MAX_CODE_ATTEMPTS {
        world.topics = Topics { master_to_slave: format!("{attempt}/up"), slave_to_master: format!("{attempt}/down") };
        let mut guessing = begun(newcomer(2, &codes()[1]), world.topics.clone(), world.now, &mut world.rng);
        let init_req = guessing.poll(world.now, &mut world.rng).unwrap();
        let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
        let Ok(Action::Send(guess)) = guessing.accept(&init_ack, world.now, &mut world.rng) else {
            panic!("no AUTHREQ")
        };
        world.deliver(To::Slave, &guess).unwrap();
        assert_eq!(left(world.slave.party()), MAX_CODE_ATTEMPTS - attempt);
    }
    assert_eq!(world.wrong_codes.last(), Some(&(To::Slave, true)));
}

/// With a code the tree has one leaf, even while other masters wait for a signature.
#[test]
fn a_coded_auth_req_is_the_only_one_under_its_signature() {
    let mut world = world(1);
    let (_, init_req) = world.poll().remove(0);
    let parsed = InitReq::parse(&init_req).unwrap();
    let made = encapsulate(parsed.x25519, parsed.encapsulation_key, &mut world.rng).unwrap();
    let half = Spake2Half::draw(Role::Slave, &codes()[0].password(), &mut world.rng);
    let reference = init_req_reference(&init_req);
    let init_ack = InitAck::frame(&reference, &[0; 16], &made.x25519, &made.ciphertext, Some(half.share()));
    let pake = half.agree(parsed.share.unwrap()).unwrap();
    let schedule = Schedule::new(&topics(), &init_req, &init_ack, &made.shared, Some(&pake));
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    let parsed = AuthReq::parse(&auth_req).unwrap();
    let plaintext = open_once(&schedule.hs_m(), parsed.clear, parsed.sealed).unwrap();
    let Proof { features, path, credentials } = Proof::parse(&plaintext).unwrap();
    assert!(path.is_empty());
    let signed = signed_by_master(&schedule.master_leaf(&features, "master", credentials.key));
    identities()[0].public().verify(&signed, credentials.signature).unwrap();
    // Repeated, it is the same bytes; INITREQ is not sent any more, and the INITACK draws nothing more.
    world.now += Duration::from_secs(1);
    assert_eq!(world.poll(), [(To::Slave, auth_req)]);
    assert_eq!(world.deliver(To::Master, &init_ack), Err(Rejected::Duplicate));
}
