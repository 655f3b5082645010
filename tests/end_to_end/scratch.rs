//! Directories that are gone after their test; those of a run that was killed go when the next one begins.

use std::fs;
use std::path::Path;
use std::sync::Once;

use tempfile::TempDir;

/// What the names of all of them begin with; the id of the test's process follows.
const PREFIX: &str = "sts-test-";

/// A new directory. Its name says what it is for.
pub(crate) fn directory(purpose: &str) -> TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| remove_left_ones(&std::env::temp_dir()));
    let prefix = format!("{PREFIX}{}-{purpose}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir().unwrap()
}

/// Removes the directories whose process runs no more: nothing in it could remove them when it was killed.
fn remove_left_ones(place: &Path) {
    for entry in fs::read_dir(place).unwrap().flatten() {
        let name = entry.file_name();
        let Some(process) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()) else {
            continue;
        };
        if !Path::new("/proc").join(process).exists() {
            // Another user's stays, and another run may be at it, too.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

#[test]
fn what_a_killed_run_left_is_removed_and_nothing_else() {
    let place = directory("place");
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    let path = |name: String| place.path().join(name);
    let left = path(format!("{PREFIX}{}-device-x", ended.id()));
    let kept = [path(format!("{PREFIX}{}-device-x", std::process::id())), path("sts-device-x".to_owned())];
    fs::create_dir_all(left.join("run")).unwrap();
    for path in &kept {
        fs::create_dir(path).unwrap();
    }
    remove_left_ones(place.path());
    assert!(!left.exists() && kept.iter().all(|path| path.exists()));
}
