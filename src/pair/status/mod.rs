//! `sts-pair --status` and `--metrics`: links, peers, sessions and what was received under them; never a secret.

mod json;
#[cfg(feature = "legacy")]
mod legacy;
pub mod metrics;
mod stream;
mod survey;
mod table;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};

use self::survey::Survey;
use crate::cache::status::other_dir;
use crate::config::{self, Environment};
use crate::link::unix_time;
use crate::name::LinkName;
use crate::report::Reporter;
use crate::stdio::{self, Signals};
use crate::text::{quote, show};
use crate::{Error, Exit, Result};

/// Time between two tables of `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// How the status is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFormat {
    /// A table with one line per peer, and what needs attention below it.
    Table,
    /// One JSON object per peer and line.
    Json,
}

/// Prints the status of all links, or of `link`.
///
/// # Errors
/// [`Exit::NotTrusted`] if the runtime directory has the wrong owner or mode; [`Exit::Config`] if there is no such link;
/// [`Exit::Failed`] if standard output cannot be written; as [`Survey::report_unread`], after the rest is shown.
pub fn run(env: &Environment, link: Option<&OsStr>, format: StatusFormat, report: &Reporter) -> Result<()> {
    if format == StatusFormat::Json {
        return stream::print(env, link.map(config::link_of).transpose()?.as_ref(), report);
    }
    let (text, survey) = text(env, link, format, report)?;
    print(&text)?;
    survey.report_unread(report)
}

/// Prints the status again and again until SIGINT or SIGTERM, on a terminal in place of the one before.
///
/// # Errors
/// As [`run`].
pub fn watch(env: &Environment, link: Option<&OsStr>, format: StatusFormat, report: &Reporter) -> Result<()> {
    let mut signals = Signals::terminations()?;
    while signals.count() == 0 {
        if io::stdout().is_terminal() {
            // To the upper left corner, and all is cleared below it.
            print("\x1b[H\x1b[J")?;
        }
        let (text, survey) = text(env, link, format, report)?;
        let shown = print(&fitting(&text))?;
        if !shown {
            return Ok(());
        }
        if let Err(error) = survey.report_unread(report) {
            report.warn(&error);
        }
        let now = Instant::now();
        let fd = signals.as_fd();
        stdio::wait(&mut [PollFd::new(&fd, PollFlags::IN)], Some(now + WATCH_INTERVAL), now)?;
    }
    Ok(())
}

fn text(env: &Environment, link: Option<&OsStr>, format: StatusFormat, report: &Reporter) -> Result<(String, Survey)> {
    let only = link.map(config::link_of).transpose()?;
    #[cfg_attr(not(feature = "legacy"), expect(unused_mut, reason = "the old program's links may lack files, too"))]
    let mut survey = Survey::take(env, only.as_ref())?;
    #[cfg(feature = "legacy")]
    let legacy = legacy::sessions(&env.runtime_dir(), &mut survey.links, unix_time());
    #[cfg(not(feature = "legacy"))]
    let legacy: [(); 0] = [];
    if survey.is_without_sessions() && legacy.is_empty() {
        tell_no_sessions(env, only.as_ref(), report);
    }
    let rows = survey.rows();
    let text = match format {
        StatusFormat::Table => table::table(&rows, unix_time(), has_colours()),
        StatusFormat::Json => json::lines(&rows),
    };
    #[cfg(feature = "legacy")]
    let text = match format {
        StatusFormat::Table if text.is_empty() => legacy::lines(&legacy, unix_time()),
        StatusFormat::Table if !legacy.is_empty() => text + "\n" + &legacy::lines(&legacy, unix_time()),
        StatusFormat::Table => text,
        StatusFormat::Json => text + &legacy::json_lines(&legacy),
    };
    Ok((text, survey))
}

/// Says where no sessions are, of any link or of `only`, and where some are.
fn tell_no_sessions(env: &Environment, only: Option<&LinkName>, report: &Reporter) {
    let runtime = env.runtime_dir();
    let of_link = only.map(|link| format!(" of {link}")).unwrap_or_default();
    let what = format!("no sessions{of_link} in {}", show(&runtime));
    match other_dir(&runtime).filter(|_| only.is_none()) {
        Some(other) => {
            let why = format!("there are some in {}", show(&other));
            let hint = format!("STS_RUNTIME_DIR={} sts-pair --status", quote(&other));
            report.warn(&Error::new(Exit::TryAgain, what).because(why).hint(hint));
        }
        None => report.info(what),
    }
}

/// As much of the text as a terminal has lines for, so that its beginning stays in sight.
fn fitting(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(io::stdout()).map_or(0, |size| usize::from(size.ws_row));
    let lines = text.lines().count();
    // The last one is the cursor's.
    if size < 3 || lines < size {
        return text.to_owned();
    }
    let mut fitting: String = text.split_inclusive('\n').take(size - 2).collect();
    let _ = writeln!(fitting, "({} more lines)", lines - (size - 2));
    fitting
}

/// Writes to standard output; false if nobody reads it any more, as in `sts-pair --status | head`.
pub(super) fn print(text: &str) -> Result<bool> {
    let mut stdout = io::stdout();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(err) => Err(Error::new(Exit::Failed, "cannot write to stdout").because(err)),
    }
}

/// Colours are for a terminal, unless the user does not want them (<https://no-color.org>).
fn has_colours() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    io::stdout().is_terminal() && set("NO_COLOR").is_none() && set("TERM").is_some_and(|term| term != "dumb")
}
