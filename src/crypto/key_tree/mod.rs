//! The keys of streams: each is erased with its stream, and nothing that stays leads to it (`sts-protocol(7)`, "Stream
//! keys").
//!
//! A tree has a leaf for each stream number. A [`KeyTree`] is what is kept of one: the nodes that lead to the numbers
//! that are still to come, and to no other. Taking a number away replaces a node by those beside the way to its leaf.

use std::fmt;

use super::cipher::Cipher;
use super::schedule::expand;
use crate::secret::{Key, Side, Stream, Traffic, Tree, Will};
use crate::suite::Suite;

/// Length in bytes of the salt of a stream.
pub const SALT_LEN: usize = 8;
/// Random, one for each stream, and in each of its frames.
pub type Salt = [u8; SALT_LEN];

/// The highest number of a stream that a tree leads to.
pub const MAX_NUMBER: u32 = (1 << 31) - 2;
/// How many bits the seq of a frame has below the number of its part.
const PART_BITS: u32 = 20;
/// Length in bytes of each key here but the one that seals.
pub const TREE_KEY_LEN: usize = 32;

/// The way from the root to a node: its bits, of which the last is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreePath {
    bits: u64,
    len: u32,
}

impl TreePath {
    const ROOT: Self = Self { bits: 0, len: 0 };

    /// The way to the leaf of a number.
    fn of_leaf(number: u32) -> Self {
        let one_more = u64::from(number) + 1;
        let k = one_more.ilog2();
        Self { bits: (((1 << k) - 1) << (k + 1)) | (one_more - (1 << k)), len: 2 * k + 1 }
    }

    /// The length in bits of the path to the leaf of a number.
    #[must_use]
    pub fn len_to(number: u32) -> u32 {
        Self::of_leaf(number).len
    }

    fn child(self, bit: u64) -> Self {
        Self { bits: self.bits << 1 | bit, len: self.len + 1 }
    }

    /// The first and the last number that it leads to; `None` if there is none.
    #[must_use]
    pub fn numbers(self) -> Option<(u32, u32)> {
        let ones = self.bits.checked_shl(u64::BITS - self.len).unwrap_or(0).leading_ones();
        let k = ones.min(self.len);
        let (first, last) = if k == self.len {
            ((1_u64 << k) - 1, u64::from(MAX_NUMBER))
        } else {
            let known = self.len - k - 1;
            let below = k.checked_sub(known)?;
            let one_more = (1_u64 << k) + ((self.bits & ((1 << known) - 1)) << below);
            (one_more - 1, one_more + (1 << below) - 2)
        };
        Some((u32::try_from(first).ok()?, u32::try_from(last).ok()?)).filter(|(first, _)| *first <= MAX_NUMBER)
    }
}

/// Its bits; `-` for the root.
impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bits, len } = *self;
        if len == 0 { f.write_str("-") } else { write!(f, "{bits:0width$b}", width = len as usize) }
    }
}

impl std::str::FromStr for TreePath {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let len = u32::try_from(text.len()).map_err(drop)?;
        let path = match text {
            "-" => Self::ROOT,
            _ if len < u64::BITS && text.bytes().all(|byte| matches!(byte, b'0' | b'1')) => {
                Self { bits: u64::from_str_radix(text, 2).map_err(drop)?, len }
            }
            _ => return Err(()),
        };
        path.numbers().map(|_| path).ok_or(())
    }
}

/// A node, from which everything below it can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
struct TreeNode {
    path: TreePath,
    /// The first and the last number that it leads to.
    numbers: (u32, u32),
    key: Key<Tree>,
}

impl TreeNode {
    fn new(path: TreePath, key: Key<Tree>) -> Option<Self> {
        Some(Self { path, numbers: path.numbers()?, key })
    }

    /// `None` if it leads to no number.
    fn child(&self, bit: u8) -> Option<Self> {
        let path = self.path.child(bit.into());
        path.numbers()?;
        Self::new(path, expand(&self.key, &[b"sts2 child", &[bit]], TREE_KEY_LEN))
    }

    /// Appends what of it does not lead to any number from `first` to `last`.
    fn put_outside(self, first: u32, last: u32, out: &mut Vec<Self>) {
        let (from, to) = self.numbers;
        if to < first || last < from {
            out.push(self);
        } else if from < first || last < to {
            for child in [self.child(0), self.child(1)].into_iter().flatten() {
                child.put_outside(first, last, out);
            }
        }
    }
}

/// The nodes that lead to the numbers that are left, and to no other; none of them leads to another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTree {
    /// In the order of the numbers that they lead to.
    nodes: Vec<TreeNode>,
}

impl KeyTree {
    /// All numbers.
    #[must_use]
    pub fn new(root: Key<Tree>) -> Self {
        Self { nodes: TreeNode::new(TreePath::ROOT, root).into_iter().collect() }
    }

    /// What [`KeyTree::nodes`] told; `None` if that is not a tree: if a node leads to another one, or they are out of
    /// order.
    #[must_use]
    pub fn from_nodes(nodes: impl IntoIterator<Item = (TreePath, Key<Tree>)>) -> Option<Self> {
        let nodes: Vec<TreeNode> =
            nodes.into_iter().map(|(path, key)| TreeNode::new(path, key)).collect::<Option<_>>()?;
        let is_tree = nodes.windows(2).all(|two| two[0].numbers.1 < two[1].numbers.0);
        is_tree.then_some(Self { nodes })
    }

    /// The nodes, in the order of the numbers that they lead to.
    pub fn nodes(&self) -> impl Iterator<Item = (TreePath, &Key<Tree>)> {
        self.nodes.iter().map(|node| (node.path, &node.key))
    }

    /// Shares the keys that `known` has, too: see [`Key::share`].
    pub fn share(&mut self, known: &Self) {
        for node in &mut self.nodes {
            if let Some(same) = known.nodes.iter().find(|same| same.path == node.path) {
                node.key.share(&same.key);
            }
        }
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether no number is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The lowest number that is left.
    #[must_use]
    pub fn lowest(&self) -> Option<u32> {
        self.nodes.first().map(|node| node.numbers.0)
    }

    /// Whether a number is left.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.node_above(number).is_some()
    }

    /// Where the nodes begin that lead to this number or to higher ones.
    fn from(&self, number: u32) -> usize {
        self.nodes.partition_point(|node| node.numbers.1 < number)
    }

    fn node_above(&self, number: u32) -> Option<&TreeNode> {
        self.nodes.get(self.from(number)).filter(|node| node.numbers.0 <= number)
    }

    /// The leaf of a number, if that is left.
    #[must_use]
    pub fn leaf(&self, number: u32) -> Option<Leaf> {
        let mut node = self.node_above(number)?.clone();
        let path = TreePath::of_leaf(number);
        for below in (0..path.len - node.path.len).rev() {
            node = node.child(u8::from(path.bits >> below & 1 == 1))?;
        }
        Some(Leaf(node.key))
    }

    /// Takes the lowest number that is left, with its leaf.
    pub fn take_lowest(&mut self) -> Option<(u32, Leaf)> {
        let number = self.lowest()?;
        let leaf = self.leaf(number)?;
        self.remove(number, number);
        Some((number, leaf))
    }

    /// Takes away all numbers from `first` to `last`: nothing that stays leads to them. Returns whether any of them was
    /// left.
    pub fn remove(&mut self, first: u32, last: u32) -> bool {
        let begin = self.from(first);
        let end = self.nodes.partition_point(|node| node.numbers.0 <= last);
        if begin >= end {
            return false;
        }
        let after = self.nodes.split_off(end);
        for node in self.nodes.split_off(begin) {
            node.put_outside(first, last, &mut self.nodes);
        }
        self.nodes.extend(after);
        true
    }

    /// Takes the node of the lowest numbers away; returns the first and the last of them.
    pub fn give_up_lowest(&mut self) -> Option<(u32, u32)> {
        (!self.nodes.is_empty()).then(|| self.nodes.remove(0).numbers)
    }
}

/// The leaf of a number, from which the keys of one stream are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf(Key<Tree>);

impl Leaf {
    /// The first key of the stream.
    #[must_use]
    pub fn first_key(&self, salt: Salt) -> StreamKey {
        StreamKey { part: 0, key: expand(&self.0, &[b"sts2 stream", &salt], TREE_KEY_LEN) }
    }

    /// The key of the stream's wills.
    #[must_use]
    pub fn will_key(&self) -> Key<Will> {
        expand(&self.0, &[b"sts2 will"], TREE_KEY_LEN)
    }
}

/// The cipher of a stream's wills.
#[must_use]
pub fn will_cipher(key: &Key<Will>, salt: Salt, suite: Suite) -> Cipher {
    Cipher::new(suite, &expand::<Traffic>(key, &[b"sts2 seal", &salt], suite.key_len()))
}

/// The key of one part of a stream: of 2^20 frames. It leads to those of the parts after it, and to none before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamKey {
    part: u32,
    key: Key<Stream>,
}

impl StreamKey {
    /// Shares the key that `known` has, if it is of the same part: see [`Key::share`].
    pub fn share(&mut self, known: &Self) {
        self.key.share(&known.key);
    }

    /// The key that a file has of this part.
    #[must_use]
    pub fn new(part: u32, key: Key<Stream>) -> Self {
        Self { part, key }
    }

    /// The first key of a side stream.
    #[must_use]
    pub fn of_side_stream(side: &Key<Side>, number: u32, salt: Salt) -> Self {
        Self { part: 0, key: expand(side, &[b"sts2 stream", &number.to_be_bytes(), &salt], TREE_KEY_LEN) }
    }

    /// The part of a stream that a seq is in.
    #[must_use]
    pub fn part_of(seq: u32) -> u32 {
        seq >> PART_BITS
    }

    /// Which part it is of.
    #[must_use]
    pub fn part(&self) -> u32 {
        self.part
    }

    /// The key itself, for the session file that keeps it.
    #[must_use]
    pub fn key(&self) -> &Key<Stream> {
        &self.key
    }

    /// Goes on to a later part; this one cannot be opened any more.
    pub fn advance_to(&mut self, part: u32) {
        while self.part < part {
            *self = Self { part: self.part + 1, key: expand(&self.key, &[b"sts2 next"], TREE_KEY_LEN) };
        }
    }

    /// The cipher of this part.
    #[must_use]
    pub fn cipher(&self, suite: Suite) -> Cipher {
        Cipher::new(suite, &self.sealing_key(suite))
    }

    fn sealing_key(&self, suite: Suite) -> Key<Traffic> {
        expand(&self.key, &[b"sts2 seal"], suite.key_len())
    }
}

#[cfg(test)]
mod tests;
