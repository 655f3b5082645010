//! A named pipe by which one process wakes another.

use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::acl::Grants;
use super::check::{Guard, check, failed, file_name};
use super::dir::Dir;
use crate::{Error, Exit, Result};

/// Opens a private named pipe for the process that is to be woken, made where it is absent: the descriptor becomes
/// readable. `None` where there is none and none can be made, as on a full disk.
///
/// # Errors
/// [`Exit::NotTrusted`] where it is something else, another's, or of a looser mode than 0600.
pub(crate) fn listen(dir: &Dir, name: &str) -> Result<Option<OwnedFd>> {
    let name = file_name(name)?;
    if rustix::fs::mknodat(&dir.fd, name, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .is_err_and(|err| err != Errno::EXIST)
    {
        return Ok(None);
    }
    // For writing, too, so that it never has an end.
    open(dir, name, OFlags::RDWR)
}

/// Wakes the process that listens, if there is one.
///
/// # Errors
/// As [`listen`].
pub(crate) fn ring(dir: &Dir, name: &str) -> Result<()> {
    if let Some(fd) = open(dir, file_name(name)?, OFlags::WRONLY)? {
        // Where it is full, there is enough in it to wake somebody.
        let _ = File::from(fd).write(&[0]);
    }
    Ok(())
}

fn open(dir: &Dir, name: &str, how: OFlags) -> Result<Option<OwnedFd>> {
    let path = dir.join(name);
    let fd = match rustix::fs::openat(
        &dir.fd,
        name,
        how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK,
        Mode::empty(),
    ) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(failed("open", &path, errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("examine", &path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Fifo {
        return Err(Error::new(Exit::NotTrusted, crate::text::show(&path)).because("not a named pipe"));
    }
    check(&path, &stat, &Grants::of(&fd, &stat), Guard::Private, dir.owner)?;
    Ok(Some(fd))
}
