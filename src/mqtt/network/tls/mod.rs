//! TLS below MQTT, by rustls.
//!
//! A [`TlsLayer`] is what the connections of one client share: what is in the files, and the tickets of earlier
//! connections. `transport` is one connection, and `records` its buffers. `verifier` decides whether the broker is the
//! right one, with the authorities of a file or those of the system (`system_authorities`). `client_certificate` has our own
//! certificate, `tickets` spares the second handshake, and `failure` says in words what went wrong. `plain_port` says what to
//! write where a port is not for TLS, and `probe` finds out whether a port that closes without a word is for TLS. Checking
//! cannot be turned off.

mod client_certificate;
mod failure;
mod files;
mod plain_port;
mod probe;
mod records;
mod step;
mod system_authorities;
mod tickets;
mod transport;
mod verifier;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ClientConfig;
use rustls::client::{Resumption, UnbufferedClientConnection};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use sha2::{Digest as _, Sha256};

use self::client_certificate::ClientCertificate;
use self::failure::Judge;
use self::files::Files;
use self::plain_port::PlainPort;
pub(super) use self::probe::TlsProbe;
#[cfg(any(test, feature = "fuzzing"))]
pub(super) use self::tickets::fuzz;
use self::tickets::{Tickets, tap};
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
    /// The path of the request for WebSocket, if that is spoken above.
    path: Option<String>,
    provider: Arc<CryptoProvider>,
    setup: Mutex<Setup>,
}

/// What the files say, as they were read last.
struct Setup {
    /// Of the files' content.
    digest: [u8; 32],
    config: ClientConfig,
    /// What differs from node to node.
    nodes: Vec<NodeConfig>,
    verifier: Arc<BrokerVerifier>,
    certificate: Arc<ClientCertificate>,
}

struct NodeConfig {
    node: Node,
    config: Arc<ClientConfig>,
    tickets: Arc<Tickets>,
}

impl TlsLayer {
    /// # Errors
    /// [`Exit::Config`] where a file cannot be used.
    pub(super) fn new(options: TlsOptions) -> Result<Self> {
        let provider = Arc::new(tap::provider());
        let setup = Setup::new(&Files::read(&options)?, &options, &provider)?;
        Ok(Self { options, path: None, provider, setup: Mutex::new(setup) })
    }

    /// The same below WebSocket, if there is a path for that.
    pub(super) fn below_web_socket(self, path: Option<String>) -> Self {
        Self { path, ..self }
    }

    /// TLS on a connection to this node; the handshake follows.
    pub(super) fn open(
        &self,
        lower: Box<dyn Transport>,
        node: &Node,
    ) -> std::result::Result<Box<dyn Transport>, ConnectionLost> {
        self.connect(lower, node).map(|transport| Box::new(transport) as _)
    }

    fn connect(&self, lower: Box<dyn Transport>, node: &Node) -> std::result::Result<TlsTransport, ConnectionLost> {
        let mut setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        self.renew(&mut setup);
        // A certificate names no zone of an IPv6 address.
        let host = node.host.split('%').next().unwrap_or_default().to_owned();
        let failed = |why: &dyn fmt::Display| ConnectionLost::at(Obstacle::Tls, format!("TLS cannot begin: {why}"));
        let name = ServerName::try_from(host).map_err(|error| failed(&error).final_one())?;
        let (config, tickets) = setup.of_node(node, &self.options);
        tickets.take_up(&config, &setup.verifier, &name);
        let tls = UnbufferedClientConnection::new(config, name).map_err(|error| failed(&error))?;
        let judge = Judge {
            port: PlainPort::new(node, self.path.clone()),
            verifier: Arc::clone(&setup.verifier),
            certificate: Arc::clone(&setup.certificate),
        };
        Ok(TlsTransport::new(lower, tls, judge, tickets))
    }

    /// Takes up files that were renewed. While one is being replaced, what they said before holds.
    fn renew(&self, setup: &mut Setup) {
        if let Ok(files) = Files::read(&self.options)
            && files.digest() != setup.digest
            && let Ok(renewed) = Setup::new(&files, &self.options, &self.provider)
        {
            *setup = renewed;
        }
    }
}

impl fmt::Debug for TlsLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsLayer").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Setup {
    fn new(files: &Files, options: &TlsOptions, provider: &Arc<CryptoProvider>) -> Result<Self> {
        let verifier = BrokerVerifier::new(files.authorities()?, options.pin, Arc::clone(provider));
        let verifier = Arc::new(verifier.map_err(|why| Error::new(Exit::Config, "`ca_file`").because(why))?);
        let certificate = Arc::new(ClientCertificate::new(files.client(provider)?));
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::new(Exit::Failed, "TLS").because(error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&verifier) as _)
            .with_client_cert_resolver(Arc::clone(&certificate) as _);
        config.alpn_protocols.extend(options.alpn.as_ref().map(|name| name.as_bytes().to_vec()));
        Ok(Self { digest: files.digest(), config, nodes: Vec::new(), verifier, certificate })
    }

    /// The configuration for a node, with the tickets that are good there.
    fn of_node(&mut self, node: &Node, options: &TlsOptions) -> (Arc<ClientConfig>, Arc<Tickets>) {
        let known = self.nodes.iter().position(|known| known.node == *node);
        let at = known.unwrap_or_else(|| {
            let tickets = Arc::new(Tickets::new(options.tickets.clone(), self.binding(node, options)));
            let mut config = self.config.clone();
            config.resumption = Resumption::store(Arc::clone(&tickets) as _);
            self.nodes.push(NodeConfig { node: node.clone(), config: Arc::new(config), tickets });
            self.nodes.len() - 1
        });
        let NodeConfig { config, tickets, .. } = &self.nodes[at];
        (Arc::clone(config), Arc::clone(tickets))
    }

    /// What tickets are bound to.
    fn binding(&self, node: &Node, options: &TlsOptions) -> [u8; 32] {
        let pin = options.pin.map(|pin| pin.to_string()).unwrap_or_default();
        let mut digest = Sha256::new();
        for part in [
            node.to_string().as_bytes(),
            pin.as_bytes(),
            options.alpn.as_deref().unwrap_or_default().as_bytes(),
            &self.digest,
        ] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}
