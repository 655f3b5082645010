//! Directories: opened and checked once; every file in them is named relative to the open descriptor.

use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, RawDir, Stat};
use rustix::io::Errno;

use super::acl::Grants;
use super::check::{Guard, check, failed};
use super::users::us;
use crate::text::show;
use crate::{Error, Exit, Result};

/// How the name of a temporary file ends.
pub(super) const TEMPORARY: &str = ".new";

/// What to do where a directory is gone that this process has opened.
const REMOVED: &str = "this directory was removed while the tool ran: start the tool again";

/// How many bytes of names are read at once.
const NAMES_LEN: usize = 64 << 10;

/// A directory that was opened and checked; files in it are named relative to the open descriptor.
#[derive(Debug)]
pub(crate) struct Dir {
    pub(super) fd: OwnedFd,
    pub(super) path: PathBuf,
    /// Whose the files in it must be, too.
    pub(super) owner: u32,
}

impl Dir {
    /// Opens a directory that may be absent (`None`).
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where it is a link ([`Guard::Private`] only), another's, or of a looser mode than `guard`
    /// allows.
    pub(crate) fn open(path: &Path, guard: Guard) -> Result<Option<Self>> {
        Self::open_as(path, guard, |_| us())
    }

    /// Opens a directory to look at what is in it: root may do so with a directory of any user, and must not write there.
    ///
    /// # Errors
    /// As [`Dir::open`].
    pub(crate) fn look(path: &Path, guard: Guard) -> Result<Option<Self>> {
        Self::open_as(path, guard, |stat| if us() == 0 { stat.st_uid } else { us() })
    }

    fn open_as(path: &Path, guard: Guard, owner: impl Fn(&Stat) -> u32) -> Result<Option<Self>> {
        // A trailing slash or dot would make O_NOFOLLOW follow: rebuilding the path drops them.
        let path: PathBuf = if path.as_os_str().is_empty() { ".".into() } else { path.components().collect() };
        let follow = if guard == Guard::Private { OFlags::NOFOLLOW } else { OFlags::empty() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | follow;
        let fd = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::NOTDIR | Errno::LOOP) => {
                return Err(Error::new(Exit::NotTrusted, show(&path))
                    .because("it is not a directory, or is a link to one")
                    .hint("give the path of the directory itself"));
            }
            Err(errno) => return Err(failed("open", &path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| failed("examine", &path, errno))?;
        let owner = owner(&stat);
        check(&path, &stat, &Grants::of(&fd, &stat), guard, owner)?;
        Ok(Some(Self { fd, path, owner }))
    }

    /// Opens a directory, made first where it is absent: it and its missing parents with mode 0700.
    ///
    /// # Errors
    /// As [`Dir::open`], and [`Exit::Failed`] where it cannot be made.
    pub(crate) fn create(path: &Path, guard: Guard) -> Result<Self> {
        if let Some(dir) = Self::open(path, guard)? {
            return Ok(dir);
        }
        // Another process may make it at the same moment: `recursive` takes that as success.
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|err| failed("create", path, err))?;
        Self::open(path, guard)?.ok_or_else(|| failed("open", path, Errno::NOENT))
    }

    /// The path that it was opened by, for messages.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file in it, for messages.
    #[must_use]
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Whether it was removed since it was opened. A directory that has its path by now is another one, of which this process knows
    /// nothing.
    fn is_removed(&self) -> bool {
        rustix::fs::fstat(&self.fd).is_ok_and(|stat| stat.st_nlink == 0)
    }

    /// # Errors
    /// [`Exit::Failed`] where it was removed since it was opened.
    pub(crate) fn check_present(&self) -> Result<()> {
        let error = || Error::new(Exit::Failed, show(&self.path)).because("it was removed").hint(REMOVED);
        if self.is_removed() { Err(error()) } else { Ok(()) }
    }

    /// Adds to the error of a file in it what to do if the directory itself is gone.
    pub(super) fn explain(&self, error: Error) -> Error {
        if self.is_removed() { error.hint(REMOVED) } else { error }
    }

    /// The names in it that are UTF-8 (ours are), sorted; a temporary file that a crash left is not among them.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        self.each_name(|name| names.push(name.to_owned()))?;
        names.sort_unstable();
        Ok(names)
    }

    /// Calls `visit` with each of [`Dir::names`], in any order.
    ///
    /// # Errors
    /// As [`Dir::names`].
    pub(crate) fn each_name(&self, mut visit: impl FnMut(&str)) -> Result<()> {
        let fail = |errno| self.explain(failed("read", &self.path, errno));
        // Opened again, as the place in a directory is the descriptor's. Of a hundred thousand names, none gets memory of its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, ".", flags, Mode::empty()).map_err(fail)?;
        let mut buffer = Vec::with_capacity(NAMES_LEN);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        while let Some(entry) = entries.next() {
            match entry.map_err(fail)?.file_name().to_str() {
                Ok("." | "..") | Err(_) => {}
                Ok(name) if name.ends_with(TEMPORARY) => {}
                Ok(name) => visit(name),
            }
        }
        Ok(())
    }
}

pub(super) fn sync_dir(dir: &Dir) -> Result<()> {
    match rustix::fs::fsync(&dir.fd) {
        // Some file systems keep directories in order themselves and know no fsync of one.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => Err(failed("write", &dir.path, errno)),
    }
}
