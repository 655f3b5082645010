//! Which files of a directory changed since the last look.
//!
//! On Linux, the kernel tells it (inotify(7)): a look costs one system call, however many files there are. Elsewhere, and where
//! the kernel has no room for it, the stamp of the directory tells that some file changed, and the one who asks looks at each.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::time::SystemTime;

use super::dir::Dir;
use super::stamp::{Stamp, dir_stamp};
use crate::Result;

/// Files of a directory that were made, replaced or removed. That one is written in place, or of another mode, only the kernel
/// tells; no tool does that with a file whose changes matter to another one.
#[derive(Debug, Default)]
pub(crate) struct DirChanges {
    #[cfg(target_os = "linux")]
    notices: Option<notices::Notices>,
    /// Of the last look; `None` if it was too new to tell the next version of the directory from that one.
    stamp: Option<Stamp>,
}

/// What changed since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WhatChanged {
    /// Nothing.
    Nothing,
    /// These files, and perhaps some that did not change.
    Files(BTreeSet<String>),
    /// Any file.
    Anything,
}

impl DirChanges {
    /// Changes from now on. Before the first look, anything may have changed.
    #[must_use]
    pub(crate) fn of(dir: &Dir) -> Self {
        #[cfg(not(target_os = "linux"))]
        let _ = dir;
        Self {
            #[cfg(target_os = "linux")]
            notices: notices::Notices::of(dir),
            stamp: None,
        }
    }

    /// What changed since the last look. It is `date` that tells a stamp that may still be the one of another version.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the directory cannot be examined.
    pub(crate) fn look(&mut self, dir: &Dir, date: SystemTime) -> Result<WhatChanged> {
        #[cfg(target_os = "linux")]
        if let Some(notices) = &mut self.notices {
            match notices.take() {
                Some(changed) => return Ok(changed),
                // From now on by the stamp.
                None => self.notices = None,
            }
        }
        let stamp = dir_stamp(dir)?;
        if self.stamp == Some(stamp) {
            return Ok(WhatChanged::Nothing);
        }
        self.stamp = Some(stamp).filter(|stamp| stamp.is_stable(date));
        Ok(WhatChanged::Anything)
    }

    /// What is readable while there is something that [`DirChanges::look`] would tell; `None` where only a look can find that out.
    #[must_use]
    pub(crate) fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        #[cfg(target_os = "linux")]
        return self.notices.as_ref().map(notices::Notices::as_fd);
        #[cfg(not(target_os = "linux"))]
        None
    }

    /// Without the kernel's notices.
    #[cfg(test)]
    pub(crate) fn by_stamp() -> Self {
        Self::default()
    }
}

#[cfg(target_os = "linux")]
mod notices {
    use std::collections::BTreeSet;
    use std::fmt;
    use std::mem::MaybeUninit;
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

    use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
    use rustix::io::Errno;

    use super::WhatChanged;
    use crate::files::dir::{Dir, TEMPORARY};

    /// Room for some notices with the longest names.
    const BUFFER_LEN: usize = 4096;
    /// Most files that are looked at one by one.
    const MAX_FILES: usize = 4096;

    /// What the kernel tells of a directory.
    pub(super) struct Notices {
        fd: OwnedFd,
        is_first: bool,
    }

    impl Notices {
        /// Notices from now on; `None` if the kernel gives none.
        pub(super) fn of(dir: &Dir) -> Option<Self> {
            let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok()?;
            let moves = WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
            let content = WatchFlags::CREATE | WatchFlags::DELETE | WatchFlags::CLOSE_WRITE;
            // The directory that was opened and checked, whatever has its path by now.
            let path = format!("/proc/self/fd/{}", dir.fd.as_raw_fd());
            inotify::add_watch(&fd, path, moves | content | WatchFlags::ATTRIB | WatchFlags::ONLYDIR).ok()?;
            Some(Self { fd, is_first: true })
        }

        /// Readable while there is a notice.
        pub(super) fn as_fd(&self) -> BorrowedFd<'_> {
            self.fd.as_fd()
        }

        /// What changed; `None` if that cannot be read.
        pub(super) fn take(&mut self) -> Option<WhatChanged> {
            let (mut files, mut is_lost) = (BTreeSet::new(), std::mem::take(&mut self.is_first));
            let mut buffer = [MaybeUninit::uninit(); BUFFER_LEN];
            let mut reader = Reader::new(&self.fd, &mut buffer);
            loop {
                match reader.next() {
                    Err(Errno::AGAIN) => break,
                    Err(Errno::INTR) => {}
                    Err(_) => return None,
                    // The directory itself was removed, and another one may be made in its place.
                    Ok(event) if event.events().contains(ReadFlags::IGNORED) => return None,
                    Ok(event) => {
                        is_lost |= event.events().contains(ReadFlags::QUEUE_OVERFLOW) || files.len() >= MAX_FILES;
                        let name = event.file_name().and_then(|name| name.to_str().ok());
                        if let Some(name) = name.filter(|name| !is_lost && !name.ends_with(TEMPORARY)) {
                            files.insert(name.to_owned());
                        }
                    }
                }
            }
            Some(match files {
                _ if is_lost => WhatChanged::Anything,
                files if files.is_empty() => WhatChanged::Nothing,
                files => WhatChanged::Files(files),
            })
        }
    }

    impl fmt::Debug for Notices {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Notices")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::{Guard, lock, remove, replace};
    use super::*;

    fn dir() -> (tempfile::TempDir, Dir) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        (home, dir)
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_kernel_tells_which_files_changed() {
        let (_home, dir) = dir();
        let held = lock(&dir, "lock").unwrap();
        let mut changes = DirChanges::of(&dir);
        let mut look = || changes.look(&dir, SystemTime::now()).unwrap();
        let files = |names: &[&str]| WhatChanged::Files(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(look(), WhatChanged::Anything, "nothing is known before the first look");
        assert_eq!(look(), WhatChanged::Nothing);
        for round in ["made", "replaced"] {
            replace(&dir, &held, "one", round.as_bytes()).unwrap();
            assert_eq!(look(), files(&["one"]), "{round}");
            assert_eq!(look(), WhatChanged::Nothing);
        }
        fs::write(dir.join("one"), "written in place").unwrap();
        replace(&dir, &held, "two", b"").unwrap();
        assert_eq!(look(), files(&["one", "two"]));
        replace(&dir, &held, "two", b"").unwrap();
        remove(&dir, "one").unwrap();
        assert_eq!(look(), files(&["one", "two"]));
        fs::remove_file(dir.join("lock")).unwrap();
        (0..10_000).for_each(|number| fs::write(dir.join(&number.to_string()), "").unwrap());
        assert_eq!(look(), WhatChanged::Anything, "too many to tell");
        assert_eq!(look(), WhatChanged::Nothing);
    }

    #[test]
    fn without_notices_the_stamp_tells_that_something_changed() {
        let (_home, dir) = dir();
        let mut changes = DirChanges::by_stamp();
        let soon = || SystemTime::now() + Duration::from_secs(1);
        assert_eq!(changes.look(&dir, SystemTime::now()).unwrap(), WhatChanged::Anything);
        assert_eq!(changes.look(&dir, soon()).unwrap(), WhatChanged::Anything, "the last one was too new");
        assert_eq!(changes.look(&dir, soon()).unwrap(), WhatChanged::Nothing);
        fs::write(dir.join("one"), "").unwrap();
        assert_eq!(changes.look(&dir, soon()).unwrap(), WhatChanged::Anything);
    }
}
