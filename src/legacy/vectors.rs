//! Claim: every session that was captured with the old program happens again, byte for byte, with our machines in our part of it.
//!
//! `tests/legacy/sessions` has them; its README says where they are from.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::chain::Chain;
use super::frame::{Frame, Id};
use super::pairing::{Draw, Pairing, PairingOutput};
use super::session::{Decrypted, LegacySession, Mode, Reading, chain_start};
use crate::crypto::legacy::{LegacyCipher, SecretKey};
use crate::role::Role;
use crate::secret::Key;
use crate::vectors::{Fields, load_from};

/// Those of a whole session: a pairing, then texts.
const SESSIONS: [&str; 10] = [
    "cbc_ours-master_c-slave.json",
    "cbc_ours-slave_c-master.json",
    "ecb_ours-master_c-slave.json",
    "ecb_ours-slave_c-master.json",
    "extra_cbc_c-key-62-digits.json",
    "extra_cbc_ours-master_our-key-62-digits.json",
    "extra_cbc_ours-master_retry-after-refusal.json",
    "extra_cbc_shared-first-byte-zero_accepted.json",
    "extra_ecb_ours-slave_our-key-62-digits.json",
    "extra_ecb_shared-first-and-other-byte-zero_accepted.json",
];
/// Those of a chain that was brought out of step.
const OUT_OF_STEP: [&str; 3] =
    ["desync_cbc_lost.json", "desync_cbc_crossed_plain-rule.json", "desync_cbc_crossed_repair-rule.json"];

fn session(file: &str) -> Value {
    load_from("tests/legacy/sessions", file)
}

/// What was drawn when the session was captured.
struct Drawn {
    ids: VecDeque<Id>,
    keys: VecDeque<SecretKey>,
}

impl Drawn {
    fn of(captured: &Value, handshake: &[Value]) -> Self {
        let init_req = handshake[0].bytes("payload_hex");
        let Some(Frame::InitReq { master, slave }) = Frame::parse(&init_req) else { panic!("no INITREQ") };
        let keys = ["first_private_key_hex", "our_private_key_hex"].into_iter().filter(|name| captured.has(name));
        let keys = keys.map(|name| SecretKey::from_bytes(&captured.array(name)).unwrap()).collect();
        Self { ids: [master, slave].into(), keys }
    }
}

impl Draw for Drawn {
    fn id(&mut self) -> Id {
        self.ids.pop_front().unwrap()
    }

    fn secret_key(&mut self) -> SecretKey {
        self.keys.pop_front().expect("no more keys than were drawn then")
    }
}

fn role(captured: &Value) -> Role {
    if captured.text("our_role") == "master" { Role::Master } else { Role::Slave }
}

/// The message of this text; without one, KILL.
fn sealed(session: &mut LegacySession, text: Option<&str>) -> Vec<u8> {
    match text {
        Some(text) => session.seal(text.as_bytes()),
        None => session.kill(),
    }
}

fn is_handshake(message: &Value) -> bool {
    !["ENC", "KILL"].contains(&message.text("kind"))
}

/// Has the pairing again; returns the key, if one was stored.
fn pair(captured: &Value, handshake: &[Value]) -> (Option<Key<LegacyCipher>>, bool) {
    let (mut draw, mut now) = (Drawn::of(captured, handshake), Instant::now());
    let mut pairing = Pairing::new(role(captured), captured.text("aes") == "cbc");
    pairing.begin(now, &mut draw);
    let (mut key, mut is_agreed) = (None, false);
    let mut next = |pairing: &mut Pairing, draw: &mut Drawn, now| {
        while let Some(output) = pairing.poll(now, true, draw) {
            match output {
                PairingOutput::Send(frame) => return Some(frame),
                PairingOutput::Store(stored) => key = Some(stored),
                PairingOutput::Agreed => is_agreed = true,
                PairingOutput::StoreOther(_) | PairingOutput::Abandon => panic!("there is one key"),
            }
        }
        None
    };
    for message in handshake {
        let payload = message.bytes("payload_hex");
        if message.text("from") == "c" {
            let frame = Frame::parse(&payload).expect("the old program sends frames");
            assert!(pairing.accept(&frame, now, &mut draw), "{frame:?}");
            continue;
        }
        let frame = next(&mut pairing, &mut draw, now).unwrap_or_else(|| {
            now += Duration::from_secs(2);
            next(&mut pairing, &mut draw, now).expect("a message is due")
        });
        assert_eq!(frame.encode(), payload, "{}", message.text("decoded_text"));
    }
    let rest = next(&mut pairing, &mut draw, now + Duration::from_millis(1500));
    assert_eq!(rest, None);
    (key, is_agreed)
}

#[test]
fn each_captured_session_happens_again() {
    for file in SESSIONS {
        let captured = session(file);
        let (handshake, texts): (Vec<_>, Vec<_>) = captured.list("messages").iter().cloned().partition(is_handshake);
        let (key, is_agreed) = pair(&captured, &handshake);
        let key = key.expect("a session is stored");
        assert!(is_agreed, "{file}");
        assert_eq!(key.expose(), captured.bytes("shared_key_hex"), "{file}");
        let mut session = LegacySession::new([0; 8], role(&captured), key, captured.text("aes") == "cbc", 0);
        for message in texts {
            let (payload, text) = (message.bytes("payload_hex"), message.text("decoded_text"));
            let text = text.strip_prefix("ENC:");
            if message.text("from") == "ours" {
                assert_eq!(sealed(&mut session, text), payload, "{file}: {text:?}");
            } else {
                let expected = text.map_or(Decrypted::Kill, |text| Decrypted::Text(text.into()));
                assert_eq!(session.open(&payload, Reading::Write), expected, "{file}");
            }
        }
    }
}

#[test]
fn a_key_that_the_old_program_refused_agrees_nothing() {
    let captured = session("refused_cbc_ours-slave_zero-byte.json");
    let handshake = captured.list("messages");
    let (before, answers) = handshake.split_at(7);
    // We would not have chosen this key: with a second one, that is what is sent.
    let mut draw = Drawn::of(&captured, handshake);
    draw.keys.push_back(SecretKey::from_bytes(&[5; 32]).unwrap());
    let now = Instant::now();
    let mut slave = Pairing::new(Role::Slave, true);
    slave.begin(now, &mut draw);
    for message in before.iter().filter(|message| message.text("from") == "c") {
        assert!(slave.accept(&Frame::parse(&message.bytes("payload_hex")).unwrap(), now, &mut draw));
    }
    assert!(draw.keys.is_empty(), "the first key is not used");
    let sent: Vec<_> = std::iter::from_fn(|| slave.poll(now, true, &mut draw))
        .filter_map(|output| if let PairingOutput::Send(frame) = output { Some(frame.encode()) } else { None })
        .collect();
    assert_eq!(sent[3], answers[0].bytes("payload_hex"), "RDYACK");
    assert_ne!(sent[4], answers[1].bytes("payload_hex"), "another RDYREQ");
}

#[test]
fn the_old_program_accepts_what_its_own_check_accepts() {
    for pair in session("computed_zero-byte-keys.json").list("pairs") {
        let peer = |name: &str| {
            let mut data = [b"RDYREQ:", pair.text(name).as_bytes()].concat();
            for byte in &mut data {
                *byte = byte.reverse_bits();
            }
            data[0] ^= 1;
            let Some(Frame::RdyReq(key)) = Frame::parse(&data) else { panic!("{name}") };
            key
        };
        let secret = |name: &str| SecretKey::from_bytes(&pair.array(name)).unwrap();
        let (a, b) = (secret("a_private_key_hex"), secret("b_private_key_hex"));
        assert_eq!((a.public(), b.public()), (peer("a_rdyreq_data"), peer("b_rdyreq_data")));
        let key = a.agree(&b.public()).unwrap();
        assert!(key == b.agree(&a.public()).unwrap() && key.expose() == pair.bytes("shared_key_hex"));
        assert_eq!(super::pairing::is_accepted(&key), pair["c_program_accepts"].as_bool().unwrap());
    }
}

/// Ours that crossed one of the other device was made before we had that.
#[test]
fn what_the_old_program_sent_out_of_step_is_read_if_anybody_could() {
    for file in OUT_OF_STEP {
        let captured = session(file);
        let (key, is_agreed) = pair(&captured, captured.list("handshake"));
        let key = key.filter(|_| is_agreed).expect("a session is agreed");
        assert_eq!(key.expose(), captured.bytes("shared_key_hex"));
        let mut session = LegacySession::new([0; 8], role(&captured), key, true, 0);
        let mut messages: VecDeque<_> = captured.list("messages").iter().cloned().collect();
        let is_crossing = |message: &Value| message.text("note").starts_with("crossing");
        if let Some(at) = messages.iter().position(is_crossing) {
            messages.swap(at, at + 1);
        }
        let mut damaged = Vec::new();
        while let Some(message) = messages.pop_front() {
            let (payload, text) = (message.bytes("payload_hex"), message.text("decoded_text"));
            let text = text.strip_prefix("ENC:");
            if message.text("from") == "ours" {
                let Mode::Cbc(chain) = &mut session.mode else { unreachable!() };
                // Where the captured peer had the plain rule, ours would send another one.
                if file != "desync_cbc_crossed_repair-rule.json" {
                    *chain.next = message.array("iv_hex");
                }
                assert_eq!(sealed(&mut session, text), payload, "{file}: {text:?}");
            } else if message["delivered"] == true {
                match session.open(&payload, Reading::Write) {
                    Decrypted::Text(opened) => assert_eq!(opened, text.unwrap().as_bytes(), "{file}"),
                    Decrypted::Damaged(rest) => {
                        assert_eq!(rest, &text.unwrap().as_bytes()[12..]);
                        damaged.push(text.unwrap().to_owned());
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        // Only after two of its messages were lost.
        assert_eq!(damaged.len(), usize::from(file == "desync_cbc_lost.json"), "{damaged:?}");
    }
}

#[test]
fn a_chain_starts_with_half_of_the_key() {
    let key = Key::generate(32, |bytes| bytes.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value));
    assert_eq!(*Chain::new(chain_start(&key)).next, std::array::from_fn::<u8, 16, _>(|at| u8::try_from(at).unwrap()));
}
