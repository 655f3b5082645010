//! Claim: no stream number is given twice, no session file is ever half of one, and no key lies where others can read.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::status::links;
use super::*;
use crate::crypto::schedule::Topics;
use crate::handshake::session_check::{self, CheckEvent, SessionCheck, SessionQuery};
use crate::route::Route;
use crate::session::{Expected, pair};
use crate::stream::{Progress, StreamId, StreamState};
use crate::suite::Suite;

mod crash;
mod journal;

const NOW: u64 = 2_000_000;

fn link(name: &str) -> LinkName {
    name.parse().unwrap()
}

fn cache() -> (tempfile::TempDir, Cache) {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::create(&home.path().join("sts"), &link("gateway"), "gateway").unwrap();
    (home, cache)
}

fn session(seed: u8) -> Session {
    pair(seed, Suite::ALL[usize::from(seed) % 3]).0
}

fn standings(cache: &Cache) -> Vec<(u8, Standing)> {
    cache.load().unwrap().iter().map(|stored| (stored.session.id[0], stored.standing)).collect()
}

fn mark(id: SessionId, stream: u32, next: u32, place: StreamState) -> JournalEntry {
    JournalEntry::Progress(Progress {
        stream: StreamId { session: id, number: stream },
        salt: [1, 2, 3, 0xff],
        next,
        skip: 0,
        place,
    })
}

/// Opens the journal; a child that another test is starting may hold a copy of the last one's lock until its exec.
fn receive(cache: &Cache) -> Result<(Journal, Vec<SessionId>)> {
    let sessions = cache.load().unwrap();
    for _ in 0..200 {
        match Journal::open(cache, &sessions) {
            Err(err) if err.to_string().contains("another sts-recv") => std::thread::sleep(Duration::from_millis(10)),
            opened => return opened,
        }
    }
    panic!("the lock was not given back");
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_session_that_was_deleted_is_not_taken_for_lost() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    let received = |seed: u8| {
        cache.store_current(&session(seed), NOW + u64::from(seed) * GRACE).unwrap();
        cache.set_received(&peer, &[session(seed).id]).unwrap();
    };
    (1..=3).for_each(received);
    cache.store_current(&session(4), NOW + 4 * GRACE).unwrap();
    (5..=20).for_each(received);
    cache.delete(&peer, &[session(4).id, session(10).id]).unwrap();
    let book = cache.load_peer(&peer).unwrap();
    let deleted = [1, 2, 10].map(|seed| session(seed).id);
    assert_eq!(book.past, deleted, "pushed out, and by a KILL");

    let (_, asker) = pair(20, session(20).suite);
    let rng = &mut StdRng::seed_from_u64(1);
    for (about, is_there) in [(1, true), (10, true), (11, true), (20, true), (4, false), (77, false)] {
        let question = SessionQuery::new(asker.clone(), session(about).id, rng);
        let (answer, _) =
            session_check::reply(&question.frame(), book.sessions.iter().map(|it| &it.session), &book.past).unwrap();
        assert_eq!(question.is_present(&answer), Ok(is_there), "{about}");
    }

    // Whoever carries a handshake's messages can make any number of those.
    for seed in 21..=100 {
        cache.store_pending(&session(seed), NOW + u64::from(seed) * GRACE).unwrap();
    }
    assert_eq!(cache.load_peer(&peer).unwrap().past, deleted, "nothing was ever received under them");

    (101..=250).for_each(received);
    let past = cache.load_peer(&peer).unwrap().past;
    assert_eq!((past.len(), past.last()), (MAX_PAST, Some(&session(233).id)), "memory has its bound");

    // A KILL leaves no session, and a new one is agreed at once.
    let all: Vec<_> = cache.load_peer(&peer).unwrap().sessions.iter().map(|stored| stored.session.id).collect();
    cache.delete(&peer, &all).unwrap();
    assert!(cache.load().unwrap().is_empty());
    cache.store_current(&session(251), NOW).unwrap();
    assert!(cache.load_peer(&peer).unwrap().past.contains(&session(250).id));

    // What is only remembered is no session to be ended.
    cache.delete(&peer, &[session(251).id]).unwrap();
    assert!(cache.dir().join(&cache.name(&peer)).exists());
    assert!(!cache.end(&peer).unwrap());
    assert!(!cache.dir().join(&cache.name(&peer)).exists(), "but it is forgotten, too");
}

#[test]
fn no_session_says_where_and_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let absent = home.path().join("absent");
    let err = Cache::open(&absent, &link("gateway"), "gateway").unwrap_err();
    assert_eq!((err.exit(), err.hint_text()), (Exit::TryAgain, Some("run sts-pair gateway")));
    assert!(err.to_string().contains(absent.to_str().unwrap()), "{err}");
    assert!(!absent.exists(), "only sts-pair makes it");
    let cache = Cache::create(&absent, &link("gateway"), "gateway").unwrap();
    assert_eq!(fs::metadata(&absent).unwrap().permissions().mode() & 0o7777, 0o700);
    assert_eq!(cache.reserve_stream(&[0; 32], &[0; 8]).unwrap_err().exit(), Exit::TryAgain);
    let by_path = Cache::open(&home.path().join("none"), &link("gateway"), "./gateway.conf").unwrap_err();
    assert_eq!(by_path.hint_text(), Some("run sts-pair ./gateway.conf"));
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
fn a_pending_session_moves_nothing_until_it_is_promoted() {
    use Standing::{Current, Pending, Retired};
    let (_home, cache) = cache();
    let peer = session(1).peer;
    cache.store_current(&session(1), NOW).unwrap();
    assert!(cache.prove(&peer, &session(1).id).unwrap() && !cache.prove(&peer, &session(99).id).unwrap());
    for seed in 2..=4 {
        cache.store_pending(&session(seed), NOW).unwrap();
    }
    assert_eq!(standings(&cache), [(4, Pending), (3, Pending), (2, Pending), (1, Current)]);
    assert!(cache.promote(&peer, &session(3).id, NOW).unwrap(), "an older one may be what the master uses");
    assert!(!cache.promote(&peer, &session(3).id, NOW).unwrap());
    assert_eq!(standings(&cache), [(4, Pending), (3, Current), (2, Retired), (1, Retired)]);
    assert!(!cache.promote(&peer, &session(2).id, NOW).unwrap(), "one that is late takes nothing over");
    assert!(cache.promote(&peer, &session(4).id, NOW).unwrap());
    assert_eq!(standings(&cache), [(4, Current), (3, Retired), (2, Retired), (1, Retired)]);
}

#[test]
fn sessions_that_one_end_alone_uses_push_none_out_that_both_use() {
    let (_home, slave) = cache();
    let peer = session(1).peer;
    for seed in 1..=2 {
        slave.store_pending(&session(seed), NOW).unwrap();
        slave.promote(&peer, &session(seed).id, NOW).unwrap();
    }
    for seed in 3..60 {
        slave.store_pending(&session(seed), NOW).unwrap();
    }
    let kept = standings(&slave);
    assert_eq!(kept.len(), MAX_NEWER + 2, "they are bounded themselves");
    assert_eq!(kept[MAX_NEWER..], [(2, Standing::Current), (1, Standing::Retired)]);
    slave.promote(&peer, &session(59).id, NOW).unwrap();
    assert_eq!(standings(&slave).len(), MAX_NEWER + 2);
    assert_eq!(standings(&slave)[MAX_NEWER..], [(2, Standing::Retired), (1, Standing::Retired)]);

    let (_home, master) = cache();
    for seed in 1..=2 {
        master.store_current(&session(seed), NOW).unwrap();
    }
    master.prove(&peer, &session(1).id).unwrap();
    master.set_received(&peer, &[session(2).id]).unwrap();
    for seed in 3..60 {
        master.store_current(&session(seed), NOW).unwrap();
    }
    assert_eq!(standings(&master)[MAX_NEWER..], [(2, Standing::Retired), (1, Standing::Retired)]);
}

#[test]
fn pairings_in_haste_push_nothing_out_that_was_in_use_a_moment_ago() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    let agree = |seed: u8, now: u64| {
        cache.store_current(&session(seed), now).unwrap();
        cache.prove(&peer, &session(seed).id).unwrap();
    };
    (1..=60).for_each(|seed| agree(seed, NOW + u64::from(seed) / 25));
    assert_eq!(cache.load().unwrap().len(), 60, "all of it within three seconds");
    agree(61, NOW + GRACE + 3);
    // The newest was not proven yet when it was counted.
    assert_eq!(cache.load().unwrap().len(), MAX_NEWER + 1);
    for round in 0..2 {
        (0..=u8::MAX).for_each(|seed| {
            let mut one = session(seed);
            one.id[7] = round;
            cache.store_current(&one, NOW).unwrap();
            cache.prove(&peer, &one.id).unwrap();
        });
    }
    assert_eq!(cache.load().unwrap().len(), MOST + 1, "memory has its bound all the same");
}

#[test]
fn a_session_of_another_configuration_is_no_session() {
    let (_home, cache) = cache();
    let session = session(1);
    let peer = session.peer;
    let route = Route::One { publish: "down".into(), listen: "up".into(), topics: session.topics.clone() };
    let expected = Expected { suite: session.suite, role: session.role, own: session.own, route: &route };
    let why = |expected: &Expected<'_>| {
        let accepts = |session: &Session| session.mismatch(expected).is_none();
        let err = Watch::new(&cache, Instant::now(), SystemTime::now()).unwrap().no_session(&cache, expected, accepts);
        assert_eq!((err.exit(), err.hint_text()), (Exit::TryAgain, Some("run sts-pair gateway")));
        err.to_string()
    };
    assert!(why(&expected).ends_with("/sts"));
    cache.store_pending(&session, NOW).unwrap();
    assert!(why(&expected).contains("waits for the first message"));
    cache.promote(&peer, &session.id, NOW).unwrap();
    assert!(why(&Expected { own: [0; 32], ..expected }).contains("identity key"));
    fs::write(cache.dir().join(&cache.name(&peer)), "torn").unwrap();
    let broken = Watch::new(&cache, Instant::now(), SystemTime::now()).unwrap().no_session(&cache, &expected, |_| true);
    assert!(broken.to_string().contains("not a whole session file"), "{broken}");
}

#[test]
fn a_repeated_step_gives_no_number_again() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap().stream(), 0);
    cache.store_current(&session, NOW).unwrap();
    cache.store_pending(&session, NOW).unwrap();
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap().stream(), 1);
    assert_eq!(standings(&cache), [(1, Standing::Current)]);
}

#[test]
fn retired_sessions_go_by_number_and_age() {
    let (_home, cache) = cache();
    for seed in 1..=30 {
        cache.store_current(&session(seed), NOW).unwrap();
    }
    let seeds: Vec<u8> = standings(&cache).iter().map(|(seed, _)| *seed).collect();
    assert_eq!(seeds, (15..=30).rev().collect::<Vec<_>>(), "16 newer ones push one out");
    cache.store_current(&session(31), NOW + MAX_RETIRED).unwrap();
    assert_eq!(standings(&cache).len(), 2, "30 has just retired, the others 7 days ago");
    cache.store_current(&session(32), 10).unwrap();
    assert_eq!(standings(&cache).len(), 3, "a clock that was set back deletes nothing");
    let retired: Vec<u64> = cache.load().unwrap().iter().map(|stored| stored.retired).collect();
    assert_eq!(retired, [0, 10, 10]);
}

#[test]
fn sessions_are_deleted_when_asked_for() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    for seed in 1..=4 {
        cache.store_current(&session(seed), NOW).unwrap();
    }
    let ids = [session(1).id, session(4).id];
    assert_eq!(cache.drop_finished(&peer, &ids, NOW + MIN_RETIRED - 1).unwrap(), 0);
    assert_eq!(cache.drop_finished(&peer, &ids, NOW + MIN_RETIRED).unwrap(), 1, "the current one stays");
    assert_eq!(cache.delete(&peer, &[session(2).id]).unwrap(), 1);
    assert_eq!(standings(&cache).len(), 2);
    assert_eq!(cache.delete(&peer, &[session(3).id, session(4).id]).unwrap(), 2);
    assert!(!cache.dir().join(&cache.name(&peer)).exists(), "without sessions there is no file");
    assert!(!cache.end(&peer).unwrap());

    let other = Cache::create(cache.dir().path(), &link("gateway.recv"), "gateway.recv").unwrap();
    for cache in [&cache, &other] {
        cache.store_current(&session(1), NOW).unwrap();
    }
    assert_eq!(cache.load().unwrap().len(), 1, "a link sees its own only");
    assert_eq!(links(cache.dir().path()).unwrap(), [link("gateway"), link("gateway.recv")]);
    assert!(forget(cache.dir().path(), &[0; 32]).unwrap().is_empty());
    assert_eq!(forget(cache.dir().path(), &peer).unwrap(), [link("gateway"), link("gateway.recv")]);
    assert!(cache.load().unwrap().is_empty() && other.load().unwrap().is_empty());
}

#[test]
fn files_that_are_not_ours_keep_nobody_from_the_others() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    cache.store_current(&session(1), NOW).unwrap();
    let path = cache.dir().path();
    // Of links that cannot be: not a name, no name, one that would lead elsewhere; and digits of no peer.
    for name in ["?", "", "..", "a\nb", ".x", "gateway@x", &"x".repeat(65)] {
        fs::write(path.join(format!("{name}@{}", digits(&peer))), "stray").unwrap();
    }
    fs::write(path.join("gateway@0123"), "stray").unwrap();
    assert_eq!(links(path).unwrap(), [link("gateway")]);
    assert_eq!(status::status(&cache, NOW).unwrap().sessions.len(), 1);
    assert_eq!(forget(path, &peer).unwrap(), [link("gateway")]);
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
    assert_eq!(status::status(&cache, NOW).unwrap().rotation, Some(90));
}

#[test]
fn one_tool_answers_and_sts_pair_before_the_others() {
    let (_home, cache) = cache();
    let (master, slave) = pair(1, Suite::Gcm);
    let now = Instant::now();
    let mut asking = SessionCheck::new(master, [], Vec::new(), &mut StdRng::seed_from_u64(1));
    asking.start(now);
    let question = asking.poll(now).unwrap();

    cache.store_pending(&slave, NOW).unwrap();
    let watch = Watch::new(&cache, now, SystemTime::now()).unwrap();
    let answer_to = |question: &[u8]| cache.answer(question, &watch, |_| true, NOW).unwrap();
    let pairing = cache.lock_answers().unwrap();
    assert_eq!(answer_to(&question), None, "sts-pair runs");
    assert_eq!(standings(&cache), [(1, Standing::Pending)]);
    drop(pairing);

    assert_eq!(answer_to(&question[1..]), None);
    assert_eq!(answer_to(&[&question[..], &[0]].concat()), None);
    assert_eq!(cache.answer(&question, &watch, |_| false, NOW).unwrap(), None, "what it cannot use is not there");
    let mut forged = question.clone();
    forged[30] ^= 1;
    assert_eq!(answer_to(&forged), None);
    assert_eq!(standings(&cache), [(1, Standing::Pending)], "nothing forged moves it");

    // Another test's child may hold a copy of the lock until its exec.
    let mut answer = None;
    for _ in 0..200 {
        answer = answer_to(&question);
        if answer.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(asking.accept(&answer.unwrap(), now), Ok(CheckEvent::Present));
    assert_eq!(standings(&cache), [(1, Standing::Current)], "the question proves it");
}

#[test]
fn numbers_and_blocks_have_an_end() {
    let (_home, cache) = cache();
    let session = session(1);
    let (peer, id) = (session.peer, session.id);
    cache.store_current(&session, NOW).unwrap();
    cache.reserve_blocks(&peer, &id, MAX_BLOCKS - ReservedStream::BLOCKS).unwrap();
    assert_eq!(cache.reserve_stream(&peer, &id).unwrap().stream(), 0);
    for err in [cache.reserve_stream(&peer, &id).unwrap_err(), cache.reserve_blocks(&peer, &id, 1).unwrap_err()] {
        assert!(err.to_string().contains("blocks"), "{err}");
        assert_eq!(err.hint_text(), Some("sts-pair gateway"));
    }
    assert_eq!(cache.load().unwrap()[0].streams, 1, "what was refused took nothing");
    cache
        .change(&peer, |sessions| {
            assert_eq!((sessions[0].streams, sessions[0].confirms), (1, 0));
            let last = u64::from(FIRST_CONFIRM_STREAM) - 2;
            (sessions[0].streams, sessions[0].confirms, sessions[0].blocks) = (last, last, 0);
            Ok(((), true))
        })
        .unwrap();
    assert_eq!(cache.reserve_stream(&peer, &id).unwrap().stream(), FIRST_CONFIRM_STREAM - 2);
    assert_eq!(cache.reserve_confirm_stream(&peer, &id).unwrap().stream(), u32::MAX - 1);
    for err in [cache.reserve_stream(&peer, &id).unwrap_err(), cache.reserve_confirm_stream(&peer, &id).unwrap_err()] {
        assert!(err.to_string().contains("stream numbers"), "{err}");
    }
}

#[test]
fn a_running_tool_sees_what_changes() {
    let (_home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let soon = || SystemTime::now() + Duration::from_secs(1);
    let now = Instant::now();
    let mut watch = Watch::new(&cache, now, SystemTime::now()).unwrap();
    assert_eq!(watch.sessions().count(), 1);
    assert!(!watch.is_due(now) && watch.is_due(now + Duration::from_secs(1)));
    assert!(!watch.refresh(&cache, now, soon()).unwrap());
    // Two changes within a tick of the file system's clock leave one stamp: while it is new, nothing relies on it.
    for seed in 2..20 {
        cache.store_current(&session(seed), NOW).unwrap();
        assert!(watch.refresh(&cache, now, SystemTime::now()).unwrap(), "{seed}");
    }
    assert!(!watch.refresh(&cache, now, soon()).unwrap());
    assert!(!watch.refresh(&cache, now, soon()).unwrap());
    cache.reserve_stream(&session(19).peer, &session(19).id).unwrap();
    assert!(!watch.refresh(&cache, now, soon()).unwrap(), "a number that was taken is no news");
    let path = cache.dir().join(&cache.name(&session(1).peer));
    fs::write(&path, "torn").unwrap();
    fs::write(cache.dir().join("other"), "").unwrap();
    assert!(watch.refresh(&cache, now, SystemTime::now()).unwrap());
    assert_eq!((watch.sessions().count(), watch.broken().count()), (0, 1));
}
