//! Asks for the one-time code on the terminal, even if standard input is another file.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use rustix::event::{PollFd, PollFlags};
use zeroize::Zeroizing;

use crate::handshake::Code;
use crate::stdio::{self, Signals};
use crate::{Error, Exit, Result};

const TERMINAL: &str = "/dev/tty";
/// Longest line that a terminal hands over, in bytes (termios(3)).
const MAX_TERMINAL_LINE_LEN: usize = 4096;

/// Asks until a code is typed. The terminal echoes it: a code is good once, and a typo that is seen is corrected sooner.
///
/// # Errors
/// [`Exit::Usage`] if there is no terminal, or its user ends the input; [`Exit::TryAgain`] on a signal.
pub(super) fn ask() -> Result<Code> {
    let cannot = |err: io::Error| {
        Error::new(Exit::Usage, "cannot ask for the code")
            .because(format!("{TERMINAL}: {err}"))
            .hint("if there is no terminal, set STS_CODE to the code")
    };
    let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL).map_err(cannot)?;
    let mut signals = Signals::catch()?;
    loop {
        (&terminal).write_all(b"code that the other device shows: ").map_err(cannot)?;
        let line = read_line(&terminal, &mut signals)?;
        match Code::parse(&line) {
            Ok(code) => return Ok(code),
            Err(why) => (&terminal).write_all(format!("{why}\n").as_bytes()).map_err(cannot)?,
        }
    }
}

/// Reads one line; a terminal hands it over as a whole.
fn read_line(mut terminal: &File, signals: &mut Signals) -> Result<Zeroizing<String>> {
    let (tty, caught) = (terminal.as_fd(), signals.as_fd());
    let mut fds = [PollFd::new(&tty, PollFlags::IN), PollFd::new(&caught, PollFlags::IN)];
    loop {
        stdio::wait(&mut fds, None, Instant::now())?;
        if !fds[1].revents().is_empty() {
            let _ = terminal.write_all(b"\n");
            return Err(Error::new(Exit::TryAgain, "stopped by a signal").because("no code was typed"));
        }
        if !fds[0].revents().is_empty() {
            break;
        }
    }
    let mut bytes = Zeroizing::new(vec![0; MAX_TERMINAL_LINE_LEN]);
    match terminal.read(&mut bytes) {
        Ok(0) | Err(_) => {
            let _ = terminal.write_all(b"\n");
            Err(Error::new(Exit::Usage, "no code was typed"))
        }
        Ok(len) => Ok(Zeroizing::new(String::from_utf8_lossy(&bytes[..len]).into_owned())),
    }
}
