//! What a link to the old program cannot have (`sts_version = 1`), each with the reason.

use super::keys::{ConfigKey, KEY_NAMES};
use super::settings::{Setting, Settings};
use crate::Result;

/// What `aes` can be.
pub(super) const AES_HINT: &str = "use cbc or ecb, as on the other device; without this line, it is cbc";

/// The longest value of a key that the old program reads, in bytes.
const MAX_TOPIC_LEN: usize = 128;

/// Checks the keys that mean something on other links only.
///
/// # Errors
/// [`crate::Exit::Config`] naming the line, or [`crate::Exit::Usage`] naming the `-o`.
pub(super) fn check(settings: &Settings<'_>) -> Result<()> {
    for (_, key) in KEY_NAMES {
        if let Some(setting) = settings.get(key) {
            check_key(key, setting)?;
        }
    }
    Ok(())
}

/// Each key is named, so that a new one has to be looked at.
fn check_key(key: ConfigKey, setting: Setting<'_>) -> Result<()> {
    match key {
        ConfigKey::Peer | ConfigKey::Channel => Err(refused(setting, "which authenticates no device")),
        ConfigKey::Qos if setting.value != "0" => {
            Err(refused(setting, "where a message that comes twice garbles the next one"))
        }
        ConfigKey::Retain if setting.value != "0" => {
            Err(refused(setting, "where a message that comes late garbles the next one"))
        }
        ConfigKey::WillTopic => Err(refused(setting, "where a message that is sent later would be out of step")),
        ConfigKey::Subtop | ConfigKey::Pubtop => check_topic(setting),
        // How messages are made, which is checked with the role, and the connection, of which the old program sees nothing.
        ConfigKey::Qos
        | ConfigKey::Retain
        | ConfigKey::MaxMessage
        | ConfigKey::Mode
        | ConfigKey::Aes
        | ConfigKey::StsVersion
        | ConfigKey::MqttVersion
        | ConfigKey::Host
        | ConfigKey::Port
        | ConfigKey::Proxy
        | ConfigKey::BindAddress
        | ConfigKey::Username
        | ConfigKey::Password
        | ConfigKey::PasswordFile
        | ConfigKey::ClientId
        | ConfigKey::KeepAlive
        | ConfigKey::CleanSession
        | ConfigKey::SessionExpiry
        | ConfigKey::MessageExpiry
        | ConfigKey::Authorities
        | ConfigKey::ClientCert
        | ConfigKey::ClientSecret
        | ConfigKey::TlsAlpn
        | ConfigKey::TlsPin => Ok(()),
    }
}

/// There is one device at the other end, and the old program must be able to read the topic.
fn check_topic(topic: Setting<'_>) -> Result<()> {
    if topic.value.contains(['+', '#']) || topic.value.starts_with("$share/") {
        return Err(topic
            .invalid("with `sts_version = 1` a link has one device at its other end")
            .hint("give each device a link with topics of its own"));
    }
    if topic.value.len() > MAX_TOPIC_LEN {
        return Err(topic
            .invalid(format!("with `sts_version = 1` a topic has at most {MAX_TOPIC_LEN} bytes"))
            .hint("choose a shorter one on both devices"));
    }
    Ok(())
}

fn refused(setting: Setting<'_>, why: &str) -> crate::Error {
    let set = format!("`{} = {}`", setting.name, setting.value);
    setting.error(format!("{set} cannot be used with `sts_version = 1`, {why}")).hint(setting.removal())
}
