//! Whose a file or directory is, checked on the open descriptor; and the errors of this room.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FileType, Stat};

use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// What users other than us may do with a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing: it is ours, mode 0600 (a directory 0700, and not a link).
    Private,
    /// Read it: it is ours or root's, and nobody else can write it.
    Public,
}

pub(super) fn failed(verb: &str, path: &Path, err: impl Into<io::Error>) -> Error {
    Error::new(Exit::Failed, format!("cannot {verb} {}", show(path))).because(err.into())
}

pub(super) fn file_name(name: &str) -> Result<&str> {
    // Names are made from links and fingerprints; one that is a path must not lead out of the directory.
    if Path::new(name).file_name() == Some(OsStr::new(name)) {
        return Ok(name);
    }
    Err(Error::new(Exit::Failed, format!("`{}`", name.escape_default())).because("not a file name"))
}

pub(super) fn check(path: &Path, stat: &Stat, guard: Guard) -> Result<()> {
    let us = rustix::process::geteuid().as_raw();
    let distrust = |why: String| Error::new(Exit::NotTrusted, show(path)).because(why);
    if stat.st_uid != us && !(guard == Guard::Public && stat.st_uid == 0) {
        return Err(distrust(format!("belongs to user {}, not to us (user {us})", stat.st_uid))
            .hint(format!("chown {us} {}", quote(path))));
    }
    let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    let (forbidden, ability, remedy) = match (guard, directory) {
        (Guard::Private, true) => (0o077, "enter", "700"),
        (Guard::Private, false) => (0o077, "use", "600"),
        (Guard::Public, _) => (0o022, "write", "go-w"),
    };
    if stat.st_mode & forbidden != 0 {
        return Err(distrust(format!("others can {ability} it (mode {:04o})", stat.st_mode & 0o7777))
            .hint(format!("chmod {remedy} {}", quote(path))));
    }
    Ok(())
}

pub(super) fn check_file(fd: &OwnedFd, path: &Path, guard: Guard) -> Result<Stat> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| failed("examine", path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(Exit::NotTrusted, show(path)).because("not a plain file"));
    }
    check(path, &stat, guard)?;
    Ok(stat)
}
