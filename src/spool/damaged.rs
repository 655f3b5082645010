//! The error of a spool that does not hold what it should.

use crate::files::Dir;
use crate::text::{quote, show};
use crate::{Error, Exit};

/// The error of a spool that a later version wrote: it is left as it is.
pub(super) fn of_later_version(dir: &Dir) -> Error {
    Error::new(Exit::Protocol, format!("the spool {}", show(dir.path())))
        .because("a later version of these tools wrote it")
        .hint("use that version on this device; the spool is left as it is")
}

pub(super) fn damaged(dir: &Dir, why: &str) -> Error {
    Error::new(Exit::DataLost, format!("the spool {} is damaged", show(dir.path())))
        .because(why)
        .hint(format!("to start again with an empty spool: mv {0} {0}.damaged", quote(dir.path())))
}
