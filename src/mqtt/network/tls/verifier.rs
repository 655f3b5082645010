//! Whether the broker is the one that the configuration means.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::system_authorities::SystemAuthorities;
use crate::mqtt::tls_options::KeyPin;

/// Checks a broker's certificate: its key against the pin, its signatures, name and dates with the authorities.
#[derive(Debug)]
pub(super) struct BrokerVerifier {
    authorities: Authorities,
    pin: Option<KeyPin>,
    provider: Arc<CryptoProvider>,
    /// The key that a broker showed last.
    shown: Mutex<Option<KeyPin>>,
    /// What the stand-in for a broker shows in place of a certificate, while a ticket is made anew.
    token: Mutex<Option<[u8; 32]>>,
}

/// Who may say whose a certificate is.
#[derive(Debug)]
pub(super) enum Authorities {
    /// Nobody: the pin says it all, also where the certificate has another name or other dates.
    Nobody,
    /// Those of `ca_file`.
    Own(Arc<WebPkiServerVerifier>),
    /// Those that the system trusts. They are read when a certificate is to be checked, since it takes some milliseconds.
    System(OnceLock<SystemAuthorities>),
}

impl BrokerVerifier {
    /// With `own` authorities, else with a pin alone, else with those that the system trusts.
    ///
    /// # Errors
    /// A description, where the own ones are not usable.
    pub(super) fn new(
        own: Option<RootCertStore>,
        pin: Option<KeyPin>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let authorities = match (own, pin) {
            (Some(roots), _) => Authorities::Own(verifier(roots, &provider).map_err(|error| error.to_string())?),
            (None, Some(_)) => Authorities::Nobody,
            (None, None) => Authorities::System(OnceLock::new()),
        };
        Ok(Self { authorities, pin, provider, shown: Mutex::default(), token: Mutex::default() })
    }

    /// Does something during which a server that shows this token, which must be random, is accepted.
    pub(super) fn with_stand_in<T>(&self, token: [u8; 32], act: impl FnOnce() -> T) -> T {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        let result = act();
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = None;
        result
    }

    fn is_stand_in(&self, shown: &CertificateDer<'_>) -> bool {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|token| token[..] == shown[..])
    }

    /// The authorities that are asked.
    pub(super) fn authorities(&self) -> &Authorities {
        &self.authorities
    }

    /// The pin that the key must have.
    pub(super) fn pin(&self) -> Option<KeyPin> {
        self.pin
    }

    /// The key that a broker showed last.
    pub(super) fn shown(&self) -> Option<KeyPin> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What checks a certificate with these authorities.
pub(super) fn verifier(
    roots: RootCertStore,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<WebPkiServerVerifier>, rustls::server::VerifierBuilderError> {
    WebPkiServerVerifier::builder_with_provider(roots.into(), Arc::clone(provider)).build()
}

impl ServerCertVerifier for BrokerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.is_stand_in(end_entity) {
            return Ok(ServerCertVerified::assertion());
        }
        let key = KeyPin::of(&ParsedCertificate::try_from(end_entity)?.subject_public_key_info());
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(key);
        if self.pin.is_some_and(|pin| pin != key) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        let verifier = match &self.authorities {
            Authorities::Nobody => return Ok(ServerCertVerified::assertion()),
            Authorities::Own(verifier) => verifier,
            Authorities::System(found) => found
                .get_or_init(|| SystemAuthorities::read(&self.provider))
                .verifier
                .as_ref()
                .ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?,
        };
        verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.is_stand_in(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
