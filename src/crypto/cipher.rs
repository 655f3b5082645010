//! The suites: how one sealed message is made and opened (`sts-protocol(7)`, "Suites").
//!
//! A sealed message is `header | body`, and the header is the body's associated data. The tag is checked in constant
//! time before anything is decrypted, and every failure is the same [`Rejected::NotAuthentic`].

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::common::InnerInit;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit};
use bytes::{BufMut, BytesMut};
use hmac::{Hmac, Mac};
use rand::CryptoRng;
use sha2::Sha512;

use crate::Rejected;
use crate::gcm::{Gcm, NONCE_LEN, TAG_LEN as GCM_TAG_LEN};
use crate::secret::{Key, Traffic};
use crate::suite::Suite;

/// Length in bytes of the header of a sealed message, which is its associated data.
pub const HEADER_LEN: usize = 20;

const BLOCK_LEN: usize = 16;
/// Where the header has the seq, which is never the same twice under one key: GCM's nonce is it, after zeros.
const SEQ_RANGE: std::ops::Range<usize> = 16..HEADER_LEN;
const MAC_KEY_LEN: usize = 32;
const MAC_TAG_LEN: usize = 32;
const KEY_FITS_SUITE: &str = "the key has the length its suite asks for";

/// The key of one part of a stream, expanded and ready to seal or open.
pub struct Cipher {
    keys: SuiteKeys,
    suite: Suite,
}

enum SuiteKeys {
    Gcm(Gcm),
    /// Encrypt-then-MAC.
    EtM {
        mac: Box<Hmac<Sha512>>,
        block: Box<Aes256>,
        mode: BlockMode,
    },
}

#[derive(Clone, Copy)]
enum BlockMode {
    Cbc,
    Ecb,
}

impl BlockMode {
    /// Decrypts whole blocks into `out`, which is as long; returns the length without padding, `None` where there is none.
    fn decrypt(self, block: &Aes256, iv: &[u8], ciphertext: &[u8], out: &mut [u8]) -> Option<usize> {
        let unpadded = match self {
            Self::Cbc => {
                let iv: &[u8; BLOCK_LEN] = iv.try_into().expect("CBC's head room is a block");
                cbc::Decryptor::inner_iv_init(block, iv.into()).decrypt_padded_b2b::<Pkcs7>(ciphertext, out)
            }
            Self::Ecb => ecb::Decryptor::inner_init(block).decrypt_padded_b2b::<Pkcs7>(ciphertext, out),
        };
        unpadded.map(<[u8]>::len).ok()
    }
}

impl SuiteKeys {
    fn etm(key: &[u8], mode: BlockMode) -> Self {
        let (mac_key, block_key) = key.split_at_checked(MAC_KEY_LEN).expect(KEY_FITS_SUITE);
        Self::EtM {
            mac: Box::new(Hmac::new_from_slice(mac_key).expect("HMAC takes keys of any length")),
            block: Box::new(Aes256::new_from_slice(block_key).expect(KEY_FITS_SUITE)),
            mode,
        }
    }
}

impl Cipher {
    /// Expands `key`, of [`Suite::key_len`] bytes: the MAC key comes first where the suite has one.
    ///
    /// # Panics
    /// If the key is of another length, which the key schedule and the session file both rule out.
    #[must_use]
    pub fn new(suite: Suite, key: &Key<Traffic>) -> Self {
        let key = key.expose();
        let keys = match suite {
            Suite::Gcm => SuiteKeys::Gcm(Gcm::new(key.try_into().expect(KEY_FITS_SUITE))),
            Suite::Cbc => SuiteKeys::etm(key, BlockMode::Cbc),
            Suite::Ecb => SuiteKeys::etm(key, BlockMode::Ecb),
        };
        Self { keys, suite }
    }

    /// The key for each way in which this processor can compute the suite.
    #[cfg(test)]
    pub(crate) fn each(suite: Suite, key: &Key<Traffic>) -> Vec<Self> {
        let Suite::Gcm = suite else { return vec![Self::new(suite, key)] };
        let keys = Gcm::each(key.expose().try_into().expect(KEY_FITS_SUITE));
        keys.into_iter().map(|gcm| Self { keys: SuiteKeys::Gcm(gcm), suite }).collect()
    }

    /// Bytes between the header and the plaintext that [`Cipher::seal`] fills in: CBC's IV, else none.
    #[must_use]
    pub fn head_room(&self) -> usize {
        match self.suite {
            Suite::Cbc => BLOCK_LEN,
            Suite::Gcm | Suite::Ecb => 0,
        }
    }

    /// Length in bytes of the whole message, header included, that `plaintext` bytes become.
    #[must_use]
    pub fn sealed_len(&self, plaintext: usize) -> usize {
        HEADER_LEN + self.body_len(plaintext)
    }

    fn body_len(&self, plaintext: usize) -> usize {
        match self.suite {
            Suite::Gcm => plaintext + GCM_TAG_LEN,
            Suite::Cbc | Suite::Ecb => self.head_room() + (plaintext / BLOCK_LEN + 1) * BLOCK_LEN + MAC_TAG_LEN,
        }
    }

    /// The longest plaintext whose message is at most `message` bytes; `None` where not even an empty one fits.
    #[must_use]
    pub fn plaintext_len(&self, message: usize) -> Option<usize> {
        match self.suite {
            Suite::Gcm => message.checked_sub(HEADER_LEN + GCM_TAG_LEN),
            Suite::Cbc | Suite::Ecb => {
                let blocks = message.checked_sub(HEADER_LEN + self.head_room() + MAC_TAG_LEN)? / BLOCK_LEN;
                (blocks * BLOCK_LEN).checked_sub(1)
            }
        }
    }

    /// Seals `message` in place: [`HEADER_LEN`] bytes of header, [`Cipher::head_room`] bytes of any value, plaintext.
    ///
    /// The caller guarantees that the header's seq was never sealed under this key before; `rng` gives
    /// CBC its IV (RFC 7518, 5.2.2.1) and is not used otherwise.
    ///
    /// # Panics
    /// If `message` is shorter than header and head room, or longer than the 64 GiB that GCM allows.
    pub fn seal(&self, message: &mut BytesMut, rng: &mut dyn CryptoRng) {
        let nonce = nonce(&message[..HEADER_LEN]);
        self.seal_after(HEADER_LEN, nonce, message, rng);
    }

    /// As [`Cipher::seal`], after associated data of any length: published test vectors have other headers.
    pub(crate) fn seal_after(
        &self,
        associated_len: usize,
        nonce: [u8; NONCE_LEN],
        message: &mut BytesMut,
        rng: &mut dyn CryptoRng,
    ) {
        let room = self.head_room();
        match &self.keys {
            SuiteKeys::Gcm(gcm) => {
                let (header, body) = message.split_at_mut(associated_len);
                let tag = gcm.seal(&nonce, header, body);
                message.put_slice(&tag);
            }
            SuiteKeys::EtM { mac, block, mode } => {
                let plaintext = message.len() - associated_len - room;
                message.resize(associated_len + self.body_len(plaintext) - MAC_TAG_LEN, 0);
                let (iv, body) = message[associated_len..].split_at_mut(room);
                rng.fill_bytes(iv);
                let padded = match mode {
                    BlockMode::Cbc => {
                        let iv: &[u8; BLOCK_LEN] = (&*iv).try_into().expect("CBC's head room is a block");
                        cbc::Encryptor::inner_iv_init(&**block, iv.into()).encrypt_padded::<Pkcs7>(body, plaintext)
                    }
                    BlockMode::Ecb => ecb::Encryptor::inner_init(&**block).encrypt_padded::<Pkcs7>(body, plaintext),
                };
                padded.expect("the buffer was made long enough for the padding");
                let (header, sealed) = message.split_at(associated_len);
                let tag = etm_tag(mac, header, sealed).finalize().into_bytes();
                message.put_slice(&tag[..MAC_TAG_LEN]);
            }
        }
    }

    /// Opens `message` and appends the plaintext to `plaintext`, which is left as it was if that fails.
    ///
    /// # Errors
    /// [`Rejected::Length`] if it is shorter than an empty message, or not whole blocks where the suite has blocks;
    /// [`Rejected::NotAuthentic`] in every other case.
    pub fn open(&self, message: &[u8], plaintext: &mut BytesMut) -> Result<(), Rejected> {
        let (header, body) = message.split_at_checked(HEADER_LEN).ok_or(Rejected::Length)?;
        self.open_body(header, nonce(header), body, plaintext)
    }

    /// As [`Cipher::open`], after associated data of any length: published test vectors have other headers.
    pub(crate) fn open_body(
        &self,
        header: &[u8],
        nonce: [u8; NONCE_LEN],
        body: &[u8],
        plaintext: &mut BytesMut,
    ) -> Result<(), Rejected> {
        match &self.keys {
            SuiteKeys::Gcm(gcm) => {
                let (ciphertext, tag) = body.split_last_chunk::<GCM_TAG_LEN>().ok_or(Rejected::Length)?;
                gcm.open(&nonce, header, ciphertext, tag, plaintext)
            }
            SuiteKeys::EtM { mac, block, mode } => {
                let (sealed, tag) = body.split_last_chunk::<MAC_TAG_LEN>().ok_or(Rejected::Length)?;
                let (iv, ciphertext) = sealed.split_at_checked(self.head_room()).ok_or(Rejected::Length)?;
                if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(BLOCK_LEN) {
                    return Err(Rejected::Length);
                }
                etm_tag(mac, header, sealed).verify_truncated_left(tag).map_err(|_| Rejected::NotAuthentic)?;
                let start = plaintext.len();
                plaintext.resize(start + ciphertext.len(), 0);
                let len = mode.decrypt(block, iv, ciphertext, &mut plaintext[start..]);
                plaintext.truncate(start + len.unwrap_or(0));
                // Padding is inside what the tag covers: this is a peer that does not pad, not an oracle.
                len.map(drop).ok_or(Rejected::NotAuthentic)
            }
        }
    }
}

fn nonce(header: &[u8]) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - SEQ_RANGE.len()..].copy_from_slice(&header[SEQ_RANGE]);
    nonce
}

/// HMAC over associated data, IV, ciphertext and the associated data's length in bits (RFC 7518, 5.2.2.1, step 5).
fn etm_tag(mac: &Hmac<Sha512>, header: &[u8], sealed: &[u8]) -> Hmac<Sha512> {
    mac.clone().chain_update(header).chain_update(sealed).chain_update((header.len() as u64 * 8).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::hex;

    fn cipher(suite: Suite, fill: u8) -> Cipher {
        Cipher::new(suite, &Key::generate(suite.key_len(), |key| key.fill(fill)))
    }

    fn sealed(cipher: &Cipher, header: [u8; HEADER_LEN], plaintext: &[u8]) -> BytesMut {
        let mut message = BytesMut::from(&header[..]);
        message.resize(HEADER_LEN + cipher.head_room(), 0);
        message.put_slice(plaintext);
        cipher.seal(&mut message, &mut StdRng::seed_from_u64(7));
        message
    }

    fn opened(cipher: &Cipher, message: &[u8]) -> Result<BytesMut, Rejected> {
        let mut plaintext = BytesMut::from(&b"kept"[..]);
        let result = cipher.open(message, &mut plaintext);
        assert_eq!(plaintext.split_to(4), &b"kept"[..]);
        assert!(result.is_ok() || plaintext.is_empty(), "a rejected message leaves nothing behind");
        result.map(|()| plaintext)
    }

    proptest! {
        #[test]
        fn what_was_sealed_opens(header: [u8; HEADER_LEN], plaintext in prop::collection::vec(any::<u8>(), 0..200)) {
            for suite in Suite::ALL {
                let cipher = cipher(suite, 1);
                let message = sealed(&cipher, header, &plaintext);
                prop_assert_eq!(message.len(), cipher.sealed_len(plaintext.len()));
                prop_assert_eq!(&opened(&cipher, &message).unwrap()[..], &plaintext[..]);
            }
        }

        #[test]
        fn one_bit_anywhere_is_one_too_many(plaintext in prop::collection::vec(any::<u8>(), 0..40), at: prop::sample::Index) {
            for suite in Suite::ALL {
                let cipher = cipher(suite, 2);
                let mut message = sealed(&cipher, [9; HEADER_LEN], &plaintext);
                let bit = at.index(message.len() * 8);
                message[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(opened(&cipher, &message), Err(Rejected::NotAuthentic));
            }
        }

        #[test]
        fn the_longest_plaintext_is_the_longest(limit in 0usize..300) {
            for suite in Suite::ALL {
                let cipher = cipher(suite, 3);
                match cipher.plaintext_len(limit) {
                    Some(len) => {
                        prop_assert!(cipher.sealed_len(len) <= limit);
                        prop_assert!(cipher.sealed_len(len + 1) > limit);
                    }
                    None => prop_assert!(cipher.sealed_len(0) > limit),
                }
            }
        }
    }

    #[test]
    fn every_shorter_or_longer_message_is_rejected() {
        for suite in Suite::ALL {
            let cipher = cipher(suite, 4);
            let message = sealed(&cipher, [5; HEADER_LEN], b"0123456789abcdef");
            for len in 0..message.len() {
                assert!(opened(&cipher, &message[..len]).is_err(), "{suite}, cut to {len}");
            }
            for extra in 1..=BLOCK_LEN {
                let mut long = message.clone();
                long.resize(message.len() + extra, 0);
                assert!(opened(&cipher, &long).is_err(), "{suite}, {extra} more");
            }
        }
    }

    /// Whether or not the tag is that of a peer, who could make such a message.
    #[test]
    fn a_message_of_no_whole_blocks_has_the_wrong_length() {
        for suite in [Suite::Cbc, Suite::Ecb] {
            let cipher = cipher(suite, 5);
            let SuiteKeys::EtM { mac, .. } = &cipher.keys else { unreachable!("{suite} encrypts, then MACs") };
            for blocks in 0..3 {
                for more in 0..BLOCK_LEN {
                    let body = vec![7; cipher.head_room() + blocks * BLOCK_LEN + more];
                    let tag = etm_tag(mac, &[6; HEADER_LEN], &body).finalize().into_bytes();
                    let message = [&[6; HEADER_LEN], &body[..], &tag[..MAC_TAG_LEN]].concat();
                    let is_whole = blocks > 0 && more == 0;
                    let expected = if is_whole { Rejected::NotAuthentic } else { Rejected::Length };
                    // No block here ends with padding.
                    assert_eq!(opened(&cipher, &message), Err(expected), "{suite}: {blocks} blocks, {more} bytes");
                }
            }
        }
    }

    #[test]
    fn another_key_or_suite_does_not_open() {
        let message = sealed(&cipher(Suite::Gcm, 1), [0; HEADER_LEN], b"a line\n");
        assert_eq!(opened(&cipher(Suite::Gcm, 2), &message), Err(Rejected::NotAuthentic));
        let message = sealed(&cipher(Suite::Cbc, 1), [0; HEADER_LEN], b"a line\n");
        assert_eq!(opened(&cipher(Suite::Ecb, 1), &message), Err(Rejected::NotAuthentic));
    }

    /// FIPS 197, appendix C.3: one ECB block, before the padding block.
    #[test]
    fn ecb_block_is_fips_197() {
        let key: Vec<u8> = [vec![0; 32], (0..32).collect()].concat();
        let cipher = Cipher::new(Suite::Ecb, &Key::generate(64, |bytes| bytes.copy_from_slice(&key)));
        let message = sealed(&cipher, [0; HEADER_LEN], &hex("00112233445566778899aabbccddeeff"));
        assert_eq!(message[HEADER_LEN..][..BLOCK_LEN], hex("8ea2b7ca516745bfeafc49904b496089"));
    }
}
