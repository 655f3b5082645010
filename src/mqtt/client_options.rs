//! What a client is made with.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use rand::CryptoRng;

use super::topic::{self, MAX_STRING_LEN};
use super::{Qos, Version};
use crate::secret::Password;
use crate::{Error, Exit, Result};

/// Messages that every broker in use sends without an acknowledgement: RabbitMQ 10 (`mqtt.prefetch`), mosquitto 20
/// (`max_inflight_messages`), the others more. What a tool leaves unacknowledged for long must be fewer.
pub(crate) const MIN_BROKER_WINDOW: usize = 10;

/// Least `max_message`, in bytes: room for a sealed message's overhead and something to carry.
pub const MIN_MESSAGE: usize = 256;

/// Characters of a client id that are drawn at random.
const DRAWN_LEN: usize = 8;

/// How long a broker is to keep a session: a week, so that a receiver may be away for longer than a weekend. Seconds.
pub(crate) const DEFAULT_SESSION_EXPIRY: u32 = 7 * 24 * 3600;

/// What a client is made with; [`ClientOptions::new`] has the defaults.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// The protocol's version.
    pub version: Version,
    /// The client id, 0 to 65535 bytes. If it is empty, the broker chooses one; `clean_session` must be set
    /// then.
    pub client_id: String,
    /// The broker login.
    pub login: Option<Login>,
    /// What the broker is to publish when a connection ends without DISCONNECT.
    pub will: Option<Will>,
    /// PINGREQ goes out after this time without traffic: at most 65535 s, rounded up to seconds; zero for never.
    pub keep_alive: Duration,
    /// Asks the broker to discard the MQTT session when a connection begins and when it ends.
    pub clean_session: bool,
    /// What only MQTT 5 can ask for.
    pub v5: V5Options,
    /// The last eight characters of the client id were drawn at random, so that no other client takes our connection
    /// over.
    pub unique_client_id: bool,
    /// How long messages may be, and how many.
    pub limits: ClientLimits,
}

/// What a broker is asked for in MQTT 5. An older version leaves it to the broker.
#[derive(Clone, Copy, Debug)]
pub struct V5Options {
    /// How long the broker is to keep a session that is not clean after a connection, seconds.
    pub session_expiry: u32,
    /// Seconds after which the broker discards a message that it has not delivered; before MQTT 5 it never does.
    pub message_expiry: Option<u32>,
    /// Whether a subscription also wants what the broker kept for later subscribers; before MQTT 5 it gets that in any
    /// case.
    pub wants_retained: bool,
}

/// Limits of what is published and received.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// How much may be published and not acknowledged.
    pub in_flight: InFlightLimit,
    /// Largest payload to publish, bytes.
    pub max_send: usize,
    /// Largest PUBLISH to receive, bytes after the fixed header; larger ones are skipped.
    pub max_receive: usize,
}

/// Limits of what is published and not acknowledged.
#[derive(Clone, Copy, Debug)]
pub struct InFlightLimit {
    /// Messages, 1 to 65280, counted from the oldest unacknowledged one: acknowledged ones after it included.
    pub messages: usize,
    /// Bytes of unacknowledged topics and payloads; one message alone may exceed it.
    pub bytes: usize,
}

/// User name and password for the broker.
#[derive(Clone, Debug)]
pub struct Login {
    /// 1 to 65,535 bytes.
    pub username: String,
    /// At most 65,535 bytes.
    pub password: Option<Password>,
}

/// A message that the broker publishes in our name when a connection ends without DISCONNECT (MQTT 3.1.1, 3.1.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// A valid topic.
    pub topic: String,
    /// At most 65,535 bytes.
    pub payload: Bytes,
    /// The quality of service that it is published with.
    pub qos: Qos,
    /// The broker keeps it for later subscribers.
    pub retain: bool,
}

impl Will {
    /// Checks that it fits into CONNECT.
    pub(super) fn check(&self) -> Result<()> {
        topic::check_name(&self.topic)?;
        if self.payload.len() > MAX_STRING_LEN {
            let what = format!("a will of {} bytes", self.payload.len());
            return Err(Error::new(Exit::Config, what).because(format!("larger than {MAX_STRING_LEN} bytes")));
        }
        Ok(())
    }
}

impl ClientOptions {
    /// MQTT 3.1.1, no login, keep-alive of 60 s, a clean session, messages of 64 KiB, and 1 MiB in flight.
    #[must_use]
    pub fn new(client_id: impl Into<String>) -> Self {
        Self {
            version: Version::V311,
            client_id: client_id.into(),
            login: None,
            will: None,
            keep_alive: Duration::from_secs(60),
            clean_session: true,
            v5: V5Options { session_expiry: DEFAULT_SESSION_EXPIRY, message_expiry: None, wants_retained: true },
            unique_client_id: false,
            limits: ClientLimits {
                in_flight: InFlightLimit { messages: 16_384, bytes: 1 << 20 },
                max_send: 65_536,
                max_receive: 1 << 20,
            },
        }
    }

    /// Draws another client id, if this one was drawn and no session in the broker hangs on it.
    pub(super) fn redraw_client_id(&mut self, rng: &mut impl CryptoRng) {
        if self.unique_client_id && self.clean_session {
            self.client_id.truncate(self.client_id.len().saturating_sub(DRAWN_LEN));
            // Writing to a string cannot fail.
            let _ = write!(self.client_id, "{:0DRAWN_LEN$x}", rng.next_u32());
        }
    }

    /// The keep-alive interval as CONNECT carries it, in seconds; the most that fits where it does not.
    pub(super) fn keep_alive_seconds(&self) -> u16 {
        u16::try_from(self.keep_alive.as_millis().div_ceil(1000)).unwrap_or(u16::MAX)
    }

    /// Checks that each field fits into its packet.
    pub(super) fn check(&self) -> Result<()> {
        let invalid = |what: &str, why: &str| Err(Error::new(Exit::Config, what).because(why));
        if self.client_id.len() > MAX_STRING_LEN || self.client_id.contains('\0') {
            return invalid("`clientid`", "longer than 65535 bytes, or contains a NUL character");
        }
        if let Some(max) = self.version.max_client_id()
            && !(1..=max).contains(&self.client_id.len())
        {
            return invalid("`clientid`", &format!("MQTT {} wants 1 to {max} bytes", self.version));
        }
        if self.client_id.is_empty() && !self.clean_session {
            return invalid("`clean_session = 0`", "a session that the broker is to keep needs a `clientid`");
        }
        if let Some(will) = &self.will {
            will.check()?;
        }
        if let Some(login) = &self.login {
            if login.username.is_empty() {
                return invalid("`password`", "MQTT does not allow a password without a `username`");
            }
            if login.username.len() > MAX_STRING_LEN || login.username.contains('\0') {
                return invalid("`username`", "longer than 65535 bytes, or contains a NUL character");
            }
            if login.password.as_ref().is_some_and(|password| password.expose().len() > MAX_STRING_LEN) {
                return invalid("`password`", "longer than 65535 bytes");
            }
        }
        if self.keep_alive > Duration::from_secs(u16::MAX.into()) {
            return invalid("`keep_alive`", "more than 65535 seconds");
        }
        Ok(())
    }
}
