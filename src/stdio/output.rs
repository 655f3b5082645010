//! Standard output: bytes in order, and word of what it has taken.

use std::collections::VecDeque;
use std::io::{self, Stdout};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use bytes::{Buf, BytesMut};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};
use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};

use crate::{Error, Exit, Result};

/// What a pipe takes at once when poll(2) calls it writable: one page of it is free (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// What is on its way to standard output, with a note `T` at each place whose writing matters.
#[derive(Debug)]
pub struct Output<T> {
    stdout: Stdout,
    way: Way,
    buffer: BytesMut,
    /// Bytes taken since the start.
    taken: u64,
    /// Notes with the number of bytes that must be taken before each.
    notes: VecDeque<(u64, T)>,
}

/// How as much as possible is written without blocking.
#[derive(Debug)]
enum Way {
    /// A terminal: at most [`PIPE_BUF`] bytes after poll(2).
    Page,
    /// A pipe: so many bytes, too; more of them through a pipe of our own.
    Pipe(Relay),
    /// A socket: by a call that does not wait.
    Socket,
    /// A file: all of it; poll(2) knows no waiting there.
    File,
}

/// A pipe of our own, in front of the one that is standard output.
///
/// Whether that one blocks is decided by whoever opened it, together with us or not; splice(2) alone can be told for one
/// call not to wait, and takes pages over without copying them.
#[derive(Debug)]
struct Relay {
    out: OwnedFd,
    into: OwnedFd,
    /// How many of the first bytes of the buffer are in it.
    staged: usize,
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It took something: there may be room for more.
    Some,
    /// There is nothing to write, or no room for it.
    Nothing,
    /// Nobody reads any more.
    Closed,
}

impl<T> Output<T> {
    /// Standard output of this process.
    ///
    /// # Errors
    /// [`Exit::Failed`] if there is none.
    pub fn stdout() -> Result<Self> {
        let stdout = io::stdout();
        let stat = fstat(&stdout).map_err(unwritable)?;
        let way = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Way::File,
            FileType::Socket => Way::Socket,
            FileType::Fifo => Relay::new().map_or(Way::Page, Way::Pipe),
            _ => Way::Page,
        };
        Ok(Self { stdout, way, buffer: BytesMut::new(), taken: 0, notes: VecDeque::new() })
    }

    /// The descriptor: writable when [`Output::write_ready`] has something to do, in error when nobody reads any more.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.stdout.as_fd()
    }

    /// Bytes that wait to be taken.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// Notes whose bytes wait to be taken.
    #[must_use]
    pub fn notes(&self) -> usize {
        self.notes.len()
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Adds a note: [`Output::next_note`] gives it when everything pushed before it was taken.
    pub fn note(&mut self, note: T) {
        self.notes.push_back((self.taken + self.buffer.len() as u64, note));
    }

    /// The next note whose bytes were all taken.
    pub fn next_note(&mut self) -> Option<T> {
        let reached = self.notes.front().is_some_and(|(at, _)| *at <= self.taken);
        if reached { self.notes.pop_front().map(|(_, note)| note) } else { None }
    }

    /// Whether nothing is left: neither bytes nor notes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.notes.is_empty()
    }

    /// Writes once what goes through without waiting, and finds out whether anybody still reads.
    ///
    /// # Errors
    /// [`Exit::Failed`] where standard output does not take it, a full disk for one; nothing that waits is lost by that.
    pub fn write_ready(&mut self) -> Result<Written> {
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
        let result = match &mut self.way {
            Way::Pipe(relay) if relay.staged > 0 || self.buffer.len() > PIPE_BUF => {
                relay.pass(&self.buffer, &self.stdout)
            }
            Way::Page | Way::Pipe(_) => rustix::io::write(&self.stdout, &self.buffer[..page]),
            Way::File => rustix::io::write(&self.stdout, &self.buffer),
            Way::Socket => rustix::net::send(&self.stdout, &self.buffer, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
        };
        match result {
            Ok(taken) => {
                self.buffer.advance(taken);
                self.taken += taken as u64;
                Ok(Written::Some)
            }
            Err(Errno::INTR | Errno::AGAIN) => Ok(Written::Some),
            Err(Errno::PIPE | Errno::CONNRESET) => Ok(Written::Closed),
            Err(errno) => Err(unwritable(errno)),
        }
    }
}

impl Relay {
    /// `None` where no more descriptors are to be had: it goes without.
    fn new() -> Option<Self> {
        let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        Some(Self { out, into, staged: 0 })
    }

    /// Passes the front of `buffer` on to `to`; how much of it arrived there.
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
    Error::new(Exit::Failed, "cannot write to stdout").because(errno).hint(
        "what was not written was not acknowledged: it comes again where the broker keeps it (sts.conf(5), clientid)",
    )
}
