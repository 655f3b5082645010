//! The error of a spool that does not hold what it should.

use crate::files::Dir;
use crate::text::{quote, show};
use crate::{Error, Exit};

pub(super) fn damaged(dir: &Dir, why: &str) -> Error {
    Error::new(Exit::DataLost, format!("the spool {} is damaged", show(dir.path())))
        .because(why)
        .hint(format!("to start again with an empty spool: mv {0} {0}.damaged", quote(dir.path())))
}
