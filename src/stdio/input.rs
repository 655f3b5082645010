//! Standard input, read only when something is there.

use std::cell::Cell;
use std::io::{self, Stdin};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use bytes::BytesMut;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, OFlags, fcntl_getfl, fstat};
use rustix::io::Errno;

use super::line_ends;
use crate::{Error, Exit, Result};

/// Most bytes that are read at once: what a pipe holds.
const MAX_READ_LEN: usize = 64 << 10;

/// A read shorter than this, in bytes, is of no long input: those who write one fill a page of a pipe at least.
const MIN_BULK_READ: usize = 4096;

/// Standard input up to its end, or up to where we stopped reading it.
#[derive(Debug)]
pub struct Input {
    stdin: Stdin,
    at_end: bool,
    is_pipe: bool,
    /// What the loop's poll(2) found, until that is used.
    polled: Cell<Option<PollFlags>>,
    /// What is read goes here first: bytes that nothing has set can be read into, but not appended to a buffer.
    chunk: Box<[MaybeUninit<u8>]>,
    /// Of a file: how many bytes there were to read at the start.
    total: Option<u64>,
    /// How many were read.
    bytes_read: u64,
    /// How many lines, if they are counted.
    lines_read: Option<u64>,
}

impl Input {
    /// Standard input of this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] where stdin can never be read: found out before a stream number is taken for it.
    pub fn stdin() -> Result<Self> {
        let stdin = io::stdin();
        let stat = fstat(&stdin).map_err(unreadable)?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(unreadable(Errno::ISDIR));
        }
        if fcntl_getfl(&stdin).map_err(unreadable)? & OFlags::ACCMODE == OFlags::WRONLY {
            return Err(unreadable(Errno::BADF));
        }
        let is_pipe = FileType::from_raw_mode(stat.st_mode) == FileType::Fifo;
        let total = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => u64::try_from(stat.st_size).ok().zip(rustix::fs::tell(&stdin).ok()),
            _ => None,
        };
        let total = total.map(|(size, place)| size.saturating_sub(place));
        let chunk = Box::new_uninit_slice(MAX_READ_LEN);
        let polled = Cell::default();
        Ok(Self { stdin, at_end: false, is_pipe, polled, chunk, total, bytes_read: 0, lines_read: None })
    }

    /// From here on lines are counted.
    pub(crate) fn count_lines(&mut self) {
        self.lines_read.get_or_insert(0);
    }

    /// How many bytes were read.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// How many lines were read, if they are counted.
    pub(crate) fn lines_read(&self) -> Option<u64> {
        self.lines_read
    }

    /// How many bytes a file had to read at the start; `None` for anything else.
    pub(crate) fn total(&self) -> Option<u64> {
        self.total
    }

    /// What becomes readable when there is input or its end; `None` after that end.
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        (!self.at_end).then(|| self.stdin.as_fd())
    }

    /// Whether there is nothing more to read.
    #[must_use]
    pub fn at_end(&self) -> bool {
        self.at_end
    }

    /// Reads no further: what was read so far is all there is.
    pub fn stop(&mut self) {
        self.at_end = true;
    }

    /// Notes what the loop's poll(2) found of [`Input::as_fd`] in this turn, `None` if it did not look: the next to ask need not
    /// poll once more. To be called in each turn, since others may read the same open file between two of them.
    pub(crate) fn polled(&self, ready: Option<PollFlags>) {
        self.polled.set(ready);
    }

    /// Appends to `buffer`, up to `limit` bytes of it in all, what can be read without waiting.
    ///
    /// # Errors
    /// [`Exit::Failed`] where standard input cannot be read, a directory for one.
    pub fn read(&mut self, buffer: &mut BytesMut, limit: usize) -> Result<()> {
        while !self.at_end && buffer.len() < limit {
            let ready = self.poll()?;
            if ready.is_empty() {
                break;
            }
            let room = limit - buffer.len();
            let len = room.min(self.chunk.len());
            match rustix::io::read(&self.stdin, &mut self.chunk[..len]) {
                Ok(([], _)) => self.at_end = true,
                Ok((bytes, _)) => {
                    // Once, for all that may follow.
                    buffer.reserve(room);
                    buffer.extend_from_slice(bytes);
                    self.bytes_read += bytes.len() as u64;
                    if let Some(lines) = &mut self.lines_read {
                        *lines += line_ends(bytes);
                    }
                    // A short line was all that there was, and its writer is still there: the loop's poll tells of more.
                    if self.is_pipe && bytes.len() < len.min(MIN_BULK_READ) && !ready.contains(PollFlags::HUP) {
                        break;
                    }
                }
                Err(Errno::INTR) => {}
                // Another program made the shared open file non-blocking: the next poll waits for us.
                Err(Errno::AGAIN) => break,
                Err(errno) => return Err(unreadable(errno)),
            }
        }
        Ok(())
    }

    /// Whether there is input, or its end, that can be read without waiting.
    ///
    /// # Errors
    /// As [`Input::read`].
    pub fn is_ready(&self) -> Result<bool> {
        Ok(self.at_end || !self.poll()?.is_empty())
    }

    /// What poll(2) says, in this turn or now.
    fn poll(&self) -> Result<PollFlags> {
        if let Some(ready) = self.polled.take() {
            return Ok(ready);
        }
        let mut fds = [PollFd::new(&self.stdin, PollFlags::IN)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) | Err(Errno::INTR) => Ok(fds[0].revents()),
            Err(errno) => Err(unreadable(errno)),
        }
    }
}

fn unreadable(errno: Errno) -> Error {
    Error::new(Exit::Failed, "cannot read stdin").because(errno)
}
