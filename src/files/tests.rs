//! Claim: a file of ours is read only if it is ours alone, and is replaced whole or not at all.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::Mode;

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
    assert_eq!(dir.names().unwrap(), ["lock", "state"]);
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
    let (_home, dir) = home();
    let before = dir_stamp(&dir).unwrap();
    assert!(!before.is_stable(SystemTime::now()));
    assert!(before.is_stable(SystemTime::now() + Duration::from_secs(1)));
    assert!(!before.is_stable(UNIX_EPOCH));
    std::thread::sleep(Duration::from_millis(50));
    lock(&dir, "new").unwrap();
    assert_ne!(dir_stamp(&dir).unwrap(), before);
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
