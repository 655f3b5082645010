//! Claim: only an authentic frame moves a machine, and a pairing succeeds through any network that lets enough pass.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;

use super::*;

/// Hands over a frame that must change nothing.
pub(super) fn attack(world: &mut World, to: To, frame: &[u8]) {
    let before = world.state();
    let stored = (world.current.clone(), world.pending.clone(), world.promoted.clone());
    let deadlines = (world.master.deadline(), world.slave.deadline());
    let outcome = world.deliver(to, frame);
    assert_eq!(stored, (world.current.clone(), world.pending.clone(), world.promoted.clone()));
    assert!(world.differs.is_empty());
    // An INITACK is authentic only by what comes of it: answering one is no harm, believing it would be.
    let guess = to == To::Master && matches!(FrameType::of(frame), Ok(FrameType::InitAck)) && outcome.is_ok();
    let timers = (world.master.deadline(), world.slave.deadline());
    assert!(deadlines == timers || guess && deadlines.1 == timers.1, "no timer moved");
    assert!(guess || before == world.state(), "{to:?} moved at {:?}: {outcome:?}", FrameType::of(frame));
}

/// At every step: each frame of each type wrong in length, flipped, from another pairing, or reflected.
#[test]
fn a_forged_frame_changes_nothing_at_any_step() {
    let elsewhere: Vec<_> = World::usual(77).run().into_iter().map(|(_, frame)| frame).collect();
    let mut world = World::usual(1);
    let mut queue = world.poll();
    let mut rng = StdRng::seed_from_u64(5);
    let mut steps = 0;
    while let Some((to, genuine)) = queue.pop() {
        steps += 1;
        let mut forged: Vec<Vec<u8>> = elsewhere.clone();
        forged.extend([0, 1, 2, 17, genuine.len() - 1].map(|len| genuine[..len].to_vec()));
        forged.push([&genuine[..], &[0]].concat());
        for _ in 0..40 {
            let mut flipped = genuine.clone();
            let at = rng.random_range(0..flipped.len() * 8);
            flipped[at / 8] ^= 1 << (at % 8);
            forged.push(flipped);
        }
        for frame_type in FrameType::ALL {
            forged.push([&[frame_type.byte()][..], &genuine[1..]].concat());
        }
        forged.retain(|frame| *frame != genuine);
        for frame in &forged {
            for to in [To::Master, To::Slave] {
                attack(&mut world, to, frame);
            }
        }
        // Reflected: to whom it came from.
        attack(&mut world, if to == To::Master { To::Slave } else { To::Master }, &genuine);
        // Forged INITACKs cost the master a signature; give it time for the one of the genuine one.
        world.now += Duration::from_secs(1);
        let answer = world.deliver(to, &genuine).unwrap();
        queue.extend(answer.map(|frame| (if to == To::Master { To::Slave } else { To::Master }, frame)));
    }
    assert_eq!(steps, 8);
    world.assert_paired();
}

#[test]
fn an_init_ack_that_comes_again_is_answered_once_for_each_init_req() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    world.now += Duration::from_millis(790);
    assert_eq!(world.deliver(To::Master, &init_ack), Err(Rejected::Duplicate));
    world.now += Duration::from_millis(210);
    assert_eq!(world.poll(), [(To::Slave, init_req)]);
    assert_eq!(world.deliver(To::Master, &init_ack).unwrap().unwrap(), auth_req, "the same bytes");
    assert_eq!(world.deliver(To::Master, &init_ack), Err(Rejected::Duplicate));
}

#[test]
fn a_forged_auth_ack_does_not_end_the_attempt() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    for len in [50, 51, 900] {
        let forged = [&auth_req[..17], &vec![1; len]].concat();
        let mut forged = forged[..len].to_vec();
        forged[0] = FrameType::AuthAck.byte();
        assert_eq!(world.deliver(To::Master, &forged), Err(Rejected::NotAuthentic));
    }
    world.run();
    world.assert_paired();
}

/// The network holds every step 5 of the first attempt back until the slave has stored the second one.
#[test]
fn a_step_5_that_was_held_back_is_not_stored_over_a_later_one() {
    let mut world = World::usual(11);
    let mut held = None;
    while world.current.is_none() {
        let mut queue = world.poll();
        while let Some((to, frame)) = queue.pop() {
            if FrameType::of(&frame) == Ok(FrameType::RdyReq) && world.now < world.start + Duration::from_secs(6) {
                held = Some(frame);
                continue;
            }
            let stored = world.pending.len();
            let back = if to == To::Slave { To::Master } else { To::Slave };
            if let Ok(Some(answer)) = world.deliver(to, &frame) {
                queue.push((back, answer));
            }
            if world.pending.len() > stored {
                assert_eq!(world.deliver(To::Slave, held.as_ref().unwrap()), Err(Rejected::Unexpected));
            }
        }
        world.sleep();
    }
    world.run();
    world.assert_paired();
    assert_eq!(world.pending.len(), 1);
}

/// A network that loses, repeats, delays, reorders, alters, reflects and invents, for two minutes of virtual time; then
/// it only loses a third.
#[test]
fn a_hostile_network_is_survived_whatever_the_seed() {
    for seed in 0..300 {
        let mut world = World::usual(seed);
        let mut net = StdRng::seed_from_u64(seed ^ 0x5eed);
        let mut wire: BTreeMap<(Instant, u64), (To, Vec<u8>)> = BTreeMap::new();
        let mut history: Vec<Vec<u8>> = Vec::new();
        let (mut count, calm) = (0, world.now + Duration::from_secs(20));
        let end = world.now + Duration::from_secs(400);
        while world.promoted.is_none() && !world.master.is_finished() && world.now < end {
            let hostile = world.now < calm;
            let mut sent = world.poll();
            while let Some(entry) = wire.first_entry()
                && entry.key().0 <= world.now
            {
                let (to, frame) = entry.remove();
                if let Ok(Some(answer)) = world.deliver(to, &frame) {
                    sent.push((if to == To::Master { To::Slave } else { To::Master }, answer));
                }
            }
            for (to, frame) in sent {
                history.push(frame.clone());
                let copies = if hostile { net.random_range(0..3) } else { u32::from(net.random_bool(0.66)) };
                for _ in 0..copies {
                    let (mut to, mut frame) = (to, frame.clone());
                    if hostile && net.random_bool(0.3) {
                        match net.random_range(0..4) {
                            0 => to = if to == To::Master { To::Slave } else { To::Master },
                            1 => frame.clone_from(history.choose(&mut net).unwrap()),
                            2 => {
                                let at = net.random_range(0..frame.len());
                                frame[at] ^= 1 << net.random_range(0..8);
                            }
                            _ => frame.truncate(net.random_range(0..frame.len())),
                        }
                    }
                    let delay = Duration::from_millis(net.random_range(0..if hostile { 4000 } else { 40 }));
                    count += 1;
                    wire.insert((world.now + delay, count), (to, frame));
                }
            }
            let arrival = wire.first_key_value().map(|((at, _), _)| *at);
            let timers = world.master.deadline().into_iter().chain(world.slave.deadline());
            let due = timers.chain(arrival).min().unwrap_or(world.now);
            world.now = due.max(world.now + Duration::from_millis(1));
        }
        let current = world.current.as_ref().unwrap_or_else(|| panic!("seed {seed}: not paired"));
        if world.promoted.is_none() {
            // Every step 7 was lost and the master has left: its first sealed message is the proof.
            world.promoted = world.slave.mark_proved(current.keys.id);
        }
        world.assert_paired();
    }
}
