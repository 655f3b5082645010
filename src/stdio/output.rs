//! Standard output: bytes in order, and what is to be done once they are written.

use std::collections::VecDeque;
use std::io::{self, Stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, SeekFrom, fstat, ftruncate, seek};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use super::line_ends;
use crate::{Error, Exit, Result};

/// What a pipe takes at once when poll(2) calls it writable: one page of it is free (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// What is on its way to standard output, with a completion `C` at each place whose writing matters.
#[derive(Debug)]
pub(crate) struct Output<C> {
    stdout: Stdout,
    method: WriteMethod,
    buffer: BytesMut,
    /// Bytes written since the start.
    written: u64,
    /// Lines of them, if they are counted.
    lines: Option<u64>,
    /// As many of them as [`Output::next_completion`] has returned completions for.
    completed: u64,
    /// Completions, each with the number of bytes that must be written before it.
    completions: VecDeque<(u64, C)>,
}

/// How as much as possible is written without blocking.
#[derive(Debug)]
enum WriteMethod {
    /// A terminal: at most [`PIPE_BUF`] bytes after poll(2).
    Page,
    /// A pipe: the same; more than that goes through a pipe of our own.
    Pipe(Relay),
    /// A socket: by a call that does not wait.
    Socket,
    /// A file: all of it, as a file never blocks in the sense of poll(2).
    File,
}

/// A pipe of our own, in front of the one that is standard output.
///
/// Whether that one blocks is a flag of the open file, which other programs share, so we must not set it. splice(2) alone can be
/// told not to wait for one call; and it moves pages without copying them.
#[derive(Debug)]
struct Relay {
    out: OwnedFd,
    into: OwnedFd,
    /// How many of the first bytes of the buffer are in it.
    staged: usize,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// Something was written: there may be room for more.
    Some,
    /// There is nothing to write, or no room for it.
    Nothing,
    /// The reader has closed its end.
    Closed,
}

impl<C> Output<C> {
    /// Standard output of this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] if there is none.
    pub(crate) fn stdout() -> Result<Self> {
        let stdout = io::stdout();
        let stat = fstat(&stdout).map_err(unwritable)?;
        let method = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => WriteMethod::File,
            FileType::Socket => WriteMethod::Socket,
            FileType::Fifo => Relay::new().map_or(WriteMethod::Page, WriteMethod::Pipe),
            _ => WriteMethod::Page,
        };
        Ok(Self {
            stdout,
            method,
            buffer: BytesMut::new(),
            written: 0,
            lines: None,
            completed: 0,
            completions: VecDeque::new(),
        })
    }

    /// The descriptor: writable when [`Output::write_ready`] has something to do, in error when the reader has gone.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    /// From here on lines are counted.
    pub(crate) fn count_lines(&mut self) {
        self.lines.get_or_insert(0);
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// How many lines were written, if they are counted.
    pub(crate) fn lines(&self) -> Option<u64> {
        self.lines
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Completions that [`Output::next_completion`] has not returned.
    pub(crate) fn pending_completions(&self) -> usize {
        self.completions.len()
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Adds a completion: [`Output::next_completion`] returns it when everything pushed before it was written.
    pub(crate) fn push_completion(&mut self, completion: C) {
        self.completions.push_back((self.written + self.buffer.len() as u64, completion));
    }

    /// The next completion whose bytes were all written.
    pub(crate) fn next_completion(&mut self) -> Option<C> {
        let &(at, _) = self.completions.front().filter(|(at, _)| *at <= self.written)?;
        self.completed = at;
        self.completions.pop_front().map(|(_, completion)| completion)
    }

    /// The completion whose bytes were written in part, with how many of them were; to be called once nothing more is written.
    pub(crate) fn interrupted(&mut self) -> Option<(usize, C)> {
        let written = usize::try_from(self.written - self.completed).ok().filter(|written| *written > 0)?;
        self.completions.pop_front().map(|(_, completion)| (written, completion))
    }

    /// Takes back what was written of the completion whose bytes were written in part, where that is the end of a file; to be
    /// called once nothing more is written. Best effort: what stays there is written once more by the next run.
    pub(crate) fn retract(&mut self) {
        let written = self.written - self.completed;
        if written == 0 || !matches!(self.method, WriteMethod::File) {
            return;
        }
        let (Ok(end), Ok(stat)) = (rustix::fs::tell(&self.stdout), fstat(&self.stdout)) else { return };
        // Another program may have written there since.
        let is_last = u64::try_from(stat.st_size) == Ok(end);
        if let Some(begin) = end.checked_sub(written).filter(|_| is_last)
            && ftruncate(&self.stdout, begin).is_ok()
        {
            // For a run that is given the same open file. One that appends does not need it.
            let _ = seek(&self.stdout, SeekFrom::Start(begin));
        }
    }

    /// Whether nothing is left: neither bytes nor completions.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.completions.is_empty()
    }

    /// Writes once, as much as goes without waiting, and finds out whether there still is a reader.
    ///
    /// # Errors
    /// [`Exit::Failed`] where standard output cannot be written, as on a full disk; what waits is kept.
    pub(crate) fn write_ready(&mut self) -> Result<Written> {
        let wanted = if self.buffer.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        let mut fds = [PollFd::new(&self.stdout, wanted)];
        match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Written::Some),
            Err(errno) => return Err(unwritable(errno)),
        }
        let ready = fds[0].revents();
        if ready.contains(PollFlags::OUT) {
            self.write()
        } else if ready.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            Ok(Written::Closed)
        } else {
            Ok(Written::Nothing)
        }
    }

    /// One write, after poll(2) said that it does not wait.
    fn write(&mut self) -> Result<Written> {
        let page = self.buffer.len().min(PIPE_BUF);
        let result = match &mut self.method {
            WriteMethod::Pipe(relay) if relay.staged > 0 || self.buffer.len() > PIPE_BUF => {
                relay.pass(&self.buffer, &self.stdout)
            }
            WriteMethod::Page | WriteMethod::Pipe(_) => rustix::io::write(&self.stdout, &self.buffer[..page]),
            WriteMethod::File => rustix::io::write(&self.stdout, &self.buffer),
            WriteMethod::Socket => {
                rustix::net::send(&self.stdout, &self.buffer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            }
        };
        match result {
            Ok(written) => {
                if let Some(lines) = &mut self.lines {
                    *lines += line_ends(&self.buffer[..written]);
                }
                self.buffer.advance(written);
                self.written += written as u64;
                Ok(Written::Some)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(Written::Some),
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(Written::Closed),
            Err(errno) => Err(unwritable(errno)),
        }
    }
}

impl Relay {
    /// `None` where the process has no descriptors left: writing a page at a time needs none.
    fn new() -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        Some(Self { out, into, staged: 0 })
    }

    /// Passes the front of `buffer` on to `to`; returns how many bytes of it arrived there.
    fn pass(&mut self, buffer: &[u8], to: &Stdout) -> rustix::io::Result<usize> {
        if self.staged == 0 {
            self.staged = rustix::io::write(&self.into, buffer)?;
        }
        let passed = splice(&self.out, None, to, None, self.staged, SpliceFlags::NONBLOCK)?;
        self.staged -= passed;
        Ok(passed)
    }
}

fn unwritable(errno: Errno) -> Error {
    Error::new(Exit::Failed, "cannot write to stdout").because(errno)
}
