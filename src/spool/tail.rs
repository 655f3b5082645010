//! The end of the queue, where any number of runs append.

use std::mem;

use super::chunk::{self, Record};
use super::cut_file;
use super::segments::{RecordReader, Segments};
use super::state::{self, SpoolState};
use super::store::RECORD_OVERHEAD_LEN;
use crate::Result;
use crate::files::{self, Dir, Lock, Stamp};

/// Held while something is appended, the last segment is removed, or what waits is cut anew.
const APPEND_LOCK: &str = "append";
/// How often in a row the run that sends takes the lock and finds nothing new before it keeps it.
const MAX_TURNS_ALONE: u32 = 100;

/// The segments of a spool as this run knows them, and the right to append to them.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) dir: Dir,
    pub(super) segments: Segments,
    access: Access,
    /// Bytes on the disk that wait.
    pub(super) waiting_on_disk: u64,
    /// Bytes of records that wait, with their times; at first a little more, if a record was written in many pieces.
    pub(super) waiting_data: u64,
    max: u64,
}

/// Who may append.
#[derive(Debug)]
enum Access {
    /// This run alone, until another one asks: it takes no lock for what it appends.
    Exclusive(Lock),
    /// Whoever has the lock.
    Shared(SharedAccess),
}

#[derive(Debug, Default)]
struct SharedAccess {
    /// The last segment as this run left it; others may have appended since.
    left: Option<Stamp>,
    /// Another run had the lock when this one last wanted it.
    is_behind: bool,
    /// How often in a row nobody else had appended when this run took the lock.
    turns_alone: u32,
}

impl Default for Access {
    /// That of a run which knows nothing of the segments.
    fn default() -> Self {
        Self::Shared(SharedAccess::default())
    }
}

/// The right to append, for a while.
pub(super) struct AppendTurn {
    pub(super) lock: Lock,
    /// Nobody else asks for it.
    keep: bool,
}

impl Tail {
    /// The tail of the run that sends, which holds the lock from then on. Returns how many bytes of a write that did not
    /// finish were cut off.
    pub(super) fn open(dir: Dir, lock: Lock, state: &SpoolState, max: u64) -> Result<(Self, u64)> {
        cut_file::recover(&dir, &lock, state.acknowledged)?;
        let (segments, cut_off) = Segments::open(&dir, &lock, state.acknowledged, state.sealed)?;
        let access = Access::Exclusive(lock);
        let mut tail = Self { dir, segments, access, waiting_on_disk: 0, waiting_data: 0, max };
        tail.count_waiting(state.acknowledged)?;
        Ok((tail, cut_off))
    }

    /// The tail of a run that only appends, which knows nothing before its first turn.
    pub(super) fn unknown(dir: Dir, max: u64) -> Self {
        let (segments, access) = (Segments::unknown(), Access::default());
        Self { dir, segments, access, waiting_on_disk: 0, waiting_data: 0, max }
    }

    /// The append lock; `None` where another run holds it.
    pub(super) fn lock(dir: &Dir) -> Result<Option<Lock>> {
        files::try_lock(dir, APPEND_LOCK)
    }

    /// Begins to append, with all in view that other runs appended; `None` where one of them appends now.
    pub(super) fn begin(&mut self, state: &SpoolState) -> Result<Option<AppendTurn>> {
        let mut shared = match mem::take(&mut self.access) {
            Access::Exclusive(lock) => return Ok(Some(AppendTurn { lock, keep: true })),
            Access::Shared(shared) => shared,
        };
        let lock = Self::lock(&self.dir)?;
        shared.is_behind = lock.is_none();
        let mut turn = None;
        if let Some(lock) = lock {
            let is_alone = !self.catch_up(&lock, state, shared.left.as_ref())?;
            shared.turns_alone = if is_alone { shared.turns_alone + 1 } else { 0 };
            turn = Some(AppendTurn { lock, keep: shared.turns_alone >= MAX_TURNS_ALONE });
        }
        self.access = Access::Shared(shared);
        Ok(turn)
    }

    /// Whether [`Tail::begin`] is to be tried again.
    pub(super) fn is_behind(&self) -> bool {
        matches!(&self.access, Access::Shared(shared) if shared.is_behind)
    }

    /// As [`Tail::begin`], for a run that only appends; `None` also where another run has left the segments to be mended.
    ///
    /// Of a state that is being written, an older one may be read. That of a spool without segments is the newest: it
    /// was synchronized before they were removed.
    pub(super) fn try_begin(&mut self) -> Result<Option<AppendTurn>> {
        let Some(lock) = Self::lock(&self.dir)? else { return Ok(None) };
        let Some(state) = state::peek(&self.dir)? else { return Ok(None) };
        let left = if let Access::Shared(shared) = &mut self.access { shared.left.take() } else { None };
        self.catch_up(&lock, &state, left.as_ref())?;
        let is_mended = !cut_file::is_begun(&self.dir, self.segments.whole())?;
        Ok(is_mended.then_some(AppendTurn { lock, keep: false }))
    }

    /// Ends what [`Tail::begin`] began.
    pub(super) fn end(&mut self, turn: AppendTurn) -> Result<()> {
        match &mut self.access {
            access if turn.keep => *access = Access::Exclusive(turn.lock),
            Access::Shared(shared) => shared.left = self.segments.last_stamp(&self.dir)?,
            Access::Exclusive(_) => {}
        }
        Ok(())
    }

    /// Holds the lock no longer than for each append from now on, until nobody else has appended for long.
    pub(super) fn share(&mut self) -> Result<()> {
        match &mut self.access {
            Access::Exclusive(_) => {
                let left = self.segments.last_stamp(&self.dir)?;
                self.access = Access::Shared(SharedAccess { left, ..SharedAccess::default() });
            }
            Access::Shared(shared) => shared.turns_alone = 0,
        }
        Ok(())
    }

    /// Appends records: as [`Segments::append`].
    pub(super) fn append(&mut self, turn: &AppendTurn, records: &[Record<'_>]) -> Result<bool> {
        let Some((written, data)) = self.segments.append(&self.dir, &turn.lock, records)? else { return Ok(false) };
        self.waiting_on_disk += written;
        self.waiting_data += data;
        Ok(true)
    }

    /// Most bytes that can be written now, in this number of records.
    pub(super) fn free_bytes(&self, records: usize) -> usize {
        let free = usize::try_from(self.max.saturating_sub(self.waiting_on_disk)).unwrap_or(usize::MAX);
        free.min(chunk::MAX_CHUNK_LEN).saturating_sub(records.saturating_mul(RECORD_OVERHEAD_LEN))
    }

    /// How many of these records, from the first on, there is room for. If that is not all of them, after a look at what the
    /// run that sends has acknowledged.
    pub(super) fn count_fitting(&mut self, records: &[Record<'_>]) -> Result<usize> {
        let fitting = self.fitting(records);
        if fitting < records.len()
            && let Some(state) = state::peek(&self.dir)?
        {
            self.count_waiting(state.acknowledged)?;
            return Ok(self.fitting(records));
        }
        Ok(fitting)
    }

    fn fitting(&self, records: &[Record<'_>]) -> usize {
        let mut free = self.free_bytes(0);
        let fits = |record: &&Record<'_>| {
            let rest = free.checked_sub(record.len_on_disk());
            free = rest.unwrap_or(0);
            rest.is_some()
        };
        records.iter().take_while(fits).count()
    }

    /// Whether no more than half of what may wait can still come.
    pub(super) fn is_half_full(&self) -> bool {
        self.waiting_on_disk >= self.max / 2
    }

    /// Counts what waits; returns a reader of the first record of that.
    pub(super) fn count_waiting(&mut self, acknowledged: u64) -> Result<RecordReader> {
        let (reader, on_disk) = self.segments.seek(&self.dir, acknowledged)?;
        let messages = (self.segments.whole() - acknowledged) + u64::from(self.segments.unfinished() > 0);
        self.waiting_on_disk = on_disk;
        self.waiting_data = on_disk.saturating_sub(messages * chunk::CHUNK_HEADER_LEN as u64);
        Ok(reader)
    }

    /// Takes notice of what other runs did since this one `left` the last segment; false where that is nothing.
    fn catch_up(&mut self, lock: &Lock, state: &SpoolState, left: Option<&Stamp>) -> Result<bool> {
        if let Some(left) = left
            && let Some((on_disk, data)) = self.segments.follow(&self.dir, lock, left)?
        {
            self.waiting_on_disk += on_disk;
            self.waiting_data += data;
            return Ok(on_disk > 0);
        }
        (self.segments, _) = Segments::open(&self.dir, lock, state.acknowledged, state.sealed)?;
        self.count_waiting(state.acknowledged)?;
        Ok(true)
    }
}
