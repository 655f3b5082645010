//! Claim: who stands between two devices that enrol, without their code, has three guesses on either side and no more.

use std::collections::BTreeMap;

use rand::seq::IndexedRandom;

use super::enrolment::{codes, init_ack, left, newcomer, world};
use super::*;
use crate::message::InitReq;

/// The machines of somebody in the middle: a slave towards the master, a master towards the slave, anew for each guess.
/// Returns how many guesses each side let it check, and whether it got in.
fn man_in_the_middle(guess: &Code, seed: u64) -> (World, [usize; 2]) {
    let mut world = world(seed);
    let mut checked = [0, 0];
    let mut init_req_of_master = None;
    for _ in 0..40 {
        // Towards the slave, as often as it answers.
        let mut eve = begun(newcomer(2, guess), topics(), world.now, &mut world.rng);
        let init_req = eve.poll(world.now, &mut world.rng).unwrap();
        if let Ok(Some(init_ack)) = world.deliver(To::Slave, &init_req)
            && let Ok(Action::Send(auth_req)) = eve.accept(&init_ack, world.now, &mut world.rng)
            && let Ok(Some(auth_ack)) = world.deliver(To::Slave, &auth_req)
        {
            checked[0] += 1;
            if let Ok(Action::Send(rdy_req)) = eve.accept(&auth_ack, world.now, &mut world.rng) {
                let _ = world.deliver(To::Slave, &rdy_req);
            }
        }
        // Towards the master, with several answers to its newest INITREQ, whatever it sends now.
        let due: Vec<_> = std::iter::from_fn(|| world.master.poll(world.now, &mut world.rng)).collect();
        init_req_of_master = due.into_iter().rfind(|frame| InitReq::parse(frame).is_ok()).or(init_req_of_master);
        for _ in 0..3 {
            world.now += Duration::from_millis(300);
            let mut eve = Slave::new(newcomer(2, guess), world.now, &mut world.rng);
            let frame = init_req_of_master.as_ref().unwrap();
            let Ok(Action::Send(init_ack)) = eve.accept(&topics(), frame, world.now, &mut world.rng) else { break };
            let Ok(Some(auth_req)) = world.deliver(To::Master, &init_ack) else { break };
            checked[1] += 1;
            // It opens only if the guess is right; the answer to a wrong one, a refusal, would end the master's run.
            if eve.accept(&topics(), &auth_req, world.now, &mut world.rng).is_ok()
                && let Some((_, Action::MasterAuthenticated(auth_ack))) = eve.poll(world.now, &mut world.rng)
                && let Ok(Some(rdy_req)) = world.deliver(To::Master, &auth_ack)
                && let Ok(Action::StorePending(session, rdy_ack)) =
                    eve.accept(&topics(), &rdy_req, world.now, &mut world.rng)
            {
                world.pending.push(*session);
                let _ = world.deliver(To::Master, &rdy_ack);
            }
        }
        world.now += Duration::from_secs(7);
    }
    (world, checked)
}

#[test]
fn a_man_in_the_middle_has_three_guesses_on_either_side() {
    let [right, wrong] = codes();
    for seed in 0..5 {
        let (world, checked) = man_in_the_middle(&wrong, seed);
        assert_eq!(checked, [MAX_CODE_ATTEMPTS, MAX_CODE_ATTEMPTS]);
        assert!(world.nothing_stored() && world.master.is_code_used_up() && left(world.slave.party()) == 0);
    }
    // The same attacker with the right code gets in: the test above could fail.
    let (world, _) = man_in_the_middle(&right, 1);
    assert!(world.current.is_some() && !world.pending.is_empty());
}

/// A network that loses a third, repeats, delays and reorders, and with `hostile` also alters, reflects and invents.
/// Returns the world once it is over, or nothing more can come of it.
fn through(seed: u64, hostile: bool) -> World {
    let mut world = world(seed);
    let mut net = StdRng::seed_from_u64(seed ^ 0x5eed);
    let mut wire: BTreeMap<(Instant, u64), (To, Vec<u8>)> = BTreeMap::new();
    let mut history: Vec<Vec<u8>> = Vec::new();
    let mut count = 0;
    let end = world.now + Duration::from_secs(600);
    let mut over = false;
    while world.promoted.is_none() && !world.master.is_finished() && !over && world.now < end {
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
            for _ in 0..net.random_range(0..3) {
                let (mut to, mut frame) = (to, frame.clone());
                if hostile && net.random_bool(0.6) {
                    match net.random_range(0..5) {
                        0 => to = if to == To::Master { To::Slave } else { To::Master },
                        1 => frame.clone_from(history.choose(&mut net).unwrap()),
                        2 => {
                            let at = net.random_range(0..frame.len());
                            frame[at] ^= 1 << net.random_range(0..8);
                        }
                        3 => frame.truncate(net.random_range(0..frame.len())),
                        _ if InitReq::parse(&frame).is_ok() => {
                            (to, frame) = (To::Master, init_ack(&frame, &codes()[1], &mut net));
                        }
                        _ => {}
                    }
                }
                count += 1;
                wire.insert((world.now + Duration::from_millis(net.random_range(0..3000)), count), (to, frame));
            }
        }
        // What a tool does then: it gives up.
        over =
            world.master.is_code_used_up() || world.wrong_codes.iter().any(|(to, erased)| *erased || *to == To::Master);
        let arrival = wire.first_key_value().map(|((at, _), _)| *at);
        let timers = world.master.deadline().into_iter().chain(world.slave.deadline());
        let due = timers.chain(arrival).min().unwrap_or(world.now);
        world.now = due.max(world.now + Duration::from_millis(1));
    }
    if let Some(current) = &world.current
        && world.promoted.is_none()
    {
        world.promoted = world.slave.mark_proved(current.keys.id);
    }
    world
}

#[test]
fn a_network_that_only_loses_costs_no_code() {
    for seed in 0..80 {
        let world = through(seed, false);
        assert!(world.current.is_some(), "seed {seed}: not paired");
        world.assert_paired();
        assert!(world.wrong_codes.is_empty(), "seed {seed}");
    }
}

#[test]
fn a_hostile_network_can_burn_a_code_and_do_nothing_else() {
    let mut paired = 0;
    for seed in 0..80 {
        let world = through(seed, true);
        if world.current.is_some() {
            world.assert_paired();
            paired += 1;
        }
        assert!(world.pending.len() <= 1 && world.conflicts.is_empty() && world.differs.is_empty(), "seed {seed}");
    }
    assert!((5..80).contains(&paired), "{paired} of 80");
}
