//! INITREQs that wait for their answer. Anyone can send any number of them, and an answer costs a key exchange; any other
//! frame costs nothing before it is known to belong to an attempt. So INITREQs wait until nothing else does. If more come in
//! than can be answered, chance decides: a genuine one has its share with each repeat.

use rand::{CryptoRng, RngExt};

use crate::crypto::schedule::Topics;

/// INITREQs that wait at most.
const MAX_INIT_REQS: usize = 512;

/// INITREQs, and the topics that each belongs to.
#[derive(Default)]
pub(super) struct InitReqQueue(Vec<(Topics, Vec<u8>)>);

impl InitReqQueue {
    /// Adds one, in place of any other if there are too many.
    pub(super) fn push(&mut self, topics: Topics, frame: &[u8], rng: &mut impl CryptoRng) {
        let init_req = (topics, frame.to_vec());
        if self.0.len() < MAX_INIT_REQS {
            self.0.push(init_req);
        } else {
            self.0[rng.random_range(0..MAX_INIT_REQS)] = init_req;
        }
    }

    /// Takes any one of them.
    pub(super) fn pop(&mut self, rng: &mut impl CryptoRng) -> Option<(Topics, Vec<u8>)> {
        (!self.0.is_empty()).then(|| self.0.swap_remove(rng.random_range(0..self.0.len())))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
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
        let mut queue = InitReqQueue::default();
        for _ in 0..200 {
            rounds += 1;
            for frame in 0..100_u8 {
                queue.push(topics(), &[frame], &mut rng);
            }
            assert!(queue.0.len() <= MAX_INIT_REQS);
            answered += (0..50).filter_map(|_| queue.pop(&mut rng)).filter(|(_, frame)| *frame == [7]).count();
        }
        assert!((rounds / 4..rounds * 3 / 4).contains(&answered), "{answered} of {rounds}");
        while queue.pop(&mut rng).is_some() {}
        assert!(queue.is_empty());
    }
}
