//! One link's configuration: its file, what `-o` sets over it, and the environment, parsed once into real types.
//!
//! [`Config::parse`] is a function of its arguments; only `load` and [`Environment`] look at the machine. The format and
//! every key are described in `sts.conf(5)`:
//!
//! - A line is `key = value`, blank, or a comment: its first character that is not a blank is `#`. A `#` anywhere else
//!   belongs to the value, since `plant/#` is a topic and `#` may be part of a password.
//! - A value is everything between the first `=` and the end of the line, without the blanks around it. An empty value
//!   is the key's default, as if the line were not there.

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::path::PathBuf;

use zeroize::Zeroizing;

use crate::crypto::schedule::Topics;
use crate::route::{Pattern, Route};
use crate::suite::Suite;
use crate::{Error, Result};

pub use self::environment::Environment;
pub use self::keys::key_names;
pub(crate) use self::load::{explain, link_of, load};
pub(crate) use self::settings::Override;
pub(crate) use self::topic::{Topic, TopicFilter};
pub use crate::mqtt::MIN_MESSAGE;
pub(crate) use crate::mqtt::{
    BrokerAddress, ClientCert, Endpoint, KeyPin, Login, Node, Proxy, Qos, TlsOptions, Version as MqttVersion,
};
pub use crate::name::{LinkName, PeerName};
pub(crate) use crate::role::Role;
pub(crate) use crate::secret::Password;

mod address;
mod effective;
mod endpoint;
mod environment;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod keys;
mod legacy;
mod load;
mod proxy;
mod settings;
mod tls;
mod topic;
mod unsupported;
mod validate;

#[cfg(test)]
mod tests;

/// Everything that a link's configuration says.
#[derive(Clone, Debug)]
pub struct Config {
    /// The link's name, which also names its files in the runtime directory.
    pub(crate) link: LinkName,
    /// The broker and how to talk to it.
    pub(crate) mqtt: Mqtt,
    /// `pubtop`: where this side publishes; with wildcards, what [`Config::route`] fills for each peer.
    pub(crate) publish: Topic,
    /// `subtop`: where this side listens; where the link is encrypted, never the same as `publish`.
    pub(crate) subscribe: TopicFilter,
    /// `will_topic`: where the will of a link without encryption goes; without it, where messages go.
    pub(crate) will_topic: Option<Topic>,
    /// `sts_mode` and `sts_version`: how messages are protected.
    pub(crate) protection: Protection,
    /// What the configuration asks for that this build does not do.
    unsupported: Option<Error>,
}

/// The broker and how to talk to it.
#[derive(Clone, Debug)]
pub(crate) struct Mqtt {
    /// `mqtt_version`.
    pub(crate) version: MqttVersion,
    /// `ip`, `host` or `url`, with `port` and the TLS files.
    pub(crate) endpoint: Endpoint,
    /// `username`, `password`, `password_file`, or the URL's login.
    pub(crate) login: Option<Login>,
    /// What the broker is to know of this client from one connection to the next.
    pub(crate) session: MqttSession,
    /// `qos`.
    pub(crate) qos: Qos,
    /// `keep_alive` in seconds; 0: never.
    pub(crate) keep_alive: u16,
    /// `message_expiry`, seconds, 1 or more; `None` where messages do not expire.
    pub(crate) message_expiry: Option<u32>,
    /// `retain`: whether the broker keeps the last message for who subscribes later.
    pub(crate) retain: bool,
    /// `max_message`: largest payload to publish, [`MIN_MESSAGE`] to [`MAX_MESSAGE`] bytes.
    pub(crate) max_message: usize,
}

/// What the broker is to know of this client from one connection to the next.
#[derive(Clone, Debug)]
pub(crate) struct MqttSession {
    /// `clientid`, 1 to 65,519 bytes (23 in MQTT 3.1); without one each run draws its own.
    pub(crate) client_id: Option<String>,
    /// `clean_session`, where it is set; else the tool decides.
    pub(crate) clean: Option<bool>,
    /// `session_expiry`, seconds; without effect before MQTT 5, and where the session is clean.
    pub(crate) expiry: u32,
}

/// Most `max_message`, in bytes: the largest MQTT packet, less the longest topic and what a PUBLISH adds to it.
pub const MAX_MESSAGE: usize = 268_435_455 - 65_535 - 16;

/// How the messages of a link are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    /// `sts_mode = nosec`: nothing is encrypted, nothing authenticated.
    None,
    /// `sts-protocol(7)`.
    Sealed(Sealed),
    /// `sts_version = 1`: encrypted, and nothing authenticated.
    Legacy(Legacy),
}

impl Protection {
    /// Whether the link is to the old program.
    pub(crate) fn is_legacy(&self) -> bool {
        match self {
            Self::Legacy(_) => true,
            Self::None | Self::Sealed(_) => false,
        }
    }

    /// The value of `aes` that says the same.
    fn suite_value(&self) -> &'static str {
        match self {
            Self::None => "null",
            Self::Sealed(sealed) => sealed.suite.name(),
            Self::Legacy(legacy) => legacy.aes.name(),
        }
    }

    /// The value of `sts_version` that says the same; empty where nothing is encrypted.
    fn version_value(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Sealed(_) => "2",
            Self::Legacy(_) => "1",
        }
    }

    /// Which side of a pairing this device is; `None` where nothing is paired.
    fn role(&self) -> Option<Role> {
        match self {
            Self::None => None,
            Self::Sealed(sealed) => Some(sealed.role),
            Self::Legacy(legacy) => Some(legacy.role),
        }
    }

    /// What is to be known of the suite, if anything.
    fn warning(&self) -> Option<String> {
        let others = match self {
            Self::Sealed(Sealed { suite: Suite::Ecb, .. }) => "gcm and cbc do not",
            Self::Legacy(Legacy { aes: Suite::Ecb, .. }) => "cbc does not",
            Self::None | Self::Sealed(_) | Self::Legacy(_) => return None,
        };
        Some(format!("aes = ecb reveals where blocks of the data are equal; {others}"))
    }
}

/// What a link to the old program is to be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Legacy {
    /// `sts_mode`: which side of the pairing this is.
    pub(crate) role: Role,
    /// `aes`: CBC or ECB, and both ends must say the same.
    pub(crate) aes: Suite,
}

/// What an encrypted link's sessions are to be like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// `sts_mode`: which side of the handshake this is.
    pub(crate) role: Role,
    /// `aes`: both ends must say the same.
    pub(crate) suite: Suite,
    /// `peer`: whom this link accepts; empty where the configuration leaves it to the pinned keys.
    pub(crate) peers: Vec<PeerName>,
    /// `channel`: what the handshake calls this link instead of by its two topics.
    pub(crate) channel: Option<Topic>,
}

/// Where a configuration's text comes from, for messages and for the paths in it.
#[derive(Clone, Debug)]
pub(crate) struct ConfigSource {
    /// The link's name.
    pub(crate) link: LinkName,
    /// The file, as a message names it; paths in the text are relative to its directory.
    pub(crate) path: PathBuf,
}

/// A password file's content, and whether users other than us could read it.
pub(crate) struct SecretFile {
    /// All of it.
    pub(crate) text: Zeroizing<String>,
    /// True where its mode lets others read it.
    pub(crate) exposed: bool,
}

/// What came of a configuration's text.
#[derive(Clone, Debug)]
pub(crate) struct Parsed {
    /// The configuration.
    pub(crate) config: Config,
    /// What is probably not meant, a line each.
    pub(crate) warnings: Vec<String>,
    /// Whether the text itself holds a password, so that its file must not be readable by others.
    pub(crate) password_in_text: bool,
}

impl Config {
    /// Refuses what the configuration may ask for and this build does not do.
    ///
    /// # Errors
    /// [`crate::Exit::Config`], naming file, line and what to build.
    pub(crate) fn check_supported(&self) -> Result<()> {
        self.unsupported.clone().map_or(Ok(()), Err)
    }

    /// What the sessions of STS/2 are to be like; `None` where the link has none.
    pub(crate) fn sealed(&self) -> Option<&Sealed> {
        match &self.protection {
            Protection::Sealed(sealed) => Some(sealed),
            Protection::None | Protection::Legacy(_) => None,
        }
    }

    /// The topics of the link, as MQTT and as the handshake has them; `None` where there is no handshake of STS/2.
    ///
    /// The handshake hashes them without a `$share` prefix; with `channel = NAME` they are `NAME/m2s` and `NAME/s2m` on
    /// both ends, whatever a bridge between two brokers renames.
    #[must_use]
    pub(crate) fn route(&self) -> Option<Route> {
        let sealed = self.sealed()?;
        let (publish, listen) = (self.publish.as_str().to_owned(), self.subscribe.plain().to_owned());
        if self.subscribe.has_wildcard() {
            return Some(Route::Each(Pattern { listen, publish }));
        }
        let (master_to_slave, slave_to_master) = match (&sealed.channel, sealed.role) {
            (Some(channel), _) => (format!("{channel}/m2s"), format!("{channel}/s2m")),
            (None, Role::Master) => (publish.clone(), listen.clone()),
            (None, Role::Slave) => (listen.clone(), publish.clone()),
        };
        Some(Route::One { publish, listen, topics: Topics { master_to_slave, slave_to_master } })
    }
}
