//! Whose a file or directory is, checked on the open descriptor; and the errors of this room.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{FileType, Stat};
use rustix::io::Errno;

use super::acl::{Grants, READ, WRITE};
use super::users;
use crate::error::Lack;
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// What users other than us may do with a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing: it is ours, mode 0600 (a directory 0700, and not a link).
    Private,
    /// Nothing, as [`Guard::Private`]; but it may have been put in place by root, such as a container's secret. If nobody can
    /// write it, a group may read it in which nobody else is, and we may be granted it by name (acl(5)).
    Secret,
    /// Read it: it is ours or root's, and nobody else can write it.
    Public,
}

pub(super) fn failed(verb: &str, path: &Path, err: impl Into<io::Error>) -> Error {
    let err = err.into();
    let error = Error::new(Exit::Failed, format!("cannot {verb} {}", show(path))).because(&err).for_lack_of(lack(&err));
    error.hint_if(file_of_other(path, &err, users::us()).or_else(|| size_limit(&err)))
}

/// What to do where a file may not grow. This is no full disk: waiting does not help.
fn size_limit(err: &io::Error) -> Option<String> {
    let is_limited = err.kind() == io::ErrorKind::FileTooLarge;
    is_limited.then(|| "raise the limit on the size of files: ulimit -f, or LimitFSIZE= of a service".to_owned())
}

/// What to do about a file of another user that cannot be opened: most often root has put it in the place of a service's.
fn file_of_other(path: &Path, err: &io::Error, us: u32) -> Option<String> {
    // What root cannot open, a sandbox denies.
    if err.kind() != io::ErrorKind::PermissionDenied || us == 0 {
        return None;
    }
    let owner = path.symlink_metadata().ok().filter(|found| found.is_file() && found.uid() != us)?.uid();
    Some(format!("it belongs to user {}; {}", users::user_name(owner), give_to(us, path)?))
}

/// How root gives a file to this user; `None` for a link: chown follows it, and this user may have made it, to any file.
fn give_to(us: u32, path: &Path) -> Option<String> {
    let is_link = path.symlink_metadata().ok()?.is_symlink();
    (!is_link).then(|| format!("to give it to this user, as root: chown {} {}", users::user_name(us), quote(path)))
}

/// What the machine lacked, as far as the system says so.
fn lack(err: &io::Error) -> Option<Lack> {
    const SYSTEM: [Errno; 6] = [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::STALE];
    if is_disk_full(err) {
        return Some(Lack::Disk);
    }
    Errno::from_io_error(err).filter(|errno| SYSTEM.contains(errno)).map(|_| Lack::System)
}

/// Whether the disk or a quota has no room for something.
pub(super) fn is_disk_full(err: &io::Error) -> bool {
    use io::ErrorKind::{QuotaExceeded, StorageFull, WriteZero};
    matches!(err.kind(), QuotaExceeded | StorageFull | WriteZero)
}

/// The error of opening a file of ours that must not be a link.
pub(super) fn not_opened(path: &Path, errno: Errno) -> Error {
    if errno != Errno::LOOP {
        return failed("open", path, errno);
    }
    Error::new(Exit::NotTrusted, show(path))
        .because("it is a link, and links are not followed here")
        .hint(format!("remove the link: rm {}", quote(path)))
}

pub(super) fn file_name(name: &str) -> Result<&str> {
    // Names are made from links and fingerprints; one that is a path must not lead out of the directory.
    if !name.contains('/') && !["", ".", ".."].contains(&name) {
        return Ok(name);
    }
    Err(Error::new(Exit::Failed, format!("`{}`", name.escape_default())).because("not a file name"))
}

/// The error of a file or directory that belongs to another user than `us`.
pub(super) fn belongs_to_other(path: &Path, owner: u32, us: u32) -> Error {
    let (theirs, ours) = (users::user_name(owner), users::user_name(us));
    let hint = match (us, give_to(us, path)) {
        // A service's: given to root, the service could not use it any more.
        (0, _) => users::run_as(owner),
        (_, Some(give_to)) => format!("run this as that user; or, {give_to}"),
        (_, None) => "run this as that user".to_owned(),
    };
    Error::new(Exit::NotTrusted, show(path))
        .because(format!("it belongs to user {theirs}, not to this user ({ours})"))
        .hint(hint)
}

/// Checks what belongs to the user `us`.
pub(super) fn check(path: &Path, stat: &Stat, grants: &Grants, guard: Guard, us: u32) -> Result<()> {
    if stat.st_uid != us && (guard == Guard::Private || stat.st_uid != 0) {
        return Err(belongs_to_other(path, stat.st_uid, us));
    }
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let (forbidden, ability, remedy) = match (guard, directory) {
        (Guard::Private | Guard::Secret, true) => (0o077, "enter", "700"),
        (Guard::Secret, false) if !others_can_read(stat.st_mode, grants, us) => (0o037, "use", "600"),
        (Guard::Private | Guard::Secret, false) => (0o077, "use", "600"),
        // In a sticky directory others can make files of their own, and touch none of ours.
        (Guard::Public, true) if stat.st_mode & 0o1000 != 0 => (0, "write", "go-w"),
        (Guard::Public, _) => (0o022, "write", "go-w"),
    };
    if stat.st_mode & forbidden != 0 {
        return Err(Error::new(Exit::NotTrusted, show(path))
            .because(format!("other users can {ability} it (mode {:04o})", stat.st_mode & 0o7777))
            .hint(format!("chmod {remedy} {}", quote(path))));
    }
    Ok(())
}

/// Whether others than the user `us` and root can change what a directory or a link leads to. In a sticky directory they can
/// replace nothing that is not theirs. A group in which nobody else is counts as this user: with a umask of 002 and a group for
/// each user, as some systems have them, every directory of a user has such a mode.
pub(super) fn can_be_changed(stat: &Stat, grants: &Grants, us: u32) -> bool {
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let is_open = || stat.st_mode & 0o002 != 0 || (stat.st_mode & 0o020 != 0 && grants.reach_others(WRITE, us));
    directory && stat.st_mode & 0o1000 == 0 && is_open()
}

/// Whether others than the user `us` and root can read a file of this mode. A group in which nobody else is, and what is granted
/// to this user by name, count as this user if nobody can write the file: such a mode was chosen, as for a container's secrets.
pub(super) fn others_can_read(mode: u32, grants: &Grants, us: u32) -> bool {
    mode & 0o004 != 0 || (mode & 0o040 != 0 && (mode & 0o222 != 0 || grants.reach_others(READ, us)))
}

/// Whether others than this user and root can read the file at a path; false where it cannot be examined.
pub(crate) fn is_exposed(path: &Path) -> bool {
    let others_can = |stat: Stat| others_can_read(stat.st_mode, &Grants::at(path, &stat), users::us());
    rustix::fs::stat(path).is_ok_and(others_can)
}

/// Checks a file in a directory of the user `us`, to whom it must belong, too.
pub(super) fn check_file(us: u32, fd: &OwnedFd, path: &Path, guard: Guard) -> Result<Stat> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| failed("examine", path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(Exit::NotTrusted, show(path)).because("not a regular file"));
    }
    check(path, &stat, &Grants::of(fd, &stat), guard, us)?;
    Ok(stat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_give_away_what_a_link_leads_to() {
        let home = tempfile::tempdir().unwrap();
        let (file, link) = (home.path().join("file"), home.path().join("link"));
        std::fs::write(&file, "").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let (owner, us) = (users::us(), 12_345);
        let hint_of = |path| belongs_to_other(path, owner, us).hint_text().unwrap().to_owned();
        assert!(hint_of(&file).ends_with(&format!("as root: chown 12345 {}", file.display())), "{}", hint_of(&file));
        assert_eq!(hint_of(&link), "run this as that user");
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let hint = file_of_other(&file, &denied, us).unwrap();
        assert!(hint.starts_with("it belongs to user ") && hint.contains("chown 12345 "), "{hint}");
        assert_eq!(file_of_other(&link, &denied, us), None);
        assert_eq!(file_of_other(&file, &denied, owner), None);
        assert_eq!(file_of_other(&file, &denied, 0), None, "root may use it");
        assert_eq!(file_of_other(&file, &io::ErrorKind::NotFound.into(), us), None);
        assert_eq!(file_of_other(home.path(), &denied, us), None);
    }

    #[test]
    fn an_error_says_whether_the_disk_or_the_system_lacked_something() {
        let lack = |errno: Errno| failed("write", Path::new("file"), errno).lack();
        for errno in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(lack(errno), Some(Lack::Disk), "{errno}");
        }
        for errno in [Errno::IO, Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::STALE] {
            assert_eq!(lack(errno), Some(Lack::System), "{errno}");
        }
        for errno in [Errno::NOENT, Errno::ACCESS, Errno::ISDIR, Errno::FBIG] {
            assert_eq!(lack(errno), None, "{errno}");
        }
        let hint = |errno: Errno| failed("write", Path::new("file"), errno).hint_text().map(str::to_owned);
        assert!(hint(Errno::FBIG).is_some_and(|hint| hint.contains("ulimit -f")) && hint(Errno::NOSPC).is_none());
    }
}
