//! A line that is added to a large text file without writing the rest of the file again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{Mode, OFlags};

use super::check::{Guard, check_file, failed, file_name};
use super::dir::Dir;
use super::lock::Lock;
use super::stamp::{Stamp, stamp_of};
use crate::Result;

/// Makes a line a remark, in the files that this is for.
const REMARK: &[u8] = b"#";

/// Appends a line, with its newline, to a file of the stamp `old` whose last line has one, and returns the file's new stamp;
/// `None` if the file must be replaced instead, since it is not ours, has another name, too, or was changed. `lock` is as for
/// [`super::replace`].
///
/// At no time is a part of the line more than a remark, for a reader or after a power failure: its first byte is written after
/// the others are on the disk. Its newline comes last, so that the file has no two versions of one length.
///
/// # Errors
/// [`crate::Exit::Failed`] where the disk is full or cannot be written; the file then has the content that it had.
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
        // What failed is reported; if even this fails, a remark stays.
        let _ = file.set_len(old.len());
    }
    written.map(Some).map_err(|err| failed("write", &path, err))
}

fn write_line(file: &File, at: u64, line: &[u8]) -> io::Result<Stamp> {
    let (first, rest) = line.split_at(1);
    let (rest, newline) = rest.split_at(rest.len() - 1);
    file.write_all_at(&[REMARK, rest].concat(), at)?;
    file.sync_data()?;
    file.write_all_at(first, at)?;
    file.write_all_at(newline, at + line.len() as u64 - 1)?;
    file.sync_data()?;
    Ok(stamp_of(&rustix::fs::fstat(file)?))
}
