//! The keys about TLS.

use super::keys::ConfigKey;
use super::settings::{Setting, Settings};
use super::{ClientCert, KeyPin, TlsOptions};
use crate::Result;

/// Longest name of a protocol, in bytes (RFC 7301, 3.1).
const MAX_ALPN_LEN: usize = 255;

/// All keys that have a meaning with TLS only.
const TLS_KEYS: [ConfigKey; 5] =
    [ConfigKey::Authorities, ConfigKey::ClientCert, ConfigKey::ClientSecret, ConfigKey::TlsAlpn, ConfigKey::TlsPin];

/// The first of the keys that have a meaning with TLS only.
pub(super) fn first_set<'a>(settings: &'a Settings<'_>) -> Option<Setting<'a>> {
    TLS_KEYS.iter().find_map(|key| settings.get(*key))
}

/// What the keys say.
pub(super) fn options(settings: &Settings<'_>) -> Result<TlsOptions> {
    let file = |key| settings.get(key).map(|setting| (setting, settings.resolve(setting.value)));
    let [ca, cert, key] = [ConfigKey::Authorities, ConfigKey::ClientCert, ConfigKey::ClientSecret].map(file);
    let client = match (cert, key) {
        (Some((_, cert)), Some((_, key))) => Some(ClientCert { cert, key }),
        (None, None) => None,
        (Some((setting, _)), None) => return Err(setting.error("`cert_file` needs `key_file`")),
        (None, Some((setting, _))) => return Err(setting.error("`key_file` needs `cert_file`")),
    };
    let alpn = match settings.get(ConfigKey::TlsAlpn) {
        Some(setting) if setting.value.len() > MAX_ALPN_LEN => {
            return Err(setting.invalid(format!("must be at most {MAX_ALPN_LEN} bytes long")));
        }
        other => other.map(|setting| setting.value.to_owned()),
    };
    let pin = match settings.get(ConfigKey::TlsPin) {
        Some(setting) => Some(setting.value.parse::<KeyPin>().map_err(|why| setting.invalid(why))?),
        None => None,
    };
    Ok(TlsOptions { ca: ca.map(|(_, path)| path), client, pin, alpn, tickets: None })
}
