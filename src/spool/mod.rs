//! Input on disk until it is acknowledged: `sts-send --spool`.
//!
//! A spool is a directory with a queue of records, each of which is or becomes one message; a record of data has at
//! least one byte. Its files are:
//!
//! | file | is |
//! |---|---|
//! | `lock` | held by the one run that sends |
//! | `append` | held by the run that appends, or mends the segments |
//! | `bell` | a named pipe that wakes the run that sends |
//! | `owner` | the link and the peer, or the alternatives, that it belongs to |
//! | `waiting` | since when something waits that the last run left ([`backlog`]) |
//! | `state` | which records are acknowledged, and the sequence that they are sealed in ([`SpooledSequence`]) |
//! | sixteen digits | a segment: records from that number on, in chunks with a sum each, appended and never changed |
//! | sixteen digits and `.cut` | a segment that is being made of records that became too long ([`cut_file`]) |
//!
//! A record is kept as plaintext, with the time at which it was read if that is asked for (`--stamp`), and its number
//! decides its position in the sequence
//! ([`SpooledSequence::position_of`]). It is on the disk, synchronized, before it is sealed for the first time. A write
//! that was cut short was never sealed, and what it leaves behind is cut off. The keys of a stream are only in the
//! memory of the run that began it: the next run sends what is not acknowledged in a stream of its own, which continues
//! the sequence, and never seals anything under a key that was used. The receiver needs each position once, so what it
//! has already is dropped there.
//!
//! Any other message among the records would take a position. There is one, the end of the sequence, and the state says
//! where it is before it is sealed. One that is to be between records has to be a record itself.
//!
//! # Several runs
//!
//! Any number of runs may have a spool at the same time. One of them sends ([`Spool`]), the others only append
//! ([`Inlet`]). There is one queue, so that the order in which records are appended is the order in which they are
//! sent.
//!
//! **Who sends**: the run that holds `lock`, from opening the spool until it leaves it or ends in any way. It alone
//! reads, seals and acknowledges, and it alone writes `state`. So nothing is sent twice. A run that does not get the
//! lock tries again whenever it wakes, at least once a second, and with its last record in the spool: if the sender
//! dies, one of those that still append takes its place, or else the next run.
//!
//! **Who appends**: the run that holds `append`, for one write. It appends whole records only: the beginning of a line
//! is kept in memory, or the other runs would have to wait for its end. The same lock is held while a segment is
//! removed or what waits is cut anew, so a run under this lock may trust the names and lengths that it finds. A run
//! alone must not take a lock for each line. So the sender holds this lock all the time, until the `bell` tells it that
//! another run wants it; from then on it takes it for each write, until nobody else has appended for long. Where no
//! named pipe can be made, on vfat or a full disk, it lets go of it at the start, and looks for new records once a
//! second. After taking it, a run looks whether the last segment is as it left it. What was appended to that is read;
//! if there is another segment, all are looked at anew ([`tail`]).
//!
//! A run never waits in a lock: it tries again a few milliseconds later, and can be stopped meanwhile. One that holds
//! `lock` keeps it while it tries for `append`, never the other way round, so there is no deadlock. Both are locks of
//! flock(2), which end with the process.
//!
//! **When the input of a run is safe**: a run that only appends synchronizes each write before it lets go of the lock,
//! then rings. At the end of its input it tries `lock` once more. If another run holds that, it may end. For the sender
//! leaves the spool only while it holds `append` and after it looked for new records, and lets go of `lock` first:
//!
//! - if it looked after the record was appended, it has seen it, and sends it;
//! - if it looked before, it had let go of `lock` when the record was appended, and the attempt to take it succeeds.
//!
//! **A crash at any instant**
//!
//! | of | leaves | and then |
//! |---|---|---|
//! | a run that appends, in its write | a part of a chunk at the end of the last segment | it is not whole, so no run takes it for a record; the run that appends next cuts it off, under the lock |
//! | the same, after the write | whole records | they are in the queue |
//! | the sender | what it had not acknowledged | it is read again by the next sender |
//! | the sender, cutting anew | a `.cut` that the state makes valid, or not | no run appends until a sender has given it its name, or removed it |
//! | the same, after that | old segments beside the new one | all in them is acknowledged; a run that knows the last one of them finds that another segment begins with the next record, and looks at all anew |
//! | the machine | what was synchronized | the sender synchronizes the last segment before it seals a record, whichever run wrote it; earlier ones were, before the last one was made |
//!
//! What a number was given to is never given to another record: without segments the next number is in `state`, which
//! is synchronized before the last segment is removed.

mod backlog;
mod bell;
mod chunk;
mod cut_file;
mod damaged;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod inlet;
mod leaving;
mod opening;
mod owner;
mod recut;
mod segments;
mod sequence;
mod state;
mod store;
mod tail;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::BytesMut;

pub(crate) use self::chunk::Record;
pub(crate) use self::inlet::Inlet;
pub(crate) use self::opening::Opening;
pub(crate) use self::owner::{Owner, SpoolReceiver};
pub(crate) use self::recut::Recut;
pub(crate) use self::state::SpooledSequence;
pub use self::store::SpoolOptions;
pub(crate) use self::store::{Appended, RecordLimit, RecordStore};

use self::backlog::Backlog;
use self::segments::RecordReader;
use self::state::{SpoolState, StateFile};
use self::tail::{AppendTurn, Tail};
use crate::Result;
use crate::files::{Dir, Guard, Lock};
use crate::stream::SentTime;

/// A segment with no record left in it is removed from this length on, in bytes, and a shorter one only at the end of a
/// run: making another one costs the disk more than it frees.
const MIN_REMOVED_LEN: u64 = 64 << 10;

/// Most records that the state says may have been sealed before they are.
const MAX_ANNOUNCED: u64 = 256;

/// How many bytes the records in a spool take on the disk; 0 where there is no spool. Root may look at any user's.
///
/// # Errors
/// As [`Dir::look`] and [`Dir::names`].
pub(crate) fn size_on_disk(path: &Path) -> Result<u64> {
    let Some(dir) = Dir::look(path, Guard::Private)? else { return Ok(0) };
    segments::len_on_disk(&dir)
}

/// What waits to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Messages, with data or without; in a spool, records. The beginning of one counts, too: only the run that sends
    /// writes that before it has the rest.
    pub(crate) messages: u64,
    /// Bytes of the input.
    pub(crate) bytes: u64,
}

impl Pending {
    /// Both of two that have no message in common.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { messages: self.messages + other.messages, bytes: self.bytes + other.bytes }
    }

    /// Whether any of it is data, which is lost if it is not delivered. What counts is not the kind of a message but
    /// whether it carries bytes of the input: an empty line has its newline; the end of a stream may have none.
    pub(crate) fn has_data(self) -> bool {
        self.bytes > 0
    }
}

/// What was found where the next record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// No record, or none in this sequence.
    Nothing,
    /// A record, and when it was read, if that is kept.
    Record(Option<SentTime>),
    /// One that is longer than wanted. It is still the next one.
    TooLong,
}

/// The spool of the run that sends from it.
#[derive(Debug)]
pub(crate) struct Spool {
    tail: Tail,
    /// None after [`Spool::leave`].
    sending: Option<Lock>,
    state_file: StateFile,
    state: SpoolState,
    reader: RecordReader,
    /// The next record to read.
    next: u64,
    /// Of each record that was read and is not acknowledged: its bytes on the disk, and its own.
    read: VecDeque<(u64, u64)>,
    backlog: Backlog,
}

impl Spool {
    /// Opens it, under both locks.
    fn open(dir: Dir, sending: Lock, appending: Lock, max: u64) -> Result<(Self, u64)> {
        let (state_file, state) = StateFile::open(&dir, &sending)?;
        let backlog = Backlog::load(&dir)?;
        let (mut tail, cut_off) = Tail::open(dir, appending, &state, max)?;
        let reader = tail.count_waiting(state.acknowledged)?;
        let spool = Self {
            next: state.acknowledged,
            read: VecDeque::new(),
            tail,
            sending: Some(sending),
            state_file,
            state,
            reader,
            backlog,
        };
        Ok((spool, cut_off))
    }

    /// What becomes readable when another run appends, or wants to; `None` where no named pipe can be made, so that
    /// this run must [`Spool::share`] unasked.
    ///
    /// # Errors
    /// As [`crate::files::listen`].
    pub(crate) fn bell(&self) -> Result<Option<OwnedFd>> {
        bell::listen(&self.tail.dir)
    }

    /// Lets others append, and takes notice of what they did: when the bell rang, and again while [`Spool::is_behind`].
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn share(&mut self) -> Result<()> {
        self.tail.share()?;
        match self.tail.begin(&self.state)? {
            Some(turn) => self.tail.end(turn),
            None => Ok(()),
        }
    }

    /// Whether another run was appending when this one last looked for what others appended.
    #[must_use]
    pub(crate) fn is_behind(&self) -> bool {
        self.tail.is_behind()
    }

    /// What waits in it.
    #[must_use]
    pub(crate) fn pending(&self) -> Pending {
        let messages = self.whole() - self.state.acknowledged + u64::from(self.is_unfinished());
        Pending { messages, bytes: if messages == 0 { 0 } else { self.tail.waiting_data } }
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.pending().messages == 0
    }

    /// Why a person is to be told now, in seconds since 1970, of what waits: once a day, while nothing was delivered
    /// for a day, or the spool is half full and will not be `draining` soon.
    pub(crate) fn due_warning(&mut self, draining: bool, now: u64) -> Option<&'static str> {
        let is_half_full = !draining && self.tail.is_half_full();
        let due = self.pending().has_data() && self.backlog.is_due(is_half_full, now);
        due.then_some(if is_half_full { "it is half full" } else { "nothing was delivered for a day" })
    }

    /// Returns once what was written survives a power cut.
    ///
    /// # Errors
    /// [`crate::Exit::Failed`] where the disk says so.
    pub(crate) fn sync(&mut self) -> Result<()> {
        self.tail.segments.sync()
    }

    /// Records below are acknowledged.
    #[must_use]
    pub(crate) fn acknowledged(&self) -> u64 {
        self.state.acknowledged
    }

    /// The next record to read.
    #[must_use]
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The record after the last whole one.
    #[must_use]
    pub(crate) fn whole(&self) -> u64 {
        self.tail.segments.whole()
    }

    /// How many of the records that are to be read may have been sealed and published before, by this run or an earlier
    /// one.
    #[must_use]
    pub(crate) fn sealed_before(&self) -> u64 {
        self.state.sealed.saturating_sub(self.next)
    }

    /// Whether there is a next record in this sequence.
    #[must_use]
    pub(crate) fn has_record(&self) -> bool {
        let until = self.state.sequence.and_then(|sequence| sequence.until).unwrap_or(u64::MAX);
        self.next < self.whole().min(until)
    }

    /// Appends the next record's bytes to `buffer`, if there is one in this sequence, and within this limit. From now on it
    /// may be sealed.
    ///
    /// # Errors
    /// [`crate::Exit::DataLost`] where it is damaged; [`crate::Exit::Failed`] where the disk fails.
    pub(crate) fn read(&mut self, buffer: &mut BytesMut, max: RecordLimit) -> Result<Found> {
        if !self.has_record() {
            return Ok(Found::Nothing);
        }
        self.tail.segments.sync()?;
        let start = buffer.len();
        let read = self.tail.segments.read(&self.tail.dir, &mut self.reader, self.next, buffer, max)?;
        let Some((on_disk, sent)) = read else { return Ok(Found::TooLong) };
        self.next += 1;
        self.read.push_back((on_disk, (buffer.len() - start + sent.map_or(0, |_| SentTime::LEN)) as u64));
        self.state.sealed = self.state.sealed.max(self.next);
        if !self.state_file.says_sealed(self.next) {
            // Not once for each record. They are whole and synchronized, as a record must be that may have been sealed.
            self.state_file.announce(self.whole().min(self.next + MAX_ANNOUNCED));
            self.state_file.write(&self.state)?;
        }
        Ok(Found::Record(sent))
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
        while self.next < below && matches!(self.read(&mut BytesMut::new(), RecordLimit::NONE)?, Found::Record(_)) {}
        let count = usize::try_from(below - self.state.acknowledged).unwrap_or(usize::MAX).min(self.read.len());
        for (on_disk, data) in self.read.drain(..count) {
            self.tail.waiting_on_disk -= on_disk;
            self.tail.waiting_data = self.tail.waiting_data.saturating_sub(data);
        }
        self.state.acknowledged += count as u64;
        self.state_file.write(&self.state)?;
        // While another run appends nothing can be removed, and what can is still there at the next record.
        if self.tail.segments.can_remove(self.state.acknowledged, MIN_REMOVED_LEN)
            && let Some(turn) = self.tail.begin(&self.state)?
        {
            self.remove_read(&turn, MIN_REMOVED_LEN)?;
            self.tail.end(turn)?;
        }
        Ok(())
    }

    /// Removes what is acknowledged, whole segments only, and the last one from this length on. No other run may append
    /// meanwhile, or look at what there is.
    fn remove_read(&mut self, turn: &AppendTurn, least: u64) -> Result<()> {
        let AppendTurn { .. } = turn;
        while self.tail.segments.can_remove(self.state.acknowledged, least) {
            // A record's number must never be given to another record.
            self.state_file.sync()?;
            self.tail.segments.remove_first(&self.tail.dir, &mut self.reader)?;
        }
        Ok(())
    }

    /// Reads what is not acknowledged once more, for another stream.
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub(crate) fn rewind(&mut self) -> Result<()> {
        self.reader = self.tail.count_waiting(self.state.acknowledged)?;
        self.next = self.state.acknowledged;
        self.read.clear();
        Ok(())
    }
}

impl RecordStore for Spool {
    fn path(&self) -> &Path {
        self.tail.dir.path()
    }

    fn free_bytes(&self, records: usize) -> usize {
        self.tail.free_bytes(records)
    }

    fn is_unfinished(&self) -> bool {
        self.tail.segments.unfinished() > 0
    }

    /// On a full disk, what is acknowledged makes room. [`Spool::sync`] has it survive a power cut.
    fn append(&mut self, records: &[Record<'_>]) -> Result<Appended> {
        let Some(turn) = self.tail.begin(&self.state)? else { return Ok(Appended::Busy) };
        let mut appended = self.tail.append(&turn, records)?;
        if !appended && self.is_empty() && !self.tail.segments.is_empty() {
            self.remove_read(&turn, 0)?;
            appended = self.tail.append(&turn, records)?;
        }
        self.tail.end(turn)?;
        Ok(if appended { Appended::Records(records.len()) } else { Appended::DiskFull })
    }
}
