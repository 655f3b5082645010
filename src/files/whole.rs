//! Files that are read, made and replaced as a whole.

use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::acl::Grants;
use super::check::{Guard, check_file, failed, file_name, not_opened, others_can_read};
use super::dir::{Dir, TEMPORARY, sync_dir};
use super::follow;
use super::lock::Lock;
use super::random_access::RandomAccessFile;
use super::stamp::{Stamp, stamp_of};
use super::users::us;
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// Largest file that is read, in bytes; every file of ours is far smaller, so a larger one is a mistake.
pub(super) const MAX_FILE_LEN: u64 = 4 << 20;

/// Reads a file that only we can read or write; `None` where it is absent.
///
/// # Errors
/// [`Exit::NotTrusted`] where it is not a plain file, another's, or of a looser mode than 0600; [`Exit::Failed`] where
/// it cannot be read or is longer than [`MAX_FILE_LEN`].
pub(crate) fn read_private(dir: &Dir, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>> {
    read(dir, name, Guard::Private)
}

/// Reads a file that others can do no more with than `guard` says; `None` where it is absent. It may be a link that nobody but
/// this user and root can change, unless it is [`Guard::Private`].
///
/// # Errors
/// As [`read_private`].
pub(crate) fn read(dir: &Dir, name: &str, guard: Guard) -> Result<Option<Zeroizing<Vec<u8>>>> {
    read_up_to(dir, name, guard, MAX_FILE_LEN)
}

/// A file that the user named by a path, and whether other users can read it.
pub(crate) struct NamedFile {
    /// All of it.
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    /// Its mode lets others than this user and root read it.
    pub(crate) is_exposed: bool,
}

/// Reads a file of at most `max` bytes that the user named by a path; `None` where it is absent. It must be this user's or root's,
/// and nobody else may be able to change it, or what any step of the path leads to.
///
/// A descriptor that was handed to this process, such as `/dev/fd/3` of a shell's `<(...)` or `/dev/stdin`, is read as it is: who
/// hands it over chose what is in it.
///
/// # Errors
/// [`Exit::NotTrusted`] where others can change it, or where it is not a regular file; [`Exit::Failed`] where it cannot
/// be read or is longer than `max`.
pub(crate) fn read_path(path: &Path, max: u64) -> Result<Option<NamedFile>> {
    if is_handed_over(path) {
        let file = File::open(path).map_err(|err| failed("read", path, err))?;
        return Ok(Some(NamedFile { bytes: read_whole(file, path, 0, max)?, is_exposed: false }));
    }
    let Some(fd) = follow::open_path(path)? else { return Ok(None) };
    let stat = check_file(us(), &fd, path, Guard::Public)?;
    let is_exposed = others_can_read(stat.st_mode, &Grants::of(&fd, &stat), us());
    let bytes = read_whole(File::from(fd), path, u64::try_from(stat.st_size).unwrap_or(u64::MAX), max)?;
    Ok(Some(NamedFile { bytes, is_exposed }))
}

/// Whether a path is that of a descriptor, and of nothing else: what follows the number of one could lead anywhere.
fn is_handed_over(path: &Path) -> bool {
    let is_number = |name: &[u8]| !name.is_empty() && name.iter().all(u8::is_ascii_digit);
    let bytes = path.as_os_str().as_bytes();
    let name = [&b"/dev/fd/"[..], b"/proc/self/fd/"].into_iter().find_map(|place| bytes.strip_prefix(place));
    bytes == b"/dev/stdin" || name.is_some_and(is_number)
}

/// Reads a file as [`read`] does, of at most `max` bytes.
///
/// # Errors
/// As [`read_private`], with `max` in place of [`MAX_FILE_LEN`].
pub(crate) fn read_up_to(dir: &Dir, name: &str, guard: Guard, max: u64) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let path = dir.join(name);
    let opened = if guard == Guard::Private { open_ours(dir, name)? } else { follow::open(dir, name)? };
    let Some(fd) = opened else { return Ok(None) };
    let stat = check_file(dir.owner, &fd, &path, guard)?;
    let len = u64::try_from(stat.st_size).unwrap_or(u64::MAX);
    read_whole(File::from(fd), &path, len, max).map(Some)
}

/// Reads all of a file that is `len` bytes long as far as is known, and at most `max`.
fn read_whole(file: File, path: &Path, len: u64, max: u64) -> Result<Zeroizing<Vec<u8>>> {
    let too_long = || Error::new(Exit::Failed, show(path)).because(format!("longer than {max} bytes"));
    if len > max {
        return Err(too_long());
    }
    // Room for all of it at once: a buffer that grew would leave copies of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(len).map_err(|_| too_long())? + 1));
    file.take(max + 1).read_to_end(&mut bytes).map_err(|err| failed("read", path, err))?;
    if bytes.len() as u64 > max { Err(too_long()) } else { Ok(bytes) }
}

/// Opens a file for reading that is no link; `None` where it is absent.
pub(super) fn open_ours(dir: &Dir, name: &str) -> Result<Option<OwnedFd>> {
    // Not waiting, so that a FIFO in the file's place is found out instead of waited for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(&dir.fd, file_name(name)?, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(not_opened(&dir.join(name), errno)),
    }
}

/// Whether a file may be replaced: one that an administrator made a link or read-only is not ours to change.
///
/// # Errors
/// [`Exit::Config`] where it may not.
pub(crate) fn check_replaceable(dir: &Dir, name: &str) -> Result<()> {
    let path = dir.join(name);
    let stat = match rustix::fs::statat(&dir.fd, file_name(name)?, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(failed("examine", &path, errno)),
    };
    let refuse = |why: &str| Error::new(Exit::Config, format!("cannot change {}", show(&path))).because(why);
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Symlink => {
            Err(refuse("it is a link").hint("change the file that it points to, or replace the link with the file"))
        }
        _ if stat.st_mode & 0o200 == 0 => Err(refuse("it is read-only").hint(format!("chmod u+w {}", quote(&path)))),
        _ => Ok(()),
    }
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
    replace_by(dir, lock, name, |file| file.write_all(bytes)).map(drop)
}

/// A part of the new content of a file that is replaced.
pub(crate) enum Part {
    /// These bytes of the old file.
    Kept(Range<u64>),
    /// This text.
    New(String),
}

/// As [`replace`], by a file that shares parts with `old`; those are copied within the kernel if it can do that. Returns
/// the stamp of what was written, taken before the file had its name: as soon as it has one, others can write it.
///
/// # Errors
/// As [`replace`]; also if `old` ends before one of its parts does.
pub(crate) fn replace_parts(
    dir: &Dir,
    lock: &Lock,
    name: &str,
    old: &RandomAccessFile,
    parts: &[Part],
) -> Result<Stamp> {
    replace_by(dir, lock, name, |file| {
        parts.iter().try_for_each(|part| match part {
            Part::Kept(range) => old.copy_part(range, file),
            Part::New(text) => file.write_all(text.as_bytes()),
        })
    })
}

fn replace_by(dir: &Dir, lock: &Lock, name: &str, fill: impl FnOnce(&mut File) -> io::Result<()>) -> Result<Stamp> {
    let Lock { .. } = lock;
    let rename = |temporary: &str, name: &str| rustix::fs::renameat(&dir.fd, temporary, &dir.fd, name).map(|()| true);
    write_and(dir, name, fill, rename).map(|(written, _)| written)
}

/// Makes a file of mode 0600 that must not exist yet, complete from the moment it can be seen; false where it existed.
///
/// # Errors
/// As [`replace`], which says what `lock` is.
pub(crate) fn create(dir: &Dir, lock: &Lock, name: &str, bytes: &[u8]) -> Result<bool> {
    let Lock { .. } = lock;
    write_and(
        dir,
        name,
        |file| file.write_all(bytes),
        |temporary, name| {
            match rustix::fs::renameat_with(&dir.fd, temporary, &dir.fd, name, RenameFlags::NOREPLACE) {
                Ok(()) => Ok(true),
                Err(Errno::EXIST) => Ok(false),
                // Network file systems do not support RENAME_NOREPLACE; a hard link is as exclusive.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    match rustix::fs::linkat(&dir.fd, temporary, &dir.fd, name, AtFlags::empty()) {
                        Ok(()) => rustix::fs::unlinkat(&dir.fd, temporary, AtFlags::empty()).map(|()| true),
                        Err(Errno::EXIST) => Ok(false),
                        Err(errno) => Err(errno),
                    }
                }
                Err(errno) => Err(errno),
            }
        },
    )
    .map(|(_, created)| created)
}

/// Gives a file of ours another name, in place of any file of that name; `lock` is as for [`replace`].
///
/// # Errors
/// [`Exit::Failed`] where the directory cannot be written.
pub(crate) fn rename(dir: &Dir, lock: &Lock, from: &str, to: &str) -> Result<()> {
    let Lock { .. } = lock;
    rustix::fs::renameat(&dir.fd, file_name(from)?, &dir.fd, file_name(to)?)
        .map_err(|errno| failed("rename", &dir.join(from), errno))?;
    sync_dir(dir)
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

/// Fills a temporary file and lets `publish` give it its name; true where it did. The stamp is of the temporary file.
fn write_and(
    dir: &Dir,
    name: &str,
    fill: impl FnOnce(&mut File) -> io::Result<()>,
    publish: impl FnOnce(&str, &str) -> rustix::io::Result<bool>,
) -> Result<(Stamp, bool)> {
    let name = file_name(name)?;
    let temporary = format!("{name}{TEMPORARY}");
    let published = write_new(dir, &temporary, fill)
        .and_then(|written| Ok((written, publish(&temporary, name)?)))
        .map_err(|err| dir.explain(failed("write", &dir.join(name), err)));
    if !matches!(published, Ok((_, true))) {
        // What failed is reported; if even this fails, the next writer takes the temporary file over.
        let _ = rustix::fs::unlinkat(&dir.fd, &temporary, AtFlags::empty());
    }
    let (written, is_published) = published?;
    if is_published {
        // The new content is there: a caller that waited for space and wrote again would change it a second time.
        sync_dir(dir).map_err(|error| error.for_lack_of(None))?;
    }
    Ok((written, is_published))
}

fn write_new(dir: &Dir, temporary: &str, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<Stamp> {
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
    write(&mut file)?;
    file.sync_all()?;
    Ok(stamp_of(&rustix::fs::fstat(&file)?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// The shell's `<(...)` is such a path.
    #[test]
    fn a_descriptor_that_was_handed_over_is_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("file");
        std::fs::write(&path, "text").unwrap();
        for place in ["/dev/fd", "/proc/self/fd"].into_iter().filter(|place| Path::new(place).exists()) {
            let file = File::open(&path).unwrap();
            let read = |max| read_path(&Path::new(place).join(file.as_raw_fd().to_string()), max);
            let NamedFile { bytes, is_exposed } = read(4).unwrap().unwrap();
            assert_eq!((&**bytes, is_exposed), (&b"text"[..], false), "{place}");
            assert_eq!(read(3).map(drop).unwrap_err().exit(), Exit::Failed);
        }
    }

    #[test]
    fn a_path_that_leads_on_from_a_descriptor_is_as_any_other() {
        for path in ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/17"] {
            assert!(is_handed_over(Path::new(path)), "{path}");
        }
        for path in [
            "/dev/fd",
            "/dev/fd/",
            "/dev/fd/../x",
            "/dev/fd/3/x",
            "/dev/fd/3/",
            "/dev/fd/+3",
            "/dev/stdin/",
            "dev/fd/3",
        ] {
            assert!(!is_handed_over(Path::new(path)), "{path}");
        }
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap().join("file");
        std::fs::write(&path, "text").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        for place in ["/dev/fd/../../../../..", "/proc/self/fd/../../.."] {
            let around = format!("{place}{}", path.display());
            assert_eq!(read_path(around.as_ref(), 4).map(drop).unwrap_err().exit(), Exit::NotTrusted, "{around}");
        }
    }

    #[test]
    fn a_file_that_an_administrator_protects_is_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        assert!(check_replaceable(&dir, "file").is_ok(), "it can be made");
        std::fs::write(dir.join("file"), "").unwrap();
        symlink("file", dir.join("link")).unwrap();
        let with_mode = |mode| {
            std::fs::set_permissions(dir.join("file"), std::fs::Permissions::from_mode(mode)).unwrap();
            check_replaceable(&dir, "file")
        };
        assert!(with_mode(0o600).is_ok() && with_mode(0o200).is_ok());
        let read_only = with_mode(0o455).unwrap_err();
        let link = check_replaceable(&dir, "link").unwrap_err();
        for (err, why) in [(&read_only, "it is read-only"), (&link, "it is a link")] {
            assert_eq!(err.exit(), Exit::Config);
            assert!(err.to_string().ends_with(why), "{err}");
        }
    }
}
