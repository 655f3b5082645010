//! The authorities that the system trusts: they count where no `ca_file` is set and no key is pinned.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::files::MAX_FILE_LEN;
use super::verifier::verifier;
use crate::mqtt::tls_options::{CERT_DIR, CERT_FILE, NamedAuthorities};
use crate::text::show;
use crate::{Error, Exit, Result, files};

/// Where they usually are: a change of a file there changes the directory.
const USUAL_PLACES: [&str; 3] = ["/etc/ssl/certs", "/etc/ssl/cert.pem", "/etc/pki/tls/certs"];

/// What changes with the system's authorities, without reading them.
pub(super) fn stamp() -> String {
    let named = NamedAuthorities::of_process();
    let places = named.iter().flat_map(|NamedAuthorities { file, dirs }| file.iter().chain(dirs).cloned());
    let stamps = places.chain(USUAL_PLACES.map(PathBuf::from)).map(|path| {
        let found = path.metadata().map(|found| (found.ino(), found.len(), found.ctime(), found.ctime_nsec()));
        (path, found.unwrap_or_default())
    });
    format!("{:?}", stamps.collect::<Vec<_>>())
}

/// The system's authorities, as they were read.
#[derive(Debug)]
pub(super) struct SystemAuthorities {
    /// What checks a broker's certificate with them; `None` if there are none.
    pub(super) verifier: Option<Arc<WebPkiServerVerifier>>,
    /// The error of the first file that was not used, of those that a variable names.
    pub(super) refused: Option<Error>,
}

impl SystemAuthorities {
    /// Those of `$SSL_CERT_FILE` and `$SSL_CERT_DIR`, else those where OpenSSL would look. What a variable names must be as safe
    /// from others as `ca_file`; the system's own places are as the administrator made them.
    pub(super) fn read(provider: &Arc<CryptoProvider>) -> Self {
        let (certificates, refused) = match NamedAuthorities::of_process() {
            Some(named) => read_named(&named),
            None => (rustls_native_certs::load_native_certs().certs, None),
        };
        let mut roots = RootCertStore::empty();
        // Single files that are unreadable or damaged must not take the others away.
        roots.add_parsable_certificates(certificates);
        Self { verifier: verifier(roots, provider).ok(), refused }
    }
}

/// The certificates in these files, and the error of the first one that cannot be used.
fn read_named(named: &NamedAuthorities) -> (Vec<CertificateDer<'static>>, Option<Error>) {
    let (mut certificates, mut refused) = (Vec::new(), None);
    let mut take = |variable: &str, read: Result<Vec<CertificateDer<'static>>>| match read {
        Ok(mut found) => certificates.append(&mut found),
        Err(error) if refused.is_none() => refused = Some(named_by(variable, &error)),
        Err(_) => {}
    };
    if let Some(file) = &named.file {
        take(CERT_FILE, read_file(file));
    }
    // Most of them have several names: links that `openssl rehash` made.
    let mut seen = HashSet::new();
    for dir in &named.dirs {
        let entries = fs::read_dir(dir);
        if let Err(err) = &entries {
            take(CERT_DIR, Err(Error::new(Exit::Config, format!("cannot read {}", show(dir))).because(err)));
        }
        for path in entries.into_iter().flatten().flatten().map(|entry| entry.path()) {
            let Ok(found) = path.metadata() else { continue };
            if found.is_file() && seen.insert((found.dev(), found.ino())) {
                take(CERT_DIR, read_file(&path));
            }
        }
    }
    (certificates, refused)
}

/// The error of a file that this variable names.
fn named_by(variable: &str, error: &Error) -> Error {
    Error::new(error.exit(), variable).because(error).hint_if(error.hint_text().map(str::to_owned))
}

/// The certificates in a file that nobody but this user and root can change; those that are damaged are passed over.
fn read_file(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let absent =
        || Error::new(Exit::Config, format!("cannot read {}", show(path))).because("No such file or directory");
    let file = files::read_path(path, MAX_FILE_LEN)?.ok_or_else(absent)?;
    Ok(CertificateDer::pem_slice_iter(&file.bytes).flatten().collect())
}
