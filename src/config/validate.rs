//! From settings to a [`Config`]: every value checked, and every contradiction between keys refused.

use std::path::Path;

use super::address::Address;
use super::keys::ConfigKey;
use super::settings::{Override, Setting, Settings};
use super::topic::{Topic, TopicFilter, wildcards};
use super::{
    Config, ConfigSource, Legacy, Login, MAX_MESSAGE, MIN_MESSAGE, Mqtt, MqttSession, MqttVersion, Parsed, Password,
    PeerName, Protection, Proxy, Qos, Role, Sealed, SecretFile, endpoint, legacy, unsupported,
};
use crate::mqtt::DEFAULT_SESSION_EXPIRY;
use crate::suite::Suite;
use crate::text::{nearest, quote, show};
use crate::units::{Seconds, Size};
use crate::{Error, Exit, Result};

/// Longest text that MQTT carries in one field, in bytes.
const MAX_FIELD_LEN: usize = 65_535;

/// Longest client id, in bytes: what is left of the field is for the tools that derive their own from it.
const MAX_CLIENT_ID_LEN: usize = MAX_FIELD_LEN - 16;

/// What to set `sts_mode` to.
const MODES: &str = "master on one of the two devices and slave on the other; nosec for plain MQTT on both";

/// Reads a `password_file`.
type ReadSecret<'r> = &'r mut dyn FnMut(&Path) -> Result<SecretFile>;

impl Config {
    /// Parses a configuration's text and what `-o` set over it; `read` is called for a `password_file`, at most once.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] naming file and line, or [`crate::Exit::Usage`] naming the `-o`: an unknown key with the
    /// nearest right one, a bad value with what is allowed, a repeated key, a missing one, keys that contradict each
    /// other.
    pub(crate) fn parse(
        source: &ConfigSource,
        text: &str,
        overrides: &[Override],
        read: ReadSecret<'_>,
    ) -> Result<Parsed> {
        validate(&Settings::parse(source, text, overrides)?, read)
    }
}

/// The keys that any text can be a value of.
const FREE_TEXT: [ConfigKey; 7] = [
    ConfigKey::Username,
    ConfigKey::Password,
    ConfigKey::ClientId,
    ConfigKey::Subtop,
    ConfigKey::Pubtop,
    ConfigKey::Channel,
    ConfigKey::WillTopic,
];

const QOS: [(&str, Qos); 3] = [("0", Qos::AtMostOnce), ("1", Qos::AtLeastOnce), ("2", Qos::ExactlyOnce)];

fn validate(settings: &Settings<'_>, read: ReadSecret<'_>) -> Result<Parsed> {
    let mut warnings: Vec<_> = FREE_TEXT.iter().filter_map(|key| settings.get(*key)?.warning()).collect();
    let protection = protection(settings)?;
    let (role, is_legacy) = (protection.role(), protection.is_legacy());
    let (publish, subscribe) = topics(settings, role)?;
    warnings.extend(protection.warning());
    let versions = MqttVersion::ALL.map(|version| (version.config_value(), version));
    let version = choice(settings, ConfigKey::MqttVersion, &versions)?.unwrap_or_default();
    let address = match settings.get(ConfigKey::Host) {
        Some(setting) => Some((setting, Address::parse(setting.value).map_err(|why| setting.invalid(why))?)),
        None => None,
    };
    let (login, password_in_text) = login(settings, address.as_ref(), read, &mut warnings)?;
    let flags = [("0", false), ("1", true)];
    let mqtt = Mqtt {
        version,
        endpoint: endpoint::parse(settings, address)?,
        login,
        session: MqttSession {
            client_id: client_id(settings, version)?,
            // What the old program sends is not kept by the broker.
            clean: choice(settings, ConfigKey::CleanSession, &flags)?.or(is_legacy.then_some(true)),
            expiry: session_expiry(settings, version)?,
        },
        qos: choice(settings, ConfigKey::Qos, &QOS)?.unwrap_or(if is_legacy {
            Qos::AtMostOnce
        } else {
            Qos::default()
        }),
        keep_alive: keep_alive(settings)?,
        message_expiry: expiry(settings, ConfigKey::MessageExpiry, version)?.filter(|seconds| *seconds > 0),
        retain: choice(settings, ConfigKey::Retain, &flags)?.unwrap_or(false),
        max_message: max_message(settings)?,
    };
    let password_in_text = password_in_text || mqtt.endpoint.proxy.as_ref().is_some_and(Proxy::has_password);
    let (link, will_topic) = (settings.source.link.clone(), will_topic(settings, role.is_some())?);
    let mut config = Config { link, mqtt, publish, subscribe, will_topic, protection, unsupported: None };
    config.unsupported = unsupported::first(settings, &config);
    Ok(Parsed { config, warnings, password_in_text })
}

fn protection(settings: &Settings<'_>) -> Result<Protection> {
    let modes = [("nosec", None), ("master", Some(Role::Master)), ("slave", Some(Role::Slave))];
    let mode = choice(settings, ConfigKey::Mode, &modes)
        .map_err(|error| error.hint_if_none(MODES))?
        .ok_or_else(|| missing(settings, "sts_mode", "MODE`, where MODE is `nosec`, `master` or `slave"))?;
    let suites: Vec<_> = Suite::ALL.iter().map(|suite| (suite.name(), Some(*suite))).chain([("null", None)]).collect();
    let aes = settings.get(ConfigKey::Aes).zip(choice(settings, ConfigKey::Aes, &suites)?);
    let is_legacy = choice(settings, ConfigKey::StsVersion, &[("1", true), ("2", false)])?.unwrap_or(false);
    let Some(role) = mode else {
        refuse_without_encryption(settings, aes)?;
        return Ok(Protection::None);
    };
    let suite = suite(aes, is_legacy)?;
    if is_legacy {
        legacy::check(settings)?;
        return Ok(Protection::Legacy(Legacy { role, aes: suite }));
    }
    let channel = match settings.get(ConfigKey::Channel) {
        Some(setting) => Some(Topic::parse(setting.value).map_err(|why| setting.invalid(why))?),
        None => None,
    };
    Ok(Protection::Sealed(Sealed { role, suite, peers: peers(settings)?, channel }))
}

/// Refuses what means nothing on a link that is not encrypted.
fn refuse_without_encryption(settings: &Settings<'_>, aes: Option<(Setting<'_>, Option<Suite>)>) -> Result<()> {
    if let Some((setting, Some(_))) = aes {
        let why = format!("`aes = {}` cannot be used with `sts_mode = nosec`, which encrypts nothing", setting.value);
        return Err(setting.error(why).hint("set `sts_mode` to master or slave, or `aes` to null"));
    }
    if let Some(setting) = settings.get(ConfigKey::Peer).or(settings.get(ConfigKey::Channel)) {
        let why = format!("`{}` cannot be used with `sts_mode = nosec`, which authenticates no peer", setting.name);
        let hint = format!("set `sts_mode` to master or slave, or {}", setting.removal());
        return Err(setting.error(why).hint(hint));
    }
    Ok(())
}

/// The suite of an encrypted link.
fn suite(aes: Option<(Setting<'_>, Option<Suite>)>, is_legacy: bool) -> Result<Suite> {
    match (aes, is_legacy) {
        (Some((setting, None)), _) => {
            let why = "`aes = null` can be used only with `sts_mode = nosec`";
            let hint =
                if is_legacy { legacy::AES_HINT } else { "use gcm, cbc or ecb; without this line, the suite is gcm" };
            Err(setting.error(why).hint(hint))
        }
        (Some((setting, Some(Suite::Gcm))), true) => Err(setting.invalid("must be cbc or ecb with `sts_version = 1`")),
        (Some((_, Some(suite))), _) => Ok(suite),
        (None, true) => Ok(Suite::Cbc),
        (None, false) => Ok(Suite::default()),
    }
}

fn peers(settings: &Settings<'_>) -> Result<Vec<PeerName>> {
    let Some(setting) = settings.get(ConfigKey::Peer) else { return Ok(Vec::new()) };
    let mut peers: Vec<PeerName> = Vec::new();
    for word in setting.value.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let name = word.parse().map_err(|why| setting.invalid(why))?;
        if peers.contains(&name) {
            return Err(setting.error(format!("`{name}` occurs twice in `peer`")));
        }
        peers.push(name);
    }
    if peers.is_empty() { Err(setting.invalid("must be names, separated by commas or blanks")) } else { Ok(peers) }
}

fn topics(settings: &Settings<'_>, role: Option<Role>) -> Result<(Topic, TopicFilter)> {
    let required = |key, name| settings.get(key).ok_or_else(|| missing(settings, name, "TOPIC"));
    let (sub, publ) = (required(ConfigKey::Subtop, "subtop")?, required(ConfigKey::Pubtop, "pubtop")?);
    let subscribe = TopicFilter::parse(sub.value).map_err(|why| sub.invalid(why))?;
    if role == Some(Role::Master) && subscribe.has_wildcard() {
        return Err(sub.invalid("a master has one slave, so its topics cannot contain `+` or `#`"));
    }
    let wild = role == Some(Role::Slave) && (subscribe.has_wildcard() || wildcards(publ.value) > 0);
    let publish = if wild { gateway(settings, sub, &subscribe, publ)? } else { plain_topic(publ)? };
    if role.is_some() && subscribe.plain() == publish.as_str() {
        let why =
            format!("`{}` is the same topic as {}: each side would receive its own messages", publ.name, sub.shown());
        return Err(Error::new(Exit::Config, publ.location())
            .because(why)
            .hint("give each direction a topic of its own"));
    }
    Ok((publish, subscribe))
}

/// `will_topic`. What is sealed goes where its stream goes.
fn will_topic(settings: &Settings<'_>, is_sealed: bool) -> Result<Option<Topic>> {
    let Some(setting) = settings.get(ConfigKey::WillTopic) else { return Ok(None) };
    if is_sealed {
        let why = format!("`{}` can be used only with `sts_mode = nosec`", setting.name);
        let hint = format!("{}: on an encrypted link, a will goes to `pubtop`", setting.removal());
        return Err(setting.error(why).hint(hint));
    }
    plain_topic(setting).map(Some)
}

fn plain_topic(setting: Setting<'_>) -> Result<Topic> {
    Topic::parse(setting.value).map_err(|why| setting.invalid(why))
}

/// `pubtop` of a slave with many masters: it must have a `+` for each one of `subtop`.
fn gateway(settings: &Settings<'_>, sub: Setting<'_>, subscribe: &TopicFilter, publ: Setting<'_>) -> Result<Topic> {
    if subscribe.plain().contains('#') {
        let error = sub.invalid("`#` does not say which device a topic belongs to");
        return Err(error.hint("use `+` for the level of the device: subtop = plant/+/up and pubtop = plant/+/down"));
    }
    let publish = Topic::parse_pattern(publ.value).map_err(|why| publ.invalid(why))?;
    let (heard, filled) = (subscribe.wildcards(), wildcards(publish.as_str()));
    if heard != filled {
        let why = format!("`+` occurs {heard} times in `subtop` and {filled} times in `pubtop`");
        return Err(publ
            .error(why)
            .hint("each `+` in `pubtop` stands for what the corresponding `+` in `subtop` matched"));
    }
    match settings.get(ConfigKey::Channel) {
        Some(setting) => {
            Err(setting.error("`channel` cannot be used with wildcards, where each device has its own topics"))
        }
        None => Ok(publish),
    }
}

fn login(
    settings: &Settings<'_>,
    address: Option<&(Setting<'_>, Address)>,
    read: ReadSecret<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Option<Login>, bool)> {
    let [name, word, file] =
        [ConfigKey::Username, ConfigKey::Password, ConfigKey::PasswordFile].map(|key| settings.get(key));
    let set = name.or(word).or(file);
    if let Some((url, Address { login: Some((username, password)), .. })) = address {
        if let Some(setting) = set {
            return Err(setting.error(format!("{} already contains a login", url.shown())));
        }
        let login = Login { username: username.clone(), password: password.clone() };
        let lengths = [username.len(), password.as_ref().map_or(0, |word| word.expose().len())];
        if lengths.iter().any(|len| *len > MAX_FIELD_LEN) {
            return Err(url.invalid("a name and a password can have at most 65535 bytes"));
        }
        return Ok((Some(login), password.is_some()));
    }
    let (password, in_text) = match (word, file) {
        (Some(_), Some(file)) if !file.on_command_line() => return Err(file.error("`password` is already set")),
        (_, Some(file)) => (Some(read_password(settings, file, read, warnings)?), false),
        (Some(word), None) => (Some(Password::new(word.value.to_owned())), true),
        (None, None) => (None, false),
    };
    if let Some(long) = [name, word].into_iter().flatten().find(|setting| setting.value.len() > MAX_FIELD_LEN) {
        return Err(long.error(format!("`{}` is longer than {MAX_FIELD_LEN} bytes", long.name)));
    }
    match (name, set) {
        (Some(name), _) => Ok((Some(Login { username: name.value.to_owned(), password }), in_text)),
        // MQTT 3.1.1, 3.1.2.9: no password without a name.
        (None, Some(setting)) => Err(setting.error(format!("`{}` needs `username`", setting.name))),
        (None, None) => Ok((None, false)),
    }
}

fn read_password(
    settings: &Settings<'_>,
    setting: Setting<'_>,
    read: ReadSecret<'_>,
    warnings: &mut Vec<String>,
) -> Result<Password> {
    let path = settings.resolve(setting.value);
    let shown = show(&path);
    let SecretFile { text, exposed } = read(&path).map_err(|err| {
        if err.exit() == Exit::NotTrusted {
            return err;
        }
        let mut error = setting.error(&err);
        // Where the machine fails to read it, the configuration is not wrong.
        if err.lack().is_some() {
            error = error.exit_as(err.exit());
        }
        if error.hint_text().is_some() {
            return error;
        }
        error.hint(format!("write the password into it, as its only line: (umask 077; cat >{})", quote(&path)))
    })?;
    let word = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if word.is_empty() || word.len() > MAX_FIELD_LEN || word.contains(char::is_control) {
        return Err(setting.error(format!("{shown} must be one line of 1 to {MAX_FIELD_LEN} bytes")));
    }
    if exposed {
        warnings.push(exposed_warning("password", &path));
    }
    Ok(Password::new(word.to_owned()))
}

/// What a user is told of a secret in a file that others can read.
pub(super) fn exposed_warning(what: &str, path: &Path) -> String {
    format!("other users can read the {what} in {}: chmod 600 {}", show(path), quote(path))
}

fn client_id(settings: &Settings<'_>, version: MqttVersion) -> Result<Option<String>> {
    let Some(setting) = settings.get(ConfigKey::ClientId) else { return Ok(None) };
    if setting.value.len() > MAX_CLIENT_ID_LEN {
        return Err(setting.error(format!("`clientid` is longer than {MAX_CLIENT_ID_LEN} bytes")));
    }
    if let Some(max) = version.max_client_id().filter(|max| setting.value.len() > *max) {
        let error = setting.invalid(format!("MQTT {version} allows {max} bytes"));
        return Err(error.hint_if_none("shorten it, or set `mqtt_version = 4`"));
    }
    Ok(Some(setting.value.to_owned()))
}

/// One of a few words.
fn choice<T: Copy>(settings: &Settings<'_>, key: ConfigKey, words: &[(&str, T)]) -> Result<Option<T>> {
    let Some(setting) = settings.get(key) else { return Ok(None) };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == setting.value) {
        return Ok(Some(*value));
    }
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let (last, first) = all.split_last().unwrap_or((&"", &[]));
    let error = setting.invalid(format!("must be {} or {last}", first.join(", ")));
    Err(match nearest(setting.value, all.iter().copied()) {
        Some(word) if word.len() > 1 && error.hint_text().is_none() => error.hint(format!("did you mean `{word}`?")),
        _ => error,
    })
}

/// `keep_alive`, a time in the form that the options have.
fn keep_alive(settings: &Settings<'_>) -> Result<u16> {
    let Some(setting) = settings.get(ConfigKey::KeepAlive) else { return Ok(60) };
    let seconds = setting.value.parse().ok().and_then(|time: Seconds| u16::try_from(time.count()).ok());
    seconds.ok_or_else(|| setting.invalid("must be a number from 0 to 65535, or a time such as 90s or 5m"))
}

/// `session_expiry`, where there is a session to keep.
fn session_expiry(settings: &Settings<'_>, version: MqttVersion) -> Result<u32> {
    let Some(seconds) = expiry(settings, ConfigKey::SessionExpiry, version)? else { return Ok(DEFAULT_SESSION_EXPIRY) };
    let clean = settings.get(ConfigKey::CleanSession).filter(|setting| setting.value == "1");
    if let Some(setting) = settings.get(ConfigKey::SessionExpiry) {
        if settings.get(ConfigKey::ClientId).is_none() {
            return Err(
                setting.error("`session_expiry` needs a `clientid`, by which the broker recognizes the session")
            );
        }
        if clean.is_some() {
            return Err(
                setting.error("`session_expiry` cannot be used with `clean_session = 1`, which keeps no session")
            );
        }
    }
    Ok(seconds)
}

/// A time that only MQTT 5 can tell the broker, in the form that the options have.
fn expiry(settings: &Settings<'_>, key: ConfigKey, version: MqttVersion) -> Result<Option<u32>> {
    let Some(setting) = settings.get(key) else { return Ok(None) };
    let seconds = setting.value.parse().ok().and_then(|time: Seconds| u32::try_from(time.count()).ok());
    let seconds = seconds.ok_or_else(|| {
        setting.invalid(format!("must be a number of seconds from 0 to {}, or a time such as 12h or 7d", u32::MAX))
    })?;
    if !version.has_properties() {
        let error = setting.error(format!("MQTT {version} has no `{}`", setting.name));
        return Err(error.hint_if_none("set `mqtt_version = 5`, if the broker supports it"));
    }
    Ok(Some(seconds))
}

/// `max_message`, a size in the form that the options have.
fn max_message(settings: &Settings<'_>) -> Result<usize> {
    let Some(setting) = settings.get(ConfigKey::MaxMessage) else { return Ok(65_536) };
    let bytes = setting.value.parse().ok().and_then(|size: Size| usize::try_from(size.bytes()).ok());
    bytes.filter(|bytes| (MIN_MESSAGE..=MAX_MESSAGE).contains(bytes)).ok_or_else(|| {
        setting.invalid(format!("must be a number from {MIN_MESSAGE} to {MAX_MESSAGE}, or a size such as 64k or 1M"))
    })
}

fn missing(settings: &Settings<'_>, name: &str, value: &str) -> Error {
    Error::new(Exit::Config, show(&settings.source.path))
        .because(format!("`{name}` is not set"))
        .hint(format!("add the line `{name} = {value}`"))
}
