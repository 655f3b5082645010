//! One signature for many attempts (`sts-protocol(7)`, "Key schedule"): a hash tree whose leaves are the attempts, and
//! whose root is signed.
//!
//! Anybody can answer an INITREQ, any number of times, and only an AUTHREQ finds out whether it was the slave. So the
//! master must be able to answer all of them, and a signature each would let a flood of forged ones keep it from the
//! genuine one. A signature of the root signs each leaf as well as one of its own would: to claim another leaf is to find
//! a collision of SHA-256.

use std::sync::Arc;

use crate::crypto::schedule::{Digest, tree_node};

/// Most attempts under one signature.
pub(super) const MOST: usize = 256;
/// Longest way from a leaf to the root that is looked at.
pub(super) const LONGEST_PATH: usize = 16;

/// A tree, from its leaves to its root. Each two neighbours are hashed into one, and one without a neighbour moves up as it
/// is.
#[derive(Debug)]
pub(super) struct Tree(Vec<Vec<Digest>>);

impl Tree {
    /// The tree over these leaves, of which there is at least one.
    pub(super) fn new(leaves: Vec<Digest>) -> Self {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last()
            && level.len() > 1
        {
            let above = level.chunks(2).map(|pair| if let [a, b] = pair { tree_node(a, b) } else { pair[0] });
            levels.push(above.collect());
        }
        Self(levels)
    }

    pub(super) fn root(&self) -> Digest {
        *self.0.last().and_then(|level| level.first()).expect("there is a leaf")
    }

    /// What a leaf is hashed with on its way to the root, lowest first.
    pub(super) fn path(&self, at: usize) -> Vec<Digest> {
        self.0.iter().zip(0..).filter_map(|(level, height)| level.get((at >> height) ^ 1)).copied().collect()
    }
}

/// A tree whose root is signed.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) tree: Tree,
    pub(super) signature: Vec<u8>,
}

/// One leaf of a batch.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) batch: Arc<Batch>,
    pub(super) at: usize,
}

/// The root that a leaf has with this path.
pub(super) fn climb(leaf: &Digest, path: &[Digest]) -> Digest {
    path.iter().fold(*leaf, |below, beside| tree_node(&below, beside))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::crypto::schedule::digest;

    fn leaves(count: usize) -> Vec<Digest> {
        (0..count).map(|leaf| digest(&[&leaf.to_be_bytes()])).collect()
    }

    #[test]
    fn every_leaf_finds_the_root() {
        for count in (1..40).chain([MOST - 1, MOST]) {
            let leaves = leaves(count);
            let tree = Tree::new(leaves.clone());
            for (at, leaf) in leaves.iter().enumerate() {
                let path = tree.path(at);
                assert_eq!(climb(leaf, &path), tree.root(), "{at} of {count}");
                assert!(path.len() <= 8);
            }
        }
        assert_eq!(Tree::new(leaves(1)).root(), leaves(1)[0], "a leaf alone is signed as it is");
    }

    proptest! {
        #[test]
        fn nothing_else_finds_it(count in 1..40usize, at in any::<prop::sample::Index>(), level: prop::sample::Index, bit in 0..256usize) {
            let leaves = leaves(count);
            let at = at.index(count);
            let tree = Tree::new(leaves.clone());
            let (root, way) = (tree.root(), tree.path(at));
            let flip = |mut digest: Digest| {
                digest[bit / 8] ^= 1 << (bit % 8);
                digest
            };
            prop_assert_ne!(climb(&flip(leaves[at]), &way), root);
            if !way.is_empty() {
                let mut other = way.clone();
                let level = level.index(way.len());
                other[level] = flip(other[level]);
                prop_assert_ne!(climb(&leaves[at], &other), root);
                prop_assert_ne!(climb(&leaves[at], &way[1..]), root, "a shorter way");
                // A node is no leaf: what stands above the leaf is not in the tree as one.
                let above = tree_node(&leaves[at], &way[0]);
                prop_assert!(!leaves.contains(&above));
            }
        }
    }
}
