use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::hex;

const SALT: Salt = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7];

fn key<P: crate::secret::KeyPurpose>() -> Key<P> {
    Key::generate(TREE_KEY_LEN, |bytes| bytes.iter_mut().zip(0..).for_each(|(byte, at)| *byte = at))
}

fn tree() -> KeyTree {
    KeyTree::new(key())
}

/// A session file that is read again has the keys that are known: each of them stays in memory once.
#[test]
fn a_key_that_is_the_same_is_shared_and_no_other() {
    let address = |tree: &KeyTree| tree.nodes().map(|(_, key)| key.expose().as_ptr()).collect::<Vec<_>>();
    let mut known = tree();
    known.take_lowest();
    let (mut read, mut fewer) = (tree(), tree());
    read.take_lowest();
    fewer.remove(0, 9);
    let unshared = address(&read);
    for tree in [&mut read, &mut fewer] {
        let before = tree.clone();
        tree.share(&known);
        assert_eq!(*tree, before);
    }
    assert_eq!(address(&read), address(&known));
    assert!(unshared.iter().all(|one| !address(&read).contains(one)));
    let other_key = |(path, _): (TreePath, &Key<Tree>)| (path, Key::generate(TREE_KEY_LEN, |bytes| bytes.fill(1)));
    let mut other = KeyTree::from_nodes(known.nodes().map(other_key)).unwrap();
    let before = address(&other);
    other.share(&known);
    assert_eq!(address(&other), before);

    let (known, mut read) = (StreamKey::new(1, key()), StreamKey::new(1, key()));
    read.share(&known);
    assert_eq!(read.key.expose().as_ptr(), known.key.expose().as_ptr());
}

/// Expected values from a separate computation with another language's HMAC and SHA-256.
#[test]
fn known_answers() {
    for (number, path, first) in [
        (0, "0", "1768e8f0fe38b0a54d682767aeb8f6e45a6385e2a048088cf7b3a27f59284d08"),
        (1, "100", "593fa28d36f565115dff98c8c34dc45fe6b0ee14011ac83f2568bc3027b16860"),
        (2, "101", "000ec71f390fe2ec43eedebb83258f2ba99b1d812ecdf385835f950786ade26b"),
        (6, "11011", "18389065e27019ee0c170d3846441b8293245fc374a3abf74ab0116df3ac04de"),
        (7, "1110000", "83ccb3b377be227f3d5fc3b32b0552c852c6da0e0d7bfb37017f8b846c88b374"),
        (1000, "1111111110111101001", "38dddb1ea39ee9917e9339e41072d50c6466f82c432ba9cd0781995c66505f11"),
        (
            1_048_576,
            "11111111111111111111000000000000000000001",
            "c231ab564ab186920bd3c04df48f1bb6ff95680dc7fe5925e051c83c5d0d26c2",
        ),
        (
            2_147_483_646,
            "1111111111111111111111111111110111111111111111111111111111111",
            "9f8316afb121e0268071ec20354f6218368a2c15d9cc00ecdd659ff9e8e8b3a5",
        ),
    ] {
        assert_eq!(TreePath::of_leaf(number).to_string(), path);
        assert_eq!(tree().leaf(number).unwrap().first_key(SALT).key().expose(), hex(first));
    }
}

#[test]
fn known_answers_of_a_stream() {
    let leaf = tree().leaf(6).unwrap();
    let mut stream = leaf.first_key(SALT);
    let seal = "293473b605afaa8cf511b764902e021d4b21e2cb19a792b57d566cca3e518ab5";
    assert_eq!(stream.sealing_key(Suite::Gcm).expose(), hex(seal));
    stream.advance_to(StreamKey::part_of((2 << 20) + 7));
    let seal = "0d7d2eeb07cfa94eb70c469189213095d1af152bdaf32f4ff185565777da6b01
         469541b184171169baa41a7e8fc6c3cfa231fd180bcc8da9f7c5bdaa2a92fca6";
    assert_eq!((stream.part(), stream.sealing_key(Suite::Cbc).expose()), (2, &hex(seal)[..]));
    assert_eq!(leaf.will_key().expose(), hex("298a399ce85526261dd9e10a093782acafc927cbeb987ed588aefe61163ab1d8"));
    let will: Key<Traffic> = expand(&leaf.will_key(), &[b"sts2 seal", &SALT], 64);
    let seal = "91841c1e9fe7fddc4a21fd9643816bbee8f495b9600692feb6b977573a1ad3be
         139366f497ffbfc4cb50479dce5508032437e433983a8df1c09e06ea0c8bbd1f";
    assert_eq!(will.expose(), hex(seal));
    let side = StreamKey::of_side_stream(&key(), (1 << 31) + 5, SALT);
    assert_eq!(side.key().expose(), hex("be0f51b4c918778aed20eafbc7b5f9b919b211142d0aaa2271b18793dd046c94"));
}

#[test]
fn paths_lead_to_their_numbers_and_back() {
    for number in (0..5_000).chain([(1 << 20) - 1, 1 << 20, (1 << 30) - 1, MAX_NUMBER - 1, MAX_NUMBER]) {
        let path = TreePath::of_leaf(number);
        assert_eq!(path.numbers(), Some((number, number)), "{path}");
        assert_eq!(path.to_string().parse(), Ok(path));
    }
    assert_eq!(TreePath::of_leaf(MAX_NUMBER).len, 61);
    assert_eq!(TreePath::ROOT.numbers(), Some((0, MAX_NUMBER)));
    assert_eq!("-".parse(), Ok(TreePath::ROOT));
    let beyond = ["", "2", "00", "100000", &"1".repeat(31), &"1".repeat(63), &"1".repeat(64), "+1", "1-"];
    for bad in beyond {
        assert_eq!(bad.parse::<TreePath>(), Err(()), "{bad}");
    }
}

#[test]
fn all_numbers_are_taken_in_order_with_few_nodes() {
    let mut tree = tree();
    for number in 0..3_000 {
        let whole = self::tree().leaf(number);
        assert_eq!(tree.take_lowest(), whole.map(|leaf| (number, leaf)));
        assert!(tree.len() <= 40, "{} nodes after {number}", tree.len());
    }
    tree.remove(0, MAX_NUMBER - 1);
    assert_eq!(tree.take_lowest().map(|(number, _)| number), Some(MAX_NUMBER));
    assert!(tree.is_empty() && tree.take_lowest().is_none());
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?} {:?}", tree(), tree().leaf(3).map(|leaf| leaf.first_key(SALT)));
    assert!(text.contains("Key(tree)") && text.contains("Key(stream)") && !text.contains("1, 2, 3"), "{text}");
}

#[test]
fn nodes_that_lead_to_each_other_are_no_tree() {
    let node = |path: &str| (path.parse().unwrap(), key());
    // The first two: a node, and the leaf of its last number or of its first.
    let nested = [&["110", "11011"][..], &["110", "11000"]];
    let others = [&["-", "0"][..], &["10", "100"], &["1", "1"], &["110", "11001", "0"], &["1", "0"]];
    for bad in nested.into_iter().chain(others) {
        assert_eq!(KeyTree::from_nodes(bad.iter().map(|path| node(path))), None, "{bad:?}");
    }
    assert!(KeyTree::from_nodes([]).unwrap().is_empty());
}

#[test]
fn what_is_given_up_is_the_node_of_the_lowest_numbers() {
    let mut tree = tree();
    assert_eq!((tree.len(), tree.is_empty()), (1, false));
    tree.remove(4, 4);
    // 0, 1 and 2, 3, 5 and 6, and all from 7 on.
    assert_eq!(tree.len(), 5);
    let mut given_up = Vec::new();
    while let Some((first, last)) = tree.give_up_lowest() {
        assert!(!tree.contains(first) && !tree.contains(last));
        assert_eq!(tree.lowest(), (last < MAX_NUMBER).then_some(if last == 3 { 5 } else { last.saturating_add(1) }));
        given_up.push((first, last));
    }
    assert_eq!(given_up, [(0, 0), (1, 2), (3, 3), (5, 6), (7, MAX_NUMBER)]);
    assert_eq!((tree.len(), tree.is_empty()), (0, true));
}

/// A removal: a range of numbers, low ones more often.
fn removals() -> impl Strategy<Value = Vec<(u32, u32)>> {
    let first = prop_oneof![0_u32..200, 0..=MAX_NUMBER];
    prop::collection::vec((first, prop_oneof![Just(0_u32), 0_u32..40, 0..=MAX_NUMBER]), 0..30)
}

proptest! {
    #[test]
    fn exactly_what_was_removed_is_gone(removals in removals(), takes in 0_usize..20) {
        let whole = tree();
        let mut tree = tree();
        let mut gone = BTreeSet::new();
        for &(first, more) in &removals {
            let before = tree.clone();
            let has_removed = tree.remove(first, first.saturating_add(more).min(MAX_NUMBER));
            prop_assert_eq!(has_removed, tree != before);
        }
        for _ in 0..takes {
            gone.extend(tree.take_lowest().map(|(number, _)| number));
        }
        let is_gone = |number: u32| {
            gone.contains(&number) || removals.iter().any(|&(first, more)| (first..=first.saturating_add(more)).contains(&number))
        };
        let edges = removals.iter().flat_map(|&(first, more)| [first, first.saturating_add(more)]);
        let near = edges.flat_map(|edge| [edge.saturating_sub(1), edge, edge.saturating_add(1)]);
        for number in near.chain(0..260).chain([MAX_NUMBER]).filter(|number| *number <= MAX_NUMBER) {
            prop_assert_eq!(tree.contains(number), !is_gone(number), "{}", number);
            prop_assert_eq!(tree.leaf(number), whole.leaf(number).filter(|_| !is_gone(number)));
        }
        // Numbers of the nodes are disjoint, and none is of a removed number: so no node leads to a removed leaf.
        let ranges: Vec<_> = tree.nodes().map(|(path, _)| path.numbers().unwrap()).collect();
        prop_assert!(ranges.windows(2).all(|two| two[0].1 < two[1].0));
        for &(first, more) in &removals {
            let last = first.saturating_add(more);
            prop_assert!(ranges.iter().all(|&(from, to)| to < first || last < from));
        }
        for (path, key) in tree.nodes() {
            let (first, _) = path.numbers().unwrap();
            let mut node = TreeNode::new(TreePath::ROOT, self::key()).unwrap();
            for below in (0..path.len).rev() {
                node = node.child(u8::from(path.bits >> below & 1 == 1)).unwrap();
            }
            prop_assert_eq!((&node.key, tree.contains(first)), (key, true));
        }
        prop_assert!(tree.len() <= 61 * (removals.len() + takes + 1));
        let copied = KeyTree::from_nodes(tree.nodes().map(|(path, key)| (path, key.clone())));
        prop_assert_eq!(copied, Some(tree));
    }

    #[test]
    fn a_later_part_never_leads_to_an_earlier_one(parts in prop::collection::vec(0_u32..20, 1..8)) {
        let mut key = tree().leaf(5).unwrap().first_key(SALT);
        for part in parts {
            let before = key.clone();
            key.advance_to(part);
            prop_assert_eq!(key.part(), part.max(before.part()));
            prop_assert_eq!(key == before, part <= before.part());
        }
    }
}
