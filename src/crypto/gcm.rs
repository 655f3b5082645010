//! AES-256-GCM (NIST SP 800-38D), by the faster of two implementations that the processor can run.
//!
//! graviola encrypts and authenticates in one pass, with the wide instructions of newer processors (VAES, VPCLMULQDQ) where
//! there are any: with messages of 64 KiB it is three times as fast. It exists for two architectures, and there for processors
//! with certain instructions; `aes-gcm` runs everywhere. Both give the same bytes, which the tests check.

use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{AeadInOut, Aes256Gcm, KeyInit};
use bytes::BytesMut;

use crate::Rejected;
use crate::stack::without_traces;

/// Length in bytes of the nonce.
pub(crate) const NONCE_LEN: usize = 12;
/// Length in bytes of the tag.
pub(crate) const TAG_LEN: usize = 16;
/// Length in bytes of the key.
const KEY_LEN: usize = 32;

/// A key, expanded and ready to seal or open; erased when it is dropped.
pub(crate) enum Gcm {
    /// Only where [`graviola::util::is_cpu_supported`]: it panics elsewhere.
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    Graviola(Box<graviola::aead::AesGcm>),
    RustCrypto(Box<Aes256Gcm>),
}

impl Gcm {
    /// Expands a key.
    pub(crate) fn new(key: &[u8; KEY_LEN]) -> Self {
        Self::graviola(key).unwrap_or_else(|| Self::rust_crypto(key))
    }

    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    fn graviola(key: &[u8; KEY_LEN]) -> Option<Self> {
        let expand = || Self::Graviola(Box::new(graviola::aead::AesGcm::new(key)));
        graviola::util::is_cpu_supported().then(|| without_traces(expand))
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn graviola(_key: &[u8; KEY_LEN]) -> Option<Self> {
        None
    }

    fn rust_crypto(key: &[u8; KEY_LEN]) -> Self {
        without_traces(|| Self::RustCrypto(Box::new(Aes256Gcm::new(key.into()))))
    }

    /// The key for each implementation that this processor can run.
    #[cfg(test)]
    pub(crate) fn each(key: &[u8; KEY_LEN]) -> Vec<Self> {
        Self::graviola(key).into_iter().chain([Self::rust_crypto(key)]).collect()
    }

    /// Encrypts `message` in place, and returns its tag.
    ///
    /// # Panics
    /// If `message` is longer than the 64 GiB that GCM allows.
    pub(crate) fn seal(&self, nonce: &[u8; NONCE_LEN], associated: &[u8], message: &mut [u8]) -> [u8; TAG_LEN] {
        without_traces(|| match self {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Self::Graviola(key) => {
                let mut tag = [0; TAG_LEN];
                key.encrypt(nonce, associated, message, &mut tag);
                tag
            }
            Self::RustCrypto(key) => {
                let tag = key.encrypt_inout_detached(nonce.into(), associated, InOutBuf::from(message));
                tag.expect("a packet is shorter than GCM's limit").into()
            }
        })
    }

    /// Decrypts `ciphertext`, and appends it to `plaintext`, which is left as it was if that fails.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`] if the tag is not that of this nonce, associated data and ciphertext.
    pub(crate) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        ciphertext: &[u8],
        tag: &[u8; TAG_LEN],
        plaintext: &mut BytesMut,
    ) -> Result<(), Rejected> {
        let start = plaintext.len();
        let is_authentic = without_traces(|| match self {
            #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
            Self::Graviola(key) => {
                plaintext.extend_from_slice(ciphertext);
                key.decrypt(nonce, associated, &mut plaintext[start..], tag).is_ok()
            }
            Self::RustCrypto(key) => {
                plaintext.resize(start + ciphertext.len(), 0);
                let buffers = InOutBuf::new(ciphertext, &mut plaintext[start..]).expect("both are of one length");
                key.decrypt_inout_detached(nonce.into(), associated, buffers, tag.into()).is_ok()
            }
        });
        if !is_authentic {
            plaintext.truncate(start);
            return Err(Rejected::NotAuthentic);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::hint::black_box;
    use std::io::{Read, Seek, SeekFrom};

    use proptest::prelude::*;

    use super::*;

    fn sealed(gcm: &Gcm, associated: &[u8], message: &[u8]) -> (Vec<u8>, [u8; TAG_LEN]) {
        let mut body = message.to_vec();
        let tag = gcm.seal(&[3; NONCE_LEN], associated, &mut body);
        (body, tag)
    }

    /// Each seals alike, and opens what any other sealed.
    fn check_alike(associated: &[u8], message: &[u8]) {
        let each = Gcm::each(&[1; KEY_LEN]);
        let (body, tag) = sealed(&each[0], associated, message);
        for gcm in &each {
            assert!(sealed(gcm, associated, message) == (body.clone(), tag));
            let mut opened = BytesMut::from(&b"kept"[..]);
            gcm.open(&[3; NONCE_LEN], associated, &body, &tag, &mut opened).unwrap();
            assert!(opened[..4] == b"kept"[..] && opened[4..] == *message);
            opened.truncate(4);
            let mut other = tag;
            other[message.len() % TAG_LEN] ^= 1;
            let refused = gcm.open(&[3; NONCE_LEN], associated, &body, &other, &mut opened);
            assert_eq!((refused, &opened[..]), (Err(Rejected::NotAuthentic), &b"kept"[..]));
        }
    }

    proptest! {
        #[test]
        fn each_implementation_gives_the_same(
            associated in prop::collection::vec(any::<u8>(), 0..40),
            message in prop::collection::vec(any::<u8>(), 0..2000),
        ) {
            check_alike(&associated, &message);
        }
    }

    #[test]
    fn each_implementation_gives_the_same_for_every_length_and_the_longest_messages() {
        for len in (0..600).chain([64 << 10, (64 << 10) + 1, (1 << 20) - 1]) {
            let message: Vec<u8> = (0..len).map(|at: usize| at.to_le_bytes()[at % 3]).collect();
            check_alike(&message[..len.min(20)], &message);
        }
    }

    /// How often two of the first round keys, which are the key, stand on the stack of this thread.
    fn count_on_stack(key: &dyn Fn(usize) -> u8) -> usize {
        let here = std::ptr::from_ref(&key).addr();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ranges = maps.lines().map(|line| {
            let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
            [start, end].map(|text| usize::from_str_radix(text, 16).unwrap())
        });
        let [start, end] = ranges.into_iter().find(|[start, end]| (*start..*end).contains(&here)).unwrap();
        let start = start.max(here.saturating_sub(64 << 10));
        let mut stack = vec![0; end.min(here + (64 << 10)) - start];
        let mut memory = File::open("/proc/self/mem").unwrap();
        memory.seek(SeekFrom::Start(start as u64)).unwrap();
        memory.read_exact(&mut stack).unwrap();
        stack.windows(KEY_LEN).filter(|window| window.iter().enumerate().all(|(at, byte)| *byte == key(at))).count()
    }

    /// The key is computed byte by byte, so that no other copy of it is on the stack.
    #[cfg(target_os = "linux")]
    #[test]
    fn no_key_is_left_on_the_stack() {
        let byte = |at: usize| u8::try_from(at).unwrap().wrapping_mul(37) ^ black_box(0x5a);
        let mut key = Box::new([0; KEY_LEN]);
        key.iter_mut().enumerate().for_each(|(at, to)| *to = byte(at));
        let each = Gcm::each(&key);
        assert_eq!(count_on_stack(&byte), 0, "expanded");
        for len in [1, 300, 64 << 10] {
            for gcm in &each {
                let mut body = vec![0; len];
                let tag = gcm.seal(&[3; NONCE_LEN], b"", &mut body);
                assert_eq!(count_on_stack(&byte), 0, "sealed {len}");
                gcm.open(&[3; NONCE_LEN], b"", &body, &tag, &mut BytesMut::new()).unwrap();
                assert_eq!(count_on_stack(&byte), 0, "opened {len}");
            }
        }
        let on_stack = *key;
        assert_eq!(count_on_stack(&byte), 1, "one that is there is found: {}", black_box(&on_stack).len());
    }
}
