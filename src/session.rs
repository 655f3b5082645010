//! A session: what a handshake results in, and all that sealing and opening need (`sts-protocol(7)`, "Sessions").

#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))]

use std::collections::BTreeMap;

use crate::crypto::cipher::Cipher;
use crate::crypto::key_tree::{KeyTree, Salt, StreamKey};
use crate::crypto::schedule::{Digest, SESSION_ID_LEN, SessionKeys, Topics};
use crate::message::{SealedHeader, SessionTag};
use crate::role::Role;
use crate::route::Route;
use crate::secret::{Confirm, Key, Side, Will};
use crate::suite::Suite;

/// Names a session, 8 bytes; derived from the handshake, so both ends know it and neither can choose it.
pub type SessionId = [u8; SESSION_ID_LEN];

/// What a session may be used for (`sts-protocol(7)`, "Sessions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// The slave has stored it, and does not know yet whether the master has: it opens, and seals nothing.
    Pending,
    /// Seals what is sent, and opens.
    Current,
    /// A newer one took its place: it opens what is still on its way, and seals confirms.
    Retired,
}

impl Standing {
    /// All standings.
    pub(crate) const ALL: [Self; 3] = [Self::Pending, Self::Current, Self::Retired];

    /// The standing of this name in a session file.
    #[must_use]
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|standing| standing.name() == name)
    }

    /// The name: `pending`, `current` or `retired`.
    #[must_use]
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Current => "current",
            Self::Retired => "retired",
        }
    }
}

/// One session with one peer: its keys, and everything that the configuration must still agree with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// How its messages are sealed.
    pub(crate) suite: Suite,
    /// Which side we are.
    pub(crate) role: Role,
    /// SHA-256 of our identity key's SPKI DER.
    pub(crate) own: Digest,
    /// SHA-256 of the peer's identity key's SPKI DER.
    pub(crate) peer: Digest,
    /// The topics that the handshake was bound to.
    pub topics: Topics,
    /// When it was agreed, in seconds since 1970 by this device's clock.
    pub(crate) created: u64,
    /// Lead to the keys of what we send.
    pub(crate) send: SendKeys,
    /// Lead to the keys of what the peer sends.
    pub(crate) receive: ReceiveKeys,
    /// Authenticates questions whether a peer still has a session, and their answers.
    pub(crate) confirm: Key<Confirm>,
}

/// What leads to the keys of the streams that this device sends, and to those of no stream whose number is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendKeys {
    /// Of streams of data: the numbers that are not taken.
    pub(crate) tree: KeyTree,
    /// Of side streams.
    pub(crate) side: Key<Side>,
}

/// What leads to the keys of the streams that this device receives, and to those of no stream that is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveKeys {
    /// Of streams of data: the numbers of which nothing was received.
    pub(crate) tree: KeyTree,
    /// The streams of data of which more is to come.
    pub(crate) open: BTreeMap<u32, OpenStreamKeys>,
    /// Of side streams.
    pub(crate) side: Key<Side>,
}

/// The keys of a stream that this device receives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OpenStreamKeys {
    /// The salt of the stream.
    pub(crate) salt: Salt,
    /// Of the earliest part that still opens.
    pub(crate) key: StreamKey,
    /// Of its wills.
    pub(crate) will: Key<Will>,
}

/// The two ends of a handshake: which of them we are, and the fingerprints of both identity keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parties {
    /// Which side we are.
    pub role: Role,
    /// SHA-256 of our identity key's SPKI DER.
    pub own: Digest,
    /// SHA-256 of the peer's identity key's SPKI DER.
    pub peer: Digest,
}

/// What the configuration says of a link; a session that says otherwise is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected<'a> {
    /// How messages are to be sealed.
    pub(crate) suite: Suite,
    /// Which side we are.
    pub(crate) role: Role,
    /// SHA-256 of our identity key's SPKI DER.
    pub(crate) own: Digest,
    /// The topics.
    pub(crate) route: &'a Route,
}

impl Session {
    /// Shares the keys that an earlier reading of the same session has, so that each is in memory once.
    pub(crate) fn share_keys(&mut self, known: &Self) {
        self.send.tree.share(&known.send.tree);
        self.send.side.share(&known.send.side);
        self.receive.tree.share(&known.receive.tree);
        self.receive.side.share(&known.receive.side);
        for (number, open) in &mut self.receive.open {
            if let Some(known) = known.receive.open.get(number) {
                open.key.share(&known.key);
                open.will.share(&known.will);
            }
        }
        self.confirm.share(&known.confirm);
    }

    /// The session of these keys, with each direction's key put where our role has it.
    #[must_use]
    pub fn new(keys: SessionKeys, parties: Parties, topics: Topics, suite: Suite, created: u64) -> Self {
        let (m2s, s2m) = ((keys.tree_m2s, keys.side_m2s), (keys.tree_s2m, keys.side_s2m));
        let (send, receive) = match parties.role {
            Role::Master => (m2s, s2m),
            Role::Slave => (s2m, m2s),
        };
        let send = SendKeys { tree: KeyTree::new(send.0), side: send.1 };
        let receive = ReceiveKeys { tree: KeyTree::new(receive.0), open: BTreeMap::new(), side: receive.1 };
        let Parties { role, own, peer } = parties;
        Self { id: keys.id, suite, role, own, peer, topics, created, send, receive, confirm: keys.confirm }
    }

    /// The first bytes of the id, which each of its messages carries.
    #[must_use]
    pub(crate) fn tag(&self) -> SessionTag {
        tag(self.id)
    }

    /// The cipher of a message in the first part of a stream of data that the peer sends, while nothing was received.
    #[must_use]
    pub(crate) fn first_cipher(&self, header: &SealedHeader) -> Option<Cipher> {
        let leaf = self.receive.tree.leaf(header.stream)?;
        Some(leaf.first_key(header.salt).cipher(self.suite))
    }

    /// Age in seconds at `now`, in seconds since 1970; `None` where it is stamped in the future, which counts as old.
    #[must_use]
    pub(crate) fn age(&self, now: u64) -> Option<u64> {
        now.checked_sub(self.created)
    }

    /// What of the configuration it disagrees with, in words for `-v`; `None` if it may be used.
    #[must_use]
    pub(crate) fn mismatch(&self, expected: &Expected<'_>) -> Option<&'static str> {
        if self.own != expected.own {
            Some("it was agreed with another identity key of this device")
        } else if self.role != expected.role {
            Some("it was agreed in the other role (`sts_mode`)")
        } else if self.suite != expected.suite {
            Some("it was agreed for another suite (`aes`)")
        } else if !expected.route.has(&self.topics) {
            Some("it was agreed for other topics (`pubtop`, `subtop`, `channel`)")
        } else {
            None
        }
    }
}

/// The first bytes of a session id, which each message of that session carries.
#[must_use]
pub(crate) fn tag(id: SessionId) -> SessionTag {
    let [a, b, c, ..] = id;
    [a, b, c]
}

/// Both ends of one session, for tests: the master's and the slave's, with keys made from `seed`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn pair(seed: u8, suite: Suite) -> (Session, Session) {
    pair_with(seed, &[seed; 32], suite)
}

/// As [`pair`], with keys made from `secret`.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn pair_with(seed: u8, secret: &[u8; 32], suite: Suite) -> (Session, Session) {
    let made = |mask: u8| move |key: &mut [u8]| key.iter_mut().zip(secret).for_each(|(key, byte)| *key = byte ^ mask);
    let keys = SessionKeys {
        th3: [seed; 32],
        id: [seed, 2, 3, 4, 5, 6, 7, seed],
        tree_m2s: Key::generate(32, made(0)),
        tree_s2m: Key::generate(32, made(0xff)),
        side_m2s: Key::generate(32, made(0x33)),
        side_s2m: Key::generate(32, made(0x66)),
        confirm: Key::generate(32, made(0x55)),
    };
    let topics = Topics { master_to_slave: "down".into(), slave_to_master: "up".into() };
    let (m, s) = ([0xaa; 32], [0x55; 32]);
    let end = |role, own, peer| Session::new(keys.clone(), Parties { role, own, peer }, topics.clone(), suite, 1_000);
    (end(Role::Master, m, s), end(Role::Slave, s, m))
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::crypto::key_tree::MAX_NUMBER;
    use crate::message::FrameType;

    #[test]
    fn each_end_opens_what_the_other_seals() {
        let (master, slave) = pair(1, Suite::Cbc);
        for (sends, receives) in [(&master, &slave), (&slave, &master)] {
            assert_eq!((&sends.send.tree, &sends.send.side), (&receives.receive.tree, &receives.receive.side));
        }
        assert_ne!(master.send.tree, master.receive.tree);
        assert_ne!(master.send.side, master.receive.side);
        assert_eq!(master.tag(), [1, 2, 3]);
    }

    /// As the file that is read again has it: each key is in memory once.
    #[test]
    fn a_session_shares_its_keys_with_the_one_that_is_known() {
        let with_open_stream = || {
            let mut session = pair(1, Suite::Gcm).1;
            let will = Key::generate(32, |key| key.fill(8));
            let open =
                OpenStreamKeys { salt: [9; 8], key: StreamKey::new(0, Key::generate(32, |key| key.fill(7))), will };
            session.receive.open.insert(3, open);
            session
        };
        let addresses = |session: &Session| {
            let Session { send, receive, confirm, .. } = session;
            let nodes = send.tree.nodes().chain(receive.tree.nodes()).map(|(_, key)| key.expose().as_ptr());
            let open = &receive.open[&3];
            let others = [send.side.expose(), receive.side.expose(), confirm.expose(), open.will.expose()];
            nodes.chain(others.map(<[u8]>::as_ptr)).collect::<Vec<_>>()
        };
        let (known, mut read) = (with_open_stream(), with_open_stream());
        assert!(addresses(&read).iter().all(|one| !addresses(&known).contains(one)));
        read.share_keys(&known);
        assert_eq!(addresses(&read), addresses(&known));
        assert_eq!(read, known);
    }

    #[test]
    fn a_message_that_begins_a_stream_opens_with_its_first_cipher() {
        let (master, slave) = pair(1, Suite::Gcm);
        let header =
            |stream| SealedHeader { frame_type: FrameType::Enc, tag: slave.tag(), stream, salt: [9; 8], seq: 0 };
        let mut message = BytesMut::from(&header(3).to_bytes()[..]);
        message.extend_from_slice(b"text");
        let key = master.send.tree.leaf(3).unwrap().first_key([9; 8]);
        key.cipher(Suite::Gcm).seal(&mut message, &mut StdRng::seed_from_u64(1));
        let opened = |stream| {
            let mut text = BytesMut::new();
            slave.first_cipher(&header(stream))?.open(&message, &mut text).ok().map(|()| text)
        };
        assert_eq!(opened(3).as_deref(), Some(&b"text"[..]));
        assert_eq!((opened(4), opened(MAX_NUMBER + 1)), (None, None));
    }

    #[test]
    fn debug_shows_no_key() {
        let text = format!("{:?}", pair(0xa7, Suite::Gcm).0);
        assert!(text.contains("Key(tree)") && text.contains("Key(side)") && text.contains("Key(confirm)"), "{text}");
        assert!(!text.contains("167, 167, 167"), "{text}");
    }

    #[test]
    fn a_session_of_another_configuration_says_which() {
        let session = pair(1, Suite::Gcm).0;
        let topics = session.topics.clone();
        let one = |topics| Route::One { publish: "down".into(), listen: "up".into(), topics };
        let swapped =
            Topics { master_to_slave: topics.slave_to_master.clone(), slave_to_master: topics.master_to_slave.clone() };
        let (route, swapped) = (one(topics), one(swapped));
        let expected = Expected { suite: Suite::Gcm, role: Role::Master, own: session.own, route: &route };
        assert_eq!(session.mismatch(&expected), None);
        for (other, word) in [
            (Expected { suite: Suite::Cbc, ..expected }, "aes"),
            (Expected { role: Role::Slave, ..expected }, "sts_mode"),
            (Expected { own: [0; 32], ..expected }, "identity"),
            (Expected { route: &swapped, ..expected }, "pubtop"),
        ] {
            assert!(session.mismatch(&other).unwrap().contains(word));
        }
    }

    #[test]
    fn a_session_from_the_future_has_no_age() {
        let session = pair(1, Suite::Gcm).0;
        assert_eq!((session.age(1_060), session.age(999)), (Some(60), None));
    }

    #[test]
    fn names_lead_back() {
        for standing in Standing::ALL {
            assert_eq!(Standing::from_name(standing.name()), Some(standing));
        }
    }
}
