//! What the configuration says about TLS.

#![expect(clippy::disallowed_methods, reason = "it looks at where the system keeps its authorities")]

use std::path::PathBuf;
use std::str::FromStr;
use std::{env, fmt};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use crate::sandbox::Needs;

/// The variable that names a file with the system's authorities.
pub(super) const CERT_FILE: &str = "SSL_CERT_FILE";
/// The variable that names directories of such files.
pub(super) const CERT_DIR: &str = "SSL_CERT_DIR";

/// Where the environment says that the system's authorities are.
pub(super) struct NamedAuthorities {
    pub(super) file: Option<PathBuf>,
    pub(super) dirs: Vec<PathBuf>,
}

impl NamedAuthorities {
    /// `None` where it does not say so.
    pub(super) fn of_process() -> Option<Self> {
        let [file, dirs] = [CERT_FILE, CERT_DIR].map(|name| env::var_os(name).filter(|value| !value.is_empty()));
        let dirs = dirs.iter().flat_map(env::split_paths).filter(|dir| !dir.as_os_str().is_empty()).collect();
        let named = Self { file: file.map(PathBuf::from), dirs };
        (named.file.is_some() || !named.dirs.is_empty()).then_some(named)
    }
}

/// What a connection over TLS is to be like; all files are PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// `ca_file`: the authorities that may sign for the broker; without it and without a pin, those that the system trusts.
    pub ca: Option<PathBuf>,
    /// `cert_file` and `key_file`.
    pub client: Option<ClientCert>,
    /// `tls_pin`: the only key that the broker may have.
    pub pin: Option<KeyPin>,
    /// `tls_alpn`: the protocol that the broker's server is asked for, 1 to 255 bytes.
    pub alpn: Option<String>,
    /// Where tickets are kept for the next run, if they are.
    pub tickets: Option<TicketPlace>,
}

impl TlsOptions {
    /// The files that are read at each connection. Where no authority is named, the system's are, which every run may read
    /// where they usually are.
    pub(super) fn needs(&self, needs: &mut Needs) {
        let client = self.client.iter().flat_map(|ClientCert { cert, key }| [cert, key]);
        for file in self.ca.iter().chain(client) {
            needs.read_file(file);
        }
        if self.ca.is_none()
            && self.pin.is_none()
            && let Some(NamedAuthorities { file, dirs }) = NamedAuthorities::of_process()
        {
            if let Some(file) = &file {
                needs.read_file(file);
            }
            for dir in &dirs {
                needs.read_dir(dir);
            }
        }
        if let Some(TicketPlace { dir, .. }) = &self.tickets {
            needs.write_dir(dir);
        }
    }
}

/// The certificate that we show the broker, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCert {
    /// `cert_file`.
    pub cert: PathBuf,
    /// `key_file`.
    pub key: PathBuf,
}

/// A file for session tickets, of all nodes of a broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketPlace {
    /// The runtime directory, which may be absent.
    pub dir: PathBuf,
    /// The file's name there.
    pub name: String,
}

/// SHA-256 of a public key (X.509 `SubjectPublicKeyInfo`), as RFC 7469 has it; displays as `SHA256:` and base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPin([u8; 32]);

/// What a pin begins with.
const PREFIX: &str = "SHA256:";

impl KeyPin {
    /// The pin of a key.
    #[must_use]
    pub fn of(public_key_info: &[u8]) -> Self {
        Self(Sha256::digest(public_key_info).into())
    }
}

impl FromStr for KeyPin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = "must be `SHA256:` and the base64 of 32 bytes, as the error for an unknown certificate shows it";
        let (prefix, rest) = text.split_at_checked(PREFIX.len()).ok_or(wrong)?;
        let bytes = STANDARD.decode(rest).or_else(|_| STANDARD_NO_PAD.decode(rest)).map_err(|_| wrong)?;
        let is_sha256 = prefix.eq_ignore_ascii_case(PREFIX);
        bytes.try_into().ok().filter(|_| is_sha256).map(Self).ok_or(wrong)
    }
}

impl fmt::Display for KeyPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", STANDARD.encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_read_as_it_is_shown() {
        let pin = KeyPin::of(b"key");
        let shown = pin.to_string();
        // As openssl dgst -sha256 -binary | base64 has it.
        assert_eq!(shown, "SHA256:LHDhK3oGRvkiefQnx7OOczTY5Tic/xZ6HcMOc/gmtoM=");
        for text in [shown.clone(), shown.trim_end_matches('=').to_owned(), shown.replace("SHA256", "sha256")] {
            assert_eq!(text.parse(), Ok(pin), "{text}");
        }
        for bad in
            ["", "SHA256:", "SHA256", &shown[7..], "MD5:AAAA", "SHA256:AAAA", "é", &format!("{shown}A"), "SHA25\u{e9}:"]
        {
            assert!(bad.parse::<KeyPin>().is_err(), "{bad}");
        }
    }
}
