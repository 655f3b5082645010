//! The configuration as it is used: of each key the value and where it was set, for `sts-pair --check`.

use super::address::Address;
use super::keys::{ConfigKey, KEY_NAMES};
use super::settings::{Override, Settings};
use super::{BrokerAddress, Config, ConfigSource};
use crate::Result;
use crate::text::tame;

/// What stands in the place of a password.
const MASK: &str = "********";

/// One key, of those that set the same the one that is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EffectiveValue {
    pub(crate) name: &'static str,
    /// Without passwords; empty if the key is not set and has no value of its own.
    pub(crate) value: String,
    /// File and line, `-o` or `default`.
    pub(crate) origin: String,
}

impl Config {
    /// The value of each key in the order of `sts.conf(5)`, for a text and overrides of which this configuration was made.
    ///
    /// # Errors
    /// As [`Config::parse`].
    pub(crate) fn effective(
        &self,
        source: &ConfigSource,
        text: &str,
        overrides: &[Override],
    ) -> Result<Vec<EffectiveValue>> {
        let settings = Settings::parse(source, text, overrides)?;
        let url = settings.get(ConfigKey::Host);
        let mut values: Vec<EffectiveValue> = Vec::new();
        let mut last = None;
        for (name, key) in KEY_NAMES {
            // Names of one key stand together.
            let is_repeated = last.replace(key) == Some(key);
            let from_url = url.and_then(|url| Some((self.value_in_url(key, url.value)?, url)));
            let value = match (settings.get(key), from_url) {
                (Some(setting), Some((value, url))) if url.on_command_line() && !setting.on_command_line() => {
                    EffectiveValue { name, value, origin: url.location() }
                }
                (Some(setting), _) if setting.name == name => {
                    EffectiveValue { name, value: masked(key, setting.value), origin: setting.location() }
                }
                (Some(_), _) => continue,
                (None, _) if is_repeated => continue,
                (None, Some((value, url))) => EffectiveValue { name, value, origin: url.location() },
                (None, None) => EffectiveValue { name, value: self.default_of(key), origin: "default".to_owned() },
            };
            values.push(value);
        }
        Ok(values)
    }

    /// What `url`, or `host`, says of another key; `None` if it says nothing of it. The ports of several nodes are separated
    /// as the nodes are.
    fn value_in_url(&self, key: ConfigKey, url: &str) -> Option<String> {
        let Address { hosts, login, .. } = Address::parse(url).ok()?;
        match (key, &self.mqtt.endpoint.address, login) {
            (ConfigKey::Port, BrokerAddress::Tcp(nodes), _) if hosts.iter().any(|(_, port)| port.is_some()) => {
                Some(nodes.iter().map(|node| node.port.to_string()).collect::<Vec<_>>().join(","))
            }
            (ConfigKey::Username, _, Some((username, _))) => Some(tame(&username)),
            (ConfigKey::Password, _, Some((_, Some(_)))) => Some(MASK.to_owned()),
            _ => None,
        }
    }

    /// What a key that is not set amounts to.
    fn default_of(&self, key: ConfigKey) -> String {
        let mqtt = &self.mqtt;
        match key {
            ConfigKey::MqttVersion => mqtt.version.config_value().to_owned(),
            ConfigKey::Host => "localhost".to_owned(),
            ConfigKey::Port => mqtt.endpoint.port().map(|port| port.to_string()).unwrap_or_default(),
            ConfigKey::Aes => self.protection.suite_value().to_owned(),
            ConfigKey::StsVersion => self.protection.version_value().to_owned(),
            ConfigKey::Qos => mqtt.qos.to_string(),
            ConfigKey::KeepAlive => mqtt.keep_alive.to_string(),
            ConfigKey::SessionExpiry => mqtt.session.expiry.to_string(),
            ConfigKey::Retain => u8::from(mqtt.retain).to_string(),
            ConfigKey::MaxMessage => mqtt.max_message.to_string(),
            ConfigKey::Proxy
            | ConfigKey::BindAddress
            | ConfigKey::Username
            | ConfigKey::Password
            | ConfigKey::PasswordFile
            | ConfigKey::Subtop
            | ConfigKey::Pubtop
            | ConfigKey::ClientId
            | ConfigKey::Mode
            | ConfigKey::Peer
            | ConfigKey::Channel
            | ConfigKey::CleanSession
            | ConfigKey::MessageExpiry
            | ConfigKey::WillTopic
            | ConfigKey::Authorities
            | ConfigKey::ClientCert
            | ConfigKey::ClientSecret
            | ConfigKey::TlsAlpn
            | ConfigKey::TlsPin => String::new(),
        }
    }
}

/// A value without the password that it may hold: of a URL, everything up to the last `@` of its authority goes.
fn masked(key: ConfigKey, value: &str) -> String {
    if !key.may_hold_password(value) {
        return tame(value);
    }
    match (value.split_once("://"), value.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) if key != ConfigKey::Password => {
            format!("{}://{MASK}@{}", tame(scheme), tame(host))
        }
        _ => MASK.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effective(text: &str, options: &[&str]) -> Vec<EffectiveValue> {
        let source = ConfigSource { link: "plant".parse().unwrap(), path: "plant.conf".into() };
        let overrides: Vec<_> = options.iter().map(|option| Override::parse(option).unwrap()).collect();
        let parsed = Config::parse(&source, text, &overrides, &mut |_| panic!("no file is read")).unwrap();
        parsed.config.effective(&source, text, &overrides).unwrap()
    }

    fn of<'a>(values: &'a [EffectiveValue], name: &str) -> (&'a str, &'a str) {
        let value = values.iter().find(|it| it.name == name).unwrap();
        (&value.value, &value.origin)
    }

    #[test]
    fn each_value_has_its_origin_and_no_password_is_shown() {
        let text = "sts_mode = master\nsubtop = a\npubtop = b\nurl = mqtts://me:hunter2@b.example\nqos = 2\n";
        let values = effective(text, &["qos=1"]);
        assert_eq!(of(&values, "qos"), ("1", "-o qos"));
        assert_eq!(of(&values, "sts_mode"), ("master", "plant.conf, line 1"));
        assert_eq!(of(&values, "url"), ("mqtts://********@b.example", "plant.conf, line 4"));
        assert_eq!(of(&values, "port"), ("8883", "default"));
        assert_eq!(of(&values, "username"), ("me", "plant.conf, line 4"));
        assert_eq!(of(&values, "password"), ("********", "plant.conf, line 4"));
        assert_eq!(of(&values, "aes"), ("gcm", "default"));
        assert_eq!(of(&values, "keep_alive"), ("60", "default"));
        assert_eq!(of(&values, "clientid"), ("", "default"));
        assert!(!values.iter().any(|it| ["ip", "host"].contains(&it.name)), "{values:?}");
        assert!(!format!("{values:?}").contains("hunter2"));
        let plain = "sts_mode = nosec\nsubtop = a\npubtop = b\nusername = u\npassword = hunter2\n";
        let values = effective(plain, &[]);
        assert_eq!(of(&values, "password"), ("********", "plant.conf, line 5"));
        let values = effective(&plain.replace("hunter2", "hunter://2@hunter"), &[]);
        assert_eq!(of(&values, "password"), ("********", "plant.conf, line 5"), "it is no URL");
        assert_eq!(values.iter().filter(|it| ["ip", "host", "url"].contains(&it.name)).count(), 1);
    }

    #[test]
    fn what_the_address_carries_has_its_origin() {
        let link = "sts_mode = nosec\nsubtop = a\npubtop = b\n";
        let values = effective(&format!("{link}url = mqtt://u@b.example:21883\n"), &[]);
        for (name, expected) in [
            ("port", ("21883", "plant.conf, line 4")),
            ("username", ("u", "plant.conf, line 4")),
            ("password", ("", "default")),
        ] {
            assert_eq!(of(&values, name), expected, "{name}");
        }
        let values = effective(link, &["host=b.example:1884,c.example"]);
        assert_eq!(of(&values, "port"), ("1884,1883", "-o host"));
        let values = effective(&format!("{link}host = b.example:1884\n"), &["port=1886"]);
        assert_eq!(of(&values, "port"), ("1886", "-o port"));
        let values = effective(&format!("{link}host = b.example\nport = 1885\n"), &["host=b.example:1884,c.example"]);
        assert_eq!(of(&values, "port"), ("1884,1885", "-o host"), "the command line decides");
        assert_eq!(values.iter().filter(|it| it.name == "port").count(), 1);
        let values = effective(link, &["url=unix:///run/m.sock"]);
        assert_eq!([of(&values, "port"), of(&values, "username")], [("", "default"); 2]);
    }

    #[test]
    fn every_key_is_there_once() {
        let values = effective("sts_mode = nosec\nsubtop = a\npubtop = b\n", &[]);
        let mut names: Vec<_> = values.iter().map(|it| it.name).collect();
        names.dedup();
        assert_eq!(names.len(), KEY_NAMES.len() - 2, "ip, host and url are one");
    }
}
