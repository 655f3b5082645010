//! Paths that are followed step by step, where nobody but this user and root can change what any step leads to: those of files
//! that the user names, and links that an administrator put in place, such as a container's secrets.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::acl::Grants;
use super::check::{can_be_changed, failed, file_name};
use super::dir::Dir;
use super::users::{run_as, us, user_name};
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// Most links that are followed, as in Linux.
const MAX_LINKS: usize = 40;
const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const DIRECTORY: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::DIRECTORY);

/// Where a walk is: in a directory, and what is still to be followed from there.
struct Walk {
    dir: OwnedFd,
    path: PathBuf,
    /// The last one is the next.
    rest: Vec<OsString>,
    links: usize,
    /// Who may change what it leads through, besides root.
    owner: u32,
}

/// Opens a file for reading; `None` where it is absent. Not waiting, so that a FIFO in its place is found out.
///
/// # Errors
/// [`Exit::NotTrusted`] where it is a link that leads nowhere, or whose target others can change.
pub(super) fn open(dir: &Dir, name: &str) -> Result<Option<OwnedFd>> {
    match rustix::fs::openat(&dir.fd, file_name(name)?, FILE, Mode::empty()) {
        Ok(fd) => return Ok(Some(fd)),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => {}
        Err(errno) => return Err(failed("open", &dir.join(name), errno)),
    }
    let link = dir.join(name);
    let fd = rustix::fs::openat(&dir.fd, ".", DIRECTORY, Mode::empty());
    let fd = fd.map_err(|errno| failed("open", dir.path(), errno))?;
    let mut walk = Walk { dir: fd, path: dir.path().to_owned(), rest: vec![name.into()], links: 0, owner: dir.owner };
    loop {
        if let Some(fd) = walk.step().map_err(|why| not_followed(&link, why))? {
            return Ok(Some(fd));
        }
    }
}

/// Opens the file at a path for reading; `None` where it is absent. Every directory and link of the path is checked, from the
/// root of the file system on, as OpenSSH's `StrictModes` does. Not waiting, so that a FIFO in the file's place is found out.
///
/// # Errors
/// [`Exit::NotTrusted`] where others can change what the path leads to; [`Exit::Failed`] where it cannot be followed.
pub(super) fn open_path(path: &Path) -> Result<Option<OwnedFd>> {
    let whole = std::path::absolute(path).map_err(|err| failed("open", path, err))?;
    let root =
        rustix::fs::open("/", DIRECTORY, Mode::empty()).map_err(|errno| failed("open", Path::new("/"), errno))?;
    let names = whole.components().rev().filter(|part| !matches!(part, Component::RootDir));
    let rest = names.map(|part| part.as_os_str().to_owned()).collect();
    let mut walk = Walk { dir: root, path: "/".into(), rest, links: 0, owner: us() };
    loop {
        match walk.step() {
            Ok(None) => {}
            Ok(Some(fd)) => return Ok(Some(fd)),
            Err(NotFollowed { errno: Some(Errno::NOENT | Errno::NOTDIR), .. }) => return Ok(None),
            Err(NotFollowed { errno: Some(errno), .. }) => return Err(failed("open", path, errno)),
            Err(NotFollowed { why, remedy, errno: None }) => {
                let error = Error::new(Exit::NotTrusted, show(path)).because(why);
                return Err(error.hint(remedy.unwrap_or_else(|| move_for(us()))));
            }
        }
    }
}

/// What to do about a file in a directory that somebody else can change.
fn move_for(user: u32) -> String {
    format!("move it to a directory that only this user ({}) and root can change", user_name(user))
}

/// Why a link is not followed, with the remedy.
struct NotFollowed {
    why: String,
    remedy: Option<String>,
    /// What the system said, if it did.
    errno: Option<Errno>,
}

fn not_followed(link: &Path, NotFollowed { why, remedy, .. }: NotFollowed) -> Error {
    let error = Error::new(Exit::NotTrusted, show(link)).because(format!("it is a link: {why}"));
    error.hint(remedy.unwrap_or_else(|| format!("replace the link with the file itself: {}", quote(link))))
}

impl Walk {
    /// Follows one name; returns the file once it is reached.
    fn step(&mut self) -> std::result::Result<Option<OwnedFd>, NotFollowed> {
        let Some(name) = self.rest.pop() else { return Err(NotFollowed::because("it points to a directory")) };
        let fail = |walk: &Self, errno: Errno| walk.because_of(&name, errno);
        let stat =
            rustix::fs::statat(&self.dir, &name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| fail(self, errno))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
            let target = rustix::fs::readlinkat(&self.dir, &name, Vec::new()).map_err(|errno| fail(self, errno))?;
            self.check(&name, &stat, &Grants::by_mode(&stat))?;
            return self.follow(target.as_bytes()).map(|()| None);
        }
        if self.rest.is_empty() {
            return rustix::fs::openat(&self.dir, &name, FILE, Mode::empty())
                .map(Some)
                .map_err(|errno| fail(self, errno));
        }
        let dir = rustix::fs::openat(&self.dir, &name, DIRECTORY, Mode::empty()).map_err(|errno| fail(self, errno))?;
        self.enter(dir, &name).map(|()| None)
    }

    /// Puts the components of a link's target before what is left to follow.
    fn follow(&mut self, target: &[u8]) -> std::result::Result<(), NotFollowed> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(NotFollowed::because("too many links"));
        }
        let names = target.rsplit(|byte| *byte == b'/').filter(|name| !name.is_empty() && **name != *b".");
        self.rest.extend(names.map(|name| OsStr::from_bytes(name).to_owned()));
        if target.starts_with(b"/") {
            let root = rustix::fs::open("/", DIRECTORY, Mode::empty());
            let root = root.map_err(|errno| self.because_of(OsStr::new("/"), errno))?;
            self.enter(root, OsStr::new("/"))?;
        }
        Ok(())
    }

    /// Continues in a directory in which nobody else can replace anything.
    fn enter(&mut self, dir: OwnedFd, name: &OsStr) -> std::result::Result<(), NotFollowed> {
        let stat = rustix::fs::fstat(dir.as_fd()).map_err(|errno| self.because_of(name, errno))?;
        self.check(name, &stat, &Grants::of(&dir, &stat))?;
        if name == ".." {
            self.path.pop();
        } else {
            self.path.push(name);
        }
        self.dir = dir;
        Ok(())
    }

    fn check(&self, name: &OsStr, stat: &Stat, grants: &Grants) -> std::result::Result<(), NotFollowed> {
        let path = self.path.join(name);
        if stat.st_uid != self.owner && stat.st_uid != 0 {
            let why = format!("{} belongs to user {}, who can change it", show(&path), user_name(stat.st_uid));
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            let remedy = is_directory.then(|| match us() {
                0 => run_as(stat.st_uid),
                us => format!("run this as user {}; or {}", user_name(stat.st_uid), move_for(us)),
            });
            return Err(NotFollowed { remedy, ..NotFollowed::because(why) });
        }
        if can_be_changed(stat, grants, self.owner) {
            let why = format!("other users can change {}, which it passes through", show(&path));
            let remedy = Some(format!("chmod go-w {}", quote(&path)));
            return Err(NotFollowed { why, remedy, errno: None });
        }
        Ok(())
    }

    fn because_of(&self, name: &OsStr, errno: Errno) -> NotFollowed {
        let why = format!("{}: {}", show(&self.path.join(name)), std::io::Error::from(errno));
        NotFollowed { errno: Some(errno), ..NotFollowed::because(why) }
    }
}

impl NotFollowed {
    fn because(why: impl Into<String>) -> Self {
        Self { why: why.into(), remedy: None, errno: None }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::files::Guard;

    fn dir() -> (tempfile::TempDir, Dir) {
        let home = tempfile::tempdir().unwrap();
        let dir = Dir::create(&home.path().join("sts"), Guard::Private).unwrap();
        (home, dir)
    }

    #[test]
    fn links_are_followed_to_their_end_and_not_in_a_circle() {
        let (_home, dir) = dir();
        fs::write(dir.join("0"), "").unwrap();
        for number in 1..=MAX_LINKS + 1 {
            symlink((number - 1).to_string(), dir.join(&number.to_string())).unwrap();
        }
        assert!(open(&dir, &MAX_LINKS.to_string()).unwrap().is_some());
        for (name, target) in [("one", "two"), ("two", "one")] {
            symlink(target, dir.join(name)).unwrap();
        }
        for name in [&(MAX_LINKS + 1).to_string(), "one"] {
            let err = open(&dir, name).unwrap_err();
            assert_eq!(err.exit(), Exit::NotTrusted);
            assert!(err.to_string().contains("too many links"), "{err}");
        }
    }

    #[test]
    fn a_target_is_read_as_the_system_reads_it() {
        let (_home, dir) = dir();
        fs::create_dir(dir.join("sub")).unwrap();
        fs::write(dir.join("file"), "").unwrap();
        let whole = dir.join("file").into_os_string().into_string().unwrap();
        for (number, target) in ["file", "./file", ".//file", "sub/..//./file", &whole].into_iter().enumerate() {
            symlink(target, dir.join(&number.to_string())).unwrap();
            assert!(open(&dir, &number.to_string()).unwrap().is_some(), "{target}");
        }
        symlink("sub/../absent", dir.join("lost")).unwrap();
        let err = open(&dir, "lost").unwrap_err();
        assert!(err.to_string().contains(&format!("{}: ", dir.join("absent").display())), "{err}");
    }

    #[test]
    fn what_another_user_can_change_is_not_passed_through() {
        let (_home, dir) = dir();
        fs::write(dir.join("file"), "").unwrap();
        symlink("file", dir.join("link")).unwrap();
        let fd = rustix::fs::openat(&dir.fd, ".", DIRECTORY, Mode::empty()).unwrap();
        let walk = Walk { dir: fd, path: dir.path().to_owned(), rest: Vec::new(), links: 0, owner: 1_000 };
        let check = |name: &str, user: u32, mode: u32| {
            let mut stat = rustix::fs::statat(&dir.fd, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
            (stat.st_uid, stat.st_mode) = (user, stat.st_mode & !0o7777 | mode);
            walk.check(OsStr::new(name), &stat, &Grants::by_mode(&stat))
        };
        for name in [".", "link"] {
            for trusted in [0, 1_000] {
                assert!(check(name, trusted, 0o755).is_ok());
            }
            let NotFollowed { why, remedy, .. } = check(name, 12_345, 0o755).unwrap_err();
            assert!(why.contains(name) && why.ends_with("belongs to user 12345, who can change it"), "{why}");
            assert_eq!(remedy.is_some_and(|remedy| remedy.contains("user")), name == ".");
        }
        let NotFollowed { why, remedy, .. } = check(".", 1_000, 0o777).unwrap_err();
        assert!(why.starts_with("other users can change "), "{why}");
        assert!(remedy.unwrap().starts_with("chmod go-w "));
        assert!(move_for(12_345).contains("only this user (12345) and root can change"));
    }
}
