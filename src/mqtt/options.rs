//! What a session is made with.

use std::time::Duration;

use super::Version;
use super::topic::MAX_STRING;
use crate::secret::Password;
use crate::{Error, Exit, Result};

/// What a session is made with; [`Options::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct Options {
    /// The protocol's version.
    pub version: Version,
    /// The client identifier: 0 to 65535 bytes; empty lets the broker choose, with `clean_session` only.
    pub client_id: String,
    /// The broker login.
    pub login: Option<Login>,
    /// PINGREQ after so long without traffic: whole seconds up to 65535; zero for never.
    pub keep_alive: Duration,
    /// Asks the broker to forget the session at both ends of each connection.
    pub clean_session: bool,
    /// The client id was drawn at random, so no other client has it and takes our connection away.
    pub exclusive: bool,
    /// How much may be unacknowledged.
    pub window: InFlightLimit,
    /// Largest payload to publish, bytes.
    pub max_send: usize,
    /// Largest PUBLISH to take in, bytes after the fixed header; larger ones are read past.
    pub max_receive: usize,
}

/// Bounds of what is published and not acknowledged; counted from the oldest such message.
#[derive(Clone, Copy, Debug)]
pub struct InFlightLimit {
    /// Messages, 1 to 65280, acknowledged ones behind the oldest unacknowledged included.
    pub messages: usize,
    /// Bytes of unacknowledged topics and payloads; one message alone may exceed it.
    pub bytes: usize,
}

/// User name and password for the broker.
#[derive(Clone, Debug)]
pub struct Login {
    /// 1 to 65,535 bytes.
    pub username: String,
    /// At most 65,535 bytes; MQTT allows none.
    pub password: Option<Password>,
}

impl Options {
    /// MQTT 3.1.1, no login, keep-alive of 60 s, a clean session, messages of 64 KiB and a window of 1 MiB.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            version: Version::V311,
            client_id: client_id.into(),
            login: None,
            keep_alive: Duration::from_secs(60),
            clean_session: true,
            exclusive: false,
            window: InFlightLimit { messages: 16_384, bytes: 1 << 20 },
            max_send: 65_536,
            max_receive: 1 << 20,
        }
    }

    /// The keep-alive as CONNECT carries it, after checking that each field fits into its packet.
    pub(super) fn check(&self) -> Result<u16> {
        let wrong = |what: &str, why: &str| Err(Error::new(Exit::Config, what).because(why));
        if self.client_id.len() > MAX_STRING || self.client_id.contains('\0') {
            return wrong("`clientid`", "longer than 65535 bytes, or a NUL in it");
        }
        if self.client_id.is_empty() && !self.clean_session {
            return wrong("`clean_session = 0`", "a session that the broker keeps needs a `clientid`");
        }
        if let Some(login) = &self.login {
            if login.username.is_empty() {
                return wrong("`password`", "MQTT has no password without a `username`");
            }
            if login.username.len() > MAX_STRING || login.username.contains('\0') {
                return wrong("`username`", "longer than 65535 bytes, or a NUL in it");
            }
            if login.password.as_ref().is_some_and(|password| password.expose().len() > MAX_STRING) {
                return wrong("`password`", "longer than 65535 bytes");
            }
        }
        u16::try_from(self.keep_alive.as_millis().div_ceil(1000))
            .map_err(|_| Error::new(Exit::Config, "`keep_alive`").because("more than 65535 seconds"))
    }
}
