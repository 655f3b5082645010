//! Where records can be appended, whether this run sends or another one does.

use std::path::{Path, PathBuf};

use super::chunk::{self, Record};
use crate::Result;
use crate::files::{Dir, Guard};
use crate::stream::SentTime;
use crate::units::Size;

/// Most bytes that a record takes on the disk besides its own.
pub(super) const RECORD_OVERHEAD_LEN: usize = chunk::CHUNK_HEADER_LEN + SentTime::LEN;

/// Which spool, and how much may wait in it.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The directory.
    pub dir: PathBuf,
    /// Most bytes that wait in it.
    pub max: Size,
    /// Keep the time of each record that has one, which makes it a spool that earlier versions refuse.
    pub keeps_times: bool,
}

impl SpoolOptions {
    /// Makes the directory, with mode 0700, where it is absent.
    ///
    /// # Errors
    /// As [`Dir::create`].
    pub(crate) fn create_dir(&self) -> Result<Dir> {
        Dir::create(&self.dir, Guard::Private)
    }
}

/// Most bytes of a record that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RecordLimit {
    bytes: usize,
    /// Of a record with a time.
    with_time: usize,
}

impl RecordLimit {
    /// Any record.
    pub(super) const NONE: Self = Self { bytes: usize::MAX, with_time: usize::MAX };

    /// At most this many bytes, of which a time takes `time_room`.
    pub(crate) fn new(bytes: usize, time_room: usize) -> Self {
        Self { bytes, with_time: bytes.saturating_sub(time_room) }
    }

    pub(super) fn of(self, sent: Option<SentTime>) -> usize {
        if sent.is_some() { self.with_time } else { self.bytes }
    }
}

/// Where standard input is kept.
pub(crate) trait RecordStore {
    /// Its path, for messages.
    fn path(&self) -> &Path;

    /// Most bytes that can be written at once in this number of records: how many a read becomes, its caller knows. A bound for a run that sends;
    /// one that only appends does not know before [`RecordStore::append`], and reads as much as it likes.
    fn free_bytes(&self, records: usize) -> usize;

    /// Whether the last record has no end, as only earlier versions leave it: the next [`RecordStore::append`] ends it.
    fn is_unfinished(&self) -> bool;

    /// Appends the first ones of these records, as many as there is room for, in one write. What is written survives the
    /// end of this process. The run that sends never says [`Appended::Full`], since what was read must be kept: it asks
    /// for [`RecordStore::free_bytes`] before it reads, or makes a record of its own.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] if they cannot be written for a reason that does not pass by itself.
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended>;
}

/// What was appended. Where that is nothing, no event says when it is of use to try again: who appends takes a time for that,
/// as the run's deadline has it for input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Appended {
    /// So many records, and at least one if there was any.
    Records(usize),
    /// Nothing: the disk has no room for them.
    DiskFull,
    /// Nothing: the spool has no room for the first one. Only an [`Inlet`](super::Inlet) says so: a run that sends reads no
    /// more than there is room for.
    Full,
    /// Nothing: another run appends now.
    Busy,
}
