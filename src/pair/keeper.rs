//! What a run of `sts-pair --keep` remembers from one round to the next.

use std::time::{Duration, Instant};

use super::service::Service;
use crate::crypto::schedule::Digest;
use crate::files::Lock;
use crate::handshake::AcceptedPeers;
use crate::units::Age;

/// The state of a master that keeps a session alive.
pub(super) struct Keeper<'a> {
    pub(super) service: &'a mut Service,
    pub(super) age: Age,
    pub(super) round: Option<Round>,
    /// The peer did not answer in the last round, and the user was told.
    pub(super) is_peer_missing: bool,
    /// From before a reload, too.
    pub(super) moves: &'a mut Moves,
}

/// The round in progress.
pub(super) struct Round {
    pub(super) until: Instant,
    /// Only this run answers whether a new session is wanted.
    pub(super) _answers: Lock,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(service: &'a mut Service, age: Age, moves: &'a mut Moves) -> Self {
        Self { service, age, round: None, is_peer_missing: false, moves }
    }
}

/// How long a device stays with its peer after it moved there from an alternative (`peer = first, second`).
const MIN_STAY: Duration = Duration::from_secs(60);

/// How often a device moves between alternatives. It leaves a peer that is silent, and that a broker can cause: so it stays
/// longer after each move, and what it sends is not sent again to the one and the other for ever.
#[derive(Default)]
pub(super) struct Moves {
    peer: Option<Digest>,
    stays_until: Option<Instant>,
    /// The last one.
    stay: Duration,
}

impl Moves {
    /// The device is with this peer. It stays twice as long as the last time if it has moved there, and at most for the `age` at
    /// which a session is replaced.
    pub(super) fn is_with(&mut self, peer: Digest, age: Age, now: Instant) {
        if self.peer.replace(peer).is_some_and(|before| before != peer) {
            let longest = Duration::from_secs(age.seconds()).max(MIN_STAY);
            self.stay = self.stay.saturating_mul(2).clamp(MIN_STAY, longest);
            self.stays_until = Some(now + self.stay);
        }
    }

    /// With which of the accepted peers the device may pair now.
    pub(super) fn allowed(&self, accepted: &AcceptedPeers, now: Instant) -> AcceptedPeers {
        let stays_with = self.peer.filter(|_| self.stays_until.is_some_and(|until| now < until));
        match stays_with.and_then(|peer| accepted.get(&peer)) {
            Some(peer) => AcceptedPeers::from_iter([peer.clone()]),
            None => accepted.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::Peer;
    use crate::identity::stranger;

    #[test]
    fn a_device_stays_longer_after_each_move_between_alternatives() {
        let peers = [0, 1].map(|key| Peer { name: "p".parse().unwrap(), key: stranger(key) });
        let [first, second] = [0, 1].map(|at: usize| *peers[at].key.fingerprint().as_bytes());
        let accepted: AcceptedPeers = peers.iter().cloned().collect();
        let (begin, secs) = (Instant::now(), Duration::from_secs);
        let (mut moves, age) = (Moves::default(), "3m".parse().unwrap());
        let allowed = |moves: &Moves, at| moves.allowed(&accepted, begin + secs(at)).len();
        moves.is_with(first, age, begin);
        moves.is_with(first, age, begin);
        assert_eq!(allowed(&moves, 0), 2, "it has not moved");
        let mut at = 0;
        for (peer, stay) in [(second, 60), (first, 120), (second, 180), (first, 180)] {
            moves.is_with(peer, age, begin + secs(at));
            moves.is_with(peer, age, begin + secs(at + 1));
            assert_eq!([at, at + stay - 1, at + stay].map(|at| allowed(&moves, at)), [1, 1, 2]);
            let others = moves.allowed(&accepted, begin + secs(at));
            assert!(others.get(&peer).is_some(), "it may pair with its own again");
            at += stay;
        }
        // The one with which it is was forgotten.
        moves.is_with(second, age, begin + secs(at));
        let left = AcceptedPeers::from_iter([peers[0].clone()]);
        assert!(moves.allowed(&left, begin + secs(at)).get(&first).is_some());
    }
}
