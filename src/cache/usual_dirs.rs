//! Where else sessions may be than where a tool looks: a login session sets `XDG_RUNTIME_DIR`, and cron does not.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::link_of;
use crate::config::Environment;
use crate::files::{self, Dir, Guard};
use crate::name::LinkName;
use crate::text::quote;
use crate::{Error, Result};

/// Another usual runtime directory that has sessions, of `link` if one is given.
pub(super) fn other_with_sessions(path: &Path, link: Option<&LinkName>) -> Option<PathBuf> {
    let has_sessions = |dir: &PathBuf| {
        let Ok(Some(dir)) = Dir::look(dir, Guard::Private) else { return false };
        let is_wanted = |name: &String| link_of(name).is_some_and(|of| link.is_none_or(|link| of == link.as_str()));
        dir.names().is_ok_and(|names| names.iter().any(is_wanted))
    };
    let others = Environment::of_process().usual_runtime_dirs(files::us());
    others.into_iter().filter(|other| other.as_os_str() != path.as_os_str()).find(has_sessions)
}

/// Opens a runtime directory to look at it; `None` where there is none.
///
/// # Errors
/// As [`Dir::look`], with the remedy.
pub(super) fn look(path: &Path) -> Result<Option<Dir>> {
    Dir::look(path, Guard::Private).map_err(|error| unusable(path, error))
}

/// The error of a runtime directory that cannot be used, with the remedy. Root is told to run the tool as another user.
pub(super) fn unusable(path: &Path, error: Error) -> Error {
    let us = files::us();
    let owner = path.metadata().map(|found| found.uid());
    if owner.as_ref().is_ok_and(|owner| *owner == us || us == 0) {
        return error;
    }
    if let Some(other) = other_with_sessions(path, None) {
        return error.hint(format!("there are sessions in {0}: set STS_RUNTIME_DIR={0}", quote(&other)));
    }
    let own = "set STS_RUNTIME_DIR to a directory of your own";
    if let Ok(owner) = owner {
        return error.hint(format!("run this as user {}; or {own}", files::user_name(owner)));
    }
    error.hint(format!("as root: install -d -m 0700 -o {} {}; or {own}", files::user_name(us), quote(path)))
}
