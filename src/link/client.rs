//! The MQTT client of a link: what it asks the broker for, and its client id.

use std::time::{Duration, Instant};

use rand::{CryptoRng, RngExt};

use super::Link;
use crate::Result;
use crate::config::Environment;
use crate::mqtt::{self, TicketPlace, Version};

/// Payloads up to this length in bytes are processed whatever `max_message` is on this device; the peer's may be
/// larger.
const MAX_FOREIGN: usize = 1 << 20;

/// Which tool speaks to the broker; each has a client id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// sts-pair.
    Pair,
    /// sts-send.
    Send,
    /// sts-recv: the one that keeps the configured id, and with it a session in the broker.
    Receive,
    /// sts-recv with `--last`, beside any other sts-recv.
    ReceiveLast,
}

impl Link {
    /// Where a TLS connection finds the session ticket of the previous one.
    fn ticket_place(&self) -> Option<TicketPlace> {
        let is_ours = self.runtime_dir.exists() || Environment::of_process().check_runtime_home().is_ok();
        is_ours.then(|| TicketPlace { dir: self.runtime_dir.clone(), name: format!("{}@tls", self.config.link) })
    }

    /// A client, as [`Link::client`], that begins to connect when it is first driven.
    ///
    /// # Errors
    /// As [`Link::client`].
    pub fn connect(&self, tool: Tool, rng: &mut impl CryptoRng) -> Result<mqtt::Client> {
        let mut client = self.client(tool, rng)?;
        client.connect(Instant::now());
        Ok(client)
    }

    /// A client of the broker, idle until [`mqtt::Client::connect`]. Two processes never share a client id, since the broker
    /// would drop the first: only sts-recv, of which a link has one, uses the configured id as it is.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] where something in the configuration does not fit into MQTT.
    pub fn client(&self, tool: Tool, rng: &mut impl CryptoRng) -> Result<mqtt::Client> {
        let config = &self.config.mqtt;
        let unique = format!("{:08x}", rng.random::<u32>());
        let derived = |id: &str, tool: &str| derive_client_id(id, tool, &unique, config.version);
        let client_id = match (&config.session.client_id, tool) {
            (Some(id), Tool::Receive) => id.clone(),
            (Some(id), Tool::Send) => derived(id, "send"),
            (Some(id), Tool::ReceiveLast) => derived(id, "last"),
            (Some(id), Tool::Pair) => derived(id, "pair"),
            (None, _) => format!("sts-{unique}{:08x}", rng.random::<u32>()),
        };
        // A broker keeps messages only for a client that uses the same id again.
        let durable = tool == Tool::Receive && config.session.client_id.is_some();
        let defaults = mqtt::ClientOptions::new(client_id);
        let options = mqtt::ClientOptions {
            version: config.version,
            login: config.login.clone(),
            keep_alive: Duration::from_secs(config.keep_alive.into()),
            unique_client_id: !durable,
            v5: mqtt::V5Options {
                session_expiry: config.session.expiry,
                message_expiry: config.message_expiry,
                // The other tools never wait for a retained message.
                wants_retained: matches!(tool, Tool::Receive | Tool::ReceiveLast),
            },
            clean_session: if durable { config.session.clean.unwrap_or(false) } else { true },
            limits: mqtt::ClientLimits {
                max_send: config.max_message,
                max_receive: config.max_message.max(MAX_FOREIGN),
                ..defaults.limits
            },
            ..defaults
        };
        let mut endpoint = config.endpoint.clone();
        if let Some(tls) = &mut endpoint.tls {
            tls.tickets = self.ticket_place();
        }
        mqtt::Client::new(endpoint, options)
    }
}

/// The client id of a tool, derived from the configured one. That is cut if the version limits the length, since
/// `unique` tells the ids apart.
fn derive_client_id(id: &str, tool: &str, unique: &str, version: Version) -> String {
    let suffix = format!("-{tool}-{unique}");
    let room = version.max_client_id().map_or(id.len(), |max| max.saturating_sub(suffix.len()));
    let end = (0..=room.min(id.len())).rev().find(|end| id.is_char_boundary(*end)).unwrap_or(0);
    format!("{}{suffix}", &id[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_client_ids_fit_and_stay_distinct() {
        for id in ["station", "a-client-id-of-23-bytes", "ßßßßßßßßßßß", "x"] {
            let ids = ["send", "last", "pair"].map(|tool| derive_client_id(id, tool, "0123abcd", Version::V31));
            assert!(ids.iter().all(|id| id.len() <= 23 && id.ends_with("-0123abcd")), "{ids:?}");
            assert!(ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2] && !ids.contains(&id.to_owned()));
        }
        assert_eq!(
            derive_client_id("gateway-station", "send", "0123abcd", Version::V311),
            "gateway-station-send-0123abcd"
        );
        assert_eq!(derive_client_id("gateway-station", "send", "0123abcd", Version::V31), "gateway-s-send-0123abcd");
    }
}
