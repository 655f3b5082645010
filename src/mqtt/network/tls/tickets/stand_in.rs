//! A ticket of an earlier run made anew, as a value that rustls can use.
//!
//! Only rustls makes such values, when a ticket comes on a connection. So there is a connection, in memory, to a stand-in for the
//! broker that sends that very ticket, with its lifetime, at the time when it came; and its key is put in place of the new one.
//! The stand-in has no certificate: it shows a token that was drawn a moment ago and that the verifier knows until the
//! connection is made, so that nobody else can be taken for it.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::crypto::{CryptoProvider, GetRandomFailed, SecureRandom, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ClientHello, ProducesTickets, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, ClientConnection, Error, NamedGroup, ServerConfig, ServerConnection, SignatureAlgorithm,
    SignatureScheme,
};

use super::record::Record;
use super::tap;
use crate::mqtt::network::tls::verifier::BrokerVerifier;

/// Flights of each side: hello, the rest, and the ticket.
const MAX_FLIGHTS: usize = 4;

/// The value for a ticket; `None` where this program has no such suite.
pub(super) fn recreate(
    record: &Record,
    config: &ClientConfig,
    verifier: &BrokerVerifier,
    name: &ServerName<'static>,
) -> Option<Tls13ClientSessionValue> {
    let mut token = [0; 32];
    config.crypto_provider().secure_random.fill(&mut token).ok()?;
    let caught = Arc::new(Catcher::default());
    let mut ours = config.clone();
    ours.alpn_protocols.clear();
    ours.time_provider = Arc::new(FixedTime(record.issued));
    ours.resumption = Resumption::store(Arc::clone(&caught) as _);
    let mut client = ClientConnection::new(Arc::new(ours), name.clone()).ok()?;
    let mut broker = ServerConnection::new(Arc::new(stand_in(record, config.crypto_provider(), token)?)).ok()?;
    AGE_ADD.set(record.age_add);
    verifier
        .with_stand_in(token, || tap::with_secret(record.secret.clone(), || shake_hands(&mut client, &mut broker)))?;
    caught.0.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// A broker for tests, which shows this token.
#[cfg(test)]
pub(in crate::mqtt::network::tls) fn for_tests(suite: u16, provider: &CryptoProvider, token: [u8; 32]) -> ServerConfig {
    let secret = zeroize::Zeroizing::new(vec![0; 32]);
    let record =
        Record { binding: [0; 32], suite, checked: 0, issued: 0, lifetime: 1, age_add: 0, secret, ticket: vec![1] };
    stand_in(&record, provider, token).unwrap()
}

/// The broker's part.
fn stand_in(record: &Record, provider: &CryptoProvider, token: [u8; 32]) -> Option<ServerConfig> {
    let mut provider = provider.clone();
    provider.cipher_suites.retain(|suite| u16::from(suite.suite()) == record.suite);
    provider.secure_random = &RandomButAge;
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(&[&TLS13]).ok()?;
    let shown = CertifiedKey::new(vec![CertificateDer::from(token.to_vec())], Arc::new(NoKey));
    let mut config = builder.with_no_client_auth().with_cert_resolver(Arc::new(Shown(Arc::new(shown))));
    config.send_tls13_tickets = 1;
    config.ticketer = Arc::new(FixedTicket { ticket: record.ticket.clone(), lifetime: record.lifetime });
    Some(config)
}

fn shake_hands(client: &mut ClientConnection, broker: &mut ServerConnection) -> Option<()> {
    for _ in 0..MAX_FLIGHTS {
        let mut flight = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut flight).ok()?;
        }
        let mut rest = &flight[..];
        while !rest.is_empty() {
            broker.read_tls(&mut rest).ok()?;
            broker.process_new_packets().ok()?;
        }
        let mut flight = Vec::new();
        while broker.wants_write() {
            broker.write_tls(&mut flight).ok()?;
        }
        let mut rest = &flight[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).ok()?;
            client.process_new_packets().ok()?;
        }
    }
    Some(())
}

thread_local! {
    static AGE_ADD: Cell<u32> = const { Cell::new(0) };
}

/// ring's generator, but for the number that hides a ticket's age: the only one of four bytes that a server draws.
#[derive(Debug)]
struct RandomButAge;

impl SecureRandom for RandomButAge {
    fn fill(&self, buffer: &mut [u8]) -> Result<(), GetRandomFailed> {
        match <&mut [u8; 4]>::try_from(&mut *buffer) {
            Ok(age_add) => {
                *age_add = AGE_ADD.get().to_be_bytes();
                Ok(())
            }
            Err(_) => ring::default_provider().secure_random.fill(buffer),
        }
    }
}

#[derive(Debug)]
struct FixedTime(u64);

impl TimeProvider for FixedTime {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}

#[derive(Debug)]
struct FixedTicket {
    ticket: Vec<u8>,
    lifetime: u32,
}

impl ProducesTickets for FixedTicket {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        self.lifetime
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        Some(self.ticket.clone())
    }

    fn decrypt(&self, _cipher: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

#[derive(Debug)]
struct Shown(Arc<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}

/// There is nothing to prove: the server that has the token is the stand-in.
#[derive(Debug)]
struct NoKey;

impl SigningKey for NoKey {
    fn choose_scheme(&self, _offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(Self))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for NoKey {
    fn sign(&self, _message: &[u8]) -> Result<Vec<u8>, Error> {
        Ok(vec![0])
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}

/// Takes the value that rustls makes.
#[derive(Debug, Default)]
struct Catcher(Mutex<Option<Tls13ClientSessionValue>>);

impl ClientSessionStore for Catcher {
    fn set_kx_hint(&self, _name: ServerName<'static>, _group: NamedGroup) {}

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        None
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, _value: Tls12ClientSessionValue) {}

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        None
    }
}
