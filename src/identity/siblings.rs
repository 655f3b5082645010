//! Identities for tests with thousands of devices.

use rand::SeedableRng;
use rand::rngs::StdRng;
use rsa::BoxedUint;
use rsa::traits::PrivateKeyParts;

use super::Identity;

/// Different identities that share their two primes: each has another exponent, so that it is made in no time.
pub(crate) fn siblings() -> impl Iterator<Item = Identity> {
    let first = rsa::PrivateKey::new(&mut StdRng::seed_from_u64(4), 2048).unwrap();
    let [p, q] = [0, 1].map(|prime| first.primes()[prime].clone().get());
    let exponents = (65_537_u64..).step_by(2);
    let keys = exponents.filter_map(move |e| rsa::PrivateKey::from_p_q(p.clone(), q.clone(), BoxedUint::from(e)).ok());
    keys.map(|key| Identity::from_key(key).unwrap())
}
