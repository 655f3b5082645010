//! What a link to the old program cannot have (`sts_version = 1`), each with the reason.

use super::keys::ConfigKey;
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
    let get = |key| settings.get(key);
    if let Some(setting) = get(ConfigKey::Peer).or(get(ConfigKey::Channel)) {
        return Err(refused(setting, "which authenticates no device"));
    }
    if let Some(setting) = get(ConfigKey::Qos).filter(|qos| qos.value != "0") {
        return Err(refused(setting, "where a message that comes twice garbles the next one"));
    }
    if let Some(setting) = get(ConfigKey::Retain).filter(|retain| retain.value != "0") {
        return Err(refused(setting, "where a message that comes late garbles the next one"));
    }
    for topic in [ConfigKey::Subtop, ConfigKey::Pubtop].into_iter().filter_map(get) {
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
    }
    Ok(())
}

fn refused(setting: Setting<'_>, why: &str) -> crate::Error {
    let set = format!("`{} = {}`", setting.name, setting.value);
    setting.error(format!("{set} cannot be used with `sts_version = 1`, {why}")).hint("remove this line")
}
