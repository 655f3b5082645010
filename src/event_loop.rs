//! One turn of a tool's loop: waiting for the broker, for a signal, and for the tool's own end of the pipe.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use crate::Result;
use crate::cli::Reporter;
use crate::mqtt::Client;
use crate::stdio::{self, Signals};

/// How long the last packets may take to get out.
const FAREWELL: Duration = Duration::from_secs(3);

/// What the user was told of the connection: its loss once, however many attempts fail, and that it is back.
#[derive(Debug, Default)]
pub struct Trouble {
    told: bool,
}

impl Trouble {
    /// There is no connection, or no longer one, for this reason.
    pub fn down(&mut self, why: &str, report: &Reporter) {
        if !std::mem::replace(&mut self.told, true) {
            report.info(format_args!("{why}; waiting for the broker"));
        }
    }

    /// The broker accepted the connection.
    pub fn up(&mut self, report: &Reporter) {
        if std::mem::take(&mut self.told) {
            report.info("connected again");
        }
    }

    /// Whether there is no connection, and the user was told.
    #[must_use]
    pub fn stands(&self) -> bool {
        self.told
    }

    /// The broker accepts us and drops us again and again.
    pub fn contested(times: u32, report: &Reporter) {
        report.warning(format_args!(
            "the broker dropped us {times} times in a row: does another client use our client id (clientid)?"
        ));
    }
}

/// Waits until the broker's socket is ready, a signal came, `own` is ready, or the client's deadline or `deadline` has
/// passed; returns what the socket is ready for, which the next [`Client::drive`] wants to know.
///
/// # Errors
/// As [`stdio::wait`].
pub fn wait(
    client: &Client,
    signals: &Signals,
    own: Option<(BorrowedFd<'_>, PollFlags)>,
    deadline: Option<Instant>,
    now: Instant,
) -> Result<PollFlags> {
    let deadline = deadline.into_iter().chain(client.deadline()).min();
    let signals = signals.as_fd();
    let socket = client.interest();
    let mut fds = vec![PollFd::new(&signals, PollFlags::IN)];
    fds.extend(socket.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
    fds.extend(own.iter().map(|(fd, flags)| PollFd::new(fd, *flags)));
    stdio::wait(&mut fds, deadline, now)?;
    Ok(if socket.is_some() { fds[1].revents() } else { PollFlags::empty() })
}

/// Waits until the broker has all that was published, ends the connection, and waits for that: a moment in all, or until
/// another signal comes.
///
/// # Errors
/// As [`stdio::wait`].
pub fn leave(client: &mut Client, signals: &mut Signals) -> Result<()> {
    let until = Instant::now() + FAREWELL;
    let before = signals.count();
    let mut ready = PollFlags::empty();
    loop {
        let now = Instant::now();
        client.drive(now, ready);
        while client.next_event().is_some() {}
        if client.unacknowledged().messages == 0 {
            client.disconnect();
            client.drive(now, PollFlags::empty());
        }
        if client.is_closed() || now >= until || signals.count() > before {
            return Ok(());
        }
        ready = wait(client, signals, None, Some(until), now)?;
    }
}
