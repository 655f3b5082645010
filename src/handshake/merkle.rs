//! One signature for many attempts (`sts-protocol(7)`, "Key schedule"): a hash tree whose leaves are attempts of a master or
//! answers of a slave, and whose root is signed.
//!
//! Anyone can answer an INITREQ, any number of times, and only an AUTHREQ finds out whether it was the slave. So the master
//! must be able to answer all INITACKs. With one signature for each, a flood of forged ones would keep it from the genuine
//! one. A slave that serves a fleet answers many masters at once, and a signature is most of what an answer costs.
//! A signature of the root is as good for each leaf as one of its own: claiming another leaf takes a collision of SHA-256.

use std::sync::Arc;

use crate::crypto::schedule::{Digest, tree_node};

/// Leaves under one signature at most.
pub(super) const MAX_LEAVES: usize = 256;

/// The levels of a tree, from its leaves to its root. Two neighbours are hashed into one; a node without a neighbour moves up
/// unchanged.
#[derive(Debug)]
pub(super) struct MerkleTree(Vec<Vec<Digest>>);

impl MerkleTree {
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

    /// The hashes beside the path from a leaf to the root, lowest first.
    pub(super) fn path(&self, index: usize) -> Vec<Digest> {
        self.0.iter().zip(0..).filter_map(|(level, height)| level.get((index >> height) ^ 1)).copied().collect()
    }
}

/// A tree whose root is signed.
#[derive(Debug)]
pub(super) struct SignedTree {
    pub(super) tree: MerkleTree,
    pub(super) signature: Vec<u8>,
}

/// One leaf of a signed tree.
#[derive(Clone, Debug)]
pub(super) struct SignedLeaf {
    pub(super) signed: Arc<SignedTree>,
    pub(super) index: usize,
}

/// The root over a leaf with this path.
pub(super) fn root_over(leaf: &Digest, path: &[Digest]) -> Digest {
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
        for count in (1..40).chain([MAX_LEAVES - 1, MAX_LEAVES]) {
            let leaves = leaves(count);
            let tree = MerkleTree::new(leaves.clone());
            for (at, leaf) in leaves.iter().enumerate() {
                let path = tree.path(at);
                assert_eq!(root_over(leaf, &path), tree.root(), "{at} of {count}");
                assert!(path.len() <= 8);
            }
        }
        assert_eq!(MerkleTree::new(leaves(1)).root(), leaves(1)[0], "a leaf alone is signed as it is");
    }

    proptest! {
        #[test]
        fn nothing_else_finds_it(count in 1..40usize, at in any::<prop::sample::Index>(), level: prop::sample::Index, bit in 0..256usize) {
            let leaves = leaves(count);
            let at = at.index(count);
            let tree = MerkleTree::new(leaves.clone());
            let (root, path) = (tree.root(), tree.path(at));
            let flip = |mut digest: Digest| {
                digest[bit / 8] ^= 1 << (bit % 8);
                digest
            };
            prop_assert_ne!(root_over(&flip(leaves[at]), &path), root);
            if !path.is_empty() {
                let mut other = path.clone();
                let level = level.index(path.len());
                other[level] = flip(other[level]);
                prop_assert_ne!(root_over(&leaves[at], &other), root);
                prop_assert_ne!(root_over(&leaves[at], &path[1..]), root, "a shorter path");
                // A node is not a leaf: the one above the leaf is not among the leaves.
                let above = tree_node(&leaves[at], &path[0]);
                prop_assert!(!leaves.contains(&above));
            }
        }
    }
}
