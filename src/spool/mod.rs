//! Input on disk until it is acknowledged: `sts-send --spool`.
//!
//! A spool is a directory with a queue of records, each of which is or becomes one message. Its files are:
//!
//! | file | is |
//! |---|---|
//! | `lock` | held by the one process that uses the spool |
//! | `owner` | the link and the peer that it belongs to |
//! | `state` | which records are acknowledged, and the stream that they are sealed in ([`SpooledStream`]) |
//! | sixteen digits | a segment: records from that number on, in chunks with a sum each, appended and never changed |
//!
//! A record is kept as plaintext, and its number decides which message of its stream it is. So it is on the disk,
//! synchronized, before it is sealed for the first time: whatever crashes, the next run makes the same message of it under
//! the same nonce, for the receiver to drop if it has it, and never another one. A write that was cut short was never
//! sealed, and what it leaves behind is cut off.

mod chunk;
mod segments;
mod state;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD as STANDARD, Engine as _};
use bytes::BytesMut;

pub use self::state::{Close, SpooledStream, StreamHeader};

use self::segments::{Reading, Segments};
use self::state::{Slots, State};
use crate::crypto::schedule::Digest;
use crate::files::{self, Dir, Guard, Lock};
use crate::name::LinkName;
use crate::stream::Predecessor;
use crate::text::{quote, show};
use crate::units::Size;
use crate::{Error, Exit, Result};

/// A segment with no record left in it is removed at this length in bytes, and before only at the end of a run: making
/// another one costs the disk more than it frees.
const WORTH_REMOVING: u64 = 64 << 10;

/// What each piece that is written takes on the disk beside its bytes, in bytes.
pub const PIECE: usize = chunk::HEAD;

/// Which spool, and how much may wait in it.
#[derive(Clone, Debug)]
pub struct Options {
    /// The directory.
    pub dir: PathBuf,
    /// Most bytes that wait in it.
    pub max: Size,
}

/// To whom a spool belongs: what one link was to send is never sent on another.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The link.
    pub link: &'a LinkName,
    /// The fingerprint of the peer; `None` on a link that is not encrypted.
    pub peer: Option<&'a Digest>,
}

/// What waits in a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pending {
    /// Records, the one that is being written included.
    pub messages: u64,
    /// Bytes.
    pub bytes: u64,
}

/// An open spool, which no other process can open meanwhile.
#[derive(Debug)]
pub struct Spool {
    dir: Dir,
    lock: Lock,
    slots: Slots,
    state: State,
    segments: Segments,
    reading: Reading,
    /// Records of the stream below may have been sealed by an earlier run, though the state does not say so: what it says of
    /// that is synchronized only with what follows it.
    earlier: u64,
    /// The next record to read.
    next: u64,
    /// Of each record that was read and is not acknowledged: its bytes on the disk, and its own.
    read: VecDeque<(u64, u64)>,
    /// Bytes on the disk that wait.
    waiting: u64,
    /// Bytes of records that wait; at first a little more, where a record was written in many pieces.
    payload: u64,
    max: u64,
    /// What opening it cut off, in bytes.
    torn: u64,
}

impl Spool {
    /// Opens a spool, made with mode 0700 where it is absent.
    ///
    /// # Errors
    /// [`Exit::TryAgain`] where another process uses it; [`Exit::Config`] where it belongs to another link or peer;
    /// [`Exit::DataLost`] where it is damaged; [`Exit::NotTrusted`] as in [`Dir::create`].
    pub fn open(options: &Options, owner: Owner<'_>) -> Result<Self> {
        let dir = Dir::create(&options.dir, Guard::Private)?;
        let lock = files::try_lock(&dir, "lock")?.ok_or_else(|| {
            Error::new(Exit::TryAgain, format!("the spool {}", show(dir.path())))
                .because("another sts-send uses it")
                .hint("give each sts-send that runs at the same time a spool of its own")
        })?;
        check_owner(&dir, &lock, owner)?;
        let (slots, state) = Slots::open(&dir, &lock)?;
        let (segments, torn) = Segments::open(&dir, &lock, state.acknowledged, state.sealed)?;
        let (reading, waiting) = segments.seek(&dir, state.acknowledged)?;
        let next = state.acknowledged;
        let messages = segments.whole() - next + u64::from(segments.unfinished() > 0);
        let payload = waiting.saturating_sub(messages * chunk::HEAD as u64);
        let (max, read) = (options.max.bytes(), VecDeque::new());
        let open = state.stream.is_some_and(|stream| stream.close.is_none());
        let earlier = if open { segments.whole() } else { 0 };
        Ok(Self { dir, lock, slots, state, segments, reading, earlier, next, read, waiting, payload, max, torn })
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Bytes of a write that did not finish, which opening it cut off.
    #[must_use]
    pub fn torn(&self) -> u64 {
        self.torn
    }

    /// What waits in it.
    #[must_use]
    pub fn pending(&self) -> Pending {
        let messages = self.segments.whole() - self.state.acknowledged + u64::from(self.unfinished() > 0);
        Pending { messages, bytes: if messages == 0 { 0 } else { self.payload } }
    }

    /// Whether nothing waits in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pending().messages == 0
    }

    /// Bytes of the record that is being written.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.segments.unfinished()
    }

    /// Most bytes that can be written now, in so many pieces.
    #[must_use]
    pub fn room(&self, pieces: usize) -> usize {
        let room = self.max.saturating_sub(self.waiting);
        usize::try_from(room).unwrap_or(usize::MAX).min(chunk::MAX).saturating_sub(pieces.saturating_mul(chunk::HEAD))
    }

    /// Appends bytes to the record that is being written, and ends it where `true` stands; false where the disk is full,
    /// and nothing was written. What is written survives the end of this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] where it cannot be written for another reason.
    pub fn write<'a>(&mut self, pieces: impl IntoIterator<Item = (&'a [u8], bool)>) -> Result<bool> {
        let Some((written, payload)) = self.segments.append(&self.dir, &self.lock, pieces)? else { return Ok(false) };
        self.waiting += written;
        self.payload += payload;
        Ok(true)
    }

    /// On a full disk: frees what the last segment takes, where all of its whole records are acknowledged. What was
    /// written of the next one goes to `buffer`, and is to be written again. False where nothing can be freed.
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub fn take_back(&mut self, buffer: &mut BytesMut) -> Result<bool> {
        if self.state.acknowledged < self.segments.whole() || self.segments.is_empty() {
            return Ok(false);
        }
        self.segments.take_back(&self.dir, &mut self.reading, buffer)?;
        (self.waiting, self.payload) = (0, 0);
        self.remove_read(0)?;
        Ok(true)
    }

    /// Returns once what was written survives a power cut.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the disk says so.
    pub fn sync(&mut self) -> Result<()> {
        self.segments.sync()
    }

    /// The stream that records are sealed in.
    #[must_use]
    pub fn stream(&self) -> Option<&SpooledStream> {
        self.state.stream.as_ref()
    }

    /// The next record to read.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The record behind the last whole one.
    #[must_use]
    pub fn whole(&self) -> u64 {
        self.segments.whole()
    }

    /// Records below may have been sealed and published, by whatever run.
    #[must_use]
    pub fn sealed(&self) -> u64 {
        self.state.sealed
    }

    /// As [`Spool::sealed`], with those of which a power cut may have taken the word: none of their numbers may be given to
    /// what closes the stream.
    #[must_use]
    pub fn may_be_sealed(&self) -> u64 {
        self.state.sealed.max(self.earlier)
    }

    /// Appends the next record's bytes to `buffer`; false where there is none, or none in this stream. From now on it may
    /// be sealed.
    ///
    /// # Errors
    /// [`Exit::DataLost`] where it is damaged; [`Exit::Failed`] where the disk fails.
    pub fn read(&mut self, buffer: &mut BytesMut) -> Result<bool> {
        let until = self.state.stream.and_then(|stream| stream.close).map_or(u64::MAX, |(until, _)| until);
        if self.next >= self.whole().min(until) {
            return Ok(false);
        }
        self.segments.sync()?;
        let before = buffer.len();
        let len = self.segments.read(&self.dir, &mut self.reading, self.next, buffer)?;
        self.next += 1;
        self.read.push_back((len, (buffer.len() - before) as u64));
        if self.next > self.state.sealed {
            self.state.sealed = self.next;
            self.slots.write(&self.state)?;
        }
        Ok(true)
    }

    /// Records below were acknowledged; what was not read of them is passed over.
    ///
    /// # Errors
    /// As [`Spool::read`].
    pub fn acknowledge(&mut self, below: u64) -> Result<()> {
        if below <= self.state.acknowledged {
            return Ok(());
        }
        while self.next < below && self.read(&mut BytesMut::new())? {}
        let count = usize::try_from(below - self.state.acknowledged).unwrap_or(usize::MAX).min(self.read.len());
        for (len, payload) in self.read.drain(..count) {
            self.waiting -= len;
            self.payload = self.payload.saturating_sub(payload);
        }
        self.state.acknowledged += count as u64;
        self.slots.write(&self.state)?;
        self.remove_read(WORTH_REMOVING)
    }

    /// Removes what is acknowledged, whole segments only, and the last one from this length on.
    fn remove_read(&mut self, least: u64) -> Result<()> {
        while self.segments.can_remove(self.state.acknowledged, least) {
            // A record's number must never be given to another record.
            self.slots.sync()?;
            self.segments.remove_first(&self.dir)?;
        }
        Ok(())
    }

    /// Begins a stream with the next record: written down, synchronized, before anything is sealed in it.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the state cannot be written.
    pub fn begin(&mut self, place: StreamHeader, asks: bool) -> Result<()> {
        self.set_stream(Some(SpooledStream { place, base: self.next, asks, before: None, close: None }))
    }

    /// Decides how the stream ends, behind the last record that was read: as [`Spool::begin`].
    ///
    /// # Errors
    /// As [`Spool::begin`].
    pub fn close(&mut self, close: Close) -> Result<()> {
        let stream = self.state.stream.map(|stream| SpooledStream { close: Some((self.next, close)), ..stream });
        self.set_stream(stream)
    }

    /// The stream is over, and all of it acknowledged: goes on in the next one, where its close names one.
    ///
    /// # Errors
    /// As [`Spool::begin`].
    pub fn leave(&mut self) -> Result<()> {
        let Some(old) = self.state.stream else { return Ok(()) };
        self.acknowledge(old.close.map_or(self.next, |(until, _)| until))?;
        self.set_stream(match old.close {
            Some((until, Close::Continued(place))) => {
                // One that asks for confirms begins when all before it is confirmed: there is nothing to wait for.
                let before = (!old.asks).then(|| Predecessor { stream: old.place.stream, end: old.seq(until) + 1 });
                Some(SpooledStream { place, base: self.next, asks: old.asks, before, close: None })
            }
            _ => None,
        })
    }

    /// The stream's session is gone: what is not acknowledged of it is read once more, and goes into another one; where its
    /// close names one, into that, or the receiver would miss the number.
    ///
    /// # Errors
    /// As [`Spool::begin`] and [`Spool::read`].
    pub fn abandon(&mut self) -> Result<()> {
        self.next = self.state.acknowledged;
        self.read.clear();
        (self.reading, _) = self.segments.seek(&self.dir, self.next)?;
        let next = self.state.stream.and_then(|old| match old.close {
            // Nothing was sealed there: that begins when this stream is left.
            Some((_, Close::Continued(place))) => {
                Some(SpooledStream { place, base: self.next, asks: old.asks, before: None, close: None })
            }
            _ => None,
        });
        self.set_stream(next)
    }

    /// Leaves the spool: removes it where nothing waits, and otherwise lets what does survive a power cut.
    ///
    /// # Errors
    /// [`Exit::Failed`] where the disk fails.
    pub fn end(&mut self) -> Result<()> {
        self.segments.sync()?;
        self.slots.sync()?;
        self.remove_read(0)
    }

    fn set_stream(&mut self, stream: Option<SpooledStream>) -> Result<()> {
        self.state.stream = stream;
        self.earlier = 0;
        self.slots.write(&self.state)?;
        self.slots.sync()
    }
}

/// Claims a new spool for its owner, and refuses anybody else's.
fn check_owner(dir: &Dir, lock: &Lock, owner: Owner<'_>) -> Result<()> {
    let peer = match owner.peer {
        Some(peer) => STANDARD.encode(peer),
        None => "none".to_owned(),
    };
    let (link, peer) = (format!("link = {}", owner.link), format!("peer = {peer}"));
    let text = format!("# A spool of sts-send(1).\nformat = sts-spool-2\n{link}\n{peer}\n");
    let Some(found) = files::read_private(dir, "owner")? else {
        return files::create(dir, lock, "owner", text.as_bytes()).map(|_| ());
    };
    if *found == text.as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(&found).into_owned();
    let has = |line: &str| found.lines().any(|other| other == line);
    let why = if !has("format = sts-spool-2") {
        "it is not a spool of this version".to_owned()
    } else if !has(&link) {
        "it belongs to another link".to_owned()
    } else {
        "it belongs to another peer of this link, or to the link when it was not encrypted".to_owned()
    };
    Err(Error::new(Exit::Config, format!("the spool {}", show(dir.path())))
        .because(why)
        .hint("give each link and peer a spool of its own"))
}

fn damaged(dir: &Dir, exit: Exit, why: &str) -> Error {
    Error::new(exit, format!("the spool {} is damaged", show(dir.path())))
        .because(why)
        .hint(format!("to give up what is in it: mv {0} {0}.damaged", quote(dir.path())))
}
