//! The links with sessions of one known peer only: before another key is trusted, it is written down which peer that is.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Result;
use crate::cache::{self, Cache, PeerKey};
use crate::identity::{PeersFile, PeersStore, PublicKey};
use crate::name::LinkName;
use crate::report::Reporter;

/// Writes down with whom each link is that has sessions with one of the known peers: it stays with that one, no matter who is
/// trusted now, for one link or for all of them. The pairing may have been unable to write. This is not worth an error: the
/// sessions may be another user's.
///
/// If several of a hundred thousand keys are for all links already, a link of which nothing is written down could be with any of
/// them before; one more for all links changes nothing for it, and the directory of all sessions need not be read.
pub(super) fn note(store: &PeersStore, runtime: &Path, new_for: Option<&LinkName>, report: &Reporter) {
    let noted = store.open().and_then(|known| {
        if new_for.is_none() && known.begins_with_keys_for_all_links()? {
            return Ok(());
        }
        for (link, peer) in find(known, runtime, report)? {
            if let Err(error) = store.note_paired(&peer, &link) {
                report.verbose(error);
            }
        }
        Ok(())
    });
    if let Err(error) = noted {
        report.verbose(error);
    }
}

/// The sole peer of each link of which it is not written down yet. Of a link with many, two tell that it has none.
fn find(mut known: PeersFile, runtime: &Path, report: &Reporter) -> Result<BTreeMap<LinkName, PublicKey>> {
    let mut sole = BTreeMap::new();
    let mut lookups = 0;
    cache::status::each_sealed_peer(runtime, |link, peer| {
        // Files of keys that are not trusted decide nothing, and there can be a hundred thousand of them.
        lookups += 1;
        let added = known.prepare(lookups).and_then(|()| add(&mut sole, &known, runtime, link, peer));
        let is_undecided = added.unwrap_or_else(|error| {
            report.verbose(error);
            false
        });
        if !is_undecided {
            sole.remove(link);
        }
        is_undecided
    })?;
    Ok(sole)
}

/// Adds a peer that has a file of sessions on this link; false if the link can have no sole peer to write down.
fn add(
    sole: &mut BTreeMap<LinkName, PublicKey>,
    known: &PeersFile,
    runtime: &Path,
    link: &LinkName,
    peer: PeerKey,
) -> Result<bool> {
    let Some(key) = known.key(&peer)? else { return Ok(true) };
    if !sole.contains_key(link) && known.has_paired(link)? {
        return Ok(false);
    }
    // A file without sessions remembers that there were some.
    let of_peer = Cache::look(runtime, link)?.load_peer(key.fingerprint().as_bytes());
    Ok(of_peer.map_or(true, |of_peer| of_peer.sessions.is_empty()) || sole.insert(link.clone(), key).is_none())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::files::{Dir, Guard};
    use crate::identity::{KnownPeers, PeersLine, stranger};
    use crate::report::Level;
    use crate::session::{self, Session};
    use crate::suite::Suite;

    /// A configuration directory that has the strangers p0 to p9 as known peers, and a runtime directory.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self::with(10)
        }

        /// With as many strangers, in a file that is old enough to have an index if it is large.
        fn with(count: u32) -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            let store = home.store();
            let lines: String = (0..count)
                .map(|number| stranger(number).to_line(&format!("p{number}").parse().unwrap()) + "\n")
                .collect();
            let file = store.dir().join("known_peers");
            fs::write(&file, lines).unwrap();
            let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
            fs::File::options().write(true).open(file).unwrap().set_modified(an_hour_ago).unwrap();
            home
        }

        fn store(&self) -> PeersStore {
            let create = |name, guard| Dir::create(&self.0.path().join(name), guard).unwrap();
            PeersStore::new(create("config", Guard::Public), Some(create("run", Guard::Private)))
        }

        /// Stores a session of this link with a stranger.
        fn store_session(&self, link: &str, number: u32) {
            let (_, session) = session::pair(u8::try_from(number % 256).unwrap(), Suite::Gcm);
            let peer = *stranger(number).fingerprint().as_bytes();
            let cache = Cache::create(&self.0.path().join("run"), &link.parse().unwrap(), link).unwrap();
            cache.store_current(&Session { peer, ..session }, 1).unwrap();
        }

        /// The links that have paired by what is written down, each with its peer.
        fn noted(&self) -> Vec<String> {
            self.noted_before(None)
        }

        /// As [`Home::noted`], before a key is trusted for a link.
        fn noted_before(&self, new_for: Option<&LinkName>) -> Vec<String> {
            note(
                &self.store(),
                &self.0.path().join("run"),
                new_for,
                &Reporter::to("sts-pair", Level::Error, Box::new(Vec::new())),
            );
            let known = KnownPeers::load(self.store()).unwrap();
            let of_line = |line: &PeersLine| format!("{}{}", line.name, line.binding);
            known.lines().iter().filter(|line| line.binding.all_links().next().is_some()).map(of_line).collect()
        }
    }

    #[test]
    fn a_link_with_one_known_peer_stays_with_it_and_one_with_several_does_not() {
        let home = Home::new();
        assert_eq!(home.noted(), [""; 0]);
        for (link, number) in [("a", 0), ("two", 1), ("two", 2), ("b", 3), ("many", 1), ("many", 4), ("many", 5)] {
            home.store_session(link, number);
        }
        // A key that is not trusted is nobody's that a link could stay with.
        for number in [20, 21] {
            home.store_session("b", number);
        }
        home.store_session("unknown", 20);
        assert_eq!(home.noted(), ["p0 paired=a", "p3 paired=b"]);
        // What is written down stays, whatever sessions come.
        home.store_session("a", 6);
        assert_eq!(home.noted(), ["p0 paired=a", "p3 paired=b"]);
    }

    #[test]
    fn where_any_link_could_be_with_many_one_more_key_for_all_links_changes_nothing() {
        let home = Home::with(300);
        home.store_session("a", 0);
        // Of keys that are not trusted, as many as of a fleet that was forgotten.
        (400..500).for_each(|number| home.store_session("a", number));
        assert_eq!(home.noted(), ["p0 paired=a"], "the file is read as a whole");
        home.store_session("b", 1);
        assert_eq!(home.noted(), ["p0 paired=a"]);
        assert_eq!(home.noted_before(Some(&"b".parse().unwrap())), ["p0 paired=a", "p1 paired=b"]);
    }

    #[test]
    fn files_that_cannot_be_read_keep_no_other_link_from_its_peer() {
        let home = Home::new();
        home.store_session("a", 0);
        home.store_session("b", 1);
        let run = home.0.path().join("run");
        for file in fs::read_dir(&run).unwrap().map(|file| file.unwrap().path()) {
            if file.file_name().unwrap().to_str().unwrap().starts_with("a@") && file.extension().is_none() {
                fs::write(file, "junk").unwrap();
            }
        }
        assert_eq!(home.noted(), ["p1 paired=b"]);
    }
}
