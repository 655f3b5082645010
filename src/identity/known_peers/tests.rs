//! Claim: `known_peers` is checked as a whole, changed line by line, and one of many peers is found without the others.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::*;
use crate::files::{Dir, Guard};
use crate::identity::Binding;
use crate::identity::key::tests::{keys, stranger};
use crate::{Error, Exit};

/// A configuration directory and a runtime directory.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        let home = Self(tempfile::tempdir().unwrap());
        for dir in ["sts", "run"] {
            Dir::create(&home.0.path().join(dir), Guard::Private).unwrap();
        }
        home
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("sts").join(KNOWN_PEERS_FILE)
    }

    fn index(&self) -> PathBuf {
        self.0.path().join("run/@known_peers")
    }

    fn store(&self) -> PeersStore {
        let open = |name, guard| Dir::open(&self.0.path().join(name), guard).unwrap();
        PeersStore::new(open("sts", Guard::Public).unwrap(), open("run", Guard::Private))
    }

    fn load(&self) -> Result<KnownPeers> {
        KnownPeers::load(self.store())
    }

    fn select(&self, names: &[&str], link: Option<&str>) -> Result<KnownPeers> {
        let selection = Selection {
            names: names.iter().map(|it| name(it)).collect(),
            link: link.map(|link| link.parse().unwrap()),
        };
        KnownPeers::load_selected(self.store(), selection)
    }

    fn trust(&self, called: &str, key: &PublicKey, link: Option<&LinkName>) -> Result<()> {
        self.store().trust(&keys()[0], &[new(called, key)], link)
    }

    /// Writes a file that is old enough to have an index, with this many peers: p0, p1 and so on.
    fn write_large(&self, count: u32) {
        let mut text = String::from("# a remark\n");
        for number in 0..count {
            let fields = if number % 10 == 0 { format!(" link=l{}", number / 10) } else { String::new() };
            writeln!(text, "{}{fields}", stranger(number).to_line(&name(&format!("p{number}")))).unwrap();
        }
        fs::write(self.file(), text).unwrap();
        make_old(&self.file());
    }
}

fn make_old(path: &Path) {
    let hour_ago = SystemTime::now() - Duration::from_secs(3600);
    fs::File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn new(called: &str, key: &PublicKey) -> NewPeer {
    NewPeer { name: name(called), key: key.clone(), line_number: None }
}

fn names(known: &KnownPeers) -> Vec<&str> {
    known.lines().iter().map(|line| line.name.as_str()).collect()
}

#[test]
fn a_peer_is_pinned_found_and_forgotten() {
    let home = Home::new();
    let [_, one, two] = keys();
    for (called, key) in [("one", one), ("two", two), ("two", two)] {
        home.trust(called, key, None).unwrap();
    }
    assert_eq!(names(&home.load().unwrap()), ["one", "two"]);
    assert_eq!(home.store().forget(&name("one")).unwrap(), *one);
    assert_eq!(names(&home.load().unwrap()), ["two"]);
    let err = home.store().forget(&name("one")).unwrap_err();
    assert_eq!((err.exit(), err.to_string()), (Exit::Config, "no peer `one`: known here: two".into()));
    let err = home.store().forget(&name("tow")).unwrap_err();
    assert_eq!(err.hint_text(), Some("did you mean `two`?"));
}

#[test]
fn ambiguity_is_refused() {
    let home = Home::new();
    let [own, one, two] = keys();
    home.trust("one", one, None).unwrap();
    let before = fs::read(home.file()).unwrap();
    for (again, key, why) in
        [("uno", one, "already known as `one`"), ("one", two, "already known with another key"), ("me", own, "own key")]
    {
        let err = home.trust(again, key, None).unwrap_err();
        assert!(err.exit() == Exit::NotTrusted && err.to_string().contains(why), "{err}");
    }
    assert_eq!(fs::read(home.file()).unwrap(), before);
    for (again, key) in [("uno", one), ("one", two)] {
        let text = format!("{}\n\n{}", one.to_line(&name("one")), key.to_line(&name(again)));
        fs::write(home.file(), text).unwrap();
        let err = home.load().unwrap_err();
        assert!(err.exit() == Exit::Config && err.to_string().contains("known_peers, line 3: "), "{err}");
    }
}

#[test]
fn a_list_is_trusted_as_a_whole_or_not_at_all() {
    let home = Home::new();
    let [own, one, two] = keys();
    let listed = |peers: &[(&str, &PublicKey)]| -> Vec<_> {
        (1..)
            .zip(peers)
            .map(|(number, (called, key))| NewPeer { line_number: Some(number), ..new(called, key) })
            .collect()
    };
    home.store().trust(own, &listed(&[("one", one), ("two", two), ("one", one)]), None).unwrap();
    let before = fs::read(home.file()).unwrap();
    assert_eq!(names(&home.load().unwrap()), ["one", "two"]);
    let third = stranger(3);
    for (list, said) in [
        (
            vec![("three", &third), ("uno", one)],
            "stdin, line 2: cannot trust `uno`: this key is already known as `one`",
        ),
        (
            vec![("three", &third), ("drei", &third)],
            "stdin, line 2: cannot trust `drei`: line 1 has this key as `three`",
        ),
        (vec![("a", &third), ("me", own)], "stdin, line 2: cannot trust `me`: that is this device's own key"),
        (
            vec![("a", &third), ("a", &stranger(4))],
            "stdin, line 2: cannot trust `a`: line 1 has another key for this name",
        ),
    ] {
        let err = home.store().trust(own, &listed(&list), None).unwrap_err();
        assert_eq!(err.to_string(), said);
        assert_eq!(fs::read(home.file()).unwrap(), before);
    }
}

#[test]
fn every_other_line_stays_as_it_is() {
    let home = Home::new();
    let [_, one, two] = keys();
    let text = format!("# ours\r\n\n  # indented\n  {} \n# end", two.to_line(&name("two")));
    fs::write(home.file(), &text).unwrap();
    home.trust("one", one, None).unwrap();
    let with_one = format!("{text}\n{}\n", one.to_line(&name("one")));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), with_one);
    home.store().forget(&name("two")).unwrap();
    let left = with_one.replace(&format!("  {} \n", two.to_line(&name("two"))), "");
    assert_eq!(fs::read_to_string(home.file()).unwrap(), left);
}

#[test]
fn a_key_for_one_link_and_the_peer_that_a_link_paired_with_are_written_down() {
    let home = Home::new();
    let [_, one, two] = keys();
    let (plant, depot): (LinkName, LinkName) = ("plant".parse().unwrap(), "depot".parse().unwrap());
    home.trust("one", one, Some(&plant)).unwrap();
    home.trust("two", two, None).unwrap();
    let mut known = home.load().unwrap();
    known.note_paired(two, &plant).unwrap();
    known.note_paired(two, &depot).unwrap();
    let fields = |known: &KnownPeers| known.lines().iter().map(|it| it.binding.to_string()).collect::<Vec<_>>();
    assert_eq!(fields(&known), [" link=plant", " paired=plant,depot"]);
    // A link is with one peer, and a key can be for more links.
    known.note_paired(one, &plant).unwrap();
    home.trust("one", one, Some(&depot)).unwrap();
    assert!(known.refresh().unwrap());
    assert_eq!(fields(&known), [" link=plant,depot paired=plant", " paired=depot"]);
    home.store().forget(&name("one")).unwrap();
    assert_eq!(fields(&home.load().unwrap()), [" paired=depot"]);
    fs::write(home.file(), two.to_line(&name("two")) + " for=plant").unwrap();
    let err = home.load().unwrap_err();
    assert!(err.to_string().contains("line 1: unknown field `for=plant`"), "{err}");
}

#[test]
fn blanks_between_words_are_free() {
    let home = Home::new();
    let line = keys()[1].to_line(&name("one"));
    for (fields, written) in [("", ""), (" link=a", " link=a"), ("\tlink=a  paired=b ", " link=a paired=b"), ("  ", "")]
    {
        for text in [line.clone(), line.replace(' ', "\t"), line.replace(' ', "  ")] {
            fs::write(home.file(), format!(" {text}{fields}\r\n")).unwrap();
            assert_eq!(home.load().unwrap().lines()[0].to_string(), format!("{line}{written}"), "{text:?}");
        }
    }
    for (bad, why) in [("ssh-rsa", "an SSH key"), ("sts-rsb", "not a key line")] {
        fs::write(home.file(), line.replace("sts-rsa", bad)).unwrap();
        let err = home.load().unwrap_err();
        assert!(err.to_string().contains("line 1: ") && err.to_string().contains(why), "{err}");
    }
}

#[test]
fn others_may_read_but_not_write_it() {
    let home = Home::new();
    home.write_large(300);
    let chmod = |mode| fs::set_permissions(home.file(), fs::Permissions::from_mode(mode)).unwrap();
    chmod(0o644);
    home.load().unwrap();
    // Also where an index makes it unnecessary to read it.
    chmod(0o664);
    for refused in [home.load(), home.select(&["p7"], None)] {
        let err = refused.unwrap_err();
        assert!(err.exit() == Exit::NotTrusted && err.hint_text().unwrap().starts_with("chmod go-w "), "{err}");
    }
}

#[test]
fn a_change_by_another_process_is_seen() {
    let home = Home::new();
    let [_, one, two] = keys();
    home.trust("one", one, None).unwrap();
    let mut here = home.load().unwrap();
    assert!(!here.refresh().unwrap());
    home.trust("two", two, None).unwrap();
    assert!(here.has_changed().unwrap() && here.refresh().unwrap());
    assert_eq!(names(&here), ["one", "two"]);
    fs::write(home.file(), "junk").unwrap();
    assert!(here.refresh().is_err());
    assert_eq!(names(&here), ["one", "two"]);
}

#[test]
fn one_of_many_is_found_without_the_others() {
    let home = Home::new();
    home.write_large(300);
    assert_eq!(home.load().unwrap().lines().len(), 300);
    assert!(home.index().exists());
    for number in [0, 1, 7, 150, 299] {
        let called = format!("p{number}");
        let known = home.select(&[&called], None).unwrap();
        assert_eq!((names(&known), &known.lines()[0].key), (vec![&*called], &stranger(number)));
    }
    assert_eq!(names(&home.select(&["p5"], Some("l3")).unwrap()), ["p5", "p30"]);
    assert_eq!(names(&home.select(&[], Some("l3")).unwrap()), ["p30"]);
    // Where others may matter, all are there.
    for known in [home.select(&["nobody"], None), home.select(&[], Some("none")), home.select(&[], None)] {
        assert_eq!(known.unwrap().lines().len(), 300);
    }
}

#[test]
fn the_index_follows_each_change_of_ours() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let [own, one, two] = keys();
    let link: LinkName = "plant".parse().unwrap();
    home.trust("one", one, None).unwrap();
    home.store().forget(&name("p7")).unwrap();
    home.trust("p9", &stranger(9), Some(&link)).unwrap();
    home.store().trust(own, &[new("two", two), new("p299", &stranger(299))], Some(&link)).unwrap();
    home.store().note_paired(&stranger(250), &link).unwrap();
    let found = |called: &str| home.select(&[called], None).unwrap().lines().to_vec();
    for (called, key) in [("one", one), ("two", two), ("p9", &stranger(9)), ("p298", &stranger(298))] {
        let lines = found(called);
        assert_eq!((lines.len(), &lines[0].key), (1, key), "{called}");
    }
    assert_eq!(found("p7").len(), 301);
    assert_eq!(names(&home.select(&[], Some("plant")).unwrap()), ["p9", "p250", "p299", "two"]);
    // It says what reading all of the file says.
    let whole = home.load().unwrap();
    fs::remove_file(home.index()).unwrap();
    assert_eq!(home.load().unwrap().lines(), whole.lines());
    assert_eq!(whole.lines().len(), 301);
    for line in whole.lines() {
        assert_eq!(found(line.name.as_str()), std::slice::from_ref(line));
    }
}

#[test]
fn a_peer_whose_hash_another_one_has_is_found_and_forgotten() {
    let home = Home::new();
    home.write_large(300);
    let whole = home.load().unwrap();
    let link: LinkName = "l3".parse().unwrap();
    // As if the name p7, its key and the link l3 had the hashes of p0, p1 and p2, which come before them.
    let place =
        |number: usize, line: &PeersLine| PeersLine { place: whole.lines()[number].place.clone(), ..line.clone() };
    let [p7, p30] = [7, 30].map(|number| &whole.lines()[number]);
    let colliding: Vec<_> = (0..3).map(|number| place(number, p7)).chain([place(0, p30)]).collect();
    let (_, index) = home.store().open().unwrap().into_parts();
    fs::remove_file(home.index()).unwrap();
    index.after(Some, &colliding).unwrap().store(home.store().index_dir().unwrap(), &whole.stamp.unwrap());
    assert!(home.index().exists());
    assert_eq!(names(&home.select(&["p7"], Some("l3")).unwrap()), ["p7", "p30"]);
    for (called, key, why) in [("uno", &stranger(7), "already known as `p7`"), ("p7", &keys()[1], "with another key")] {
        let err = home.trust(called, key, None).unwrap_err();
        assert!(err.to_string().contains(why), "{err}");
    }
    home.store().note_paired(&stranger(7), &link).unwrap();
    assert_eq!(home.store().forget(&name("p7")).unwrap(), stranger(7));
    assert_eq!(home.load().unwrap().lines().len(), 299);
}

#[test]
fn an_editor_that_replaces_what_was_just_written_gets_no_index_of_it() {
    let home = Home::new();
    home.write_large(300);
    let edit = |edit: fn(&Path, &str)| {
        home.trust("one", &keys()[1], None).unwrap();
        let written = home.store().stamp().unwrap().unwrap();
        let (_, index) = home.store().read().unwrap().into_parts();
        let _ = fs::remove_file(home.index());
        edit(&home.file(), &fs::read_to_string(home.file()).unwrap().replace("p123 ", "q123 "));
        home.store().store_index(&index, &written).unwrap();
        let has_index = home.index().exists();
        home.store().forget(&name("one")).unwrap();
        has_index
    };
    // An owner or a name that it is given changes nothing of what is in it.
    assert!(edit(|file, _| fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap()));
    assert!(!edit(|file, text| {
        let other = file.with_extension("new");
        fs::write(&other, text).unwrap();
        fs::rename(other, file).unwrap();
    }));
    assert!(!edit(|file, text| {
        std::thread::sleep(Duration::from_millis(50));
        fs::write(file, text).unwrap();
    }));
}

#[test]
fn an_index_of_another_version_of_the_file_is_not_used() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let stale = fs::read(home.index()).unwrap();
    // In place, of the same length, with the old time of modification.
    let text = fs::read_to_string(home.file()).unwrap().replace("p123 ", "q123 ");
    fs::write(home.file(), text).unwrap();
    make_old(&home.file());
    assert_eq!(names(&home.select(&["q123"], None).unwrap()), ["q123"]);
    assert_eq!(home.select(&["p123"], None).unwrap().lines().len(), 300);
    // A file that is malformed elsewhere is refused, whomever a run wants to reach.
    let text = fs::read_to_string(home.file()).unwrap().replace("p200 sts-rsa ", "p200 sts-rsa !");
    fs::write(home.file(), text).unwrap();
    let err: Error = home.select(&["p1"], None).unwrap_err();
    assert!(err.to_string().contains("known_peers, line 202: "), "{err}");
    // Nor is one that is damaged.
    home.write_large(300);
    for damaged in [&stale[..], &stale[..stale.len() - 1], b"", b"junk"] {
        fs::write(home.index(), damaged).unwrap();
        assert_eq!(names(&home.select(&["p123"], None).unwrap()), ["p123"]);
    }
}

/// The version of the file that is looked at is always the one that [`KnownPeers::refresh`] saw.
#[test]
fn of_a_large_file_a_peer_is_known_once_it_is_asked_for() {
    let home = Home::new();
    home.write_large(200);
    let mut known = KnownPeers::load_as_asked(home.store()).unwrap();
    assert!(known.are_more() && known.lines().is_empty() && home.index().exists());
    let fingerprint = |number| *stranger(number).fingerprint().as_bytes();
    let found =
        |known: &mut KnownPeers, number| known.look_up(&fingerprint(number)).unwrap().map(|line| line.name.to_string());
    assert_eq!(found(&mut known, 7).as_deref(), Some("p7"));
    assert_eq!(found(&mut known, 7), None, "it is known already");
    assert_eq!((found(&mut known, 8).as_deref(), found(&mut known, 200)), (Some("p8"), None));
    assert_eq!(names(&known), ["p7", "p8"]);

    home.store().forget(&name("p8")).unwrap();
    home.trust("new", &stranger(200), None).unwrap();
    assert!(known.refresh().unwrap());
    assert_eq!(names(&known), ["p7"], "who was forgotten is not known any more");
    assert_eq!((found(&mut known, 200).as_deref(), found(&mut known, 8)), (Some("new"), None));
    assert!(known.forget(|other| *other == fingerprint(7)) && !known.forget(|other| *other == fingerprint(7)));
    assert_eq!(names(&known), ["new"]);
    assert_eq!(found(&mut known, 7).as_deref(), Some("p7"), "it can be known again");

    // Edited by hand, and too lately for an index.
    fs::write(home.file(), fs::read_to_string(home.file()).unwrap().replace("p9 ", "renamed ")).unwrap();
    assert!(known.refresh().unwrap());
    assert!(!known.are_more() && known.lines().len() == 200 && names(&known).contains(&"renamed"));
    assert_eq!(found(&mut known, 7), None, "all are known");
    make_old(&home.file());
    assert!(known.refresh().unwrap());
    assert!(known.are_more() && known.lines().is_empty(), "most of them were never asked for");
}

/// A hash of 64 bits is no name: two names that were made to have one hash must not hide a third line behind them.
#[test]
fn lines_in_conflict_are_found_however_many_are_between_them() {
    let line = |called: &str, number: u32, place: u64| {
        let mut line = PeersLine::new(&name(called), &stranger(number), Binding::default());
        line.place = place..place + 1;
        line
    };
    // Five lines with one key are as five with one hash, of which here only the first and the last are in conflict.
    let lines: Vec<_> = (0..5).map(|number| line(&format!("p{number}"), 7, number)).collect();
    let ends = |one: &PeersLine, other: &PeersLine| {
        let places = (one.place.start, other.place.start);
        (places == (4, 0)).then(|| "in conflict".to_owned())
    };
    assert_eq!(index::first_conflict(&lines, ends), Some((4, "in conflict".into())));
    assert_eq!(index::first_conflict(&lines[..4], ends), None);
    let found = index::first_conflict(&lines, PeersLine::conflict).unwrap();
    assert_eq!(found.0, 1, "{}", found.1);
}
