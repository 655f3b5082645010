//! Standard input, cut into the records of a spool.

use super::record_check::RecordCheck;
use crate::stdio::Split;
use crate::{Result, spool};

/// Where records end, how long they may be, and which of them can be sent.
pub(super) struct RecordCutter {
    split: Split,
    max_record: usize,
    check: RecordCheck,
    /// How many records this run has written.
    written: u64,
}

impl RecordCutter {
    pub(super) fn new(split: Split, max_record: usize, check: RecordCheck) -> Self {
        Self { split, max_record, check, written: 0 }
    }

    /// Most bytes of a record.
    pub(super) fn max_record(&self) -> usize {
        self.max_record
    }

    /// Cuts shorter records from now on, if this is less.
    pub(super) fn limit_records(&mut self, max_record: usize) {
        self.max_record = self.max_record.min(max_record);
    }

    /// The length of the first record that these bytes make, if nothing follows them.
    pub(super) fn first_record_len(&self, bytes: &[u8]) -> usize {
        self.split.next(bytes, self.max_record, true).unwrap_or(0)
    }

    /// Most bytes of data that fit into this room of a spool, into however many records they are cut.
    pub(super) fn max_data(&self, room: usize) -> usize {
        match self.split {
            // Each byte may be a line of its own.
            Split::Each => room / (1 + spool::RECORD_OVERHEAD_LEN),
            Split::Lines | Split::Binary => room,
        }
    }

    /// These bytes, cut into records as far as they can be sent, and why the next one cannot; `at_end` says that nothing
    /// follows them.
    pub(super) fn cut<'a>(&self, bytes: &'a [u8], at_end: bool) -> (Vec<&'a [u8]>, Result<()>) {
        let (mut rest, mut records) = (bytes, Vec::new());
        while let Some(len) = self.split.next(rest, self.max_record, at_end) {
            let (record, after) = rest.split_at(len);
            let number = self.written + records.len() as u64 + 1;
            if let Err(refused) = self.check.check(record, at_end && after.is_empty(), number) {
                return (records, Err(refused));
            }
            records.push(record);
            rest = after;
        }
        (records, Ok(()))
    }

    /// This many more of the records were written.
    pub(super) fn advance(&mut self, count: usize) {
        self.written += count as u64;
    }
}
