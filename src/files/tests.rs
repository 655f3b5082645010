//! Claim: a file of ours is read only if it is ours alone, and is replaced whole or not at all.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;

use super::acl::Grants;
use super::check::can_be_changed;
use super::stamp::dir_stamp;
use super::whole::{MAX_FILE_LEN, read};
use super::*;
use crate::Exit;

fn home() -> (tempfile::TempDir, Dir) {
    let home = tempfile::tempdir().unwrap();
    let dir = Dir::create(&home.path().join("a/b"), Guard::Private).unwrap();
    (home, dir)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_directory_is_made_private_and_refused_when_it_is_not() {
    let (home, dir) = home();
    assert_eq!(mode(dir.path()), 0o700);
    chmod(dir.path(), 0o750);
    let err = Dir::create(dir.path(), Guard::Private).unwrap_err();
    assert_eq!(err.exit(), Exit::NotTrusted);
    assert_eq!(err.hint_text().unwrap(), format!("chmod 700 {}", dir.path().display()));
    assert!(Dir::open(dir.path(), Guard::Public).unwrap().is_some());
    chmod(dir.path(), 0o770);
    let err = Dir::open(dir.path(), Guard::Public).unwrap_err();
    assert_eq!(err.hint_text().unwrap(), format!("chmod go-w {}", dir.path().display()));

    let link = home.path().join("link");
    chmod(dir.path(), 0o700);
    symlink(dir.path(), &link).unwrap();
    for way in [link.clone(), link.join(""), link.join(".")] {
        assert_eq!(Dir::create(&way, Guard::Private).unwrap_err().exit(), Exit::NotTrusted, "{way:?}");
    }
    let file = home.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(Dir::create(&file, Guard::Private).unwrap_err().exit(), Exit::NotTrusted);

    let spaced = home.path().join("it's open");
    fs::create_dir(&spaced).unwrap();
    chmod(&spaced, 0o755);
    let err = Dir::open(&spaced, Guard::Private).unwrap_err();
    assert!(err.hint_text().unwrap().ends_with(r"/it'\''s open'"), "{err:?}");
    assert!(Dir::open(&home.path().join("absent"), Guard::Private).unwrap().is_none());
}

#[test]
fn another_users_directory_is_refused() {
    // `/` is root's: ours when the tests run as root, where it is refused for its mode instead.
    assert_eq!(Dir::open(Path::new("/"), Guard::Private).unwrap_err().exit(), Exit::NotTrusted);
}

#[test]
fn a_file_is_read_only_if_it_is_plain_and_private() {
    let (_home, dir) = home();
    assert!(read_private(&dir, "key").unwrap().is_none());
    let path = dir.join("key");
    fs::write(&path, "secret").unwrap();
    chmod(&path, 0o640);
    let err = read_private(&dir, "key").unwrap_err();
    assert_eq!((err.exit(), err.hint_text().unwrap()), (Exit::NotTrusted, &*format!("chmod 600 {}", path.display())));
    assert_eq!(**read(&dir, "key", Guard::Public).unwrap().unwrap(), *b"secret");
    chmod(&path, 0o602);
    assert_eq!(read(&dir, "key", Guard::Public).unwrap_err().exit(), Exit::NotTrusted);
    chmod(&path, 0o600);
    assert_eq!(**read_private(&dir, "key").unwrap().unwrap(), *b"secret");

    symlink(&path, dir.join("link")).unwrap();
    assert_eq!(read_private(&dir, "link").unwrap_err().exit(), Exit::NotTrusted);
    fs::create_dir(dir.join("dir")).unwrap();
    assert_eq!(read_private(&dir, "dir").unwrap_err().exit(), Exit::NotTrusted);
    rustix::fs::mkfifoat(&dir.fd, "fifo", Mode::RUSR | Mode::WUSR).unwrap();
    assert_eq!(read_private(&dir, "fifo").unwrap_err().exit(), Exit::NotTrusted);
    File::create(dir.join("big")).unwrap().set_len(MAX_FILE_LEN + 1).unwrap();
    chmod(&dir.join("big"), 0o600);
    assert_eq!(read_private(&dir, "big").unwrap_err().exit(), Exit::Failed);
    for name in ["", ".", "..", "../key", "/etc/passwd", "a/b", "key/"] {
        assert!(read_private(&dir, name).is_err(), "{name}");
    }
}

#[test]
fn a_replaced_file_is_private_whatever_it_was() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    assert_eq!(stamp(&dir, "state").unwrap(), None);
    fs::write(dir.join("state"), "old").unwrap();
    chmod(&dir.join("state"), 0o666);
    let before = stamp(&dir, "state").unwrap();
    replace(&dir, &held, "state", b"new").unwrap();
    assert_ne!(stamp(&dir, "state").unwrap(), before);
    assert_eq!(**read_private(&dir, "state").unwrap().unwrap(), *b"new");
    assert_eq!(mode(&dir.join("state")), 0o600);
    assert!(create_to_append(&dir, &held, "journal").unwrap().is_some() && listen(&dir, "bell").unwrap().is_some());
    assert_eq!(["journal", "bell", "lock"].map(|name| mode(&dir.join(name))), [0o600; 3]);
    assert_eq!(dir.names().unwrap(), ["bell", "journal", "lock", "state"]);
    assert!(remove(&dir, "state").unwrap());
    assert!(!remove(&dir, "state").unwrap());
}

#[test]
fn what_a_crash_left_is_neither_seen_nor_in_the_way() {
    let (home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    let elsewhere = home.path().join("elsewhere");
    fs::write(&elsewhere, "kept").unwrap();
    symlink(&elsewhere, dir.join("state.new")).unwrap();
    assert_eq!(dir.names().unwrap(), ["lock"]);
    replace(&dir, &held, "state", b"whole").unwrap();
    assert_eq!(**read_private(&dir, "state").unwrap().unwrap(), *b"whole");
    assert_eq!(fs::read(&elsewhere).unwrap(), b"kept");
    assert!(!dir.join("state.new").exists());
}

#[test]
fn a_failed_replacement_leaves_the_old_file() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    replace(&dir, &held, "state", b"old").unwrap();
    fs::create_dir(dir.join("state.new")).unwrap();
    let err = replace(&dir, &held, "state", b"new").unwrap_err();
    assert_eq!(err.exit(), Exit::Failed);
    assert!(err.to_string().contains("/state: "), "{err}");
    assert_eq!(**read_private(&dir, "state").unwrap().unwrap(), *b"old");
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    // A file system of 16 KiB in a mount namespace of its own; the test below runs in it.
    let script = r#"mount -t tmpfs -o size=16k,mode=700 sts "$1" && STS_TEST_FULL="$1" exec "$2" --exact files::tests::on_the_small_disk --ignored"#;
    let place = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let sandbox = ["-rm", "sh", "-c"];
    let mut probe = Command::new("unshare");
    probe.args(sandbox).args(["mount -t tmpfs sts \"$1\"", "sh"]).arg(place.path());
    if !probe.output().is_ok_and(|out| out.status.success()) {
        return; // Without user namespaces there is no small disk to fill.
    }
    let run = Command::new("unshare").args(sandbox).args([script, "sh"]).arg(place.path()).arg(exe).output().unwrap();
    let text = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "a_full_disk_leaves_the_old_file runs it on a small file system"]
fn on_the_small_disk() {
    let place = std::env::var_os("STS_TEST_FULL").unwrap();
    let dir = Dir::open(Path::new(&place), Guard::Private).unwrap().unwrap();
    let held = lock(&dir, "lock").unwrap();
    replace(&dir, &held, "state", b"old").unwrap();
    let err = replace(&dir, &held, "state", &vec![0; 100_000]).unwrap_err();
    assert!(err.to_string().contains("No space left"), "{err}");
    assert_eq!(**read_private(&dir, "state").unwrap().unwrap(), *b"old");
    assert!(!dir.join("state.new").exists());
    replace(&dir, &held, "state", &[1; 4000]).unwrap();
    let old = stamp(&dir, "state").unwrap().unwrap();
    let err = append_line(&dir, &held, "state", &old, &"long".repeat(10_000)).unwrap_err();
    assert!(err.to_string().contains("No space left"), "{err}");
    assert_eq!(fs::read(dir.join("state")).unwrap(), [1; 4000]);
}

#[test]
fn creation_is_exclusive() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    assert!(create(&dir, &held, "key", b"first").unwrap());
    assert!(!create(&dir, &held, "key", b"second").unwrap());
    assert_eq!(**read_private(&dir, "key").unwrap().unwrap(), *b"first");
    assert_eq!(dir.names().unwrap(), ["key", "lock"]);
}

#[test]
fn a_line_is_appended_or_the_file_must_be_replaced() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    let now = || stamp(&dir, "list").unwrap().unwrap();
    replace(&dir, &held, "list", b"one\n").unwrap();
    let old = now();
    assert_eq!(append_line(&dir, &held, "list", &old, "two\n").unwrap(), Some(now()));
    assert_eq!(fs::read(dir.join("list")).unwrap(), b"one\ntwo\n");
    assert_eq!(append_line(&dir, &held, "list", &old, "three\n").unwrap(), None, "it was changed");
    fs::hard_link(dir.join("list"), dir.join("copy")).unwrap();
    assert_eq!(append_line(&dir, &held, "list", &now(), "three\n").unwrap(), None, "it has another name");
    symlink("list", dir.join("link")).unwrap();
    assert_eq!(append_line(&dir, &held, "link", &now(), "three\n").unwrap(), None);
    assert_eq!(append_line(&dir, &held, "absent", &now(), "three\n").unwrap(), None);
    fs::remove_file(dir.join("copy")).unwrap();
    chmod(&dir.join("list"), 0o622);
    assert_eq!(append_line(&dir, &held, "list", &now(), "three\n").unwrap_err().exit(), Exit::NotTrusted);
    assert_eq!(fs::read(dir.join("list")).unwrap(), b"one\ntwo\n");
}

#[test]
fn what_is_appended_is_whole_and_stays() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    assert_eq!(open_to_append(&dir, &held, "journal").unwrap_err().exit(), Exit::Failed, "it must exist");
    replace(&dir, &held, "journal", b"one\n").unwrap();
    let mut journal = open_to_append(&dir, &held, "journal").unwrap();
    journal.append(b"two\n").unwrap();
    assert_eq!(journal.size(), 8);
    assert_eq!(**read_private(&dir, "journal").unwrap().unwrap(), *b"one\ntwo\n");
    assert_eq!(read_up_to(&dir, "journal", Guard::Private, 7).unwrap_err().exit(), Exit::Failed);
    chmod(&dir.join("journal"), 0o622);
    assert_eq!(open_to_append(&dir, &held, "journal").unwrap_err().exit(), Exit::NotTrusted);
    symlink(dir.join("lock"), dir.join("link")).unwrap();
    assert!(open_to_append(&dir, &held, "link").is_err());
}

#[test]
fn a_stamp_settles() {
    // Before the directory is made: this thread may wait for a processor at any moment after it.
    let start = SystemTime::now();
    let (_home, dir) = home();
    let before = dir_stamp(&dir).unwrap();
    assert!(!before.is_stable(start));
    assert!(before.is_stable(SystemTime::now() + Duration::from_secs(1)));
    assert!(!before.is_stable(UNIX_EPOCH));
    // In the tick of the clock in which it was made, it keeps its stamp.
    let mut number = 0;
    while dir_stamp(&dir).unwrap() == before {
        lock(&dir, &format!("new{number}")).unwrap();
        number += 1;
    }
}

#[test]
fn a_lock_excludes_and_is_given_back() {
    let (_home, dir) = home();
    let held = lock(&dir, "lock").unwrap();
    assert!(try_lock(&dir, "lock").unwrap().is_none());
    assert!(try_lock(&dir, "other").unwrap().is_some());
    let second = Dir::open(dir.path(), Guard::Private).unwrap().unwrap();
    let (tell, told) = mpsc::channel();
    let waiter = std::thread::spawn(move || {
        let _held = lock(&second, "lock").unwrap();
        tell.send(()).unwrap();
    });
    assert!(told.recv_timeout(Duration::from_millis(50)).is_err());
    drop(held);
    told.recv_timeout(Duration::from_secs(5)).unwrap();
    waiter.join().unwrap();
    assert!(try_lock(&dir, "lock").unwrap().is_some());
    chmod(&dir.join("lock"), 0o644);
    assert_eq!(lock(&dir, "lock").unwrap_err().exit(), Exit::NotTrusted);
}

#[test]
fn errors_show_no_control_characters() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("a\u{1b}[31m\nb");
    fs::create_dir(&file).unwrap();
    chmod(&file, 0o755);
    let err = Dir::open(&file, Guard::Private).unwrap_err();
    assert!(!err.to_string().contains(char::is_control), "{err}");
    assert!(!err.hint_text().unwrap().contains(char::is_control));
}

/// A group that somebody else is in.
fn shared_group() -> u32 {
    let passwd = fs::read_to_string("/etc/passwd").unwrap();
    let mut groups = passwd.lines().filter_map(|line| line.split(':').nth(3)?.parse().ok());
    groups.find(|group| !users::is_group_of(users::us(), *group)).expect("another user than this one and root")
}

/// Checks what has no access control list.
fn check(path: &Path, stat: &rustix::fs::Stat, guard: Guard, us: u32) -> crate::Result<()> {
    super::check::check(path, stat, &Grants::by_mode(stat), guard, us)
}

/// What is said of a file or a directory of this user, in a group that somebody else is in.
fn stat_of(path: &Path, mode: u32) -> rustix::fs::Stat {
    let mut stat = rustix::fs::stat(path).unwrap();
    stat.st_mode = (stat.st_mode & !0o7777) | mode;
    stat.st_gid = shared_group();
    stat
}

#[test]
fn no_permission_of_others_passes_where_nobody_else_may_use_it() {
    let (_home, dir) = home();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [&*file, dir.path()] {
        for guard in [Guard::Private, Guard::Secret] {
            let passes = |mode| check(path, &stat_of(path, mode), guard, users::us()).is_ok();
            assert!(passes(0o700) && passes(0o600) && passes(0o400) && passes(0o1700), "{guard:?}");
            for others in (0..6).map(|bit| 1 << bit) {
                assert!(!passes(0o600 | others) && !passes(0o400 | others), "{guard:?}: {others:o}");
            }
        }
        let passes = |mode| check(path, &stat_of(path, mode), Guard::Public, users::us()).is_ok();
        assert!(passes(0o755) && passes(0o444));
        assert!(!passes(0o020) && !passes(0o002) && !passes(0o777));
        // In a sticky directory others can touch nothing of ours; a file knows no such thing.
        assert_eq!(passes(0o1777), path == dir.path());
    }
}

#[test]
fn what_is_another_users_passes_nowhere_and_roots_where_it_may_be_put_in_place() {
    let (_home, dir) = home();
    for (owner, guard, passes) in [
        (4242, Guard::Private, true),
        (0, Guard::Private, false),
        (0, Guard::Secret, true),
        (0, Guard::Public, true),
        (4243, Guard::Private, false),
        (4243, Guard::Secret, false),
        (4243, Guard::Public, false),
    ] {
        let mut stat = stat_of(dir.path(), 0o700);
        stat.st_uid = owner;
        assert_eq!(check(dir.path(), &stat, guard, 4242).is_ok(), passes, "{owner} {guard:?}");
    }
}

/// Of a container's secret, which nobody can write, a group may read in which nobody else is.
#[test]
fn a_secret_may_be_read_by_a_group_of_its_own_if_nobody_can_write_it() {
    let (_home, dir) = home();
    let file = dir.path().join("secret");
    fs::write(&file, "").unwrap();
    let ours = rustix::process::getgid().as_raw();
    let (alone, shared) = (users::is_group_of(users::us(), ours), shared_group());
    for (mode, group, passes) in
        [(0o440, ours, alone), (0o640, ours, false), (0o460, ours, false), (0o444, ours, false), (0o440, shared, false)]
    {
        let mut stat = stat_of(&file, mode);
        stat.st_gid = group;
        assert_eq!(check(&file, &stat, Guard::Secret, users::us()).is_ok(), passes, "{mode:o} {group}");
        assert!(check(&file, &stat, Guard::Private, users::us()).is_err(), "{mode:o}");
    }
    for (mode, exposed) in [(0o600, false), (0o400, false), (0o604, true), (0o640, true), (0o440, !alone)] {
        chmod(&file, mode);
        assert_eq!(is_exposed(&file), exposed, "{mode:o}");
    }
    assert!(!is_exposed(&dir.path().join("absent")));
}

#[test]
fn who_can_write_a_directory_can_change_what_it_leads_to() {
    let (_home, dir) = home();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let (ours, shared) = (rustix::process::getgid().as_raw(), shared_group());
    for (path, mode, group, changes) in [
        (dir.path(), 0o755, shared, false),
        (dir.path(), 0o775, shared, true),
        (dir.path(), 0o775, ours, !users::is_group_of(users::us(), ours)),
        (dir.path(), 0o757, ours, true),
        (dir.path(), 0o777, ours, true),
        (dir.path(), 0o1777, shared, false),
        (&file, 0o666, shared, false),
    ] {
        let mut stat = stat_of(path, mode);
        stat.st_gid = group;
        assert_eq!(can_be_changed(&stat, &Grants::by_mode(&stat), users::us()), changes, "{mode:o} {group}");
    }
}

/// A credential of systemd is root's, and its list lets one user read it: its mode is then that of a file that a group may read.
/// The list of a directory may let a user write it whose group is not that of the directory.
#[test]
fn a_file_or_directory_with_an_access_control_list_is_judged_by_it() {
    let (_home, dir) = home();
    let (file, us) = (dir.path().join("secret"), users::us());
    fs::write(&file, "").unwrap();
    let list = |user: u32, permissions: u8, own_group: u8| -> Option<()> {
        let entries = [(1, 6, !0), (2, permissions, user), (4, own_group, !0), (16, permissions, !0), (32, 0, !0)];
        let entry =
            |(tag, permissions, id): &(u8, u8, u32)| [&[*tag, 0, *permissions, 0], &id.to_le_bytes()[..]].concat();
        let list = [vec![2, 0, 0, 0], entries.iter().flat_map(entry).collect()].concat();
        let set =
            |path: &Path| rustix::fs::setxattr(path, "system.posix_acl_access", &list, rustix::fs::XattrFlags::empty());
        // A file system without such lists has none to judge.
        set(&file).and_then(|()| set(dir.path())).ok()
    };
    for (user, own_group, passes) in [(us, 0, true), (us + 1, 0, false), (us, 4, users::is_group_of(us, 0))] {
        if list(user, 4, own_group).is_none() {
            return;
        }
        let fd = File::open(&file).unwrap();
        let mut stat = rustix::fs::fstat(&fd).unwrap();
        (stat.st_mode, stat.st_gid) = (stat.st_mode & !0o777 | 0o440, 0);
        let grants = Grants::of(&fd, &stat);
        let judged = super::check::check(&file, &stat, &grants, Guard::Secret, us);
        assert_eq!(judged.is_ok(), passes, "{user} {own_group}");
        assert!(super::check::check(&file, &stat, &grants, Guard::Private, us).is_err());
    }
    for (user, changes) in [(us, false), (us + 1, true)] {
        list(user, 7, 0).unwrap();
        let stat = rustix::fs::stat(dir.path()).unwrap();
        assert_eq!(can_be_changed(&stat, &Grants::at(dir.path(), &stat), us), changes, "{user}");
    }
}

/// A buffer that grew would have left a copy of a key in memory that is not wiped.
#[test]
fn a_file_is_read_into_one_buffer_and_no_further_than_allowed() {
    let (_home, dir) = home();
    let path = dir.path().join("key");
    fs::write(&path, [7; 100]).unwrap();
    chmod(&path, 0o600);
    assert_eq!(read_private(&dir, "key").unwrap().unwrap().capacity(), 101);
    // Of what another process hands over, the length is not known before.
    let file = File::open(&path).unwrap();
    let handed_over = format!("/dev/fd/{}", file.as_raw_fd());
    for (path, max, fits) in [(&*path, 100, true), (&path, 99, false), (handed_over.as_ref(), 100, true)]
        .into_iter()
        .chain([99, 98, 50].map(|max| (handed_over.as_ref(), max, false)))
    {
        assert_eq!(read_path(path, max).is_ok(), fits, "{} {max}", path.display());
    }
}
