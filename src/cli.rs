//! What the three tools share: their common options, what they say on stderr, and how they end.
//!
//! stdout carries data only. What a tool says goes to stderr as `tool: what: why`, then `tool: hint: what to do`.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;

use crate::text::tame;
use crate::{Error, Exit, Result};

/// The options that every tool takes.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// The link to use: NAME for NAME.conf, or a path [default: `$STS_LINK`, else `default`]
    ///
    /// NAME.conf is looked for in `$STS_CONFIG_DIR`; if that is not set, in `$XDG_CONFIG_HOME/sts` (or ~/.config/sts), then
    /// in /etc/sts. If LINK contains a `/`, it is the path of a configuration file.
    #[arg(value_name = "LINK")]
    pub link: Option<OsString>,

    /// Set a configuration key, overriding the file; may be repeated
    ///
    /// The keys are those of sts.conf(5). A secret cannot be given this way, since other users can see command lines.
    #[arg(short = 'o', value_name = "KEY=VALUE")]
    pub overrides: Vec<String>,

    /// Print each step
    #[arg(short = 'v')]
    pub verbose: bool,

    /// Report only the error that ends the run
    #[arg(short = 'q', conflicts_with = "verbose")]
    pub quiet: bool,
}

impl CommonArgs {
    /// How much the tool is to say.
    #[must_use]
    pub fn level(&self) -> Level {
        match (self.quiet, self.verbose) {
            (true, _) => Level::Error,
            (false, true) => Level::Verbose,
            (false, false) => Level::Info,
        }
    }
}

/// How much is said: each level says what the one before says, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Only what ends the run (`-q`).
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
}

impl Reporter {
    /// Says up to `level` on stderr, in the name of `tool`.
    #[must_use]
    pub fn new(tool: &'static str, level: Level) -> Self {
        let status = (io::stderr().is_terminal() && level >= Level::Info).then(Cell::default);
        Self { status, ..Self::to(tool, level, Box::new(io::stderr())) }
    }

    /// As [`Reporter::new`], to another place than stderr.
    #[must_use]
    pub fn to(tool: &'static str, level: Level, sink: Box<dyn Write>) -> Self {
        Self { tool, level, sink: RefCell::new(sink), status: None }
    }

    /// Says why the run ends, and what to do about it.
    pub fn error(&self, error: &Error) {
        self.say(Level::Error, error, error.hint_text());
    }

    /// Says what goes wrong without ending the run, as an error would be worded.
    pub fn warn(&self, error: &Error) {
        self.say(Level::Warning, error, error.hint_text());
    }

    /// Says what is probably not meant, one line.
    pub fn warning(&self, what: impl fmt::Display) {
        self.say(Level::Warning, format_args!("warning: {what}"), None);
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

/// The whole of a tool's `main`: parses the command line, runs, reports the error and gives the exit status.
///
/// A wrong command line ends with 64; `--help` and `--version` go to stdout and end with 0.
pub fn run<A>(tool: &'static str, body: impl FnOnce(&A, &Reporter) -> Result<()>) -> ExitCode
where
    A: clap::Parser + AsRef<CommonArgs>,
{
    let (reporter, outcome) = match A::try_parse_from(std::env::args_os()) {
        Ok(args) => {
            let reporter = Reporter::new(tool, args.as_ref().level());
            let outcome = body(&args, &reporter);
            (reporter, outcome)
        }
        Err(stop) => (Reporter::new(tool, Level::Error), stopped(tool, &stop, &mut io::stdout().lock())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            reporter.error(&error);
            error.exit().into()
        }
    }
}

/// What clap stops at: help and version, which are a success, or a wrong command line.
fn stopped(tool: &str, stop: &clap::Error, stdout: &mut impl Write) -> Result<()> {
    let text = stop.render().to_string();
    if matches!(stop.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
                Err(Error::new(Exit::Failed, "cannot write to stdout").because(err))
            }
            _ => Ok(()),
        };
    }
    // Clap's text is `error: what`, more lines of it, then blocks with tips and the usage.
    let mut blocks = text.split("\n\n").map(|block| block.lines().map(str::trim).collect::<Vec<_>>().join(" "));
    let what = blocks.next().unwrap_or_default();
    let tip = blocks.find_map(|block| block.strip_prefix("tip: ").map(str::to_owned));
    let help = format!("{tool} --help");
    Err(Error::new(Exit::Usage, what.strip_prefix("error: ").unwrap_or(&what)).hint(match tip {
        Some(tip) => format!("{tip}; see {help}"),
        None => help,
    }))
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    #[command(name = "sts-test", version)]
    struct Args {
        #[command(flatten)]
        common: CommonArgs,
        /// Short
        ///
        /// Long.
        #[arg(long)]
        timeout: Option<u32>,
    }

    impl AsRef<CommonArgs> for Args {
        fn as_ref(&self) -> &CommonArgs {
            &self.common
        }
    }

    fn parse(args: &[&str]) -> std::result::Result<Args, clap::Error> {
        Args::try_parse_from([&["sts-test"], args].concat())
    }

    fn stop(args: &[&str]) -> (Result<()>, String) {
        let mut stdout = Vec::new();
        let outcome = stopped("sts-test", &parse(args).unwrap_err(), &mut stdout);
        (outcome, String::from_utf8(stdout).unwrap())
    }

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed(io::ErrorKind);

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(self.0.into())
        }
    }

    #[test]
    fn options_are_where_the_manual_says() {
        let args = parse(&["-o", "qos=2", "-oport=1884", "-v", "gateway"]).unwrap().common;
        assert_eq!(args.overrides, ["qos=2", "port=1884"]);
        assert_eq!(args.link.as_ref().unwrap(), "gateway");
        assert_eq!(args.level(), Level::Verbose);
        assert_eq!(parse(&["-q"]).unwrap().common.level(), Level::Error);
        assert_eq!(parse(&[]).unwrap().common.level(), Level::Info);
        <Args as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn a_wrong_command_line_is_64_and_worded_like_the_rest() {
        for (args, what, hint) in [
            (&["--timout", "3"][..], "unexpected argument '--timout' found", "'--timeout'"),
            (&["--timeout", "x"], "invalid value 'x' for '--timeout <TIMEOUT>'", "sts-test --help"),
            (&["a", "b"], "unexpected argument 'b' found", "sts-test --help"),
            (&["-q", "-v"], "the argument '-q' cannot be used with '-v'", "sts-test --help"),
        ] {
            let (outcome, stdout) = stop(args);
            let err = outcome.unwrap_err();
            assert_eq!((err.exit(), stdout.as_str()), (Exit::Usage, ""));
            assert!(err.to_string().starts_with(what), "{err}");
            assert!(err.hint_text().unwrap().contains(hint), "{err:?}");
        }
    }

    #[test]
    fn help_and_version_go_to_stdout_open_or_closed() {
        let (outcome, short) = stop(&["-h"]);
        assert!(outcome.is_ok() && short.contains("Short") && !short.contains("Long."));
        let (outcome, long) = stop(&["--help"]);
        assert!(outcome.is_ok() && long.contains("Long."));
        let (outcome, version) = stop(&["-V"]);
        assert!(outcome.is_ok() && version == format!("sts-test {}\n", env!("CARGO_PKG_VERSION")));
        let help = parse(&["-h"]).unwrap_err();
        assert!(stopped("sts-test", &help, &mut Closed(io::ErrorKind::BrokenPipe)).is_ok());
        let full = stopped("sts-test", &help, &mut Closed(io::ErrorKind::StorageFull));
        assert_eq!(full.unwrap_err().exit(), Exit::Failed);
    }

    #[test]
    fn each_level_says_what_the_one_before_says() {
        let mut said = Vec::new();
        for level in [Level::Error, Level::Warning, Level::Info, Level::Verbose] {
            let sink = Shared::default();
            let reporter = Reporter::to("sts-test", level, Box::new(sink.clone()));
            reporter.verbose("d");
            reporter.info("c");
            reporter.warning("b");
            reporter.error(&Error::new(Exit::Failed, "what").because("why\n\u{1b}[31m").hint("do"));
            said.push(String::from_utf8(sink.0.take()).unwrap());
        }
        assert_eq!(said[0], "sts-test: what: why\\u{a}\\u{1b}[31m\nsts-test: hint: do\n");
        assert_eq!(said[1], format!("sts-test: warning: b\n{}", said[0]));
        assert_eq!(said[2], format!("sts-test: c\n{}", said[1]));
        assert_eq!(said[3], format!("sts-test: d\n{}", said[2]));
    }

    #[test]
    fn a_status_line_gives_way_to_what_is_said() {
        let sink = Shared::default();
        let plain = Reporter::to("sts-test", Level::Info, Box::new(sink.clone()));
        plain.status("not on a terminal");
        assert!(!plain.has_status() && sink.0.borrow().is_empty());
        let terminal = Reporter { status: Some(Cell::default()), ..plain };
        terminal.status("abc\u{1b}");
        terminal.status("d");
        terminal.verbose("unsaid");
        terminal.info("e");
        terminal.info("f");
        assert_eq!(sink.0.take(), b"\rabc\\u{1b}\rd        \r \rsts-test: e\nsts-test: f\n");
        terminal.status("");
        assert!(sink.0.take().is_empty(), "it is gone already");
    }

    #[test]
    fn a_closed_stderr_ends_nothing() {
        let reporter = Reporter::to("sts-test", Level::Verbose, Box::new(Closed(io::ErrorKind::BrokenPipe)));
        reporter.error(&Error::new(Exit::Failed, "what"));
        reporter.info("more");
    }
}
