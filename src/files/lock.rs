//! Locks between processes.

use std::os::fd::OwnedFd;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use super::check::{Guard, check_file, failed, file_name, not_opened};
use super::dir::Dir;
use crate::Result;

/// An exclusive flock(2), held until dropped or until the process ends in any way.
///
/// Its file is never removed or replaced: a lock on a file that a rename replaces excludes no process.
#[derive(Debug)]
pub(crate) struct Lock {
    _fd: OwnedFd,
}

/// Takes the lock of this name, waiting for the process that holds it.
///
/// # Errors
/// As [`super::read_private`] for the lock's file, which is made where it is absent.
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

/// Takes the lock of this name; `None` if another process holds it.
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

fn lock_file(dir: &Dir, name: &str) -> Result<OwnedFd> {
    let path = dir.join(name);
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::RUSR | Mode::WUSR)
        .map_err(|errno| dir.explain(not_opened(&path, errno)))?;
    check_file(dir.owner, &fd, &path, Guard::Private)?;
    Ok(fd)
}
