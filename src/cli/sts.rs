//! The command line of sts: all three tools in one executable, for devices with little flash.
//!
//! It acts as the tool by whose name it is called, if `sts-send` is a link to it, or else as the tool that its first
//! argument names: `sts send`. The other arguments are those of that tool.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use super::{pair, recv, send};
use crate::report::{Level, Reporter};
use crate::{Error, Exit, Result};

const NAME: &str = "sts";
const PREFIX: &str = "sts-";

/// One of the three tools, as sts contains it.
struct Applet {
    /// As an executable of its own.
    name: &'static str,
    main: fn(&[OsString]) -> ExitCode,
    command: fn() -> clap::Command,
}

const APPLETS: [Applet; 3] = [
    Applet { name: "sts-pair", main: pair::main, command: pair::command },
    Applet { name: "sts-send", main: send::main, command: send::command },
    Applet { name: "sts-recv", main: recv::main, command: recv::command },
];

impl Applet {
    /// As the first argument of sts.
    fn word(&self) -> &'static str {
        self.name.trim_start_matches(PREFIX)
    }
}

/// The tools as subcommands of sts, from which its completions are generated.
#[must_use]
pub fn command() -> clap::Command {
    let command = clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about("sts-pair, sts-send and sts-recv in one executable")
        .after_help("Called through a link named sts-pair, sts-send or sts-recv, sts acts as that tool.")
        .disable_help_subcommand(true)
        .subcommand_required(true);
    command.subcommands(APPLETS.iter().map(|tool| (tool.command)().name(tool.word())))
}

/// The whole of sts; `args` begins with the name of the program.
#[must_use]
pub fn main(args: &[OsString]) -> ExitCode {
    if let Some((tool, args)) = tool_of(args) {
        return (tool.main)(&args);
    }
    super::exit_code(&Reporter::new(NAME, Level::Error), without_tool(args, &mut io::stdout().lock()))
}

/// The tool that a command line is for, and the command line as that tool takes it.
fn tool_of(args: &[OsString]) -> Option<(&'static Applet, Vec<OsString>)> {
    let called = args.first().map(Path::new).and_then(Path::file_name)?;
    if let Some(tool) = APPLETS.iter().find(|tool| called == tool.name) {
        return Some((tool, args.to_vec()));
    }
    let tool = APPLETS.iter().find(|tool| args.get(1).is_some_and(|word| word == tool.word()))?;
    Some((tool, [OsString::from(tool.name)].into_iter().chain(args.iter().skip(2).cloned()).collect()))
}

/// Help, the version, or what is wrong with a command line that names none of the tools.
fn without_tool(args: &[OsString], stdout: &mut dyn io::Write) -> Result<()> {
    match command().try_get_matches_from(args) {
        Err(stop) => super::stopped(NAME, args, &stop, stdout),
        Ok(_) => Err(Error::new(Exit::Usage, "no tool given").hint("sts --help")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_name_or_the_first_argument_is_the_tool() {
        for (line, tool, rest) in [
            ("/usr/bin/sts-send -q plant", "sts-send", "/usr/bin/sts-send -q plant"),
            ("sts-recv send", "sts-recv", "sts-recv send"),
            ("/usr/bin/sts send --each plant", "sts-send", "sts-send --each plant"),
            ("renamed pair", "sts-pair", "sts-pair"),
        ] {
            let (found, args) = tool_of(&words(line)).unwrap();
            assert_eq!((found.name, args), (tool, words(rest)), "{line}");
        }
        for line in ["sts", "sts plant send", "sts sts-send", "sts --version", "sts -- send"] {
            assert!(tool_of(&words(line)).is_none(), "{line}");
        }
        assert!(tool_of(&[]).is_none());
    }

    #[test]
    fn a_command_line_without_a_tool_is_answered_as_the_tools_do() {
        let answer = |line| {
            let mut stdout = Vec::new();
            let outcome = without_tool(&words(line), &mut stdout);
            (outcome, String::from_utf8(stdout).unwrap())
        };
        let (outcome, help) = answer("sts --help");
        assert!(
            outcome.is_ok() && APPLETS.iter().all(|tool| help.contains(&format!("\n  {} ", tool.word()))),
            "{help}"
        );
        let (outcome, version) = answer("sts -V");
        assert!(outcome.is_ok() && version == format!("sts {}\n", env!("CARGO_PKG_VERSION")));
        for (line, what) in [
            ("sts", "'sts' requires a subcommand"),
            ("sts sned", "unrecognized subcommand 'sned'"),
            ("sts -q send", "unexpected argument '-q'"),
            ("sts -- send", ""),
        ] {
            let (outcome, stdout) = answer(line);
            let err = outcome.unwrap_err();
            assert_eq!((err.exit(), stdout.as_str()), (Exit::Usage, ""), "{line}");
            assert!(err.to_string().starts_with(what) && err.hint_text().unwrap().contains("sts"), "{line}: {err:?}");
        }
    }

    #[test]
    fn the_tools_are_sound_as_subcommands() {
        command().debug_assert();
    }
}
