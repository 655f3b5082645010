//! The command lines of the three tools, one file each, and what they share: common options, and how a run begins and ends.
//! [`sts`] is all three in one executable.
//!
//! They are here and not in `bin/` because this package is compiled for size, and the executables for speed.

mod mosquitto_options;
pub mod pair;
mod process;
pub mod recv;
pub mod send;
pub mod sts;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::link::{Link, LinkOptions};
use crate::report::{Level, Reporter};
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

    /// Do not give up access to files, ports and system calls that this run does not need; for systems where that fails
    #[arg(long)]
    pub no_sandbox: bool,
}

impl CommonArgs {
    /// The options that say which link to open, and how.
    #[must_use]
    pub fn link_options(&self) -> LinkOptions {
        let Self { link, overrides, no_sandbox, .. } = self.clone();
        LinkOptions { link, overrides, no_sandbox }
    }

    /// Opens the link.
    fn open_link(&self, report: &Reporter) -> Result<Link> {
        Link::open(&self.link_options(), report)
    }

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

/// The whole of a tool's `main`: parses the command line, runs, reports the error and gives the exit status.
///
/// A wrong command line ends with 64; `--help` and `--version` go to stdout and end with 0.
fn run<A>(tool: &'static str, args: &[OsString], body: impl FnOnce(&A, &Reporter) -> Result<()>) -> ExitCode
where
    A: clap::Parser + AsRef<CommonArgs>,
{
    process::prepare();
    let (reporter, outcome) = match A::try_parse_from(args) {
        Ok(args) => {
            let reporter = Reporter::new(tool, args.as_ref().level());
            let outcome = body(&args, &reporter);
            (reporter, outcome)
        }
        Err(stop) => (Reporter::new(tool, Level::Error), stopped(tool, args, &stop, &mut io::stdout().lock())),
    };
    exit_code(&reporter, outcome)
}

/// The exit status of a run, after its error, if any, is reported.
fn exit_code(reporter: &Reporter, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            reporter.error(&error);
            error.exit().into()
        }
    }
}

/// What clap stops at: help and version, which are a success, or a wrong command line.
fn stopped(tool: &str, args: &[OsString], stop: &clap::Error, stdout: &mut dyn Write) -> Result<()> {
    let text = stop.render().to_string();
    let instead = mosquitto_options::instead(tool, args);
    if stop.kind() == ErrorKind::DisplayHelp && instead.is_some() {
        return Err(Error::new(Exit::Usage, "unexpected value for '-h'").hint_if(instead));
    }
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
    // No link begins with a dash, so an option is never meant to be one.
    let is_useful = |tip: &&str| !tip.starts_with("to pass ");
    let tip = blocks.find_map(|block| block.strip_prefix("tip: ").filter(is_useful).map(str::to_owned));
    let help = format!("{tool} --help");
    let instead = match (stop.kind(), stop.get(ContextKind::InvalidArg)) {
        (ErrorKind::UnknownArgument, Some(ContextValue::String(word))) => {
            instead.or_else(|| (!word.starts_with('-')).then(|| second_argument(tool).to_owned()))
        }
        _ => None,
    };
    Err(Error::new(Exit::Usage, what.strip_prefix("error: ").unwrap_or(&what)).hint(match (instead, tip) {
        (Some(instead), _) => instead,
        (None, Some(tip)) => format!("{tip}; see {help}"),
        (None, None) => help,
    }))
}

/// What to do instead of naming something after the link.
fn second_argument(tool: &str) -> &'static str {
    match tool {
        "sts-send" => {
            "the only argument is a link; input is read from stdin: sts-send LINK < FILE, or echo TEXT | sts-send LINK"
        }
        "sts-recv" => "the only argument is a link; output goes to stdout: sts-recv LINK > FILE",
        _ => "the only argument is a link; actions are options, such as --status and --trust: sts-pair --help",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::report::tests::Broken;

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
        let words: Vec<OsString> = args.iter().map(OsString::from).collect();
        let outcome = stopped("sts-test", &words, &parse(args).unwrap_err(), &mut stdout);
        (outcome, String::from_utf8(stdout).unwrap())
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
            (&["a", "b"], "unexpected argument 'b' found", "the only argument is a link; "),
            (&["-x"], "unexpected argument '-x' found", "sts-test --help"),
            (&["-h", "broker", "-t", "a"], "unexpected value for '-h'", "-o host=HOST for -h, -o pubtop=TOPIC for -t"),
            (
                &["-t", "a", "-h", "broker"],
                "unexpected argument '-t' found",
                "-o pubtop=TOPIC for -t, -o host=HOST for -h",
            ),
            (&["-q", "1", "a"], "unexpected argument 'a' found", "-o qos=QOS for -q"),
            (&["-q", "-v"], "the argument '-q' cannot be used with '-v'", "sts-test --help"),
        ] {
            let (outcome, stdout) = stop(args);
            let err = outcome.unwrap_err();
            assert_eq!((err.exit(), stdout.as_str()), (Exit::Usage, ""));
            assert!(err.to_string().starts_with(what), "{err}");
            assert!(err.hint_text().unwrap().contains(hint), "{err:?}");
            assert!(!err.hint_text().unwrap().contains("as a value"), "{err:?}");
        }
    }

    #[test]
    fn help_and_version_go_to_stdout_open_or_closed() {
        let (outcome, short) = stop(&["-h"]);
        assert!(outcome.is_ok() && short.contains("Short") && !short.contains("Long."));
        let (outcome, after) = stop(&["a", "-h"]);
        assert!(outcome.is_ok() && after == short);
        let (outcome, long) = stop(&["--help"]);
        assert!(outcome.is_ok() && long.contains("Long."));
        let (outcome, version) = stop(&["-V"]);
        assert!(outcome.is_ok() && version == format!("sts-test {}\n", env!("CARGO_PKG_VERSION")));
        let help = parse(&["-h"]).unwrap_err();
        assert!(stopped("sts-test", &[], &help, &mut Broken(io::ErrorKind::BrokenPipe)).is_ok());
        let full = stopped("sts-test", &[], &help, &mut Broken(io::ErrorKind::StorageFull));
        assert_eq!(full.unwrap_err().exit(), Exit::Failed);
    }
}
