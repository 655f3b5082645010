//! Where records can be appended, whether this run sends or another one does.

use std::path::{Path, PathBuf};

use super::chunk;
use crate::Result;
use crate::units::Size;

/// What each record takes on the disk besides its bytes, in bytes.
pub(crate) const RECORD_OVERHEAD_LEN: usize = chunk::CHUNK_HEADER_LEN;

/// Which spool, and how much may wait in it.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The directory.
    pub dir: PathBuf,
    /// Most bytes that wait in it.
    pub max: Size,
}

/// Where standard input is kept.
pub(crate) trait RecordStore {
    /// Its path, for messages.
    fn path(&self) -> &Path;

    /// Most bytes that can be written now, in this number of records.
    fn free_bytes(&self, records: usize) -> usize;

    /// Whether the last record has no end, as only earlier versions leave it: the next [`RecordStore::append`] ends it.
    fn is_unfinished(&self) -> bool;

    /// Appends records, in one write: all of them, or none. What is written survives the end of this process.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] if they cannot be written for a reason that does not pass by itself.
    fn append(&mut self, records: &[&[u8]]) -> Result<Appended>;
}

/// Whether records were appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// They were.
    Yes,
    /// The disk has no room for them.
    DiskFull,
    /// The spool has no room for them.
    Full,
    /// Another run appends now.
    Busy,
}
