//! Claim: no stream number is given twice, whichever process is killed at whichever step, and however full the disk is.
//!
//! These tests run this test program anew, in the role that is named in the environment.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command};

use super::*;

const ROLE: &str = "STS_TEST_ROLE";
const PLACE: &str = "STS_TEST_PLACE";

/// A command that runs one of the tests below as a child, `before` it the words of another program.
fn child(role: &str, place: &Path, before: &[&str]) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut words = before.iter().map(OsStr::new).chain([exe.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--exact", "cache::tests::crash::in_a_child", "--ignored", "--test-threads=1"]);
    command.env(ROLE, role).env(PLACE, place).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command
}

/// Takes a number, and appends it to `used` as the proof that it was used.
fn take_and_use(place: &Path) {
    use std::io::Write as _;
    let cache = Cache::open(&place.join("sts"), &link("gateway"), "gateway").unwrap();
    let taken = cache.reserve_stream(&session(1).peer, &session(1).id).unwrap();
    let mut used = fs::OpenOptions::new().append(true).create(true).open(place.join("used")).unwrap();
    used.write_all(format!("{}\n", taken.id().number).as_bytes()).unwrap();
}

fn used(place: &Path) -> Vec<u32> {
    let text = fs::read_to_string(place.join("used")).unwrap_or_default();
    text.lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
#[ignore = "the tests below run it in a child"]
fn in_a_child() {
    let place = std::env::var_os(PLACE).map(PathBuf::from).unwrap();
    match std::env::var(ROLE).unwrap().as_str() {
        "take" => take_and_use(&place),
        "take many" => std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..25).for_each(|_| take_and_use(&place)));
            }
        }),
        "fill the disk" => fill_the_disk(&place),
        role => panic!("no role {role}"),
    }
}

#[test]
fn processes_and_threads_take_different_numbers() {
    let (home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let children: Vec<Child> = (0..4).map(|_| child("take many", home.path(), &[]).spawn().unwrap()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let used = used(home.path());
    assert_eq!((used.len(), used.iter().collect::<BTreeSet<_>>().len()), (400, 400));
    assert_eq!(cache.load().unwrap()[0].streams, 400);
}

#[test]
fn killed_at_any_step_no_number_is_given_twice() {
    let trace = Command::new("strace").arg("-V").output();
    assert!(trace.is_ok_and(|out| out.status.success()), "this test needs strace: apt-get install strace");
    let (home, cache) = cache();
    cache.store_current(&session(1), NOW).unwrap();
    let file = cache.dir().join(&cache.name(&session(1).peer));
    let paths = [
        cache.dir().path().to_owned(),
        file.with_file_name("gateway@lock"),
        file.with_file_name(format!("{}.new", cache.name(&session(1).peer))),
        file,
    ];
    let mut given = 0;
    let mut kills = 0;
    for call in ["openat", "fstat,newfstatat,statx", "flock", "read", "write", "fsync", "renameat,renameat2", "close"] {
        for when in 1.. {
            let inject = format!("inject={call}:signal=SIGKILL:when={when}");
            let trace = format!("trace={call}");
            let mut before = vec!["strace", "-f", "-o", "/dev/null", "-e", &trace, "-e", &inject];
            before.extend(paths.iter().flat_map(|path| ["-P", path.to_str().unwrap()]));
            let survived = child("take", home.path(), &before).status().unwrap().success();
            let stored = cache.load().unwrap();
            assert_eq!(stored.len(), 1, "the file is whole");
            let used = used(home.path());
            assert_eq!(used.len(), used.iter().collect::<BTreeSet<_>>().len(), "{call} {when}: {used:?}");
            assert!(used.iter().all(|number| u64::from(*number) < stored[0].streams), "{call} {when}");
            assert!(stored[0].streams >= given, "{call} {when}: numbers go up only");
            given = stored[0].streams;
            if survived {
                assert!(when > 1, "{call} is a step of taking a number");
                break;
            }
            kills += 1;
        }
    }
    assert!(kills >= 10, "only {kills} steps");
    take_and_use(home.path());
    assert_eq!(used(home.path()).last().copied().map(u64::from), Some(given));
}

#[test]
fn a_full_disk_takes_nothing_away() {
    let home = tempfile::tempdir().unwrap();
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|out| out.status.success()) {
        return; // Without user namespaces there is no small disk to fill.
    }
    let script = r#"mount -t tmpfs -o size=64k,mode=700 sts "$0" && exec "$@""#;
    let mount = ["unshare", "-rm", "sh", "-c", script, home.path().to_str().unwrap()];
    assert!(child("fill the disk", home.path(), &mount).status().unwrap().success());
}

fn fill_the_disk(place: &Path) {
    let cache = Cache::create(&place.join("sts"), &link("gateway"), "gateway").unwrap();
    let session = session(1);
    cache.store_current(&session, NOW).unwrap();
    let (mut journal, _) = receive(&cache).unwrap();
    journal.record_and_mark(&cache, &[progress(session.id, 0, 1, StreamState::Open)], NOW).unwrap();
    let before = cache.load().unwrap();
    // To the last byte.
    assert!(fs::write(place.join("filler"), vec![0; 100_000]).is_err());
    for err in [
        cache.reserve_stream(&session.peer, &session.id).unwrap_err(),
        cache.store_current(&pair(2, Suite::Cbc).0, NOW).unwrap_err(),
    ] {
        assert!(err.to_string().contains("No space left"), "{err}");
    }
    assert_eq!(cache.load().unwrap(), before);
    let (mut next, mut state) = (2, journal.state().clone());
    let err = loop {
        match journal.record_and_mark(&cache, &[progress(session.id, 0, next, StreamState::Open)], NOW) {
            Ok(()) => (next, state) = (next + 1, journal.state().clone()),
            Err(err) => break err,
        }
    };
    assert!(err.to_string().contains("gateway@recv"), "{err}");
    assert_eq!(ReceiveState::read(&cache).unwrap(), Some(state), "a line that did not fit leaves nothing of itself");
    fs::remove_file(place.join("filler")).unwrap();
    journal.record_and_mark(&cache, &[progress(session.id, 0, next, StreamState::Ended)], NOW).unwrap();
    assert_eq!(ReceiveState::read(&cache).unwrap().as_ref(), Some(journal.state()));
    assert_eq!(cache.reserve_stream(&session.peer, &session.id).unwrap().id().number, 0);
}
