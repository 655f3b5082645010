//! Claim: each session is kept for as long as a message may come under it, and no longer.

use super::super::peer_sessions::{
    MAX_DELETED, MAX_NEWER, MAX_NEWER_IN_GRACE, MAX_RETIRED_SECS, MIN_RETIRED_SECS, RETIRED_GRACE_SECS,
};
use super::*;

#[test]
fn a_session_that_was_deleted_is_not_taken_for_lost() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    let received = |seed: u8| {
        cache.store_current(&session(seed), NOW + u64::from(seed) * RETIRED_GRACE_SECS).unwrap();
        cache.set_received(&peer, &[session(seed).id]).unwrap();
    };
    (1..=3).for_each(received);
    cache.store_current(&session(4), NOW + 4 * RETIRED_GRACE_SECS).unwrap();
    (5..=20).for_each(received);
    cache.delete(&peer, &[session(4).id, session(10).id]).unwrap();
    let of_peer = cache.load_peer(&peer).unwrap();
    let deleted = [1, 2, 10].map(|seed| session(seed).id);
    assert_eq!(of_peer.deleted, deleted, "pushed out, and by a KILL");

    let (_, asker) = pair(20, session(20).suite);
    let rng = &mut StdRng::seed_from_u64(1);
    for (about, presence) in [
        (1, SessionPresence::Deleted),
        (10, SessionPresence::Deleted),
        (11, SessionPresence::Present),
        (20, SessionPresence::Present),
        (4, SessionPresence::Lost),
        (77, SessionPresence::Lost),
    ] {
        let question = SessionQuery::new(asker.clone(), session(about).id, rng);
        let (answer, _) =
            session_check::reply(&question.frame(), of_peer.sessions.iter().map(|it| &it.session), &of_peer.deleted)
                .unwrap();
        assert_eq!(question.presence(&answer), Ok(presence), "{about}");
    }

    // Whoever carries a handshake's messages can make any number of those.
    for seed in 21..=100 {
        cache.store_pending(&session(seed), NOW + u64::from(seed) * RETIRED_GRACE_SECS).unwrap();
    }
    assert_eq!(cache.load_peer(&peer).unwrap().deleted, deleted, "nothing was ever received under them");

    (101..=250).for_each(received);
    let deleted = cache.load_peer(&peer).unwrap().deleted;
    assert_eq!((deleted.len(), deleted.last()), (MAX_DELETED, Some(&session(233).id)), "memory has its bound");

    // A KILL leaves no session, and a new one is agreed at once.
    let all: Vec<_> = cache.load_peer(&peer).unwrap().sessions.iter().map(|stored| stored.session.id).collect();
    cache.delete(&peer, &all).unwrap();
    assert!(cache.load().unwrap().is_empty());
    cache.store_current(&session(251), NOW).unwrap();
    assert!(cache.load_peer(&peer).unwrap().deleted.contains(&session(250).id));

    // What is only remembered is no session to be ended.
    cache.delete(&peer, &[session(251).id]).unwrap();
    assert!(cache.dir().join(&cache.name(&peer)).exists());
    assert!(!cache.delete_all(&peer).unwrap());
    assert!(cache.load_peer(&peer).unwrap().deleted.contains(&session(250).id), "a sender may still ask for it");

    // Nor does the end that this device decides make its sender send again what was written.
    cache.store_current(&session(252), NOW).unwrap();
    cache.set_received(&peer, &[session(252).id]).unwrap();
    assert!(cache.delete_all(&peer).unwrap());
    assert!(cache.load().unwrap().is_empty());
    assert!(cache.load_peer(&peer).unwrap().deleted.contains(&session(252).id));
    fs::write(cache.dir().join(&cache.name(&peer)), "torn").unwrap();
    assert!(cache.delete_all(&peer).unwrap() && !cache.dir().join(&cache.name(&peer)).exists());
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
    assert!(cache.load().unwrap().iter().map(|stored| stored.retired).eq([0, 0, NOW, NOW]));
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
    agree(61, NOW + RETIRED_GRACE_SECS + 3);
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
    assert_eq!(cache.load().unwrap().len(), MAX_NEWER_IN_GRACE + 1, "memory has its bound all the same");
}

#[test]
fn retired_sessions_go_by_number_and_age() {
    let (_home, cache) = cache();
    for seed in 1..=30 {
        cache.store_current(&session(seed), NOW).unwrap();
    }
    let seeds: Vec<u8> = standings(&cache).iter().map(|(seed, _)| *seed).collect();
    assert_eq!(seeds, (15..=30).rev().collect::<Vec<_>>(), "16 newer ones push one out");
    cache.store_current(&session(31), NOW + MAX_RETIRED_SECS).unwrap();
    assert_eq!(standings(&cache).len(), 2, "30 has just retired, the others 7 days ago");
    cache.store_current(&session(32), 10).unwrap();
    assert_eq!(standings(&cache).len(), 3, "a clock that was set back deletes nothing");
    let retired: Vec<u64> = cache.load().unwrap().iter().map(|stored| stored.retired).collect();
    assert_eq!(retired, [0, 10, 10]);
}

#[test]
fn sessions_that_their_peer_ended_retire_and_newer_ones_stay() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    cache.store_current(&session(1), NOW).unwrap();
    (2..=4).for_each(|seed| cache.store_pending(&session(seed), NOW).unwrap());
    assert!(cache.promote(&peer, &session(3).id, NOW).unwrap());
    let before = standings(&cache);
    assert_eq!(before[..2], [(4, Standing::Pending), (3, Standing::Current)]);
    cache.retire(&peer, &[session(2).id, session(1).id], NOW + 1).unwrap();
    assert_eq!(standings(&cache), before, "they were retired already");
    cache.retire(&peer, &[session(3).id, session(2).id, session(1).id], NOW + 1).unwrap();
    assert_eq!(standings(&cache)[..2], [(4, Standing::Pending), (3, Standing::Retired)]);
    assert_eq!(cache.load().unwrap()[1].retired, NOW + 1);
    assert!(cache.promote(&peer, &session(4).id, NOW + 2).unwrap());
}

#[test]
fn sessions_are_deleted_when_asked_for() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    for seed in 1..=4 {
        cache.store_current(&session(seed), NOW).unwrap();
    }
    let ids = [session(1).id, session(4).id];
    assert_eq!(cache.drop_finished(&peer, &ids, NOW + MIN_RETIRED_SECS - 1).unwrap(), 0);
    assert_eq!(cache.drop_finished(&peer, &ids, NOW + MIN_RETIRED_SECS).unwrap(), 1, "the current one stays");
    assert_eq!(cache.delete(&peer, &[session(2).id]).unwrap(), 1);
    assert_eq!(standings(&cache).len(), 2);
    assert_eq!(cache.delete(&peer, &[session(3).id, session(4).id]).unwrap(), 2);
    assert!(!cache.dir().join(&cache.name(&peer)).exists(), "without sessions there is no file");
    assert!(!cache.delete_all(&peer).unwrap());

    let other = Cache::create(cache.dir().path(), &link("gateway.recv"), "gateway.recv").unwrap();
    for cache in [&cache, &other] {
        cache.store_current(&session(1), NOW).unwrap();
    }
    assert_eq!(cache.load().unwrap().len(), 1, "a link sees its own only");
    let links = links_with_peers(cache.dir().path()).unwrap();
    assert!(links.keys().eq(&[link("gateway"), link("gateway.recv")]));
    let path = cache.dir().path();
    assert!(forget(path, &[[0; 32]]).unwrap().is_empty());
    let [second, third] = [2, 3].map(|number| Session { peer: [number; 32], ..session(number) });
    cache.store_current(&second, NOW).unwrap();
    other.store_current(&third, NOW).unwrap();
    let forgotten = forget(path, &[third.peer, peer, [0; 32], peer]).unwrap();
    let sorted = |mut peers: Vec<_>| {
        peers.sort_unstable();
        peers
    };
    let forgotten: Vec<_> = forgotten.into_iter().map(|(link, peers)| (link, sorted(peers))).collect();
    let both = sorted(vec![peer, third.peer]);
    assert_eq!(forgotten, [(link("gateway"), vec![peer]), (link("gateway.recv"), both)]);
    assert_eq!(cache.load().unwrap().len(), 1, "another peer's stay");
    assert!(other.load().unwrap().is_empty());
}

#[test]
fn sessions_that_cannot_be_deleted_keep_no_others() {
    let (_home, cache) = cache();
    let of = |number: u8| Session { peer: [number; 32], ..session(number) };
    (1..=4).for_each(|number| cache.store_current(&of(number), NOW).unwrap());
    // A directory in place of a file can be neither read nor removed as one.
    let file = cache.dir().join(&cache.name(&[2; 32]));
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    let error = forget(cache.dir().path(), &[1, 2, 3].map(|number| [number; 32])).unwrap_err();
    assert_eq!(error.exit(), Exit::Failed, "{error}");
    fs::remove_dir(file).unwrap();
    let left: Vec<_> = cache.load().unwrap().iter().map(|stored| stored.session.peer).collect();
    assert_eq!(left, [[4; 32]]);
}

#[test]
fn the_session_in_use_is_the_current_one_or_may_become_it() {
    let (_home, cache) = cache();
    let peer = session(1).peer;
    let in_use = || cache.load_peer(&peer).unwrap().in_use().map(|stored| stored.session.id);
    assert_eq!(in_use(), None);
    cache.store_pending(&session(1), NOW).unwrap();
    assert_eq!(in_use(), Some(session(1).id));
    cache.store_current(&session(2), NOW).unwrap();
    cache.store_current(&session(3), NOW).unwrap();
    cache.store_pending(&session(4), NOW).unwrap();
    assert_eq!(in_use(), Some(session(3).id), "neither a retired one nor one that may come");
    cache.retire(&peer, &[3, 4].map(|seed| session(seed).id), NOW).unwrap();
    assert_eq!(in_use(), None);
}
