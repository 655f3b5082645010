//! Cuts what waits into shorter records, where they became too long for a message.
//!
//! What waits is written once more, under new numbers, to a file that no segment has the name of ([`super::cut_file`]).
//! What makes it valid is one synchronized write of the state, after which all old records are acknowledged, and the
//! new ones are next. Only then it gets the name of a segment.

use bytes::BytesMut;

use super::Spool;
use super::chunk::{self, Record};
use super::cut_file::{cut_name, recover};
use super::segments::Segments;
use super::store::{RecordLimit, RecordStore};
use crate::Result;
use crate::files::{self, Lock};

/// Bytes that are written at once.
const WRITE_LEN: usize = 1 << 20;

/// What became of cutting anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recut {
    /// It is done; so many of the old records may have been sent.
    Done(u64),
    /// Nothing has changed: the disk is full.
    DiskFull,
    /// Nothing has changed: another run appends now.
    Busy,
}

impl Spool {
    /// Whether all that was read is acknowledged.
    #[must_use]
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.next == self.state.acknowledged
    }

    /// Cuts each record that waits into pieces: `len` says how long the first one of some bytes is. Whatever sequence
    /// they were sealed in, they go into another one. `mark` is the number of a record, and becomes its new one. Called only where
    /// [`Spool::is_acknowledged`].
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn recut(&mut self, len: impl Fn(&[u8]) -> usize, mark: &mut u64) -> Result<Recut> {
        let Some(turn) = self.tail.begin(&self.state)? else { return Ok(Recut::Busy) };
        let (first, sent) = (self.whole(), self.sealed_before());
        let new_mark = if self.is_unfinished() { None } else { self.write_cut(&turn.lock, first, len, *mark)? };
        let Some(new_mark) = new_mark else {
            files::remove(&self.tail.dir, &cut_name(first))?;
            self.tail.end(turn)?;
            return Ok(Recut::DiskFull);
        };
        *mark = new_mark;
        (self.state.acknowledged, self.state.sealed) = (first, first);
        // The new records have no positions in the old one.
        self.set_sequence(None)?;
        recover(&self.tail.dir, &turn.lock, first)?;
        (self.tail.segments, _) = Segments::open(&self.tail.dir, &turn.lock, first, first)?;
        self.rewind()?;
        self.remove_read(&turn, 0)?;
        self.tail.end(turn)?;
        Ok(Recut::Done(sent))
    }

    /// Returns the new number of the record `mark`; `None` where the disk is full.
    fn write_cut(&self, lock: &Lock, first: u64, len: impl Fn(&[u8]) -> usize, mark: u64) -> Result<Option<u64>> {
        let Some(mut file) = files::create_to_append(&self.tail.dir, lock, &cut_name(first))? else {
            return Ok(None);
        };
        let (mut reader, _) = self.tail.segments.seek(&self.tail.dir, self.next)?;
        let (mut number, mut bytes, mut out) = (first, BytesMut::new(), Vec::new());
        let mut new_mark = mark;
        for old in self.next..first {
            if old == mark {
                new_mark = number;
            }
            bytes.clear();
            let read = self.tail.segments.read(&self.tail.dir, &mut reader, old, &mut bytes, RecordLimit::NONE)?;
            let sent = read.and_then(|(_, sent)| sent);
            let mut rest = &bytes[..];
            loop {
                let piece;
                (piece, rest) = rest.split_at(len(rest).max(1).min(rest.len()));
                chunk::put(&mut out, number, Record { bytes: piece, sent }, true);
                number += 1;
                if rest.is_empty() {
                    break;
                }
            }
            if out.len() >= WRITE_LEN && !file.append_if_room(&std::mem::take(&mut out))? {
                return Ok(None);
            }
        }
        if !file.append_if_room(&out)? {
            return Ok(None);
        }
        file.sync()?;
        Ok(Some(if mark == first { number } else { new_mark }))
    }
}
