//! Claim: if a process is copied in the middle of a handshake, the other device pairs with one of the copies, and no two copies
//! have a session in common unless they sent the same bytes. What they seal under one key cannot be prevented: nothing tells
//! them.
//!
//! A copy is a world that was made from the same seed and did the same. From then on the system gives it random bytes of its
//! own.

use super::*;

/// Where the id of an attempt is in a frame that has one.
const ATTEMPT: std::ops::Range<usize> = 1..17;

/// Two copies of both devices, each after its master sent INITREQ, which is the same.
fn copies() -> ([World; 2], Vec<u8>) {
    let mut worlds = [World::usual(5), World::usual(5)];
    let [init_req, copied] = worlds.each_mut().map(|world| world.poll().remove(0).1);
    assert_eq!(init_req, copied);
    worlds[1].rng = StdRng::seed_from_u64(99);
    (worlds, init_req)
}

#[test]
fn of_two_copies_of_a_master_one_is_answered_and_the_other_pairs_anew() {
    let ([mut one, mut copy], init_req) = copies();
    let init_ack = one.deliver(To::Slave, &init_req).unwrap().unwrap();
    let [auth_req, copied] = [&mut one, &mut copy].map(|world| world.deliver(To::Master, &init_ack).unwrap().unwrap());
    assert_ne!(auth_req, copied, "the signatures differ");
    assert_eq!(auth_req[ATTEMPT], copied[ATTEMPT], "one key seals two frames");

    let auth_ack = one.deliver(To::Slave, &auth_req).unwrap().unwrap();
    assert!(one.deliver(To::Slave, &copied).is_err(), "an attempt has one AUTHREQ");
    assert!(copy.deliver(To::Master, &auth_ack).is_err(), "an answer has one AUTHREQ");
    one.run();
    one.assert_paired();

    // The same slave, and whatever the copy goes on with.
    let first = one.promoted.take().unwrap();
    std::mem::swap(&mut copy.slave, &mut one.slave);
    copy.run();
    copy.assert_paired();
    assert_ne!(copy.promoted.unwrap().keys, first.keys);
}

#[test]
fn of_two_copies_of_a_slave_one_answers_and_the_other_never_has_a_session() {
    let ([mut one, mut copy], init_req) = copies();
    let [init_ack, copied] = [&mut one, &mut copy].map(|world| world.deliver(To::Slave, &init_req).unwrap().unwrap());
    assert_eq!(init_ack, copied, "its randomness is that of the epoch key and of INITREQ");
    let auth_req = one.deliver(To::Master, &init_ack).unwrap().unwrap();
    let [auth_ack, copied] = [&mut one, &mut copy].map(|world| world.deliver(To::Slave, &auth_req).unwrap().unwrap());
    assert_ne!(auth_ack, copied, "the signatures differ");
    assert_eq!(auth_ack[ATTEMPT], copied[ATTEMPT], "one key seals two frames");

    let rdy_req = one.deliver(To::Master, &auth_ack).unwrap().unwrap();
    assert!(one.deliver(To::Master, &copied).is_err(), "the first answer counts");
    assert!(copy.deliver(To::Slave, &rdy_req).is_err(), "it is of the other answer");
    assert!(copy.pending.is_empty() && copy.promoted.is_none());
    let rdy_ack = one.deliver(To::Slave, &rdy_req).unwrap().unwrap();
    let rdy_ack = one.deliver(To::Master, &rdy_ack).unwrap().unwrap();
    assert!(copy.deliver(To::Slave, &rdy_ack).is_err());
    one.deliver(To::Slave, &rdy_ack).unwrap();
    one.assert_paired();
}

/// Then they have the session in common, as copies of a runtime directory have: salts keep their streams apart.
#[test]
fn copies_that_did_the_same_have_one_session() {
    // The copy is taken after AUTHACK.
    let mut worlds = [World::usual(5), World::usual(5)];
    let [auth_ack, copied] = worlds.each_mut().map(|world| {
        let init_req = world.poll().remove(0).1;
        let until_signed = [To::Slave, To::Master, To::Slave].into_iter();
        until_signed.fold(init_req, |frame, to| world.deliver(to, &frame).unwrap().unwrap())
    });
    assert_eq!(auth_ack, copied);
    let [mut one, mut later] = worlds;
    later.rng = StdRng::seed_from_u64(7);
    for world in [&mut one, &mut later] {
        let mut next = auth_ack.clone();
        for to in [To::Master, To::Slave, To::Master, To::Slave] {
            next = world.deliver(to, &next).unwrap().unwrap_or_default();
        }
        world.assert_paired();
    }
    assert_eq!(one.promoted.unwrap().keys, later.promoted.unwrap().keys);
}
