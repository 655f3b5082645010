//! A segment that is being made of records that became too long, until it has the name of one: [`super::recut`].
//!
//! A sender that finds such a file gives it that name if the state says that it is valid, and removes it if not.

use crate::Result;
use crate::files::{self, Dir, Lock};

/// How its name ends.
const SUFFIX: &str = ".cut";

/// Whether a run began it, with this record as the first one, and did not come to the end.
pub(super) fn is_begun(dir: &Dir, first: u64) -> Result<bool> {
    files::stamp(dir, &cut_name(first)).map(|stamp| stamp.is_some())
}

/// Finishes what a run began, if the state says that it did: records below `acknowledged` are.
pub(super) fn recover(dir: &Dir, lock: &Lock, acknowledged: u64) -> Result<()> {
    for name in dir.names()? {
        let Some(segment) = name.strip_suffix(SUFFIX) else { continue };
        match u64::from_str_radix(segment, 16) {
            Ok(first) if first <= acknowledged => files::rename(dir, lock, &name, segment)?,
            Ok(_) => drop(files::remove(dir, &name)?),
            Err(_) => {}
        }
    }
    Ok(())
}

/// Its name, from its first record.
pub(super) fn cut_name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}
