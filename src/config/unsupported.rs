//! What a configuration may say that this build does not do.

use super::keys::ConfigKey;
use super::settings::Settings;
use super::{Config, Protection};
use crate::{Error, Exit};

/// The first thing in the configuration that this version does not do.
pub(super) fn first(settings: &Settings<'_>, config: &Config) -> Option<Error> {
    let endpoint = &config.mqtt.endpoint;
    let layer = endpoint.missing_layer().zip(settings.get(ConfigKey::Host)).map(|((why, remedy), setting)| {
        let what = format!("{}://: {why}", endpoint.scheme());
        Error::new(Exit::Config, setting.location()).because(what).hint(remedy)
    });
    let is_legacy = matches!(config.protection, Protection::Legacy(_));
    let version = settings.get(ConfigKey::StsVersion).filter(|_| is_legacy && !cfg!(feature = "legacy"));
    layer.or(version.map(|setting| {
        // Not a wrong command line, where `-o` asks for it: another build takes it.
        Error::new(Exit::Config, setting.location())
            .because("this build does not support sts_version = 1")
            .hint("build it with --features legacy")
    }))
}
