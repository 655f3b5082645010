//! How a run that appends wakes the one that sends: a byte in a named pipe.

use std::os::fd::OwnedFd;

use crate::Result;
use crate::files::{self, Dir};

const FILE_NAME: &str = "bell";

/// What becomes readable when another run asks for the append lock, or has appended something.
pub(super) fn listen(dir: &Dir) -> Result<Option<OwnedFd>> {
    files::listen(dir, FILE_NAME)
}

/// Wakes the run that sends, if there is one.
pub(super) fn ring(dir: &Dir) -> Result<()> {
    files::ring(dir, FILE_NAME)
}
