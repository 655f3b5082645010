//! What a run of `sts-pair --keep` remembers from one round to the next.

use std::time::Instant;

use super::service::Service;
use crate::files::Lock;
use crate::units::Age;

/// The state of a master that keeps a session alive.
pub(super) struct Keeper<'a> {
    pub(super) service: &'a mut Service,
    pub(super) age: Age,
    pub(super) round: Option<Round>,
    /// The peer did not answer in the last round, and the user was told.
    pub(super) is_peer_missing: bool,
}

/// The round in progress.
pub(super) struct Round {
    pub(super) until: Instant,
    /// Only this run answers whether a new session is wanted.
    pub(super) _answers: Lock,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(service: &'a mut Service, age: Age) -> Self {
        Self { service, age, round: None, is_peer_missing: false }
    }
}
