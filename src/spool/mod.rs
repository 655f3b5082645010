//! Input on disk until it is acknowledged: `sts-send --spool`.
//!
//! A spool is a directory with a queue of records, each of which is or becomes one message. Its files are:
//!
//! | file | is |
//! |---|---|
//! | `lock` | held by the one process that uses the spool |
//! | `owner` | the link and the peer that it belongs to |
//! | `waiting` | since when something waits that the last run left ([`backlog`]) |
//! | `state` | which records are acknowledged, and the stream that they are sealed in ([`SpooledStream`]) |
//! | sixteen digits | a segment: records from that number on, in chunks with a sum each, appended and never changed |
//! | sixteen digits and `.cut` | a segment that is being made of records that became too long ([`recut`]) |
//!
//! A record is kept as plaintext, and its number decides which message of its stream it is. So it is on the disk,
//! synchronized, before it is sealed for the first time: whatever crashes, the next run makes the same message of it under
//! the same nonce, for the receiver to drop if it has it, and never another one. A write that was cut short was never
//! sealed, and what it leaves behind is cut off.
//!
//! [`SpooledStream::seq`] makes the seq of a record of its number: counted from the stream's first record, and one more if
//! the stream begins with a message that is no record, which is a `continues` ([`Spool::advance_stream`]). Any other message
//! among the records would shift those after it in the same way, so the state must say where it is before it is sealed.

mod backlog;
mod chunk;
mod damaged;
mod owner;
mod recut;
mod segments;
mod state;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use bytes::BytesMut;

pub(crate) use self::owner::Owner;
pub(crate) use self::state::{Close, SpooledStream, StreamHeader};

use self::backlog::Backlog;
use self::owner::check_owner;
use self::segments::{RecordReader, Segments};
use self::state::{SpoolState, StateFile};
use crate::files::{self, Dir, Guard, Lock};
use crate::stream::Predecessor;
use crate::text::show;
use crate::units::Size;
use crate::{Error, Exit, Result};

/// A segment with no record left in it is removed from this length on, in bytes, and a shorter one only at the end of a
/// run: making another one costs the disk more than it frees.
const MIN_REMOVED_LEN: u64 = 64 << 10;

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

/// What waits in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Records, the one that is being written included.
    pub(crate) messages: u64,
    /// Bytes.
    pub(crate) bytes: u64,
}

/// What was found where the next record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No record, or none in this stream.
    Nothing,
    /// A record.
    Record,
    /// One that is longer than wanted. It is still the next one.
    TooLong,
}

/// An open spool, which no other process can open meanwhile.
#[derive(Debug)]
pub(crate) struct Spool {
    dir: Dir,
    lock: Lock,
    state_file: StateFile,
    state: SpoolState,
    segments: Segments,
    reader: RecordReader,
    /// Records of the stream below may have been sealed by an earlier run, though the state does not say so: what it says of
    /// that is synchronized only with what follows it.
    maybe_sealed: u64,
    /// The next record to read.
    next: u64,
    /// Of each record that was read and is not acknowledged: its bytes on the disk, and its own.
    read: VecDeque<(u64, u64)>,
    /// Bytes on the disk that wait.
    waiting_on_disk: u64,
    /// Bytes of records that wait; at first a little more, if a record was written in many pieces.
    waiting_data: u64,
    max: u64,
    backlog: Backlog,
    /// How many bytes opening it cut off.
    cut_off: u64,
}

impl Spool {
    /// Opens a spool, made with mode 0700 where it is absent.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another process uses it; [`Exit::Config`] where it belongs to another link or peer;
    /// [`Exit::DataLost`] where it is damaged; [`Exit::NotTrusted`] as in [`Dir::create`].
    pub(crate) fn open(options: &SpoolOptions, owner: Owner<'_>) -> Result<Self> {
        let dir = Dir::create(&options.dir, Guard::Private)?;
        let lock = files::try_lock(&dir, "lock")?.ok_or_else(|| {
            Error::new(Exit::TryAgain, format!("the spool {}", show(dir.path())))
                .because("another sts-send uses it")
                .hint("give each sts-send that runs at the same time a spool of its own")
        })?;
        check_owner(&dir, &lock, owner)?;
        let (state_file, state) = StateFile::open(&dir, &lock)?;
        recut::recover(&dir, &lock, state.acknowledged)?;
        let (segments, cut_off) = Segments::open(&dir, &lock, state.acknowledged, state.sealed)?;
        let (reader, waiting_on_disk) = segments.seek(&dir, state.acknowledged)?;
        let messages = segments.whole() - state.acknowledged + u64::from(segments.unfinished() > 0);
        let is_open = state.stream.is_some_and(|stream| stream.close.is_none());
        Ok(Self {
            maybe_sealed: if is_open { segments.whole() } else { 0 },
            next: state.acknowledged,
            read: VecDeque::new(),
            waiting_on_disk,
            waiting_data: waiting_on_disk.saturating_sub(messages * chunk::CHUNK_HEADER_LEN as u64),
            max: options.max.bytes(),
            cut_off,
            backlog: Backlog::load(&dir)?,
            dir,
            lock,
            state_file,
            state,
            segments,
            reader,
        })
    }

    /// Its path.
    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// How many bytes of a write that did not finish opening it cut off.
    #[must_use]
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off
    }

    /// What waits in it.
    #[must_use]
    pub(crate) fn pending(&self) -> Pending {
        let messages = self.segments.whole() - self.state.acknowledged + u64::from(self.unfinished() > 0);
        Pending { messages, bytes: if messages == 0 { 0 } else { self.waiting_data } }
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending().messages == 0
    }

    /// Bytes of the record that is being written.
    #[must_use]
    pub(crate) fn unfinished(&self) -> usize {
        self.segments.unfinished()
    }

    /// Most bytes that can be written now, in this number of records.
    #[must_use]
    pub(crate) fn free_bytes(&self, records: usize) -> usize {
        let free = usize::try_from(self.max.saturating_sub(self.waiting_on_disk)).unwrap_or(usize::MAX);
        free.min(chunk::MAX_CHUNK_LEN).saturating_sub(records.saturating_mul(chunk::CHUNK_HEADER_LEN))
    }

    /// Appends records, in one write; false if the disk is full, and nothing was written. What is written survives the end of
    /// this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] if it cannot be written for another reason.
    pub(crate) fn write(&mut self, records: &[&[u8]]) -> Result<bool> {
        let Some((written, data)) = self.segments.append(&self.dir, &self.lock, records)? else { return Ok(false) };
        self.waiting_on_disk += written;
        self.waiting_data += data;
        Ok(true)
    }

    /// On a full disk: frees what the last segment takes, if all of it is acknowledged. False if nothing can be freed.
    ///
    /// # Errors
    /// As [`Spool::acknowledge`].
    pub(crate) fn make_room(&mut self) -> Result<bool> {
        if !self.is_empty() || self.segments.is_empty() {
            return Ok(false);
        }
        self.remove_read(0)?;
        Ok(true)
    }

    /// Why a person is to be told now, in seconds since 1970, of what waits: once a day, while nothing was delivered for a
    /// day, or the spool is half full and will not be `draining` soon.
    pub(crate) fn due_warning(&mut self, draining: bool, now: u64) -> Option<&'static str> {
        let is_half_full = !draining && self.waiting_on_disk >= self.max / 2;
        let due = !self.is_empty() && self.backlog.is_due(is_half_full, now);
        due.then_some(if is_half_full { "it is half full" } else { "nothing was delivered for a day" })
    }

    /// Returns once what was written survives a power cut.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the disk says so.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.segments.sync()
    }

    /// The stream that records are sealed in.
    #[must_use]
    pub(crate) fn stream(&self) -> Option<&SpooledStream> {
        self.state.stream.as_ref()
    }

    /// The next record to read.
    #[must_use]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The record after the last whole one.
    #[must_use]
    pub(crate) fn whole(&self) -> u64 {
        self.segments.whole()
    }

    /// Records below may have been sealed and published, by this run or an earlier one.
    #[must_use]
    pub(crate) fn sealed(&self) -> u64 {
        self.state.sealed
    }

    /// As [`Spool::sealed`], with those that a power cut may have made the state forget: none of their numbers may be given
    /// to the message that closes the stream.
    #[must_use]
    pub(crate) fn may_be_sealed(&self) -> u64 {
        self.state.sealed.max(self.maybe_sealed)
    }

    /// Appends the next record's bytes to `buffer`, if there is one in this stream, and of at most `max` bytes. From now on
    /// it may be sealed.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where it is damaged; [`Exit::Failed`] where the disk fails.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut, max: usize) -> Result<Found> {
        let until = self.state.stream.and_then(|stream| stream.close).map_or(u64::MAX, |(until, _)| until);
        if self.next >= self.whole().min(until) {
            return Ok(Found::Nothing);
        }
        self.segments.sync()?;
        let start = buffer.len();
        let Some(on_disk) = self.segments.read(&self.dir, &mut self.reader, self.next, buffer, max)? else {
            return Ok(Found::TooLong);
        };
        self.next += 1;
        self.read.push_back((on_disk, (buffer.len() - start) as u64));
        if self.next > self.state.sealed {
            self.state.sealed = self.next;
            self.state_file.write(&self.state)?;
        }
        Ok(Found::Record)
    }

    /// Records below were acknowledged; what was not read of them is passed over.
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn acknowledge(&mut self, below: u64) -> Result<()> {
        if below <= self.state.acknowledged {
            return Ok(());
        }
        self.backlog.restart();
        while self.next < below && self.read(&mut BytesMut::new(), usize::MAX)? == Found::Record {}
        let count = usize::try_from(below - self.state.acknowledged).unwrap_or(usize::MAX).min(self.read.len());
        for (on_disk, data) in self.read.drain(..count) {
            self.waiting_on_disk -= on_disk;
            self.waiting_data = self.waiting_data.saturating_sub(data);
        }
        self.state.acknowledged += count as u64;
        self.state_file.write(&self.state)?;
        self.remove_read(MIN_REMOVED_LEN)
    }

    /// Removes what is acknowledged, whole segments only, and the last one from this length on.
    fn remove_read(&mut self, least: u64) -> Result<()> {
        while self.segments.can_remove(self.state.acknowledged, least) {
            // A record's number must never be given to another record.
            self.state_file.sync()?;
            self.segments.remove_first(&self.dir, &mut self.reader)?;
        }
        Ok(())
    }

    /// Starts a stream with the next record: written down, synchronized, before anything is sealed in it.
    ///
    /// # Errors
    /// [`Exit::Failed`] if the state cannot be written.
    pub(crate) fn start_stream(&mut self, header: StreamHeader, wants_confirms: bool) -> Result<()> {
        let (first_record, predecessor, close) = (self.next, None, None);
        self.set_stream(Some(SpooledStream { header, first_record, wants_confirms, predecessor, close }))
    }

    /// Decides how the stream ends, after the last record that was read: as [`Spool::start_stream`].
    ///
    /// # Errors
    /// As [`Spool::start_stream`].
    pub(crate) fn close_stream(&mut self, close: Close) -> Result<()> {
        let stream = self.state.stream.map(|stream| SpooledStream { close: Some((self.next, close)), ..stream });
        self.set_stream(stream)
    }

    /// The stream is over, and all of it acknowledged: advances to the next one, if its close names one.
    ///
    /// # Errors
    /// As [`Spool::start_stream`].
    pub(crate) fn advance_stream(&mut self) -> Result<()> {
        let Some(old) = self.state.stream else { return Ok(()) };
        self.acknowledge(old.close.map_or(self.next, |(until, _)| until))?;
        // One that wants confirms begins when all before it is confirmed: there is nothing to wait for.
        let names_predecessor = !old.wants_confirms;
        let next = old.continued_in(self.next).map(|(until, next)| SpooledStream {
            predecessor: names_predecessor.then(|| Predecessor { stream: old.header.stream, end: old.seq(until) + 1 }),
            ..next
        });
        self.set_stream(next)
    }

    /// The stream's session is gone: what is not acknowledged of it is read once more, and goes into another one. If its
    /// close names one, it goes into that: a number that was reserved and never used would be reported as missing.
    ///
    /// # Errors
    /// As [`Spool::start_stream`] and [`Spool::read`].
    pub(crate) fn restart_unacknowledged(&mut self) -> Result<()> {
        self.rewind()?;
        // Nothing was sealed in the next one: that begins when this stream is left.
        let next = self.state.stream.and_then(|old| old.continued_in(self.next)).map(|(_, next)| next);
        self.set_stream(next)
    }

    /// Reads next what is not acknowledged.
    fn rewind(&mut self) -> Result<()> {
        self.next = self.state.acknowledged;
        self.read.clear();
        (self.reader, self.waiting_on_disk) = self.segments.seek(&self.dir, self.next)?;
        let messages = self.segments.whole() - self.next + u64::from(self.unfinished() > 0);
        self.waiting_data = self.waiting_on_disk.saturating_sub(messages * chunk::CHUNK_HEADER_LEN as u64);
        Ok(())
    }

    /// At the end of a run: removes the segments if nothing waits, and otherwise lets what waits survive a power cut.
    ///
    /// # Errors
    /// [`Exit::Failed`] if the disk fails.
    pub(crate) fn shut_down(&mut self) -> Result<()> {
        self.segments.sync()?;
        self.state_file.sync()?;
        self.remove_read(0)?;
        self.backlog.store(&self.dir, &self.lock)
    }

    fn set_stream(&mut self, stream: Option<SpooledStream>) -> Result<()> {
        self.state.stream = stream;
        self.maybe_sealed = 0;
        self.state_file.write(&self.state)?;
        self.state_file.sync()
    }
}
