//! Claim: a running tool sees the sessions as they are, and one tool of a link answers for them.

use super::*;

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
        assert_eq!(
            (err.exit(), err.hint_text()),
            (Exit::TryAgain, Some("run sts-pair gateway, and sts-pair on the other device at the same time"))
        );
        err.to_string()
    };
    assert!(why(&expected).ends_with("/sts"));
    cache.store_pending(&session, NOW).unwrap();
    assert!(why(&expected).contains("until the peer's first message"));
    assert!(why(&Expected { own: [0; 32], ..expected }).contains("identity key"), "its first message would not help");
    cache.promote(&peer, &session.id, NOW).unwrap();
    assert!(why(&expected).ends_with("/sts"), "none is pending");
    assert!(why(&Expected { own: [0; 32], ..expected }).contains("identity key"));
    fs::write(cache.dir().join(&cache.name(&peer)), "torn").unwrap();
    let broken = Watch::new(&cache, Instant::now(), SystemTime::now()).unwrap().no_session(&cache, &expected, |_| true);
    assert!(broken.to_string().contains("not a valid session file"), "{broken}");
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

#[test]
fn a_running_tool_sees_which_alternative_paired_last() {
    let (_home, cache) = cache();
    let (now, date) = (Instant::now(), SystemTime::now());
    let mut watch = Watch::new(&cache, now, date).unwrap();
    let mut ranks = |seeds: [u8; 3]| {
        let changed = watch.refresh(&cache, now, date).unwrap();
        (changed, seeds.map(|seed| watch.order().rank(session(seed).id)))
    };
    assert_eq!(ranks([1, 2, 3]), (false, [None; 3]));
    for seed in [1, 2] {
        cache.note_latest(&session(seed)).unwrap();
        cache.store_current(&Session { peer: [seed; 32], ..session(seed) }, NOW).unwrap();
    }
    assert_eq!(ranks([1, 2, 3]), (true, [Some(0), Some(1), None]));
    cache.note_latest(&session(1)).unwrap();
    assert_eq!(ranks([1, 2, 3]), (false, [Some(0), Some(1), None]), "a repeated step of the handshake");
    cache.delete(&[1; 32], &[session(1).id]).unwrap();
    cache.note_latest(&session(3)).unwrap();
    assert_eq!(ranks([1, 2, 3]), (true, [None, Some(0), Some(1)]), "one that is gone is forgotten");
    fs::write(cache.dir().join("gateway@latest"), "torn").unwrap();
    assert_eq!(ranks([1, 2, 3]), (true, [None; 3]), "then the times of the sessions count");
}

#[test]
fn a_look_that_fails_loses_no_change() {
    let (_home, cache) = cache();
    let (now, date) = (Instant::now(), SystemTime::now());
    let mut watch = Watch::new(&cache, now, date).unwrap();
    assert!(!watch.refresh(&cache, now, date).unwrap());
    let order = cache.dir().join("gateway@latest");
    fs::create_dir(&order).unwrap();
    cache.store_current(&session(1), NOW).unwrap();
    watch.refresh(&cache, now, date).unwrap_err();
    fs::remove_dir(&order).unwrap();
    assert!(watch.refresh(&cache, now, date).unwrap());
    assert_eq!(watch.sessions().count(), 1);
}

/// With what a stream continued, too, whichever process tells it.
#[test]
fn what_is_told_of_earlier_streams_is_read_back_as_it_was_written() {
    let (home, cache) = cache();
    let (one, two) = (session(1), session(2));
    for session in [&one, &two] {
        cache.store_current(session, NOW).unwrap();
    }
    let begin = |ends: &[EndOfStream]| {
        let cache = Cache::open(&home.path().join("sts"), &link("gateway"), "gateway").unwrap();
        cache.begin_stream(&one.peer, two.id, [9; 8], ends, 1 << 16).unwrap().1
    };
    assert_eq!(begin(&[]), []);
    let origin = Origin { stream: StreamId { session: one.id, number: 7 }, salt: [0xa5; 8] };
    let continues = Some(Continues { origin, position: 1 << 40 });
    let stream = StreamId { session: two.id, number: 0 };
    let end = EndOfStream { stream, salt: [9; 8], end: Some(StreamEnd { count: 3, continues }) };
    let told = EndedStream { stream, salt: [9; 8], count: Some(3), continues };
    let other = EndedStream { stream: StreamId { number: 1, ..stream }, salt: [9; 8], count: None, continues: None };
    assert_eq!(begin(&[end]), [told]);
    assert_eq!(begin(&[]), [told, other]);
}

/// What its peer has confirmed is not told again, whichever process comes next.
#[test]
fn a_stream_that_is_settled_is_told_no_more() {
    let (_home, cache) = cache();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let begin = || cache.begin_stream(&session.peer, session.id, [9; 8], &[], 1 << 16).unwrap().1;
    assert_eq!(begin(), []);
    let stream = StreamId { session: session.id, number: 0 };
    cache.end_streams(&session.peer, &[EndOfStream { stream, salt: [9; 8], end: None }]).unwrap();
    assert_eq!(begin(), []);
    let ends: Vec<_> = begin().iter().map(|told| told.stream.number).collect();
    assert_eq!(ends, [1], "of the next one nothing was said");
}

#[test]
fn a_pairing_silences_the_tools_of_its_own_link_only() {
    let (home, cache) = cache();
    let other = Cache::create(&home.path().join("sts"), &link("other"), "other").unwrap();
    let (master, slave) = pair(1, Suite::Gcm);
    let now = Instant::now();
    let mut asking = SessionCheck::new(master, [], Vec::new(), &mut StdRng::seed_from_u64(1));
    asking.start(now);
    let question = asking.poll(now).unwrap();
    cache.store_current(&slave, NOW).unwrap();
    let watch = Watch::new(&cache, now, SystemTime::now()).unwrap();
    let _pairing = other.lock_answers().unwrap();
    assert!(cache.answer(&question, &watch, |_| true, NOW).unwrap().is_some());
}

#[test]
fn a_session_is_there_until_it_is_deleted() {
    let (_home, cache) = cache();
    let [stored, deleted] = [1, 2].map(session);
    for session in [&stored, &deleted] {
        cache.store_current(session, NOW).unwrap();
        assert!(cache.has(session).unwrap());
    }
    cache.delete(&deleted.peer, &[deleted.id]).unwrap();
    assert_eq!([&stored, &deleted].map(|session| cache.has(session).unwrap()), [true, false]);
}
