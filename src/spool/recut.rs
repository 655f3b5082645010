//! Cuts what waits into shorter records, where they became too long for a message.
//!
//! What waits is written once more, under new numbers, to a file that no segment has the name of. What makes it valid is one
//! synchronized write of the state, after which all old records are acknowledged, and the new ones are next. Only then it gets the name of a
//! segment. A run that finds such a file gives it that name if the state says so, and removes it if not.

use bytes::BytesMut;

use super::{Segments, Spool, chunk};
use crate::Result;
use crate::files::{self, Dir, Lock};

/// How the name of a file ends that is not a segment yet.
const SUFFIX: &str = ".cut";
/// Bytes that are written at once.
const WRITE_LEN: usize = 1 << 20;

impl Spool {
    /// Whether all that was read is acknowledged.
    #[must_use]
    pub(crate) fn is_settled(&self) -> bool {
        self.next == self.state.acknowledged
    }

    /// Cuts each record that waits into pieces: `len` says how long the first one of some bytes is. Whatever stream they were
    /// sealed in, they go into another one. Returns how many may have been sent; `None` where the disk is full, and nothing
    /// has changed. Only where [`Spool::is_settled`].
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn recut(&mut self, len: impl Fn(&[u8]) -> usize) -> Result<Option<u64>> {
        let first = self.whole();
        let sent = self.may_be_sealed().saturating_sub(self.next);
        if self.unfinished() > 0 || !self.write_cut(first, len)? {
            files::remove(&self.dir, &cut_name(first))?;
            return Ok(None);
        }
        // Its number was reserved and nothing was sealed in it: the receiver would miss it.
        let next = self.state.stream.and_then(|old| old.continued_in(first)).map(|(_, next)| next);
        (self.state.acknowledged, self.state.sealed) = (first, first);
        self.set_stream(next)?;
        recover(&self.dir, &self.lock, first)?;
        (self.segments, _) = Segments::open(&self.dir, &self.lock, first, first)?;
        self.rewind()?;
        self.remove_read(0)?;
        Ok(Some(sent))
    }

    /// False where the disk is full.
    fn write_cut(&self, first: u64, len: impl Fn(&[u8]) -> usize) -> Result<bool> {
        let Some(mut file) = files::create_to_append(&self.dir, &self.lock, &cut_name(first))? else {
            return Ok(false);
        };
        let (mut reader, _) = self.segments.seek(&self.dir, self.next)?;
        let (mut number, mut bytes, mut out) = (first, BytesMut::new(), Vec::new());
        for old in self.next..first {
            bytes.clear();
            self.segments.read(&self.dir, &mut reader, old, &mut bytes, usize::MAX)?;
            let mut rest = &bytes[..];
            loop {
                let piece;
                (piece, rest) = rest.split_at(len(rest).max(1).min(rest.len()));
                chunk::put(&mut out, number, piece, true);
                number += 1;
                if rest.is_empty() {
                    break;
                }
            }
            if out.len() >= WRITE_LEN && !file.append_if_room(&std::mem::take(&mut out))? {
                return Ok(false);
            }
        }
        if !file.append_if_room(&out)? {
            return Ok(false);
        }
        file.sync().map(|()| true)
    }
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

fn cut_name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}
