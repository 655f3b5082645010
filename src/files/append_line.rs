//! Appending a line to a large text file, without writing the rest of the file again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use super::check::{Guard, check_file, failed, file_name};
use super::dir::Dir;
use super::lock::Lock;
use super::stamp::{Stamp, stamp_of};
use crate::Result;

/// Begins a comment line, in the files that this is for.
const COMMENT: &[u8] = b"#";

/// Appends a line, with its newline, to a file of the stamp `old` whose last line has one, and returns the file's new
/// stamp; `None` if the file must be replaced instead, because it cannot be opened for writing, has a second name (a
/// hard link), or was changed. `lock` is as for [`super::replace`].
///
/// A part of the line is never more than a comment, for a reader or after a power failure: its first byte is written
/// after the others are on the disk. Its newline comes last, so that no two versions of the file have the same length.
/// After a power failure, zeros may stand for bytes that were not on the disk yet: at the end of the line, or before it.
///
/// # Errors
/// [`crate::Exit::Failed`] if the disk is full or cannot be written; the content of the file is then unchanged.
pub(crate) fn append_line(dir: &Dir, lock: &Lock, name: &str, old: &Stamp, line: &str) -> Result<Option<Stamp>> {
    let Lock { .. } = lock;
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let Ok(fd) = rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty()) else { return Ok(None) };
    let path = dir.join(name);
    let stat = check_file(dir.owner, &fd, &path, Guard::Public)?;
    if stat.st_nlink != 1 || stamp_of(&stat) != *old {
        return Ok(None);
    }
    let file = File::from(fd);
    let written = write_line(&file, old.len(), line.as_bytes());
    if written.is_err() {
        // What failed first is reported. If this fails, too, a comment remains.
        let _ = file.set_len(old.len());
    }
    written.map(Some).map_err(|err| failed("write", &path, err))
}

fn write_line(file: &File, at: u64, line: &[u8]) -> io::Result<Stamp> {
    let (first, rest) = line.split_at(1);
    let (rest, newline) = rest.split_at(rest.len() - 1);
    file.write_all_at(&[COMMENT, rest].concat(), at)?;
    file.sync_data()?;
    file.write_all_at(first, at)?;
    file.write_all_at(newline, at + line.len() as u64 - 1)?;
    file.sync_data()?;
    Ok(stamp_of(&rustix::fs::fstat(file)?))
}
