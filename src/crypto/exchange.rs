//! The hybrid key exchange: X25519 (RFC 7748) and ML-KEM-768 (FIPS 203), so that breaking one opens nothing.

use ml_kem::array::Array;
use ml_kem::{Decapsulate, DecapsulationKey, Encapsulate, EncapsulationKey, Generate, KeyExport, MlKem768, TryKeyInit};
use rand::CryptoRng;
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::Rejected;

/// Length in bytes of an X25519 public key.
pub const X25519_LEN: usize = 32;
/// Length in bytes of an ML-KEM-768 encapsulation key.
pub const ENCAPSULATION_KEY_LEN: usize = 1184;
/// Length in bytes of an ML-KEM-768 ciphertext.
pub const CIPHERTEXT_LEN: usize = 1088;

const SHARED_LEN: usize = 32;

/// What both ends of an exchange share: the X25519 result, then ML-KEM's; 64 bytes, input to the key schedule only.
pub struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// Joins the two results.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] for an all-zero X25519 result: a public key of small order (RFC 7748, 6.1).
    fn join(x25519: &x25519_dalek::SharedSecret, mlkem: &[u8]) -> Result<Self, Rejected> {
        if !x25519.was_contributory() {
            return Err(Rejected::NotAuthentic);
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * SHARED_LEN));
        bytes.extend_from_slice(x25519.as_bytes());
        bytes.extend_from_slice(mlkem);
        Ok(Self(bytes))
    }

    #[cfg(test)]
    pub(super) fn for_test(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// The master's half: fresh for each attempt, good for every INITACK that answers it.
pub struct Ephemeral {
    x25519: StaticSecret,
    mlkem: DecapsulationKey<MlKem768>,
}

impl Ephemeral {
    /// Draws a fresh pair of keys.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self { x25519: StaticSecret::random_from_rng(rng), mlkem: DecapsulationKey::generate_from_rng(rng) }
    }

    /// The X25519 public key of INITREQ.
    #[must_use]
    pub fn x25519(&self) -> [u8; X25519_LEN] {
        PublicKey::from(&self.x25519).to_bytes()
    }

    /// The ML-KEM encapsulation key of INITREQ.
    #[must_use]
    pub fn encapsulation_key(&self) -> [u8; ENCAPSULATION_KEY_LEN] {
        self.mlkem.encapsulation_key().to_bytes().into()
    }

    /// The shared secret with the slave that sent this INITACK. A wrong ciphertext gives a wrong secret, not an error
    /// (FIPS 203, 6.3): the messages sealed under it will not open.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if the X25519 key is of small order.
    pub fn agree(
        &self,
        x25519: &[u8; X25519_LEN],
        ciphertext: &[u8; CIPHERTEXT_LEN],
    ) -> Result<SharedSecret, Rejected> {
        let mlkem = Zeroizing::new(self.mlkem.decapsulate(&Array::from(*ciphertext)));
        SharedSecret::join(&self.x25519.diffie_hellman(&PublicKey::from(*x25519)), &mlkem[..])
    }
}

/// The slave's half, made and used up in one step.
pub struct Encapsulated {
    /// The X25519 public key of INITACK.
    pub x25519: [u8; X25519_LEN],
    /// The ML-KEM ciphertext of INITACK.
    pub ciphertext: [u8; CIPHERTEXT_LEN],
    /// What the master will compute from these two.
    pub shared: SharedSecret,
}

/// Answers the two public keys of an INITREQ; equal inputs and an equal `rng` give an equal answer.
///
/// # Errors
/// [`Rejected::NotAuthentic`] if the X25519 key is of small order or the encapsulation key is not one (FIPS 203, 7.2).
pub fn encapsulate(
    x25519: &[u8; X25519_LEN],
    encapsulation_key: &[u8; ENCAPSULATION_KEY_LEN],
    rng: &mut dyn CryptoRng,
) -> Result<Encapsulated, Rejected> {
    let mlkem = EncapsulationKey::<MlKem768>::new_from_slice(encapsulation_key).map_err(|_| Rejected::NotAuthentic)?;
    let own = StaticSecret::random_from_rng(rng);
    let (ciphertext, secret) = mlkem.encapsulate_with_rng(rng);
    let secret = Zeroizing::new(secret);
    let shared = SharedSecret::join(&own.diffie_hellman(&PublicKey::from(*x25519)), &secret[..])?;
    Ok(Encapsulated { x25519: PublicKey::from(&own).to_bytes(), ciphertext: ciphertext.into(), shared })
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn both_ends_agree_and_an_equal_generator_repeats_the_answer() {
        let master = Ephemeral::generate(&mut StdRng::seed_from_u64(1));
        let answer = |seed| {
            encapsulate(&master.x25519(), &master.encapsulation_key(), &mut StdRng::seed_from_u64(seed)).unwrap()
        };
        let (one, again, other) = (answer(2), answer(2), answer(3));
        assert_eq!((one.x25519, one.ciphertext), (again.x25519, again.ciphertext));
        assert_ne!(one.ciphertext, other.ciphertext);
        assert_eq!(master.agree(&one.x25519, &one.ciphertext).unwrap().expose(), one.shared.expose());
        assert_ne!(master.agree(&one.x25519, &other.ciphertext).unwrap().expose(), one.shared.expose());
    }

    #[test]
    fn a_key_of_small_order_is_refused_on_both_sides() {
        let master = Ephemeral::generate(&mut StdRng::seed_from_u64(1));
        let refused = |result: Option<Rejected>| assert_eq!(result, Some(Rejected::NotAuthentic));
        refused(master.agree(&[0; 32], &[0; CIPHERTEXT_LEN]).err());
        refused(encapsulate(&[0; 32], &master.encapsulation_key(), &mut StdRng::seed_from_u64(2)).err());
    }

    #[test]
    fn an_encapsulation_key_out_of_range_is_refused() {
        let master = Ephemeral::generate(&mut StdRng::seed_from_u64(1));
        let result = encapsulate(&master.x25519(), &[0xff; ENCAPSULATION_KEY_LEN], &mut StdRng::seed_from_u64(2));
        assert_eq!(result.err(), Some(Rejected::NotAuthentic));
    }
}
