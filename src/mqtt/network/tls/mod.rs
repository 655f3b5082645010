//! TLS below MQTT, by rustls.
//!
//! A [`TlsLayer`] is what the connections of one client share: what is in the files, and the tickets of earlier connections.
//! `transport` is one connection, and `records` its buffers. `verifier` decides whether the broker is the right one,
//! `credentials` has our own certificate, and `failure` says in words what went wrong. Checking cannot be turned off.

mod credentials;
mod failure;
mod files;
mod records;
mod transport;
mod verifier;

use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::ServerName;

use self::credentials::Credentials;
use self::failure::Judge;
use self::files::Files;
use self::transport::TlsTransport;
use self::verifier::BrokerVerifier;
use super::transport::Transport;
use crate::mqtt::connection_lost::{ConnectionLost, Obstacle};
use crate::mqtt::endpoint::Node;
use crate::mqtt::tls_options::TlsOptions;
use crate::{Error, Exit, Result};

/// What the connections of one client share.
pub(super) struct TlsLayer {
    options: TlsOptions,
    provider: Arc<CryptoProvider>,
    trust: Mutex<Trust>,
    mute: Arc<AtomicU32>,
}

/// What the files say, as they were read last.
struct Trust {
    /// Of the files' content.
    digest: [u8; 32],
    config: Arc<ClientConfig>,
    verifier: Arc<BrokerVerifier>,
    credentials: Arc<Credentials>,
}

impl TlsLayer {
    /// # Errors
    /// [`Exit::Config`] where a file cannot be used.
    pub(super) fn new(options: TlsOptions) -> Result<Self> {
        let provider = Arc::new(ring::default_provider());
        let trust = Trust::new(&Files::read(&options)?, &options, &provider)?;
        Ok(Self { options, provider, trust: Mutex::new(trust), mute: Arc::default() })
    }

    /// TLS on a connection to this node; the handshake follows.
    pub(super) fn open(
        &self,
        lower: Box<dyn Transport>,
        node: &Node,
    ) -> std::result::Result<Box<dyn Transport>, ConnectionLost> {
        let mut trust = self.trust.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut trust);
        // A certificate names no zone of an IPv6 address.
        let host = node.host.split('%').next().unwrap_or_default().to_owned();
        let failed = |why: &dyn fmt::Display| ConnectionLost::at(Obstacle::Tls, format!("TLS cannot begin: {why}"));
        let name = ServerName::try_from(host).map_err(|error| failed(&error).final_one())?;
        let tls = UnbufferedClientConnection::new(Arc::clone(&trust.config), name).map_err(|error| failed(&error))?;
        let judge = Judge {
            broker: node.to_string(),
            verifier: Arc::clone(&trust.verifier),
            credentials: Arc::clone(&trust.credentials),
            mute: Arc::clone(&self.mute),
        };
        Ok(Box::new(TlsTransport::new(lower, tls, judge)))
    }

    /// Takes up files that were renewed. While one is being replaced, what they said before holds.
    fn renew(&self, trust: &mut Trust) {
        if let Ok(files) = Files::read(&self.options)
            && files.digest() != trust.digest
            && let Ok(renewed) = Trust::new(&files, &self.options, &self.provider)
        {
            *trust = renewed;
        }
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Trust {
    fn new(files: &Files, options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let verifier = BrokerVerifier::new(files.authorities()?, options.pin, Arc::clone(provider));
        let verifier = Arc::new(verifier.map_err(|why| Error::new(Exit::Config, "`ca_file`").because(why))?);
        let credentials = Arc::new(Credentials::new(files.client(provider)?));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Exit::Failed, "TLS").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::clone(&credentials) as _);
        config.alpn_protocols.extend(options.alpn.as_ref().map(|name| name.as_bytes().to_vec()));
        Ok(Self { digest: files.digest(), config: Arc::new(config), verifier, credentials })
    }
}
