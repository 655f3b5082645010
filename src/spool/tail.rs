//! The end of the queue, where any number of runs append.

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
    /// Held for as long as no other run asks for it, so that a run alone takes no lock for what it appends.
    held: Option<Lock>,
    /// The last segment as this run left it, where other runs may have appended since.
    left: Option<Stamp>,
    /// Bytes on the disk that wait.
    pub(super) waiting_on_disk: u64,
    /// Bytes of records that wait, with their times; at first a little more, if a record was written in many pieces.
    pub(super) waiting_data: u64,
    max: u64,
    /// Another run held the lock when this one last wanted it.
    behind: bool,
    /// How often in a row nobody else had appended when this run took the lock.
    turns_alone: u32,
}

/// The right to append, for a while.
pub(super) struct AppendTurn {
    pub(super) lock: Lock,
    /// It is to be held on.
    keep: bool,
}

impl Tail {
    /// The tail of the run that sends, which holds the lock from then on. Returns how many bytes of a write that did not
    /// finish were cut off.
    pub(super) fn open(dir: Dir, lock: Lock, state: &SpoolState, max: u64) -> Result<(Self, u64)> {
        cut_file::recover(&dir, &lock, state.acknowledged)?;
        let (segments, cut_off) = Segments::open(&dir, &lock, state.acknowledged, state.sealed)?;
        let mut tail = Self {
            dir,
            segments,
            held: Some(lock),
            left: None,
            waiting_on_disk: 0,
            waiting_data: 0,
            max,
            behind: false,
            turns_alone: 0,
        };
        tail.count_waiting(state.acknowledged)?;
        Ok((tail, cut_off))
    }

    /// The tail of a run that only appends, which knows nothing before its first turn.
    pub(super) fn unknown(dir: Dir, max: u64) -> Self {
        let segments = Segments::unknown();
        Self {
            dir,
            segments,
            held: None,
            left: None,
            waiting_on_disk: 0,
            waiting_data: 0,
            max,
            behind: false,
            turns_alone: 0,
        }
    }

    /// The append lock; `None` where another run holds it.
    pub(super) fn lock(dir: &Dir) -> Result<Option<Lock>> {
        files::try_lock(dir, APPEND_LOCK)
    }

    /// Begins to append, with all in view that other runs appended; `None` where one of them appends now.
    pub(super) fn begin(&mut self, state: &SpoolState) -> Result<Option<AppendTurn>> {
        if let Some(lock) = self.held.take() {
            return Ok(Some(AppendTurn { lock, keep: true }));
        }
        let lock = Self::lock(&self.dir)?;
        self.behind = lock.is_none();
        let Some(lock) = lock else { return Ok(None) };
        let is_alone = !self.catch_up(&lock, state)?;
        self.turns_alone = if is_alone { self.turns_alone + 1 } else { 0 };
        Ok(Some(AppendTurn { lock, keep: self.turns_alone >= MAX_TURNS_ALONE }))
    }

    /// Whether [`Tail::begin`] is to be tried again.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// As [`Tail::begin`], for a run that only appends; `None` also where another run has left the segments to be mended.
    ///
    /// Of a state that is being written, an older one may be read. That of a spool without segments is the newest: it
    /// was synchronized before they were removed.
    pub(super) fn try_begin(&mut self) -> Result<Option<AppendTurn>> {
        let Some(lock) = Self::lock(&self.dir)? else { return Ok(None) };
        let Some(state) = state::peek(&self.dir)? else { return Ok(None) };
        self.catch_up(&lock, &state)?;
        let is_mended = !cut_file::is_begun(&self.dir, self.segments.whole())?;
        Ok(is_mended.then_some(AppendTurn { lock, keep: false }))
    }

    /// Ends what [`Tail::begin`] began.
    pub(super) fn end(&mut self, turn: AppendTurn) -> Result<()> {
        if turn.keep {
            self.held = Some(turn.lock);
        } else {
            self.left = self.segments.last_stamp(&self.dir)?;
        }
        Ok(())
    }

    /// Holds the lock no longer than for each append from now on, until nobody else has appended for long.
    pub(super) fn share(&mut self) -> Result<()> {
        self.turns_alone = 0;
        if self.held.is_some() {
            self.left = self.segments.last_stamp(&self.dir)?;
            self.held = None;
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

    /// Takes notice of what other runs did since this one appended; false where that is nothing.
    fn catch_up(&mut self, lock: &Lock, state: &SpoolState) -> Result<bool> {
        if let Some(left) = &self.left
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
