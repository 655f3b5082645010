//! An authority of one test, and the certificates that it signs, as files.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

use crate::scratch::directory;

/// What a certificate is like.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    /// For `localhost`, and valid, with an ECDSA key.
    Good,
    /// As [`Kind::Good`], with an RSA key.
    Rsa,
    Expired,
    NotYetValid,
    /// For this name instead.
    Of(&'static str),
    /// As [`Kind::Good`], and of an authority, too: what `openssl req -x509` makes.
    Ca,
}

/// An authority, and what it signed.
pub(crate) struct Authority {
    dir: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in two files.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let dir = directory("authority");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(dir.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { dir, issuer }
    }

    /// The authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// Signs a certificate; it replaces one of the same file name.
    pub(crate) fn sign(&self, file: &str, kind: Kind) -> Files {
        let key = if matches!(kind, Kind::Rsa) { rsa_key() } else { KeyPair::generate().unwrap() };
        let cert = params(kind).signed_by(&key, &self.issuer).unwrap();
        self.write(file, &cert.pem(), &key)
    }

    /// A certificate that its own key signs.
    pub(crate) fn self_signed(&self, file: &str, kind: Kind) -> Files {
        let key = KeyPair::generate().unwrap();
        let cert = params(kind).self_signed(&key).unwrap();
        self.write(file, &cert.pem(), &key)
    }

    fn write(&self, file: &str, cert: &str, key: &KeyPair) -> Files {
        let [cert_file, key_file] = ["crt", "key"].map(|end| self.dir.path().join(format!("{file}.{end}")));
        fs::write(&cert_file, cert).unwrap();
        fs::write(&key_file, key.serialize_pem()).unwrap();
        Files { cert: cert_file, key: key_file }
    }
}

fn params(kind: Kind) -> CertificateParams {
    let name = if let Kind::Of(name) = kind { name } else { "localhost" };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    if matches!(kind, Kind::Ca) {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    (params.not_before, params.not_after) = match kind {
        Kind::Expired => (date_time_ymd(2001, 2, 3), date_time_ymd(2004, 5, 6)),
        Kind::NotYetValid => (date_time_ymd(2101, 2, 3), date_time_ymd(2104, 5, 6)),
        Kind::Good | Kind::Rsa | Kind::Of(_) | Kind::Ca => (date_time_ymd(2001, 2, 3), date_time_ymd(2104, 5, 6)),
    };
    params
}

/// An RSA key, which rcgen makes none of.
fn rsa_key() -> KeyPair {
    let made =
        Command::new("openssl").args(["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]).output();
    KeyPair::from_pem(&String::from_utf8(made.expect("openssl is installed").stdout).unwrap()).unwrap()
}
