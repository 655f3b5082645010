//! Claim: both machines send, byte for byte, what a second implementation of `sts-protocol(7)` computes for the same keys, and
//! accept what it sends; it was written from that page alone.
//!
//! A master with a code draws its half of SPAKE2 from a seed, so the vectors cannot give it one: of those, the slave's side
//! is compared here, and the keys of both in `crypto/vectors.rs`.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use super::*;
use crate::crypto::schedule::{Digest, Schedule};
use crate::files::{Dir, Guard};
use crate::handshake::merkle::{MerkleTree, root_over};
use crate::handshake::session_check::{SessionPresence, SessionQuery, query_session, reply};
use crate::identity::PublicKey;
use crate::message::{InitAck, InitReq};
use crate::secret::Key;
use crate::session::{Session, pair};
use crate::vectors::{Fields, Scripted, assert_notices, handshakes, load, unhex};

/// An identity of the vectors, read as sts-pair reads its own.
fn identity(pem: &str) -> Arc<Identity> {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("identity.pem");
    std::fs::write(&file, pem).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let dir = Dir::create(home.path(), Guard::Public).unwrap();
    Arc::new(Identity::load(&dir).unwrap().unwrap())
}

/// One end of the link of a whole handshake.
fn party_of(vector: &Value, role: Role) -> Party {
    let (own, other, suite) = match role {
        Role::Master => ("master", "slave", "suite"),
        Role::Slave => ("slave", "master", "slave_suite"),
    };
    let name = |of: &str| vector.text(&format!("{of}_name")).parse().unwrap();
    let key = |of: &str| &vector[format!("{of}_key")];
    let peer = Peer { name: name(other), key: PublicKey::from_der(&key(other).bytes("spki")).unwrap() };
    let trust = if vector.has("code") {
        let code = Code::parse(vector.text("code")).unwrap();
        Trust::Code(Enrolment::new(code, MAX_CODE_ATTEMPTS, known_before(vector, &peer), Vec::new()))
    } else {
        Trust::Pinned([peer].into_iter().collect())
    };
    let suite = Suite::from_name(vector.text(suite)).unwrap();
    Party { identity: identity(key(own).text("pem")), name: name(own), suite, trust }
}

/// Where the slave cannot pin the master: another key is pinned under its name.
fn known_before(vector: &Value, peer: &Peer) -> Vec<Peer> {
    let has_conflict = vector.list("attempts").iter().any(|attempt| attempt.has("verdict") && attempt["verdict"] == 2);
    has_conflict.then(|| Peer { name: peer.name.clone(), key: peer_of(2).key }).into_iter().collect()
}

fn topics_of(vector: &Value) -> Topics {
    let topic = |name| vector.text(name).to_owned();
    Topics { master_to_slave: topic("topic_m2s"), slave_to_master: topic("topic_s2m") }
}

fn drawn(of: &Value, names: &[&str]) -> Scripted {
    Scripted::new(names.iter().map(|name| of.bytes(name)))
}

/// The attempts of a handshake, by the INITREQ that they answer.
fn by_init_req(vector: &Value) -> Vec<&[Value]> {
    vector.list("attempts").chunk_by(|one, other| one["initreq"] == other["initreq"]).collect()
}

/// A master that has sent the INITREQ of a vector.
fn master_of(vector: &Value, attempt: &Value, now: Instant) -> Master {
    let mut master = Master::new(party_of(vector, Role::Master), topics_of(vector), now);
    let mut rng = drawn(&attempt["master"], &["x25519_private", "mlkem_d", "mlkem_z", "random"]);
    master.begin(now, &mut rng);
    assert!(rng.is_used_up());
    assert_eq!(master.poll(now, &mut rng), Some(attempt.bytes("initreq")));
    master
}

/// The AUTHREQs to all INITACKs of a batch, under one signature: the master has used up those that it makes at once.
fn auth_reqs(master: &mut Master, batch: &[Value], now: &mut Instant) -> Vec<Vec<u8>> {
    let mut rng = StdRng::seed_from_u64(1);
    for cookie in 0..2 {
        let mut forged = batch[0].bytes("initack");
        forged[17] ^= 1 << cookie;
        assert!(matches!(master.accept(&forged, *now, &mut rng), Ok(Action::Send(_))));
    }
    for attempt in batch {
        assert!(matches!(master.accept(&attempt.bytes("initack"), *now, &mut rng), Ok(Action::Wait)));
    }
    *now += Duration::from_millis(250);
    let mut rng = drawn(&batch[0], &["pss_salt_m"]);
    let mut sent = Vec::new();
    while let Some(frame) = master.poll(*now, &mut rng) {
        sent.extend(Some(frame).filter(|frame| FrameType::of(frame) == Ok(FrameType::AuthReq)));
    }
    assert!(rng.is_used_up());
    sent
}

#[test]
fn a_master_sends_and_accepts_the_frames_of_the_vectors() {
    for (name, vector) in handshakes().iter().filter(|(_, vector)| !vector.has("code")) {
        for batch in by_init_req(vector) {
            let mut now = Instant::now();
            let mut master = master_of(vector, &batch[0], now);
            let expected: Vec<_> = batch.iter().map(|attempt| attempt.bytes("authreq")).collect();
            assert!(auth_reqs(&mut master, batch, &mut now) == expected, "{name}: AUTHREQ");
            for attempt in batch.iter().filter(|attempt| attempt.has("authack")) {
                finish_master(&mut master, attempt, now);
            }
        }
    }
}

/// Steps 4 to 8.
fn finish_master(master: &mut Master, attempt: &Value, now: Instant) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut accept = |name| master.accept(&attempt.bytes(name), now, &mut rng).unwrap();
    let answer = accept("authack");
    if attempt["verdict"] == 1 {
        assert!(matches!(answer, Action::Fail(HandshakeFailure::SuiteDiffers { theirs: 2, .. }, None)));
        return;
    }
    assert!(matches!(answer, Action::Send(frame) if frame == attempt.bytes("rdyreq")));
    let Action::StoreCurrent(session, frame) = accept("rdyack_slave_ready") else { panic!("no session") };
    assert_eq!(frame, attempt.bytes("rdyack_master_ready"));
    assert_session(&session, attempt);
    assert!(matches!(accept("rdyack_slave_done"), Action::Finished(finished) if finished == session));
}

fn assert_session(Established { keys, .. }: &Established, attempt: &Value) {
    assert_eq!((keys.id, keys.th3), (attempt.array("id"), attempt.array("th3")));
    assert_eq!(keys.confirm.expose(), attempt.bytes("confirm"));
    assert_eq!([&keys.tree_m2s, &keys.tree_s2m].map(Key::expose), ["tree_m2s", "tree_s2m"].map(|it| attempt.bytes(it)));
    assert_eq!([&keys.side_m2s, &keys.side_s2m].map(Key::expose), ["side_m2s", "side_s2m"].map(|it| attempt.bytes(it)));
}

/// Steps 1 and 2 as the slave of a vector draws its part.
fn slave_schedule(vector: &Value, attempt: &Value, slave: &Slave) -> Schedule {
    let (init_req, init_ack) = (attempt.bytes("initreq"), attempt.bytes("initack"));
    let parsed = InitReq::parse(&init_req).unwrap();
    let mut rng = drawn(&attempt["slave"], &["x25519_private", "mlkem_m"]);
    if !vector.has("code") {
        let exchanged = slave.epochs().current().exchange_keys(slave.party(), &topics_of(vector), &parsed, &mut rng);
        let (made, schedule) = exchanged.unwrap();
        assert!(rng.is_used_up());
        assert_eq!(made, init_ack);
        return schedule;
    }
    let ours = encapsulate(parsed.x25519, parsed.encapsulation_key, &mut rng).unwrap();
    let share = attempt.array("spake2_share_slave");
    let (cookie, reference) = (attempt.array("cookie"), init_req_reference(&init_req));
    assert_eq!(InitAck::frame(&reference, &cookie, &ours.x25519, &ours.ciphertext, Some(&share)), init_ack);
    let pake = Key::generate(32, |key| key.copy_from_slice(&attempt.bytes("spake2_key")));
    Schedule::new(&topics_of(vector), &init_req, &init_ack, &ours.shared, Some(&pake))
}

#[test]
fn a_slave_sends_and_accepts_the_frames_of_the_vectors() {
    for (name, vector) in handshakes() {
        let answered: Vec<_> = vector.list("attempts").iter().filter(|attempt| attempt.has("authack")).collect();
        let (now, topics) = (Instant::now(), topics_of(&vector));
        let mut slave =
            Slave::new(party_of(&vector, Role::Slave), now, &mut drawn(&answered[0]["slave"], &["epoch_key"]));
        for attempt in &answered {
            let schedule = slave_schedule(&vector, attempt, &slave);
            slave.epochs_mut().current_mut().remember(&topics, &attempt.array("h_initreq"), schedule);
            let action = slave.accept(&topics, &attempt.bytes("authreq"), now, &mut StdRng::seed_from_u64(1));
            assert!(matches!(action, Ok(Action::Wait)), "{name}: AUTHREQ: {action:?}");
        }
        let mut rng = drawn(answered[0], &["pss_salt_s"]);
        for attempt in &answered {
            let (_, action) = slave.poll(now, &mut rng).unwrap();
            let (Action::MasterAuthenticated(sent) | Action::Fail(_, Some(sent))) = action else { panic!("{name}") };
            assert_eq!(sent, attempt.bytes("authack"), "{name}");
        }
        assert!(rng.is_used_up());
        // A code is good for one of them.
        let paired = if vector.has("code") { 1 } else { answered.len() };
        for attempt in answered[..paired].iter().filter(|attempt| attempt["verdict"] == 0) {
            finish_slave(&mut slave, &topics, attempt, now);
        }
    }
}

/// Steps 5 to 8.
fn finish_slave(slave: &mut Slave, topics: &Topics, attempt: &Value, now: Instant) {
    let mut rng = StdRng::seed_from_u64(1);
    let mut accept = |name| slave.accept(topics, &attempt.bytes(name), now, &mut rng).unwrap();
    let Action::StorePending(session, frame) = accept("rdyreq") else { panic!("no session") };
    assert_eq!(frame, attempt.bytes("rdyack_slave_ready"));
    assert_session(&session, attempt);
    let Action::Promote(promoted, frame) = accept("rdyack_master_ready") else { panic!("not promoted") };
    assert_eq!((promoted, frame), (session, attempt.bytes("rdyack_slave_done")));
}

#[test]
fn signatures_and_the_trees_below_them() {
    let vectors = load("primitives.json");
    let vector = &vectors["pss"];
    let (identity, message) = (identity(vector["key"].text("pem")), vector.bytes("message"));
    assert_eq!(identity.public().der(), vector["key"].bytes("spki"));
    assert_eq!(identity.public().fingerprint().to_string(), vector["key"].text("fingerprint"));
    let signature = identity.sign(&message, &mut drawn(vector, &["salt"])).unwrap();
    assert_eq!(signature, vector.bytes("signature"));
    let digest = |hex: &Value| -> Digest { unhex(hex.as_str().unwrap()).try_into().unwrap() };
    for vector in vectors.list("hash_trees") {
        let leaves: Vec<_> = vector.list("leaves").iter().map(digest).collect();
        let tree = MerkleTree::new(leaves.clone());
        assert_eq!(tree.root(), vector.array("root"));
        for (index, path) in vector["paths"].as_object().unwrap() {
            let index: usize = index.parse().unwrap();
            let path: Vec<_> = path.as_array().unwrap().iter().map(digest).collect();
            assert_eq!((tree.path(index), root_over(&leaves[index], &path)), (path, tree.root()));
        }
    }
}

#[test]
fn codes() {
    let vectors = load("codes.json");
    for vector in vectors.list("valid") {
        let code = Code::parse(vector.text("shown")).unwrap();
        assert_eq!(
            (code.expose().as_str(), &code.password()[..]),
            (vector.text("shown"), vector.text("code").as_bytes())
        );
    }
    for text in vectors.list("invalid") {
        assert!(Code::parse(text.as_str().unwrap()).is_err(), "{text}");
    }
    for (text, code) in vectors["texts"].as_object().unwrap() {
        assert_eq!(*Code::parse(text).unwrap().password(), code.as_str().unwrap().as_bytes(), "{text}");
    }
}

#[test]
fn session_checks() {
    for vector in load("still_there.json").as_array().unwrap() {
        let (id, about) = (vector.array("session_id"), vector.array("asked_id"));
        let session = |role| {
            let (master, slave) = pair(1, Suite::Gcm);
            let end = if role == Role::Master { master } else { slave };
            let confirm = Key::generate(32, |key| key.copy_from_slice(&vector.bytes("confirm")));
            Session { id, confirm, ..end }
        };
        let asker = Role::from_name(vector.text("role_of_asker")).unwrap();
        let query = SessionQuery::new(session(asker), about, &mut drawn(vector, &["fresh"]));
        let question = vector.bytes("question");
        assert_eq!((query.frame(), query_session(&question)), (question.clone(), Some(id)));
        for (name, presence) in
            [("here", SessionPresence::Present), ("lost", SessionPresence::Lost), ("deleted", SessionPresence::Deleted)]
        {
            assert_eq!(query.presence(&vector.bytes(name)), Ok(presence));
        }
        let (ours, other) = (session(asker.other()), Session { id: about, ..session(asker.other()) });
        assert_eq!(reply(&question, [&ours, &other], &[]).unwrap().0, vector.bytes("here"));
        if id != about {
            assert_eq!(reply(&question, [&ours], &[]).unwrap().0, vector.bytes("lost"));
            assert_eq!(reply(&question, [&ours], &[about]).unwrap().0, vector.bytes("deleted"));
        }
    }
}

/// Otherwise a test that compares nothing would look like one that agrees.
#[test]
fn one_wrong_bit_is_noticed() {
    for (file, pointer, test) in [
        ("codes.json", "/valid/0/code", codes as fn()),
        ("primitives.json", "/hash_trees/0/leaves/0", signatures_and_the_trees_below_them),
        ("still_there.json", "/0/question", session_checks),
        ("handshake_key_1_1.json", "/attempts/0/authreq", a_master_sends_and_accepts_the_frames_of_the_vectors),
        ("handshake_key_1_1.json", "/attempts/0/authack", a_slave_sends_and_accepts_the_frames_of_the_vectors),
    ] {
        assert_notices(file, pointer, test);
    }
}
