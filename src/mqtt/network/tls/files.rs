//! Certificates and keys in files (PEM, RFC 7468), and what is wrong with them.

use std::fmt;
use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::system_authorities;
use crate::files;
use crate::mqtt::tls_options::{ClientCert, TlsOptions};
use crate::text::{quote, show, tame};
use crate::{Error, Exit, Result};

/// Longest file that is read, bytes: a bundle of all public authorities has 250,000.
pub(super) const MAX_FILE_LEN: u64 = 4 << 20;

/// What a line begins with that begins a key with a passphrase, in the two formats that there are.
const ENCRYPTED: [&str; 2] = ["-----BEGIN ENCRYPTED PRIVATE KEY-----", "Proc-Type: 4,ENCRYPTED"];

/// A file that was read, for the errors of what is in it.
struct NamedContent {
    /// The key of the configuration that names it.
    key: &'static str,
    path: PathBuf,
    bytes: Zeroizing<Vec<u8>>,
}

/// The files that the configuration names, as they are now.
pub(super) struct Files {
    ca: Option<NamedContent>,
    client: Option<(NamedContent, NamedContent)>,
    /// What tells whether the system's authorities are the same, where these count.
    system: String,
}

impl Files {
    /// # Errors
    /// [`Exit::Config`] where one cannot be read, [`Exit::Failed`] where the machine fails to read it;
    /// [`Exit::NotTrusted`] where others can change it.
    pub(super) fn read(options: &TlsOptions) -> Result<Self> {
        let ca = options.ca.as_ref().map(|path| NamedContent::read("ca_file", path)).transpose()?;
        let client = match &options.client {
            Some(ClientCert { cert, key }) => {
                Some((NamedContent::read("cert_file", cert)?, NamedContent::read("key_file", key)?))
            }
            None => None,
        };
        let system = if ca.is_none() && options.pin.is_none() { system_authorities::stamp() } else { String::new() };
        Ok(Self { ca, client, system })
    }

    /// What tells this content from another one.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update(&self.system);
        let client = self.client.iter().flat_map(|(cert, key)| [cert, key]);
        for NamedContent { key, bytes, .. } in self.ca.iter().chain(client) {
            digest.update(key);
            digest.update((bytes.len() as u64).to_be_bytes());
            digest.update(bytes);
        }
        digest.finalize().into()
    }

    /// The authorities in `ca_file`, if it is set.
    ///
    /// # Errors
    /// [`Exit::Config`] where there is none in it, or one is not usable.
    pub(super) fn authorities(&self) -> Result<Option<RootCertStore>> {
        let Some(ca) = &self.ca else { return Ok(None) };
        let mut roots = RootCertStore::empty();
        for (index, certificate) in ca.certificates()?.into_iter().enumerate() {
            roots.add(certificate).map_err(|error| {
                ca.unusable(&format!("certificate {} in it is not usable: {}", index + 1, escape(&error)))
            })?;
        }
        Ok(Some(roots))
    }

    /// The certificate of this device with its key, if they are set.
    ///
    /// # Errors
    /// [`Exit::Config`] where they are not usable, or do not belong to each other.
    pub(super) fn client(&self, provider: &CryptoProvider) -> Result<Option<CertifiedKey>> {
        let Some((cert, key)) = &self.client else { return Ok(None) };
        let found = CertifiedKey::from_der(cert.certificates()?, key.private_key()?, provider);
        found.map(Some).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                key.unusable(&format!("it is not the key of the certificate in {}", show(&cert.path)))
            }
            other => key.unusable(&format!("the key is not usable: {}", escape(&other))),
        })
    }
}

impl NamedContent {
    fn read(key: &'static str, path: &Path) -> Result<Self> {
        let failed = |why: &dyn fmt::Display| Error::new(Exit::Config, format!("`{key}`")).because(why);
        match files::read_path(path, MAX_FILE_LEN) {
            Ok(Some(file)) => Ok(Self { key, path: path.to_owned(), bytes: file.bytes }),
            Ok(None) => Err(failed(&format_args!("cannot read {}: No such file or directory", show(path)))
                .hint("a path that does not begin with `/` is relative to the directory of the configuration")),
            Err(error) if error.exit() == Exit::NotTrusted => Err(error),
            // The file is as it should be, and the machine failed to read it.
            Err(error) if error.lack().is_some() => Err(failed(&error).exit_as(Exit::Failed)),
            Err(error) => Err(failed(&error)),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.bytes).collect();
        let found = found.map_err(|error| self.unusable(&format!("damaged PEM: {}", escape(&error))))?;
        if found.is_empty() { Err(self.lacks("CERTIFICATE")) } else { Ok(found) }
    }

    fn private_key(&self) -> Result<PrivateKeyDer<'static>> {
        let mut lines = self.bytes.split(|byte| *byte == b'\n');
        if lines.any(|line| ENCRYPTED.iter().any(|begin| line.starts_with(begin.as_bytes()))) {
            return Err(self
                .unusable("the key is encrypted with a passphrase, which this program does not ask for")
                .hint(format!("store it without one: (umask 077; openssl pkey -in {} -out NEW)", quote(&self.path))));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.lacks("PRIVATE KEY"),
            other => self.unusable(&format!("damaged PEM: {}", escape(&other))),
        })
    }

    fn unusable(&self, why: &str) -> Error {
        Error::new(Exit::Config, format!("`{}`", self.key)).because(format!("{}: {why}", show(&self.path)))
    }

    /// The error of a file in which there is nothing of what is wanted.
    fn lacks(&self, wanted: &str) -> Error {
        let error = self.unusable(&format!("there is no `-----BEGIN {wanted}-----` in it"));
        let text = String::from_utf8_lossy(&self.bytes);
        let found = text.lines().find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"));
        match found {
            Some(found) => error.hint(format!("it has `-----BEGIN {}-----`: were the two files swapped?", tame(found))),
            // ASN.1: a SEQUENCE.
            None if self.bytes.first() == Some(&0x30) => error.hint("it may be DER: convert it to PEM with openssl"),
            None => error,
        }
    }
}

/// The text of a library's error, of which parts may come from a file.
fn escape(error: &impl fmt::Display) -> String {
    tame(&error.to_string())
}
