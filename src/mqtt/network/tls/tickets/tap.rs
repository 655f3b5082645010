//! What rustls knows of a ticket and does not give out, taken where its ciphers are ours to choose.
//!
//! rustls 0.23 hands a store of tickets values that cannot be written to a file. But it asks its provider for every decryption and
//! for every key, through public traits. The suites here are ring's, with one observer on each: [`TicketDecrypter`] sees the
//! message that brings a ticket, and [`TicketExpander`] the key that belongs to it. While a ticket of an earlier run is made
//! anew (`stand_in.rs`), the expander returns that run's key for the ticket instead of its own. Nothing else is touched.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::LazyLock;

use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Tls13AeadAlgorithm,
    UnsupportedOperationError,
};
use rustls::crypto::tls13::{Hkdf, HkdfExpander, OkmBlock, OutputLengthError};
use rustls::crypto::{ActiveKeyExchange, CipherSuiteCommon, CryptoProvider, hmac, ring};
use rustls::{ConnectionTrafficSecrets, ContentType, Error, HandshakeType, SupportedCipherSuite, Tls13CipherSuite};
use zeroize::Zeroizing;

/// Most tickets that wait for their key: they come together, and a server may send any number.
const MAX_WAITING: usize = 16;

/// What the key of a ticket is derived with (RFC 8446, 4.6.1 and 7.1).
const LABEL: &[u8] = b"resumption";

/// A ticket as its message brings it.
pub(super) struct NewTicket {
    pub(super) lifetime: u32,
    pub(super) age_add: u32,
    nonce: Vec<u8>,
    pub(super) ticket: Vec<u8>,
}

#[derive(Default)]
struct Tap {
    waiting: VecDeque<NewTicket>,
    /// The last ticket's nonce and key.
    derived: Option<(Vec<u8>, Zeroizing<Vec<u8>>)>,
    substitute: Option<Zeroizing<Vec<u8>>>,
}

thread_local! {
    // rustls asks on the thread that drives the connection.
    static TAP: RefCell<Tap> = RefCell::default();
}

/// The ticket that rustls has just taken in, with its key.
pub(super) fn last_ticket() -> Option<(NewTicket, Zeroizing<Vec<u8>>)> {
    TAP.with_borrow_mut(|tap| {
        let (nonce, secret) = tap.derived.take()?;
        // A nonce is of one ticket of a connection only; where a broker repeats it, the newest is meant.
        let at = tap.waiting.iter().rposition(|ticket| ticket.nonce == nonce)?;
        tap.waiting.drain(..=at).next_back().map(|ticket| (ticket, secret))
    })
}

/// A connection begins: what waits is of an earlier one, whose nonces may be the same.
pub(super) fn forget() {
    TAP.take();
}

/// Does something during which each ticket has this key.
pub(super) fn with_secret<T>(secret: Zeroizing<Vec<u8>>, act: impl FnOnce() -> T) -> T {
    TAP.with_borrow_mut(|tap| tap.substitute = Some(secret));
    let result = act();
    TAP.with_borrow_mut(|tap| *tap = Tap::default());
    result
}

/// ring's provider, with observers on the suites of TLS 1.3.
pub(in super::super) fn provider() -> CryptoProvider {
    CryptoProvider { cipher_suites: SUITES.clone(), ..ring::default_provider() }
}

/// They live as long as the process: rustls wants that of every suite.
static SUITES: LazyLock<Vec<SupportedCipherSuite>> =
    LazyLock::new(|| ring::default_provider().cipher_suites.into_iter().map(observed).collect());

fn observed(suite: SupportedCipherSuite) -> SupportedCipherSuite {
    let SupportedCipherSuite::Tls13(inner) = suite else { return suite };
    let CipherSuiteCommon { suite, hash_provider, confidentiality_limit } = inner.common;
    SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
        common: CipherSuiteCommon { suite, hash_provider, confidentiality_limit },
        hkdf_provider: Box::leak(Box::new(TicketHkdf(inner.hkdf_provider))),
        aead_alg: Box::leak(Box::new(TicketAead(inner.aead_alg))),
        quic: None,
    })))
}

struct TicketAead(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for TicketAead {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(TicketDecrypter(self.0.decrypter(key, iv)))
    }

    fn key_len(&self) -> usize {
        self.0.key_len()
    }

    fn extract_keys(&self, key: AeadKey, iv: Iv) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

/// Decrypts, and notes the tickets among the messages.
struct TicketDecrypter(Box<dyn MessageDecrypter>);

impl MessageDecrypter for TicketDecrypter {
    fn decrypt<'a>(&mut self, message: InboundOpaqueMessage<'a>, seq: u64) -> Result<InboundPlainMessage<'a>, Error> {
        let plain = self.0.decrypt(message, seq)?;
        if plain.typ == ContentType::Handshake {
            note_tickets(plain.payload);
        }
        Ok(plain)
    }
}

/// Notes the tickets in a record of the handshake. One that continues in another record is not kept; none is that long.
fn note_tickets(mut record: &[u8]) {
    while let Some((kind, body, rest)) = split_message(record) {
        if kind == HandshakeType::NewSessionTicket
            && let Some(ticket) = parse_ticket(body)
        {
            TAP.with_borrow_mut(|tap| {
                tap.waiting.truncate(MAX_WAITING - 1);
                tap.waiting.push_back(ticket);
            });
        }
        record = rest;
    }
}

/// The first message (RFC 8446, 4): its type and body; and what follows it.
fn split_message(bytes: &[u8]) -> Option<(HandshakeType, &[u8], &[u8])> {
    let (&[kind, a, b, c], rest) = bytes.split_first_chunk()?;
    let (body, rest) = rest.split_at_checked(u32::from_be_bytes([0, a, b, c]) as usize)?;
    Some((kind.into(), body, rest))
}

/// The body of `NewSessionTicket` (RFC 8446, 4.6.1), without its extensions: 0-RTT is not used.
fn parse_ticket(body: &[u8]) -> Option<NewTicket> {
    let (lifetime, rest) = body.split_first_chunk()?;
    let (age_add, rest) = rest.split_first_chunk()?;
    let (&[nonce_len], rest) = rest.split_first_chunk()?;
    let (nonce, rest) = rest.split_at_checked(nonce_len.into())?;
    let (ticket_len, rest) = rest.split_first_chunk()?;
    let (ticket, _) = rest.split_at_checked(u16::from_be_bytes(*ticket_len).into())?;
    Some(NewTicket {
        lifetime: u32::from_be_bytes(*lifetime),
        age_add: u32::from_be_bytes(*age_add),
        nonce: nonce.to_vec(),
        ticket: ticket.to_vec(),
    })
}

struct TicketHkdf(&'static dyn Hkdf);

impl Hkdf for TicketHkdf {
    fn extract_from_zero_ikm(&self, salt: Option<&[u8]>) -> Box<dyn HkdfExpander> {
        self.0.extract_from_zero_ikm(salt)
    }

    fn extract_from_secret(&self, salt: Option<&[u8]>, secret: &[u8]) -> Box<dyn HkdfExpander> {
        self.0.extract_from_secret(salt, secret)
    }

    fn extract_from_kx_shared_secret(
        &self,
        salt: Option<&[u8]>,
        kx: Box<dyn ActiveKeyExchange>,
        peer: &[u8],
    ) -> Result<Box<dyn HkdfExpander>, Error> {
        self.0.extract_from_kx_shared_secret(salt, kx, peer)
    }

    fn expander_for_okm(&self, okm: &OkmBlock) -> Box<dyn HkdfExpander> {
        Box::new(TicketExpander(self.0.expander_for_okm(okm)))
    }

    fn hmac_sign(&self, key: &OkmBlock, message: &[u8]) -> hmac::Tag {
        self.0.hmac_sign(key, message)
    }
}

/// Derives keys, and notes those of tickets.
struct TicketExpander(Box<dyn HkdfExpander>);

impl HkdfExpander for TicketExpander {
    fn expand_slice(&self, info: &[&[u8]], output: &mut [u8]) -> Result<(), OutputLengthError> {
        self.0.expand_slice(info, output)
    }

    fn expand_block(&self, info: &[&[u8]]) -> OkmBlock {
        let okm = self.0.expand_block(info);
        // `HkdfLabel`: length, then prefix and label after their length, then the context after its own.
        let [_, _, _, LABEL, _, nonce] = info else { return okm };
        TAP.with_borrow_mut(|tap| {
            if let Some(secret) = &tap.substitute {
                return OkmBlock::new(secret);
            }
            tap.derived = Some((nonce.to_vec(), Zeroizing::new(okm.as_ref().to_vec())));
            okm
        })
    }

    fn hash_len(&self) -> usize {
        self.0.hash_len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&[kind], &len[1..], body].concat()
    }

    /// What a broker sends: this ticket, with a nonce that it gives to each.
    fn note(ticket: [u8; 3]) {
        note_tickets(&message(4, &[&[0, 0, 28, 32, 1, 2, 3, 4, 1, 9, 0, 3][..], &ticket, &[0, 0]].concat()));
    }

    fn derive_and_take() -> Option<Vec<u8>> {
        TAP.with_borrow_mut(|tap| tap.derived = Some((vec![9], Zeroizing::new(vec![1; 32]))));
        last_ticket().map(|(new, _)| new.ticket)
    }

    #[test]
    fn a_key_belongs_to_the_newest_ticket_of_its_own_connection() {
        note(*b"old");
        note(*b"new");
        assert_eq!(derive_and_take().unwrap(), b"new");
        note(*b"end");
        forget();
        assert_eq!(derive_and_take(), None);
    }

    #[test]
    fn tickets_are_noted_among_other_messages_and_nothing_cut_short_is() {
        let body = [&[0, 0, 28, 32, 1, 2, 3, 4, 1, 9, 0, 3][..], b"abc", &[0, 0]].concat();
        let record = [message(11, b"certificate"), message(4, &body), message(4, &body[..14])].concat();
        for len in 0..record.len() {
            note_tickets(&record[..len]);
        }
        TAP.with_borrow_mut(|tap| tap.waiting.clear());
        note_tickets(&record);
        let waiting = TAP.take().waiting;
        assert_eq!(waiting.len(), 1);
        let NewTicket { lifetime, age_add, nonce, ticket } = &waiting[0];
        assert_eq!((*lifetime, *age_add, &nonce[..], &ticket[..]), (7200, 0x0102_0304, &[9][..], &b"abc"[..]));
    }
}
