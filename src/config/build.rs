//! From keys to a [`Config`]: every value checked, and what the keys must not say together.

use std::io;
use std::path::Path;

use super::address::{self, Address, Scheme};
use super::entries::{Entry, Key, Table};
use super::topic::{Filter, Topic, wildcards};
use super::{
    ClientCert, Config, Endpoint, Login, MAX_MESSAGE, MIN_MESSAGE, Mqtt, MqttVersion, Parsed, Password, PeerName,
    Protocol, Qos, Role, Sealed, SecretFile, TlsFiles, unsupported,
};
use crate::suite::Suite;
use crate::text::{nearest, quote, show};
use crate::{Error, Exit, Result};

/// Longest text that MQTT carries in one field, in bytes.
const MAX_FIELD: usize = 65_535;

/// Longest client id, in bytes: what is left of the field is for the tools that derive their own from it.
const MAX_CLIENT_ID: usize = MAX_FIELD - 16;

type Read<'r> = &'r mut dyn FnMut(&Path) -> io::Result<SecretFile>;

pub(super) fn build(table: &Table<'_>, read: Read<'_>) -> Result<Parsed> {
    let mut warnings = Vec::new();
    let sealed = sealed(table)?;
    let (publish, subscribe) = topics(table, sealed.as_ref().map(|sealed| sealed.role))?;
    if sealed.as_ref().is_some_and(|sealed| sealed.suite == Suite::Ecb) {
        warnings.push("aes = ecb shows where blocks of the data are equal; gcm and cbc do not".into());
    }
    let version = choice(table, Key::MqttVersion, &MqttVersion::ALL.map(|version| (version.config_value(), version)))?
        .unwrap_or_default();
    let address = match table.get(Key::Host) {
        Some(entry) => Some((entry, Address::parse(entry.value).map_err(|why| entry.bad(why))?)),
        None => None,
    };
    let (login, password_in_text) = login(table, address.as_ref(), read, &mut warnings)?;
    let flags = [("0", false), ("1", true)];
    let mqtt = Mqtt {
        version,
        endpoint: endpoint(table, address)?,
        login,
        client_id: client_id(table, version)?,
        qos: choice(table, Key::Qos, &[("0", Qos::AtMostOnce), ("1", Qos::AtLeastOnce), ("2", Qos::ExactlyOnce)])?
            .unwrap_or_default(),
        keep_alive: number(table, Key::KeepAlive, 0, u16::MAX.into())?
            .map_or(60, |secs| u16::try_from(secs).unwrap_or(u16::MAX)),
        clean_session: choice(table, Key::CleanSession, &flags)?,
        retain: choice(table, Key::Retain, &flags)?.unwrap_or(false),
        max_message: number(table, Key::MaxMessage, MIN_MESSAGE, MAX_MESSAGE)?.unwrap_or(65_536),
    };
    let mut config = Config { link: table.source.link.clone(), mqtt, publish, subscribe, sealed, not_yet: None };
    config.not_yet = unsupported::not_yet(table, &config);
    Ok(Parsed { config, warnings, password_in_text })
}

fn sealed(table: &Table<'_>) -> Result<Option<Sealed>> {
    let modes = [("nosec", None), ("master", Some(Role::Master)), ("slave", Some(Role::Slave))];
    let mode = choice(table, Key::Mode, &modes)?
        .ok_or_else(|| missing(table, "sts_mode", "MODE`, where MODE is `nosec`, `master` or `slave"))?;
    let suites = [("gcm", Some(Suite::Gcm)), ("cbc", Some(Suite::Cbc)), ("ecb", Some(Suite::Ecb)), ("null", None)];
    let aes = table.get(Key::Aes).zip(choice(table, Key::Aes, &suites)?);
    let protocol = choice(table, Key::StsVersion, &[("1", Protocol::Sts1), ("2", Protocol::Sts2)])?.unwrap_or_default();
    let Some(role) = mode else {
        if let Some((entry, Some(_))) = aes {
            let why = format!("`aes = {}` does not go with `sts_mode = nosec`, which encrypts nothing", entry.value);
            return Err(entry.error(why).hint("set `sts_mode` to master or slave, or `aes` to null"));
        }
        if let Some(entry) = table.get(Key::Peer).or(table.get(Key::Channel)) {
            let why = format!("`{}` does not go with `sts_mode = nosec`, which checks nobody", entry.name);
            return Err(entry.error(why).hint("set `sts_mode` to master or slave, or remove this line"));
        }
        return Ok(None);
    };
    let suite = match (aes, protocol) {
        (Some((entry, None)), _) => {
            let why = "`aes = null` goes with `sts_mode = nosec` only";
            return Err(entry.error(why).hint("gcm, cbc or ecb; without `aes` it is gcm"));
        }
        (Some((entry, Some(Suite::Gcm))), Protocol::Sts1) => return Err(entry.bad("cbc or ecb with `sts_version = 1`")),
        (Some((_, Some(suite))), _) => suite,
        (None, Protocol::Sts1) => Suite::Cbc,
        (None, Protocol::Sts2) => Suite::default(),
    };
    let channel = match table.get(Key::Channel) {
        Some(entry) => Some(Topic::parse(entry.value).map_err(|why| entry.bad(why))?),
        None => None,
    };
    Ok(Some(Sealed { role, protocol, suite, peers: peers(table)?, channel }))
}

fn peers(table: &Table<'_>) -> Result<Vec<PeerName>> {
    let Some(entry) = table.get(Key::Peer) else { return Ok(Vec::new()) };
    let mut peers: Vec<PeerName> = Vec::new();
    for word in entry.value.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        let name = word.parse().map_err(|why| entry.bad(why))?;
        if peers.contains(&name) {
            return Err(entry.error(format!("`{name}` stands twice in `peer`")));
        }
        peers.push(name);
    }
    if peers.is_empty() { Err(entry.bad("names, with commas or blanks between them")) } else { Ok(peers) }
}

fn topics(table: &Table<'_>, role: Option<Role>) -> Result<(Topic, Filter)> {
    let required = |key, name| table.get(key).ok_or_else(|| missing(table, name, "TOPIC"));
    let (sub, publ) = (required(Key::Subtop, "subtop")?, required(Key::Pubtop, "pubtop")?);
    let subscribe = Filter::parse(sub.value).map_err(|why| sub.bad(why))?;
    if role == Some(Role::Master) && subscribe.has_wildcard() {
        return Err(sub.bad("a master has one slave, so its topics have no `+` and no `#`"));
    }
    let wild = role == Some(Role::Slave) && (subscribe.has_wildcard() || wildcards(publ.value) > 0);
    let publish = if wild { gateway(table, sub, &subscribe, publ)? } else { plain_topic(publ)? };
    if role.is_some() && subscribe.plain() == publish.as_str() {
        let why = format!("`{}` is the same topic as {}: each side would hear itself", publ.name, sub.shown());
        return Err(Error::new(Exit::Config, publ.place()).because(why).hint("give each direction a topic of its own"));
    }
    Ok((publish, subscribe))
}

fn plain_topic(entry: Entry<'_>) -> Result<Topic> {
    Topic::parse(entry.value).map_err(|why| entry.bad(why))
}

/// `pubtop` of a slave with many masters: what each `+` of `subtop` matched must have its place in it.
fn gateway(table: &Table<'_>, sub: Entry<'_>, subscribe: &Filter, publ: Entry<'_>) -> Result<Topic> {
    if subscribe.plain().contains('#') {
        let error = sub.bad("`#` does not say which device a topic belongs to");
        return Err(error.hint("use `+`, a level for each device: subtop = plant/+/up and pubtop = plant/+/down"));
    }
    let publish = Topic::parse_pattern(publ.value).map_err(|why| publ.bad(why))?;
    let (heard, filled) = (subscribe.wildcards(), wildcards(publish.as_str()));
    if heard != filled {
        let why = format!("`+` stands {heard} times in `subtop` and {filled} times in `pubtop`");
        return Err(publ.error(why).hint("each `+` of `pubtop` is what the same `+` of `subtop` matched"));
    }
    match table.get(Key::Channel) {
        Some(entry) => Err(entry.error("`channel` does not go with wildcards, where each device has its own topics")),
        None => Ok(publish),
    }
}

fn endpoint(table: &Table<'_>, address: Option<(Entry<'_>, Address)>) -> Result<Endpoint> {
    let own_port = table.get(Key::Port);
    let set_port = own_port.map(|entry| address::port(entry.value).map_err(|why| entry.bad(why))).transpose()?;
    let file = |key| table.get(key).map(|entry| (entry, resolve(table, entry.value)));
    let [ca, cert, key] = [Key::Authorities, Key::ClientCert, Key::ClientSecret].map(file);
    let first = ca.as_ref().or(cert.as_ref()).or(key.as_ref()).map(|(entry, _)| *entry);
    let client = match (cert, key) {
        (Some((_, cert)), Some((_, key))) => Some(ClientCert { cert, key }),
        (None, None) => None,
        (Some((entry, _)), None) => return Err(entry.error("`cert_file` needs `key_file`")),
        (None, Some((entry, _))) => return Err(entry.error("`key_file` needs `cert_file`")),
    };
    let files = TlsFiles { ca: ca.map(|(_, path)| path), client };

    let (scheme, host, url_port, path, url) = match address {
        Some((entry, found)) => (found.scheme, found.host, found.port, found.path, Some(entry)),
        None => (Scheme::Mqtt, "localhost".into(), None, String::new(), None),
    };
    if let Some(entry) = first.filter(|_| !scheme.is_tls()) {
        return Err(entry.error(format!("`{}` needs TLS", entry.name)).hint("url = mqtts://HOST or wss://HOST"));
    }
    let port = match (own_port, url_port, url) {
        // The command line decides between the two, as it does everywhere.
        (Some(own), Some(port), Some(url)) if url.on_command_line() && !own.on_command_line() => port,
        (Some(own), Some(_), Some(url)) if url.on_command_line() == own.on_command_line() => {
            return Err(own.error(format!("{} names a port already", url.shown())));
        }
        _ => set_port.or(url_port).unwrap_or(scheme.default_port()),
    };
    if let (Scheme::Unix, Some(entry)) = (scheme, own_port) {
        return Err(entry.error("a Unix socket has no port"));
    }
    Ok(match scheme {
        Scheme::Mqtt => Endpoint::Tcp { host, port },
        Scheme::Mqtts => Endpoint::Tls { host, port, files },
        Scheme::Ws => Endpoint::WebSocket { host, port, path, tls: None },
        Scheme::Wss => Endpoint::WebSocket { host, port, path, tls: Some(files) },
        Scheme::Unix => Endpoint::Unix { path: host.into() },
    })
}

fn login(
    table: &Table<'_>,
    address: Option<&(Entry<'_>, Address)>,
    read: Read<'_>,
    warnings: &mut Vec<String>,
) -> Result<(Option<Login>, bool)> {
    let [name, word, file] = [Key::Username, Key::Password, Key::PasswordFile].map(|key| table.get(key));
    let set = name.or(word).or(file);
    if let Some((url, Address { login: Some((username, password)), .. })) = address {
        if let Some(entry) = set {
            return Err(entry.error(format!("{} holds a login already", url.shown())));
        }
        let login = Login { username: username.clone(), password: password.clone() };
        let lengths = [username.len(), password.as_ref().map_or(0, |word| word.expose().len())];
        if lengths.iter().any(|len| *len > MAX_FIELD) {
            return Err(url.bad("a name and a password have at most 65535 bytes"));
        }
        return Ok((Some(login), password.is_some()));
    }
    let (password, in_text) = match (word, file) {
        (Some(_), Some(file)) if !file.on_command_line() => return Err(file.error("`password` is set already")),
        (_, Some(file)) => (Some(read_password(table, file, read, warnings)?), false),
        (Some(word), None) => (Some(Password::new(word.value.to_owned())), true),
        (None, None) => (None, false),
    };
    if let Some(long) = [name, word].into_iter().flatten().find(|entry| entry.value.len() > MAX_FIELD) {
        return Err(long.error(format!("`{}` is longer than {MAX_FIELD} bytes", long.name)));
    }
    match (name, set) {
        (Some(name), _) => Ok((Some(Login { username: name.value.to_owned(), password }), in_text)),
        // MQTT 3.1.1, 3.1.2.9: no password without a name.
        (None, Some(entry)) => Err(entry.error(format!("`{}` needs `username`", entry.name))),
        (None, None) => Ok((None, false)),
    }
}

fn read_password(table: &Table<'_>, entry: Entry<'_>, read: Read<'_>, warnings: &mut Vec<String>) -> Result<Password> {
    let path = resolve(table, entry.value);
    let shown = show(&path);
    let SecretFile { text, exposed } = read(&path).map_err(|err| {
        let error = entry.error(format!("cannot read {shown}: {err}"));
        error.hint(format!("the password stands in it, on one line: (umask 077; cat >{})", quote(&path)))
    })?;
    let word = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    if word.is_empty() || word.len() > MAX_FIELD || word.contains(char::is_control) {
        return Err(entry.error(format!("{shown} is not one line of 1 to {MAX_FIELD} bytes")));
    }
    if exposed {
        warnings.push(format!("others can read the password in {shown}: chmod 600 {}", quote(&path)));
    }
    Ok(Password::new(word.to_owned()))
}

fn client_id(table: &Table<'_>, version: MqttVersion) -> Result<Option<String>> {
    let Some(entry) = table.get(Key::ClientId) else { return Ok(None) };
    if entry.value.len() > MAX_CLIENT_ID {
        return Err(entry.error(format!("`clientid` is longer than {MAX_CLIENT_ID} bytes")));
    }
    if let Some(max) = version.max_client_id().filter(|max| entry.value.len() > *max) {
        return Err(entry.bad(format!("MQTT {version} allows {max} bytes")));
    }
    Ok(Some(entry.value.to_owned()))
}

/// A path in the configuration is relative to the directory of the file that it stands in.
fn resolve(table: &Table<'_>, value: &str) -> std::path::PathBuf {
    table.source.path.parent().unwrap_or(Path::new("")).join(value)
}

/// One of a few words.
fn choice<T: Copy>(table: &Table<'_>, key: Key, words: &[(&str, T)]) -> Result<Option<T>> {
    let Some(entry) = table.get(key) else { return Ok(None) };
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == entry.value) {
        return Ok(Some(*value));
    }
    let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    let (last, first) = all.split_last().unwrap_or((&"", &[]));
    let error = entry.bad(format!("{} or {last}", first.join(", ")));
    Err(match nearest(entry.value, all.iter().copied()) {
        Some(word) if word.len() > 1 && error.hint_text().is_none() => error.hint(format!("did you mean `{word}`?")),
        _ => error,
    })
}

/// A whole number between two bounds, both allowed.
fn number(table: &Table<'_>, key: Key, least: usize, most: usize) -> Result<Option<usize>> {
    let Some(entry) = table.get(key) else { return Ok(None) };
    let digits = entry.value.bytes().all(|b| b.is_ascii_digit());
    match entry.value.parse() {
        Ok(number) if digits && (least..=most).contains(&number) => Ok(Some(number)),
        _ => Err(entry.bad(format!("a number from {least} to {most}"))),
    }
}

fn missing(table: &Table<'_>, name: &str, value: &str) -> Error {
    Error::new(Exit::Config, show(&table.source.path))
        .because(format!("`{name}` is not set"))
        .hint(format!("add the line `{name} = {value}`"))
}
