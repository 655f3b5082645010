//! Files that must be ours: opened without following links, checked after opening, replaced whole or not at all.
//!
//! Everything secret or trusted on disk goes through here: the identity key, the known peers, the sessions. A check
//! is made on the open descriptor, never on a path, so that nothing can be swapped between the check and the use.
//! The rules are in `sts-protocol(7)`, "Session files".

use std::ffi::OsStr;
use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use crate::text::{quote, show};
use crate::{Error, Exit, Result};

mod appender;
mod random_access;
#[cfg(test)]
mod tests;

pub(crate) use self::appender::{Appender, create_to_append, open_to_append};
pub(crate) use self::random_access::{RandomAccessFile, open_in_place, open_to_read};

/// Largest file that is read, in bytes; every file of ours is far smaller, so a larger one is a mistake.
pub(crate) const MAX_FILE_LEN: u64 = 4 << 20;

/// What users other than us may do with a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Guard {
    /// Nothing: it is ours, mode 0600 (a directory 0700, and not a link).
    Private,
    /// Read it: it is ours or root's, and nobody else can write it.
    Public,
}

/// A directory that was opened and checked; files in it are named relative to the open descriptor.
#[derive(Debug)]
pub(crate) struct Dir {
    fd: OwnedFd,
    path: PathBuf,
}

impl Dir {
    /// Opens a directory that may be absent (`None`).
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where it is a link ([`Guard::Private`] only), another's, or of a looser mode than `guard`
    /// allows.
    pub(crate) fn open(path: &Path, guard: Guard) -> Result<Option<Self>> {
        // A trailing slash or dot would make O_NOFOLLOW follow: rebuilding the path drops them.
        let path: PathBuf = if path.as_os_str().is_empty() { ".".into() } else { path.components().collect() };
        let follow = if guard == Guard::Private { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::new(Exit::NotTrusted, show(&path)).because("not a directory, or a link to one"));
            }
            Err(errno) => return Err(failed("open", &path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("examine", &path, errno))?;
        check(&path, &stat, guard)?;
        Ok(Some(Self { fd, path }))
    }

    /// Opens a directory, made first where it is absent: it and its missing parents with mode 0700.
    ///
    /// # Errors
    /// As [`Dir::open`], and [`Exit::Failed`] where it cannot be made.
    pub(crate) fn create(path: &Path, guard: Guard) -> Result<Self> {
        if let Some(dir) = Self::open(path, guard)? {
            return Ok(dir);
        }
        // Another process may make it at the same moment: `recursive` takes that as success.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|err| failed("create", path, err))?;
        Self::open(path, guard)?.ok_or_else(|| failed("open", path, Errno::NOENT))
    }

    /// The path that it was opened by, for messages.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    #[must_use]
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in it that are UTF-8 (ours are), sorted; a temporary file that a crash left is not among them.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let fail = |errno| failed("read", &self.path, errno);
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd).map_err(fail)? {
            match entry.map_err(fail)?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) if name.ends_with(TEMPORARY) => {}
                Ok(name) => names.push(name.to_owned()),
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}

/// Reads a file that only we can read or write; `None` where it is absent.
///
/// # Errors
/// [`Exit::NotTrusted`] where it is not a plain file, another's, or of a looser mode than 0600; [`Exit::Failed`] where
/// it cannot be read or is longer than [`MAX_FILE_LEN`].
pub(crate) fn read_private(dir: &Dir, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    read(dir, name, Guard::Private)
}

/// Reads a file that others can do no more with than `guard` says; `None` where it is absent.
///
/// # Errors
/// As [`read_private`].
pub(crate) fn read(dir: &Dir, name: &str, guard: Guard) -> Result<Option<Zeroizing<Vec<u8>>>> {
    read_up_to(dir, name, guard, MAX_FILE_LEN)
}

/// Reads a file as [`read`] does, of at most `max` bytes.
///
/// # Errors
/// As [`read_private`], with `max` in place of [`MAX_FILE_LEN`].
pub(crate) fn read_up_to(dir: &Dir, name: &str, guard: Guard, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let path = dir.join(name);
    // Not waiting, so that a FIFO in the file's place is found out instead of waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = match rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(Error::new(Exit::NotTrusted, show(&path)).because("it is a link")),
        Err(errno) => return Err(failed("open", &path, errno)),
    };
    let stat = check_file(&fd, &path, guard)?;
    let too_long = || Error::new(Exit::Failed, show(&path)).because(format!("longer than {max} bytes"));
    let len = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    if len > max {
        return Err(too_long());
    }
    // Room for all of it at once: a buffer that grew would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).map_err(|_| too_long())? + 1));
    File::from(fd).take(max + 1).read_to_end(&mut bytes).map_err(|err| failed("read", &path, err))?;
    if bytes.len() as u64 > max { Err(too_long()) } else { Ok(Some(bytes)) }
}

/// Replaces a file by one of mode 0600, or makes it: a reader sees the old bytes or the new, whatever fails, and after a
/// power cut too, since the file and its directory are fsynced before this returns.
///
/// `lock` is the lock under which every writer of this file works: with it no two share a temporary file, and what a
/// crash left of one is simply taken over.
///
/// # Errors
/// [`Exit::Failed`] where the disk is full or the directory cannot be written; the old file is then as it was.
pub(crate) fn replace(dir: &Dir, lock: &Lock, name: &str, bytes: &[u8]) -> Result<()> {
    let Lock { .. } = lock;
    write_and(dir, name, bytes, |temporary, name| {
        rustix::fs::renameat(&dir.fd, temporary, &dir.fd, name).map(|()| true)
    })
    .map(|_| ())
}

/// Makes a file of mode 0600 that must not exist yet, complete from the moment it can be seen; false where it existed.
///
/// # Errors
/// As [`replace`], which says what `lock` is.
pub(crate) fn create(dir: &Dir, lock: &Lock, name: &str, bytes: &[u8]) -> Result<bool> {
    let Lock { .. } = lock;
    write_and(dir, name, bytes, |temporary, name| {
        match rustix::fs::renameat_with(&dir.fd, temporary, &dir.fd, name, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // Network file systems know no RENAME_NOREPLACE; a hard link is as exclusive.
            Err(Errno::INVAL | Errno::NOSYS) => {
                match rustix::fs::linkat(&dir.fd, temporary, &dir.fd, name, AtFlags::empty()) {
                    Ok(()) => rustix::fs::unlinkat(&dir.fd, temporary, AtFlags::empty()).map(|()| true),
                    Err(Errno::EXIST) => Ok(false),
                    Err(errno) => Err(errno),
                }
            }
            Err(errno) => Err(errno),
        }
    })
}

/// Removes a file; false where there was none.
///
/// # Errors
/// [`Exit::Failed`] where the directory cannot be written.
pub(crate) fn remove(dir: &Dir, name: &str) -> Result<bool> {
    match rustix::fs::unlinkat(&dir.fd, file_name(name)?, AtFlags::empty()) {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(Errno::NOENT) => Ok(false),
        Err(errno) => Err(failed("remove", &dir.join(name), errno)),
    }
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    len: i64,
    inode: u64,
}

impl Stamp {
    /// True if it is old enough at `now` to change with the next change: a file system's clock ticks only every few
    /// milliseconds, so two changes at once may leave the same stamp.
    #[must_use]
    pub(crate) fn is_settled(&self, now: SystemTime) -> bool {
        const TICK: Duration = Duration::from_millis(50);
        let since = now.checked_sub(TICK).and_then(|then| then.duration_since(UNIX_EPOCH).ok());
        let limit =
            since.map(|since| (since.as_secs().try_into().unwrap_or(i64::MAX), i64::from(since.subsec_nanos())));
        limit.is_some_and(|limit| self.modified < limit)
    }
}

/// The stamp of a directory as it is now: another one once a file in it was made, replaced or removed.
///
/// # Errors
/// [`Exit::Failed`] where it cannot be examined.
pub(crate) fn dir_stamp(dir: &Dir) -> Result<Stamp> {
    rustix::fs::fstat(&dir.fd).map(|stat| stamp_of(&stat)).map_err(|errno| failed("examine", &dir.path, errno))
}

/// The stamp of a file as it is now, one stat; `None` where it is absent.
///
/// # Errors
/// [`Exit::Failed`] where the directory cannot be searched.
pub(crate) fn stamp(dir: &Dir, name: &str) -> Result<Option<Stamp>> {
    match rustix::fs::statat(&dir.fd, file_name(name)?, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stamp_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("examine", &dir.join(name), errno)),
    }
}

/// An exclusive flock(2), held until dropped or until the process ends in any way.
///
/// Its file is never removed or replaced: a lock on a file that a rename replaces excludes nobody.
#[derive(Debug)]
pub(crate) struct Lock {
    _fd: OwnedFd,
}

/// Takes the lock of this name, waiting for whoever holds it.
///
/// # Errors
/// As [`read_private`] for the lock's file, which is made where it is absent.
pub(crate) fn lock(dir: &Dir, name: &str) -> Result<Lock> {
    let fd = lock_file(dir, name)?;
    loop {
        match rustix::fs::flock(&fd, FlockOperation::LockExclusive) {
            Ok(()) => return Ok(Lock { _fd: fd }),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(failed("lock", &dir.join(name), errno)),
        }
    }
}

/// Takes the lock of this name if nobody holds it; `None` where somebody does.
///
/// # Errors
/// As [`lock`].
pub(crate) fn try_lock(dir: &Dir, name: &str) -> Result<Option<Lock>> {
    let fd = lock_file(dir, name)?;
    match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Lock { _fd: fd })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(failed("lock", &dir.join(name), errno)),
    }
}

const TEMPORARY: &str = ".new";

fn failed(verb: &str, path: &Path, err: impl Into<io::Error>) -> Error {
    Error::new(Exit::Failed, format!("cannot {verb} {}", show(path))).because(err.into())
}

fn file_name(name: &str) -> Result<&str> {
    // Names are made from links and fingerprints; one that is a path must not lead out of the directory.
    if Path::new(name).file_name() == Some(OsStr::new(name)) {
        return Ok(name);
    }
    Err(Error::new(Exit::Failed, format!("`{}`", name.escape_default())).because("not a file name"))
}

fn check(path: &Path, stat: &Stat, guard: Guard) -> Result<()> {
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

fn check_file(fd: &OwnedFd, path: &Path, guard: Guard) -> Result<Stat> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| failed("examine", path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Error::new(Exit::NotTrusted, show(path)).because("not a plain file"));
    }
    check(path, &stat, guard)?;
    Ok(stat)
}

fn lock_file(dir: &Dir, name: &str) -> Result<OwnedFd> {
    let path = dir.join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| failed("open", &path, errno))?;
    check_file(&fd, &path, Guard::Private)?;
    Ok(fd)
}

/// Writes the bytes to a temporary file and lets `publish` give it its name; true where it did.
fn write_and(
    dir: &Dir,
    name: &str,
    bytes: &[u8],
    publish: impl FnOnce(&str, &str) -> rustix::io::Result<bool>,
) -> Result<bool> {
    let name = file_name(name)?;
    let temporary = format!("{name}{TEMPORARY}");
    let published = write_new(dir, &temporary, bytes)
        .and_then(|()| Ok(publish(&temporary, name)?))
        .map_err(|err| failed("write", &dir.join(name), err));
    if !matches!(published, Ok(true)) {
        // What failed is reported; if even this fails, the next writer takes the temporary file over.
        let _ = rustix::fs::unlinkat(&dir.fd, &temporary, AtFlags::empty());
    }
    if published? { sync_dir(dir).map(|()| true) } else { Ok(false) }
}

fn write_new(dir: &Dir, temporary: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = || rustix::fs::openat(&dir.fd, temporary, flags, Mode::RUSR | Mode::WUSR);
    let fd = match open() {
        Err(Errno::EXIST) => {
            rustix::fs::unlinkat(&dir.fd, temporary, AtFlags::empty())?;
            open()?
        }
        other => other?,
    };
    let mut file = File::from(fd);
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_dir(dir: &Dir) -> Result<()> {
    match rustix::fs::fsync(&dir.fd) {
        // Some file systems keep directories in order themselves and know no fsync of one.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(failed("write", &dir.path, errno)),
    }
}

fn stamp_of(stat: &Stat) -> Stamp {
    // The fields' types differ between architectures.
    fn wide(field: impl TryInto<i64>) -> i64 {
        field.try_into().unwrap_or(i64::MAX)
    }
    Stamp { modified: (wide(stat.st_mtime), wide(stat.st_mtime_nsec)), len: wide(stat.st_size), inode: stat.st_ino }
}
