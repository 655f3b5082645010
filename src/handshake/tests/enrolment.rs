//! Claim: a code lets in who has it, whatever the network does, and who has it not gets three guesses on either side.

use super::hostile::attack;
use super::*;
use crate::crypto::pake::Spake2Half;
use crate::message::{AuthReq, InitAck, InitReq};

/// Two codes.
pub(super) fn codes() -> [Code; 2] {
    [1, 2].map(|seed| Code::generate(&mut StdRng::seed_from_u64(seed)))
}

fn with_code(party: Party, code: Code) -> Party {
    let Trust::Pinned(known) = party.trust else { panic!("a code already") };
    Party { trust: Trust::Code(Enrolment::new(code, MAX_CODE_ATTEMPTS, known.to_vec(), Vec::new())), ..party }
}

/// A party that knows nobody.
pub(super) fn newcomer(own: usize, code: &Code) -> Party {
    with_code(party(own, Suite::Gcm, &[]), code.clone())
}

pub(super) fn world(seed: u64) -> World {
    let [code, _] = codes();
    World::new(seed, newcomer(0, &code), newcomer(1, &code))
}

pub(super) fn left(party: &Party) -> usize {
    party.enrolment().unwrap().attempts_left()
}

impl World {
    pub(super) fn nothing_stored(&self) -> bool {
        self.current.is_none() && self.pending.is_empty() && self.promoted.is_none()
    }

    /// Steps 1 to 3: INITREQ, INITACK and AUTHREQ.
    fn begin(&mut self) -> [Vec<u8>; 3] {
        let (_, init_req) = self.poll().remove(0);
        let init_ack = self.deliver(To::Slave, &init_req).unwrap().unwrap();
        let auth_req = self.deliver(To::Master, &init_ack).unwrap().unwrap();
        [init_req, init_ack, auth_req]
    }
}

#[test]
fn eight_frames_enrol_two_strangers_in_each_suite() {
    for suite in Suite::ALL {
        let [code, _] = codes();
        let one = |own| with_code(party(own, suite, &[]), code.clone());
        let mut world = World::new(1, one(0), one(1));
        let start = world.now;
        let sent = world.run();
        assert_eq!((sent.len(), sent[0].1.len(), sent[1].1.len()), (8, InitReq::CODED_LEN, InitAck::CODED_LEN));
        assert_eq!(world.now, start, "no timer is part of it");
        world.assert_paired();
        let (master, slave) = (&world.promoted.unwrap().peer, &world.current.unwrap().peer);
        assert_eq!((&master.key, &slave.key), (identities()[0].public(), identities()[1].public()));
    }
}

#[test]
fn the_code_dies_at_its_first_success() {
    let mut world = world(1);
    let [.., auth_req] = world.begin();
    // Another device to which the code was told, too.
    let mut second = World::new(2, newcomer(2, &codes()[0]), newcomer(1, &codes()[0]));
    let init_req = second.poll().remove(0).1;
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req_2 = second.deliver(To::Master, &init_ack).unwrap().unwrap();
    let auth_ack_2 = world.deliver(To::Slave, &auth_req_2).unwrap().unwrap();
    let rdy_req_2 = second.deliver(To::Master, &auth_ack_2).unwrap().unwrap();

    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let rdy_req = world.deliver(To::Master, &auth_ack).unwrap().unwrap();
    assert_eq!(left(world.slave.party()), MAX_CODE_ATTEMPTS);
    world.deliver(To::Slave, &rdy_req).unwrap();
    assert_eq!(left(world.slave.party()), 0, "before step 6 is sent");
    assert_eq!(world.deliver(To::Slave, &rdy_req_2), Err(Rejected::Unexpected));
    assert_eq!(world.deliver(To::Slave, &init_req), Err(Rejected::Unexpected));
    let uncoded = World::usual(3).poll().remove(0).1;
    assert_eq!(world.deliver(To::Slave, &uncoded), Err(Rejected::Unexpected));
    world.run();
    world.assert_paired();
    assert_eq!(world.pending.len(), 1);
}

#[test]
fn a_wrong_code_is_told_on_both_sides_and_the_third_is_the_last() {
    let [code, other] = codes();
    let mut world = World::new(1, newcomer(0, &other), newcomer(1, &code));
    for attempt in 1..=MAX_CODE_ATTEMPTS {
        let erased = attempt == MAX_CODE_ATTEMPTS;
        world.master = begun(newcomer(0, &other), topics(), world.now, &mut world.rng);
        let [.., auth_req] = world.begin();
        let refusal = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
        world.deliver(To::Master, &refusal).unwrap();
        assert_eq!(world.wrong_codes, [(To::Slave, erased), (To::Master, erased)]);
        assert_eq!(left(world.slave.party()), MAX_CODE_ATTEMPTS - attempt);
        world.wrong_codes.clear();
    }
    world.master = begun(newcomer(0, &code), topics(), world.now, &mut world.rng);
    let (_, init_req) = world.poll().remove(0);
    assert_eq!(world.deliver(To::Slave, &init_req), Err(Rejected::Unexpected), "not even the right one");
    assert!(world.nothing_stored());
}

#[test]
fn what_is_forged_in_an_attempt_counts_once_and_spoils_nothing() {
    let mut world = world(1);
    let [_, _, auth_req] = world.begin();
    for byte in 0..50 {
        let mut forged = auth_req.clone();
        *forged.last_mut().unwrap() ^= byte + 1;
        let refusal = world.deliver(To::Slave, &forged).unwrap().unwrap();
        // It is about another AUTHREQ than the master's.
        assert_eq!(world.deliver(To::Master, &refusal), Err(Rejected::NotAuthentic));
    }
    assert_eq!(world.wrong_codes, [(To::Slave, false)]);
    assert_eq!(left(world.slave.party()), MAX_CODE_ATTEMPTS - 1);
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let rdy_req = world.deliver(To::Master, &auth_ack).unwrap().unwrap();
    world.deliver(To::Slave, &rdy_req).unwrap();
    world.run();
    world.assert_paired();
}

#[test]
fn a_side_with_a_code_ignores_one_without_and_says_so() {
    let [code, _] = codes();
    let usual = |own: usize| party(own, Suite::Gcm, &[1 - own]);
    let mut world = World::new(1, usual(0), with_code(usual(1), code.clone()));
    world.run();
    assert_eq!((world.claims[0].clone(), world.nothing_stored()), (Claim::PeerHasNoCode, true));
    let mut world = World::new(1, with_code(usual(0), code), usual(1));
    world.run();
    assert_eq!((world.claims[0].clone(), world.nothing_stored()), (Claim::PeerHasCode, true));
}

#[test]
fn a_share_that_is_stripped_or_added_on_the_way_gets_no_answer() {
    let [code, _] = codes();
    let mut coded = world(1);
    let (_, init_req) = coded.poll().remove(0);
    assert_eq!(coded.deliver(To::Slave, &init_req[..InitReq::LEN]), Ok(None));
    assert_eq!(coded.claims, [Claim::PeerHasNoCode]);
    let init_ack = coded.deliver(To::Slave, &init_req).unwrap().unwrap();
    let before = coded.state();
    assert_eq!(coded.deliver(To::Master, &init_ack[..InitAck::LEN]), Err(Rejected::Unexpected));
    assert_eq!(coded.state(), before);

    // Towards a slave that knows the master's key and would pair without a code.
    let mut slave = World::new(1, newcomer(0, &code), party(1, Suite::Gcm, &[0]));
    let (_, init_req) = slave.poll().remove(0);
    let stripped = slave.deliver(To::Slave, &init_req[..InitReq::LEN]).unwrap().unwrap();
    assert_eq!(slave.deliver(To::Master, &stripped), Err(Rejected::Unexpected));

    let mut plain = World::usual(1);
    let (_, init_req) = plain.poll().remove(0);
    let share = *Spake2Half::draw(Role::Slave, &code.password(), &mut plain.rng).share();
    assert_eq!(plain.deliver(To::Slave, &[&init_req[..], &share].concat()), Ok(None));
    assert_eq!(plain.claims, [Claim::PeerHasCode]);
    let init_ack = plain.deliver(To::Slave, &init_req).unwrap().unwrap();
    assert_eq!(plain.deliver(To::Master, &[&init_ack[..], &share].concat()), Err(Rejected::Unexpected));
}

/// An INITACK to this INITREQ from somebody with this code.
pub(super) fn init_ack(init_req: &[u8], code: &Code, rng: &mut StdRng) -> Vec<u8> {
    let parsed = InitReq::parse(init_req).unwrap();
    let made = encapsulate(parsed.x25519, parsed.encapsulation_key, rng).unwrap();
    let half = Spake2Half::draw(Role::Slave, &code.password(), rng);
    InitAck::frame(&init_req_reference(init_req), &[0; 16], &made.x25519, &made.ciphertext, Some(half.share()))
}

#[test]
fn a_master_answers_one_init_ack_an_attempt_in_three_attempts() {
    let mut world = world(1);
    let mut auth_reqs = Vec::new();
    let mut init_reqs = Vec::new();
    while !world.master.is_code_used_up() {
        assert!(world.now < world.start + Duration::from_secs(300), "it ends by itself");
        if let Some(frame) = world.master.poll(world.now, &mut world.rng) {
            match FrameType::of(&frame) {
                Ok(FrameType::InitReq) => init_reqs.push(frame.clone()),
                Ok(FrameType::AuthReq) => auth_reqs.push(frame.clone()),
                other => panic!("{other:?}"),
            }
            for _ in 0..5 {
                // To the newest INITREQ, whether or not that is answered already.
                let forged = init_ack(init_reqs.last().unwrap(), &codes()[1], &mut StdRng::seed_from_u64(7));
                auth_reqs.extend(world.deliver(To::Master, &forged).ok().flatten());
                world.now += Duration::from_millis(30);
                let another = init_ack(init_reqs.last().unwrap(), &codes()[0], &mut world.rng);
                auth_reqs.extend(world.deliver(To::Master, &another).ok().flatten());
            }
        }
        world.sleep();
    }
    auth_reqs.sort();
    auth_reqs.dedup();
    init_reqs.dedup();
    assert_eq!((auth_reqs.len(), init_reqs.len()), (MAX_CODE_ATTEMPTS, MAX_CODE_ATTEMPTS));
    assert_eq!((world.master.deadline(), world.master.poll(world.now, &mut world.rng)), (None, None));
    assert!(world.nothing_stored());
    assert!(Handshake(Side::Master(Box::new(world.master))).is_code_used_up());
}

/// Of one INITREQ: which reason is counted tells a repeat from a second answer.
#[test]
fn an_init_ack_that_comes_again_is_told_from_another_one() {
    let mut world = world(1);
    let [init_req, first, _] = world.begin();
    assert!(world.state().contains("AnswerOne(Some(("), "{}", world.state());
    let other = init_ack(&init_req, &codes()[0], &mut world.rng);
    assert_eq!(world.deliver(To::Master, &first), Err(Rejected::Duplicate));
    assert_eq!(world.deliver(To::Master, &other), Err(Rejected::Unexpected));
}

#[test]
fn another_code_has_what_the_one_before_it_left() {
    let [code, other] = codes();
    let mut master = party(0, Suite::Gcm, &[]);
    master.trust = Trust::Code(Enrolment::new(code.clone(), 1, Vec::new(), Vec::new()));
    let mut world = World::new(1, master, newcomer(1, &code));
    let (_, init_req) = world.poll().remove(0);
    let forged = init_ack(&init_req, &other, &mut world.rng);
    world.deliver(To::Master, &forged).unwrap();
    while world.master.deadline().is_some() {
        world.now = world.master.deadline().unwrap();
        let due = world.master.poll(world.now, &mut world.rng);
        assert!(due.is_none_or(|frame| FrameType::of(&frame) == Ok(FrameType::AuthReq)), "no second attempt");
    }
    assert!(world.master.is_code_used_up());
}

#[test]
fn an_attempt_that_somebody_else_answered_is_followed_by_another() {
    let mut world = world(1);
    let (_, init_req) = world.poll().remove(0);
    let forged = init_ack(&init_req, &codes()[1], &mut world.rng);
    world.deliver(To::Master, &forged).unwrap();
    let genuine = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    assert_eq!(world.deliver(To::Master, &genuine), Err(Rejected::Unexpected));
    world.run();
    world.assert_paired();
    assert!(world.now - world.start > Duration::from_secs(20), "in the next attempt");
}

/// Steps 5 are lost for minutes: the slave still has its code, or has used it up; beginning again could be no help.
#[test]
fn a_master_that_verified_the_slave_does_not_begin_again() {
    let mut world = world(1);
    let [_, _, auth_req] = world.begin();
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    world.deliver(To::Master, &auth_ack).unwrap();
    for _ in 0..10 {
        world.now = world.master.deadline().unwrap();
        assert_eq!(FrameType::of(&world.master.poll(world.now, &mut world.rng).unwrap()), Ok(FrameType::RdyReq));
    }
    world.run();
    world.assert_paired();
}

#[test]
fn who_cannot_be_pinned_is_refused_on_both_sides() {
    let [code, _] = codes();
    let known = |name: &str, key: usize| Peer { name: name.parse().unwrap(), key: identities()[key].public().clone() };
    let fingerprint = identities()[2].public().fingerprint();
    for side in [To::Master, To::Slave] {
        let (own, theirs, own_name) = if side == To::Master { (0, 1, "slave") } else { (1, 0, "master") };
        for (peers, wanted, expected) in [
            (vec![known(own_name, 2)], None, Some(EnrolmentConflict::NameTaken(fingerprint))),
            (vec![known("other", theirs)], None, Some(EnrolmentConflict::KeyKnown("other".parse().unwrap()))),
            (vec![], Some("other"), Some(EnrolmentConflict::NotWanted("other".parse().unwrap()))),
            (vec![known(own_name, theirs)], None, None),
            (vec![known("third", 2)], Some(own_name), None),
        ] {
            let wanted = wanted.map(|name| name.parse().unwrap()).into_iter().collect();
            let mut here = party(own, Suite::Gcm, &[]);
            here.trust = Trust::Code(Enrolment::new(code.clone(), MAX_CODE_ATTEMPTS, peers, wanted));
            let there = newcomer(theirs, &code);
            let (master, slave) = if side == To::Master { (here, there) } else { (there, here) };
            let mut world = World::new(1, master, slave);
            world.run();
            let Some(why) = expected else {
                world.assert_paired();
                continue;
            };
            assert_eq!(world.conflicts[0], (side, Some(why)));
            let told = world.conflicts.contains(&(To::Master, None));
            assert_eq!(told, side == To::Slave, "a master hears of it by the slave's signed verdict");
            assert!(world.nothing_stored());
        }
        // A copy of this device.
        let mut world = World::new(1, newcomer(0, &code), newcomer(0, &code));
        world.run();
        assert_eq!(world.conflicts[0], (To::Slave, Some(EnrolmentConflict::OwnKey)));
    }
}

#[test]
fn another_suite_is_found_with_a_code_too() {
    let [code, _] = codes();
    let master = with_code(party(0, Suite::Gcm, &[]), code.clone());
    let mut world = World::new(1, master, with_code(party(1, Suite::Cbc, &[]), code));
    world.run();
    assert_eq!(world.differs[..2], [Suite::Gcm.code(), Suite::Cbc.code()]);
    assert!(world.nothing_stored());
}

/// At every step: each frame of each type wrong in length, flipped, from another enrolment, or reflected. What the two
/// machines may count against the code is at most the attempt that runs.
#[test]
fn a_forged_frame_changes_nothing_at_any_step() {
    let elsewhere: Vec<_> = world(77).run().into_iter().map(|(_, frame)| frame).collect();
    let plain = World::usual(78).run().into_iter().map(|(_, frame)| frame);
    let elsewhere: Vec<_> = elsewhere.into_iter().chain(plain).collect();
    let mut world = world(1);
    let mut queue = world.poll();
    let mut rng = StdRng::seed_from_u64(5);
    let (mut steps, mut attempt, mut reference, mut guesses) = (0, None, None, 0);
    while let Some((to, genuine)) = queue.pop() {
        steps += 1;
        match FrameType::of(&genuine).unwrap() {
            FrameType::InitReq => reference = Some(init_req_reference(&genuine)),
            FrameType::AuthReq => attempt = Some(*AuthReq::parse(&genuine).unwrap().attempt),
            _ => {}
        }
        let mut forged: Vec<Vec<u8>> = elsewhere.clone();
        forged.extend([0, 1, 2, 17, genuine.len() - 1].map(|len| genuine[..len].to_vec()));
        forged.push([&genuine[..], &[0]].concat());
        for _ in 0..60 {
            let mut flipped = genuine.clone();
            let at = rng.random_range(0..flipped.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            forged.push(flipped);
        }
        forged.extend(FrameType::ALL.map(|frame_type| [&[frame_type.byte()][..], &genuine[1..]].concat()));
        forged.retain(|frame| *frame != genuine);
        let back = if to == To::Master { To::Slave } else { To::Master };
        let mut attacks: Vec<_> =
            forged.iter().flat_map(|frame| [To::Master, To::Slave].map(|to| (to, frame.as_slice()))).collect();
        attacks.push((back, &genuine));
        for (at, frame) in attacks {
            let answers = InitAck::parse(frame).is_ok_and(|parsed| Some(*parsed.answers) == reference);
            if at == To::Master && answers {
                // Answering it would be the attempt's one guess: the tests above are about that.
                continue;
            }
            if at == To::Slave && AuthReq::parse(frame).is_ok_and(|parsed| Some(*parsed.attempt) == attempt) {
                let stored = (world.current.clone(), world.pending.clone(), world.promoted.clone());
                let deadlines = (world.master.deadline(), world.slave.deadline());
                guesses += usize::from(world.deliver(at, frame).is_ok());
                assert_eq!(stored, (world.current.clone(), world.pending.clone(), world.promoted.clone()));
                assert_eq!(deadlines, (world.master.deadline(), world.slave.deadline()));
                continue;
            }
            attack(&mut world, at, frame);
        }
        assert!(world.wrong_codes.len() <= 1 && world.conflicts.is_empty());
        let answer = world.deliver(to, &genuine).unwrap();
        queue.extend(answer.map(|frame| (back, frame)));
    }
    assert_eq!(steps, 8);
    assert!(guesses > 20, "{guesses} AUTHREQs did not open");
    world.assert_paired();
}

/// Everything of one enrolment is said again to both ends of another that has the same code.
#[test]
fn a_replayed_enrolment_changes_nothing() {
    let recorded = world(7).run();
    let mut world = world(1);
    let mut queue = world.poll();
    while let Some((to, genuine)) = queue.pop() {
        for (_, frame) in &recorded {
            attack(&mut world, To::Master, frame);
            attack(&mut world, To::Slave, frame);
        }
        let answer = world.deliver(to, &genuine).unwrap();
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
    world.assert_paired();
    assert!(world.wrong_codes.is_empty());
}
