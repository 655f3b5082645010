use rand::Rng;
use zeroize::ZeroizeOnDrop;

use super::*;
use crate::{hex, stack};

fn schedule() -> Schedule {
    schedule_with(None)
}

fn schedule_with(pake: Option<&Key<Pake>>) -> Schedule {
    let topics = Topics { master_to_slave: "m2s".into(), slave_to_master: "s2m".into() };
    Schedule::new(&topics, b"request", b"acknowledgement", &SharedSecret::for_test((0..64).collect()), pake)
}

/// Expected values from a separate computation with another language's HMAC and SHA-256.
#[test]
fn known_answers() {
    let schedule = schedule();
    let th2 = schedule.th2(b"authreq");
    let session = schedule.session(&th2, b"authack");
    let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
    expected(&schedule.attempt(), "479f8c6dca4390737a7108d1d5d6aaa1");
    expected(schedule.hs_m().expose(), "aadef3166a1010469b9457a3f8e6802d81b4d2fa5f33299df5de932104176e58");
    expected(schedule.hs_s(&th2).expose(), "a8ce7de9bd447aa94c02b5b4e2426560887d4f4007d28a92246ab2433277a8cd");
    expected(schedule.refusal(&th2).expose(), "6ad4c18d0cb60e6e9f20fabda61188e803bc98649010ebd4f8ab8c3cd514a9be");
    expected(&session.id, "96fdc7796f72772c");
    for (key, text) in [
        (session.tree_m2s.expose(), "99c7bc74209194463d25f6f59dc4173fb2585e0b364db503989012e340d396f3"),
        (session.tree_s2m.expose(), "7431b59c502a93a76c2a951a044158ff3d5f73eb72df3e8f0505ad94201a44ac"),
        (session.side_m2s.expose(), "0727d68308515f432af8234ff6947ae46d5bef14f9add95c7f95d9615f6b9efa"),
        (session.side_s2m.expose(), "08a3c37f9ac64dfc67d496cccc2445a9cc3b307869467e3e9b8ab0faf1d1a181"),
    ] {
        expected(key, text);
    }
    for (step, text) in [
        (Confirmation::Request, "c28258320e1bdec69cd0667702f4f9c71b787b33405b7da78f5456d4da9e84ee"),
        (Confirmation::SlaveReady, "fbb14784143b77438060b11d3f427db0d0db562a9f7cdd7014e47bbe2c3f83fa"),
        (Confirmation::MasterReady, "7bf24c6bf05aaba7eb5a04a72a361ca75258ea9f057f95fa18f9df4153ef7fc8"),
        (Confirmation::SlaveDone, "6858fa9ff91bc45c394d19f401cb38c0ef93889a534226eb295a464a7e39260b"),
    ] {
        expected(&step.mac(&session), text);
    }
}

/// The same with a code: everything but th1 and the refusal depends on it.
#[test]
fn known_answers_with_a_code() {
    let schedule = schedule_with(Some(&Key::new(Zeroizing::new((64..96).collect()))));
    let th2 = schedule.th2(b"authreq");
    let session = schedule.session(&th2, b"authack");
    let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
    expected(&schedule.attempt(), "479f8c6dca4390737a7108d1d5d6aaa1");
    expected(schedule.hs_m().expose(), "4b36154f9ee4ba3b1ab5b2a4a35d10183a7b72a5f4e3d9adb7867f9fc5b584e5");
    expected(schedule.hs_s(&th2).expose(), "8fd9fd46a63c9a6b7e1c951c9270d49916a311ac24fd7bd805661b11a6c4a56c");
    expected(schedule.refusal(&th2).expose(), "6ad4c18d0cb60e6e9f20fabda61188e803bc98649010ebd4f8ab8c3cd514a9be");
    expected(&session.id, "92246b0813b0935d");
    expected(session.tree_m2s.expose(), "4351e6c2a7a779366a765c1d0821b776ae0e1d50bfdaa2c7bf06fcf288153938");
    expected(session.side_s2m.expose(), "0d5c1cfdbd1ecc083c34aa472a4fce0d53c2262c5b2722dfc326b9e18787d0d0");
    expected(session.confirm.expose(), "8fd1569532c2340c60e183c7e0601060e0ba95b3ef3d4df1cef88b95be160e6f");
}

/// Expected values from a separate computation, as above.
#[test]
fn known_answers_of_cookie_leaves_and_signed_texts() {
    let expected = |bytes: &[u8], text: &str| assert_eq!(bytes, hex(text));
    let (schedule, features) = (schedule(), [1, 2, 3, 4]);
    let epoch = Key::new(Zeroizing::new((0..32).collect()));
    let made = cookie(&epoch, &digest(&[b"request"]));
    expected(&made, "8b4b0b1403d071a0c6ff8109f9c1a645");
    expected(
        &schedule.master_leaf(&features, "station", b"key"),
        "813de94662cce7a6017e463aa9ce2f02ae07513c724f3546cdeb9c9504df8bfa",
    );
    expected(
        &slave_leaf(&schedule.th2(b"authreq"), &[0, 1], &features, "gateway", b"key"),
        "08f7f8278ea76131ca4d014a7d42de37d2ac446b104c78079fb8f2a30c22649c",
    );
    let [a, b] = [digest(&[b"a"]), digest(&[b"b"])];
    let node = "dcbb1de4fe726d253f7c610f8d7c6360152405567333f8ebed7e072d2bd25ece";
    expected(&tree_node(&a, &b), node);
    expected(&tree_node(&b, &a), node);
    let root = "3b196fd4907bedf51c3090e9835f2f7cb61e7ee1b2299ea3b8fed9b4183a822a";
    expected(&signed_by_master(&a), &format!("737473322061757468206d6173746572{root}"));
    expected(&signed_by_slave(&a), &format!("73747332206175746820736c617665{root}"));
}

#[test]
fn a_cookie_is_good_for_one_init_req_under_one_key() {
    let [epoch, other] = [1, 2].map(|byte| Key::new(Zeroizing::new(vec![byte; 32])));
    let [init_req, another] = [digest(&[b"request"]), digest(&[b"another"])];
    let made = cookie(&epoch, &init_req);
    assert_eq!(verify_cookie(&epoch, &init_req, &made), Ok(()));
    for (epoch, init_req) in [(&epoch, &another), (&other, &init_req)] {
        assert_eq!(verify_cookie(epoch, init_req, &made), Err(Rejected::NotAuthentic));
    }
    for bit in 0..8 * COOKIE_LEN {
        let mut flipped = made;
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(verify_cookie(&epoch, &init_req, &flipped), Err(Rejected::NotAuthentic));
    }
}

#[test]
fn a_confirmation_is_good_for_its_own_step_only() {
    let schedule = schedule();
    let session = schedule.session(&schedule.th2(b"authreq"), b"authack");
    let steps = [Confirmation::Request, Confirmation::SlaveReady, Confirmation::MasterReady, Confirmation::SlaveDone];
    for made in steps {
        for checked in steps {
            assert_eq!(checked.verify(&session, &made.mac(&session)).is_ok(), made == checked);
        }
    }
}

#[test]
fn a_refusal_is_good_for_one_auth_req_and_one_reason() {
    let schedule = schedule();
    let [key, other] = [b"authreq", b"another"].map(|auth_req| schedule.refusal(&schedule.th2(auth_req)));
    let mac = refusal_mac(&key, b"reason");
    assert_eq!(verify_refusal(&key, b"reason", &mac), Ok(()));
    assert_eq!(verify_refusal(&other, b"reason", &mac), Err(Rejected::NotAuthentic));
    assert_eq!(verify_refusal(&key, b"treason", &mac), Err(Rejected::NotAuthentic));
}

/// Expected values from a separate computation, with the keys above.
#[test]
fn a_query_and_its_reply_are_good_for_one_asker_only() {
    let schedule = schedule_with(Some(&Key::new(Zeroizing::new((64..96).collect()))));
    let session = schedule.session(&schedule.th2(b"authreq"), b"authack");
    let transcript = |asker| SessionCheckTranscript { asker, session: &session.id, nonce: &[7; 16], about: &[3; 8] };
    let mac = |what: SessionCheckMac, asker| what.mac(&session.confirm, &transcript(asker));
    let mut seen = Vec::new();
    for (what, asker, text) in [
        (SessionCheckMac::Query, Role::Master, "4fdf30a22d1570c45333c1cea68e28248f36771e7fc26aa480fb3d1aa817211a"),
        (SessionCheckMac::Query, Role::Slave, "c5554317f7f2330af9053e2d592496c472083b8ab9075aac934f9e8eb3b2a587"),
        (SessionCheckMac::Present, Role::Master, "77751cbdaa87ce02606df7f9124a7fef73d41bb6bebb02bc07579b8e804445a5"),
        (SessionCheckMac::Present, Role::Slave, "39c4ce481252bfe2aaf89ac3b700cbb375d27f85ea35718179865fcfd7e73a38"),
        (SessionCheckMac::Lost, Role::Master, "85c6c2f10c2304db4fb59f3aca52750bc21b886d9070761d0b56bf1b78db0868"),
        (SessionCheckMac::Lost, Role::Slave, "6d91689b37465f880ce25d165d63586f68813169cc73f3efaafdf55a6f701056"),
    ] {
        assert_eq!(mac(what, asker)[..], hex(text));
        seen.push((what, asker, mac(what, asker)));
    }
    for (made, of, made_mac) in &seen {
        for (what, asker, _) in &seen {
            let good = what.verify(&session.confirm, &transcript(*asker), made_mac).is_ok();
            assert_eq!(good, (made, of) == (what, asker));
        }
        let of_another = SessionCheckTranscript { about: &session.id, ..transcript(*of) };
        assert!(made.verify(&session.confirm, &of_another, made_mac).is_err());
    }
}

#[test]
fn parts_of_a_digest_do_not_run_together() {
    assert_ne!(digest(&[b"ab", b"c"]), digest(&[b"a", b"bc"]));
    assert_ne!(digest(&[b"ab"]), digest(&[b"ab", b""]));
}

#[test]
fn sealed_once_opens_with_the_same_associated_data_only() {
    let schedule = schedule();
    let sealed = seal_once(schedule.hs_m(), b"header", b"credentials");
    assert_eq!(open_once(&schedule.hs_m(), b"header", &sealed).unwrap()[..], b"credentials"[..]);
    assert_eq!(open_once(&schedule.hs_m(), b"other", &sealed), Err(Rejected::NotAuthentic));
    assert_eq!(open_once(&schedule.hs_s(&[0; 32]), b"header", &sealed), Err(Rejected::NotAuthentic));
}

/// A core would have it. Not in QEMU, where the addresses of /proc/self/mem are its own.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn what_was_derived_is_not_left_on_the_stack() {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    let memory = File::open("/proc/self/mem").unwrap();
    let mut below = vec![0; stack::ERASED_LEN];
    let here = std::ptr::from_ref(&memory).addr();
    let key = expand_bytes(&[0xa5; 32], &[b"a key"], 32);
    memory.read_exact_at(&mut below, u64::try_from(here - stack::ERASED_LEN).unwrap()).unwrap();
    assert!(!below.windows(key.len()).any(|window| window == &key[..]));
}

/// `StdRng` does not say that it is erased: inside, it is the generator that does.
#[test]
fn a_generator_of_answers_is_erased_when_it_is_dropped() {
    fn erased_on_drop(seed: [u8; 32]) -> impl Rng + ZeroizeOnDrop {
        chacha20::ChaCha12Rng::from_seed(seed)
    }
    let seed = [7; 32];
    let (mut erased, mut rng) = (erased_on_drop(seed), StdRng::from_seed(seed));
    // More than one buffer of it.
    for _ in 0..100 {
        assert_eq!(erased.next_u64(), rng.next_u64());
    }
}
