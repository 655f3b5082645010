//! Files that only grow, one whole piece at a time.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::check::{Guard, check_file, failed, file_name, is_disk_full, not_opened};
use super::dir::{Dir, sync_dir};
use super::lock::Lock;
use crate::Result;
use crate::error::Lack;

/// A file that only grows, one whole piece at a time.
#[derive(Debug)]
pub(crate) struct Appender {
    file: File,
    path: PathBuf,
    len: u64,
    broken: bool,
}

/// Opens a private file that exists, to append to it; `lock` is the lock of its only writer, as for [`super::replace`].
///
/// # Errors
/// As [`super::read_private`]; [`crate::Exit::Failed`] where it is absent.
pub(crate) fn open_to_append(dir: &Dir, lock: &Lock, name: &str) -> Result<Appender> {
    let Lock { .. } = lock;
    let path = dir.join(name);
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty())
        .map_err(|errno| not_opened(&path, errno))?;
    let stat = check_file(dir.owner, &fd, &path, Guard::Private)?;
    Ok(Appender { file: File::from(fd), path, len: u64::try_from(stat.st_size).unwrap_or(0), broken: false })
}

/// Makes a private file that must not exist, to append to it; `None` if the disk has no room for one. `lock` is as for
/// [`open_to_append`].
///
/// # Errors
/// As [`open_to_append`], and [`crate::Exit::Failed`] where it exists.
pub(crate) fn create_to_append(dir: &Dir, lock: &Lock, name: &str) -> Result<Option<Appender>> {
    let Lock { .. } = lock;
    let path = dir.join(name);
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd = match rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::RUSR | Mode::WUSR) {
        Ok(fd) => fd,
        Err(Errno::NOSPC | Errno::DQUOT) => return Ok(None),
        Err(errno) => return Err(dir.explain(failed("create", &path, errno))),
    };
    if let Err(error) = sync_dir(dir) {
        // An empty file would look like one that was begun.
        let _ = rustix::fs::unlinkat(&dir.fd, name, AtFlags::empty());
        return if error.lack() == Some(Lack::Disk) { Ok(None) } else { Err(error) };
    }
    Ok(Some(Appender { file: File::from(fd), path, len: 0, broken: false }))
}

impl Appender {
    /// Appends `bytes` in one write(2): all of them, or none that stay.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk is full; what was there before is as it was.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes).map_err(|err| failed("write", &self.path, err))
    }

    /// Appends as [`Appender::append`] does; false where the disk or a quota has no room for it.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written for another reason.
    pub(crate) fn append_if_room(&mut self, bytes: &[u8]) -> Result<bool> {
        match self.write(bytes) {
            Ok(()) => Ok(true),
            Err(err) if is_disk_full(&err) => Ok(false),
            Err(err) => Err(failed("write", &self.path, err)),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let whole = || io::Error::new(io::ErrorKind::WriteZero, "only a part could be written");
        if self.broken {
            self.file.set_len(self.len)?;
            self.broken = false;
        }
        let written = match self.write_once(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            // What stopped it is said of the rest.
            Ok(part) => Err(self.write_once(&bytes[part..]).err().unwrap_or_else(whole)),
            Err(err) => Err(err),
        };
        match written {
            Ok(()) => self.len += bytes.len() as u64,
            // A part that stays would sit in front of whatever comes next: then nothing may come.
            Err(_) => self.broken = self.file.set_len(self.len).is_err(),
        }
        written
    }

    /// One write(2) that does something.
    fn write_once(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.file.write(bytes) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                written => return written,
            }
        }
    }

    /// Cuts the file off after its first `len` bytes.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written.
    pub(crate) fn truncate(&mut self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|err| failed("write", &self.path, err))?;
        self.len = len;
        Ok(())
    }

    /// Returns once a power cut takes nothing away of what was appended.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk says so.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|err| failed("write", &self.path, err))
    }

    /// The file's length in bytes.
    #[must_use]
    pub(crate) fn size(&self) -> u64 {
        self.len
    }
}
