//! The two kinds of failure.
//!
//! An [`Error`] ends a run: it says what failed, why, and what to do about it, and it decides the exit status.
//! A [`Rejected`] drops one message that came over the network; the run goes on, and nothing that the message
//! touched has changed.

use std::fmt;
use std::process::ExitCode;

pub use sts_crypto::Rejected;

/// Exit statuses, after sysexits.h; the table is in each tool's manual page under EXIT STATUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Failed for a reason that has no status of its own.
    Failed = 1,
    /// The command line is wrong (`EX_USAGE`).
    Usage = 64,
    /// Data was lost: a gap, or input that was not all delivered (`EX_DATAERR`).
    DataLost = 65,
    /// The broker is unreachable or refused us (`EX_UNAVAILABLE`).
    Unavailable = 69,
    /// Timed out; the same command may succeed later (`EX_TEMPFAIL`).
    TryAgain = 75,
    /// The peer speaks another version or suite (`EX_PROTOCOL`).
    Protocol = 76,
    /// Not trusted: unknown key, wrong code, loose file mode (`EX_NOPERM`).
    NotTrusted = 77,
    /// The configuration is wrong (`EX_CONFIG`).
    Config = 78,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        // The discriminants are exit statuses: all of them fit.
        ExitCode::from(exit as u8)
    }
}

/// What ends a run, worded for the person who typed the command.
///
/// Displayed as `what: why`; the tool puts its own name in front and prints [`Error::hint`] on a second line.
/// Neither part ever holds a secret, nor text from the network that was not escaped.
// One pointer, and words put together out of line: it is returned in hundreds of places, and each would pay for more.
#[derive(Clone, Debug)]
pub struct Error(Box<Parts>);

#[derive(Clone, Debug)]
struct Parts {
    exit: Exit,
    what: String,
    why: Option<String>,
    hint: Option<String>,
    deferred: bool,
    lack: Option<Lack>,
}

/// What the machine lacked, where that and not what was asked of it is the cause: the same may succeed later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lack {
    /// Room on a disk.
    Disk,
    /// Memory, descriptors, or hardware that works.
    System,
}

/// `Result` with [`Error`], for everything that can end a run.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that says `what` failed; lower case, no full stop.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::of(exit, what.into())
    }

    fn of(exit: Exit, what: String) -> Self {
        Self(Box::new(Parts { exit, what, why: None, hint: None, deferred: false, lack: None }))
    }

    /// Adds the cause: usually the text of the system's or a library's own error.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Self {
        self.explain(&why);
        self
    }

    fn explain(&mut self, why: &dyn fmt::Display) {
        self.0.why = Some(why.to_string());
    }

    /// Adds one more cause after those that there are.
    #[must_use]
    pub fn and_because(mut self, why: impl fmt::Display) -> Self {
        let Some(first) = self.0.why.take() else { return self.because(why) };
        self.explain(&format_args!("{first}; {why}"));
        self
    }

    /// Adds another error, if there is one, after the causes that there are, and its hint where this one has none.
    #[must_use]
    pub(crate) fn and_error(self, other: Option<&Self>) -> Self {
        let Some(other) = other else { return self };
        let both = self.and_because(other);
        match other.hint_text() {
            Some(hint) => both.hint_if_none(hint),
            None => both,
        }
    }

    /// Adds what to do: a command to type, or a line to change.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.advise(hint.into());
        self
    }

    /// As [`Error::hint`], where there is something to say.
    #[must_use]
    pub(crate) fn hint_if(self, hint: Option<String>) -> Self {
        match hint {
            Some(hint) => self.hint(hint),
            None => self,
        }
    }

    /// As [`Error::hint`], unless there is one: what is closer to the cause says more.
    #[must_use]
    pub(crate) fn hint_if_none(self, hint: impl Into<String>) -> Self {
        if self.0.hint.is_none() { self.hint(hint) } else { self }
    }

    /// As [`Error::hint`], after the one that there is: that one is about the cause, this one about a consequence.
    #[must_use]
    pub(crate) fn and_hint(mut self, hint: &str) -> Self {
        let Some(first) = self.0.hint.take() else { return self.hint(hint) };
        self.advise(format!("{first}; {hint}"));
        self
    }

    fn advise(&mut self, hint: String) {
        self.0.hint = Some(hint);
    }

    /// Ends the run with another status.
    #[must_use]
    pub(crate) fn exit_as(mut self, exit: Exit) -> Self {
        self.0.exit = exit;
        self
    }

    /// Says that nothing is lost, and that a later run does the rest by itself: who asked for quiet reads of it in the
    /// exit status only.
    #[must_use]
    pub fn deferred(mut self) -> Self {
        self.0.deferred = true;
        self
    }

    /// Whether [`Error::deferred`] was said of it.
    #[must_use]
    pub fn is_deferred(&self) -> bool {
        self.0.deferred
    }

    /// Says what the machine lacked, if it did.
    #[must_use]
    pub(crate) fn for_lack_of(mut self, lack: Option<Lack>) -> Self {
        self.0.lack = lack;
        self
    }

    /// What the machine lacked; `None` where that is not the cause.
    #[must_use]
    pub(crate) fn lack(&self) -> Option<Lack> {
        self.0.lack
    }

    /// The exit status this error ends the run with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.0.exit
    }

    /// What to do about it, where there is something to do.
    #[must_use]
    pub fn hint_text(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Parts { what, why, .. } = &*self.0;
        match why {
            Some(why) => write!(f, "{what}: {why}"),
            None => f.write_str(what),
        }
    }
}

impl std::error::Error for Error {}
