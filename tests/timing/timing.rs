//! Whether the time that a check takes tells how far a guess was right, or the time of a computation what its secret is:
//! `tests/constant_time [MEASUREMENTS]`.
//!
//! Each case has two classes of inputs that an attacker would like to tell apart. They come in random order; what is measured is
//! the same code on the same memory. A case leaks if Welch's t-test finds that the classes differ (`welch.rs`). The last case
//! leaks, on purpose: a comparison that stops at the first difference. If that is not found, nothing here counts.

#![expect(clippy::print_stdout, reason = "it prints a table")]
#![expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "statistics")]

mod welch;

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Instant;

use bytes::{BufMut, BytesMut};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use sts::crypto::cipher::{Cipher, HEADER_LEN};
use sts::crypto::exchange::{Ephemeral, encapsulate};
use sts::crypto::pake::Spake2Half;
use sts::crypto::schedule::{Confirmation, SessionKeys, cookie, refusal_mac, verify_cookie, verify_refusal};
use sts::role::Role;
use sts::secret::{Confirm, Key, KeyPurpose};
use sts::suite::Suite;
use sts::timing::Signer;

use welch::Test;

/// A t of more than this is a difference and no accident: one run in 100,000 without a leak gives it.
const MAX_T: f64 = 4.5;

/// Measurements of a case, if nothing else is asked for.
const MEASUREMENTS: usize = 1_000_000;

/// Prepares an input of a class, 0 or 1, and measures what is done with it, in nanoseconds.
type Measure = Box<dyn FnMut(usize, &mut StdRng) -> u64>;

struct Case {
    name: &'static str,
    /// What the classes are.
    classes: &'static str,
    /// It takes so long that one measurement stands for as many of others.
    weight: usize,
    measure: Measure,
}

fn main() -> ExitCode {
    let asked = std::env::args().nth(1).and_then(|argument| argument.replace('_', "").parse().ok());
    let measurements: usize = asked.unwrap_or(MEASUREMENTS);
    println!("{:<18} {:>9} {:>9} {:>8} {:>8}  classes", "case", "measured", "mean ns", "diff ns", "t");
    let mut is_good = true;
    for case in cases() {
        let is_control = case.name == CONTROL;
        let t = run(case, measurements);
        is_good &= (t.abs() < MAX_T) != is_control;
    }
    println!(
        "{}",
        if is_good { "no leak found, and the control was" } else { "FAILED: a leak, or a control not found" }
    );
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn run(case: Case, measurements: usize) -> f64 {
    let Case { name, classes, weight, mut measure } = case;
    let count = (measurements / weight).max(2_000);
    let mut rng = StdRng::seed_from_u64(rand::random());
    let mut one = |measure: &mut Measure| {
        let class = usize::from(rng.random::<bool>());
        (class, measure(class, &mut rng))
    };
    let pilot = (0..count / 10).map(|_| one(&mut measure).1).collect();
    let mut test = Test::new(pilot);
    for _ in 0..count {
        let (class, time) = one(&mut measure);
        test.add(class, time);
    }
    let outcome = test.outcome();
    let (mean, difference) = (outcome.mean, outcome.difference);
    println!("{name:<18} {:>9} {mean:>9.0} {difference:>8.2} {:>8.2}  {classes}", outcome.kept as u64, outcome.t);
    outcome.t
}

fn time<T>(what: impl FnOnce() -> T) -> u64 {
    let start = Instant::now();
    black_box(what());
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// The case that leaks.
const CONTROL: &str = "naive comparison";
const FIRST_OR_LAST: &str = "first byte wrong, last byte wrong";

fn cases() -> Vec<Case> {
    let case = |name, classes, weight, measure| Case { name, classes, weight, measure };
    vec![
        case("GCM tag", FIRST_OR_LAST, 1, sealed::<16>(Suite::Gcm)),
        case("CBC MAC", FIRST_OR_LAST, 1, sealed::<32>(Suite::Cbc)),
        case("ECB MAC", FIRST_OR_LAST, 1, sealed::<32>(Suite::Ecb)),
        case("cookie MAC", FIRST_OR_LAST, 1, cookie_mac()),
        case("confirmation MAC", FIRST_OR_LAST, 1, confirmation_mac()),
        case("refusal MAC", FIRST_OR_LAST, 1, refusal()),
        case("keys compared", FIRST_OR_LAST, 1, keys()),
        case("SPAKE2 with a code", "one code, any code", 20, codes()),
        case("X25519 and ML-KEM", "good ciphertext, any ciphertext", 20, exchange()),
        case("RSA-PSS, 2048 bits", "one message, any message", 50, signatures()),
        case(CONTROL, FIRST_OR_LAST, 1, naive()),
    ]
}

fn key<P: KeyPurpose>(len: usize, fill: u8) -> Key<P> {
    Key::generate(len, |key| key.fill(fill))
}

/// The bytes with the first one of a tag wrong, which ends them, and with the last one. Each is copied as a whole
/// before it is measured: a byte that was just written where more are read takes a time of its own.
fn spoiled<const TAG: usize>(good: &[u8]) -> [Vec<u8>; 2] {
    [good.len() - TAG, good.len() - 1].map(|at| {
        let mut wrong = good.to_vec();
        wrong[at] ^= 0x40;
        wrong
    })
}

/// A message whose tag, of this length, is wrong.
fn sealed<const TAG: usize>(suite: Suite) -> Measure {
    let cipher = Cipher::new(suite, &key(suite.key_len(), 7));
    let mut message = BytesMut::from(&[3; HEADER_LEN][..]);
    message.put_bytes(0, cipher.head_room());
    message.put_slice(b"21.5 C\n");
    cipher.seal(&mut message, &mut StdRng::seed_from_u64(1));
    let wrong = spoiled::<TAG>(&message);
    let mut plaintext = BytesMut::with_capacity(256);
    Box::new(move |class, _| {
        message.copy_from_slice(&wrong[class]);
        plaintext.clear();
        time(|| cipher.open(black_box(&message), &mut plaintext))
    })
}

fn cookie_mac() -> Measure {
    let (epoch, asked) = (key(32, 1), [2; 32]);
    let mut tag = cookie(&epoch, &asked);
    let wrong = spoiled::<16>(&tag);
    Box::new(move |class, _| {
        tag.copy_from_slice(&wrong[class]);
        time(|| verify_cookie(&epoch, &asked, black_box(&tag)))
    })
}

fn confirmation_mac() -> Measure {
    let keys = SessionKeys {
        th3: [1; 32],
        id: [2; 8],
        tree_m2s: key(32, 3),
        tree_s2m: key(32, 4),
        side_m2s: key(32, 5),
        side_s2m: key(32, 6),
        confirm: key(32, 7),
    };
    let mut tag = Confirmation::Request.mac(&keys);
    let wrong = spoiled::<32>(&tag);
    Box::new(move |class, _| {
        tag.copy_from_slice(&wrong[class]);
        time(|| Confirmation::Request.verify(&keys, black_box(&tag)))
    })
}

fn refusal() -> Measure {
    let key = key(32, 1);
    let mut tag = refusal_mac(&key, b"refusal");
    let wrong = spoiled::<32>(&tag);
    Box::new(move |class, _| {
        tag.copy_from_slice(&wrong[class]);
        time(|| verify_refusal(&key, b"refusal", black_box(&tag)))
    })
}

/// Whether two keys are equal, as state machines ask it.
fn keys() -> Measure {
    let good: Key<Confirm> = key(64, 9);
    let wrong = spoiled::<64>(good.expose());
    Box::new(move |class, _| {
        let other = Key::generate(64, |bytes| bytes.copy_from_slice(&wrong[class]));
        time(|| black_box(&good) == black_box(&other))
    })
}

/// What a device does with its code: its share, and the key from the other one's share. Whether two codes are equal is seen by
/// nothing else than whether what is sealed under that key opens.
fn codes() -> Measure {
    let theirs = *Spake2Half::draw(Role::Slave, b"7KX4MP9QD", &mut StdRng::seed_from_u64(1)).share();
    Box::new(move |class, rng| {
        let mut code = *b"7KX4MP9QD";
        let any: [u8; 9] = std::array::from_fn(|_| rng.random_range(b'A'..=b'Z'));
        let codes = [code, any];
        code.copy_from_slice(&codes[class]);
        let mut drawn = StdRng::seed_from_u64(2);
        time(|| Spake2Half::draw(Role::Master, black_box(&code), &mut drawn).agree(&theirs))
    })
}

/// Whether a ciphertext was made for this key must not show (FIPS 203, 6.3).
fn exchange() -> Measure {
    let master = Ephemeral::generate(&mut StdRng::seed_from_u64(1));
    let slave = encapsulate(&master.x25519(), &master.encapsulation_key(), &mut StdRng::seed_from_u64(2));
    let slave = slave.unwrap_or_else(|why| unreachable!("both keys are good: {why}"));
    Box::new(move |class, rng| {
        let mut ciphertexts = [slave.ciphertext; 2];
        rng.fill_bytes(&mut ciphertexts[1]);
        let mut ciphertext = [0; _];
        ciphertext.copy_from_slice(&ciphertexts[class]);
        time(|| master.agree(&slave.x25519, black_box(&ciphertext)).is_ok())
    })
}

/// Blinding draws other numbers each time; what is signed must not show.
fn signatures() -> Measure {
    let mut signer = Signer::new(2048);
    Box::new(move |class, rng| {
        let mut messages = [[7; 48]; 2];
        rng.fill_bytes(&mut messages[1]);
        let mut message = [0; 48];
        message.copy_from_slice(&messages[class]);
        time(|| signer.sign(black_box(&message)))
    })
}

/// Stops at the first difference.
fn naive() -> Measure {
    let good = [5_u8; 32];
    let wrong = spoiled::<32>(&good);
    Box::new(move |class, _| {
        let mut other = good;
        other.copy_from_slice(&wrong[class]);
        let (good, other) = (black_box(&good), black_box(&other));
        time(|| good.iter().zip(other).all(|(one, other)| black_box(*one) == black_box(*other)))
    })
}
