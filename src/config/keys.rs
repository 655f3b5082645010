//! The keys that a configuration can set.
//!
//! To add one: its name and variant here, its value in `validate.rs`, a field of [`super::Config`], and its item in
//! `sts.conf(5)`, which `tests/manual.rs` compares with the list.

/// What a line sets; `ip`, `host` and `url` set the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConfigKey {
    MqttVersion,
    Host,
    Port,
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
    Retain,
    MaxMessage,
    Authorities,
    ClientCert,
    ClientSecret,
}

/// Each key as a line names it, in the order of `sts.conf(5)`. An unknown one is an error, so that a mistyped line never
/// means its default; a file for a newer version is refused by an older one.
pub(super) const KEY_NAMES: [(&str, ConfigKey); 24] = [
    ("mqtt_version", ConfigKey::MqttVersion),
    ("ip", ConfigKey::Host),
    ("host", ConfigKey::Host),
    ("url", ConfigKey::Host),
    ("port", ConfigKey::Port),
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
    ("retain", ConfigKey::Retain),
    ("max_message", ConfigKey::MaxMessage),
    ("ca_file", ConfigKey::Authorities),
    ("cert_file", ConfigKey::ClientCert),
    ("key_file", ConfigKey::ClientSecret),
];

/// The names of all keys, in the manual's order.
pub fn key_names() -> impl Iterator<Item = &'static str> {
    KEY_NAMES.iter().map(|(name, _)| *name)
}
