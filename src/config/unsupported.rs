//! What a configuration may rightly say and this version does not do: the one place to take it out of.

use super::entries::{Entry, Key, Table};
use super::{Config, Protocol};
use crate::{Error, Exit};

/// The first thing in the configuration that this version does not do.
pub(super) fn not_yet(table: &Table<'_>, config: &Config) -> Option<Error> {
    let endpoint = &config.mqtt.endpoint;
    let transport = (!endpoint.is_supported())
        .then(|| table.get(Key::Host))
        .flatten()
        .map(|entry| refusal(entry, &format!("{}://", endpoint.scheme()), "use mqtt://"));
    let version = config.mqtt.version;
    let version = (!version.is_supported())
        .then(|| table.get(Key::MqttVersion))
        .flatten()
        .map(|entry| refusal(entry, &format!("MQTT {version}"), "use mqtt_version = 4"));
    let old = config.sealed.as_ref().filter(|sealed| sealed.protocol == Protocol::Sts1);
    let protocol = old
        .and_then(|_| table.get(Key::StsVersion))
        .map(|entry| refusal(entry, "sts_version 1", "use sts_version = 2 on both ends"));
    transport.or(version).or(protocol)
}

fn refusal(entry: Entry<'_>, what: &str, instead: &str) -> Error {
    // Not a wrong command line, where `-o` asks for it: the next version takes it.
    Error::new(Exit::Config, entry.place()).because(format!("{what}: not in this version")).hint(instead)
}
