//! Claim: in a large `known_peers`, one of many peers is found without the others, and one more is added without
//! writing them again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use super::*;

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
    let file = home.store().open().unwrap();
    let has_peer = ["l3", "none"].map(|link| file.has_peer_of(&link.parse().unwrap()).unwrap());
    assert_eq!((file.is_read(), has_peer), (false, [true, false]));
    // Where others may matter, all are there.
    for known in [home.select(&["nobody"], None), home.select(&[], Some("none")), home.select(&[], None)] {
        assert_eq!(known.unwrap().lines().len(), 300);
    }
}

/// One of many links, and the last one, to which an editor has left no newline.
#[test]
fn a_line_of_any_length_is_found() {
    let home = Home::new();
    home.write_large(300);
    let link = |number: u32| format!("a-link-with-a-name-of-some-length-{number:04}");
    let links: Vec<_> = (0..200).map(link).collect();
    let mut text = fs::read_to_string(home.file()).unwrap();
    writeln!(text, "{} link={}", keys()[1].to_line(&name("long")), links.join(",")).unwrap();
    text.push_str(&keys()[2].to_line(&name("last")));
    fs::write(home.file(), text).unwrap();
    make_old(&home.file());
    assert_eq!(home.load().unwrap().lines().len(), 302);
    assert!(home.index().exists());
    for called in ["long", "last"] {
        assert_eq!(names(&home.select(&[called], None).unwrap()), [called]);
    }
    assert_eq!(names(&home.select(&[], Some(&link(199))).unwrap()), ["long"]);
}

#[test]
fn a_run_that_has_chosen_its_peer_reads_no_other_one() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let mut known = home.select(&["p1", "p2"], None).unwrap();
    known.narrow_to(&name("p2"));
    assert_eq!(names(&known), ["p1", "p2"], "before the next reading");
    home.trust("one", &keys()[1], None).unwrap();
    assert!(known.refresh().unwrap());
    assert_eq!(names(&known), ["p2"]);
}

#[test]
fn the_index_follows_each_change_of_ours() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let [own, one, two] = keys();
    let link: LinkName = "plant".parse().unwrap();
    home.trust("one", one, None).unwrap();
    home.forget("p7").unwrap();
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
    let followed = fs::read(home.index()).unwrap();
    fs::remove_file(home.index()).unwrap();
    make_old(&home.file());
    assert_eq!(home.load().unwrap().lines(), whole.lines());
    assert_eq!(whole.lines().len(), 301);
    // The number of the layout and the stamp of the file come before the entries.
    let made = fs::read(home.index()).unwrap();
    assert_eq!(followed[8 + Stamp::LEN..], made[8 + Stamp::LEN..]);
    for line in whole.lines() {
        assert_eq!(found(line.name.as_str()), std::slice::from_ref(line));
    }
}

#[test]
fn one_more_is_appended_to_a_large_file_and_nothing_else_is() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let inode = || fs::metadata(home.file()).unwrap().ino();
    let (first, before) = (inode(), fs::read_to_string(home.file()).unwrap());
    let [own, one, two] = keys();
    home.trust("one", one, Some(&"plant".parse().unwrap())).unwrap();
    let line = format!("{} link=plant\n", one.to_line(&name("one")));
    assert_eq!(fs::read_to_string(home.file()).unwrap(), before + &line);
    assert_eq!(inode(), first);
    assert_eq!(names(&home.select(&["one"], None).unwrap()), ["one"], "the index has it");
    // Each of these replaces the file: a line that changes, the last one, too; a list, which is trusted as a whole; and what has
    // another name, which may be a copy.
    home.store().note_paired(one, &"other".parse().unwrap()).unwrap();
    let text = fs::read_to_string(home.file()).unwrap();
    assert_eq!((text.lines().count(), text.ends_with(" link=plant paired=other\n")), (1 + 300 + 1, true));
    assert_ne!(inode(), first);
    let first = inode();
    home.store().trust(own, &[new("two", two), new("p300", &stranger(300))], None).unwrap();
    assert_ne!(inode(), first);
    let copy = home.file().with_extension("copy");
    fs::hard_link(home.file(), &copy).unwrap();
    home.trust("p301", &stranger(301), None).unwrap();
    assert_eq!(fs::metadata(&copy).unwrap().nlink(), 1);
    assert_eq!(fs::read_to_string(home.file()).unwrap().lines().count(), 1 + 300 + 4);
    assert_eq!(fs::read_to_string(copy).unwrap().lines().count(), 1 + 300 + 3);
}

#[test]
fn the_index_of_what_is_appended_is_beside_that_of_the_others() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let index = || fs::read(home.index()).unwrap();
    let added = home.index().with_file_name("@known_peers.added");
    let (first, plant): (_, LinkName) = (index(), "plant".parse().unwrap());
    let trust = |number: u32| home.trust(&format!("p{number}"), &stranger(number), Some(&plant)).unwrap();
    let are_found = |numbers: &[u32]| {
        let file = home.store().open().unwrap();
        assert!(!file.is_read(), "the index is of this version");
        for number in numbers {
            let called = name(&format!("p{number}"));
            let by_name = file.find(Subject::Name(&called), 1).unwrap();
            let by_key = file.find(Subject::Key(stranger(*number).fingerprint().as_bytes()), 2).unwrap();
            assert!(by_name.len() == 1 && by_name == by_key && by_name[0].name == called, "{called}");
        }
    };
    // Each of them has a name, a key and a link.
    (300..302).for_each(trust);
    assert!(index() == first && added.exists());
    are_found(&[0, 150, 299, 300, 301]);
    assert_eq!(names(&home.select(&[], Some("plant")).unwrap()), ["p300", "p301"]);
    // Once they are many, they go to the others; so they do with any other change.
    trust(302);
    assert_ne!(index(), first);
    are_found(&[0, 299, 300, 301, 302]);
    let second = index();
    trust(303);
    assert_eq!(index(), second);
    home.forget("p301").unwrap();
    assert_ne!(index(), second);
    are_found(&[0, 299, 300, 302, 303]);
    // One that is damaged is not used: all is read again.
    trust(304);
    let whole = fs::read(&added).unwrap();
    fs::write(&added, &whole[..whole.len() - 1]).unwrap();
    assert!(home.store().open().unwrap().is_read());
    assert_eq!(home.load().unwrap().lines().len(), 300 + 4);
}

#[test]
fn for_many_look_ups_the_index_is_read_once() {
    let home = Home::new();
    home.write_large(300);
    home.load().unwrap();
    let stored = fs::read(home.index()).unwrap();
    let found = |lookups: usize| {
        let mut file = home.store().open().unwrap();
        file.prepare(lookups).unwrap();
        fs::write(home.index(), b"").unwrap();
        let found = file.find(Subject::Name(&name("p7")), 1);
        fs::write(home.index(), &stored).unwrap();
        found.map(|lines| lines.len())
    };
    assert!(found(3).is_err(), "each look-up reads it");
    assert_eq!(found(1000).unwrap(), 1);
}

/// A power failure may leave any part of a line that was appended, which then begins as a remark.
#[test]
fn a_line_that_was_not_finished_is_no_peer_and_the_next_one_is_whole() {
    let home = Home::new();
    home.write_large(300);
    let before = fs::read_to_string(home.file()).unwrap();
    let line = format!("#{}", &stranger(300).to_line(&name("p300"))[1..]);
    let cut_off = [1, 5, 20, line.len()].map(|len| line[..len].to_owned());
    // Where the length of a file is on the disk before its content is, there are zeros.
    let zeros = [0, 5, 20].map(|len| line[..len].to_owned() + &"\0".repeat(line.len() - len));
    let end_only = "\0".repeat(20) + &line[20..];
    for part in cut_off.iter().chain(&zeros).chain([&end_only]) {
        let len = part.escape_default().to_string();
        fs::write(home.file(), before.clone() + part).unwrap();
        make_old(&home.file());
        assert_eq!(home.load().unwrap().lines().len(), 300, "{len}");
        home.trust("p300", &stranger(300), None).unwrap();
        assert_eq!(home.load().unwrap().lines()[300].key, stranger(300), "{len}");
        assert_eq!(fs::read_to_string(home.file()).unwrap().lines().count(), 1 + 300 + 2, "{len}");
    }
    // All of it but the newline.
    fs::write(home.file(), format!("{before}{}\0", stranger(300).to_line(&name("p300")))).unwrap();
    make_old(&home.file());
    assert_eq!(home.load().unwrap().lines()[300].key, stranger(300));
    home.trust("p301", &stranger(301), None).unwrap();
    assert_eq!(home.load().unwrap().lines().len(), 302);
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
    assert_eq!(home.forget("p7").unwrap(), stranger(7));
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
        home.forget("one").unwrap();
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

    home.forget("p8").unwrap();
    home.trust("new", &stranger(200), None).unwrap();
    assert!(known.refresh().unwrap());
    assert_eq!(names(&known), ["p7"], "who was forgotten is not known any more");
    assert_eq!((found(&mut known, 200).as_deref(), found(&mut known, 8)), (Some("new"), None));
    assert!(known.forget(|other| *other == fingerprint(7)) && !known.forget(|other| *other == fingerprint(7)));
    assert_eq!(names(&known), ["new"]);
    assert_eq!(found(&mut known, 7).as_deref(), Some("p7"), "it can be known again");

    // Edited by hand, and too lately for an index, however long this thread waits for a processor.
    fs::write(home.file(), fs::read_to_string(home.file()).unwrap().replace("p9 ", "renamed ")).unwrap();
    set_modified(&home.file(), SystemTime::now() + Duration::from_secs(3600));
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
