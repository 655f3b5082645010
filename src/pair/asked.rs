//! INITREQs that wait for their answer. Anybody can send any number of them, and an answer costs a key exchange; whatever
//! else comes costs nothing before it is known to belong to an attempt. So these wait until nothing else does, and where
//! more come than can be answered, chance decides: a genuine one has its share with each repeat.

use rand::{CryptoRng, RngExt};

use crate::crypto::schedule::Topics;

/// Most that wait.
const MOST: usize = 512;

/// INITREQs, and the topics that each belongs to.
#[derive(Default)]
pub(super) struct Asked(Vec<(Topics, Vec<u8>)>);

impl Asked {
    /// Adds one, in place of any other where there are too many.
    pub(super) fn push(&mut self, topics: Topics, frame: &[u8], rng: &mut impl CryptoRng) {
        let asked = (topics, frame.to_vec());
        if self.0.len() < MOST {
            self.0.push(asked);
        } else {
            self.0[rng.random_range(0..MOST)] = asked;
        }
    }

    /// Takes any one.
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
        let mut asked = Asked::default();
        for _ in 0..200 {
            rounds += 1;
            for frame in 0..100_u8 {
                asked.push(topics(), &[frame], &mut rng);
            }
            assert!(asked.0.len() <= MOST);
            answered += (0..50).filter_map(|_| asked.pop(&mut rng)).filter(|(_, frame)| *frame == [7]).count();
        }
        assert!((rounds / 4..rounds * 3 / 4).contains(&answered), "{answered} of {rounds}");
        while asked.pop(&mut rng).is_some() {}
        assert!(asked.is_empty());
    }
}
