//! Claim: each primitive, key and sealed byte is the one that a second implementation of `sts-protocol(7)` computes, which
//! was written from that page alone.

use bytes::{BufMut, BytesMut};
use serde_json::Value;

use super::cipher::{Cipher, HEADER_LEN};
use super::exchange::{Ephemeral, SharedSecret, encapsulate};
use super::key_tree::{KeyTree, MAX_NUMBER, StreamKey, TreePath, will_cipher};
use super::pake::Spake2Half;
use super::schedule::{
    Confirmation, Digest, Schedule, SessionCheckMac, SessionCheckTranscript, SessionKeys, Topics, cookie, digest,
    open_once, refusal_mac, seal_once, slave_leaf, tree_node, verify_cookie, verify_refusal,
};
use crate::Rejected;
use crate::role::Role;
use crate::secret::{Key, KeyPurpose, Pake};
use crate::suite::Suite;
use reader::{Fields, Scripted, assert_notices, handshakes, load, unhex};

#[path = "../../tests/vectors/reader.rs"]
pub(super) mod reader;

/// Length in bytes of what an AES-256-GCM tag adds.
const SEALED_TAG_LEN: usize = 16;

fn key<P: KeyPurpose>(bytes: &[u8]) -> Key<P> {
    Key::generate(bytes.len(), |key| key.copy_from_slice(bytes))
}

fn suite(name: &str) -> Suite {
    Suite::from_name(name).unwrap()
}

fn topics(vector: &Value) -> Topics {
    Topics {
        master_to_slave: vector.text("topic_m2s").to_owned(),
        slave_to_master: vector.text("topic_s2m").to_owned(),
    }
}

#[test]
fn hashes_and_the_cookie() {
    let vectors = load("primitives.json");
    for vector in vectors.list("H") {
        let parts: Vec<_> = vector.list("parts").iter().map(|part| unhex(part.as_str().unwrap())).collect();
        let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
        assert_eq!(digest(&parts), vector.array("hash"));
    }
    let node = &vectors["node"];
    let (a, b): (Digest, Digest) = (node.array("a"), node.array("b"));
    assert_eq!([tree_node(&a, &b), tree_node(&b, &a)], [node.array("node"), node.array("swapped")]);
    let vector = &vectors["cookie"];
    let (epoch, asked) = (key(&vector.bytes("epoch_key")), asked(&topics(vector), &vector.bytes("initreq")));
    assert_eq!(cookie(&epoch, &asked), vector.array("cookie"));
    assert_eq!(verify_cookie(&epoch, &asked, &vector.array("cookie")), Ok(()));
}

/// What a cookie covers.
fn asked(Topics { master_to_slave, slave_to_master }: &Topics, init_req: &[u8]) -> Digest {
    digest(&[master_to_slave.as_bytes(), slave_to_master.as_bytes(), &digest(&[init_req])])
}

#[test]
fn both_key_exchanges() {
    let vectors = load("primitives.json");
    let (kem, curve) = (&vectors["mlkem768"], &vectors["x25519"]);
    let mut rng = Scripted::new([curve.bytes("a"), kem.bytes("d"), kem.bytes("z")]);
    let master = Ephemeral::generate(&mut rng);
    assert_eq!((master.x25519(), master.encapsulation_key()), (curve.array("public_a"), kem.array("ek")));
    let mut rng = Scripted::new([curve.bytes("b"), kem.bytes("m")]);
    let slave = encapsulate(&master.x25519(), &master.encapsulation_key(), &mut rng).unwrap();
    assert_eq!((slave.x25519, slave.ciphertext), (curve.array("public_b"), kem.array("ciphertext")));
    let shared = [curve.bytes("shared"), kem.bytes("secret")].concat();
    assert_eq!(slave.shared.expose(), shared);
    assert_eq!(master.agree(&slave.x25519, &slave.ciphertext).unwrap().expose(), shared);
}

/// What each side of SPAKE2 sends and gets; the numbers x and y are drawn as 64 bytes, little-endian.
#[test]
fn spake2_with_a_code() {
    let number = |vector: &Value, name| {
        let mut bytes = vector.bytes(name);
        bytes.reverse();
        bytes.resize(64, 0);
        Scripted::new([bytes])
    };
    for vector in load("primitives.json").list("spake2") {
        let code = vector.text("code").as_bytes();
        let (master, of_master) = super::pake::start(Role::Master, code, number(vector, "x"));
        let (slave, of_slave) = super::pake::start(Role::Slave, code, number(vector, "y"));
        assert_eq!(of_master[1..], vector.bytes("share_master"));
        assert_eq!(of_slave[1..], vector.bytes("share_slave"));
        assert_eq!(master.finish(&of_slave).unwrap(), vector.bytes("key"));
        assert_eq!(slave.finish(&of_master).unwrap(), vector.bytes("key"));
    }
}

/// The same, also with numbers at the edges of their range and beyond the order of the group.
#[test]
fn spake2_with_many_codes_and_numbers() {
    let vectors = load("primitives.json");
    for vector in vectors.list("spake2_runs") {
        let code = vector.text("code").as_bytes();
        let (master, of_master) = super::pake::start(Role::Master, code, Scripted::new([vector.bytes("x")]));
        let (slave, of_slave) = super::pake::start(Role::Slave, code, Scripted::new([vector.bytes("y")]));
        assert_eq!(
            (&of_master[1..], &of_slave[1..]),
            (&vector.bytes("share_master")[..], &vector.bytes("share_slave")[..])
        );
        assert_eq!(master.finish(&of_slave).unwrap(), vector.bytes("key"));
        assert_eq!(slave.finish(&of_master).unwrap(), vector.bytes("key"));
        let half = Spake2Half::draw(Role::Master, code, &mut Scripted::new([]));
        assert!(half.agree(&vector.array("share_slave")).is_ok());
    }
    assert_eq!(vectors.list("spake2_runs").len(), 122);
}

#[test]
fn shares_that_are_refused() {
    let half = Spake2Half::draw(Role::Master, b"QP4SHQV80", &mut Scripted::new([]));
    for share in load("primitives.json").list("spake2_refused") {
        let share = unhex(share.as_str().unwrap()).try_into().unwrap();
        assert_eq!(half.agree(&share), Err(Rejected::NotAuthentic));
    }
}

/// The schedule of one attempt, from the two key exchanges made again.
fn schedule(vector: &Value, attempt: &Value) -> Schedule {
    let (init_req, init_ack) = (attempt.bytes("initreq"), attempt.bytes("initack"));
    let shared = if attempt.has("master") {
        shared_secret(&topics(vector), attempt, &init_req, &init_ack)
    } else {
        SharedSecret::for_test([attempt.bytes("x25519_shared"), attempt.bytes("mlkem_secret")].concat())
    };
    let pake: Option<Key<Pake>> = attempt.has("spake2_key").then(|| key(&attempt.bytes("spake2_key")));
    Schedule::new(&topics(vector), &init_req, &init_ack, &shared, pake.as_ref())
}

/// Both ends' exchange, from what was drawn for it; the keys on the wire are compared with the frames.
fn shared_secret(topics: &Topics, attempt: &Value, init_req: &[u8], init_ack: &[u8]) -> SharedSecret {
    let (master, slave) = (&attempt["master"], &attempt["slave"]);
    let drawn = ["x25519_private", "mlkem_d", "mlkem_z"].map(|name| master.bytes(name));
    let ephemeral = Ephemeral::generate(&mut Scripted::new(drawn));
    assert_eq!(ephemeral.x25519(), init_req[18..50]);
    assert_eq!(ephemeral.encapsulation_key(), init_req[50..1234]);
    let drawn = ["x25519_private", "mlkem_m"].map(|name| slave.bytes(name));
    let ours = encapsulate(&ephemeral.x25519(), &ephemeral.encapsulation_key(), &mut Scripted::new(drawn)).unwrap();
    assert_eq!(ours.x25519, init_ack[33..65]);
    assert_eq!(ours.ciphertext, init_ack[65..1153]);
    let digest = digest(&[init_req]);
    assert_eq!(digest, attempt.array("h_initreq"));
    assert_eq!(digest[..16], init_ack[1..17]);
    let cookie = cookie(&key(&slave.bytes("epoch_key")), &asked(topics, init_req));
    assert_eq!((&cookie[..], &cookie), (&init_ack[17..33], &attempt.array("cookie")));
    let theirs = ephemeral.agree(&ours.x25519, &ours.ciphertext).unwrap();
    assert_eq!(theirs.expose(), ours.shared.expose());
    assert_eq!(theirs.expose(), [attempt.bytes("x25519_shared"), attempt.bytes("mlkem_secret")].concat());
    theirs
}

/// Step 3 of an attempt; returns th2.
fn check_auth_req(vector: &Value, attempt: &Value, schedule: &Schedule) -> Digest {
    let (auth_req, plaintext) = (attempt.bytes("authreq"), attempt.bytes("authreq_plaintext"));
    let clear = auth_req.len() - plaintext.len() - SEALED_TAG_LEN;
    assert_eq!(auth_req[1..17], schedule.attempt());
    assert_eq!(schedule.attempt(), attempt.bytes("th1")[..16]);
    assert_eq!(schedule.hs_m().expose(), attempt.bytes("hs_m"));
    assert_eq!(seal_once(schedule.hs_m(), &auth_req[..clear], &plaintext), auth_req[clear..]);
    assert_eq!(**open_once(&schedule.hs_m(), &auth_req[..clear], &auth_req[clear..]).unwrap(), plaintext[..]);
    let spki = |name: &str| vector[name].bytes("spki");
    if vector.has("master_key") {
        let leaf = schedule.master_leaf(&vector.array("features"), vector.text("master_name"), &spki("master_key"));
        assert_eq!(leaf, attempt.array("leaf_m"));
    }
    let th2 = schedule.th2(&auth_req);
    assert_eq!(th2, attempt.array("th2"));
    assert_eq!(schedule.hs_s(&th2).expose(), attempt.bytes("hs_s"));
    assert_eq!(schedule.refusal(&th2).expose(), attempt.bytes("refusal_key"));
    th2
}

/// Step 4 of an attempt that was answered.
fn check_auth_ack(vector: &Value, attempt: &Value, schedule: &Schedule, th2: &Digest) {
    let (auth_ack, plaintext) = (attempt.bytes("authack"), attempt.bytes("authack_plaintext"));
    assert_eq!(auth_ack[1..17], schedule.attempt());
    assert_eq!(seal_once(schedule.hs_s(th2), &auth_ack[..17], &plaintext), auth_ack[17..]);
    assert_eq!(**open_once(&schedule.hs_s(th2), &auth_ack[..17], &auth_ack[17..]).unwrap(), plaintext[..]);
    let verdict = [u8::try_from(attempt.number("verdict")).unwrap(), suite(vector.text("slave_suite")).code()];
    assert_eq!(plaintext[..2], verdict);
    let (features, spki) = (vector.array("features"), vector["slave_key"].bytes("spki"));
    assert_eq!(slave_leaf(th2, &verdict, &features, vector.text("slave_name"), &spki), attempt.array("leaf_s"));
    if verdict[0] == 0 {
        check_session(attempt, &schedule.session(th2, &auth_ack));
    }
}

/// The session that an attempt led to, and steps 5 to 8.
fn check_session(attempt: &Value, session: &SessionKeys) {
    assert_eq!((session.th3, session.id), (attempt.array("th3"), attempt.array("id")));
    for (key, name) in [(&session.tree_m2s, "tree_m2s"), (&session.tree_s2m, "tree_s2m")] {
        assert_eq!(key.expose(), attempt.bytes(name));
    }
    for (key, name) in [(&session.side_m2s, "side_m2s"), (&session.side_s2m, "side_s2m")] {
        assert_eq!(key.expose(), attempt.bytes(name));
    }
    assert_eq!(session.confirm.expose(), attempt.bytes("confirm"));
    for (step, name) in [
        (Confirmation::Request, "rdyreq"),
        (Confirmation::SlaveReady, "rdyack_slave_ready"),
        (Confirmation::MasterReady, "rdyack_master_ready"),
        (Confirmation::SlaveDone, "rdyack_slave_done"),
    ] {
        assert_eq!(attempt.bytes(name)[17..], step.mac(session), "{name}");
    }
}

#[test]
fn the_key_schedule_of_whole_handshakes() {
    for (name, vector) in handshakes() {
        let attempts = vector.list("attempts");
        for attempt in attempts {
            let schedule = schedule(&vector, attempt);
            let th2 = check_auth_req(&vector, attempt, &schedule);
            if attempt.has("authack") {
                check_auth_ack(&vector, attempt, &schedule, &th2);
            }
        }
        assert!(attempts.iter().any(|attempt| attempt.has("authack")), "{name}");
    }
}

#[test]
fn refusals() {
    for vector in load("refusals.json").as_array().unwrap() {
        let refusal = vector.bytes("refusal");
        let schedule = schedule(vector, vector);
        let th2 = if vector.has("hs_m") {
            check_auth_req(vector, vector, &schedule)
        } else {
            // The two codes differ, so AUTHREQ does not open; the key of the refusal is the same on both sides.
            schedule.th2(&vector.bytes("authreq"))
        };
        let key = schedule.refusal(&th2);
        assert_eq!(key.expose(), vector.bytes("refusal_key"));
        assert_eq!(u32::from(refusal[17]), vector.number("reason"));
        assert_eq!(refusal_mac(&key, &refusal[..18]), refusal[18..]);
        assert_eq!(verify_refusal(&key, &refusal[..18], refusal[18..].try_into().unwrap()), Ok(()));
    }
}

#[test]
fn session_checks() {
    for vector in load("still_there.json").as_array().unwrap() {
        let (session, nonce, about) = (vector.array("session_id"), vector.array("fresh"), vector.array("asked_id"));
        let asker = Role::from_name(vector.text("role_of_asker")).unwrap();
        let transcript = SessionCheckTranscript { asker, session: &session, nonce: &nonce, about: &about };
        let confirm = key(&vector.bytes("confirm"));
        for (mac, name) in [
            (SessionCheckMac::Query, "question"),
            (SessionCheckMac::Present, "here"),
            (SessionCheckMac::Lost, "lost"),
            (SessionCheckMac::Deleted, "deleted"),
        ] {
            assert_eq!(mac.mac(&confirm, &transcript), vector.bytes(name)[33..], "{name}");
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(value.into(), 16).unwrap();
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// The nodes that are stored, as a vector has them: the root is the empty path there.
fn nodes(tree: &KeyTree) -> Value {
    let node = |(path, key): (TreePath, &Key<_>)| (path.to_string().replace('-', ""), Value::from(hex(key.expose())));
    Value::Object(tree.nodes().map(node).collect())
}

#[test]
fn the_tree_of_stream_keys() {
    let vectors = load("keytree.json");
    let salt = vectors.array("salt");
    let root = || KeyTree::new(key(&vectors.bytes("root")));
    for vector in vectors.list("leaves") {
        let leaf = root().leaf(vector.number("number")).unwrap();
        let mut stream = leaf.first_key(salt);
        assert_eq!(stream.key().expose(), vector.bytes("first_key"));
        assert_eq!(leaf.will_key().expose(), vector.bytes("will_key"));
        stream.advance_to(1);
        assert_eq!(stream.key().expose(), vector.bytes("next_key"));
    }
    let mut tree = root();
    for vector in vectors.list("after_taking") {
        assert_eq!(tree.take_lowest().unwrap().0, vector.number("taken"));
        assert_eq!(nodes(&tree), vector["nodes"]);
    }
    let mut tree = root();
    for vector in vectors.list("after_receiving") {
        let number = vector.number("received");
        assert!(tree.remove(number, number));
        assert_eq!(nodes(&tree), vector["nodes"], "{number}");
    }
    let mut part = root().leaf(0).unwrap().first_key(salt);
    for vector in vectors.list("parts_of_stream_0") {
        part.advance_to(StreamKey::part_of(vector.number("first_seq")));
        assert_eq!(part.key().expose(), vector.bytes("key"));
    }
    let side = key(&vectors.bytes("side"));
    for vector in vectors.list("side_streams") {
        let key = StreamKey::of_side_stream(&side, vector.number("stream"), vector.array("salt"));
        assert_eq!(key.key().expose(), vector.bytes("first_key"));
    }
}

/// The cipher of a sealed frame, by the way of its stream.
fn cipher(vectors: &Value, vector: &Value) -> Cipher {
    let suite = suite(vectors.text("suite"));
    let (stream, salt) = (vector.number("stream"), vector.array("salt"));
    let leaf = || KeyTree::new(key(&vectors.bytes("tree"))).leaf(stream).unwrap();
    if vector.number("type") == 0x29 {
        assert_eq!(leaf().will_key().expose(), vector.bytes("will_key"));
        return will_cipher(&leaf().will_key(), salt, suite);
    }
    let mut stream_key = if stream > MAX_NUMBER {
        StreamKey::of_side_stream(&key(&vectors.bytes("side")), stream, salt)
    } else {
        leaf().first_key(salt)
    };
    assert_eq!(stream_key.key().expose(), vector.bytes("first_key"));
    stream_key.advance_to(StreamKey::part_of(vector.number("seq")));
    assert_eq!(stream_key.key().expose(), vector.bytes("part_key"));
    stream_key.cipher(suite)
}

#[test]
fn sealed_frames() {
    for file in ["sealed_gcm.json", "sealed_cbc.json", "sealed_ecb.json"] {
        let vectors = load(file);
        for vector in vectors.list("frames") {
            let title = vector.text("title");
            let cipher = cipher(&vectors, vector);
            let (header, plaintext, frame) = (vector.bytes("header"), vector.bytes("plaintext"), vector.bytes("frame"));
            let mut sealed = BytesMut::from(&header[..]);
            sealed.resize(HEADER_LEN + cipher.head_room(), 0);
            sealed.put_slice(&plaintext);
            let iv = vector.has("iv").then(|| vector.bytes("iv"));
            let mut rng = Scripted::new(iv);
            cipher.seal(&mut sealed, &mut rng);
            assert!(rng.is_used_up(), "{file}, {title}");
            assert_eq!(sealed[..], frame[..], "{file}, {title}");
            let mut opened = BytesMut::new();
            assert_eq!(cipher.open(&frame, &mut opened), Ok(()), "{file}, {title}");
            assert_eq!(opened[..], plaintext[..], "{file}, {title}");
        }
    }
}

/// Otherwise a test that compares nothing would look like one that agrees.
#[test]
fn one_wrong_bit_in_any_file_is_noticed() {
    for (file, pointer, test) in [
        ("primitives.json", "/H/0/hash", hashes_and_the_cookie as fn()),
        ("primitives.json", "/cookie/cookie", hashes_and_the_cookie),
        ("primitives.json", "/x25519/shared", both_key_exchanges),
        ("primitives.json", "/mlkem768/ciphertext", both_key_exchanges),
        ("primitives.json", "/spake2/0/key", spake2_with_a_code),
        ("primitives.json", "/spake2_runs/121/share_slave", spake2_with_many_codes_and_numbers),
        ("refusals.json", "/2/refusal", refusals),
        ("still_there.json", "/3/lost", session_checks),
        ("keytree.json", "/leaves/0/will_key", the_tree_of_stream_keys),
        ("keytree.json", "/side_streams/0/first_key", the_tree_of_stream_keys),
        ("sealed_gcm.json", "/frames/0/frame", sealed_frames),
        ("sealed_cbc.json", "/frames/0/frame", sealed_frames),
        ("sealed_ecb.json", "/frames/0/frame", sealed_frames),
    ] {
        assert_notices(file, pointer, test);
    }
    for (file, _) in handshakes() {
        assert_notices(file, "/attempts/0/hs_s", the_key_schedule_of_whole_handshakes);
    }
}
