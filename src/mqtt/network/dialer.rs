//! What outlives one attempt to connect.

use std::io;
use std::time::Instant;

use super::connector::Connector;
use super::layers::Layers;
use crate::mqtt::Endpoint;
use crate::{Error, Exit, Result};

/// Starts one attempt after the other to connect to an endpoint.
#[derive(Debug)]
pub(in crate::mqtt) struct Dialer {
    endpoint: Endpoint,
    layers: Layers,
}

impl Dialer {
    /// # Errors
    /// [`Exit::Config`] for an endpoint that this build has no layer for, or whose files cannot be used.
    pub(in crate::mqtt) fn new(endpoint: Endpoint) -> Result<Self> {
        if let Some((why, remedy)) = endpoint.missing_layer() {
            let error = Error::new(Exit::Config, format!("{}://", endpoint.scheme()));
            return Err(error.because(why).hint(remedy));
        }
        Ok(Self { layers: Layers::new(&endpoint)?, endpoint })
    }

    /// Where the broker is.
    pub(in crate::mqtt) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is spoken on a connected socket.
    pub(super) fn layers(&self) -> &Layers {
        &self.layers
    }

    /// Begins an attempt; [`Connector::drive`] does the work.
    pub(in crate::mqtt) fn start(&self, now: Instant) -> io::Result<Connector> {
        Connector::start(&self.endpoint, now)
    }
}
