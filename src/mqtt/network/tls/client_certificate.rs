//! The certificate of this device, for brokers that want one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::sign::CertifiedKey;

/// Our certificate, if there is one; and whether a broker asked for one.
#[derive(Debug)]
pub(super) struct ClientCertificate {
    own: Option<Arc<CertifiedKey>>,
    wanted: AtomicBool,
}

impl ClientCertificate {
    pub(super) fn new(own: Option<CertifiedKey>) -> Self {
        Self { own: own.map(Arc::new), wanted: AtomicBool::new(false) }
    }

    /// Whether there is a certificate to show.
    pub(super) fn is_there(&self) -> bool {
        self.own.is_some()
    }

    /// Whether a broker asked for a certificate.
    pub(super) fn was_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed)
    }
}

impl ResolvesClientCert for ClientCertificate {
    fn resolve(&self, _authorities: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.wanted.store(true, Ordering::Relaxed);
        self.own.clone()
    }

    fn has_certs(&self) -> bool {
        self.own.is_some()
    }
}
