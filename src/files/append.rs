//! Files that only grow, one whole piece at a time.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::{Dir, Guard, Lock, check_file, failed, file_name};
use crate::Result;

/// A file that only grows, one whole piece at a time.
#[derive(Debug)]
pub struct Appender {
    file: File,
    path: PathBuf,
    len: u64,
    broken: bool,
}

/// Opens a private file that exists, to append to it; `lock` is the lock of its only writer, as for [`super::replace`].
///
/// # Errors
/// As [`super::read_private`]; [`crate::Exit::Failed`] where it is absent.
pub fn append(dir: &Dir, lock: &Lock, name: &str) -> Result<Appender> {
    let Lock { .. } = lock;
    let path = dir.join(name);
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty())
        .map_err(|errno| failed("open", &path, errno))?;
    let stat = check_file(&fd, &path, Guard::Private)?;
    Ok(Appender { file: File::from(fd), path, len: u64::try_from(stat.st_size).unwrap_or(0), broken: false })
}

impl Appender {
    /// Appends `bytes` in one write(2): all of them, or none that stay.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk is full; what was there before is as it was.
    pub fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let whole = || io::Error::other("only a part could be written");
        let mut write = || match self.file.write(bytes) {
            Ok(written) if written == bytes.len() => Ok(()),
            Ok(_) => Err(whole()),
            Err(err) => Err(err),
        };
        let written = if self.broken { Err(whole()) } else { write() };
        match written {
            Ok(()) => {
                self.len += bytes.len() as u64;
                Ok(())
            }
            Err(err) => {
                // A part that stays would sit in front of whatever comes next: then nothing may come.
                self.broken = self.file.set_len(self.len).is_err();
                Err(failed("write", &self.path, err))
            }
        }
    }

    /// The file's length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.len
    }
}
