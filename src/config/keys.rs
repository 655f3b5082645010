//! The keys that a configuration can set.
//!
//! To add one: its name and variant here, its value in `validate.rs` (`endpoint.rs` for the connection), a field of
//! [`super::Config`], and its item in `sts.conf(5)`, which `tests/manual.rs` compares with the list.

use super::address;

/// What a line sets; `ip`, `host` and `url` set the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigKey {
    MqttVersion,
    Host,
    Port,
    Proxy,
    BindAddress,
    Username,
    Password,
    PasswordFile,
    Subtop,
    Pubtop,
    ClientId,
    Mode,
    Aes,
    StsVersion,
    Peer,
    Channel,
    Qos,
    KeepAlive,
    CleanSession,
    SessionExpiry,
    MessageExpiry,
    Retain,
    WillTopic,
    MaxMessage,
    Authorities,
    ClientCert,
    ClientSecret,
    TlsAlpn,
    TlsPin,
}

impl ConfigKey {
    /// Whether this value may hold a password: then it is neither shown nor taken from a command line.
    pub(super) fn may_hold_password(self, value: &str) -> bool {
        match self {
            Self::Password => true,
            Self::Host => value.contains('@') && !value.starts_with("unix:"),
            Self::Proxy => value.contains('@'),
            _ => false,
        }
    }
}

/// Each key as a line names it, in the order of `sts.conf(5)`. An unknown one is an error, so that a mistyped line never
/// means its default; a file for a newer version is refused by an older one.
pub(super) const KEY_NAMES: [(&str, ConfigKey); 31] = [
    ("mqtt_version", ConfigKey::MqttVersion),
    ("ip", ConfigKey::Host),
    ("host", ConfigKey::Host),
    ("url", ConfigKey::Host),
    ("port", ConfigKey::Port),
    ("proxy", ConfigKey::Proxy),
    ("bind_address", ConfigKey::BindAddress),
    ("username", ConfigKey::Username),
    ("password", ConfigKey::Password),
    ("password_file", ConfigKey::PasswordFile),
    ("subtop", ConfigKey::Subtop),
    ("pubtop", ConfigKey::Pubtop),
    ("clientid", ConfigKey::ClientId),
    ("sts_mode", ConfigKey::Mode),
    ("aes", ConfigKey::Aes),
    ("sts_version", ConfigKey::StsVersion),
    ("peer", ConfigKey::Peer),
    ("channel", ConfigKey::Channel),
    ("qos", ConfigKey::Qos),
    ("keep_alive", ConfigKey::KeepAlive),
    ("clean_session", ConfigKey::CleanSession),
    ("session_expiry", ConfigKey::SessionExpiry),
    ("retain", ConfigKey::Retain),
    ("will_topic", ConfigKey::WillTopic),
    ("max_message", ConfigKey::MaxMessage),
    ("message_expiry", ConfigKey::MessageExpiry),
    ("ca_file", ConfigKey::Authorities),
    ("cert_file", ConfigKey::ClientCert),
    ("key_file", ConfigKey::ClientSecret),
    ("tls_alpn", ConfigKey::TlsAlpn),
    ("tls_pin", ConfigKey::TlsPin),
];

/// The names of all keys, in the manual's order.
pub fn key_names() -> impl Iterator<Item = &'static str> {
    KEY_NAMES.iter().map(|(name, _)| *name)
}

/// What other programs call these things, and what says it here.
const FOREIGN_WORDS: [(&[&str], &str); 8] = [
    (&["broker", "server", "address", "hostname"], "the key is `host`"),
    (&["topic", "topics"], "the keys are `subtop`, the topic to receive on, and `pubtop`, the one to publish on"),
    (&["publish", "publish_topic"], "the key is `pubtop`"),
    (&["subscribe", "subscribe_topic"], "the key is `subtop`"),
    (&["user", "login"], "the key is `username`"),
    (&["pass", "pw", "secret"], "the key is `password`, or `password_file`"),
    (&["id", "client"], "the key is `clientid`"),
    (&["role"], "the key is `sts_mode`"),
];

/// The words that ask for TLS elsewhere.
const TLS_WORDS: [&str; 4] = ["tls", "ssl", "use_tls", "secure"];

/// What to write instead of a key of another program.
pub(super) fn instead_of(word: &str) -> Option<String> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    if TLS_WORDS.contains(&&*word) {
        return Some(address::tls_hint());
    }
    FOREIGN_WORDS.iter().find(|(words, _)| words.contains(&&*word)).map(|(_, hint)| (*hint).to_owned())
}
