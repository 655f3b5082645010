//! Claim: what comes again is answered as before, and nothing is kept or signed for it.

use super::*;

/// Step 6 was lost, or step 7: a session that is stored twice would be two.
#[test]
fn a_slave_that_hears_step_5_again_repeats_step_6_and_stores_nothing() {
    let mut world = World::usual(1);
    let rdy_req = frame_to(&mut world, |_, kind| kind == FrameType::RdyReq);
    let ready = world.deliver(To::Slave, &rdy_req).unwrap();
    assert_eq!(world.pending.len(), 1);
    let state = world.state();
    assert_eq!(world.deliver(To::Slave, &rdy_req).unwrap(), ready);
    assert_eq!((world.pending.len(), world.state()), (1, state));
    let master_ready = world.deliver(To::Master, &ready.clone().unwrap()).unwrap().unwrap();
    world.deliver(To::Slave, &master_ready).unwrap();
    assert_eq!(world.deliver(To::Slave, &rdy_req).unwrap(), ready);
    assert!(world.pending.len() == 1 && world.promoted.is_some());
}

/// Step 8 may be lost: then step 7 arrived, or step 6 comes again.
#[test]
fn a_master_waits_for_step_8_until_step_6_would_have_come_again() {
    let mut world = World::usual(1);
    let slave_ready = frame_to(&mut world, |to, kind| to == To::Master && kind == FrameType::RdyAck);
    let first = world.deliver(To::Master, &slave_ready).unwrap();
    world.now += Duration::from_millis(1_499);
    assert_eq!(world.master.poll(world.now, &mut world.rng), None);
    assert!(!world.master.is_finished());
    assert_eq!(world.deliver(To::Master, &slave_ready).unwrap(), first, "step 7 again");
    for (millis, is_finished) in [(1_499, false), (1, true)] {
        world.now += Duration::from_millis(millis);
        assert_eq!(world.master.poll(world.now, &mut world.rng), None);
        assert_eq!(world.master.is_finished(), is_finished);
    }
}

#[test]
fn a_slave_that_serves_on_keeps_nothing_but_what_waits_for_its_proof() {
    let mut world = World::usual(1);
    world.run();
    world.assert_paired();
    world.now += Duration::from_secs(200);
    assert!(world.slave.poll(world.now, &mut world.rng).is_none());
    assert!(!world.state().contains("Attempt {"), "{}", world.state());

    // A master that is gone after step 6: its session waits for a proof, but nothing is sent for ever.
    let mut world = World::usual(2);
    let mut queue = world.poll();
    while let Some((to, frame)) = queue.pop() {
        if to == To::Master && FrameType::of(&frame) == Ok(FrameType::RdyAck) {
            continue;
        }
        let answer = world.deliver(to, &frame).unwrap_or(None);
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
    let id = world.pending[0].keys.id;
    let mut repeats = 0;
    for _ in 0..600 {
        world.now += Duration::from_secs(1);
        repeats += usize::from(world.slave.poll(world.now, &mut world.rng).is_some());
    }
    assert!((10..40).contains(&repeats), "{repeats}");
    assert_eq!(world.slave.pending().count(), 1);
    assert!(world.slave.mark_proved(id).is_some());
}

#[test]
fn the_slave_keeps_nothing_for_an_init_req_and_repeats_its_answer() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let before = world.state();
    let first = world.deliver(To::Slave, &init_req).unwrap();
    assert_eq!(world.state(), before);
    assert_eq!(world.deliver(To::Slave, &init_req).unwrap(), first);
}

#[test]
fn an_answer_made_before_the_epoch_turned_is_still_good_once() {
    for (seconds, good) in [(59, true), (61, true), (119, true), (120, false), (181, false)] {
        let mut world = World::usual(1);
        let (_, init_req) = world.poll().remove(0);
        let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
        let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
        world.now += Duration::from_secs(seconds);
        assert_eq!(world.deliver(To::Slave, &auth_req).is_ok(), good, "{seconds} s later");
    }
}

#[test]
fn an_epoch_key_goes_though_nothing_comes_any_more() {
    let mut world = World::usual(3);
    let init_req = world.poll().remove(0).1;
    let answer = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    for _ in 0..2 {
        world.now = world.slave.deadline().expect("an epoch ends");
        assert!(world.slave.poll(world.now, &mut world.rng).is_none());
    }
    // The clock stands still now for an attacker who took the slave's memory.
    let auth_req = world.deliver(To::Master, &answer).unwrap().unwrap();
    assert_eq!(world.deliver(To::Slave, &auth_req), Err(Rejected::Unexpected));
}

#[test]
fn a_replayed_auth_req_is_never_signed_again() {
    let mut world = World::usual(1);
    let mut auth_reqs = Vec::new();
    for _ in 0..6 {
        world.master = begun(party(0, Suite::Gcm, &[1]), topics(), world.now, &mut world.rng);
        let (_, init_req) = world.poll().remove(0);
        let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
        let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
        world.deliver(To::Slave, &auth_req).unwrap();
        auth_reqs.push(auth_req);
        world.now += Duration::from_secs(1);
    }
    assert_eq!(world.deliver(To::Slave, &auth_reqs[0]), Err(Rejected::Duplicate));
    world.now += Duration::from_secs(60);
    assert_eq!(world.deliver(To::Slave, &auth_reqs[0]), Err(Rejected::Duplicate), "in the next epoch too");
    let kept = world.deliver(To::Slave, &auth_reqs[5]).unwrap();
    assert_eq!(world.deliver(To::Slave, &auth_reqs[5]).unwrap(), kept, "an attempt that is kept repeats its bytes");
}

#[test]
fn a_slave_that_started_anew_is_paired_with_all_the_same() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    world.deliver(To::Master, &auth_ack).unwrap();
    world.slave = Slave::new(party(1, Suite::Gcm, &[0]), world.now, &mut world.rng);
    world.run();
    world.assert_paired();
}

#[test]
fn another_proof_ends_the_slaves_repeats() {
    let mut world = World::usual(1);
    let mut queue = world.poll();
    while world.pending.is_empty() {
        let (to, frame) = queue.pop().unwrap();
        let answer = world.deliver(to, &frame).unwrap();
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
    let id = world.pending[0].keys.id;
    let epoch_ends = Some(world.start + Duration::from_secs(60));
    assert!(world.slave.deadline() < epoch_ends);
    assert_eq!(world.slave.mark_proved([0; 8]), None);
    assert_eq!(world.slave.mark_proved(id).as_ref(), Some(&world.pending[0]));
    assert_eq!(world.slave.mark_proved(id), None);
    assert_eq!(world.slave.deadline(), epoch_ends);
}
