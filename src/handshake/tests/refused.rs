//! Claim: two devices that do not pair both say why, and a third one on their topics is noticed.

use super::*;

#[test]
fn another_suite_is_both_ends_own_finding() {
    let mut world = World::new(1, party(0, Suite::Gcm, &[1]), party(1, Suite::Cbc, &[0]));
    world.run();
    assert_eq!(world.differs[..2], [Suite::Gcm.code(), Suite::Cbc.code()]);
    assert!(world.pending.is_empty() && world.current.is_none());
}

#[test]
fn a_suite_that_was_altered_on_the_way_is_no_finding() {
    let mut world = World::usual(1);
    let (_, mut init_req) = world.poll().remove(0);
    init_req[1 + NONCE_LEN] = Suite::Ecb.code();
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    assert_eq!(world.deliver(To::Master, &init_ack).err(), Some(Rejected::Unexpected));
}

#[test]
fn an_unknown_master_is_refused_and_both_are_told() {
    let mut world = World::new(1, party(0, Suite::Gcm, &[1]), party(1, Suite::Gcm, &[2]));
    world.run();
    let unknown = Claim::UnknownKey(identities()[0].public().fingerprint());
    assert_eq!(world.claims[..2], [unknown, Claim::Refused(AuthRefusal::UnknownKey)]);
    assert!(world.pending.is_empty() && world.current.is_none());
}

#[test]
fn an_unknown_slave_is_refused() {
    let mut world = World::new(1, party(0, Suite::Gcm, &[2]), party(1, Suite::Gcm, &[0]));
    world.run();
    assert_eq!(world.claims[0], Claim::UnknownKey(identities()[1].public().fingerprint()));
    assert!(world.pending.is_empty() && world.current.is_none());
}

#[test]
fn two_masters_see_each_other_but_not_themselves() {
    let mut world = World::usual(1);
    let (_, own) = world.poll().remove(0);
    assert_eq!(world.deliver(To::Master, &own), Err(Rejected::Unexpected));
    let other = begun(party(1, Suite::Gcm, &[0]), topics(), world.now, &mut world.rng)
        .poll(world.now, &mut StdRng::seed_from_u64(9));
    world.deliver(To::Master, &other.unwrap()).unwrap();
    assert_eq!(world.claims, [Claim::OtherMaster]);
}

/// A second gateway with a copy of the first one's key and configuration: the master answers both.
#[test]
fn two_slaves_are_noticed_by_the_one_that_answers_first() {
    let mut world = World::usual(1);
    let mut other = Slave::new(party(1, Suite::Gcm, &[0]), world.now, &mut world.rng);
    let (_, init_req) = world.poll().remove(0);
    let auth_req_for = |world: &mut World, slave: &mut Slave| {
        let init_ack = sent(slave.accept(&topics(), &init_req, world.now, &mut world.rng));
        world.deliver(To::Master, &init_ack).unwrap().unwrap()
    };
    let mut first =
        std::mem::replace(&mut world.slave, Slave::new(party(1, Suite::Gcm, &[0]), world.now, &mut world.rng));
    let for_first = auth_req_for(&mut world, &mut first);
    let for_other = auth_req_for(&mut world, &mut other);
    let mut heard = |slave: &mut Slave, frames: [&[u8]; 2]| {
        let costs = frames.map(|frame| slave.key_exchange(&topics(), frame));
        (costs, slave.poll(world.now, &mut world.rng).map(|(_, action)| action))
    };
    let (own, foreign) = (Ok(Some(KeyExchange::AuthReq)), Err(Rejected::Unexpected));
    let (costs, action) = heard(&mut first, [&for_first, &for_other]);
    assert_eq!(costs, [own, foreign]);
    assert!(matches!(action, Some(Action::Claim(Claim::OtherSlave, None))), "{action:?}");
    assert!(heard(&mut first, [&for_first, &for_first]).1.is_none(), "its own one comes again");
    // A slave that was started again meanwhile hears this, too: what is for the run before comes first.
    let (costs, action) = heard(&mut other, [&for_first, &for_other]);
    assert_eq!((costs, action.is_none()), ([foreign, own], true));
}
