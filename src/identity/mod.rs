//! Identities: this device's own key, and the keys of the peers that it trusts.
//!
//! Both live in the configuration directory: `identity.pem`, made on first use, and `known_peers`.

use std::fmt;

use rand::CryptoRng;
use rsa::pkcs1::{ALGORITHM_ID, RsaPrivateKeyRef};
use rsa::pkcs8::der::Decode;
use rsa::pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding, PrivateKeyInfoRef, SecretDocument};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::files::{self, Dir, Guard};
use crate::report::Reporter;
use crate::system_rng::system_rng;
use crate::text::show;
use crate::{Error, Exit, Result};

pub(crate) use self::binding::Binding;
pub(crate) use self::key::BadKey;
#[cfg(test)]
pub(crate) use self::key::tests::stranger;
pub use self::key::{Fingerprint, PublicKey};
pub(crate) use self::known_peers::{
    FormerPeer, KNOWN_PEERS_FILE, KnownPeers, MAX_KNOWN_PEERS_LEN, NewPeer, PeersFile, PeersLine, PeersStore, Selection,
};
#[cfg(test)]
pub(crate) use self::siblings::siblings;
pub(crate) use crate::name::PeerName;

mod binding;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod key;
mod known_peers;
mod lookalike;
#[cfg(test)]
mod siblings;
#[cfg(test)]
mod vectors;

/// Length of a new identity key's modulus, in bits.
pub(crate) const KEY_BITS: usize = 3072;

/// This device's key, in the configuration directory.
pub(crate) const IDENTITY_FILE: &str = "identity.pem";
const IDENTITY_LOCK: &str = "identity.lock";

/// This device's long-term key: RSA, which only ever signs.
pub struct Identity {
    key: rsa::PrivateKey,
    public: PublicKey,
}

impl Identity {
    /// Reads `identity.pem` (PKCS#8 PEM); `None` where there is none yet.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where others can use the file, [`Exit::Config`] where it holds no RSA key of 2048 to 8192
    /// bits.
    pub(crate) fn load(dir: &Dir) -> Result<Option<Self>> {
        read(dir, Self::from_pem)
    }

    /// The public half of `identity.pem`, which takes no arithmetic; `None` where there is none yet.
    ///
    /// # Errors
    /// As [`Identity::load`], for a file whose private half is not whole only if that shows in its encoding.
    pub(crate) fn load_public(dir: &Dir) -> Result<Option<PublicKey>> {
        read(dir, public_from_pem)
    }

    /// This device's identity, made first where there is none. The user is told where: a new key in a directory that was
    /// mistyped is no peer's.
    ///
    /// # Errors
    /// As [`Identity::load_or_create`].
    pub(crate) fn of_device(dir: &Dir, report: &Reporter) -> Result<Self> {
        if let Some(identity) = Self::load(dir)? {
            return Ok(identity);
        }
        let identity = Self::load_or_create(dir, &mut system_rng())?;
        report.info(format_args!("generated a new identity key for this device: {}", show(&dir.join(IDENTITY_FILE))));
        Ok(identity)
    }

    /// Reads `identity.pem`, made first where there is none: 3072 bits, mode 0600.
    ///
    /// Of several processes that find none at once, one makes it and all end with the same key.
    ///
    /// # Errors
    /// As [`Identity::load`]; [`Exit::Failed`] where it cannot be stored.
    fn load_or_create(dir: &Dir, rng: &mut impl CryptoRng) -> Result<Self> {
        Self::load_or_create_bits(dir, rng, KEY_BITS)
    }

    fn load_or_create_bits(dir: &Dir, rng: &mut impl CryptoRng, bits: usize) -> Result<Self> {
        if let Some(identity) = Self::load(dir)? {
            return Ok(identity);
        }
        let lock = files::lock(dir, IDENTITY_LOCK)?;
        if let Some(identity) = Self::load(dir)? {
            return Ok(identity);
        }
        let identity = Self::generate_bits(rng, bits)?;
        if files::create(dir, &lock, IDENTITY_FILE, identity.to_pem()?.as_bytes())? {
            return Ok(identity);
        }
        // A process that does not know the lock put a key there meanwhile: that one counts.
        Self::load(dir)?
            .ok_or_else(|| Error::new(Exit::TryAgain, show(&dir.join(IDENTITY_FILE))).because("it vanished"))
    }

    /// A new key of 2048 to 8192 bits, in memory only; 3072 take from 0.2 s to several seconds on a small device.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the library cannot make one.
    pub(crate) fn generate_bits(rng: &mut impl CryptoRng, bits: usize) -> Result<Self> {
        let failed = |why: &dyn fmt::Display| Error::new(Exit::Failed, "cannot generate an identity key").because(why);
        let key = rsa::PrivateKey::new(rng, bits).map_err(|err| failed(&err))?;
        Self::from_key(key).map_err(|err| failed(&err))
    }

    fn from_pem(pem: &str) -> std::result::Result<Self, BadFile> {
        Self::from_key(rsa::PrivateKey::from_pkcs8_pem(pem).map_err(|_| NOT_A_KEY)?).map_err(BadFile::Key)
    }

    fn from_key(key: rsa::PrivateKey) -> std::result::Result<Self, BadKey> {
        let der = key.to_public_key().to_public_key_der().map_err(|_| BadKey::Encoding)?;
        Ok(Self { public: PublicKey::from_der(der.as_bytes())?, key })
    }

    fn to_pem(&self) -> Result<Zeroizing<String>> {
        self.key
            .to_pkcs8_pem(LineEnding::LF)
            .map_err(|err| Error::new(Exit::Failed, "cannot encode the identity key").because(err))
    }

    /// The half that peers pin.
    #[must_use]
    pub(crate) fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs with RSASSA-PSS, SHA-256, MGF1-SHA-256, a salt of 32 bytes (RFC 8017, 8.1); as long as the modulus.
    ///
    /// Blinded. The salt is the generator's first 32 bytes and blinding leaves no trace in the result: the same message
    /// and generator state give the same signature.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the library finds its own result wrong.
    pub(crate) fn sign(&self, message: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>> {
        self.key
            .pss_sign_with_rng::<Sha256, _>(rng, message)
            .map_err(|err| Error::new(Exit::Failed, "cannot sign with the identity key").because(err))
    }
}

/// What is wrong with the text of `identity.pem`.
enum BadFile {
    Form(&'static str),
    Key(BadKey),
}

const NOT_A_KEY: BadFile = BadFile::Form("not an RSA private key in PKCS#8 PEM");

impl fmt::Display for BadFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(why) => f.write_str(why),
            Self::Key(why) => why.fmt(f),
        }
    }
}

/// The public half of a key in PEM.
fn public_from_pem(pem: &str) -> std::result::Result<PublicKey, BadFile> {
    let (label, document) = SecretDocument::from_pem(pem).map_err(|_| NOT_A_KEY)?;
    let info = PrivateKeyInfoRef::from_der(document.as_bytes()).map_err(|_| NOT_A_KEY)?;
    if label != "PRIVATE KEY" || info.algorithm != ALGORITHM_ID {
        return Err(NOT_A_KEY);
    }
    let key = RsaPrivateKeyRef::from_der(info.private_key.as_bytes()).map_err(|_| NOT_A_KEY)?;
    PublicKey::from_parts(&key.public_key()).map_err(BadFile::Key)
}

/// Reads `identity.pem`, and what `parse` makes of it; `None` where there is none yet.
fn read<T>(dir: &Dir, parse: impl FnOnce(&str) -> std::result::Result<T, BadFile>) -> Result<Option<T>> {
    let Some(bytes) = files::read(dir, IDENTITY_FILE, Guard::Secret)? else { return Ok(None) };
    let text = std::str::from_utf8(&bytes).map_err(|_| BadFile::Form("not a PEM file"));
    text.and_then(parse).map(Some).map_err(|why| {
        Error::new(Exit::Config, show(&dir.join(IDENTITY_FILE))).because(why).hint(
            "restore a good copy; a new key is generated only if there is no file, and then every peer must trust the new key",
        )
    })
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.public.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use std::process::{Command, Stdio};

    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    fn rng(seed: u64) -> StdRng {
        StdRng::seed_from_u64(seed)
    }

    fn home() -> (tempfile::TempDir, Dir) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Public).unwrap();
        (home, dir)
    }

    #[test]
    fn a_signature_is_a_function_of_message_and_generator() {
        let identity = Identity::generate_bits(&mut rng(1), 2048).unwrap();
        let first = identity.sign(b"message", &mut rng(2)).unwrap();
        assert_eq!(first.len(), 256);
        assert_eq!(identity.sign(b"message", &mut rng(2)).unwrap(), first);
        assert_ne!(identity.sign(b"message", &mut rng(3)).unwrap(), first);
        assert!(identity.public().verify(b"message", &first).is_ok());
        assert!(identity.public().verify(b"massage", &first).is_err());
    }

    #[test]
    fn the_key_is_made_once_and_private() {
        let (_home, dir) = home();
        assert!(Identity::load(&dir).unwrap().is_none());
        assert!(Identity::load_public(&dir).unwrap().is_none());
        let made = Identity::load_or_create_bits(&dir, &mut rng(1), 2048).unwrap();
        let again = Identity::load_or_create_bits(&dir, &mut rng(2), 2048).unwrap();
        assert_eq!(made.public(), again.public());
        assert_eq!(Identity::load_public(&dir).unwrap().as_ref(), Some(made.public()));
        let path = dir.join(IDENTITY_FILE);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let err = Identity::load_or_create_bits(&dir, &mut rng(3), 2048).unwrap_err();
        assert_eq!(
            (err.exit(), err.hint_text().unwrap()),
            (Exit::NotTrusted, &*format!("chmod 600 {}", path.display()))
        );
    }

    #[test]
    fn many_at_once_end_with_the_same_key() {
        let (_home, dir) = home();
        let keys: Vec<PublicKey> = std::thread::scope(|scope| {
            let make = |seed| {
                let path = dir.path();
                scope.spawn(move || {
                    let dir = Dir::create(path, Guard::Public).unwrap();
                    Identity::load_or_create_bits(&dir, &mut rng(seed), 2048).unwrap().public().clone()
                })
            };
            let makers: Vec<_> = (0..4).map(make).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]));
    }

    #[test]
    fn a_torn_or_foreign_file_is_refused_and_kept() {
        let (_home, dir) = home();
        let whole = Identity::generate_bits(&mut rng(1), 2048).unwrap().to_pem().unwrap();
        for text in ["", "not a key", &whole[..whole.len() / 2], &whole.replace("PRIVATE", "PUBLIC")] {
            let path = dir.join(IDENTITY_FILE);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert_eq!(Identity::load_or_create_bits(&dir, &mut rng(2), 2048).unwrap_err().exit(), Exit::Config);
            let err = Identity::load_public(&dir).unwrap_err();
            assert_eq!(err.exit(), Exit::Config, "{text}");
            assert!(err.to_string().ends_with("identity.pem: not an RSA private key in PKCS#8 PEM"), "{err}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    fn openssl(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
        let mut command = Command::new("openssl");
        let mut child =
            command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        child.stdin.take().unwrap().write_all(input).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "openssl {args:?}");
        Some(out.stdout)
    }

    #[test]
    fn openssl_reads_the_key_and_we_read_openssls() {
        let (_home, dir) = home();
        let identity = Identity::load_or_create(&dir, &mut rng(1)).unwrap();
        let path = dir.join(IDENTITY_FILE);
        let path = path.to_str().unwrap();
        let Some(spki) = openssl(&["pkey", "-in", path, "-pubout", "-outform", "DER"], b"") else {
            return; // No openssl here to ask.
        };
        assert_eq!(spki, identity.public().der());
        assert_eq!(identity.public().bits(), KEY_BITS);

        let signature = identity.sign(b"message", &mut rng(2)).unwrap();
        std::fs::write(dir.join("signature"), signature).unwrap();
        let file = dir.join("signature");
        let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sigopt", "rsa_mgf1_md:sha256"];
        let mut args = vec!["dgst", "-sha256", "-prverify", path, "-signature", file.to_str().unwrap()];
        args.extend(pss);
        assert_eq!(openssl(&args, b"message").unwrap(), b"Verified OK\n");

        let theirs = openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"], b"").unwrap();
        std::fs::write(path, theirs).unwrap();
        let theirs = Identity::load(&dir).unwrap().unwrap();
        assert_eq!(theirs.public().bits(), 2048);
        assert_eq!(Identity::load_public(&dir).unwrap().as_ref(), Some(theirs.public()));
    }

    #[test]
    fn debug_shows_the_fingerprint_only() {
        let identity = Identity::generate_bits(&mut rng(1), 2048).unwrap();
        assert_eq!(format!("{identity:?}"), format!("Identity({})", identity.public().fingerprint()));
    }
}
