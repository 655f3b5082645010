//! A link that is with one peer at a time, also where its configuration names several (`peer = first, second`): it is with the
//! one with which the device paired last.

use super::LinkSessions;
use crate::Result;
use crate::cache::{Cache, SessionOrder};
use crate::session::Session;

/// Which of the current sessions with alternatives was agreed last: the highest one. The time counts only where none of them is
/// in the order: this device's clock may have been set back.
pub(crate) fn recency(session: &Session, order: &SessionOrder) -> (Option<usize>, u64) {
    (order.rank(session.id), session.created)
}

impl LinkSessions {
    /// Stores a new session by `store`. On a link that is with one peer at a time, its peer is the latest one as soon as the
    /// session is current, whichever peers the configuration names now.
    ///
    /// # Errors
    /// As [`Cache::note_latest`] and [`Cache::store_current`].
    pub(crate) fn store(&self, session: &Session, store: fn(&Cache, &Session, u64) -> Result<()>) -> Result<()> {
        if !self.peers.route.is_wildcard() {
            self.cache.note_latest(session)?;
        }
        store(&self.cache, session, session.created)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;
    use crate::cache::Watch;
    use crate::config::Sealed;
    use crate::files::{Dir, Guard};
    use crate::identity::{PeersStore, PublicKey, stranger};
    use crate::name::LinkName;
    use crate::peers::{LinkPeers, Reach};
    use crate::role::Role;
    use crate::route::Route;
    use crate::session::pair;
    use crate::suite::Suite;

    /// A slave that knows two masters.
    struct Device {
        home: tempfile::TempDir,
        sessions: LinkSessions,
    }

    fn own_key() -> PublicKey {
        stranger(3)
    }

    impl Device {
        fn new() -> Self {
            let home = tempfile::tempdir().unwrap();
            let known: String = ["first", "second"]
                .iter()
                .zip(0..)
                .map(|(name, key)| stranger(key).to_line(&name.parse().unwrap()) + "\n")
                .collect();
            Dir::create(&home.path().join("keys"), Guard::Private).unwrap();
            fs::write(home.path().join("keys/known_peers"), known).unwrap();
            let sessions = Self::open(&home, &["first", "second"]);
            Self { home, sessions }
        }

        fn open(home: &tempfile::TempDir, peers: &[&str]) -> LinkSessions {
            let open = |name: &str| Dir::create(&home.path().join(name), Guard::Private).unwrap();
            let peers = peers.iter().map(|name| name.parse().unwrap()).collect();
            let sealed = Sealed { role: Role::Slave, suite: Suite::Gcm, peers, channel: None };
            let topics = pair(1, Suite::Gcm).1.topics;
            let route = Route::One { publish: "up".into(), listen: "down".into(), topics };
            let link: LinkName = "plant".parse().unwrap();
            let store = PeersStore::new(open("keys"), Some(open("run")));
            let peers = LinkPeers::of_device(link.clone(), own_key(), store, &sealed, route, Reach::All).unwrap();
            let cache = Cache::create(&home.path().join("run"), &link, "plant").unwrap();
            let mut sessions = LinkSessions::new(peers, cache);
            sessions.watch = Watch::default();
            sessions.accepted = sessions.peers.accepted().unwrap();
            sessions
        }

        /// A session with the master of this number.
        fn session(seed: u8, master: u32, created: u64) -> Session {
            let peer = *stranger(master).fingerprint().as_bytes();
            Session { peer, own: *own_key().fingerprint().as_bytes(), created, ..pair(seed, Suite::Gcm).1 }
        }

        /// Which session the device sends under.
        fn current(&mut self) -> u8 {
            self.sessions.refresh(Instant::now()).unwrap();
            self.sessions.current().unwrap().id[0]
        }
    }

    #[test]
    fn the_peer_that_paired_last_is_the_latest_whatever_the_clock_says() {
        let mut device = Device::new();
        for (seed, master, created) in [(1, 0, 2_000), (2, 1, 1_000), (3, 0, 500), (4, 1, 500)] {
            device.sessions.store(&Device::session(seed, master, created), Cache::store_current).unwrap();
            assert_eq!(device.current(), seed);
        }
        // A repeated step of the handshake changes nothing.
        device.sessions.store(&Device::session(3, 0, 500), Cache::store_current).unwrap();
        assert_eq!(device.current(), 4);
    }

    /// The peer may have lost its other sessions: what is sent under one of them would be lost.
    #[test]
    fn a_peer_is_the_latest_one_when_its_new_session_is_current_and_not_before() {
        let mut device = Device::new();
        let [second, first] =
            [(1, 1, 2_000), (2, 0, 1_000)].map(|(seed, master, at)| Device::session(seed, master, at));
        device.sessions.store(&second, Cache::store_current).unwrap();
        device.sessions.store(&first, Cache::store_current).unwrap();
        for seed in 3..6 {
            let unfinished = Device::session(seed, 1, 3_000);
            device.sessions.store(&unfinished, Cache::store_pending).unwrap();
            assert_eq!(device.current(), 2);
        }
        // sts-recv promotes it when something comes under it.
        device.sessions.cache().promote(&second.peer, &Device::session(5, 1, 0).id, 3_001).unwrap();
        assert_eq!(device.current(), 5);
    }

    /// Whichever names the configuration has then.
    #[test]
    fn the_order_is_noted_in_every_pairing() {
        let mut device = Device::new();
        device.sessions.store(&Device::session(1, 0, 2_000), Cache::store_current).unwrap();
        let only_second = Device::open(&device.home, &["second"]);
        only_second.store(&Device::session(2, 1, 1_000), Cache::store_current).unwrap();
        assert_eq!(device.current(), 2);
    }

    #[test]
    fn a_session_that_could_not_be_stored_changes_nothing() {
        let mut device = Device::new();
        device.sessions.store(&Device::session(1, 0, 2_000), Cache::store_current).unwrap();
        device.sessions.store(&Device::session(2, 1, 1_000), Cache::store_current).unwrap();
        let full = |_: &Cache, _: &Session, _| Err(crate::Error::new(crate::Exit::Failed, "the disk is full"));
        device.sessions.store(&Device::session(3, 0, 3_000), full).unwrap_err();
        assert_eq!(device.current(), 2);
    }
}
