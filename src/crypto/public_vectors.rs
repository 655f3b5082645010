//! Claim: each primitive, as the product calls it, gives what the published vectors of Project Wycheproof and of the RFCs
//! say, and refuses what they call invalid. (RSA-PSS is in `src/identity/vectors.rs`, the key exchange with a code in
//! `vectors.rs`: nobody publishes vectors of that form of SPAKE2.)
//!
//! Each test counts what it compared: a set that is empty, or of which everything is skipped, fails.

use bytes::{BufMut, BytesMut};
use hmac::Mac;
use wycheproof::{TestResult, aead, hkdf, mac, mlkem, xdh};

use super::cipher::Cipher;
use super::exchange::{CIPHERTEXT_LEN, Ephemeral, X25519_LEN, encapsulate};
use super::gcm::NONCE_LEN;
use super::schedule::{DIGEST_LEN, expand_bytes, extract, hmac};
use super::vectors::reader::Scripted;
use crate::secret::{Confirm, Key};
use crate::suite::Suite;
use crate::{Rejected, hex};

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().unwrap()
}

/// Seals and opens one vector in each way that this processor can; says whether all were as it expects.
fn aead_agrees(suite: Suite, test: &aead::Test) -> bool {
    let key = Key::generate(test.key.len(), |key| key.copy_from_slice(&test.key));
    Cipher::each(suite, &key).iter().all(|cipher| cipher_agrees(cipher, suite, test))
}

fn cipher_agrees(cipher: &Cipher, suite: Suite, test: &aead::Test) -> bool {
    // GCM's nonce comes from the header; CBC's IV is the beginning of the body.
    let is_gcm = suite == Suite::Gcm;
    let nonce = if is_gcm { array(&test.nonce) } else { [0; NONCE_LEN] };
    let iv = if is_gcm { &[][..] } else { &test.nonce };
    let body = [iv, &test.ct, &test.tag].concat();
    let mut opened = BytesMut::new();
    let result = cipher.open_body(&test.aad, nonce, &body, &mut opened);
    if test.result != TestResult::Valid {
        return result.is_err() && opened.is_empty();
    }
    let mut sealed = BytesMut::from(&test.aad[..]);
    sealed.resize(test.aad.len() + cipher.head_room(), 0);
    sealed.put_slice(&test.pt);
    cipher.seal_after(test.aad.len(), nonce, &mut sealed, &mut Scripted::new([iv.to_vec()]));
    result.is_ok() && opened[..] == test.pt[..] && sealed[..] == [&test.aad[..], &body].concat()
}

#[test]
fn aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let groups = set.test_groups.iter().filter(|group| (group.key_size, group.nonce_size) == (256, NONCE_LEN * 8));
    let tests: Vec<_> = groups.flat_map(|group| &group.tests).collect();
    for test in &tests {
        assert!(aead_agrees(Suite::Gcm, test), "{test:?}");
    }
    assert_eq!(tests.len(), 66);
}

/// Wycheproof's first vector is RFC 7518, appendix B.3.
#[test]
fn aes_256_cbc_hmac_sha_512() {
    let set = aead::TestSet::load(aead::TestName::Aes256CbcHmacSha512).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    for test in &tests {
        assert!(aead_agrees(Suite::Cbc, test), "{test:?}");
    }
    assert_eq!(tests.len(), 94);
}

#[test]
fn hkdf_sha_256() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut compared = 0;
    // What is invalid asks for more than HKDF gives. No caller asks for more than 64 bytes.
    let tests = set.test_groups.iter().flat_map(|group| &group.tests).filter(|test| test.result == TestResult::Valid);
    for test in tests {
        let prk = extract(&test.salt, &test.ikm);
        // In one piece and in two: the product has the label and what it is bound to.
        let (label, rest) = test.info.split_at(test.info.len() / 2);
        for info in [&[&test.info[..]][..], &[label, rest]] {
            assert_eq!(expand_bytes(prk.expose(), info, test.size)[..], test.okm[..], "{test:?}");
        }
        compared += 1;
    }
    assert_eq!(compared, 83);
}

/// Checks one MAC over its message, in one piece and in two, made and verified.
fn check_mac(key: &[u8], message: &[u8], tag: &[u8], is_valid: bool) {
    let key = Key::<Confirm>::generate(key.len(), |bytes| bytes.copy_from_slice(key));
    let (begin, end) = message.split_at(message.len() / 3);
    for parts in [&[message][..], &[begin, end]] {
        let made = hmac(&key, parts).finalize().into_bytes();
        assert_eq!(made[..tag.len()] == *tag, is_valid, "{message:?}");
        assert_eq!(hmac(&key, parts).verify_truncated_left(tag).is_ok(), is_valid, "{message:?}");
        if tag.len() == DIGEST_LEN {
            assert_eq!(hmac(&key, parts).verify_slice(tag).is_ok(), is_valid, "{message:?}");
        }
    }
}

#[test]
fn hmac_sha_256() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    for test in &tests {
        check_mac(&test.key, &test.msg, &test.tag, test.result == TestResult::Valid);
    }
    assert_eq!(tests.len(), 174);
}

/// RFC 4231, 4.2 to 4.8: the column HMAC-SHA-256.
#[test]
fn rfc_4231() {
    let large = [0xaa; 131];
    let counting: Vec<u8> = (1..=25).collect();
    for (key, message, tag) in [
        (&[0x0b; 20][..], &b"Hi There"[..], "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"),
        (
            b"Jefe",
            b"what do ya want for nothing?",
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        ),
        (&[0xaa; 20], &[0xdd; 50], "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"),
        (&counting, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
        (&[0x0c; 20], b"Test With Truncation", "a3b6167473100ee06e0c796c2955552b"),
        (
            &large,
            b"Test Using Larger Than Block-Size Key - Hash Key First",
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        ),
        (
            &large,
            b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be \
              hashed before being used by the HMAC algorithm.",
            "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2",
        ),
    ] {
        check_mac(key, message, &hex(tag), true);
    }
}

/// A master with this X25519 private key; its ML-KEM key counts for nothing.
fn with_x25519(private: &[u8]) -> Ephemeral {
    Ephemeral::generate(&mut Scripted::new([private.to_vec()]))
}

/// The X25519 half of what the master gets of a slave.
fn x25519(private: &[u8], public: &[u8]) -> Result<[u8; X25519_LEN], Rejected> {
    let shared = with_x25519(private).agree(&array(public), &[0; CIPHERTEXT_LEN])?;
    Ok(array(&shared.expose()[..X25519_LEN]))
}

#[test]
fn x25519_as_master_and_as_slave() {
    let set = xdh::TestSet::load(xdh::TestName::X25519).unwrap();
    let tests: Vec<_> = set.test_groups.iter().flat_map(|group| &group.tests).collect();
    let ek = with_x25519(&[9; X25519_LEN]).encapsulation_key();
    let mut refused = 0;
    for test in &tests {
        let of_master = x25519(&test.private_key, &test.public_key);
        let mut rng = Scripted::new([test.private_key.to_vec()]);
        let of_slave = encapsulate(&array(&test.public_key), &ek, &mut rng).map(|slave| slave.shared);
        let of_slave = of_slave.map(|shared| array(&shared.expose()[..X25519_LEN]));
        // The only secret that we refuse is that which tells nothing of the private key (RFC 7748, 6.1).
        let expected = Some(array(&test.shared_secret)).filter(|secret| *secret != [0; X25519_LEN]);
        refused += usize::from(expected.is_none());
        let expected = expected.ok_or(Rejected::NotAuthentic);
        assert_eq!((of_master, of_slave), (expected, expected), "{test:?}");
    }
    assert_eq!((tests.len(), refused), (518, 31));
}

/// RFC 7748, 5.2 and 6.1.
#[test]
fn rfc_7748() {
    let nine: Vec<u8> = [&[9][..], &[0; X25519_LEN - 1]].concat();
    let once = hex("422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079");
    assert_eq!(x25519(&nine, &nine).unwrap()[..], once);
    let alice = hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
    let bob = hex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    let shared = hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
    assert_eq!(x25519(&alice, &with_x25519(&bob).x25519()).unwrap()[..], shared);
    assert_eq!(x25519(&bob, &with_x25519(&alice).x25519()).unwrap()[..], shared);
}

/// A master with these seeds of ML-KEM's key generation; its X25519 key counts for nothing.
fn with_mlkem(seed: &[u8]) -> Ephemeral {
    let (d, z) = seed.split_at(32);
    Ephemeral::generate(&mut Scripted::new([vec![9; X25519_LEN], d.to_vec(), z.to_vec()]))
}

fn mlkem(name: mlkem::TestName) -> Vec<mlkem::Test> {
    let set = mlkem::TestSet::load(name).unwrap();
    set.test_groups.into_iter().flat_map(|group| group.tests).collect()
}

#[test]
fn ml_kem_768_key_generation_and_decapsulation() {
    let public = with_x25519(&[8; X25519_LEN]).x25519();
    let mut compared = 0;
    for name in [mlkem::TestName::MlKem768KeyGenSeed, mlkem::TestName::MlKem768] {
        for test in mlkem(name) {
            let Some(seed) = test.seed.as_ref().filter(|seed| seed.len() == 64) else {
                // No seed of another length is ever drawn.
                assert_eq!(test.result, TestResult::Invalid, "{test:?}");
                continue;
            };
            let master = with_mlkem(seed);
            if let Some(key) = &test.encaps_key {
                assert_eq!(master.encapsulation_key()[..], key[..], "{test:?}");
                compared += 1;
            }
            // A ciphertext of another length is not an INITACK.
            let (Some(ciphertext), Some(secret)) = (&test.ct, &test.shared_secret) else { continue };
            if let Ok(ciphertext) = ciphertext[..].try_into() {
                let shared = master.agree(&public, ciphertext).unwrap();
                assert_eq!(shared.expose()[X25519_LEN..], secret[..], "{test:?}");
                compared += 1;
            } else {
                assert_eq!(test.result, TestResult::Invalid, "{test:?}");
            }
        }
    }
    assert_eq!(compared, 442);
}

#[test]
fn ml_kem_768_encapsulation() {
    let public = with_x25519(&[8; X25519_LEN]).x25519();
    let (mut good, mut refused) = (0, 0);
    for test in mlkem(mlkem::TestName::MlKem768Encaps) {
        let (key, message) = (test.encaps_key.as_ref().unwrap(), test.msg.as_ref().unwrap());
        // A key of another length is not an INITREQ.
        let Ok(key) = key[..].try_into() else {
            assert_eq!(test.result, TestResult::Invalid, "{test:?}");
            continue;
        };
        let mut rng = Scripted::new([vec![9; X25519_LEN], message.to_vec()]);
        match encapsulate(&public, key, &mut rng) {
            Ok(made) => {
                assert_eq!(test.result, TestResult::Valid, "{test:?}");
                assert_eq!(made.ciphertext[..], test.ct.as_ref().unwrap()[..], "{test:?}");
                assert_eq!(made.shared.expose()[X25519_LEN..], test.shared_secret.as_ref().unwrap()[..], "{test:?}");
                good += 1;
            }
            Err(why) => {
                assert_eq!((why, test.result), (Rejected::NotAuthentic, TestResult::Invalid), "{test:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((good, refused), (133, 112));
}
