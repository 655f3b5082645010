//! Claim: what is loaded of a file is what is in the file, whatever became of that meanwhile.

use super::*;
use crate::cache::watch::FileChange;

/// Sessions with two peers, which are listed.
struct Listed {
    _home: tempfile::TempDir,
    cache: Cache,
    watch: Watch,
    one: Session,
    other: Session,
}

impl Listed {
    fn new() -> Self {
        let (home, cache) = cache();
        let (one, other) = (session(1), Session { peer: [7; 32], ..session(2) });
        for session in [&one, &other] {
            cache.store_current(session, NOW).unwrap();
        }
        let watch = Watch::list(&cache, Instant::now(), SystemTime::now()).unwrap();
        Self { _home: home, cache, watch, one, other }
    }

    fn peer(&self) -> PeerKey {
        peer_key(&self.one.peer)
    }

    fn path(&self) -> std::path::PathBuf {
        self.cache.dir().join(&self.cache.name(&self.one.peer))
    }

    fn load(&mut self) -> bool {
        let peer = self.peer();
        self.watch.load(&self.cache, peer, SystemTime::now())
    }

    fn refresh(&mut self) -> bool {
        self.watch.refresh(&self.cache, Instant::now(), SystemTime::now()).unwrap()
    }

    fn loaded(&self) -> Vec<(SessionId, Standing)> {
        self.watch.loaded_of(self.peer()).iter().map(|stored| (stored.session.id, stored.standing)).collect()
    }

    fn listed(&self) -> Vec<(SessionId, Standing)> {
        self.watch.of(self.peer()).iter().map(|listed| (listed.id, listed.standing)).collect()
    }
}

#[test]
fn a_list_has_all_sessions_and_no_keys_until_they_are_loaded() {
    let mut listed = Listed::new();
    let (one, other) = (listed.one.id, listed.other.id);
    assert_eq!(listed.watch.listed().collect::<Vec<_>>(), super::listed(&listed.cache));
    assert_eq!(listed.watch.sessions().count(), 0);
    assert_eq!(listed.watch.peer_of(one), Some(listed.peer()));
    assert_eq!(listed.watch.unloaded_with_tag(listed.one.tag()), [listed.peer()]);
    assert!(listed.watch.unloaded_with_tag([9; 3]).is_empty());
    assert!(listed.load());
    assert_eq!(listed.watch.sessions().map(|stored| stored.session.clone()).collect::<Vec<_>>(), [listed.one.clone()]);
    assert!(listed.watch.unloaded_with_tag(listed.one.tag()).is_empty());
    assert!(!listed.refresh() && listed.watch.take_changes().is_empty());
    let peer = listed.peer();
    listed.watch.unload(peer);
    assert_eq!((listed.watch.sessions().count(), listed.watch.listed().count()), (0, 2));
    assert!(listed.watch.peer_of(other).is_some() && listed.watch.peer_of([9; 8]).is_none());
    assert!(!listed.watch.load(&listed.cache, [9; 16], SystemTime::now()));
}

/// A receiver takes from it whether there must be receive state.
#[test]
fn what_is_read_without_keys_says_what_the_whole_file_says() {
    let Listed { _home, cache, one, .. } = Listed::new();
    cache.reserve_stream(&one.peer, &one.id).unwrap();
    cache.set_received(&one.peer, &[one.id]).unwrap();
    cache.store_pending(&session(3), NOW).unwrap();
    let stored = cache.load_peer(&one.peer).unwrap().sessions;
    assert!(stored.iter().map(|stored| (stored.streams, stored.received)).eq([(0, false), (1, true)]));
    let bytes = fs::read(cache.dir().join(&cache.name(&one.peer))).unwrap();
    let outlines = cache.outline(peer_key(&one.peer), &bytes).unwrap();
    assert!(outlines.into_iter().eq(stored.iter().map(SessionOutline::from)));
}

#[test]
fn who_sends_to_one_peer_sees_the_sessions_with_no_other() {
    let Listed { _home, cache, one, other, .. } = Listed::new();
    let mut watch = Watch::of_peer(&cache, &one.peer, Instant::now(), SystemTime::now()).unwrap();
    let mut look = || {
        let has_changed = watch.refresh(&cache, Instant::now(), SystemTime::now()).unwrap();
        (has_changed, watch.sessions().map(|stored| stored.session.id).collect::<Vec<_>>())
    };
    assert_eq!(look(), (false, vec![one.id]));
    cache.delete_all(&other.peer).unwrap();
    assert_eq!(look(), (false, vec![one.id]));
    cache.store_current(&session(3), NOW).unwrap();
    assert_eq!(look(), (true, vec![session(3).id, one.id]));
}

/// At most once a second, and only where there may be something new.
#[test]
#[cfg(target_os = "linux")]
fn who_has_nothing_to_do_is_told_when_to_look() {
    let Listed { _home, cache, one, .. } = Listed::new();
    let (start, date) = (Instant::now(), SystemTime::now());
    let mut watch = Watch::of_peer(&cache, &one.peer, start, date).unwrap();
    assert!(!watch.may_have_changed(&cache, start).unwrap() && watch.changes_fd(start).is_none());
    let due = watch.next_look(start).unwrap();
    assert!(watch.may_have_changed(&cache, due).unwrap(), "it did not listen before");
    watch.refresh(&cache, due, date).unwrap();
    let later = watch.next_look(due).unwrap();
    assert!(!watch.may_have_changed(&cache, later).unwrap() && watch.changes_fd(later).is_some());
    assert_eq!(watch.next_look(later), None);
    cache.delete_all(&one.peer).unwrap();
    assert!(!watch.may_have_changed(&cache, due).unwrap(), "not so soon");
    assert!(watch.may_have_changed(&cache, later).unwrap());
    assert!(watch.refresh(&cache, later, date).unwrap() && watch.sessions().next().is_none());
    let last = watch.next_look(later).unwrap();
    assert!(!watch.may_have_changed(&cache, last).unwrap());
}

#[test]
fn where_anything_may_have_changed_what_came_and_what_went_is_found() {
    let mut listed = Listed::new();
    let third = Session { peer: [8; 32], ..session(3) };
    assert!(listed.cache.delete_all(&listed.one.peer).unwrap() && !listed.path().exists());
    listed.cache.store_current(&third, NOW).unwrap();
    listed.watch.lose_changes();
    assert!(listed.refresh());
    assert_eq!(listed.watch.listed().map(|listed| listed.id).collect::<Vec<_>>(), [listed.other.id, third.id]);
    assert_eq!((listed.watch.peer_of(listed.one.id), listed.watch.peers().count()), (None, 2));
}

#[test]
fn a_rotation_is_listed_while_its_peer_is_not_loaded_and_loaded_as_it_is_then() {
    let mut listed = Listed::new();
    let next = session(3);
    listed.cache.store_current(&next, NOW).unwrap();
    assert!(listed.refresh());
    let rotated = [(next.id, Standing::Current), (listed.one.id, Standing::Retired)];
    assert_eq!((listed.listed(), listed.loaded()), (rotated.into(), Vec::new()));
    assert_eq!(listed.watch.take_changes(), [FileChange { peer: listed.peer(), before: vec![listed.one.id] }]);
    assert!(listed.load());
    assert_eq!(listed.loaded(), rotated);
    listed.cache.delete(&listed.one.peer, &[listed.one.id]).unwrap();
    assert!(listed.refresh());
    assert_eq!(listed.loaded(), rotated[..1], "one that is loaded is read again");
    assert_eq!(listed.watch.peer_of(listed.one.id), None);
}

/// Between two looks: nobody has told of the change yet.
#[test]
fn a_file_that_was_replaced_is_loaded_as_it_is_now_and_counts_as_changed() {
    let mut listed = Listed::new();
    let next = session(3);
    listed.cache.store_pending(&next, NOW).unwrap();
    assert!(listed.load());
    assert_eq!(listed.loaded(), [(next.id, Standing::Pending), (listed.one.id, Standing::Current)]);
    assert_eq!(listed.watch.take_changes().len(), 1);
    assert!(!listed.refresh(), "it is known already");
}

#[test]
fn keys_that_were_erased_while_nothing_was_loaded_do_not_come_back() {
    let mut listed = Listed::new();
    assert!(listed.load());
    let peer = listed.peer();
    listed.watch.unload(peer);
    let id = listed.one.id;
    let leaf = |watch: &Watch| watch.loaded_of(peer)[0].session.send.tree.lowest();
    listed.cache.reserve_stream(&listed.one.peer, &id).unwrap();
    assert!(!listed.refresh(), "a number that was taken is no news");
    assert!(listed.load());
    assert_eq!(leaf(&listed.watch), Some(1));
    listed.cache.reserve_stream(&listed.one.peer, &id).unwrap();
    assert!(!listed.refresh());
    assert_eq!(leaf(&listed.watch), Some(2), "nor do they stay where they are loaded");
}

#[test]
fn a_damaged_file_has_no_session_whether_it_is_loaded_or_not() {
    for is_loaded in [false, true] {
        let mut listed = Listed::new();
        assert!(!is_loaded || listed.load());
        let whole = fs::read_to_string(listed.path()).unwrap();
        let id = field_text::hex(&listed.one.id);
        fs::write(listed.path(), whole.replace(&format!("id = {id}"), "id = 0123456789abcdef")).unwrap();
        // Where the kernel does not tell of what is written in place, the directory does of this.
        fs::write(listed.cache.dir().join("other"), "").unwrap();
        assert!(listed.refresh(), "{is_loaded}");
        assert_eq!((listed.listed(), listed.loaded(), listed.watch.broken().count()), (Vec::new(), Vec::new(), 1));
        assert!(!listed.load() && listed.watch.peer_of(listed.one.id).is_none());
        listed.cache.store_current(&session(3), NOW).unwrap();
        assert!(listed.refresh() && listed.load());
        assert_eq!((listed.loaded().len(), listed.watch.broken().count()), (1, 0));
    }
}

/// Its keys are not read before: that they are damaged shows then.
#[test]
fn a_file_of_which_only_the_keys_are_damaged_has_no_session_once_it_is_loaded() {
    let mut listed = Listed::new();
    let whole = fs::read_to_string(listed.path()).unwrap();
    let (body, _) = whole.split_at(whole.rfind("sum = ").unwrap());
    let body = body.replace("send_tree = -:", "send_tree = -:!");
    let damaged = format!("{body}sum = {}\n", field_text::sum(&body));
    fs::write(listed.path(), damaged).unwrap();
    fs::write(listed.cache.dir().join("other"), "").unwrap();
    assert!(!listed.refresh());
    assert_eq!(listed.listed().len(), 1);
    assert!(!listed.load());
    assert_eq!((listed.listed().len(), listed.watch.broken().count()), (0, 1));
    assert_eq!(listed.watch.take_changes(), [FileChange { peer: listed.peer(), before: vec![listed.one.id] }]);
}

#[test]
fn a_file_that_is_removed_takes_its_sessions_along_loaded_or_not() {
    for is_loaded in [false, true] {
        let mut listed = Listed::new();
        assert!(!is_loaded || listed.load());
        fs::remove_file(listed.path()).unwrap();
        if !is_loaded {
            assert!(!listed.load(), "before the next look, nothing is found");
        }
        assert_eq!(listed.refresh(), is_loaded);
        assert_eq!((listed.listed(), listed.loaded()), (Vec::new(), Vec::new()));
        assert_eq!(listed.watch.listed().count(), 1);
        assert_eq!(listed.watch.take_changes().len(), 1);
    }
}
