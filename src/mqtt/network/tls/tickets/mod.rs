//! Tickets to resume TLS sessions, without certificates: those of this run, and of the run before it.
//!
//! A ticket is used once. The newest one for each node is in a file of the runtime directory (`file.rs`), and nowhere else: the
//! run that takes it out may use it, be it the one that put it in, and puts in what the broker sends then. Others that the
//! broker sends are for this run. A ticket is bound to the node, the files and the options.
//! Tickets that follow one another are good for a day after the full handshake in which the certificate was checked
//! (`record.rs`). Nothing here ends a run: without a ticket there is a full handshake.
//!
//! rustls 0.23 cannot store tickets: `tap.rs` takes out what belongs to one, and `stand_in.rs` makes it anew. Both go when
//! rustls can. Tickets of TLS 1.2 are for this run only.

mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(in crate::mqtt::network) mod fuzz;
mod record;
mod stand_in;
pub(super) mod tap;

#[cfg(test)]
pub(super) use self::stand_in::for_tests as broker_for_tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustls::client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::{ClientConfig, HandshakeKind, NamedGroup};

use self::record::{MAX_TICKET_LEN, Record, counts};
use super::verifier::BrokerVerifier;
use crate::mqtt::tls_options::TicketPlace;

/// Most tickets of this run that are kept; brokers send two or three at a time.
const MAX_TICKETS: usize = 4;

/// Most times that a connection writes a ticket down, however many come.
const MAX_SAVES: usize = 4;

/// The tickets for one node.
pub(super) struct Tickets {
    place: Option<TicketPlace>,
    /// Of the node, the files and the options.
    binding: [u8; 32],
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Those that are in no file; the last one is the newest.
    tickets: VecDeque<Ticket<Tls13ClientSessionValue>>,
    tls12: Option<Ticket<Tls12ClientSessionValue>>,
    group: Option<NamedGroup>,
    /// What is to be in the file, and the same for this run until it is there.
    unsaved: Option<(Record, Ticket<Tls13ClientSessionValue>)>,
    /// How often this connection has written one down.
    saves: usize,
    /// What is known of the check that this connection rests on.
    check: Check,
}

/// A ticket, and when the certificate was checked, in seconds since 1970.
struct Ticket<T> {
    value: T,
    checked: u64,
}

/// When the certificate was checked: for the ticket that a connection offered, and in its own full handshake.
#[derive(Default)]
struct Check {
    offered: Option<u64>,
    own: Option<u64>,
}

impl Check {
    /// For the tickets that this connection brings. Without an offer there is a full handshake.
    fn time(&self) -> u64 {
        self.own.or(self.offered).unwrap_or_else(now)
    }
}

fn now() -> u64 {
    UnixTime::now().as_secs()
}

impl Kept {
    /// Forgets those whose check of the certificate no longer counts.
    fn forget_stale(&mut self) {
        self.tickets.retain(|ticket| counts(ticket.checked, now()));
    }

    /// This run may use the ticket: no other one can.
    fn keep(&mut self, ticket: Ticket<Tls13ClientSessionValue>) {
        if self.tickets.len() == MAX_TICKETS {
            self.tickets.pop_front();
        }
        self.tickets.push_back(ticket);
    }
}

impl Tickets {
    pub(super) fn new(place: Option<TicketPlace>, binding: [u8; 32]) -> Self {
        Self { place, binding, kept: Mutex::default() }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection begins: takes up the ticket in the file, if this run has none that is in no file.
    pub(super) fn take_up(&self, config: &ClientConfig, verifier: &BrokerVerifier, name: &ServerName<'static>) {
        tap::forget();
        let mut kept = self.kept();
        (kept.saves, kept.check) = (0, Check::default());
        if let Some((_, ticket)) = kept.unsaved.take() {
            kept.keep(ticket);
        }
        kept.forget_stale();
        let has_ticket = !kept.tickets.is_empty();
        drop(kept);
        if !has_ticket
            && let Some(place) = &self.place
            && let Ok(Some(record)) = file::take(place, &self.binding, now())
            && let Some(ticket) = stand_in::recreate(&record, config, verifier, name)
        {
            self.kept().keep(Ticket { value: ticket, checked: record.checked });
        }
    }

    /// The broker's answer shows what kind of handshake this is; after a request to try again it may show another.
    pub(super) fn handshake_is(&self, kind: HandshakeKind) {
        self.kept().check.own = (kind != HandshakeKind::Resumed).then(now);
    }

    /// Writes the newest ticket down, if one came and not too many were.
    pub(super) fn save(&self) {
        let mut kept = self.kept();
        if kept.unsaved.is_none() || kept.saves == MAX_SAVES {
            return;
        }
        kept.saves += 1;
        let unsaved = kept.unsaved.take();
        drop(kept);
        if let (Some((record, ticket)), Some(place)) = (unsaved, &self.place)
            // After an error it may be in the file, and then another run may use it. Without it there is a full handshake.
            && let Ok(false) = file::put(place, record, now())
        {
            self.kept().keep(ticket);
        }
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("place", &self.place).finish_non_exhaustive()
    }
}

impl ClientSessionStore for Tickets {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.kept().group = Some(group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.kept().group
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        let mut kept = self.kept();
        kept.tls12 = Some(Ticket { value, checked: kept.check.time() });
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        let mut kept = self.kept();
        let Ticket { value, checked } = kept.tls12.as_ref().filter(|ticket| counts(ticket.checked, now()))?;
        let (value, checked) = (value.clone(), *checked);
        kept.check.offered = Some(checked);
        Some(value)
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        self.kept().tls12 = None;
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        let mut kept = self.kept();
        let checked = kept.check.time();
        if let Some((new, secret)) = tap::last_ticket()
            && self.place.is_some()
            && new.ticket.len() <= MAX_TICKET_LEN
        {
            let record = Record {
                binding: self.binding,
                suite: value.suite().common.suite.into(),
                checked,
                issued: now(),
                lifetime: new.lifetime,
                age_add: new.age_add,
                secret,
                ticket: new.ticket,
            };
            if let Some((_, older)) = kept.unsaved.replace((record, Ticket { value, checked })) {
                kept.keep(older);
            }
        } else {
            kept.keep(Ticket { value, checked });
        }
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        let mut kept = self.kept();
        kept.forget_stale();
        let Ticket { value, checked } = kept.tickets.pop_back()?;
        kept.check.offered = Some(checked);
        Some(value)
    }
}
