//! An entrance for measuring whether the time of a signature tells what is signed (`tests/constant_time`). The other secrets
//! that are measured are behind functions that are public already.
//!
//! It is in no build of the tools.

use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::identity::Identity;

/// A key of this many bits that signs as the handshake does.
pub struct Signer {
    identity: Identity,
    rng: StdRng,
}

impl Signer {
    /// Makes the key.
    ///
    /// # Panics
    /// If the library cannot make a key of that length.
    #[must_use]
    pub fn new(bits: usize) -> Self {
        let mut rng = StdRng::seed_from_u64(1);
        let identity = Identity::generate_bits(&mut rng, bits).expect("RSA keys have 2048 to 8192 bits");
        Self { identity, rng }
    }

    /// Signs a message; gives the signature.
    ///
    /// # Panics
    /// If the library finds its own result wrong.
    pub fn sign(&mut self, message: &[u8]) -> Vec<u8> {
        self.identity.sign(message, &mut self.rng).expect("the hardware works")
    }
}
