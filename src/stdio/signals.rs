//! Signals as bytes on a socket that the loop polls.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{Error, Exit, Result};

/// Signals, counted. Of SIGINT and SIGTERM, the first asks for an orderly end, the second for an immediate one.
#[derive(Debug)]
pub struct Signals {
    received: UnixStream,
    count: usize,
}

impl Signals {
    /// From here on the two signals are counted instead of ending the process.
    ///
    /// # Errors
    /// [`Exit::Failed`] if the process has no descriptors left.
    pub fn catch() -> Result<Self> {
        Self::of(&[SIGINT, SIGTERM])
    }

    /// From here on SIGHUP, which asks a service to read its configuration again, is counted.
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub fn hangups() -> Result<Self> {
        Self::of(&[SIGHUP])
    }

    fn of(signals: &[i32]) -> Result<Self> {
        let caught = || -> io::Result<Self> {
            let (received, sent) = UnixStream::pair()?;
            received.set_nonblocking(true)?;
            for signal in signals {
                signal_hook::low_level::pipe::register(*signal, sent.try_clone()?)?;
            }
            Ok(Self { received, count: 0 })
        };
        caught().map_err(|err| Error::new(Exit::Failed, "cannot catch signals").because(err))
    }

    /// What becomes readable when one arrives.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.received.as_fd()
    }

    /// How many have arrived up to now.
    pub fn count(&mut self) -> usize {
        let mut bytes = [0; 16];
        while let Ok(read @ 1..) = (&self.received).read(&mut bytes) {
            self.count += read;
        }
        self.count
    }
}
