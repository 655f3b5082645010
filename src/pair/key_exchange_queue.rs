//! Frames that wait for a key exchange: INITREQs, and AUTHREQs whose cookie is good. Anyone can send any number of them; any
//! other frame costs nothing before it is known to belong to an attempt. So they wait until nothing else does. If more come in
//! than can be answered, chance decides: a genuine one has its share with each repeat.

use rand::{CryptoRng, RngExt};

use crate::crypto::schedule::Topics;
use crate::handshake::KeyExchange;

/// Frames of one kind that wait at most.
const MAX_WAITING: usize = 512;

/// A queue for each kind, so that a flood of one kind leaves the other its places and its time.
#[derive(Default)]
pub(super) struct KeyExchangeQueues {
    init_reqs: KeyExchangeQueue,
    auth_reqs: KeyExchangeQueue,
}

/// Frames, and the topics that each belongs to.
#[derive(Default)]
pub(super) struct KeyExchangeQueue(Vec<(Topics, Vec<u8>)>);

impl KeyExchangeQueues {
    pub(super) fn of(&mut self, kind: KeyExchange) -> &mut KeyExchangeQueue {
        match kind {
            KeyExchange::InitReq => &mut self.init_reqs,
            KeyExchange::AuthReq => &mut self.auth_reqs,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.init_reqs.0.is_empty() && self.auth_reqs.0.is_empty()
    }
}

impl KeyExchangeQueue {
    /// Adds one, in place of any other if there are too many.
    pub(super) fn push(&mut self, topics: Topics, frame: &[u8], rng: &mut impl CryptoRng) {
        let waiting = (topics, frame.to_vec());
        if self.0.len() < MAX_WAITING {
            self.0.push(waiting);
        } else {
            self.0[rng.random_range(0..MAX_WAITING)] = waiting;
        }
    }

    /// Takes any one of them.
    pub(super) fn pop(&mut self, rng: &mut impl CryptoRng) -> Option<(Topics, Vec<u8>)> {
        (!self.0.is_empty()).then(|| self.0.swap_remove(rng.random_range(0..self.0.len())))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_flood_is_bounded_and_leaves_everybody_a_chance() {
        let mut rng = StdRng::seed_from_u64(1);
        let topics = || Topics { master_to_slave: "m2s".into(), slave_to_master: "s2m".into() };
        let (mut answered, mut rounds) = (0, 0);
        // Twice as many come as are answered, and one in each round of a hundred is genuine.
        let mut queue = KeyExchangeQueue::default();
        for _ in 0..200 {
            rounds += 1;
            for frame in 0..100_u8 {
                queue.push(topics(), &[frame], &mut rng);
            }
            assert!(queue.0.len() <= MAX_WAITING);
            answered += (0..50).filter_map(|_| queue.pop(&mut rng)).filter(|(_, frame)| *frame == [7]).count();
        }
        assert!((rounds / 4..rounds * 3 / 4).contains(&answered), "{answered} of {rounds}");
        while queue.pop(&mut rng).is_some() {}
        assert!(queue.0.is_empty());
    }
}
