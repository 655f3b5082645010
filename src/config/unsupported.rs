//! What a configuration may say that this version does not do: to support it, it is removed here.

use super::keys::ConfigKey;
use super::settings::{Setting, Settings};
use super::{Config, Protocol};
use crate::{Error, Exit};

/// The first thing in the configuration that this version does not do.
pub(super) fn first(settings: &Settings<'_>, config: &Config) -> Option<Error> {
    let endpoint = &config.mqtt.endpoint;
    let layer = endpoint.missing_layer().zip(settings.get(ConfigKey::Host)).map(|((why, remedy), setting)| {
        let what = format!("{}://: {why}", endpoint.scheme());
        Error::new(Exit::Config, setting.location()).because(what).hint(remedy)
    });
    let old = config.sealed.as_ref().filter(|sealed| sealed.protocol == Protocol::Sts1);
    let protocol = old
        .and_then(|_| settings.get(ConfigKey::StsVersion))
        .map(|setting| refusal(setting, "sts_version 1", "use sts_version = 2 on both ends"));
    layer.or(protocol)
}

fn refusal(setting: Setting<'_>, what: &str, instead: &str) -> Error {
    // Not a wrong command line, where `-o` asks for it: the next version takes it.
    Error::new(Exit::Config, setting.location()).because(format!("{what}: not in this version")).hint(instead)
}
