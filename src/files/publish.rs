//! A file that others are to read: nothing in it is secret, and they see it as a whole.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::check::failed;
use super::dir::TEMPORARY;
use crate::Result;

/// Replaces a file by one of mode 0644, or makes it, in a directory of any owner. A reader sees the old bytes or the new.
///
/// # Errors
/// [`crate::Exit::Failed`] where it cannot be written; the old file is then as it was.
pub(crate) fn publish(path: &Path, bytes: &[u8]) -> Result<()> {
    let fail = |errno: Errno| failed("write", path, errno);
    let name = path.file_name().ok_or_else(|| fail(Errno::ISDIR))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(parent, flags, Mode::empty()).map_err(fail)?;
    // With a dot at its head: who collects files by a pattern does not take it, too.
    let temporary = format!(".{}.{}{TEMPORARY}", name.to_string_lossy(), std::process::id());
    // Of a process that had this number before.
    let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
    let write = || {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&dir, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        file.write_all(bytes)?;
        rustix::fs::fchmod(&file, Mode::RUSR | Mode::WUSR | Mode::RGRP | Mode::ROTH)?;
        Ok(rustix::fs::renameat(&dir, &temporary, &dir, name)?)
    };
    write().map_err(|err: std::io::Error| {
        let _ = rustix::fs::unlinkat(&dir, &temporary, AtFlags::empty());
        failed("write", path, err)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_for_others_is_replaced_as_a_whole_and_nothing_else_is_left() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("sts.prom");
        for text in ["first, which is longer\n", "second\n"] {
            publish(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        assert_eq!(home.path().read_dir().unwrap().count(), 1);
        let error = publish(&home.path().join("absent/sts.prom"), b"").unwrap_err();
        assert!(error.to_string().contains("cannot write"), "{error}");
        fs::create_dir(home.path().join("dir")).unwrap();
        assert!(publish(&home.path().join("dir"), b"").is_err());
        assert_eq!(home.path().read_dir().unwrap().count(), 2, "no temporary file is left");
    }
}
