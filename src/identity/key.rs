//! A peer's public key: parsed strictly, compared by its exact bytes, shown as a fingerprint.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use base64::{DecodeSliceError, Engine};
use rsa::pkcs1;
use rsa::pkcs8::DecodePublicKey;
use rsa::pkcs8::der::asn1::BitStringRef;
use rsa::pkcs8::der::{Decode, Encode};
use rsa::pkcs8::spki::{SubjectPublicKeyInfo, SubjectPublicKeyInfoRef};
use sha2::{Digest, Sha256};

use super::PeerName;
use super::lookalike::Lookalike;
use crate::Rejected;

/// The type of the key in a key line.
pub(super) const KEY_TYPE: &str = "sts-rsa";

/// Longest encoding that is parsed, in bytes: an RSA key of 8192 bits needs 1,062.
const MAX_DER_LEN: usize = 2048;

/// An RSA public key that this protocol accepts (`sts-protocol(7)`, "Primitives").
///
/// The modulus has 2048 to 8192 bits, the exponent is odd and from 65537 to 2^32. Equal keys have equal bytes: a key
/// has one encoding here.
///
/// Kept as its encoding, which clones share: of ten thousand peers few sign anything, and no tool but sts-pair looks at a
/// signature.
#[derive(Clone)]
pub struct PublicKey {
    der: Arc<[u8]>,
    bits: u16,
    fingerprint: Fingerprint,
}

/// Why a text or bytes are not a key that is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKey {
    /// A key line has two words, `sts-rsa` and the key in base64; one by which a key is pinned begins with a name.
    Line,
    /// It is something else, which people take for a key line.
    Instead(Lookalike),
    /// The name breaks the rule for names.
    Name,
    /// Not base64.
    Base64,
    /// Not an RSA key as `SubjectPublicKeyInfo` in DER (RFC 5280, 4.1.2.7), or not its only encoding.
    Encoding,
    /// The modulus has fewer than 2048 or more than 8192 bits, or is even.
    Modulus,
    /// The exponent is even, below 65537 or above 2^32.
    Exponent,
}

impl fmt::Display for BadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line => write!(f, "not a key line of the form `{KEY_TYPE} BASE64`"),
            Self::Instead(found) => found.fmt(f),
            Self::Name => crate::name::BadName.fmt(f),
            Self::Base64 => f.write_str("the key is incomplete or damaged: not base64"),
            Self::Encoding => f.write_str("the key is incomplete or damaged: not an RSA public key in DER"),
            Self::Modulus => f.write_str("the RSA modulus is even, or does not have 2048 to 8192 bits"),
            Self::Exponent => f.write_str("the RSA exponent is even, or is not from 65537 to 2^32"),
        }
    }
}

impl std::error::Error for BadKey {}

impl PublicKey {
    /// Parses a `SubjectPublicKeyInfo` in DER.
    ///
    /// # Errors
    /// [`BadKey`], also where encoding the key again gives other bytes.
    pub fn from_der(der: &[u8]) -> Result<Self, BadKey> {
        if der.len() > MAX_DER_LEN {
            return Err(BadKey::Encoding);
        }
        let bad = |_| BadKey::Encoding;
        let info = SubjectPublicKeyInfoRef::from_der(der).map_err(bad)?;
        if info.algorithm != pkcs1::ALGORITHM_ID {
            return Err(BadKey::Encoding);
        }
        let bits = info.subject_public_key.as_bytes().ok_or(BadKey::Encoding)?;
        let parsed = Self::from_parts(&pkcs1::RsaPublicKeyRef::from_der(bits).map_err(bad)?)?;
        if *parsed.der == *der { Ok(parsed) } else { Err(BadKey::Encoding) }
    }

    /// The key of this modulus and exponent.
    pub(super) fn from_parts(key: &pkcs1::RsaPublicKeyRef<'_>) -> Result<Self, BadKey> {
        let modulus = key.modulus.as_bytes();
        let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
        if !(2048..=8192).contains(&bits) || modulus.last().is_some_and(|last| last % 2 == 0) {
            return Err(BadKey::Modulus);
        }
        let exponent = key.public_exponent.as_bytes().iter().try_fold(0_u64, |sum, byte| {
            sum.checked_mul(256).and_then(|shifted| shifted.checked_add(u64::from(*byte)))
        });
        if !exponent.is_some_and(|e| e % 2 == 1 && (65537..=1 << 32).contains(&e)) {
            return Err(BadKey::Exponent);
        }
        let bad = |_| BadKey::Encoding;
        // Both on the stack: a gateway reads a hundred thousand keys at once.
        let (mut inner, mut outer) = ([0; MAX_DER_LEN], [0; MAX_DER_LEN]);
        let subject_public_key =
            BitStringRef::from_bytes(key.encode_to_slice(&mut inner).map_err(bad)?).map_err(bad)?;
        let info = SubjectPublicKeyInfo { algorithm: pkcs1::ALGORITHM_ID, subject_public_key };
        let der: Arc<[u8]> = info.encode_to_slice(&mut outer).map_err(bad)?.into();
        let bits = u16::try_from(bits).map_err(|_| BadKey::Modulus)?;
        Ok(Self { fingerprint: Fingerprint::of(&der), der, bits })
    }

    /// The `SubjectPublicKeyInfo` in DER: what goes over the wire and what is hashed.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        #[cfg(test)]
        crate::looks::note();
        &self.der
    }

    /// Length of the modulus in bits; a signature has an eighth of it in bytes.
    #[cfg(test)]
    pub(super) fn bits(&self) -> usize {
        self.bits.into()
    }

    /// SHA-256 of the DER.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        #[cfg(test)]
        crate::looks::note();
        self.fingerprint
    }

    /// Checks a signature made as [`super::Identity::sign`] says.
    ///
    /// # Errors
    /// [`Rejected::NotAuthentic`], whatever is wrong with it.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Rejected> {
        if signature.len() != usize::from(self.bits.div_ceil(8)) {
            return Err(Rejected::NotAuthentic);
        }
        let key = rsa::PublicKey::from_public_key_der(&self.der).map_err(|_| Rejected::NotAuthentic)?;
        key.pss_verify::<Sha256>(message, signature).map_err(|_| Rejected::NotAuthentic)
    }

    /// The line by which a key is handed on: `sts-rsa BASE64`, without a newline.
    #[must_use]
    pub(crate) fn key_line(&self) -> String {
        format!("{KEY_TYPE} {}", STANDARD.encode(&self.der))
    }

    /// The line by which a key is pinned: `NAME sts-rsa BASE64`, without a newline.
    #[must_use]
    pub fn to_line(&self, name: &PeerName) -> String {
        format!("{name} {}", self.key_line())
    }

    /// Parses the line by which a key is handed on; blanks around its words are free.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn from_key_line(line: &str) -> Result<Self, BadKey> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err(Lookalike::of(line).map_or(BadKey::Line, BadKey::Instead));
        };
        Self::of_kind(kind, key).map_err(|why| match why {
            BadKey::Line => Lookalike::of(line).map_or(BadKey::Line, BadKey::Instead),
            why => why,
        })
    }

    /// The key of this type in base64.
    ///
    /// # Errors
    /// [`BadKey`]; [`BadKey::Line`] where it is of another type.
    pub(super) fn of_kind(kind: &str, base64: &str) -> Result<Self, BadKey> {
        if kind != KEY_TYPE {
            return Err(BadKey::Line);
        }
        let mut der = [0; MAX_DER_LEN];
        match STANDARD.decode_slice(base64, &mut der) {
            Ok(len) => Self::from_der(&der[..len]),
            Err(DecodeSliceError::DecodeError(_)) => Err(BadKey::Base64),
            Err(DecodeSliceError::OutputSliceTooSmall) => Err(BadKey::Encoding),
        }
    }

    /// Parses the line by which a key is pinned.
    ///
    /// # Errors
    /// [`BadKey`].
    pub(crate) fn from_line(line: &str) -> Result<(PeerName, Self), BadKey> {
        let foreign = || Lookalike::of(line).filter(|found| *found != Lookalike::PinnedLine).map(BadKey::Instead);
        let (name, key) = line.trim_start().split_once([' ', '\t']).ok_or_else(|| foreign().unwrap_or(BadKey::Line))?;
        let key = Self::from_key_line(key).map_err(|why| foreign().unwrap_or(why))?;
        Ok((PeerName::from_str(name).map_err(|_| BadKey::Name)?, key))
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.der() == other.der()
    }
}

impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

/// SHA-256 of a public key's DER, shown as OpenSSH shows its own: `SHA256:` and base64 without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The fingerprint of a key's DER, whether or not it is one that we would use.
    #[must_use]
    pub(crate) fn of(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for Fingerprint {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut digits = [0; 43];
        let len = STANDARD_NO_PAD.encode_slice(self.0, &mut digits).expect("32 bytes have 43 digits");
        f.write_str("SHA256:")?;
        f.write_str(std::str::from_utf8(&digits[..len]).expect("base64 is ASCII"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    use std::sync::OnceLock;

    use rand::SeedableRng;
    use rsa::pkcs8::der::asn1::UintRef;

    /// A few keys, made once a test run.
    pub(in crate::identity) fn keys() -> &'static [PublicKey; 3] {
        static KEYS: OnceLock<[PublicKey; 3]> = OnceLock::new();
        KEYS.get_or_init(|| {
            let mut rng = rand::rngs::StdRng::seed_from_u64(7);
            [(); 3].map(|()| crate::identity::Identity::generate_bits(&mut rng, 2048).unwrap().public().clone())
        })
    }

    /// A key without a private half, another one for each number.
    pub(crate) fn stranger(number: u32) -> PublicKey {
        let mut modulus = [0xff; 256];
        modulus[1..5].copy_from_slice(&number.to_be_bytes());
        with(&modulus, 65537).unwrap()
    }

    // A modulus that is not a product of primes will do: only its size is looked at.
    fn of(bits: u32, exponent: u64) -> Result<PublicKey, BadKey> {
        let mut modulus = vec![0xff_u8; bits.div_ceil(8) as usize];
        modulus[0] >>= (8 - bits % 8) % 8;
        with(&modulus, exponent)
    }

    fn with(modulus: &[u8], exponent: u64) -> Result<PublicKey, BadKey> {
        let exponent = exponent.to_be_bytes();
        PublicKey::from_parts(&pkcs1::RsaPublicKeyRef {
            modulus: UintRef::new(modulus).unwrap(),
            public_exponent: UintRef::new(&exponent).unwrap(),
        })
    }

    #[test]
    fn sizes_are_bounded() {
        assert_eq!(of(2047, 65537).unwrap_err(), BadKey::Modulus);
        for bits in [2048, 2049, 8192] {
            let key = of(bits, 65537).unwrap();
            assert_eq!(key.bits(), bits as usize);
            assert_eq!(PublicKey::from_der(key.der()).unwrap(), key);
        }
        assert_eq!(of(8193, 65537).unwrap_err(), BadKey::Modulus);
        let even = [vec![0xff; 255], vec![0xfe]].concat();
        assert_eq!(with(&even, 65537).unwrap_err(), BadKey::Modulus);
        for exponent in [3, 17, 65535, (1 << 32) + 1] {
            assert_eq!(of(2048, exponent).unwrap_err(), BadKey::Exponent);
        }
        assert!(of(2048, 65538).is_err());
        assert!(of(2048, (1 << 32) - 1).is_ok());
    }

    #[test]
    fn a_key_has_one_encoding() {
        let der = keys()[0].der();
        assert_eq!(PublicKey::from_der(der).unwrap(), keys()[0]);
        for at in 0..der.len() {
            assert!(PublicKey::from_der(&der[..at]).is_err(), "cut at {at}");
            let mut flipped = der.to_vec();
            flipped[at] ^= 0x80;
            assert_ne!(PublicKey::from_der(&flipped).ok().as_ref(), Some(&keys()[0]), "flipped at {at}");
        }
        let longer = [der, &[0]].concat();
        assert_eq!(PublicKey::from_der(&longer).unwrap_err(), BadKey::Encoding);
        assert_eq!(PublicKey::from_der(&vec![0x30; 1 << 20]).unwrap_err(), BadKey::Encoding);
    }

    #[test]
    fn a_line_leads_back_to_its_key() {
        let name: PeerName = "gateway".parse().unwrap();
        let line = keys()[0].to_line(&name);
        assert_eq!(PublicKey::from_line(&format!("  {line} \r\n")).unwrap(), (name, keys()[0].clone()));
        let base64 = line.rsplit(' ').next().unwrap();
        for (bad, why) in [
            (String::new(), BadKey::Instead(Lookalike::Nothing)),
            (format!("ssh-rsa {base64} user@host"), BadKey::Instead(Lookalike::SshKey)),
            ("gateway sts-rsa".into(), BadKey::Line),
            (format!("gateway ssh-rsa {base64}"), BadKey::Instead(Lookalike::SshKey)),
            (format!("{line} comment"), BadKey::Line),
            (format!("../x sts-rsa {base64}"), BadKey::Name),
            (line[..line.len() - 1].into(), BadKey::Base64),
            (format!("{line}="), BadKey::Base64),
            ("gateway sts-rsa AAAA".into(), BadKey::Encoding),
        ] {
            assert_eq!(PublicKey::from_line(&bad).unwrap_err(), why, "{bad}");
        }
    }

    #[test]
    fn what_is_taken_for_a_key_line_is_named() {
        let line = keys()[0].to_line(&"gateway".parse().unwrap());
        let pasted = keys()[0].key_line();
        for (text, expected) in [
            ("", Lookalike::Nothing),
            (" \n", Lookalike::Nothing),
            (&*pasted.replace('A', "A\r\n"), Lookalike::BrokenLine),
            (&*format!("{pasted}\n{pasted}\n"), Lookalike::BrokenLine),
            (&*line, Lookalike::PinnedLine),
            ("SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU", Lookalike::Fingerprint),
            ("ssh-rsa AAAA user@host\n", Lookalike::SshKey),
            ("ssh-ed25519 AAAA\n", Lookalike::SshKey),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n", Lookalike::PublicPem),
            ("-----BEGIN RSA PRIVATE KEY-----\nAAAA\n", Lookalike::PrivatePem),
        ] {
            assert_eq!(PublicKey::from_key_line(text), Err(BadKey::Instead(expected)), "{text}");
        }
        assert_eq!(PublicKey::from_key_line("hello"), Err(BadKey::Line));
    }

    #[test]
    fn fingerprints_look_like_opensshs() {
        let fingerprint = Fingerprint(Sha256::digest(b"").into());
        assert_eq!(fingerprint.to_string(), "SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU");
    }

    #[test]
    fn no_wrong_signature_verifies() {
        let key = &keys()[0];
        for wrong in [vec![], vec![0; 255], vec![0; 256], vec![0xff; 256], vec![0; 257], vec![1; 10_000]] {
            assert_eq!(key.verify(b"message", &wrong), Err(Rejected::NotAuthentic));
        }
    }
}
