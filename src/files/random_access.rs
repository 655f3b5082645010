//! Files of which parts are read, or overwritten in place.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::check::{Guard, check_file, failed, file_name, not_opened};
use super::dir::Dir;
use super::follow;
use super::lock::Lock;
use super::stamp::{Stamp, stamp_of};
use crate::text::show;
use crate::{Error, Exit, Result};

/// An open, checked file that is read and written at any position.
#[derive(Debug)]
pub(crate) struct RandomAccessFile {
    file: File,
    path: PathBuf,
}

/// Opens a private file that exists, to overwrite parts of it, which takes no room on the disk; `lock` is the lock of its
/// only writer, as for [`super::replace`].
///
/// # Errors
/// As [`super::read_private`]; [`crate::Exit::Failed`] where it is absent.
pub(crate) fn open_in_place(dir: &Dir, lock: &Lock, name: &str) -> Result<RandomAccessFile> {
    let Lock { .. } = lock;
    open(dir, name, OFlags::RDWR)
}

/// Opens a private file that exists, to read parts of it.
///
/// # Errors
/// As [`open_in_place`].
pub(crate) fn open_to_read(dir: &Dir, name: &str) -> Result<RandomAccessFile> {
    open(dir, name, OFlags::RDONLY)
}

/// Opens a file to read parts of it; `None` if it is absent. Other users may be able to read it, but not to change it.
/// It may be a symbolic link, as for [`super::read`].
///
/// # Errors
/// As [`super::read`].
pub(crate) fn open_public(dir: &Dir, name: &str) -> Result<Option<RandomAccessFile>> {
    let path = dir.join(name);
    let Some(fd) = follow::open(dir, name)? else { return Ok(None) };
    check_file(dir.owner, &fd, &path, Guard::Public)?;
    Ok(Some(RandomAccessFile { file: File::from(fd), path }))
}

fn open(dir: &Dir, name: &str, how: OFlags) -> Result<RandomAccessFile> {
    let path = dir.join(name);
    let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty())
        .map_err(|errno| not_opened(&path, errno))?;
    check_file(dir.owner, &fd, &path, Guard::Private)?;
    Ok(RandomAccessFile { file: File::from(fd), path })
}

impl RandomAccessFile {
    /// Its path, for messages.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `bytes` from this place on; false where the file ends before.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be read.
    pub(crate) fn read(&self, at: u64, bytes: &mut [u8]) -> Result<bool> {
        match self.file.read_exact_at(bytes, at) {
            Ok(()) => Ok(true),
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(err) => Err(failed("read", &self.path, err)),
        }
    }

    /// Reads the whole file, up to `max` bytes.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read or is longer.
    pub(crate) fn read_all(&self, max: u64) -> Result<Vec<u8>> {
        let fail = |err| failed("read", &self.path, err);
        let too_long = || Error::new(Exit::Failed, show(&self.path)).because(format!("longer than {max} bytes"));
        let len = self.stamp()?.len();
        let capacity = usize::try_from(len.min(max) + 1).map_err(|_| too_long())?;
        let mut bytes = Vec::with_capacity(capacity);
        let mut file = &self.file;
        file.rewind().map_err(fail)?;
        file.take(max + 1).read_to_end(&mut bytes).map_err(fail)?;
        if bytes.len() as u64 > max { Err(too_long()) } else { Ok(bytes) }
    }

    /// Its stamp, which stays the same if another file takes its name.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be examined.
    pub(crate) fn stamp(&self) -> Result<Stamp> {
        rustix::fs::fstat(&self.file).map(|stat| stamp_of(&stat)).map_err(|errno| failed("examine", &self.path, errno))
    }

    /// Appends this part of it to another file, copied within the kernel if the file system supports that.
    pub(super) fn copy_part(&self, part: &Range<u64>, to: &mut File) -> io::Result<()> {
        let mut file = &self.file;
        file.seek(SeekFrom::Start(part.start))?;
        let len = part.end - part.start;
        if io::copy(&mut file.take(len), to)? == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    /// Writes `bytes` over what is at this place.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where it cannot be written.
    pub(crate) fn write(&self, at: u64, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, at).map_err(|err| failed("write", &self.path, err))
    }

    /// Returns once a power cut takes nothing away of what was written.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk says so.
    pub(crate) fn sync(&self) -> Result<()> {
        self.file.sync_data().map_err(|err| failed("write", &self.path, err))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{lock, replace};
    use super::*;

    #[test]
    fn no_more_is_read_than_there_is_or_than_is_allowed() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        replace(&dir, &lock(&dir, "lock").unwrap(), "file", b"12345").unwrap();
        let file = open_to_read(&dir, "file").unwrap();
        let mut bytes = [0; 3];
        assert!(file.read(2, &mut bytes).unwrap());
        assert_eq!(&bytes, b"345");
        for beyond in [3, 5, 99] {
            assert!(!file.read(beyond, &mut bytes).unwrap(), "{beyond}");
        }
        for max in [5, 6, 99] {
            assert_eq!(file.read_all(max).unwrap(), b"12345", "{max}");
        }
        for max in [0, 3, 4] {
            let err = file.read_all(max).unwrap_err();
            assert!(err.to_string().ends_with(&format!("longer than {max} bytes")), "{err}");
        }
    }
}
