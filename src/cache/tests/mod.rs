//! Claim: no stream number is given twice, no session file is ever half of one, and no key lies where others can read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::field_text::hex;
use super::status::{LinkStatus, links_with_peers};
use super::*;
use crate::crypto::schedule::Topics;
use crate::handshake::session_check::{self, CheckEvent, SessionCheck, SessionPresence, SessionQuery};
use crate::route::Route;
use crate::session::{Expected, pair};
use crate::stream::{Continues, EndedStream, FIRST_SIDE_STREAM, Origin, Progress, Sequence, StreamId, StreamState};
use crate::suite::Suite;

mod crash;
mod entries;
mod journal;
mod keys;
mod on_demand;
mod pairing_locks;
mod running;
mod shown;
mod standings;
mod told;

const NOW: u64 = 2_000_000;

/// What `sts-pair --status` shows of the link at `now`.
fn status(cache: &Cache, now: u64) -> LinkStatus {
    status::status(cache, cache.peers().unwrap(), now)
}

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn cache() -> (tempfile::TempDir, Cache) {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::create(&home.path().join("sts"), &link("gateway"), "gateway").unwrap();
    (home, cache)
}

impl Journal {
    /// Records entries as sts-recv does.
    fn record_and_mark(&mut self, cache: &Cache, entries: &[JournalEntry], at: u64) -> Result<()> {
        self.record(cache, entries, at)?;
        self.mark_received(cache)
    }
}

fn session(seed: u8) -> Session {
    pair(seed, Suite::ALL[usize::from(seed) % 3]).0
}

fn standings(cache: &Cache) -> Vec<(u8, Standing)> {
    cache.load().unwrap().iter().map(|stored| (stored.session.id[0], stored.standing)).collect()
}

fn progress(id: SessionId, stream: u32, next: u32, state: StreamState) -> JournalEntry {
    let stream = StreamId { session: id, number: stream };
    let salt = [1, 2, 3, 4, 5, 6, 7, 0xff];
    JournalEntry::Progress(Progress {
        stream,
        salt,
        next,
        skip: 0,
        wants_confirms: false,
        state,
        sequence: Sequence::of_origin(Origin { stream, salt }, next),
    })
}

/// All sessions, as a list without keys.
fn listed(cache: &Cache) -> Vec<ListedSession> {
    cache.load().unwrap().iter().map(ListedSession::from).collect()
}

/// Opens the journal, and has it look at all keys; a child that another test is starting may hold a copy of the last
/// one's lock until its exec.
fn receive(cache: &Cache) -> Result<(Journal, Vec<SessionId>)> {
    for _ in 0..200 {
        match Journal::open(cache, &listed(cache)) {
            Err(err) if err.to_string().contains("another sts-recv") => std::thread::sleep(Duration::from_millis(10)),
            Err(err) => return Err(err),
            Ok((mut journal, lost)) => {
                cache.load().unwrap().iter().for_each(|stored| journal.look_at_keys(&stored.session));
                return Ok((journal, lost));
            }
        }
    }
    panic!("the lock was not given back");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn no_session_says_where_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let absent = home.path().join("absent");
    let err = Cache::open(&absent, &link("gateway"), "gateway").unwrap_err();
    assert_eq!(
        (err.exit(), err.hint_text()),
        (Exit::TryAgain, Some("run sts-pair gateway, and sts-pair on the other device at the same time"))
    );
    assert!(err.to_string().contains(absent.to_str().unwrap()), "{err}");
    assert!(!absent.exists(), "only sts-pair makes it");
    let cache = Cache::create(&absent, &link("gateway"), "gateway").unwrap();
    assert_eq!(fs::metadata(&absent).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(cache.reserve_stream(&[0; 32], &[0; 8]).unwrap_err().exit(), Exit::TryAgain);
    let by_path = Cache::open(&home.path().join("none"), &link("gateway"), "./gateway.conf").unwrap_err();
    assert_eq!(
        by_path.hint_text(),
        Some("run sts-pair ./gateway.conf, and sts-pair on the other device at the same time")
    );
}

#[test]
fn what_is_loose_or_a_link_is_refused_with_the_remedy() {
    let (home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let path = cache.dir().join(&cache.name(&session.peer));
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    chmod(&path, 0o640);
    let err = cache.load().unwrap_err();
    assert_eq!((err.exit(), err.hint_text().unwrap()), (Exit::NotTrusted, &*format!("chmod 600 {}", path.display())));
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap_err().exit(), Exit::NotTrusted);

    let elsewhere = home.path().join("elsewhere");
    fs::rename(&path, &elsewhere).unwrap();
    chmod(&elsewhere, 0o600);
    symlink(&elsewhere, &path).unwrap();
    assert_eq!(cache.load().unwrap_err().exit(), Exit::NotTrusted);

    chmod(cache.dir().path(), 0o750);
    assert_eq!(Cache::open(cache.dir().path(), &link("gateway"), "gateway").unwrap_err().exit(), Exit::NotTrusted);
    chmod(cache.dir().path(), 0o700);
    symlink(cache.dir().path(), home.path().join("link")).unwrap();
    assert_eq!(
        Cache::open(&home.path().join("link"), &link("gateway"), "gateway").unwrap_err().exit(),
        Exit::NotTrusted
    );
}

#[test]
fn what_was_stored_is_read_back() {
    let (_home, cache) = cache();
    for seed in 1..=3 {
        let mut session = session(seed);
        session.topics = Topics { master_to_slave: " = a topic, with #".into(), slave_to_master: String::new() };
        cache.store_current(&session, NOW).unwrap();
        assert_eq!(cache.load_peer(&session.peer).unwrap().sessions[0].session, session);
    }
    let mut session = session(4);
    session.topics.master_to_slave = "two\nstanding = lines".into();
    assert_eq!(cache.store_current(&session, NOW).unwrap_err().exit(), Exit::Config);
}

#[test]
fn a_torn_or_foreign_file_is_an_error_until_the_next_pairing() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let path = cache.dir().join(&cache.name(&session.peer));
    let whole = fs::read(&path).unwrap();
    let mut torn: Vec<Vec<u8>> = (0..whole.len()).step_by(7).map(|len| whole[..len].to_vec()).collect();
    torn.extend((0..whole.len()).step_by(5).map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    }));
    torn.push([&whole[..], b"\n"].concat());
    for bytes in torn {
        fs::write(&path, &bytes).unwrap();
        let err = cache.load().unwrap_err();
        assert!(err.to_string().contains(path.to_str().unwrap()), "{err}");
        assert!(err.hint_text().unwrap().contains("sts-pair gateway"));
        assert!(cache.reserve_stream(&session.peer, &session.id).is_err());
        assert_eq!(fs::read(&path).unwrap(), bytes, "left as it was");
    }
    fs::write(&path, &whole).unwrap();
    fs::rename(&path, cache.dir().join(&cache.name(&[7; 32]))).unwrap();
    assert!(cache.load().unwrap_err().to_string().contains("named after"), "another peer's name");
    fs::write(&path, "torn").unwrap();
    chmod(&path, 0o600);
    cache.store_current(&session, NOW).unwrap();
    assert_eq!(fs::read(&path).unwrap(), whole);
}

#[test]
fn a_repeated_step_gives_no_number_again() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap().id().number, 0);
    cache.store_current(&session, NOW).unwrap();
    cache.store_pending(&session, NOW).unwrap();
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap().id().number, 1);
    assert_eq!(standings(&cache), [(1, Standing::Current)]);
}

#[test]
fn files_that_are_not_ours_keep_nobody_from_the_others() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    cache.store_current(&session(1), NOW).unwrap();
    let path = cache.dir().path();
    // Of links that cannot be: not a name, no name, one that would lead elsewhere; and digits of no peer.
    for name in ["?", "", "..", "a\nb", ".x", "gateway@x", &"x".repeat(65)] {
        fs::write(path.join(format!("{name}@{}", field_text::hex(&peer_key(&peer)))), "stray").unwrap();
    }
    fs::write(path.join("gateway@0123"), "stray").unwrap();
    fs::write(path.join("old@sts1"), "of the old program").unwrap();
    assert!(links_with_peers(path).unwrap().keys().eq(&[link("gateway"), link("old")]));
    let with_peers = [(link("gateway"), vec![peer_key(&peer)]), (link("old"), Vec::new())];
    assert_eq!(links_with_peers(path).unwrap(), with_peers.into());
    assert_eq!(status(&cache, NOW).sessions.len(), 1);
    assert!(forget(path, &[peer]).unwrap().keys().eq(&[link("gateway")]));
}

#[test]
fn a_wanted_session_is_looked_for_until_one_is_found() {
    let (_home, cache) = cache();
    for seed in 1..=4 {
        cache.store_current(&Session { peer: [seed; 32], ..session(seed) }, NOW).unwrap();
    }
    fs::write(cache.dir().join(&cache.name(&[4; 32])), "junk").unwrap();
    let looked_at = |is_wanted: fn(&Session) -> bool| {
        let mut peers = Vec::new();
        let found = cache.any(|session| {
            peers.push(session.peer[0]);
            Ok(is_wanted(session))
        });
        peers.sort_unstable();
        (found.unwrap(), peers)
    };
    assert_eq!(looked_at(|_| false), (false, vec![1, 2, 3]));
    let (found, peers) = looked_at(|_| true);
    assert_eq!((found, peers.len()), (true, 1));
    assert!(looked_at(|session| session.peer == [2; 32]).0);
    assert!(cache.any(|_| Err(cache.no_session())).is_err());
}

#[test]
fn when_the_next_session_is_due_is_noted() {
    let (_home, cache) = cache();
    assert_eq!(cache.rotation().unwrap(), None);
    for seconds in [86_400, 86_400, 90] {
        cache.note_rotation(seconds).unwrap();
        assert_eq!(cache.rotation().unwrap(), Some(seconds));
    }
    let path = cache.dir().join("gateway@rotation");
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    cache.note_rotation(90).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written, "what is known is not written again");
    fs::write(&path, "if_older = soon\n").unwrap();
    assert_eq!(cache.rotation().unwrap(), None);
    cache.note_rotation(90).unwrap();
    assert_eq!(status(&cache, NOW).rotation, Some(90));
}

#[test]
fn numbers_have_an_end() {
    let (_home, cache) = cache();
    let session = session(1);
    let (peer, id) = (session.peer, session.id);
    cache.store_current(&session, NOW).unwrap();
    assert_eq!(cache.reserve_stream(&peer, &id).unwrap().id().number, 0);
    cache
        .change(&peer, |sessions| {
            assert_eq!((sessions[0].streams, sessions[0].confirms), (1, 0));
            let last = FIRST_SIDE_STREAM - 2;
            sessions[0].session.send.tree.remove(0, last - 1);
            (sessions[0].streams, sessions[0].confirms) = (last.into(), last.into());
            Ok(((), true))
        })
        .unwrap();
    assert_eq!(cache.reserve_stream(&peer, &id).unwrap().id().number, FIRST_SIDE_STREAM - 2);
    assert_eq!(cache.reserve_confirm_stream(&peer, &id).unwrap().id().number, u32::MAX - 1);
    for err in [cache.reserve_stream(&peer, &id).unwrap_err(), cache.reserve_confirm_stream(&peer, &id).unwrap_err()] {
        assert!(err.to_string().contains("stream numbers"), "{err}");
        assert_eq!(err.hint_text(), Some("sts-pair gateway"));
    }
    assert_eq!(cache.load().unwrap()[0].streams, u64::from(FIRST_SIDE_STREAM) - 1, "what was refused took nothing");
}
