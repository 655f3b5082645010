//! What a tool says on stderr, as `tool: what: why` and then `tool: hint: what to do`. stdout carries data only.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, IsTerminal, Write};

use crate::Error;
use crate::service_manager::ServiceManager;
use crate::text::tame;

/// How much is said: each level says what the one before says, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what ends the run (`-q`), unless a later run does the rest by itself.
    Error,
    /// What is probably not meant.
    Warning,
    /// What a user wants to know once.
    Info,
    /// Each step (`-v`).
    Verbose,
}

/// What a tool says on stderr; a stderr that is closed or full never ends a run.
pub struct Reporter {
    tool: &'static str,
    level: Level,
    sink: RefCell<Box<dyn Write>>,
    /// On a terminal: how many columns the status line takes that stands there now.
    status: Option<Cell<usize>>,
    /// What started this process as a service.
    manager: Option<ServiceManager>,
}

impl Reporter {
    /// Reports up to `level` on stderr, in the name of `tool`, and tells a service manager how the run is doing.
    #[must_use]
    pub fn new(tool: &'static str, level: Level) -> Self {
        let status = (io::stderr().is_terminal() && level >= Level::Info).then(Cell::default);
        Self { status, manager: ServiceManager::of_process(), ..Self::to(tool, level, Box::new(io::stderr())) }
    }

    /// As [`Reporter::new`], to another place than stderr, and for no service manager.
    #[must_use]
    pub fn to(tool: &'static str, level: Level, sink: Box<dyn Write>) -> Self {
        Self { tool, level, sink: RefCell::new(sink), status: None, manager: None }
    }

    /// Says why the run ends, and what to do about it.
    pub fn error(&self, error: &Error) {
        let level = if error.is_deferred() { Level::Warning } else { Level::Error };
        self.say(level, error, error.hint_text());
    }

    /// Says what goes wrong without ending the run, as an error would be worded.
    pub fn warn(&self, error: &Error) {
        self.say(Level::Warning, error, error.hint_text());
    }

    /// Says what is probably not meant, one line.
    pub fn warning(&self, what: impl fmt::Display) {
        self.warning_with_hint(what, None);
    }

    /// As [`Reporter::warning`], with what to do about it where that is known.
    pub fn warning_with_hint(&self, what: impl fmt::Display, hint: Option<&str>) {
        self.say(Level::Warning, format_args!("warning: {what}"), hint);
    }

    /// Says what a user wants to know once, one line.
    pub fn info(&self, what: impl fmt::Display) {
        self.say(Level::Info, what, None);
    }

    /// Says what the user asked to be told, at every level.
    pub fn answer(&self, what: impl fmt::Display) {
        self.say(Level::Error, what, None);
    }

    /// Whether somebody at a terminal sees what [`Reporter::status`] shows.
    #[must_use]
    pub fn has_status(&self) -> bool {
        self.status.is_some()
    }

    /// Shows on a terminal, and nowhere else, what goes on now, in place of what it showed before and until something is
    /// said; an empty text takes it away.
    pub fn status(&self, what: impl fmt::Display) {
        let Some(shown) = &self.status else { return };
        let mut text = tame(&what.to_string());
        let columns = text.chars().count();
        if columns == 0 && shown.get() == 0 {
            return;
        }
        // Padded over what stood there; at the end the cursor is behind the text, or where the line begins.
        text.insert(0, '\r');
        text.extend(std::iter::repeat_n(' ', shown.get().saturating_sub(columns)));
        if columns == 0 {
            text.push('\r');
        }
        shown.set(columns);
        let mut sink = self.sink.borrow_mut();
        let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    }

    /// The run is ready: a service manager may start the units that depend on it.
    pub fn ready(&self) {
        if let Some(manager) = &self.manager {
            manager.ready();
        }
    }

    /// What the run does or waits for now, for a service manager to show.
    pub(crate) fn service_status(&self, what: impl fmt::Display) {
        if let Some(manager) = &self.manager {
            manager.status(what);
        }
    }

    /// The service manager that wants to know how the run is doing.
    pub(crate) fn manager(&self) -> Option<&ServiceManager> {
        self.manager.as_ref()
    }

    /// Whether [`Reporter::verbose`] prints anything: to be asked before work that only such a line needs.
    #[must_use]
    pub fn is_verbose(&self) -> bool {
        self.level >= Level::Verbose
    }

    /// Says one step, one line.
    pub fn verbose(&self, what: impl fmt::Display) {
        self.say(Level::Verbose, what, None);
    }

    fn say(&self, level: Level, what: impl fmt::Display, hint: Option<&str>) {
        if level > self.level {
            return;
        }
        self.status("");
        let mut text = format!("{}: {}\n", self.tool, tame(&what.to_string()));
        if let Some(hint) = hint {
            text.extend([self.tool, ": hint: ", &tame(hint), "\n"]);
        }
        // In one write, so that tools that share a terminal do not mix their lines; nobody is left to tell if it fails.
        let mut sink = self.sink.borrow_mut();
        let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reporter").field("tool", &self.tool).field("level", &self.level).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::Exit;

    /// What is reported.
    #[derive(Clone, Default)]
    pub(crate) struct Said(Rc<RefCell<Vec<u8>>>);

    impl Said {
        /// Takes the text of what was reported since the last time.
        pub(crate) fn take(&self) -> String {
            String::from_utf8(self.0.take()).unwrap()
        }
    }

    impl Write for Said {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A stream that fails to write.
    pub(crate) struct Broken(pub(crate) io::ErrorKind);

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn each_level_says_what_the_one_before_says() {
        let mut said = Vec::new();
        for level in [Level::Error, Level::Warning, Level::Info, Level::Verbose] {
            let sink = Said::default();
            let reporter = Reporter::to("sts-test", level, Box::new(sink.clone()));
            reporter.verbose("d");
            reporter.info("c");
            reporter.warning("b");
            reporter.error(&Error::new(Exit::Failed, "what").because("why\n\u{1b}[31m").hint("do"));
            if level == Level::Error {
                reporter.error(&Error::new(Exit::TryAgain, "later").deferred());
            }
            said.push(sink.take());
        }
        assert_eq!(said[0], "sts-test: what: why\\u{a}\\u{1b}[31m\nsts-test: hint: do\n");
        assert_eq!(said[1], format!("sts-test: warning: b\n{}", said[0]));
        assert_eq!(said[2], format!("sts-test: c\n{}", said[1]));
        assert_eq!(said[3], format!("sts-test: d\n{}", said[2]));
    }

    #[test]
    fn a_status_line_gives_way_to_what_is_said() {
        let sink = Said::default();
        let plain = Reporter::to("sts-test", Level::Info, Box::new(sink.clone()));
        plain.status("not on a terminal");
        assert!(!plain.has_status() && sink.0.borrow().is_empty());
        let terminal = Reporter { status: Some(Cell::default()), ..plain };
        terminal.status("abc\u{1b}");
        terminal.status("d");
        terminal.verbose("unsaid");
        terminal.info("e");
        terminal.info("f");
        assert_eq!(sink.take(), "\rabc\\u{1b}\rd        \r \rsts-test: e\nsts-test: f\n");
        terminal.status("");
        assert!(sink.take().is_empty(), "it is gone already");
    }

    #[test]
    fn a_closed_stderr_ends_nothing() {
        let reporter = Reporter::to("sts-test", Level::Verbose, Box::new(Broken(io::ErrorKind::BrokenPipe)));
        reporter.error(&Error::new(Exit::Failed, "what"));
        reporter.info("more");
    }
}
