//! What a run gives up once it has started: every file, TCP port and system call that it does not need.
//!
//! A run that is taken over by a malformed message can then read no other file of its user, connect to no other port and start
//! no program. Nothing here needs privilege, and nothing can be taken back. There are two parts, each in its file:
//!
//! - `files`: Landlock, for files and TCP ports. What a run needs is data, [`Needs`]: each module states its own, and a tool
//!   enters with the sum of them.
//! - `calls`: seccomp, for system calls. The list is the same for all tools, but for the families of sockets; `filter` makes it
//!   a program for the kernel.
//!
//! Between them, a run that has privileges of root gives them up (capabilities(7)), which otherwise would reach beyond both: to
//! files of others, whatever their modes, and to the network's addresses. It then has the rights of the user that owns root's files.
//!
//! Each part is best effort: a kernel without it, or an older one that knows less, runs the tools as before, and `-v` says what
//! is confined. What must keep working for years decides the grain:
//!
//! - A file that is replaced by another one, as every editor and certificate manager does it, is another file for Landlock. So
//!   files that are read again are allowed by their directory.
//! - The system's resolver reads files in /etc and loads libraries, both of which an upgrade replaces. So [`SYSTEM`] can be
//!   read as a whole: it is the same on all machines, but for /etc, of which the user's own rights decide. A run that looks
//!   names up can also read the directories to which links in /etc lead the resolver (`resolver`).
//!
//! A tool enters after its files are found and its signals are caught, and before its first connection. A service that reads its
//! configuration again stays in the sandbox made for the first one ([`Needs::first_beyond`]).

#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls;
#[cfg(target_os = "linux")]
mod files;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod filter;
mod resolver;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

pub(crate) use self::resolver::hint_of_hidden_file;
use crate::report::Reporter;
use crate::text::show;

/// What the system's resolver and the list of its authorities read, wherever a distribution keeps it. What is absent is passed
/// over.
const SYSTEM: [&str; 13] = [
    "/etc",
    "/usr",
    // Libraries where they are not below /usr.
    "/lib",
    "/lib64",
    "/nix/store",
    "/gnu/store",
    // Where /etc/resolv.conf may lead when it is replaced.
    "/run/systemd/resolve",
    "/run/NetworkManager",
    "/run/resolvconf",
    // Authorities.
    "/var/lib/ca-certificates",
    "/var/ssl",
    "/opt/etc",
    // The cache of a directory service.
    "/var/lib/sss",
];

/// The resolver asks by TCP where an answer is too long for a datagram.
const DNS_PORT: u16 = 53;

/// Most links that are followed, as in Linux.
const MAX_LINKS: usize = 40;

/// What a run needs of the system after it has started, besides [`SYSTEM`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Directories, or single files, to read.
    read: BTreeSet<PathBuf>,
    /// Directories to read that a run can do without.
    look: BTreeSet<PathBuf>,
    /// Directories in which files are made, replaced and removed.
    write: BTreeSet<PathBuf>,
    /// The terminal of the process, opened when a person is to be asked.
    terminal: bool,
    /// TCP ports to connect to.
    ports: BTreeSet<u16>,
    /// A local address for TCP sockets.
    binds: bool,
    sockets: Sockets,
}

/// The families of sockets that a run needs, each with those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Sockets {
    /// TCP, and datagrams.
    #[default]
    Internet,
    /// Those in the file system.
    Unix,
    /// Those by which the system's resolver asks a cache on this host, and for the addresses of this host.
    Resolver,
}

impl Needs {
    /// Reads a file whenever it has changed, wherever a link leads to it then.
    pub(crate) fn read_file(&mut self, path: &Path) {
        self.read.extend(places_of(path));
    }

    /// Reads what is in a directory.
    pub(crate) fn read_dir(&mut self, path: &Path) {
        self.read.extend(std::path::absolute(path));
    }

    /// Reads what is in a directory if that is there; a run can do without.
    pub(crate) fn look_in_dir(&mut self, path: &Path) {
        self.look.extend(std::path::absolute(path));
    }

    /// Makes, replaces and removes files in a directory, which is made before the sandbox is entered: the one that it is in
    /// may be the user's home.
    pub(crate) fn write_dir(&mut self, path: &Path) {
        self.write.extend(std::path::absolute(path));
    }

    /// Asks a person at the terminal.
    pub(crate) fn ask_at_terminal(&mut self) {
        self.terminal = true;
    }

    /// Connects to this TCP port of any host: names lead to other addresses in time. `is_name` says whether the host is
    /// looked up.
    pub(crate) fn connect(&mut self, port: u16, is_name: bool) {
        self.ports.insert(port);
        if is_name {
            self.sockets = Sockets::Resolver;
            self.ports.insert(DNS_PORT);
            self.look.extend(resolver::places());
        }
    }

    /// Connects to a socket in the file system.
    pub(crate) fn connect_to_unix_socket(&mut self) {
        self.sockets = self.sockets.max(Sockets::Unix);
    }

    /// Connects from a local address.
    pub(crate) fn bind(&mut self) {
        self.binds = true;
    }

    /// What can be had of this now. What is absent gives no right, not even when it is made later.
    pub(crate) fn granted(mut self) -> Self {
        for paths in [&mut self.read, &mut self.look, &mut self.write] {
            paths.retain(|path| path.exists());
        }
        self
    }

    /// Something that is needed here and not in `held`, which was [granted](Self::granted), in words.
    pub(crate) fn first_beyond(&self, held: &Self) -> Option<String> {
        let is_in = |path: &PathBuf, dirs: &BTreeSet<PathBuf>| dirs.iter().any(|dir| path.starts_with(dir));
        let is_readable = |path: &&PathBuf| {
            [&held.read, &held.look, &held.write].iter().any(|dirs| is_in(path, dirs))
                || SYSTEM.iter().any(|dir| path.starts_with(dir))
        };
        let path = self.read.iter().find(|path| !is_readable(path));
        let path = path.or_else(|| self.write.iter().find(|path| !is_in(path, &held.write)));
        let port = || self.ports.difference(&held.ports).next().map(|port| format!("TCP port {port}"));
        let address = || (self.binds && !held.binds).then(|| "a local address".to_owned());
        let sockets = || match self.sockets {
            Sockets::Unix => "Unix sockets".to_owned(),
            Sockets::Internet | Sockets::Resolver => "host names".to_owned(),
        };
        let sockets = || (self.sockets > held.sockets).then(sockets);
        path.map(|path| show(path)).or_else(port).or_else(address).or_else(sockets)
    }
}

/// The directory of a file, and, if it is a link, each one in which the way to it may be laid anew. That is where a link to the
/// file is, and where a directory is a link to another one in the same place, as those of a container's secrets are. The root
/// directory does not count as a whole for one file in it.
fn places_of(path: &Path) -> BTreeSet<PathBuf> {
    let mut places = BTreeSet::new();
    let Ok(path) = std::path::absolute(path) else { return places };
    let (mut at, mut rest, mut links) = (PathBuf::from("/"), steps(&path), 0);
    while let Some(name) = rest.pop() {
        if name == ".." {
            at.pop();
            continue;
        }
        let there = at.join(name);
        let target = there.read_link().ok().filter(|_| links < MAX_LINKS);
        let is_local = |target: &PathBuf| target.components().all(|part| matches!(part, Component::Normal(_)));
        if rest.is_empty() || target.as_ref().is_some_and(is_local) {
            places.insert(if at.parent().is_some() { at.clone() } else { there.clone() });
        }
        let Some(target) = target else {
            at = there;
            continue;
        };
        links += 1;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        rest.extend(steps(&target));
    }
    places
}

/// The names in a path, the first one last.
fn steps(path: &Path) -> Vec<OsString> {
    let names = path.components().rev().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).collect()
}

/// Gives up everything else, for good. Called with one thread: others that run would keep what they have.
pub(crate) fn enter(needs: &Needs, report: &Reporter) {
    // In this order: Landlock may need a capability, and giving them up is a call that is not on the list.
    let (files, capabilities) = (files(needs), capabilities().transpose());
    let parts = [files, calls(needs)].into_iter().chain(capabilities);
    let (confined, left): (Vec<_>, Vec<_>) = parts.partition(Result::is_ok);
    let words = |list: Vec<Result<String, String>>| -> Vec<_> {
        list.into_iter().map(|part| part.unwrap_or_else(|left| left)).collect()
    };
    if !confined.is_empty() {
        report.verbose(format_args!("sandbox: {}", words(confined).join(", ")));
    }
    for left in words(left) {
        report.verbose(format_args!("no sandbox for {left}"));
    }
}

/// Confines files and ports; says what is confined, or why not.
#[cfg(target_os = "linux")]
fn files(needs: &Needs) -> Result<String, String> {
    files::confine(needs)
}

#[cfg(not(target_os = "linux"))]
fn files(_: &Needs) -> Result<String, String> {
    Err("files: this system has no Landlock".to_owned())
}

/// Gives up all capabilities but one; says so, or why not. `None` if there are none, as for any user but root.
///
/// The one lets root pass through directories of others, whatever their modes: its own may be below them, as in a container's
/// volume, and paths are opened again later. What it may open, Landlock decides.
#[cfg(target_os = "linux")]
fn capabilities() -> Result<Option<String>, String> {
    use rustix::thread::{CapabilitySet, CapabilitySets};
    let fail = |errno: rustix::io::Errno| format!("capabilities: {}", std::io::Error::from(errno));
    let held = rustix::thread::capabilities(None).map_err(fail)?;
    if held.permitted.is_empty() && held.inheritable.is_empty() {
        return Ok(None);
    }
    let kept = held.permitted & CapabilitySet::DAC_READ_SEARCH;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).map_err(fail)?;
    Ok(Some("capabilities".to_owned()))
}

#[cfg(not(target_os = "linux"))]
fn capabilities() -> Result<Option<String>, String> {
    Ok(None)
}

/// Confines system calls; says so, or why not.
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
fn calls(needs: &Needs) -> Result<String, String> {
    calls::confine(needs).map(|()| "system calls".to_owned()).map_err(|why| format!("system calls: {why}"))
}

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
fn calls(_: &Needs) -> Result<String, String> {
    Err(format!("system calls: not supported on {}", std::env::consts::ARCH))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn needs(state: impl FnOnce(&mut Needs)) -> Needs {
        let mut needs = Needs::default();
        state(&mut needs);
        needs
    }

    #[test]
    fn a_file_is_allowed_by_its_directory_and_the_one_it_is_a_link_to() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        std::fs::create_dir(home.join("archive")).unwrap();
        std::fs::create_dir(home.join("live")).unwrap();
        std::fs::write(home.join("archive/ca1.pem"), "x").unwrap();
        symlink("../archive/ca1.pem", home.join("live/ca.pem")).unwrap();
        let found = needs(|needs| needs.read_file(&home.join("live/ca.pem")));
        assert_eq!(found.read, [home.join("archive"), home.join("live")].into());
        let absent = needs(|needs| needs.read_file(&home.join("new/ca.pem")));
        assert_eq!(absent.read, [home.join("new")].into());
        let at_root = needs(|needs| needs.read_file(Path::new("/ca.pem")));
        assert_eq!(at_root.read, [PathBuf::from("/ca.pem")].into(), "never the whole file system");
        symlink("loop", home.join("loop")).unwrap();
        needs(|needs| needs.read_file(&home.join("loop")));
    }

    /// A container's secrets: each update makes another directory, to which a link in the same place then leads.
    #[test]
    fn where_the_way_to_a_file_may_be_laid_anew_is_allowed() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path().canonicalize().unwrap();
        let secrets = home.join("secrets");
        std::fs::create_dir_all(secrets.join("..v1")).unwrap();
        std::fs::create_dir(home.join("config")).unwrap();
        std::fs::write(secrets.join("..v1/ca.pem"), "x").unwrap();
        symlink("..v1", secrets.join("..data")).unwrap();
        symlink("..data/ca.pem", secrets.join("ca.pem")).unwrap();
        symlink("../secrets/ca.pem", home.join("config/ca.pem")).unwrap();
        let found = needs(|needs| needs.read_file(&home.join("config/ca.pem")));
        assert_eq!(found.read, [home.join("config"), secrets.clone(), secrets.join("..v1")].into());
    }

    #[test]
    fn what_a_later_configuration_needs_beyond_the_first_is_named() {
        let held = needs(|needs| {
            needs.read_dir(Path::new("/srv/sts"));
            needs.write_dir(Path::new("/run/sts"));
            needs.connect(1883, false);
        });
        let beyond = |state: fn(&mut Needs)| needs(state).first_beyond(&held);
        assert_eq!(held.first_beyond(&held), None);
        assert_eq!(beyond(|needs| needs.read_dir(Path::new("/srv/sts/tls"))), None);
        assert_eq!(beyond(|needs| needs.read_dir(Path::new("/run/sts"))), None);
        assert_eq!(beyond(|needs| needs.read_dir(Path::new("/etc/ssl"))), None);
        assert_eq!(beyond(|needs| needs.read_dir(Path::new("/srv/stsx"))).as_deref(), Some("/srv/stsx"));
        assert_eq!(beyond(|needs| needs.write_dir(Path::new("/srv/sts"))).as_deref(), Some("/srv/sts"));
        assert_eq!(beyond(|needs| needs.connect(1883, true)).as_deref(), Some("TCP port 53"));
        assert_eq!(beyond(|needs| needs.connect(8883, false)).as_deref(), Some("TCP port 8883"));
        assert_eq!(beyond(Needs::bind).as_deref(), Some("a local address"));
        assert_eq!(beyond(Needs::connect_to_unix_socket).as_deref(), Some("Unix sockets"));
        let held = needs(|needs| needs.connect(DNS_PORT, false));
        let named = needs(|needs| needs.connect(DNS_PORT, true));
        assert_eq!(named.first_beyond(&Needs { look: named.look.clone(), ..held }).as_deref(), Some("host names"));
    }

    #[test]
    fn what_was_absent_at_the_start_is_not_held_when_it_is_made_later() {
        let home = tempfile::tempdir().unwrap();
        let there = |name: &str| home.path().join(name);
        std::fs::create_dir(there("keys")).unwrap();
        let stated = needs(|needs| {
            needs.read_dir(&there("keys"));
            needs.read_file(&there("tls/ca.pem"));
            needs.look_in_dir(&there("other"));
            needs.write_dir(&there("run"));
        });
        let held = stated.clone().granted();
        assert_eq!(held, needs(|needs| needs.read_dir(&there("keys"))));
        for name in ["tls", "run", "other"] {
            std::fs::create_dir(there(name)).unwrap();
        }
        assert_eq!(stated.first_beyond(&held), Some(there("tls").display().to_string()));
        let writes = needs(|needs| needs.write_dir(&there("run")));
        assert_eq!(writes.first_beyond(&held), Some(there("run").display().to_string()));
        assert_eq!(needs(|needs| needs.look_in_dir(&there("other"))).first_beyond(&held), None);
        assert_eq!(stated.first_beyond(&stated.clone().granted()), None);
    }
}
