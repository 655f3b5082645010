//! What the system's resolver reads, which the system may keep anywhere.
//!
//! Nearly all of it is in [`SYSTEM`](super::SYSTEM). But a distribution or a network manager makes `/etc/resolv.conf` a link to a
//! file elsewhere, which is perhaps made only once the network is up, after the tools have started.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::places_of;

/// The files, each of which may be a link.
const FILES: [&str; 5] = ["/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/host.conf", "/etc/gai.conf"];

/// The directories of what the resolver reads, where each of its files leads now.
pub(super) fn places() -> impl Iterator<Item = PathBuf> {
    FILES.iter().flat_map(|file| existing_places_of(Path::new(file)))
}

/// The directories of a file and of the links that lead to it. In place of one that is absent, the nearest one around it, in which
/// it will be made; never the root directory.
fn existing_places_of(path: &Path) -> BTreeSet<PathBuf> {
    let nearest = |place: PathBuf| place.ancestors().find(|path| path.exists()).map(Path::to_path_buf);
    places_of(path).into_iter().filter_map(nearest).filter(|place| place.parent().is_some()).collect()
}

/// What to do where a name could not be looked up since the sandbox hides a file of the resolver; `None` if it hides none.
pub(crate) fn hint_of_hidden_file() -> Option<String> {
    FILES.into_iter().find(|file| is_hidden(Path::new(file))).map(|file| {
        format!("{file} leads where this run's sandbox does not let it read: restart it; if that does not help, --no-sandbox")
    })
}

/// Whether a file cannot be read although its mode allows it, which is all that access(2) looks at.
fn is_hidden(path: &Path) -> bool {
    let is_denied = || File::open(path).is_err_and(|err| err.kind() == ErrorKind::PermissionDenied);
    rustix::fs::access(path, Access::READ_OK).is_ok() && is_denied()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn where_the_resolver_reads_is_allowed_even_before_it_is_made() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let [etc, run] = ["etc", "run"].map(|name| home.join(name));
        for dir in [&etc, &run] {
            fs::create_dir(dir).unwrap();
        }
        let lead = |target: &str| {
            let _ = fs::remove_file(etc.join("resolv.conf"));
            symlink(target, etc.join("resolv.conf")).unwrap();
            existing_places_of(&etc.join("resolv.conf"))
        };
        let later = [etc.clone(), run.clone()].into();
        assert_eq!(lead("../run/netconfig/resolv.conf"), later, "made later, in that directory");
        fs::create_dir(run.join("netconfig")).unwrap();
        assert_eq!(lead("../run/netconfig/resolv.conf"), [etc.clone(), run.join("netconfig")].into());
        // A second link on the way may be replaced, too.
        fs::create_dir(run.join("connman")).unwrap();
        symlink(run.join("connman/resolv.conf"), run.join("resolv.conf")).unwrap();
        let all = [etc.clone(), run.clone(), run.join("connman")].into();
        assert_eq!(lead(run.join("resolv.conf").to_str().unwrap()), all);
        assert_eq!(lead("/absent.of.sts/resolv.conf"), [etc.clone()].into(), "never the whole file system");
        assert!(!is_hidden(&etc.join("resolv.conf")) && !is_hidden(Path::new("/etc/passwd")));
    }
}
