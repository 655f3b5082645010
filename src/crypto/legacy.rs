//! What the old program of this name computes (`sts_version = 1`): Diffie-Hellman on secp256k1, and AES-256 in CBC or ECB,
//! without padding and without a tag.
//!
//! It is for devices that still run that program. Nothing else uses this module, and no key of it has another use.

use aes::Aes256;
use aes::cipher::block_padding::NoPadding;
use aes::cipher::common::InnerInit;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use k256::elliptic_curve::point::AffineCoordinates;
use k256::{AffinePoint, FieldBytes, NonZeroScalar, ProjectivePoint};
use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::secret::{Key, KeyPurpose};

/// Length in bytes of a private key, of a coordinate, and of the session key.
pub const KEY_LEN: usize = 32;
/// Length in bytes of a block of AES.
pub const BLOCK_LEN: usize = 16;

/// A block of AES: the value that CBC continues from, for one.
pub type Block = [u8; BLOCK_LEN];

const WHOLE_BLOCKS: &str = "the length is a multiple of a block";

/// Encrypts what the old program sends and receives, 32 bytes.
#[derive(Debug)]
pub enum LegacyCipher {}

impl KeyPurpose for LegacyCipher {
    const NAME: &'static str = "legacy cipher";
}

/// A point of the curve by its coordinates, big-endian; any two numbers until [`SecretKey::agree`] has looked at them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CurvePoint {
    /// x, 32 bytes.
    pub x: [u8; KEY_LEN],
    /// y, 32 bytes.
    pub y: [u8; KEY_LEN],
}

/// A private key for one pairing.
pub struct SecretKey(Zeroizing<NonZeroScalar>);

impl SecretKey {
    /// Draws a key, of all bits.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        loop {
            let mut bytes = Zeroizing::new([0; KEY_LEN]);
            rng.fill_bytes(&mut bytes[..]);
            if let Some(key) = Self::from_bytes(&bytes) {
                return key;
            }
        }
    }

    /// The key of these bytes, big-endian; `None` for zero, and for the order of the group or more.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; KEY_LEN]) -> Option<Self> {
        NonZeroScalar::from_repr(FieldBytes::from(*bytes)).into_option().map(|scalar| Self(Zeroizing::new(scalar)))
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> CurvePoint {
        let point = (ProjectivePoint::GENERATOR * **self.0).to_affine();
        CurvePoint { x: point.x().into(), y: point.y().into() }
    }

    /// The session key with the owner of `peer`: the x coordinate of the shared point, unhashed, as in the old program.
    /// `None` if `peer` is not on the curve.
    #[must_use]
    pub fn agree(&self, peer: &CurvePoint) -> Option<Key<LegacyCipher>> {
        let (x, y) = (FieldBytes::from(peer.x), FieldBytes::from(peer.y));
        let point = AffinePoint::from_coordinates(&x, &y).into_option()?;
        let shared = Zeroizing::new((ProjectivePoint::from(point) * **self.0).to_affine());
        Some(Key::generate(KEY_LEN, |bytes| bytes.copy_from_slice(&shared.x())))
    }
}

/// AES-256 under a session key. What it is given has a length of whole blocks.
pub struct BlockCipher(Box<Aes256>);

impl BlockCipher {
    /// Expands `key`.
    ///
    /// # Panics
    /// If the key is not of [`KEY_LEN`] bytes, which the session file rules out.
    #[must_use]
    pub fn new(key: &Key<LegacyCipher>) -> Self {
        Self(Box::new(Aes256::new_from_slice(key.expose()).expect("the session key is one of AES-256")))
    }

    /// Encrypts in place, in CBC from `start` on.
    ///
    /// # Panics
    /// If the length is not a multiple of [`BLOCK_LEN`]; so do the other three.
    pub fn encrypt_cbc(&self, start: &Block, text: &mut [u8]) {
        let len = text.len();
        let mode = cbc::Encryptor::inner_iv_init(&*self.0, start.into());
        mode.encrypt_padded::<NoPadding>(text, len).expect(WHOLE_BLOCKS);
    }

    /// Decrypts in place, in CBC from `start` on.
    pub fn decrypt_cbc(&self, start: &Block, text: &mut [u8]) {
        let mode = cbc::Decryptor::inner_iv_init(&*self.0, start.into());
        mode.decrypt_padded::<NoPadding>(text).expect(WHOLE_BLOCKS);
    }

    /// Encrypts in place, in ECB.
    pub fn encrypt_ecb(&self, text: &mut [u8]) {
        let len = text.len();
        let mode = ecb::Encryptor::inner_init(&*self.0);
        mode.encrypt_padded::<NoPadding>(text, len).expect(WHOLE_BLOCKS);
    }

    /// Decrypts in place, in ECB.
    pub fn decrypt_ecb(&self, text: &mut [u8]) {
        ecb::Decryptor::inner_init(&*self.0).decrypt_padded::<NoPadding>(text).expect(WHOLE_BLOCKS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    fn array<const N: usize>(text: &str) -> [u8; N] {
        hex(text).try_into().unwrap()
    }

    /// The generator and its double (SEC 2, 2.4.1).
    const GENERATOR: (&str, &str) = (
        "79BE667E F9DCBBAC 55A06295 CE870B07 029BFCDB 2DCE28D9 59F2815B 16F81798",
        "483ADA77 26A3C465 5DA4FBFC 0E1108A8 FD17B448 A6855419 9C47D08F FB10D4B8",
    );
    const DOUBLE: (&str, &str) = (
        "C6047F94 41ED7D6D 3045406E 95C07CD8 5C778E4B 8CEF3CA7 ABAC09B9 5C709EE5",
        "1AE168FE A63DC339 A3C58419 466CEAEE F7F63265 3266D0E1 236431A9 50CFE52A",
    );

    fn point((x, y): (&str, &str)) -> CurvePoint {
        CurvePoint { x: array(x), y: array(y) }
    }

    fn secret(last: u8) -> SecretKey {
        let mut bytes = [0; KEY_LEN];
        bytes[KEY_LEN - 1] = last;
        SecretKey::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn small_multiples_of_the_generator_are_those_of_sec_2() {
        assert_eq!(secret(1).public(), point(GENERATOR));
        assert_eq!(secret(2).public(), point(DOUBLE));
        assert_eq!(secret(2).agree(&point(GENERATOR)).unwrap().expose(), point(DOUBLE).x);
    }

    #[test]
    fn what_is_no_key_is_none() {
        let order = "FFFFFFFF FFFFFFFF FFFFFFFF FFFFFFFE BAAEDCE6 AF48A03B BFD25E8C D0364141";
        assert!(SecretKey::from_bytes(&[0; KEY_LEN]).is_none() && SecretKey::from_bytes(&array(order)).is_none());
        let CurvePoint { x, y } = point(GENERATOR);
        let mut off = y;
        off[0] ^= 1;
        for peer in [
            CurvePoint { x, y: off },
            CurvePoint { x: [0; KEY_LEN], y: [0; KEY_LEN] },
            CurvePoint { x: [0xff; KEY_LEN], y },
            CurvePoint { x, y: [0xff; KEY_LEN] },
        ] {
            assert!(secret(1).agree(&peer).is_none(), "{peer:x?}");
        }
    }

    /// NIST SP 800-38A, F.1.5 and F.2.5.
    #[test]
    fn the_modes_are_those_of_nist() {
        let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let cipher = BlockCipher::new(&Key::new(Zeroizing::new(key)));
        let plaintext = hex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let start = array("000102030405060708090a0b0c0d0e0f");
        let mut text = plaintext.clone();
        cipher.encrypt_cbc(&start, &mut text);
        assert_eq!(text, hex("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"));
        cipher.decrypt_cbc(&start, &mut text);
        assert_eq!(text, plaintext);
        cipher.encrypt_ecb(&mut text);
        assert_eq!(text, hex("f3eed1bdb5d2a03c064b5a7e3db181f8591ccb10d410ed26dc5ba74a31362870"));
        cipher.decrypt_ecb(&mut text);
        assert_eq!(text, plaintext);
    }
}
