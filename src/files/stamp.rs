//! Whether a file changed, without reading it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Stat};
use rustix::io::Errno;

use super::check::{failed, file_name};
use super::dir::Dir;
use crate::Result;

/// What tells one version of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    /// Time of the last change of the inode: a program that sets an old time of modification changes this one.
    changed: (i64, i64),
    len: i64,
    inode: u64,
}

impl Stamp {
    /// Length of [`Stamp::to_bytes`].
    pub(crate) const LEN: usize = 6 * 8;

    /// As bytes, which are equal for equal stamps only.
    #[must_use]
    pub(crate) fn to_bytes(self) -> [u8; Self::LEN] {
        let Self { modified, changed, len, inode } = self;
        let mut bytes = [0; Self::LEN];
        let fields = [modified.0, modified.1, changed.0, changed.1, len, inode.cast_signed()];
        for (to, field) in bytes.chunks_exact_mut(8).zip(fields) {
            to.copy_from_slice(&field.to_le_bytes());
        }
        bytes
    }

    /// The file's length in bytes.
    #[must_use]
    pub(crate) fn len(&self) -> u64 {
        u64::try_from(self.len).unwrap_or(0)
    }

    /// Whether both are of one file, which was there all the time.
    #[must_use]
    pub(crate) fn is_same_file(&self, other: &Self) -> bool {
        self.inode == other.inode
    }

    /// Whether both are of one file with the same content, whatever names and owner it was given between the two.
    #[must_use]
    pub(crate) fn is_same_content(&self, other: &Self) -> bool {
        (self.modified, self.len, self.inode) == (other.modified, other.len, other.inode)
    }

    /// True if it is old enough at `now` to change with the next change: a file system's clock ticks only every few
    /// milliseconds, so two changes at once may leave the same stamp.
    #[must_use]
    pub(crate) fn is_stable(&self, now: SystemTime) -> bool {
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
/// [`crate::Exit::Failed`] where it cannot be examined.
pub(super) fn dir_stamp(dir: &Dir) -> Result<Stamp> {
    rustix::fs::fstat(&dir.fd).map(|stat| stamp_of(&stat)).map_err(|errno| failed("examine", &dir.path, errno))
}

/// The stamp of a file as it is now, one stat; `None` where it is absent.
///
/// # Errors
/// [`crate::Exit::Failed`] where the directory cannot be searched.
pub(crate) fn stamp(dir: &Dir, name: &str) -> Result<Option<Stamp>> {
    match rustix::fs::statat(&dir.fd, file_name(name)?, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stamp_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("examine", &dir.join(name), errno)),
    }
}

/// As [`stamp`], of the file that a link of this name leads to.
///
/// # Errors
/// As [`stamp`].
pub(crate) fn target_stamp(dir: &Dir, name: &str) -> Result<Option<Stamp>> {
    match rustix::fs::statat(&dir.fd, file_name(name)?, AtFlags::empty()) {
        Ok(stat) => Ok(Some(stamp_of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(failed("examine", &dir.join(name), errno)),
    }
}

pub(super) fn stamp_of(stat: &Stat) -> Stamp {
    // The fields' types differ between architectures.
    fn wide(field: impl TryInto<i64>) -> i64 {
        field.try_into().unwrap_or(i64::MAX)
    }
    Stamp {
        modified: (wide(stat.st_mtime), wide(stat.st_mtime_nsec)),
        changed: (wide(stat.st_ctime), wide(stat.st_ctime_nsec)),
        len: wide(stat.st_size),
        inode: stat.st_ino,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::{Guard, lock, replace};
    use super::*;

    #[test]
    fn a_stamp_tells_another_file_and_other_content() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        let held = lock(&dir, "lock").unwrap();
        let now = |name| stamp(&dir, name).unwrap().unwrap();
        replace(&dir, &held, "file", b"one").unwrap();
        let first = now("file");
        fs::rename(dir.join("file"), dir.join("moved")).unwrap();
        assert!(now("moved").is_same_file(&first) && now("moved").is_same_content(&first));
        fs::write(dir.join("moved"), "longer").unwrap();
        assert!(now("moved").is_same_file(&first) && !now("moved").is_same_content(&first));
        replace(&dir, &held, "file", b"one").unwrap();
        assert!(!now("file").is_same_file(&first) && !now("file").is_same_content(&first));
    }
}
