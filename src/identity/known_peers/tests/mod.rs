//! Claim: `known_peers` is checked as a whole, and changed line by line.

mod large;

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

    /// Forgets one peer after the other.
    fn forget(&self, called: &str) -> Result<PublicKey> {
        Ok(self.store().forget(&[former(called, None)])?.remove(0).key)
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
    set_modified(path, SystemTime::now() - Duration::from_secs(3600));
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn name(text: &str) -> PeerName {
    text.parse().unwrap()
}

fn new(called: &str, key: &PublicKey) -> NewPeer {
    NewPeer { name: name(called), key: key.clone(), line_number: None }
}

fn former(called: &str, line_number: Option<usize>) -> FormerPeer {
    FormerPeer { name: name(called), line_number }
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
    assert_eq!(home.forget("one").unwrap(), *one);
    assert_eq!(names(&home.load().unwrap()), ["two"]);
    let err = home.forget("one").unwrap_err();
    assert_eq!((err.exit(), err.to_string()), (Exit::Config, "no peer `one`: known here: two".into()));
    let err = home.forget("tow").unwrap_err();
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
fn a_list_is_forgotten_as_a_whole_or_not_at_all() {
    let home = Home::new();
    for size in [9, 300] {
        home.write_large(size);
        let before = fs::read_to_string(home.file()).unwrap();
        let listed = |names: &[&str]| -> Vec<_> {
            (2..).zip(names).map(|(number, called)| former(called, Some(number))).collect()
        };
        for (unknown, hint) in [("p5x", "; did you mean `p5`?"), ("something-else", "")] {
            let err = home.store().forget(&listed(&["p1", "p4", unknown, "p7"])).unwrap_err();
            assert!(
                err.to_string().starts_with(&format!("stdin, line 4: no peer `{unknown}`: known here: p0, ")),
                "{err}"
            );
            assert_eq!((err.exit(), err.hint_text()), (Exit::Config, Some(&*format!("nothing was changed{hint}"))));
            assert_eq!(fs::read_to_string(home.file()).unwrap(), before);
        }
        assert!(home.store().forget(&[]).unwrap().is_empty());
        assert_eq!(fs::read_to_string(home.file()).unwrap(), before);
        // In any order, neighbours, the last line, and one of them twice.
        let gone = ["p8", "p4", "p5", "p1", "p4"];
        let forgotten = home.store().forget(&listed(&gone)).unwrap();
        assert_eq!(forgotten.iter().map(|line| line.key.clone()).collect::<Vec<_>>(), [1, 4, 5, 8].map(stranger));
        let is_kept = |line: &&str| !gone.contains(&line.split(' ').next().unwrap());
        let left: String = before.split_inclusive('\n').filter(is_kept).collect();
        assert_eq!(fs::read_to_string(home.file()).unwrap(), left);
        // By the index of the new file, if it is large.
        assert_eq!(names(&home.select(&["p7"], None).unwrap()), ["p7"]);
        assert_eq!(home.forget("p4").unwrap_err().exit(), Exit::Config);
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
    home.forget("two").unwrap();
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
    home.forget("one").unwrap();
    assert_eq!(fields(&home.load().unwrap()), [" paired=depot"]);
    fs::write(home.file(), two.to_line(&name("two")) + " for=plant").unwrap();
    let err = home.load().unwrap_err();
    assert!(err.to_string().contains("line 1: unknown field `for=plant`"), "{err}");
}

#[test]
fn a_link_whose_peer_was_trusted_for_it_and_has_paired_goes_to_another_peer() {
    let home = Home::new();
    let [_, one, two] = keys();
    let plant: LinkName = "plant".parse().unwrap();
    home.trust("one", one, Some(&plant)).unwrap();
    home.store().note_paired(one, &plant).unwrap();
    home.trust("two", two, Some(&plant)).unwrap();
    assert_eq!(names(&home.select(&[], Some("plant")).unwrap()), ["one", "two"]);
    home.store().note_paired(two, &plant).unwrap();
    let known = home.load().unwrap();
    let fields: Vec<_> = known.lines().iter().map(|it| it.binding.to_string()).collect();
    assert_eq!(fields, [" link=plant", " link=plant paired=plant"]);
}

#[test]
fn a_peer_that_a_run_adds_is_known_for_its_link_at_once() {
    let home = Home::new();
    let [own, one, two] = keys();
    let plant: LinkName = "plant".parse().unwrap();
    let mut known = home.load().unwrap();
    assert!(known.is_empty());
    known.add(own, &name("one"), one, &plant).unwrap();
    assert!(!known.is_empty() && known.lines()[0].binding.links() == [plant.clone()]);
    assert_eq!(known.lines(), home.load().unwrap().lines());
    let has_paired = || home.store().open().unwrap().has_paired(&plant).unwrap();
    assert!(!has_paired(), "it is only trusted");
    known.note_paired(one, &plant).unwrap();
    assert!(has_paired());
    assert_eq!(known.add(own, &name("one"), two, &plant).unwrap_err().exit(), Exit::NotTrusted);
    assert_eq!(names(&known), ["one"]);
}

#[test]
fn one_that_enrols_is_written_once_if_the_link_can_be_with_no_other() {
    let home = Home::new();
    let [own, one, two] = keys();
    let (plant, depot): (LinkName, LinkName) = ("plant".parse().unwrap(), "depot".parse().unwrap());
    home.trust("one", one, Some(&plant)).unwrap();
    let mut known = home.load().unwrap();
    let mut enrol = |called: &str, key: &PublicKey, link: &LinkName| {
        known.add_paired(own, &name(called), key, link).unwrap();
        let stamp = home.store().stamp().unwrap();
        let fields: Vec<_> = known.lines().iter().map(|it| it.binding.to_string()).collect();
        known.note_paired(key, link).unwrap();
        (fields, home.store().stamp().unwrap() == stamp)
    };
    let (fields, is_done) = enrol("two", two, &depot);
    assert!(is_done && fields == [" link=plant", " link=depot paired=depot"], "{fields:?}");
    // It was trusted before, and now it has paired.
    let (fields, is_done) = enrol("one", one, &plant);
    assert!(is_done && fields == [" link=plant paired=plant", " link=depot paired=depot"], "{fields:?}");
    // A link that is with another one stays with that until the pairing is over.
    let (fields, is_done) = enrol("two", two, &plant);
    assert!(!is_done && fields == [" link=plant paired=plant", " link=depot,plant paired=depot"], "{fields:?}");
    assert!(known.lines()[1].binding.has_paired(&plant) && !known.lines()[0].binding.has_paired(&plant));
}

#[test]
fn a_list_of_peers_to_trust_has_names_and_keys_only() {
    let [_, key, _] = keys();
    let line = key.to_line(&name("one"));
    for text in [line.clone(), format!("  {line} \r\n"), format!("{line} link=*")] {
        assert_eq!(PeersLine::parse_new(&text), Ok(Some((name("one"), key.clone()))), "{text}");
    }
    for text in ["", "\n", "# a remark"] {
        assert_eq!(PeersLine::parse_new(text), Ok(None), "{text}");
    }
    for fields in ["link=a", "link=*,a", "paired=a"] {
        let why = PeersLine::parse_new(&format!("{line} {fields}")).unwrap_err();
        assert!(why.ends_with("give the link as an argument"), "{why}");
    }
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
    fs::write(home.file(), [line.as_bytes(), b"\n# Ger\xe4t\n"].concat()).unwrap();
    let err = home.load().unwrap_err();
    assert!(err.to_string().ends_with("known_peers, line 2: it contains bytes that are not UTF-8"), "{err}");
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
