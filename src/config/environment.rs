//! Where things are, as the environment says.

#![expect(clippy::disallowed_methods, reason = "it looks at the environment")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::files::{Dir, Guard};
use crate::name::LinkName;
use crate::text::show;
use crate::{Error, Exit, Result, files};

/// Where the machine's links are looked for by name, after the user's.
const SYSTEM_DIR: &str = "/etc/sts";
/// Where sessions are without any variable, and under what each user has a runtime directory.
const SYSTEM_RUNTIME_DIR: &str = "/run/sts";
const RUNTIME_HOMES: &str = "/run/user";

/// The environment variables that say where things are; empty ones count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment {
    /// `STS_CONFIG_DIR`: the only place to look for a link by name.
    pub(crate) config_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`, else `HOME` with `.config`.
    pub(crate) config_home: Option<PathBuf>,
    /// `HOME`, if the one before comes from it.
    pub(crate) home: Option<PathBuf>,
    /// `STS_RUNTIME_DIR`.
    pub(crate) runtime_dir: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub(crate) runtime_home: Option<PathBuf>,
    /// `STS_LINK`: the link that is meant where none is named.
    pub(crate) link: Option<OsString>,
}

impl Environment {
    /// The process's own.
    #[must_use]
    pub fn of_process() -> Self {
        Self::from_lookup(|name| std::env::var_os(name))
    }

    /// From any lookup of variables by name.
    pub(crate) fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        // The XDG base directory specification: a relative path in its variables is ignored.
        let absolute = |name: &str| set(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let config_home = absolute("XDG_CONFIG_HOME");
        let home = absolute("HOME").filter(|_| config_home.is_none());
        Self {
            config_dir: set("STS_CONFIG_DIR").map(PathBuf::from),
            config_home: config_home.or_else(|| home.as_ref().map(|home| home.join(".config"))),
            home,
            runtime_dir: set("STS_RUNTIME_DIR").map(PathBuf::from),
            runtime_home: absolute("XDG_RUNTIME_DIR"),
            link: set("STS_LINK"),
        }
    }

    /// Where links are looked for by name, in this order.
    #[must_use]
    pub(crate) fn config_dirs(&self) -> Vec<PathBuf> {
        match (&self.config_dir, &self.config_home) {
            (Some(dir), _) => vec![dir.clone()],
            (None, Some(home)) => vec![home.join("sts"), PathBuf::from(SYSTEM_DIR)],
            (None, None) => vec![PathBuf::from(SYSTEM_DIR)],
        }
    }

    /// Whether a link of this name has a configuration.
    pub(crate) fn has_configuration(&self, link: &LinkName) -> bool {
        self.config_dirs().iter().any(|dir| dir.join(format!("{link}.conf")).exists())
    }

    /// Where the identity key and the known peers are if no link says otherwise: the first of
    /// [`Environment::config_dirs`], or the machine's for a user who owns that one and has none of their own, such as
    /// the user of the services.
    #[must_use]
    pub(crate) fn identity_dir(&self) -> PathBuf {
        let dirs = self.config_dirs();
        let is_ours = |dir: &&PathBuf| dir.metadata().is_ok_and(|found| found.uid() == files::us());
        let found = dirs.iter().find(|dir| dir.exists()).filter(is_ours);
        found.or(dirs.first()).map_or_else(|| SYSTEM_DIR.into(), PathBuf::clone)
    }

    /// Where sessions are: `$STS_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/sts`, else `/run/sts`.
    #[must_use]
    pub(crate) fn runtime_dir(&self) -> PathBuf {
        let home = || self.runtime_home.as_ref().map(|home| home.join("sts"));
        self.runtime_dir.clone().or_else(home).unwrap_or_else(|| SYSTEM_RUNTIME_DIR.into())
    }

    /// Whether `$STS_RUNTIME_DIR` says where sessions are.
    pub(crate) fn is_runtime_dir_set(&self) -> bool {
        self.runtime_dir.is_some()
    }

    /// Where the sessions of this user are as a tool is run from a login session, from cron, or by a service manager.
    #[must_use]
    pub(crate) fn usual_runtime_dirs(&self, user: u32) -> Vec<PathBuf> {
        let homes = self.runtime_home.iter().cloned().chain([PathBuf::from(format!("{RUNTIME_HOMES}/{user}"))]);
        homes.map(|home| home.join("sts")).chain([SYSTEM_RUNTIME_DIR.into()]).collect()
    }

    /// Adds to an error what to do where `HOME` is another user's, as after su(1).
    #[must_use]
    pub(crate) fn explain(&self, error: Error) -> Error {
        match self.home_of_another().filter(|_| error.hint_text().is_none()) {
            Some((what, remedy)) => error.hint(format!("{what}: {remedy}")),
            None => error,
        }
    }

    /// Opens the directory of the keys, made first where it is absent. Root makes none in the home of another user, who could
    /// not use it.
    ///
    /// # Errors
    /// As [`Dir::create`]; [`Exit::NotTrusted`] where root is to make it there.
    pub(crate) fn create_identity_dir(&self, path: &Path) -> Result<Dir> {
        if !path.exists() {
            refuse_root(self.home_of_another())?;
        }
        Dir::create(path, Guard::Public).map_err(|error| self.explain(error))
    }

    /// What root is told about keys of its own where no link of root can use them, and the machine's links belong to the
    /// user of the services.
    #[must_use]
    pub(crate) fn hint_at_service(&self) -> Option<String> {
        hint_at_service(&self.config_dirs(), files::us())
    }

    /// Whether the directory of the sessions may be made where the environment says.
    ///
    /// # Errors
    /// [`Exit::NotTrusted`] where root is to make it in the runtime directory of another user, who could not use it.
    pub(crate) fn check_runtime_home(&self) -> Result<()> {
        let home = self.runtime_home.as_ref().filter(|_| self.runtime_dir.is_none());
        refuse_root(
            home.and_then(|home| of_another("XDG_RUNTIME_DIR", home))
                .map(|what| (what, format!("unset it, or set STS_RUNTIME_DIR, for example to {SYSTEM_RUNTIME_DIR}"))),
        )
    }

    /// What is wrong with `HOME`, and what to do.
    fn home_of_another(&self) -> Option<(String, String)> {
        let home = self.home.as_ref().filter(|_| self.config_dir.is_none())?;
        let remedy = format!("set HOME to your own home directory, or set STS_CONFIG_DIR, for example to {SYSTEM_DIR}");
        Some((of_another("HOME", home)?, remedy))
    }
}

fn of_another(variable: &str, home: &Path) -> Option<String> {
    let owner = home.metadata().ok()?.uid();
    let said = || format!("{variable} is {}, which belongs to user {}", show(home), files::user_name(owner));
    (owner != files::us()).then(said)
}

/// As [`Environment::hint_at_service`], for the directory of the user `us` and that of the machine.
fn hint_at_service(dirs: &[PathBuf], us: u32) -> Option<String> {
    let [own, services] = dirs else { return None };
    let owner = services.metadata().ok()?.uid();
    let is_link = |entry: std::io::Result<fs::DirEntry>| {
        entry.is_ok_and(|entry| entry.path().extension().is_some_and(|extension| extension == "conf"))
    };
    let has_links = own.read_dir().is_ok_and(|mut entries| entries.any(is_link));
    (us == 0 && owner != us && !has_links).then(|| {
        let (dir, user) = (show(services), files::user_name(owner));
        format!("for the links in {dir}, which belongs to user {user}, {}", files::run_as(owner))
    })
}

fn refuse_root(wrong: Option<(String, String)>) -> Result<()> {
    match wrong.filter(|_| files::us() == 0) {
        Some((what, remedy)) => Err(Error::new(Exit::NotTrusted, what).hint(remedy)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Environment {
        Environment::from_lookup(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into()))
    }

    #[test]
    fn directories_come_from_the_environment() {
        let dirs = |pairs: &[(&str, &str)]| {
            env(pairs).config_dirs().iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(dirs(&[]), ["/etc/sts"]);
        assert_eq!(dirs(&[("HOME", "/h")]), ["/h/.config/sts", "/etc/sts"]);
        assert_eq!(dirs(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]), ["/x/sts", "/etc/sts"]);
        assert_eq!(
            dirs(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "x"), ("STS_CONFIG_DIR", "")]),
            ["/h/.config/sts", "/etc/sts"]
        );
        assert_eq!(dirs(&[("HOME", "/h"), ("STS_CONFIG_DIR", "here")]), ["here"]);
        assert_eq!(env(&[]).runtime_dir(), Path::new("/run/sts"));
        assert_eq!(env(&[("XDG_RUNTIME_DIR", "/r")]).runtime_dir(), Path::new("/r/sts"));
        assert_eq!(env(&[("XDG_RUNTIME_DIR", "/r"), ("STS_RUNTIME_DIR", "/s")]).runtime_dir(), Path::new("/s"));
    }

    /// Only root can give a directory to another user.
    #[test]
    fn root_without_links_is_told_to_use_the_keys_of_a_service() {
        let dir = tempfile::tempdir().unwrap();
        let [own, services] = ["own", "services"].map(|name| dir.path().join(name));
        let dirs = [own.clone(), services.clone()];
        assert_eq!(hint_at_service(&dirs, 0), None, "there is no service");
        fs::create_dir(&services).unwrap();
        if std::os::unix::fs::chown(&services, Some(65_534), None).is_err() {
            return;
        }
        let hint = hint_at_service(&dirs, 0).unwrap();
        let dir = services.display();
        let said = format!(
            "for the links in {dir}, which belongs to user nobody, run this as that user: runuser -u nobody -- "
        );
        assert!(hint.starts_with(&said), "{hint}");
        assert_eq!(hint_at_service(&dirs, 1000), None, "a login user's own key");
        assert_eq!(hint_at_service(&dirs[..1], 0), None, "STS_CONFIG_DIR");
        fs::create_dir(&own).unwrap();
        fs::write(own.join("known_peers"), "").unwrap();
        assert_eq!(hint_at_service(&dirs, 0), Some(hint));
        fs::write(own.join("plant.conf"), "").unwrap();
        assert_eq!(hint_at_service(&dirs, 0), None, "root has a link");
    }
}
