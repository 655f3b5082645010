//! What a configuration may say that this build does not do.

use super::Config;
use super::keys::ConfigKey;
use super::settings::Settings;
use crate::{Error, Exit};

/// The first thing in the configuration that this build does not do.
pub(super) fn first(settings: &Settings<'_>, config: &Config) -> Option<Error> {
    let endpoint = &config.mqtt.endpoint;
    let layer = endpoint.missing_layer().zip(settings.get(ConfigKey::Host)).map(|((why, remedy), setting)| {
        let what = format!("{}://: {why}", endpoint.scheme());
        Error::new(Exit::Config, setting.location()).because(what).hint(remedy)
    });
    let is_missing = config.protection.is_legacy() && !cfg!(feature = "legacy");
    let version = settings.get(ConfigKey::StsVersion).filter(|_| is_missing);
    layer.or(version.map(|setting| {
        // Not a wrong command line, where `-o` asks for it: another build takes it.
        Error::new(Exit::Config, setting.location())
            .because("this build does not support sts_version = 1")
            .hint("build it with --features legacy")
    }))
}
