//! Claim: the slave spends one signature on all masters that wait for an answer, as they and the configuration are at the
//! time of the signature.

use super::answers::Attempt;
use super::*;

/// Three attempts of one master and one of another, whose AUTHREQs come in before the slave is polled.
#[test]
fn one_signature_answers_all_masters_that_wait() {
    let mut world = World::new(1, party(0, Suite::Gcm, &[1]), party(1, Suite::Gcm, &[0, 2]));
    let mut masters: Vec<_> = [0, 2, 0, 0]
        .map(|own| begun(party(own, Suite::Gcm, &[1]), topics(), world.now, &mut world.rng))
        .into_iter()
        .collect();
    for master in &mut masters {
        let init_req = master.poll(world.now, &mut world.rng).unwrap();
        let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
        let Ok(Action::Send(auth_req)) = master.accept(&init_ack, world.now, &mut world.rng) else { panic!() };
        let accepted = world.slave.accept(&topics(), &auth_req, world.now, &mut world.rng);
        assert!(matches!(accepted, Ok(Action::Wait)));
        assert!(world.slave.has_unsigned_answers());
        let again = world.slave.accept(&topics(), &auth_req, world.now, &mut world.rng);
        assert_eq!(again.err(), Some(Rejected::Duplicate), "its answer is under way");
    }
    let mut answers = Vec::new();
    while let Some((of, action)) = world.slave.poll(world.now, &mut world.rng) {
        assert!(!world.slave.has_unsigned_answers(), "all are signed at once");
        assert_eq!(of, topics());
        let Action::MasterAuthenticated(auth_ack) = action else { panic!("{action:?}") };
        answers.push(auth_ack);
    }
    // Each has the two hashes of a tree of four leaves.
    let alone = {
        let mut world = World::usual(2);
        world.run().into_iter().find(|(_, frame)| FrameType::of(frame) == Ok(FrameType::AuthAck)).unwrap().1.len()
    };
    assert_eq!(answers.iter().map(Vec::len).collect::<Vec<_>>(), [alone + 64; 4]);
    for (index, master) in masters.iter_mut().enumerate() {
        for (other, auth_ack) in answers.iter().enumerate().filter(|(other, _)| *other != index) {
            assert!(master.accept(auth_ack, world.now, &mut world.rng).is_err(), "{other} for {index}");
        }
        let accepted = master.accept(&answers[index], world.now, &mut world.rng);
        let Ok(Action::Send(rdy_req)) = accepted else { panic!("{index}: {accepted:?}") };
        let stored = world.slave.accept(&topics(), &rdy_req, world.now, &mut world.rng);
        assert!(matches!(stored, Ok(Action::StorePending(..))), "{index}: {stored:?}");
    }
}

#[test]
fn a_signature_covers_256_answers_and_no_more() {
    let mut world = World::usual(1);
    for number in 1..=256 {
        let attempt = Attempt::with(&mut world);
        let signature = attempt.signature([0; 4], &mut world.rng);
        let auth_req = attempt.auth_req([0; 4], &signature);
        let accepted = world.slave.accept(&topics(), &auth_req, world.now, &mut world.rng);
        assert!(matches!(accepted, Ok(Action::Wait)));
        assert_eq!(world.slave.has_unsigned_answers(), number < 256);
    }
    let answers = std::iter::from_fn(|| world.slave.poll(world.now, &mut world.rng)).count();
    assert_eq!(answers, 256);
}

#[test]
fn a_master_that_is_forgotten_before_the_signature_gets_no_answer() {
    for forget in [true, false] {
        let mut world = World::usual(1);
        let attempt = Attempt::with(&mut world);
        let signature = attempt.signature([0; 4], &mut world.rng);
        let auth_req = attempt.auth_req([0; 4], &signature);
        let accepted = world.slave.accept(&topics(), &auth_req, world.now, &mut world.rng);
        assert!(matches!(accepted, Ok(Action::Wait)));
        world.slave.set_peers([peer_of(if forget { 2 } else { 0 })].into_iter().collect());
        assert_eq!(world.slave.poll(world.now, &mut world.rng).is_none(), forget);
        assert!(!world.slave.has_unsigned_answers());
    }
}

/// Its verdict is that of the configuration at the time of the signature.
#[test]
fn a_suite_that_is_changed_before_the_signature_counts() {
    let mut world = World::usual(1);
    let attempt = Attempt::with(&mut world);
    let signature = attempt.signature([0; 4], &mut world.rng);
    world.slave.accept(&topics(), &attempt.auth_req([0; 4], &signature), world.now, &mut world.rng).unwrap();
    world.slave.set_party(party(1, Suite::Ecb, &[0]));
    let Some((_, Action::Fail(HandshakeFailure::SuiteDiffers { theirs, .. }, Some(_)))) =
        world.slave.poll(world.now, &mut world.rng)
    else {
        panic!("no verdict")
    };
    assert_eq!(theirs, Suite::Gcm.code());
}
