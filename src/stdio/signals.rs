//! Signals as bytes on a socket that the loop polls.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::LazyLock;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};

use crate::{Error, Exit, Result};

/// Where Linux says which signals this process ignores.
const PROCESS_STATUS: &str = "/proc/self/status";

/// Signals, counted. The first asks for an orderly end; a second SIGINT or SIGTERM, for an immediate one.
///
/// SIGHUP asks for an orderly end however often it comes: of one terminal that closes, the kernel and the shell may
/// both tell, and systemd's `SendSIGHUP=` sends it right after SIGTERM.
#[derive(Debug)]
pub struct Signals {
    received: Received,
    /// Of these, the ones that never count as a second signal: each was written here before it was written there.
    hangups: Option<Received>,
}

impl Signals {
    /// From here on SIGINT, SIGTERM and SIGHUP are counted instead of ending the process. A SIGHUP that is ignored, as
    /// nohup(1) arranges it, stays ignored.
    ///
    /// # Errors
    /// [`Exit::Failed`] if the process has no descriptors left.
    pub fn catch() -> Result<Self> {
        if *IGNORES_HANGUPS {
            return Self::terminations();
        }
        let (hangups, sent) = Received::pair()?;
        register(SIGHUP, &sent)?;
        Ok(Self { received: Received::of(&[SIGINT, SIGTERM, SIGHUP])?, hangups: Some(hangups) })
    }

    /// Looks at what [`Signals::catch`] must know, for a run that then gives up access to it.
    pub(crate) fn look_at_start() {
        LazyLock::force(&IGNORES_HANGUPS);
    }

    /// As [`Signals::catch`], of a service, for which SIGHUP means something else: see [`Signals::hangups`].
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub fn terminations() -> Result<Self> {
        Ok(Self { received: Received::of(&[SIGINT, SIGTERM])?, hangups: None })
    }

    /// From here on SIGHUP, which asks a service to read its configuration again, is counted.
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub fn hangups() -> Result<Self> {
        Ok(Self { received: Received::of(&[SIGHUP])?, hangups: None })
    }

    /// From here on SIGUSR1, which asks a run how far it has come, is counted.
    ///
    /// # Errors
    /// As [`Signals::catch`].
    pub(crate) fn progress_requests() -> Result<Self> {
        Ok(Self { received: Received::of(&[SIGUSR1])?, hangups: None })
    }

    /// Signals of which each is a byte that a test writes to the other end.
    #[cfg(test)]
    pub(crate) fn simulated() -> (Self, UnixStream) {
        let (received, sent) = Received::pair().expect("a test has descriptors left");
        (Self { received, hangups: None }, sent)
    }

    /// What becomes readable when one arrives.
    #[must_use]
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.received.stream.as_fd()
    }

    /// How many have arrived up to now.
    pub fn count(&mut self) -> usize {
        // A hangup that comes between the two is subtracted too early, and makes this readable again.
        if self.received.take()
            && let Some(hangups) = &mut self.hangups
        {
            hangups.take();
        }
        self.counted()
    }

    /// How many had arrived at the last count.
    pub(crate) fn counted(&self) -> usize {
        let hangups = self.hangups.as_ref().map_or(0, |hangups| hangups.count);
        self.received.count.saturating_sub(hangups).max(hangups.min(1))
    }
}

/// One byte per signal.
#[derive(Debug)]
struct Received {
    stream: UnixStream,
    count: usize,
}

impl Received {
    fn of(signals: &[i32]) -> Result<Self> {
        let (received, sent) = Self::pair()?;
        for signal in signals {
            register(*signal, &sent)?;
        }
        Ok(received)
    }

    fn pair() -> Result<(Self, UnixStream)> {
        let pair = || -> io::Result<_> {
            let (stream, sent) = UnixStream::pair()?;
            stream.set_nonblocking(true)?;
            Ok((Self { stream, count: 0 }, sent))
        };
        pair().map_err(cannot_catch)
    }

    /// Counts what has arrived; false if that is nothing new.
    fn take(&mut self) -> bool {
        let (before, mut bytes) = (self.count, [0; 16]);
        while let Ok(read @ 1..) = (&self.stream).read(&mut bytes) {
            self.count += read;
        }
        self.count > before
    }
}

fn register(signal: i32, sent: &UnixStream) -> Result<()> {
    let registered = sent.try_clone().and_then(|sent| signal_hook::low_level::pipe::register(signal, sent));
    registered.map(drop).map_err(cannot_catch)
}

fn cannot_catch(err: io::Error) -> Error {
    Error::new(Exit::Failed, "cannot catch signals").because(err)
}

/// Whether this process was started with SIGHUP ignored; where the system does not say, it was not.
static IGNORES_HANGUPS: LazyLock<bool> =
    LazyLock::new(|| std::fs::read_to_string(PROCESS_STATUS).is_ok_and(|status| is_ignored(SIGHUP, &status)));

/// Whether a process ignores a signal, as proc(5) has it: a mask in hexadecimal, the first signal in its lowest bit.
fn is_ignored(signal: i32, status: &str) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_hangup_is_a_first_signal_and_never_a_second_one() {
        for (signals, count) in
            [("", 0), ("T", 1), ("H", 1), ("HH", 1), ("TH", 1), ("HT", 1), ("TT", 2), ("THT", 2), ("HTHT", 2)]
        {
            let ((received, sent), (hangups, hung_up)) = (Received::pair().unwrap(), Received::pair().unwrap());
            let mut all = Signals { received, hangups: Some(hangups) };
            for signal in signals.chars() {
                if signal == 'H' {
                    (&hung_up).write_all(b"X").unwrap();
                }
                (&sent).write_all(b"X").unwrap();
                all.count();
            }
            assert_eq!(all.count(), count, "{signals}");
        }
    }

    #[test]
    fn proc_tells_what_is_ignored() {
        let status = "Name:\tsts-send\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(is_ignored(SIGHUP, status) && !is_ignored(SIGTERM, status) && !is_ignored(SIGHUP, ""));
    }
}
