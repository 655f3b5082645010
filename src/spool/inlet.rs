//! A run that appends to a spool from which another one sends.

use std::path::Path;

use super::bell;
use super::chunk::Record;
use super::owner::{Owner, format_of};
use super::store::{Appended, RecordStore, SpoolOptions};
use super::tail::Tail;
use crate::Result;

/// The end of a spool, for appending only.
#[derive(Debug)]
pub(crate) struct Inlet {
    tail: Tail,
    /// The run that sends decides, which alone can change the format.
    keeps_times: bool,
}

impl Inlet {
    /// `None` where the run that sends has not made the spool yet.
    ///
    /// # Errors
    /// [`crate::Exit::Config`] where the spool belongs to another link or peer.
    pub(crate) fn open(options: &SpoolOptions, owner: Owner<'_>) -> Result<Option<Self>> {
        let dir = options.create_dir()?;
        let Some(format) = format_of(&dir, owner)? else { return Ok(None) };
        Ok(Some(Self { tail: Tail::unknown(dir, options.max.bytes()), keeps_times: format.keeps_times() }))
    }
}

impl RecordStore for Inlet {
    fn path(&self) -> &Path {
        self.tail.dir.path()
    }

    /// The other run makes room all the time.
    fn free_bytes(&self, _records: usize) -> usize {
        usize::MAX
    }

    fn is_unfinished(&self) -> bool {
        false
    }

    /// What is appended survives a power cut. Then the run that sends is told.
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended> {
        let without_times: Vec<Record<'_>>;
        let records = if self.keeps_times {
            records
        } else {
            without_times = records.iter().map(|record| record.bytes.into()).collect();
            &without_times
        };
        let Some(turn) = self.tail.try_begin()? else {
            bell::ring(&self.tail.dir)?;
            return Ok(Appended::Busy);
        };
        let fitting = self.tail.count_fitting(records)?;
        let appended = if fitting == 0 && !records.is_empty() {
            Appended::Full
        } else if self.tail.append(&turn, &records[..fitting])? {
            Appended::Records(fitting)
        } else {
            Appended::DiskFull
        };
        self.tail.segments.sync()?;
        self.tail.end(turn)?;
        bell::ring(&self.tail.dir)?;
        Ok(appended)
    }
}
