//! Claim: the slave spends a key exchange and a signature's verification once for each attempt; its answers can be repeated,
//! whatever they say; and bits that a later version sets do no harm.

use super::*;
use crate::crypto::exchange::Ephemeral;
use crate::crypto::pake::Spake2Half;
use crate::crypto::schedule::{
    Cookie, Digest, Features, Schedule, open_once, seal_once, signed_by_master, signed_by_slave, slave_leaf,
};
use crate::message::{AuthAck, AuthReq, Credentials, InitAck, InitReq, Proof};

/// A master that can be made to send what no honest one sends.
struct Client {
    ephemeral: Ephemeral,
    init_req: Vec<u8>,
}

/// Its attempt, after an INITACK.
pub(super) struct Attempt {
    init_req: Vec<u8>,
    cookie: Cookie,
    schedule: Schedule,
}

impl Client {
    fn new(suite: Suite, rng: &mut StdRng) -> Self {
        let ephemeral = Ephemeral::generate(rng);
        let mut random = [0; NONCE_LEN];
        rng.fill(&mut random);
        let (x25519, key) = (ephemeral.x25519(), ephemeral.encapsulation_key());
        let init_req = InitReq::frame(&random, suite.code(), &x25519, &key, None);
        Self { ephemeral, init_req }
    }

    fn attempt(&self, init_ack: &[u8]) -> Attempt {
        let parsed = InitAck::parse(init_ack).unwrap();
        let shared = self.ephemeral.agree(parsed.x25519, parsed.ciphertext).unwrap();
        let schedule = Schedule::new(&topics(), &self.init_req, init_ack, &shared, None);
        Attempt { init_req: self.init_req.clone(), cookie: *parsed.cookie, schedule }
    }
}

impl Attempt {
    /// What a client has after the first two steps with this slave.
    pub(super) fn with(world: &mut World) -> Self {
        let client = Client::new(Suite::Gcm, &mut world.rng);
        let init_ack = world.deliver(To::Slave, &client.init_req).unwrap().unwrap();
        client.attempt(&init_ack)
    }

    pub(super) fn signature(&self, features: Features, rng: &mut StdRng) -> Vec<u8> {
        let identity = &identities()[0];
        let leaf = self.schedule.master_leaf(&features, "master", identity.public().der());
        sign(identity, &signed_by_master(&leaf), rng).unwrap()
    }

    pub(super) fn auth_req(&self, features: Features, signature: &[u8]) -> Vec<u8> {
        let key = identities()[0].public().der();
        let mut plaintext = Vec::new();
        let credentials = Credentials { name: b"master", key, signature };
        Proof { features, path: &[], credentials }.put(&mut plaintext);
        let mut frame = AuthReq::clear(&self.schedule.attempt(), &self.cookie, &self.init_req);
        let sealed = seal_once(self.schedule.hs_m(), &frame, &plaintext);
        frame.extend_from_slice(&sealed);
        frame
    }
}

#[test]
fn an_auth_req_without_the_cookie_costs_no_key_exchange() {
    let mut world = World::usual(1);
    let attempt = Attempt::with(&mut world);
    let signature = attempt.signature([0; 4], &mut world.rng);
    let genuine = attempt.auth_req([0; 4], &signature);
    let other = Attempt::with(&mut world);
    for cookie in [[0; 16], other.cookie] {
        let forged = Attempt { cookie, schedule: attempt.schedule.clone(), init_req: attempt.init_req.clone() };
        let forged = forged.auth_req([0; 4], &signature);
        assert_eq!(world.slave.key_exchange(&topics(), &forged), Err(Rejected::Unexpected));
        assert_eq!(world.deliver(To::Slave, &forged), Err(Rejected::Unexpected));
    }
    let elsewhere = Topics { master_to_slave: "other".into(), ..topics() };
    assert_eq!(world.slave.key_exchange(&elsewhere, &genuine), Err(Rejected::Unexpected), "good on its topics only");
    // The genuine one waits for one key exchange. After that, nothing that names its INITREQ costs another one.
    assert_eq!(world.slave.key_exchange(&topics(), &genuine), Ok(Some(KeyExchange::AuthReq)));
    let mut altered = genuine.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert_eq!(world.deliver(To::Slave, &altered), Err(Rejected::NotAuthentic));
    assert_eq!(world.slave.key_exchange(&topics(), &genuine), Ok(None));
    altered[1] ^= 1;
    assert_eq!(world.slave.key_exchange(&topics(), &altered), Ok(None));
    assert_eq!(world.deliver(To::Slave, &altered), Err(Rejected::Unexpected));
    world.now += Duration::from_secs(61);
    world.slave.poll(world.now, &mut world.rng);
    assert_eq!(world.slave.key_exchange(&topics(), &genuine), Ok(None), "in the next epoch, too");
    assert!(world.deliver(To::Slave, &genuine).unwrap().is_some());
    assert_eq!(world.slave.key_exchange(&topics(), &genuine), Ok(None));
    let after_two = world.now + Duration::from_secs(61);
    world.slave.poll(after_two, &mut world.rng);
    let again = other.auth_req([0; 4], &signature);
    assert_eq!(world.slave.key_exchange(&topics(), &again), Err(Rejected::Unexpected), "its epoch is over");
}

#[test]
fn frames_of_a_wrong_length_never_wait() {
    let mut world = World::usual(1);
    let attempt = Attempt::with(&mut world);
    let init_req = Client::new(Suite::Gcm, &mut world.rng).init_req;
    assert_eq!(world.slave.key_exchange(&topics(), &init_req), Ok(Some(KeyExchange::InitReq)));
    assert_eq!(world.slave.key_exchange(&topics(), &[&init_req[..], &[0; 9000]].concat()), Err(Rejected::Length));
    let auth_req = attempt.auth_req([0; 4], &[0; 256]);
    assert_eq!(world.slave.key_exchange(&topics(), &auth_req), Ok(Some(KeyExchange::AuthReq)));
    assert_eq!(world.slave.key_exchange(&topics(), &[&auth_req[..], &[0; 9000]].concat()), Err(Rejected::Length));
}

#[test]
fn a_slave_remembers_1024_attempts() {
    let mut world = World::usual(1);
    let attempts: Vec<_> = (0..1025).map(|_| Attempt::with(&mut world).auth_req([0; 4], &[])).collect();
    for (index, auth_req) in attempts.iter().enumerate() {
        assert_eq!(world.slave.key_exchange(&topics(), auth_req), Ok(Some(KeyExchange::AuthReq)), "{index}");
        assert_eq!(world.deliver(To::Slave, auth_req), Err(Rejected::NotAuthentic));
        assert_eq!(world.slave.key_exchange(&topics(), auth_req), Ok(None), "{index}");
    }
    assert_eq!(world.slave.key_exchange(&topics(), &attempts[0]), Ok(Some(KeyExchange::AuthReq)));
    assert_eq!(world.slave.key_exchange(&topics(), &attempts[1]), Ok(None));
}

#[test]
fn a_slave_verifies_one_signature_of_an_attempt() {
    let mut world = World::usual(1);
    let attempt = Attempt::with(&mut world);
    let signature = attempt.signature([0; 4], &mut world.rng);
    let mut forged = signature.clone();
    forged[100] ^= 1;
    assert_eq!(world.deliver(To::Slave, &attempt.auth_req([0; 4], &forged)), Err(Rejected::NotAuthentic));
    // Not even the right one is looked at: only who made the attempt can have sent the wrong one.
    assert_eq!(world.deliver(To::Slave, &attempt.auth_req([0; 4], &signature)), Err(Rejected::Unexpected));
    world.run();
    world.assert_paired();
}

/// A slave that answers by hand: it knows the keys of an attempt, and may have the genuine identity.
struct SlaveByHand {
    schedule: Schedule,
    th2: Digest,
}

impl SlaveByHand {
    /// Its attempt, as far as step 3.
    pub(super) fn with(world: &mut World) -> Self {
        Self::with_code(world, None)
    }

    fn with_code(world: &mut World, code: Option<&Code>) -> Self {
        let (_, init_req) = world.poll().remove(0);
        let parsed = InitReq::parse(&init_req).unwrap();
        let ours = encapsulate(parsed.x25519, parsed.encapsulation_key, &mut world.rng).unwrap();
        let half = code.map(|code| Spake2Half::draw(Role::Slave, &code.password(), &mut world.rng));
        let pake = party::agree(half.as_ref(), parsed.share).unwrap();
        let (reference, share) = (init_req_reference(&init_req), half.as_ref().map(Spake2Half::share));
        let init_ack = InitAck::frame(&reference, &[0; 16], &ours.x25519, &ours.ciphertext, share);
        let schedule = Schedule::new(&topics(), &init_req, &init_ack, &ours.shared, pake.as_ref());
        let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
        let th2 = schedule.th2(&auth_req);
        Self { schedule, th2 }
    }

    pub(super) fn signature(&self, verdict: [u8; 2], name: &str) -> Vec<u8> {
        let key = identities()[1].public().der();
        let signed = signed_by_slave(&slave_leaf(&self.th2, &verdict, &[0; 4], name, key));
        sign(&identities()[1], &signed, &mut StdRng::seed_from_u64(1)).unwrap()
    }

    /// Step 4 with this after the signature.
    fn auth_ack(&self, verdict: [u8; 2], name: &[u8], signature: &[u8], rest: &[u8]) -> Vec<u8> {
        let credentials = Credentials { name, key: identities()[1].public().der(), signature };
        let mut plaintext = verdict.to_vec();
        Proof { features: [0; 4], path: &[], credentials }.put(&mut plaintext);
        plaintext.extend_from_slice(rest);
        let mut frame = AuthAck::clear(&self.schedule.attempt());
        let sealed = seal_once(self.schedule.hs_s(&self.th2), &frame, &plaintext);
        frame.extend_from_slice(&sealed);
        frame
    }
}

const AGREED: [u8; 2] = [0, 1];

#[test]
fn a_master_verifies_one_signature_of_an_attempt() {
    let mut world = World::usual(1);
    let slave = SlaveByHand::with(&mut world);
    let forged = slave.auth_ack(AGREED, b"slave", &[7; 256], &[]);
    assert_eq!(world.deliver(To::Master, &forged), Err(Rejected::NotAuthentic));
    let genuine = slave.auth_ack(AGREED, b"slave", &slave.signature(AGREED, "slave"), &[]);
    assert_eq!(world.deliver(To::Master, &genuine), Err(Rejected::Duplicate));
    world.run();
    world.assert_paired();
}

#[test]
fn a_verdict_that_does_not_fit_its_suite_is_dropped() {
    let (gcm, cbc) = (Suite::Gcm.code(), Suite::Cbc.code());
    for verdict in [[0, cbc], [0, 0], [1, gcm], [2, gcm], [2, cbc], [3, gcm], [255, gcm]] {
        let mut world = World::usual(1);
        let slave = SlaveByHand::with(&mut world);
        let auth_ack = slave.auth_ack(verdict, b"slave", &slave.signature(verdict, "slave"), &[]);
        assert_eq!(world.deliver(To::Master, &auth_ack), Err(Rejected::NotAuthentic), "{verdict:?}");
        assert!(world.differs.is_empty() && world.conflicts.is_empty());
        world.run();
        world.assert_paired();
    }
    let mut world = World::usual(1);
    let slave = SlaveByHand::with(&mut world);
    let auth_ack = slave.auth_ack([1, cbc], b"slave", &slave.signature([1, cbc], "slave"), &[]);
    assert_eq!(world.deliver(To::Master, &auth_ack), Ok(None));
    assert_eq!(world.differs, [cbc]);
}

/// A slave that has the code, and that this device cannot pin.
#[test]
fn a_conflict_is_told_of_a_verdict_that_fits_its_suite() {
    let [code, _] = enrolment::codes();
    let taken = Peer { name: "slave".parse().unwrap(), key: identities()[2].public().clone() };
    for (suite, answer, conflicts) in [(Suite::Cbc, Err(Rejected::NotAuthentic), 0), (Suite::Gcm, Ok(None), 1)] {
        let trust = Trust::Code(Enrolment::new(code.clone(), MAX_CODE_ATTEMPTS, vec![taken.clone()], Vec::new()));
        let master = Party { trust, ..party(0, Suite::Gcm, &[]) };
        let mut world = World::new(1, master, enrolment::newcomer(1, &code));
        let slave = SlaveByHand::with_code(&mut world, Some(&code));
        let verdict = [0, suite.code()];
        let auth_ack = slave.auth_ack(verdict, b"slave", &slave.signature(verdict, "slave"), &[]);
        assert_eq!((world.deliver(To::Master, &auth_ack), world.conflicts.len()), (answer, conflicts));
    }
}

#[test]
fn a_part_that_is_longer_than_its_fields_is_dropped() {
    let mut world = World::usual(1);
    let slave = SlaveByHand::with(&mut world);
    let signature = slave.signature(AGREED, "slave");
    assert_eq!(world.deliver(To::Master, &slave.auth_ack(AGREED, b"slave", &signature, &[0])), Err(Rejected::Length));
    let auth_ack = slave.auth_ack(AGREED, b"slave", &signature, &[]);
    assert!(matches!(world.deliver(To::Master, &auth_ack), Ok(Some(frame)) if frame.len() == 49));
}

/// Without a code, the name of a device is the one under which its key is pinned.
#[test]
fn the_name_in_a_frame_is_not_used_without_a_code() {
    for name in ["", "another name", &"x".repeat(100)] {
        let mut world = World::usual(1);
        let slave = SlaveByHand::with(&mut world);
        let auth_ack = slave.auth_ack(AGREED, name.as_bytes(), &slave.signature(AGREED, name), &[]);
        assert!(matches!(world.deliver(To::Master, &auth_ack), Ok(Some(frame)) if frame.len() == 49), "{name}");
    }
}

/// The master's AUTHREQ, which is repeated with its INITREQ, draws the lost AUTHACK again.
#[test]
fn a_lost_verdict_is_repeated() {
    let mut world = World::new(1, party(0, Suite::Gcm, &[1]), party(1, Suite::Cbc, &[0]));
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    let lost = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    assert_eq!(world.differs, [Suite::Gcm.code()], "the slave is told once");
    world.now += Duration::from_secs(1);
    assert_eq!(world.poll(), [(To::Slave, init_req.clone())]);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let again = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    assert_eq!(again, auth_req);
    assert_eq!(world.deliver(To::Slave, &again).unwrap().unwrap(), lost, "the same bytes");
    assert_eq!(world.differs, [Suite::Gcm.code()]);
    assert_eq!(world.deliver(To::Master, &lost), Ok(None));
    assert_eq!(world.differs, [Suite::Gcm.code(), Suite::Cbc.code()]);
    // There is no session to go on with.
    let id = *AuthReq::parse(&auth_req).unwrap().attempt;
    for frame_type in [FrameType::RdyReq, FrameType::RdyAck] {
        let ready = Ready::frame(frame_type, &id, &[0; 32]);
        assert_eq!(world.deliver(To::Slave, &ready), Err(Rejected::Unexpected));
    }
    world.now += Duration::from_secs(181);
    world.slave.poll(world.now, &mut world.rng);
    assert!(!world.state().contains("VerifiedAttempt"), "{}", world.state());
}

#[test]
fn features_of_a_later_version_are_signed_and_do_no_harm() {
    let mut world = World::usual(1);
    let attempt = Attempt::with(&mut world);
    let features = [0x80, 0, 0, 0x01];
    let signature = attempt.signature(features, &mut world.rng);
    // They are signed: nobody can take one away.
    let stripped = Attempt { schedule: attempt.schedule.clone(), init_req: attempt.init_req.clone(), ..attempt };
    assert_eq!(world.deliver(To::Slave, &stripped.auth_req([0; 4], &signature)), Err(Rejected::NotAuthentic));

    let attempt = Attempt::with(&mut world);
    let signature = attempt.signature(features, &mut world.rng);
    let auth_req = attempt.auth_req(features, &signature);
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let th2 = attempt.schedule.th2(&auth_req);
    let AuthAck::Answer { clear, sealed, .. } = AuthAck::parse(&auth_ack).unwrap() else { panic!() };
    let plaintext = open_once(&attempt.schedule.hs_s(&th2), clear, sealed).unwrap();
    assert_eq!(Proof::parse(&plaintext[2..]).unwrap().features, [0; 4], "this version has none");
    let keys = attempt.schedule.session(&th2, &auth_ack);
    let rdy_req = Ready::frame(FrameType::RdyReq, &attempt.schedule.attempt(), &Confirmation::Request.mac(&keys));
    world.deliver(To::Slave, &rdy_req).unwrap().unwrap();
    assert_eq!(world.pending[0].keys, keys);
}

/// If a step 5 counted as superseded because an attempt with another verdict came later, a master would wait for ever.
#[test]
fn an_attempt_that_was_declined_supersedes_none() {
    let mut world = World::usual(1);
    let (_, init_req) = world.poll().remove(0);
    let init_ack = world.deliver(To::Slave, &init_req).unwrap().unwrap();
    let auth_req = world.deliver(To::Master, &init_ack).unwrap().unwrap();
    let auth_ack = world.deliver(To::Slave, &auth_req).unwrap().unwrap();
    let client = Client::new(Suite::Cbc, &mut world.rng);
    let init_ack = world.deliver(To::Slave, &client.init_req).unwrap().unwrap();
    let declined = client.attempt(&init_ack);
    let signature = declined.signature([0; 4], &mut world.rng);
    world.deliver(To::Slave, &declined.auth_req([0; 4], &signature)).unwrap();
    assert_eq!(world.differs, [Suite::Cbc.code()]);
    let rdy_req = world.deliver(To::Master, &auth_ack).unwrap().unwrap();
    assert!(world.deliver(To::Slave, &rdy_req).unwrap().is_some());
    world.run();
    world.assert_paired();
}

/// A check that a lost connection ended.
#[test]
fn a_master_that_has_ceased_sends_nothing_until_it_begins_again() {
    let (mut rng, now) = (StdRng::seed_from_u64(1), Instant::now());
    let mut master = Handshake::master(party(0, Suite::Gcm, &[1]), topics(), now);
    for round in 0..2 {
        assert!(master.poll(now, &mut rng).is_none() && master.deadline().is_none(), "{round}");
        master.begin(now, &mut rng);
        assert!(matches!(master.poll(now, &mut rng), Some((_, Action::Send(_)))));
        assert!(master.deadline().is_some());
        master.cease();
    }
    assert!(master.poll(now + Duration::from_secs(3600), &mut rng).is_none());
}
