//! Files of which parts are read, or overwritten in place.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::check::{Guard, check_file, failed, file_name, not_opened};
use super::dir::Dir;
use super::lock::Lock;
use crate::Result;

/// A private file, read and written at any place in it.
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

fn open(dir: &Dir, name: &str, how: OFlags) -> Result<RandomAccessFile> {
    let path = dir.join(name);
    let flags = how | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty())
        .map_err(|errno| not_opened(&path, errno))?;
    check_file(dir, &fd, &path, Guard::Private)?;
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
