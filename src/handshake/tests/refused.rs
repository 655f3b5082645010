//! Claim: two devices that do not pair both say why.

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
